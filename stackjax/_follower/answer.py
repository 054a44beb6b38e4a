"""The follower's answer without checks: the problem on vectors, a solver, multipliers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.finite import shield
from stackjax._arrays.modules import call
from stackjax._arrays.typing import PyTree
from stackjax._follower.equilibrium import joint_respond
from stackjax._follower.multipliers import held, of_bounds
from stackjax._follower.response import Multipliers
from stackjax._follower.vectors import at_least, at_least_float32, filled_bounds, flat, like
from stackjax._game import Game, scalar
from stackjax.solvers._solver import Held, Maximum, Problem, Quality, Solver


def respond(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    *,
    nested: bool = False,
) -> tuple[PyTree, Quality]:
    """`best_response` without its checks: the differentiable value and the solver's report."""
    if game.several:
        return joint_respond(game, action, context, response, settings)
    value, quality, _ = answer(game, action, context, response, settings, nested=nested)
    return like(value, response), quality


def answer(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    *,
    nested: bool = False,
    warm: Multipliers | None = None,
) -> tuple[PyTree, Quality, Multipliers]:
    """The differentiable value and multipliers, in at least float32, and the solver's report.

    `nested` if it is part of a leader's search with second derivatives; `warm` has multipliers to
    start from.
    """
    start, unravel = ravel_pytree(at_least_float32(response))
    problem = problem_of(game, action, context, start, unravel)._replace(nested=nested)
    if warm is not None:
        problem = problem._replace(warm=_held_by(warm, start.dtype))
    found = settings.maximise(problem, start)
    if not isinstance(found, Maximum):
        raise TypeError(
            f"`solver`: {type(settings).__name__}.maximise must return a stackjax.solvers.Maximum; "
            f"got {type(found).__name__}. End it with `return sj.Newton().maximise(problem, y)`."
        )
    y, equality, inequality = found.value, found.equality, found.inequality
    utility = problem.utility if found.utility is None else found.utility

    def both(y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return utility(y), problem.constraints(y)

    # Where the utility is no number, multipliers and their derivatives are 0 instead of NaN.
    both, theta = jax.closure_convert(both, y)
    known = lax.stop_gradient(jnp.isfinite(found.quality.residual))
    theta, at, equality, inequality = shield((theta, y, equality, inequality), known)
    equality, inequality = (jnp.where(known, part, 0) for part in (equality, inequality))
    value, pull = jax.vjp(lambda y: both(y, *theta), at)
    pushed = pull((jnp.ones_like(value[0]), (-equality, -inequality)))[0]
    pushed = jnp.where(known, pushed, 0)
    bounds = problem.lower, problem.upper
    lower, upper = of_bounds(pushed, found.at_lower, found.at_upper, bounds)
    multipliers = Multipliers(unravel(lower), unravel(upper), inequality, equality)
    return unravel(y), found.quality, multipliers


def _held_by(multipliers: Multipliers, dtype: jnp.dtype) -> Held:
    """Constraints with a multiplier are active."""
    lower, upper = flat(multipliers.lower), flat(multipliers.upper)
    inequality, equality = multipliers.inequality.astype(dtype), multipliers.equality.astype(dtype)
    return Held(lower > 0, upper > 0, inequality, equality, jnp.full((), jnp.inf, dtype))


def problem_of(
    game: Game, action: PyTree, context: PyTree, start: jax.Array, unravel: Callable
) -> Problem:
    """The follower's problem on vectors shaped as `start`, which `unravel` makes a response."""
    feasible = game.response_set
    lower, upper = filled_bounds(feasible, unravel(start))

    def utility(y: jax.Array) -> jax.Array:
        value = call(game.follower_utility, "follower_utility", action, unravel(y), context)
        return scalar(value, "follower_utility").astype(y.dtype)

    def constraints(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = unravel(y)
        g, h = feasible.residuals(r, action, r, context)
        return h.astype(y.dtype), g.astype(y.dtype)

    def project(y: jax.Array) -> jax.Array:
        # In x64, optax projects onto a simplex in float64 and fails to differentiate float32.
        wide = at_least(unravel(y), jnp.result_type(float))
        return flat(feasible.project(wide)).astype(y.dtype)

    def support(slope: jax.Array) -> jax.Array:
        return flat(feasible.support_point(unravel(slope))).astype(slope.dtype)

    problem = Problem(utility, lower, upper, constraints)
    if feasible.has_support:
        problem = problem._replace(support=support)
    if not feasible.projectable:
        return problem
    multipliers = lambda y, slope: held(feasible, unravel(y), unravel(slope), (lower, upper))
    return problem._replace(project=project, held=multipliers)
