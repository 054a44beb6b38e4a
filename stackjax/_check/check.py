"""Diagnostics: whether one solution can be believed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import as_arrays, as_start, check_starts, concrete
from stackjax._arrays.typing import PyTree
from stackjax._check.measure import probe
from stackjax._check.verdicts import Check
from stackjax._follower.arguments import check_game, check_one_follower, game_settings
from stackjax._game import Game, scalar
from stackjax.solvers._settings import tolerance
from stackjax.solvers._solver import Solver


def check(
    game: Game,
    solution: Any,
    context: PyTree,
    *,
    solver: Solver | None = None,
    starts: int = 16,
    key: jax.Array | None = None,
) -> Check:
    """Measures whether a solution is one, and whether its gradient can be trusted.

    The follower answers again, from the solution's response and elsewhere; the leader's gradient
    is compared with differences; nearby actions are tried: each coordinate up and down and along
    the gradient, by 1e-2, 1e-3 and 1e-4 of `min(1 + |action|, width)`, projected onto the action
    set or, for sets without a projection, also along and back to their active constraints.
    Evidence, not proof: what was not tried is not excluded. Half precision is judged as float32,
    so that its own rounding shows. The differences of a set other than a box leave it by their
    step, 6e-6 or, in float32, 5e-3 of `1 + |action|`.

    On the host: for one play, outside of `jax.jit` and `jax.vmap`. Compiled once for each game,
    shapes and settings, which takes seconds; then it costs `starts` best responses, 16 for each
    coordinate of the action (six times that for sets without a projection), and the dense
    Hessians of `2 starts` responses.

    Args:
      game: the game.
      solution: a `Solution`, or anything with `.action` and `.response`; unbatched.
      context: the context that it belongs to.
      solver: the follower's, as in `best_response`.
      starts: number of starting points for the follower, the given response among them; the
        others are quasi-random in its bounds, or around it where there are none.
      key: shifts their sequence; unshifted if None.

    Returns:
      The `Check`; nothing that is found wrong is raised.

    Raises:
      TypeError: called within a JAX transformation; `game` is not a Game; `solution` has no
        action or response, or they are not floating point; `solver` does not fit the response
        set; `starts` is not an integer.
      ValueError: `starts` is below 1; a utility cannot be evaluated at the solution, whose
        structure or shapes are not the game's.

    Example:
      >>> from types import SimpleNamespace
      >>> duopoly = sj.games.duopoly()
      >>> found = SimpleNamespace(action=jnp.array(6.0), response=jnp.array(3.0))
      >>> sj.check(duopoly.game, found, jnp.array(13.0), starts=2).ok
      True
    """
    check_game(game)
    check_one_follower(
        game, "check", " Look at the report of `solve`, and at `gains` of `best_response`."
    )
    for name in ("action", "response"):
        if not hasattr(solution, name):
            raise TypeError(
                "`solution` must have an `action` and a `response`, as a stackjax.Solution has; "
                f"a {type(solution).__name__} has no `{name}`."
            )
    check_starts(starts, key)
    if not concrete((game, solution.action, solution.response, context, key)):
        raise TypeError(
            "`check` is for the host: call it outside of jax.jit, jax.vmap and jax.grad, on one "
            "solution with numbers in it."
        )
    action = as_start(solution.action, "solution.action")
    response = as_start(solution.response, "solution.response")
    settings = game_settings(solver, game, "solver", response)
    context = as_arrays(context, "context")
    _check_fit(game, action, response, context)
    measured = probe(game, action, response, context, key, solver=settings, starts=starts)
    dtype = measured["regret"].dtype
    return Check(tolerance=jnp.asarray(tolerance(settings, dtype), dtype), **measured)


def _check_fit(game: Game, action: PyTree, response: PyTree, context: PyTree) -> None:
    """Raises ValueError unless the game can be played like this."""

    def play(game: Game, action: PyTree, response: PyTree, context: PyTree) -> None:
        for name in ("leader_utility", "follower_utility"):
            scalar(getattr(game, name)(action, response, context), name)
        for feasible, point in ((game.action_set, action), (game.response_set, response)):
            feasible.bounds(point)
            feasible.residuals(point, action, response, context)

    try:
        jax.eval_shape(play, game, action, response, context)
    except Exception as error:
        shapes = lambda tree: jax.tree.map(np.shape, tree)
        raise ValueError(
            f"`solution` does not fit the game: with an action of shape {shapes(action)}, a "
            f"response of shape {shapes(response)} and this context, {error} (Of a batch, check "
            "one member at a time.)"
        ) from error
