"""Newton's method on the optimality conditions, with a revised active set, from close by.

The conditions are those of `_optimality.py`. The KKT matrix may be singular (dependent
constraints, flat directions): it is factorised by its eigenvalues, and directions without
curvature are left out.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.factor import restrict
from stackjax.solvers._judge import kkt_solved
from stackjax.solvers._optimality import (
    Active,
    Evaluate,
    Linearised,
    exactly,
    lagrangian,
    steepness,
    step_length,
    violation,
)


class Spectral(struct.PyTreeNode):
    """A symmetric matrix as `S^-1 V diag(values) V' S^-1`, S diagonal, for pseudo-inverse solves.

    Directions without curvature are left out instead of exploding; S gives every row a largest
    entry of about one, so that units do not decide what counts as none.

    Attributes:
      values: `[n]` eigenvalues of the scaled matrix.
      vectors: `[n, n]` its eigenvectors, in columns.
      scale: `[n]` the diagonal of S.
    """

    values: jax.Array
    vectors: jax.Array
    scale: jax.Array

    @property
    def floor(self) -> float:
        """An eigenvalue at or below it is not distinguishable from zero."""
        return 16 * len(self.values) * float(jnp.finfo(self.values.dtype).eps)

    @property
    def singular(self) -> jax.Array:
        """Whether some direction was left out; a scalar bool."""
        return jnp.any(jnp.abs(self.values) <= self.floor)

    def solve(self, b: jax.Array) -> jax.Array:
        """Solves `[n] -> [n]`, least squares and of least norm in the scaled variables."""
        bent = jnp.abs(self.values) > self.floor
        inverse = jnp.where(bent, 1 / jnp.where(bent, self.values, 1), 0)
        return self.scale * (self.vectors @ (inverse * (self.vectors.T @ (self.scale * b))))

    @property
    def inverse(self) -> jax.Array:
        """`[n, n]` the matrix that `solve` multiplies with."""
        bent = jnp.abs(self.values) > self.floor
        inverse = jnp.where(bent, 1 / jnp.where(bent, self.values, 1), 0)
        vectors = self.scale[:, None] * self.vectors
        return exactly(vectors * inverse[None], vectors.T)


def spectral(matrix: jax.Array) -> Spectral:
    """Factorises a symmetric `[n, n]` matrix; never returns NaN for a finite one."""
    scale = jnp.ones(len(matrix), matrix.dtype)
    for _ in range(3):  # Ruiz equilibration
        largest = jnp.max(jnp.abs(matrix * scale[:, None] * scale[None]), axis=1)
        scale = scale / jnp.sqrt(jnp.where(largest > 1e-30, largest, 1))
    values, vectors = jnp.linalg.eigh(matrix * scale[:, None] * scale[None])
    return Spectral(values, vectors, scale)


class Point(struct.PyTreeNode):
    """A primal-dual point on an active set, and its quality.

    Attributes:
      w: `[n + p + m]` variables and multipliers.
      active: the active set.
      gradient: `[n + p + m]` of L.
      hessian: `[n + p + m, ...]` of L; 0 where it is not a number.
      factor: of the Hessian on the free coordinates.
      error: scalar, the largest relative violation of the optimality conditions.
      value: scalar L.
      last: `[n]` the step of the variables that led to it.
    """

    w: jax.Array
    active: Active
    gradient: jax.Array
    hessian: jax.Array
    factor: Spectral
    error: jax.Array
    value: jax.Array
    last: jax.Array

    def curvature(self, n: int) -> jax.Array:
        """The least along the directions that the active set leaves free: see `curvature`."""
        held = self.active.lower | self.active.upper
        equalities = len(self.w) - n - len(self.active.rows)
        binding = jnp.concatenate([jnp.ones(equalities, bool), self.active.rows])
        return curvature(
            self.hessian[:n, :n], held, jnp.where(binding[:, None], self.hessian[n:, :n], 0)
        )

    def solved(
        self,
        step: jax.Array,
        lower: jax.Array,
        upper: jax.Array,
        tol: float,
        signed: jax.Array | None = None,
    ) -> jax.Array:
        """Whether the optimality conditions hold, as `kkt_solved` has it; a scalar bool.

        Args:
          step: `[n + p + m]` the Newton step from here.
          lower: `[n]`.
          upper: `[n]`.
          tol: as in `kkt_solved`.
          signed: likewise.
        """
        return jnp.isfinite(self.error) & kkt_solved(
            self.w, step, self.last, self.value, self.gradient, self.hessian, self.active,
            lower, upper, tol, signed,
        )  # fmt: skip

    def linearised(self) -> Linearised:
        """What its derivatives are made of."""
        number = lambda flags: flags.astype(self.w.dtype)
        return Linearised(
            number(self.active.lower),
            number(self.active.upper),
            number(self.active.rows),
            self.hessian,
            self.factor.inverse,
        )


def second_order(function: Callable, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradient `[n]` and symmetric Hessian `[n, n]`."""
    slope, push = jax.linearize(jax.grad(function), w)
    hessian = jax.vmap(push)(jnp.eye(len(w), dtype=w.dtype))
    return slope, (hessian + hessian.T) / 2


def curvature(hessian: jax.Array, held: jax.Array, rows: jax.Array) -> jax.Array:
    """The least curvature along the directions left free, relative to the largest entry.

    Args:
      hessian: `[n, n]` of the Lagrangian.
      held: `[n]` bool, coordinates held by a bound.
      rows: `[k, n]` gradients of the constraints that hold with equality; zero rows are ignored.

    Returns:
      Scalar in [-n, 1]; 1 where nothing is free.
    """
    n = len(held)
    largest = jnp.max(jnp.abs(hessian)) + jnp.finfo(hessian.dtype).tiny
    rows = jnp.where(held[None], 0, rows)
    length = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    rows = rows / jnp.where(length > 0, length, 1)
    values, vectors = jnp.linalg.eigh(rows.T @ rows + jnp.diag(held.astype(hessian.dtype)))
    normal = values > 1e-4 * jnp.maximum(1, values[-1])
    tangent = vectors * jnp.where(normal, 0, 1)[None]
    reduced = tangent.T @ hessian @ tangent / largest + jnp.diag(normal.astype(hessian.dtype))
    return jnp.linalg.eigvalsh(reduced)[0] if n else jnp.ones((), hessian.dtype)


class _Search(struct.PyTreeNode):
    w: jax.Array
    active: Active
    best: Point
    length: jax.Array
    last: jax.Array  # the step that led to w
    steps: jax.Array
    done: jax.Array


def polish(
    evaluate: Evaluate,
    w: jax.Array,
    active: Active,
    lower: jax.Array,
    upper: jax.Array,
    *,
    equalities: int,
    tol: float,
    rounds: int | jax.Array = 8,
    frozen: jax.Array | None = None,
    signed: jax.Array | None = None,
) -> tuple[Point, jax.Array, jax.Array]:
    """Newton's method on the optimality conditions, revising the active set (Hintermueller, Ito
    and Kunisch, SIAM Journal on Optimization 13, 2002), from a point close to a solution.

    Args:
      evaluate: `z -> (f, c [p], g [m])`.
      w: `[n + p + m]` start.
      active: the set to start from.
      lower: `[n]`.
      upper: `[n]`.
      equalities: p.
      tol: the Newton step, relative to `min(1 + |z|, width)`, at which to stop.
      rounds: cap on Newton steps.
      frozen: `[n]` bool, coordinates whose part in the active set is not revised; none if None.
      signed: `[n]` bool, coordinates whose multiplier must have the sign of its bound; all if
        None.

    Returns:
      The best point met, the Newton step from it, `[n + p + m]`, and its relative length.
    """  # fmt: skip
    n, p, eps = len(lower), equalities, float(jnp.finfo(lower.dtype).eps)
    value = lagrangian(evaluate, n, p)
    fixed = lower >= upper
    frozen = fixed if frozen is None else frozen | fixed

    def point_at(w: jax.Array, active: Active, last: jax.Array) -> Point:
        gradient, hessian = second_order(value, w)
        finite = jnp.all(jnp.isfinite(hessian)) & jnp.all(jnp.isfinite(gradient))
        hessian = jnp.where(finite, hessian, 0)
        error = violation(w, active, gradient, hessian, lower, upper, signed)
        error = jnp.where(finite, error, jnp.inf)
        factor = spectral(restrict(hessian, active.free(p)))
        return Point(w, active, gradient, hessian, factor, error, value(w), last)

    def step_from(point: Point) -> jax.Array:
        free, target = point.active.free(p), point.active.target(lower, upper, p)
        # Multipliers that have diverged (there is no interior, say) are solved for afresh, and
        # where they are not unique the smallest are taken.
        steep = steepness(point.w, point.gradient, point.hessian, n)
        pulled = jnp.max(jnp.abs(point.w[n:, None] * point.hessian[n:, :n]), initial=0)
        lost = (jnp.arange(len(w)) >= n) & free & (pulled > 1e4 * steep)
        old = jnp.where(lost, point.w, 0)
        held = jnp.where(free, 0, target - point.w)
        right = jnp.where(free, -point.gradient - point.hessian @ (held - old), 0)
        return jnp.where(free, point.factor.solve(right) - old, held)

    def body(state: _Search) -> _Search:
        point = point_at(state.w, state.active, state.last)
        step = step_from(point)
        length = step_length(state.w, step, lower, upper)
        # Among points at the rounding floor the last one, whose steps have shrunk.
        better = point.error < jnp.maximum(state.best.error, 64 * eps)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), point, state.best)
        w = state.w + step
        slope = point.gradient + point.hessian @ step
        z, v, rows = w[:n], w[n + p :], slope[n + p :]
        revised = Active(
            jnp.where(state.active.lower, slope[:n] >= 0, z < lower),
            jnp.where(state.active.upper, slope[:n] <= 0, z > upper),
            v + rows > 0,
        )
        keep = lambda new, old: jnp.where(frozen, old, new)
        revised = revised.replace(
            lower=keep(revised.lower, state.active.lower),
            upper=keep(revised.upper, state.active.upper),
        )
        same = [
            jnp.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (revised, point.active)))
        ]
        finite = jnp.all(jnp.isfinite(w))
        # One step more than is small: the judge asks whether steps shrink.
        settled = (length <= tol) & (state.length <= tol)
        prices = jnp.abs(step[n:]) <= eps**0.5 * jnp.maximum(1, jnp.abs(w[n:]))
        settled &= jnp.all(prices)
        return _Search(
            jnp.where(finite, w, state.w), revised, best, jnp.where(better, length, state.length),
            step[:n], state.steps + 1, (jnp.all(jnp.stack(same)) & settled) | ~finite,
        )  # fmt: skip

    size, infinite = len(w), jnp.full((), jnp.inf, w.dtype)
    none = jnp.zeros(n, w.dtype)
    blank = Point(
        w, active, jnp.zeros(size, w.dtype), jnp.zeros((size, size), w.dtype),
        Spectral(jnp.zeros(size, w.dtype), jnp.eye(size, dtype=w.dtype), jnp.ones(size, w.dtype)),
        infinite, jnp.zeros((), w.dtype), none,
    )  # fmt: skip
    state = _Search(
        w,
        active,
        blank,
        infinite,
        none,
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < rounds), body, state)
    return state.best, step_from(state.best), state.length
