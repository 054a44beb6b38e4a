"""The Nash equilibrium of several followers at one action of the leader's."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.arguments import concrete
from stackjax._arrays.starts import shift, spread
from stackjax._arrays.typing import PyTree
from stackjax._follower.response import Equilibrium, Multipliers
from stackjax._follower.several import Layout, joint_problem
from stackjax._follower.vectors import at_least_float32, like
from stackjax._game import Followers, Game
from stackjax.solvers._quality import Quality
from stackjax.solvers._solver import Solver
from stackjax.solvers.equilibrium._joint import Joint
from stackjax.solvers.equilibrium._semismooth import JointMaximum, SemismoothNewton

# Of each follower's own responses, how many are tried against its equilibrium response.
_DEVIATIONS = 16
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
        quality = found.quality
        gains = _gains(problem, layout, found.value, batched)
        return Equilibrium(
            value=like(layout.unravel(found.value), response),
            residual=jnp.max(quality.residual),
            steps=quality.steps.astype(jnp.int32),
            converged=(quality.converged > 0) & jnp.all(gains == 0),
            degeneracy=jnp.min(quality.degeneracy),
            curvature=jnp.min(quality.curvature),
            multipliers=_multipliers(problem, layout, found),
            agreeing_starts=jnp.ones((), jnp.int32),
            residuals=quality.residual,
            degeneracies=quality.degeneracy,
            curvatures=quality.curvature,
            gains=gains,
            monotonicity=quality.monotonicity,
            equilibria=(quality.converged > 0).astype(jnp.int32),
        )

    begin = layout.flat(wide)
    if starts == 1:
        return from_(begin)
    drawn = spread(starts, begin, problem.lower, problem.upper, shift(key, begin))
    every = jax.vmap(from_)(drawn)
    values = lax.stop_gradient(jax.vmap(layout.flat)(every.value))
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
    quality = found.quality
    report = Quality(
        residual=jnp.max(quality.residual),
        steps=quality.steps,
        converged=quality.converged,
        degeneracy=jnp.min(quality.degeneracy),
        curvature=jnp.min(quality.curvature),
    )
    return like(layout.unravel(found.value), response), report


def _solved(settings: Solver, problem: Joint, start: jax.Array) -> JointMaximum:
    if not isinstance(settings, SemismoothNewton):
        raise TypeError(f"several followers need SemismoothNewton; got {settings!r}.")
    return settings.equilibrium(problem, start)


def _multipliers(problem: Joint, layout: Layout, found: JointMaximum) -> Multipliers:
    y = found.value
    _, pull = jax.vjp(problem.constraints, y)
    pushed = problem.slopes(y) + pull((-found.equality, -found.inequality))[0]
    pinned = problem.lower == problem.upper
    below, above = jnp.maximum(-pushed, 0), jnp.maximum(pushed, 0)
    return Multipliers(
        layout.unravel(jnp.where(pinned, below, jnp.where(found.at_lower, -pushed, 0))),
        layout.unravel(jnp.where(pinned, above, jnp.where(found.at_upper, pushed, 0))),
        found.inequality,
        found.equality,
    )


def deviation_gains(game: Game, action: PyTree, context: PyTree, response: PyTree) -> jax.Array:
    """`[N]`, as `Equilibrium.gains`, at any responses."""
    wide = at_least_float32(response)
    problem, layout = joint_problem(game, action, context, wide)
    return _gains(problem, layout, layout.flat(wide), isinstance(game.follower_utility, Followers))


def _gains(problem: Joint, layout: Layout, y: jax.Array, batched: bool) -> jax.Array:
    """`[N]` what each follower gains by the best of a sample of its own feasible responses.

    Half of them are spread over its bounds, or around its response, and half lie halfway from there
    to its response. Relative to the range of its utility among them; 0 where rounding could be all.
    """
    y, half = lax.stop_gradient(y), _DEVIATIONS // 2
    drawn = spread(half + 1, y, problem.lower, problem.upper, jnp.full_like(y, 0.25))[1:]
    drawn = jnp.concatenate([drawn, (drawn + y[None]) / 2])
    eps = float(jnp.finfo(y.dtype).eps)
    owner = jnp.asarray(problem.owner)
    free = not sum(part.shape[0] for part in jax.eval_shape(problem.constraints, y))

    def of_one(number: Any, own: jax.Array, others: jax.Array) -> jax.Array:
        at = lax.stop_gradient(layout.utility(number, own, y))

        def tried(candidate: jax.Array, whole: jax.Array) -> jax.Array:
            value = layout.utility(number, candidate, y)
            if free:
                return jnp.where(jnp.isfinite(value), value, -jnp.inf)
            c, g = problem.constraints(jnp.where(owner == number, whole, y))
            allowed = jnp.all(c == 0) & jnp.all(g <= 0)
            return jnp.where(allowed & jnp.isfinite(value), value, -jnp.inf)

        values = lax.stop_gradient(jax.vmap(tried)(others, drawn))
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
        others = jnp.reshape(drawn, (len(drawn), count, -1)).swapaxes(0, 1)
        return jax.vmap(of_one)(jnp.arange(count), rows, others)
    cuts = [sum(problem.sizes[:n]) for n in range(1, count)]
    parts = zip(jnp.split(y, cuts), jnp.split(drawn, cuts, axis=1))
    return jnp.stack([of_one(n, own, others) for n, (own, others) in enumerate(parts)])


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
