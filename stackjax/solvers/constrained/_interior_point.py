"""A primal-dual interior-point method for small smooth programs, one loop that can be batched.

    minimise f(z)   subject to   c(z) = 0,   g(z) <= 0,   lower <= z <= upper.

Inequalities get slacks, bounds and slacks a logarithmic barrier of weight mu, which goes to zero
(Fiacco and McCormick). Each iteration solves the condensed primal-dual system, made positive
definite on the null space of the constraints by a shift, and is globalised by a filter (Fletcher
and Leyffer, Mathematical Programming 91, 2002; Waechter and Biegler, Mathematical Programming 106,
2006). The program may depend on mu: a relaxation that is to vanish (of a complementarity, say)
vanishes with the barrier, in one run.

One evaluation and one linear solve an iteration, whether its trial point is accepted or not: in a
batch every member does the same work.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

Evaluate = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]

_FILTER = 12  # (infeasibility, barrier) pairs remembered
_TO_BOUNDARY = 0.99


class Iterate(struct.PyTreeNode):
    """A primal-dual point; multipliers are non-negative but for `equality`'s.

    Attributes:
      z: `[n]` variables.
      slack: `[m]` of the inequalities.
      inequality: `[m]` multipliers.
      equality: `[p]` multipliers.
      lower: `[n]` multipliers of the lower bounds.
      upper: `[n]` multipliers of the upper bounds.
    """

    z: jax.Array
    slack: jax.Array
    inequality: jax.Array
    equality: jax.Array
    lower: jax.Array
    upper: jax.Array


class Found(struct.PyTreeNode):
    """Where the method ended.

    Attributes:
      point: the last iterate, in the program's own units.
      active: which inequalities `[m]`, lower bounds `[n]` and upper bounds `[n]` look active.
      steps: scalar int.
    """

    point: Iterate
    active: tuple[jax.Array, jax.Array, jax.Array]
    steps: jax.Array


class _Local(struct.PyTreeNode):
    """The program to second order at one iterate."""

    f: jax.Array
    c: jax.Array
    g: jax.Array
    slope: jax.Array  # [n] gradient of f
    jac_c: jax.Array
    jac_g: jax.Array
    hessian: jax.Array  # [n, n] of the Lagrangian


class _State(struct.PyTreeNode):
    at: Iterate
    local: _Local
    trial: Iterate
    slope_along: jax.Array  # derivative of the barrier function along the step
    shrink: jax.Array
    proximal: jax.Array
    mu: jax.Array
    filter: jax.Array  # [_FILTER, 2]
    steps: jax.Array
    done: jax.Array


def inside(z: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """`z`, `[n]`, moved well inside of its bounds; numbers for what is not finite."""
    has_lower, has_upper = jnp.isfinite(lower), jnp.isfinite(upper)
    low, high = jnp.where(has_lower, lower, 0), jnp.where(has_upper, upper, 0)
    width = jnp.where(has_lower & has_upper, high - low, jnp.inf)
    margin = lambda edge: 1e-2 * jnp.minimum(jnp.maximum(1, jnp.abs(edge)), width)
    z = jnp.where(jnp.isfinite(z), z, 0)
    z = jnp.where(has_lower, jnp.maximum(z, low + margin(low)), z)
    z = jnp.where(has_upper, jnp.minimum(z, high - margin(high)), z)
    return jnp.where(lower >= upper, lower, z)


def interior(
    evaluate: Evaluate,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    barrier: float,
    last_barrier: float,
    max_steps: int | jax.Array,
) -> Found:
    """Solves the program from `start`, which need not be feasible.

    Args:
      evaluate: `(z [n], mu) -> (f, c [p], g [m])`.
      start: `[n]`, moved inside of the bounds.
      lower: `[n]`; -inf for none.
      upper: `[n]`; inf for none; a coordinate with `lower == upper` is fixed.
      barrier: the first mu.
      last_barrier: the last mu; the error left is of its order.
      max_steps: cap on iterations, accepted or not.
    """
    n, dtype = len(start), start.dtype
    eps = float(jnp.finfo(dtype).eps)
    has_lower, has_upper = jnp.isfinite(lower), jnp.isfinite(upper)
    fixed = lower >= upper
    free = (~fixed).astype(dtype)
    has_lower, has_upper = has_lower & ~fixed, has_upper & ~fixed
    low, high = jnp.where(has_lower, lower, 0), jnp.where(has_upper, upper, 0)

    z = inside(start, lower, upper)

    stacked = lambda z, mu: jnp.concatenate([jnp.ravel(part) for part in evaluate(z, mu)])
    shapes = jax.eval_shape(evaluate, z, jnp.ones((), dtype))
    p, m = shapes[1].shape[0], shapes[2].shape[0]

    # Rows are scaled once so that no gradient at the start is far above 1.
    first, pull = jax.vjp(lambda z: stacked(z, jnp.asarray(barrier, dtype)), z)
    rows = jax.vmap(lambda e: pull(e)[0])(jnp.eye(1 + p + m, dtype=dtype))
    steepest = jnp.max(jnp.where(jnp.isfinite(rows), jnp.abs(rows), 0), axis=1)
    scale = 1 / jnp.maximum(1, steepest / 10)
    # Likewise a utility in tiny units is magnified.
    magnified = 1 / jnp.clip(steepest[0], 1e-4, 1)
    scale = scale.at[0].multiply(magnified)

    def linearise(point: Iterate, mu: jax.Array) -> _Local:
        weights = jnp.concatenate([jnp.ones(1, dtype), point.equality, point.inequality])

        def reverse(z: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            value, pull = jax.vjp(lambda z: scale * stacked(z, mu), z)
            rows = jax.vmap(lambda e: pull(e)[0])(jnp.eye(1 + p + m, dtype=dtype))
            return weights @ rows, (value, rows)

        push = lambda e: jax.jvp(reverse, (point.z,), (e,), has_aux=True)
        _, columns, (value, rows) = jax.vmap(push, out_axes=(None, 0, None))(
            jnp.eye(n, dtype=dtype)
        )
        return _Local(
            value[0], value[1 : 1 + p], value[1 + p :],
            rows[0], rows[1 : 1 + p], rows[1 + p :],
            (columns + columns.T) / 2,
        )  # fmt: skip

    def gaps(point: Iterate) -> tuple[jax.Array, jax.Array]:
        return (
            jnp.where(has_lower, point.z - low, 1),
            jnp.where(has_upper, high - point.z, 1),
        )

    def barrier_of(point: Iterate, f: jax.Array, mu: jax.Array) -> jax.Array:
        below, above = gaps(point)
        logs = jnp.sum(jnp.log(below)) + jnp.sum(jnp.log(above)) + jnp.sum(jnp.log(point.slack))
        return f - mu * logs

    def barrier_slope(point: Iterate, local: _Local, mu: jax.Array) -> jax.Array:
        """In z, `[n]`."""
        below, above = gaps(point)
        slope = local.slope - jnp.where(has_lower, mu / below, 0)
        return slope + jnp.where(has_upper, mu / above, 0)

    def infeasibility(point: Iterate, local: _Local) -> jax.Array:
        return jnp.sum(jnp.abs(local.c)) + jnp.sum(jnp.abs(local.g + point.slack))

    def error_of(point: Iterate, local: _Local, mu: jax.Array) -> jax.Array:
        below, above = gaps(point)
        dual = local.slope + point.equality @ local.jac_c + point.inequality @ local.jac_g
        dual = (dual - point.lower + point.upper) * free
        size = jnp.sum(jnp.abs(point.equality)) + jnp.sum(point.inequality)
        size = (size + jnp.sum(point.lower + point.upper)) / (2 * n + m + p)
        down = jnp.maximum(1, size / 100)
        every = [
            dual / down,
            local.c,
            local.g + point.slack,
            (point.slack * point.inequality - mu) / down,
            jnp.where(has_lower, below * point.lower - mu, 0) / down,
            jnp.where(has_upper, above * point.upper - mu, 0) / down,
        ]
        return jnp.max(jnp.abs(jnp.concatenate(every)))

    def newton(point: Iterate, local: _Local, mu: jax.Array, proximal: jax.Array) -> Iterate:
        below, above = gaps(point)
        weight = point.inequality / point.slack
        sigma = point.lower / below + point.upper / above
        hessian = local.hessian + jnp.diag(sigma) + (local.jac_g.T * weight[None]) @ local.jac_g
        hessian = hessian * free[:, None] * free[None, :] + jnp.diag(1 - free)
        jac_c, jac_g = local.jac_c * free[None], local.jac_g * free[None]
        size = jnp.max(jnp.abs(local.hessian)) + 1
        weighted = hessian + (10 * size) * (jac_c.T @ jac_c)
        weighted = jnp.where(jnp.all(jnp.isfinite(weighted)), weighted, jnp.eye(n, dtype=dtype))
        least = jnp.linalg.eigvalsh(weighted)[0]
        lift = jnp.maximum(0, 1e-4 * size - least) * (least < eps**0.5 * 1e-2 * size)
        hessian = hessian + jnp.diag((lift + proximal) * free)

        dual = barrier_slope(point, local, mu)
        rest = local.g + point.slack
        pushed = mu / point.slack + weight * rest
        right = -(dual + pushed @ local.jac_g) * free
        system = jnp.block([[hessian, jac_c.T], [jac_c, -(eps**0.75) * jnp.eye(p, dtype=dtype)]])
        both = jnp.linalg.solve(system, jnp.concatenate([right, -local.c])[:, None])[:, 0]
        both = jnp.where(jnp.all(jnp.isfinite(both)), both, 0)
        dz = both[:n]
        ds = -rest - jac_g @ dz
        return Iterate(
            dz,
            ds,
            mu / point.slack - point.inequality - weight * ds,
            both[n:] - point.equality,
            jnp.where(has_lower, mu / below - point.lower - point.lower / below * dz, 0),
            jnp.where(has_upper, mu / above - point.upper + point.upper / above * dz, 0),
        )

    def largest(value: jax.Array, change: jax.Array, tau: jax.Array) -> jax.Array:
        """The longest step that keeps `value + step * change` above `(1 - tau) value`."""
        falling = change < 0
        ratio = jnp.where(falling, tau * value / jnp.where(falling, -change, 1), 1)
        return jnp.min(ratio, initial=1.0)

    def move(
        point: Iterate, step: Iterate, mu: jax.Array, shrink: jax.Array
    ) -> tuple[Iterate, jax.Array]:
        tau = jnp.maximum(_TO_BOUNDARY, 1 - mu)
        below, above = gaps(point)
        primal = largest(point.slack, step.slack, tau)
        primal = jnp.minimum(primal, largest(below, jnp.where(has_lower, step.z, 0), tau))
        primal = jnp.minimum(primal, largest(above, jnp.where(has_upper, -step.z, 0), tau))
        # no coordinate moves further than a hundred times its own size in one step
        far = jnp.max(jnp.abs(step.z) / (1 + jnp.abs(point.z))) / 100
        primal = shrink * jnp.minimum(primal, 1 / jnp.maximum(far, 1))
        dual = largest(point.inequality, step.inequality, tau)
        dual = jnp.minimum(dual, largest(jnp.where(has_lower, point.lower, 1), step.lower, tau))
        dual = jnp.minimum(dual, largest(jnp.where(has_upper, point.upper, 1), step.upper, tau))
        new = Iterate(
            point.z + primal * step.z,
            point.slack + primal * step.slack,
            point.inequality + dual * step.inequality,
            point.equality + primal * step.equality,
            point.lower + dual * step.lower,
            point.upper + dual * step.upper,
        )
        below, above = gaps(new)
        keep = lambda dual, gap: jnp.clip(dual, mu / (1e8 * gap), 1e8 * mu / gap)
        return new.replace(
            inequality=keep(new.inequality, new.slack),
            lower=jnp.where(has_lower, keep(new.lower, below), 0),
            upper=jnp.where(has_upper, keep(new.upper, above), 0),
        ), primal

    def body(state: _State) -> _State:
        at, trial, mu = state.at, state.trial, state.mu
        new = linearise(trial, mu)
        first = state.steps == 0
        theta, theta_new = infeasibility(at, state.local), infeasibility(trial, new)
        phi = barrier_of(at, state.local.f, mu)
        phi_new = barrier_of(trial, new.f, mu)
        noise = 10 * eps * (jnp.abs(phi) + 1)
        outside = jnp.all(
            (theta_new <= (1 - 1e-5) * state.filter[:, 0])
            | (phi_new <= state.filter[:, 1] - 1e-5 * state.filter[:, 0] + noise)
        )
        falling = (state.slope_along < 0) & (
            (-state.slope_along) ** 2.3 > theta**1.1 * jnp.maximum(state.shrink, eps) ** -1.3
        )
        armijo = phi_new <= phi + 1e-4 * state.slope_along + noise
        better = (theta_new <= (1 - 1e-5) * theta) | (phi_new <= phi - 1e-5 * theta + noise)
        descent = falling & (theta <= 1e-4 * jnp.maximum(1, theta))
        finite = jnp.isfinite(phi_new) & jnp.isfinite(theta_new)
        finite &= jnp.all(jnp.isfinite(new.hessian)) & jnp.all(jnp.isfinite(new.jac_c))
        finite &= jnp.all(jnp.isfinite(new.jac_g)) & jnp.all(jnp.isfinite(new.slope))
        stuck = state.shrink < 1e-4
        accept = finite & (first | stuck | (outside & jnp.where(descent, armijo, better)))

        entry = jnp.stack([(1 - 1e-5) * theta, phi - 1e-5 * theta])
        remember = accept & ~first & ~(descent & armijo)
        slots = jnp.where(remember, jnp.concatenate([entry[None], state.filter[:-1]]), state.filter)
        slots = jnp.where(accept & stuck, jnp.inf, slots)
        at = jax.tree.map(lambda a, b: jnp.where(accept, a, b), trial, at)
        local = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state.local)

        solved = error_of(at, local, mu) <= 10 * mu
        lower_mu = jnp.maximum(jnp.minimum(0.2 * mu, mu**1.5), last_barrier)
        next_mu = jnp.where(solved, lower_mu, mu)
        slots = jnp.where(next_mu < mu, jnp.inf, slots)
        shrink = jnp.where(accept, 1, state.shrink / 2)
        proximal = jnp.where(accept, state.proximal / 4, jnp.maximum(4 * state.proximal, 1e-6))
        proximal = jnp.where(proximal < 1e-7, 0, jnp.minimum(proximal, 1e6))
        step = newton(at, local, next_mu, proximal)
        trial, length = move(at, step, next_mu, shrink)
        along = barrier_slope(at, local, next_mu) @ step.z
        along = length * (along - next_mu * jnp.sum(step.slack / at.slack))
        return _State(
            at, local, trial, along, shrink, proximal, next_mu, slots, state.steps + 1,
            (solved & (mu <= last_barrier)) | (first & ~finite),
        )  # fmt: skip

    mu = jnp.asarray(barrier, dtype)
    g = (scale * first)[1 + p :]
    slack = jnp.maximum(jnp.where(jnp.isfinite(g), -g, 1), 1e-2)
    at = Iterate(z, slack, mu / slack, jnp.zeros(p, dtype), *(jnp.zeros(n, dtype),) * 2)
    below, above = gaps(at)
    at = at.replace(
        lower=jnp.where(has_lower, mu / below, 0), upper=jnp.where(has_upper, mu / above, 0)
    )
    zeros = lambda *shape: jnp.zeros(shape, dtype)
    blank = _Local(zeros(), zeros(p), zeros(m), zeros(n), zeros(p, n), zeros(m, n), zeros(n, n))
    state = _State(
        at, blank, at, zeros(), jnp.ones((), dtype), zeros(), mu,
        jnp.full((_FILTER, 2), jnp.inf, dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool),
    )  # fmt: skip
    # The flag is computed in the body and only read here: see _newton.py.
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), body, state)
    unscaled = state.at.replace(
        inequality=state.at.inequality * scale[1 + p :] / scale[0],
        equality=state.at.equality * scale[1 : 1 + p] / scale[0],
        lower=state.at.lower / scale[0],
        upper=state.at.upper / scale[0],
        slack=state.at.slack / scale[1 + p :],
    )
    below, above = gaps(state.at)
    active = (
        state.at.inequality > state.at.slack,
        (has_lower & (state.at.lower > below)) | fixed,
        has_upper & (state.at.upper > above),
    )
    return Found(unscaled, active, state.steps)
