"""The semismooth Newton method for several followers, and the derivatives of their equilibrium."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stackjax._arrays.blocks import SMALL_BLOCK, closed_in_blocks, members
from stackjax._arrays.finite import shield
from stackjax._arrays.typing import PyTree
from stackjax.solvers._implicit import detached, differentiate_system
from stackjax.solvers._optimality import exactly
from stackjax.solvers._settings import check_settings, tolerance
from stackjax.solvers._solver import Maximum, Problem, Solver
from stackjax.solvers.equilibrium._joint import Joint, joint_scales
from stackjax.solvers.equilibrium._report import JointQuality, quality_of
from stackjax.solvers.equilibrium._search import Found, lifted, mixed, search


@dataclasses.dataclass(frozen=True)
class SemismoothNewton(Solver):
    """A semismooth Newton method for the Nash equilibrium of several followers, on any set.

    (Of one follower, too: a mixed complementarity solver for its optimality conditions.)

    Newton steps on the active set of the natural residual, and behind them a smoothing Newton
    method on the Fischer-Burmeister residual with a line search; if that fails, once more from
    where uphill steps of each follower alone lead. Dense: for up to about a thousand numbers, of
    all responses and constraints together.

    Args:
      tol: as in `Newton`; the last Newton step on the active set.
      max_steps: cap on iterations, accepted or not.

    Raises:
      TypeError: `tol` is not a number, or `max_steps` not an integer.
      ValueError: `tol` is not positive, or `max_steps` is below 1.

    Source: Burke and Xu, Mathematics of Operations Research 23, 1998.

    Example:
      >>> profit = lambda i: lambda tax, r, demand: r[i] * (demand - r[0] - r[1] - tax)
      >>> game = sj.Game(lambda tax, r, demand: tax * (r[0] + r[1]), (profit(0), profit(1)))
      >>> found = sj.best_response(
      ...     game, 1.0, 13.0, response=(1.0, 1.0), solver=sj.SemismoothNewton(max_steps=20)
      ... )
      >>> print(*found.value, found.converged)
      4.0 4.0 True
    """

    tol: float | None = None
    max_steps: int = 200

    def __post_init__(self) -> None:
        check_settings(self)

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`: the equilibrium of one follower."""
        slope = jax.grad(problem.utility)

        def rows(y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            gradient, push = jax.linearize(slope, y)
            bent = jax.vmap(push)(jnp.eye(len(y), dtype=y.dtype))
            return problem.utility(y)[None], gradient, bent

        joint = Joint(
            lambda y: problem.utility(y)[None],
            slope,
            rows,
            problem.lower,
            problem.upper,
            problem.constraints,
            (len(start),),
            True,
        )
        found = self.equilibrium(joint, start)
        return Maximum(
            found.value, found.equality, found.inequality, found.at_lower, found.at_upper,
            found.quality.worst,
        )  # fmt: skip

    def equilibrium(self, problem: Joint, start: jax.Array) -> "JointMaximum":
        """The equilibrium from `start [d]`, which need not be feasible."""
        rows, of_rows = jax.closure_convert(problem.rows, start)
        slopes, of_slopes = jax.closure_convert(problem.slopes, start)
        both, of_both = jax.closure_convert(problem.constraints, start)
        theta = (tuple(of_rows), tuple(of_slopes), tuple(of_both), problem.lower, problem.upper)

        def made(theta: PyTree) -> Joint:
            of_rows, of_slopes, of_both, lower, upper = theta
            return problem._replace(
                rows=lambda y: rows(y, *of_rows),
                slopes=lambda y: slopes(y, *of_slopes),
                constraints=lambda y: both(y, *of_both),
                lower=lower,
                upper=upper,
            )

        def run(start: jax.Array) -> tuple[jax.Array, tuple]:
            fixed = made(jax.lax.stop_gradient(theta))
            scales = joint_scales(fixed, start)
            scaled = scales.joint(fixed)
            begin = start / scales.variables
            model = mixed(scaled, scales.slopes)
            w, found = search(model, begin, tolerance(self, start.dtype), self.max_steps)
            margins = _margins(scaled, w, found)
            quality = quality_of(scaled, w, found, margins)
            matrix, inverse = _linearised(found, len(start))
            reached = jnp.clip(w + found.step, model.lo, model.up)
            # What is held is at its bound to the last bit.
            active = jax.tree.map(lambda x: x > 0, found.active)
            held = active.target(scaled.lower, scaled.upper, model.p)
            target = jnp.where(found.free > 0, reached, held)
            # What was not solved stays where it was looked at: elsewhere it may be no number.
            target = jnp.where(found.solved > 0, target, w)
            unit = scales.point
            return target * unit, (quality, found, matrix, inverse, scales)

        w, aux = detached(closed_in_blocks(run, members(SMALL_BLOCK)), start)
        quality, found, matrix, inverse, scales = aux
        finite = found.at.finite > 0
        scaled = scales.joint(made(shield(theta, finite)))
        free = found.free > 0
        z = _differentiated(scaled, w / scales.point, found, free, finite, matrix, inverse)
        w = z * scales.point
        d, p = len(start), len(w) - len(start) - len(found.active.rows)
        return JointMaximum(
            w[:d], w[d : d + p], w[d + p :],
            found.active.lower > 0, found.active.upper > 0,
            _pushed(made(shield(theta, finite)), shield(w, finite), finite), quality,
        )  # fmt: skip


class JointMaximum(NamedTuple):
    """An equilibrium.

    Attributes:
      value: `[d]`, differentiable in what the problem closes over.
      equality: `[p]` multipliers, as in `Maximum`; differentiable.
      inequality: `[m]` likewise.
      at_lower: `[d]` bool.
      at_upper: `[d]` bool.
      pushed: `[d]` the slope of each follower's Lagrangian without the bounds, differentiable; 0
        where it is not a number.
      quality: not differentiable.
    """

    value: jax.Array
    equality: jax.Array
    inequality: jax.Array
    at_lower: jax.Array
    at_upper: jax.Array
    pushed: jax.Array
    quality: JointQuality


def _pushed(problem: Joint, w: jax.Array, finite: jax.Array) -> jax.Array:
    d = len(problem.lower)
    slopes = problem.slopes(w[:d])
    if len(w) > d:
        _, pull = jax.vjp(lambda y: jnp.concatenate(problem.constraints(y)), w[:d])
        slopes = slopes - pull(w[d:])[0]
    return jnp.where(finite, slopes, 0)


def _margins(problem: Joint, w: jax.Array, found: Found) -> jax.Array:
    """`[N]` each follower's smallest `max(slack, multiplier)`; what is shared is everybody's."""
    d, count = len(problem.lower), len(problem.sizes)
    y, slope = w[:d], found.at.gradient[:d]
    slack = jnp.minimum(y - problem.lower, problem.upper - y)
    held = (found.active.lower > 0) | (found.active.upper > 0)
    margin = jnp.where(held, jnp.maximum(slack, jnp.abs(slope)), slack)
    margin = jnp.where(problem.lower == problem.upper, jnp.inf, margin)
    least = jax.ops.segment_min(margin, problem.owner, count)
    m = len(found.active.rows)
    if m:
        rows = jnp.maximum(-found.at.gradient[-m:], w[-m:])
        touched = found.at.hessian[-m:, :d] != 0
        each = jnp.min(jnp.where(touched, rows[:, None], jnp.inf), axis=0)
        least = jnp.minimum(least, jax.ops.segment_min(each, problem.owner, count))
    return least


def _linearised(found: Found, d: int) -> tuple[jax.Array, jax.Array]:
    """The conditions' Jacobian, and the inverse of its free part; zeros where there is none."""
    free, size = found.free > 0, found.step.shape[0]
    matrix = found.at.hessian
    identity = jnp.eye(size, dtype=matrix.dtype)
    restricted = jnp.where(free[:, None] & free[None], matrix, identity)
    lift = jnp.where(free & (jnp.arange(size) >= d), lifted(matrix.dtype), 0)
    inverse = jnp.linalg.inv(restricted - lift[:, None] * identity)
    return matrix, jnp.where(jnp.all(jnp.isfinite(inverse)), inverse, 0)


def _differentiated(
    problem: Joint,
    w: jax.Array,
    found: Found,
    free: jax.Array,
    finite: jax.Array,
    matrix: jax.Array,
    inverse: jax.Array,
) -> jax.Array:
    d, p = len(problem.lower), len(w) - len(problem.lower) - len(found.active.rows)

    def conditions(w: jax.Array) -> jax.Array:
        y, prices = w[:d], w[d:]
        if not len(prices):
            return -problem.slopes(y)
        rows, pull = jax.vjp(lambda y: jnp.concatenate(problem.constraints(y)), y)
        return jnp.concatenate([pull(prices)[0] - problem.slopes(y), rows])

    def solver(a: jax.Array, inverse: jax.Array):
        only = lambda x: jnp.where(free, x, 0)

        def solve(b: jax.Array) -> jax.Array:
            x = only(exactly(inverse, only(b)))
            # refined: what rounding and the lifted diagonal did to the inverse is taken back
            for _ in range(2):
                x = x + only(exactly(inverse, only(b - exactly(a, x))))
            return x

        return solve

    active = jax.tree.map(lambda x: x > 0, found.active)
    return differentiate_system(
        conditions,
        w,
        free=free,
        target=active.target(problem.lower, problem.upper, p),
        product=lambda v: exactly(matrix, v),
        transpose_product=lambda v: exactly(matrix.T, v),
        solve_free=solver(matrix, inverse),
        transpose_solve_free=solver(matrix.T, inverse.T),
        finite=finite,
    )
