"""The leader's utility around an action, the follower answering again everywhere."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import Vector
from stackjax._check.flat_game import Play, pressing
from stackjax._follower.response import Response
from stackjax.solvers._optimality import row_sizes

_STEPS = (1e-2, 1e-3, 1e-4)  # to nearby actions, in each coordinate's unit


class Slopes(NamedTuple):
    """First derivatives at the play.

    Attributes:
      total: `[m]` of U_L through the best response.
      size: `[m]` the same sum with the absolute values of its terms.
      response: `[n, m]` of the best response.
    """

    total: Vector
    size: Vector
    response: Vector


class Stencil(NamedTuple):
    """Differences of second order, one-sided at a bound.

    Attributes:
      points: `[2m, m]`, the near ones before the far ones.
      step: `[m]`, 0 where a coordinate is fixed.
      side: `[m]`: 0 for `(f(near) - f(far)) / 2h`; 1 or -1 for points on one side, at h and 2h.
    """

    points: Vector
    step: Vector
    side: Vector


class Visits(NamedTuple):
    """What was found at `k` actions.

    Attributes:
      actions: `[k, m]`, after corrections.
      gain: `[k]` U_L at the response that the follower prefers.
      branch: `[k]` U_L at the answer found from the base response; NaN without one.
      pressing: `[k, ...]` bool, the constraints that hold that answer.
      valid: `[k]` bool, the follower answered and `gain` is finite.
      violation: `[k]` of the action set.
    """

    actions: Vector
    gain: Vector
    branch: Vector
    pressing: Vector
    valid: Vector
    violation: Vector


class Around(NamedTuple):
    """The fields of `Check` that concern the leader."""

    gradient_error: Vector
    straddles: Vector
    gain: Vector
    trials: Vector


def around(play: Play, base: Vector, other: Vector, report: Response) -> Around:
    """Compares the gradient with differences and looks for a better action nearby.

    Args:
      play: the game, at the action.
      base: `[n]` the follower's response.
      other: `[n]` a response elsewhere that it might come to prefer.
      report: on the base response.
    """
    m, value = len(play.action), play.leader(play.action, base)
    slopes = _slopes(play, base)
    stencil = _stencil(play)
    back, along = _constraints(play, base, slopes.response)
    tried, slid = _trials(play, slopes.total, along)
    corrected = jnp.arange(2 * m + len(tried) + len(slid)) >= 2 * m + len(tried)
    points = jnp.concatenate([stencil.points, tried, slid])
    visits = _visit(play, points, corrected, back, jnp.stack([base, other]))
    error = _gradient_error(play, value, slopes, stencil, visits.branch[: 2 * m])
    moving = jnp.tile(stencil.step > 0, 2)[:, None]
    straddles = jnp.any(moving & (visits.pressing[: 2 * m] != pressing(report)[None]))

    allowed = play.action_violation(play.action, base) + play.limits.gain / 8
    counted = visits.valid & (visits.violation <= allowed)
    counted &= jnp.any(visits.actions != play.action[None], axis=1)
    counted &= jnp.arange(len(points)) >= 2 * m
    noise = 64 * float(jnp.finfo(play.dtype).eps) * jnp.abs(value)
    gains = jnp.maximum(visits.gain - value - noise, 0) * play.per_leader
    gain = jnp.max(jnp.where(counted, gains, 0), initial=0)
    gain = jnp.where(jnp.isfinite(value), gain, jnp.nan)
    return Around(error, straddles, gain, jnp.sum(counted))


def _slopes(play: Play, base: Vector) -> Slopes:
    by_action, by_response = jax.grad(play.leader, argnums=(0, 1))(play.action, base)
    response = jax.jacrev(lambda a: play.answer(a, base)[0])(play.action)
    size = jnp.abs(by_action) + jnp.abs(by_response) @ jnp.abs(response)
    return Slopes(by_action + by_response @ response, size, response)


def _stencil(play: Play) -> Stencil:
    a, (lower, upper) = play.action, play.action_bounds
    step = jnp.minimum(play.limits.step * play.action_unit, (upper - lower) / 4)
    side = jnp.where(a - step < lower, 1.0, jnp.where(a + step > upper, -1.0, 0.0)).astype(a.dtype)
    near = jnp.where(side == 0, 1, side) * step
    far = jnp.where(side == 0, -1, 2 * side) * step
    return Stencil(a[None] + jnp.concatenate([jnp.diag(near), jnp.diag(far)]), step, side)


def _gradient_error(
    play: Play, value: Vector, slopes: Slopes, stencil: Stencil, branch: Vector
) -> Vector:
    """The largest relative error, `inf` for a gradient and NaN for a difference that is none."""
    near, far = jnp.split(branch, 2)
    free = stencil.step > 0
    step = jnp.where(free, stencil.step, 1)
    one_sided = stencil.side * (4 * near - far - 3 * value)
    numeric = jnp.where(stencil.side == 0, near - far, one_sided) / (2 * step)
    size = jnp.abs(value) + 1 / play.per_leader
    noise = 64 * jnp.finfo(play.dtype).eps * size / step
    error = jnp.abs(slopes.total - numeric) / (slopes.size + noise / play.limits.gradient)
    error = jnp.where(jnp.isfinite(slopes.total), error, jnp.inf)
    error = jnp.where(jnp.isfinite(numeric), error, jnp.nan)
    return jnp.max(jnp.where(free, error, 0))


def _constraints(play: Play, base: Vector, response_slope: Vector) -> tuple[Vector, Vector]:
    """`[m, k]` the shortest way back to the active constraints, `[m, m]` projects along them."""
    a, (lower, upper) = play.action, play.action_bounds
    rows = lambda a, r: jnp.concatenate(play.action_residuals(a, r))
    by_action, by_response = jax.jacrev(rows, argnums=(0, 1))(a, base)
    g, h = play.action_residuals(a, base)
    sizes = row_sizes(by_action, jnp.concatenate([g, h]), a)[: len(g)]
    active = jnp.concatenate([g >= -play.limits.exact * sizes, jnp.ones(len(h), bool)])
    near = play.limits.exact * play.action_unit
    held = (a - lower <= near) | (upper - a <= near)
    normals = jnp.where(active[:, None], by_action + by_response @ response_slope, 0)
    normals = jnp.concatenate([normals, jnp.diag(held.astype(normals.dtype))])
    normals = jnp.where(jnp.isfinite(normals), normals, 0)
    inverse = jnp.linalg.pinv(normals, rtol=1e-5)
    along = jnp.eye(len(a), dtype=normals.dtype) - inverse @ normals
    return inverse[:, : len(active)].astype(a.dtype), along.astype(a.dtype)


def _trials(play: Play, slope: Vector, along: Vector) -> tuple[Vector, Vector]:
    """`[k, m]` actions nearby, `[k', m]` those along the active constraints of other sets."""
    a, (lower, upper) = play.action, play.action_bounds
    unit = play.action_unit
    push = slope * unit
    blocked = ((a <= lower) & (push < 0)) | ((a >= upper) & (push > 0))
    push = jnp.where(jnp.isfinite(push) & ~blocked, push, 0)
    push = push / jnp.maximum(jnp.max(jnp.abs(push)), jnp.finfo(a.dtype).tiny)
    axes = jnp.eye(len(a), dtype=a.dtype)
    directions = jnp.concatenate([axes, -axes, push[None].astype(a.dtype)]) * unit[None]

    def steps(directions: Vector) -> Vector:
        far = jnp.concatenate([step * directions for step in _STEPS]) + a[None]
        return jax.vmap(play.project)(far)

    if play.game.action_set.projectable:
        return steps(directions), jnp.zeros((0, len(a)), a.dtype)
    slides = directions @ along
    length = jnp.max(jnp.abs(slides) / unit[None], axis=1, keepdims=True)
    some = length > 1e-3
    return steps(directions), steps(jnp.where(some, slides / jnp.where(some, length, 1), 0))


def _visit(play: Play, actions: Vector, corrected: Vector, back: Vector, starts: Vector) -> Visits:
    """Asks the follower everywhere; `corrected` actions first return to the constraints."""

    def visit(a: Vector, correct: Vector) -> tuple[Vector, Visits]:
        found, reports = jax.vmap(lambda start: play.answer(a, start))(starts)
        gains = jax.vmap(lambda r: play.leader(a, r))(found)
        wants = jax.vmap(lambda r: play.follower(a, r))(found)
        wants = jnp.where(reports.converged, wants, -jnp.inf)
        top = jnp.max(wants)
        slack = 64 * float(jnp.finfo(play.dtype).eps) * jnp.abs(top)
        taken = wants >= top - play.limits.exact / play.per_follower - slack
        index = jnp.argmax(jnp.where(taken, gains, -jnp.inf))
        constraints = jnp.concatenate(play.action_residuals(a, found[index]))
        better = a - back @ constraints
        better = jnp.where(correct & jnp.all(jnp.isfinite(better)), play.project(better), a)
        return better, Visits(
            a,
            gains[index],
            jnp.where(reports.converged[0], gains[0], jnp.nan),
            pressing(jax.tree.map(lambda x: x[0], reports)),
            reports.converged[index] & jnp.isfinite(gains[index]),
            play.action_violation(a, found[index]),
        )

    rounds = 1 if play.game.action_set.projectable else 3
    _, seen = jax.lax.scan(lambda a, _: jax.vmap(visit)(a, corrected), actions, length=rounds)
    return jax.tree.map(lambda x: x[-1], seen)
