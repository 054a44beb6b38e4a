"""Optimality conditions on a known active set: Newton's method, and what it says about the point.

For `minimise f(z) s.t. c(z) = 0, g(z) <= 0, lower <= z <= upper` write `w = (z, y, v)` with the
multipliers of c and g, and `L(w) = f + y'c + v'g`. Once it is known which bounds hold z and which
inequalities are active, a solution is a root of

    where(free, grad_w L(w), w - target),

`free` being the coordinates of z that no bound holds, all of y, and v of the active inequalities;
the target is the bound, or 0 for the multiplier of an inactive inequality. The Hessian of L in w
is the (symmetric) KKT matrix.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._implicit import differentiate
from stackjax._linear import restrict

Evaluate = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


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


def spectral(matrix: jax.Array) -> Spectral:
    """Factorises a symmetric `[n, n]` matrix; never returns NaN for a finite one."""
    scale = jnp.ones(len(matrix), matrix.dtype)
    for _ in range(3):  # Ruiz equilibration
        largest = jnp.max(jnp.abs(matrix * scale[:, None] * scale[None]), axis=1)
        scale = scale / jnp.sqrt(jnp.where(largest > 1e-30, largest, 1))
    values, vectors = jnp.linalg.eigh(matrix * scale[:, None] * scale[None])
    return Spectral(values, vectors, scale)


class Active(struct.PyTreeNode):
    """Which constraints hold with equality.

    Attributes:
      lower: `[n]` bool.
      upper: `[n]` bool.
      rows: `[m]` bool, inequalities.
    """

    lower: jax.Array
    upper: jax.Array
    rows: jax.Array

    def free(self, equalities: int) -> jax.Array:
        """`[n + p + m]` bool: what is unknown in `w`."""
        open_ = jnp.ones(equalities, bool)
        return jnp.concatenate([~(self.lower | self.upper), open_, self.rows])

    def target(self, lower: jax.Array, upper: jax.Array, equalities: int) -> jax.Array:
        """`[n + p + m]`: where the rest of `w` is held."""
        bound = jnp.where(self.lower, lower, jnp.where(self.upper, upper, 0))
        return jnp.concatenate([bound, jnp.zeros(equalities + len(self.rows), lower.dtype)])


class Point(struct.PyTreeNode):
    """A primal-dual point on an active set, and its quality.

    Attributes:
      w: `[n + p + m]` variables and multipliers.
      active: the active set.
      gradient: `[n + p + m]` of L.
      hessian: `[n + p + m, ...]` of L; 0 where it is not a number.
      factor: of the Hessian on the free coordinates.
      error: scalar, the largest relative violation of the optimality conditions.
    """

    w: jax.Array
    active: Active
    gradient: jax.Array
    hessian: jax.Array
    factor: Spectral
    error: jax.Array

    def curvature(self, n: int) -> jax.Array:
        """The least along the directions that the active set leaves free: see `curvature`."""
        held = self.active.lower | self.active.upper
        equalities = len(self.w) - n - len(self.active.rows)
        binding = jnp.concatenate([jnp.ones(equalities, bool), self.active.rows])
        return curvature(
            self.hessian[:n, :n], held, jnp.where(binding[:, None], self.hessian[n:, :n], 0)
        )

    def linearised(self) -> "Linearised":
        """What its derivatives are made of."""
        number = lambda flags: flags.astype(self.w.dtype)
        return Linearised(
            number(self.active.lower),
            number(self.active.upper),
            number(self.active.rows),
            self.hessian,
            self.factor,
        )


class Linearised(struct.PyTreeNode):
    """The optimality conditions to first order. Floating point, flags too, for `detached`.

    Attributes:
      at_lower: `[n]` 1 where a lower bound holds the variable, else 0.
      at_upper: `[n]` likewise.
      rows: `[m]` 1 where an inequality is active, else 0.
      hessian: `[n + p + m, ...]` the KKT matrix; 0 where it is not a number.
      factor: of its free part.
    """

    at_lower: jax.Array
    at_upper: jax.Array
    rows: jax.Array
    hessian: jax.Array
    factor: Spectral

    def differentiate(
        self,
        evaluate: Evaluate,
        w: jax.Array,
        lower: jax.Array,
        upper: jax.Array,
        *,
        finite: jax.Array,
    ) -> jax.Array:
        """`w`, `[n + p + m]`, with the derivatives of the solution that it is.

        Args:
          evaluate: `z -> (f, c [p], g [m])`; what it closes over is differentiated.
          w: a number, of which this is the linearisation.
          lower: `[n]`; differentiated.
          upper: `[n]`; differentiated.
          finite: scalar bool; if not, derivatives are zero instead of NaN.
        """
        active = Active(self.at_lower > 0, self.at_upper > 0, self.rows > 0)
        n = len(lower)
        p = len(w) - n - len(self.rows)
        return differentiate(
            lagrangian(evaluate, n, p),
            w,
            free=active.free(p),
            target=active.target(lower, upper, p),
            hessian_product=lambda v: self.hessian @ v,
            solve_free=self.factor.solve,
            finite=finite,
        )


def lagrangian(evaluate: Evaluate, n: int, p: int) -> Callable[[jax.Array], jax.Array]:
    """`w -> L(w)`."""

    def value(w: jax.Array) -> jax.Array:
        f, c, g = evaluate(w[:n])
        return f + w[n : n + p] @ c + w[n + p :] @ g

    return value


def second_order(function: Callable, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradient `[n]` and symmetric Hessian `[n, n]`."""
    slope, push = jax.linearize(jax.grad(function), w)
    hessian = jax.vmap(push)(jnp.eye(len(w), dtype=w.dtype))
    return slope, (hessian + hessian.T) / 2


def row_units(normals: jax.Array, z: jax.Array) -> jax.Array:
    """`[k]` the size that a constraint's largest term may have: what its violation is held to."""
    size = jnp.max(jnp.abs(normals) * (1 + jnp.abs(z))[None], axis=1, initial=0)
    return jnp.where(size > 0, size, 1)


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
    n, p = len(lower), equalities
    value = lagrangian(evaluate, n, p)
    fixed = lower >= upper
    frozen = fixed if frozen is None else frozen | fixed
    signed = ~fixed if signed is None else signed & ~fixed
    tiny = float(jnp.finfo(w.dtype).tiny)

    def steepness(w: jax.Array, gradient: jax.Array, hessian: jax.Array) -> jax.Array:
        """The size of the objective's own slope and of the Lagrangian's curvature."""
        own = gradient[:n] - w[n:] @ hessian[n:, :n]
        return jnp.max(jnp.abs(own)) + jnp.max(jnp.abs(hessian[:n, :n])) + tiny

    def point_at(w: jax.Array, active: Active) -> Point:
        gradient, hessian = second_order(value, w)
        finite = jnp.all(jnp.isfinite(hessian)) & jnp.all(jnp.isfinite(gradient))
        hessian = jnp.where(finite, hessian, 0)
        z, v, slope = w[:n], w[n + p :], gradient[:n]
        held = active.lower | active.upper
        pushed = jnp.where(active.lower, jnp.minimum(slope, 0), 0)
        pushed = jnp.where(active.upper, jnp.maximum(slope, 0), pushed)
        stationary = jnp.where(held, jnp.where(signed, pushed, 0), slope)
        rows, normals = gradient[n:], hessian[n:, :n]
        # Everything relative: to the objective's own slope and curvature, and to the variables.
        steep = steepness(w, gradient, hessian)
        unit = 1 + jnp.abs(z)
        length = row_units(normals, jnp.zeros_like(z))
        moved = jnp.concatenate([jnp.ones(p, bool), active.rows])
        violations = jnp.concatenate([
            stationary / steep,
            jnp.maximum(jnp.maximum(lower - z, z - upper), 0) / unit,
            jnp.where(held, z - active.target(lower, upper, p)[:n], 0) / unit,
            jnp.where(moved, rows, jnp.maximum(rows, 0)) / row_units(normals, z),
            jnp.minimum(v, 0) * length[p:] / steep,
            jnp.where(active.rows, 0, v) * length[p:] / steep,
        ])  # fmt: skip
        error = jnp.where(finite, jnp.max(jnp.abs(violations)), jnp.inf)
        return Point(
            w, active, gradient, hessian, spectral(restrict(hessian, active.free(p))), error
        )

    def step_from(point: Point) -> jax.Array:
        free, target = point.active.free(p), point.active.target(lower, upper, p)
        # Multipliers that have diverged (there is no interior, say) are solved for afresh, and
        # where they are not unique the smallest are taken.
        steep = steepness(point.w, point.gradient, point.hessian)
        pulled = jnp.max(jnp.abs(point.w[n:, None] * point.hessian[n:, :n]), initial=0)
        lost = (jnp.arange(len(w)) >= n) & free & (pulled > 1e4 * steep)
        old = jnp.where(lost, point.w, 0)
        held = jnp.where(free, 0, target - point.w)
        right = jnp.where(free, -point.gradient - point.hessian @ (held - old), 0)
        return jnp.where(free, point.factor.solve(right) - old, held)

    def length_of(w: jax.Array, step: jax.Array) -> jax.Array:
        unit = jnp.maximum(jnp.minimum(1 + jnp.abs(w[:n]), upper - lower), tiny)
        return jnp.max(
            jnp.where(fixed, 0, jnp.abs(step[:n]) / jnp.where(fixed, 1, unit)), initial=0
        )

    def body(state: _Search) -> _Search:
        point = point_at(state.w, state.active)
        step = step_from(point)
        length = length_of(state.w, step)
        better = point.error < state.best.error
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
        return _Search(
            jnp.where(finite, w, state.w), revised, best, jnp.where(better, length, state.length),
            state.steps + 1, (jnp.all(jnp.stack(same)) & (length <= tol)) | ~finite,
        )  # fmt: skip

    size = len(w)
    blank = Point(
        w, active, jnp.zeros(size, w.dtype), jnp.zeros((size, size), w.dtype),
        Spectral(jnp.zeros(size, w.dtype), jnp.eye(size, dtype=w.dtype), jnp.ones(size, w.dtype)),
        jnp.full((), jnp.inf, w.dtype),
    )  # fmt: skip
    state = _Search(
        w,
        active,
        blank,
        jnp.full((), jnp.inf, w.dtype),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < rounds), body, state)
    return state.best, step_from(state.best), state.length
