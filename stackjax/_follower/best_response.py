"""The follower's best response."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import as_arrays, as_start, check_starts, concrete
from stackjax._arrays.starts import shift, spread
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import answer
from stackjax._follower.arguments import (
    check_bounded,
    check_finite_utility,
    check_game,
    check_nonempty,
    game_settings,
)
from stackjax._follower.equilibrium import equilibrium
from stackjax._follower.proven import check_proof, kept_or, proven_start
from stackjax._follower.response import Multipliers, Response
from stackjax._follower.vectors import at_least_float32, flat, like
from stackjax._game import Game, evaluate
from stackjax.solvers._solver import Solver
from stackjax.solvers.proof._branch_and_bound import BEATEN
from stackjax.solvers.proof._global import Global


def best_response(
    game: Game,
    action: PyTree,
    context: PyTree,
    *,
    response: PyTree | Response,
    solver: Solver | None = None,
    starts: int = 1,
    key: jax.Array | None = None,
    proof: Global | None = None,
) -> Response:
    """Solves `argmax_r U_F(action, r, context)` over the game's response set.

    Of several followers it is the Nash equilibrium among them at this action: an `Equilibrium`.

    Unbatched: use `jax.vmap` over contexts. Differentiable in `action`, `context`, the arrays of
    the game (a module's parameters, the sets' bounds and coefficients) and anything that the
    follower's utility and constraints close over, in forward and reverse mode and to any order,
    by the implicit function theorem on the optimality conditions with the constraints that are
    active at the solution; multipliers are differentiated too. The starting point's derivative is
    zero. (Within `lax.scan` and `lax.map`, JAX forgets custom rules when it differentiates
    again after a reverse pass; there derivatives are right up to the second.)

    The solution is local where the utility is not concave: ask for several `starts`, the best of
    which is returned, and look at `Response.agreeing_starts`. bfloat16 and float16 are computed in
    float32 and returned as they came. A utility cannot refer to a `vmap`ped axis by its name.
    Outside of `jax.jit` the call is compiled once for each pair of utilities and shapes; a lambda
    made anew at every call compiles anew.

    Args:
      game: the game.
      action: the leader's action, a pytree of arrays.
      context: the context, a pytree of arrays.
      response: the starting point, a pytree of floating-point arrays; it need not be feasible. Of
        several followers a tuple of one entry each, or with `Followers` a leading axis. Or an
        earlier `Response`: then `InteriorPoint` also starts from its multipliers, and so from its
        active set (of one follower, with one start and no proof; other methods take its value).
      solver: settings; if None, `Newton()` in a `Box`, `ProjectedGradient()` for more than 64
        numbers in a `Simplex` or a `Ball`, and `InteriorPoint()` otherwise; of several followers
        `SemismoothNewton()`.
      starts: number of starting points, `response` and others from a quasi-random sequence in the
        bounds of the set, and where there are none around `response`.
      key: shifts that sequence; unshifted if None.
      proof: asks for a proof that no response in the whole set is better (`solvers.Global`); the
        better one is answered where the search ended at a lower maximum.

    Returns:
      The `Response`, or the `Equilibrium`; non-convergence is reported there, not raised.

    Raises:
      TypeError: `game` is not a Game; `response` is not floating point; the utility does not
        return a floating-point number; `solver` cannot handle the response set, or several
        followers; there is not one starting response for each follower; a `proof` is asked for
        on another set than a Box.
      ValueError: the utility does not return a scalar, or, outside of transforms, is not a number
        at the starting point; the response set is a `Polyhedron` that is empty for this action
        and context, or the utility rises without end as far as it was followed (of one follower);
        `starts` is below 1.

    Source: arXiv 2606.23026, eq. (3), (8) and Prop. 5.2.

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: -((r - x) ** 2), lambda a, r, x: a * r - r**2 / 2,
      ...     response_set=sj.Box(0.0, 2.0),
      ... )
      >>> answer = lambda a: sj.best_response(game, a, 1.0, response=jnp.array(0.5)).value
      >>> print(answer(1.5), jax.grad(answer)(1.5))  # inside the set: the answer follows the action
      1.5 1.0
      >>> print(answer(3.0), jax.grad(answer)(3.0) == 0)  # held by the bound
      2.0 True
    """
    check_game(game)
    warm = None
    if isinstance(response, Response):
        earlier, response = response, response.value
        warm = earlier.multipliers if starts == 1 and not game.several and proof is None else None
    response = as_start(response, "response")
    settings = game_settings(solver, game, "solver", response)
    action, context = as_arrays(action, "action"), as_arrays(context, "context")
    game.response_set.bounds(response)
    check_starts(starts, key)
    check_proof(proof, game, response, settings)
    if game.several:
        return equilibrium(game, action, context, response, settings, starts, key)
    found = _best_response(game, action, context, response, settings, starts, key, proof, warm)
    if concrete(found) and not found.converged:
        check_nonempty(game.response_set, response, action, context)
        if not np.isfinite(found.residual):
            check_finite_utility(
                game.follower_utility, "follower_utility", game, action, response, context
            )
        check_bounded(game, action, found.value, response, context)
    return found


@partial(jax.jit, static_argnums=(4, 5, 7))
def _best_response(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    starts: int,
    key: jax.Array | None,
    proof: Global | None,
    warm: Multipliers | None,
) -> Response:
    if proof is not None:
        begun, proven = proven_start(game, action, context, response, settings, proof)
        found = _best_response(game, action, context, begun, settings, 1, None, None, None)
        # The search from there can end elsewhere, at a kink or a jump: then the point that the
        # proof is of is the answer, not judged and without derivatives.
        unravel = ravel_pytree(at_least_float32(response))[1]
        value, kept = kept_or(game, action, context, found.value, unravel(proven.value), proven)
        sound = found.converged & kept & (proven.status != BEATEN)
        return found.replace(value=like(value, response), converged=sound, proof=proven)

    def from_(start: PyTree) -> Response:
        value, quality, multipliers = answer(game, action, context, start, settings, warm=warm)
        return Response(
            like(value, response),
            quality.residual,
            quality.steps.astype(jnp.int32),
            quality.converged > 0,
            quality.degeneracy,
            quality.curvature,
            multipliers,
            jnp.ones((), jnp.int32),
            None,
        )

    if starts == 1:
        return from_(response)
    begin, unravel = ravel_pytree(at_least_float32(response))
    lower, upper = (flat(bound) for bound in game.response_set.bounds(unravel(begin)))
    drawn = spread(starts, begin, lower, upper, shift(key, begin))
    every = jax.vmap(lambda y: from_(unravel(y)))(drawn)
    utility = lambda r: evaluate(game.follower_utility, "follower_utility", action, r, context)
    value = lax.stop_gradient(jax.vmap(utility)(every.value))
    value = jnp.where(every.converged, value, -jnp.inf)
    index, best = jnp.argmax(value), jnp.max(value)
    eps = float(jnp.finfo(value.dtype).eps)
    span = best - jnp.min(jnp.where(every.converged, value, best))
    slack = eps**0.5 * span + 64 * eps * jnp.abs(best)
    agreeing_starts = jnp.sum(every.converged & (value >= best - slack)).astype(jnp.int32)
    return jax.tree.map(lambda x: x[index], every).replace(agreeing_starts=agreeing_starts)
