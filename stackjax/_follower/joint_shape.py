"""How the game of several followers looks at a sample of plays: is its equilibrium the only one?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.starts import spread
from stackjax._arrays.typing import PyTree
from stackjax._follower.equilibrium import deviation_gains, joint_respond, same_response
from stackjax._follower.several import joint_problem
from stackjax._follower.vectors import at_least_float32, flat
from stackjax._game import Game
from stackjax.solvers._implicit import detached
from stackjax.solvers._solver import Solver
from stackjax.solvers.equilibrium._report import monotonicity, own_curvature

_SAMPLES, _SEARCHES = 16, 4


class JointShape(NamedTuple):
    """Scalars.

    Attributes:
      concave: bool, wherever it was looked at each follower's utility was concave in its own
        response.
      monotone: bool, wherever it was looked at the joint conditions were monotone.
      regret: the most that a follower gains by one of a sample of other responses of its own,
        relative to its utility's range among them.
    """

    concave: jax.Array
    monotone: jax.Array
    regret: jax.Array


def joint_shape_of(game: Game, action: PyTree, response: PyTree, context: PyTree) -> JointShape:
    """As `shape_of`, of several followers: at quasi-random responses and actions."""
    wide = at_least_float32(response)
    own, unravel_action = ravel_pytree(at_least_float32(action))
    problem, layout = joint_problem(game, action, context, wide)
    centre = layout.flat(wide)
    low, high = map(flat, game.action_set.bounds(unravel_action(own)))
    points = spread(_SAMPLES, centre, problem.lower, problem.upper, jnp.zeros_like(centre))
    actions = spread(_SAMPLES, own, low, high, jnp.zeros_like(own))
    moved = (jnp.isfinite(low) & jnp.isfinite(high))[None]
    moved = moved & (jnp.arange(_SAMPLES)[:, None] % 2 == 1)
    actions = jnp.where(moved, actions, own[None])
    actions, points = lax.stop_gradient((actions, points))
    none = jnp.zeros(len(centre), bool)

    def look(state: tuple[jax.Array, jax.Array], play: tuple) -> tuple[tuple, None]:
        a, y = play
        there, _ = joint_problem(game, unravel_action(a), context, wide)
        bent = -there.rows(y)[2]
        finite = jnp.all(jnp.isfinite(bent))
        bent = jnp.where(finite, bent, 0)
        _, semidefinite = own_curvature(bent, none, None, problem.sizes)
        tiny = jnp.finfo(bent.dtype).eps ** 0.5
        concave = ~finite | jnp.all(semidefinite)
        monotone = ~finite | (monotonicity(bent, none, None) > -tiny)
        return (state[0] & concave, state[1] & monotone), None

    yes = jnp.ones((), bool)
    run = lambda _: lax.scan(look, (yes, yes), (actions, points))[0]
    number = lambda flags: tuple(flag.astype(centre.dtype) for flag in flags)
    concave, monotone = detached(lambda s: (s, number(run(s))), jnp.zeros((), centre.dtype))[1]
    gains = deviation_gains(game, action, context, response)
    return JointShape(concave > 0, monotone > 0, jnp.max(gains))


def another_equilibrium(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Solver,
    needed: jax.Array,
) -> jax.Array:
    """Whether a search from one of four other starts ends at another equilibrium; a scalar bool.

    Args as in `fresh_gain`.
    """
    wide = at_least_float32(response)
    problem, layout = joint_problem(game, action, context, wide)
    centre = layout.flat(wide)
    begins = spread(
        _SEARCHES + 1, centre, problem.lower, problem.upper, jnp.full_like(centre, 0.25)
    )[1:]

    def search(_: tuple) -> tuple[jax.Array, jax.Array]:
        def one(y: jax.Array) -> jax.Array:
            answer, quality = joint_respond(game, action, context, layout.unravel(y), settings)
            return (quality.converged > 0) & ~same_response(problem, layout.flat(answer), centre)

        return jnp.any(lax.map(one, begins)).astype(centre.dtype), jnp.zeros((), bool)

    nothing = jnp.zeros((), centre.dtype)
    found = lambda _: lax.while_loop(lambda state: state[1], search, (nothing, needed))
    return detached(lambda start: (start, found(start)[0]), nothing)[1] > 0
