"""The Nash equilibrium of several followers at one action of the leader's."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax._arrays.arguments import concrete
from stackjax._arrays.starts import shift, spread
from stackjax._arrays.typing import PyTree
from stackjax._follower.multipliers import of_bounds
from stackjax._follower.response import Equilibrium, Multipliers
from stackjax._follower.several import Layout, joint_problem
from stackjax._follower.vectors import at_least_float32, like
from stackjax._game import Followers, Game
from stackjax.solvers._solver import Quality, Solver
from stackjax.solvers.equilibrium._joint import Joint
from stackjax.solvers.equilibrium._semismooth import JointMaximum, SemismoothNewton

# Multiples of its size by which a response without two bounds is moved, to see if it was best.
_STEPS = (-10.0, -4.0, -2.0, -1.0, -0.5, -0.2, 0.2, 0.5, 1.0, 2.0, 4.0, 10.0)
# Responses that differ by less, relative to their size, are the same.
_SAME = 1e-3


def equilibrium(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    starts: int,
    key: jax.Array | None,
) -> Equilibrium:
    """As `best_response`, whose arguments are checked."""
    found = _equilibrium(game, action, context, response, settings, starts, key)
    if concrete(found) and not found.converged:
        _check_finite(game, action, context, response)
    return found


@partial(jax.jit, static_argnums=(4, 5))
def _equilibrium(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    starts: int,
    key: jax.Array | None,
) -> Equilibrium:
    wide = at_least_float32(response)
    problem, layout = joint_problem(game, action, context, wide)
    batched = isinstance(game.follower_utility, Followers)

    def from_(start: jax.Array) -> Equilibrium:
        found = _solved(settings, problem, start)
        quality, worst = found.quality, found.quality.worst
        gains = _gains(problem, layout, found.value, batched)
        converged = (quality.converged > 0) & jnp.all(gains == 0)
        return Equilibrium(
            value=like(layout.unravel(found.value), response),
            residual=worst.residual,
            steps=quality.steps.astype(jnp.int32),
            converged=converged,
            degeneracy=worst.degeneracy,
            curvature=worst.curvature,
            multipliers=_multipliers(problem, layout, found),
            agreeing_starts=jnp.ones((), jnp.int32),
            proof=None,
            residuals=quality.residual,
            degeneracies=quality.degeneracy,
            curvatures=quality.curvature,
            gains=gains,
            monotonicity=quality.monotonicity,
            equilibria=converged.astype(jnp.int32),
        )

    begin = layout.flat(wide)
    if starts == 1:
        return from_(begin)
    drawn = spread(starts, begin, problem.lower, problem.upper, shift(key, begin))
    every = jax.vmap(from_)(drawn)
    values = lax.stop_gradient(jax.vmap(layout.flat)(every.value))
    # Where the other starts ended is where a follower may be better off.
    reached = jnp.where(every.converged[:, None], values, begin[None])
    gains = jax.vmap(lambda y: _gains(problem, layout, y, batched, reached))(values)
    every = every.replace(gains=gains, converged=every.converged & jnp.all(gains == 0, axis=1))
    counted, same = _different(values, every.converged, problem)
    index = jnp.argmax(every.converged)
    best = jax.tree.map(lambda x: x[index], every)
    return best.replace(
        agreeing_starts=jnp.sum(same[index]).astype(jnp.int32), equilibria=counted.astype(jnp.int32)
    )


def joint_respond(
    game: Game, action: PyTree, context: PyTree, response: PyTree, settings: Solver
) -> tuple[PyTree, Quality]:
    """The differentiable equilibrium, and the solver's report as of one follower."""
    wide = at_least_float32(response)
    problem, layout = joint_problem(game, action, context, wide)
    found = _solved(settings, problem, layout.flat(wide))
    return like(layout.unravel(found.value), response), found.quality.worst


def _solved(settings: Solver, problem: Joint, start: jax.Array) -> JointMaximum:
    if not isinstance(settings, SemismoothNewton):
        raise TypeError(f"several followers need SemismoothNewton; got {settings!r}.")
    return settings.equilibrium(problem, start)


def _multipliers(problem: Joint, layout: Layout, found: JointMaximum) -> Multipliers:
    bounds = problem.lower, problem.upper
    lower, upper = of_bounds(found.pushed, found.at_lower, found.at_upper, bounds)
    return Multipliers(
        layout.unravel(lower), layout.unravel(upper), found.inequality, found.equality
    )


def deviation_gains(game: Game, action: PyTree, context: PyTree, response: PyTree) -> jax.Array:
    """`[N]`, as `Equilibrium.gains`, at any responses."""
    wide = at_least_float32(response)
    problem, layout = joint_problem(game, action, context, wide)
    return _gains(problem, layout, layout.flat(wide), isinstance(game.follower_utility, Followers))


def _deviations(problem: Joint, y: jax.Array) -> jax.Array:
    """`[k, d]` responses that are tried against `y`, in the units of each number.

    A number between two bounds goes to evenly spaced points between them; another one by multiples
    of its own size (of the largest of its follower's, if it is 0) to both sides. In half of them
    all numbers take the same place, in the other half each another one.
    """
    lower, upper = problem.lower, problem.upper
    count = len(_STEPS)
    largest = jax.ops.segment_max(jnp.abs(y), problem.owner, len(problem.sizes))[problem.owner]
    size = jnp.where(jnp.abs(y) > 1e-3 * largest, jnp.abs(y), largest)
    size = jnp.where(size > 0, size, 1)
    same = np.tile(np.arange(count)[:, None], (1, len(y)))
    mixed = (same * (1 + 2 * np.arange(len(y))[None]) + np.arange(len(y))[None]) % count
    places = np.concatenate([same, mixed])
    along = y[None] + jnp.asarray(_STEPS, y.dtype)[places] * size[None]
    bounded = jnp.isfinite(lower) & jnp.isfinite(upper)
    ends = jnp.where(bounded, lower, 0), jnp.where(bounded, upper, 0)
    share = jnp.asarray((places + 0.5) / count, y.dtype)
    within = ends[0][None] + share * (ends[1] - ends[0])[None]
    drawn = jnp.where(bounded[None], within, along)
    return jnp.clip(drawn, lower[None], upper[None])


def _gains(
    problem: Joint,
    layout: Layout,
    y: jax.Array,
    batched: bool,
    others: jax.Array | None = None,
) -> jax.Array:
    """`[N]` what each follower gains by the best of a sample of its own feasible responses.

    Relative to the range of its utility among them; 0 where rounding could be all. `others` are
    `[k, d]` responses of which each follower's own entries are tried besides.
    """
    y = lax.stop_gradient(y)
    drawn = _deviations(problem, y)
    if others is not None:
        drawn = jnp.concatenate([drawn, lax.stop_gradient(others)])
    eps = float(jnp.finfo(y.dtype).eps)
    owner = jnp.asarray(problem.owner)
    free = not sum(part.shape[0] for part in jax.eval_shape(problem.constraints, y))

    def of_one(number: Any, own: jax.Array, candidates: jax.Array) -> jax.Array:
        at = lax.stop_gradient(layout.utility(number, own, y))

        def tried(candidate: jax.Array, whole: jax.Array) -> jax.Array:
            value = layout.utility(number, candidate, y)
            if free:
                return jnp.where(jnp.isfinite(value), value, -jnp.inf)
            c, g = problem.constraints(jnp.where(owner == number, whole, y))
            allowed = jnp.all(c == 0) & jnp.all(g <= 0)
            return jnp.where(allowed & jnp.isfinite(value), value, -jnp.inf)

        values = lax.stop_gradient(jax.vmap(tried)(candidates, drawn))
        known = values > -jnp.inf
        top = jnp.max(values)
        bottom = jnp.minimum(jnp.min(jnp.where(known, values, at)), at)
        span = jnp.maximum(jnp.maximum(top, at) - bottom, jnp.finfo(y.dtype).tiny)
        rounding = 64 * eps * jnp.maximum(jnp.maximum(jnp.abs(at), jnp.abs(top)), span)
        gain = jnp.maximum(top - at - rounding, 0)
        return jnp.where(jnp.isfinite(at), gain / span, jnp.inf)

    count = len(problem.sizes)
    if batched:
        rows = jnp.reshape(y, (count, -1))
        each = jnp.reshape(drawn, (len(drawn), count, -1)).swapaxes(0, 1)
        return jax.vmap(of_one)(jnp.arange(count), rows, each)
    cuts = [sum(problem.sizes[:n]) for n in range(1, count)]
    parts = zip(jnp.split(y, cuts), jnp.split(drawn, cuts, axis=1))
    return jnp.stack([of_one(n, own, each) for n, (own, each) in enumerate(parts)])


def _different(
    values: jax.Array, converged: jax.Array, problem: Joint
) -> tuple[jax.Array, jax.Array]:
    """How many of `[k, d]` equilibria are different, and `[k, k]` which are the same."""
    each = jax.vmap(lambda a: jax.vmap(lambda b: same_response(problem, a, b))(values))(values)
    same = each & converged[None] & converged[:, None]
    # The first of each class counts.
    earlier = jnp.tril(jnp.ones_like(same), -1) & same
    return jnp.sum(converged & ~jnp.any(earlier, axis=1)), same


def same_response(problem: Joint, a: jax.Array, b: jax.Array) -> jax.Array:
    """Whether two equilibria, `[d]`, are one; a scalar bool."""
    # Beside the largest response: what is about 0 has no size of its own.
    size = jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b)))
    size = jnp.minimum(jnp.maximum(size, jnp.finfo(a.dtype).tiny), problem.upper - problem.lower)
    return jnp.all(jnp.abs(a - b) <= _SAME * size)


def _check_finite(game: Game, action: PyTree, context: PyTree, response: PyTree) -> None:
    """Raises ValueError if a utility is not a number at the (projected) starting point."""
    if not concrete((game, action, context, response)):
        return
    if game.response_set.projectable:
        response = game.response_set.project(response)
    wide = at_least_float32(response)
    problem, layout = joint_problem(game, action, context, wide)
    values = problem.rows(layout.flat(wide))[0]
    wrong = [number for number, value in enumerate(values.tolist()) if not abs(value) < jnp.inf]
    if wrong:
        raise ValueError(
            f"`follower_utility[{wrong[0]}]` returned {float(values[wrong[0]])} at the starting "
            "responses; it must return a finite number on the response set. Start elsewhere, or "
            "bound the set away from there."
        )
