"""Optimality conditions on a known active set.

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

from stackjax.solvers._implicit import differentiate

Evaluate = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


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


class Linearised(struct.PyTreeNode):
    """The optimality conditions to first order. Floating point, flags too, for `detached`.

    Attributes:
      at_lower: `[n]` 1 where a lower bound holds the variable, else 0.
      at_upper: `[n]` likewise.
      rows: `[m]` 1 where an inequality is active, else 0.
      hessian: `[n + p + m, ...]` the KKT matrix; 0 where it is not a number.
      inverse: `[n + p + m, ...]` symmetric, a generalised inverse of its free part; the rest is
        not read.
    """

    at_lower: jax.Array
    at_upper: jax.Array
    rows: jax.Array
    hessian: jax.Array
    inverse: jax.Array

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
        free = active.free(p)

        def solve(b: jax.Array) -> jax.Array:
            only = lambda x: jnp.where(free, x, 0)
            x = only(exactly(self.inverse, only(b)))
            # once refined: what rounding did to the inverse enters squared
            return x + only(exactly(self.inverse, only(b - exactly(self.hessian, x))))

        return differentiate(
            lagrangian(evaluate, n, p),
            w,
            free=free,
            target=active.target(lower, upper, p),
            hessian_product=lambda v: exactly(self.hessian, v),
            solve_free=solve,
            finite=finite,
        )


def lagrangian(evaluate: Evaluate, n: int, p: int) -> Callable[[jax.Array], jax.Array]:
    """`w -> L(w)`."""

    def value(w: jax.Array) -> jax.Array:
        f, c, g = evaluate(w[:n])
        return f + w[n : n + p] @ c + w[n + p :] @ g

    return value


def row_units(normals: jax.Array, z: jax.Array) -> jax.Array:
    """`[k]` the size that a constraint's largest term may have: what its violation is held to."""
    size = jnp.max(jnp.abs(normals) * (1 + jnp.abs(z))[None], axis=1, initial=0)
    return jnp.where(size > 0, size, 1)


def row_sizes(normals: jax.Array, rows: jax.Array, z: jax.Array) -> jax.Array:
    """`[k]` the size of the terms that each constraint is the sum of, its constant among them.

    Args:
      normals: `[k, n]` gradients of the constraints.
      rows: `[k]` their values.
      z: `[n]` the point.
    """
    constant = rows - exactly(normals, z)
    return jnp.abs(normals) @ jnp.abs(z) + jnp.abs(constant)


def step_length(w: jax.Array, step: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Of a step from `w`: its largest entry in z, relative to `min(1 + |z|, upper - lower)`."""
    n, tiny = len(lower), float(jnp.finfo(w.dtype).tiny)
    fixed = lower >= upper
    unit = jnp.maximum(jnp.minimum(1 + jnp.abs(w[:n]), upper - lower), tiny)
    relative = jnp.where(fixed, 0, jnp.abs(step[:n]) / jnp.where(fixed, 1, unit))
    return jnp.max(relative, initial=0)


def steepness(w: jax.Array, gradient: jax.Array, hessian: jax.Array, n: int) -> jax.Array:
    """The size of the objective's own slope and of the Lagrangian's curvature."""
    own = gradient[:n] - w[n:] @ hessian[n:, :n]
    tiny = float(jnp.finfo(w.dtype).tiny)
    return jnp.max(jnp.abs(own)) + jnp.max(jnp.abs(hessian[:n, :n])) + tiny


def violation(
    w: jax.Array,
    active: Active,
    gradient: jax.Array,
    hessian: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    signed: jax.Array | None = None,
) -> jax.Array:
    """The largest violation of the optimality conditions, a scalar.

    Everything is relative: to the objective's own slope and curvature, and to the variables.

    Args:
      w: `[n + p + m]` the point.
      active: the active set.
      gradient: `[n + p + m]` of the Lagrangian.
      hessian: `[n + p + m, ...]` of the Lagrangian.
      lower: `[n]`.
      upper: `[n]`.
      signed: `[n]` bool, coordinates whose multiplier must have the sign of its bound; all if
        None.
    """
    n = len(lower)
    p = len(w) - n - len(active.rows)
    signed = lower < upper if signed is None else signed & (lower < upper)
    z, v, slope = w[:n], w[n + p :], gradient[:n]
    held = active.lower | active.upper
    pushed = jnp.where(active.lower, jnp.minimum(slope, 0), 0)
    pushed = jnp.where(active.upper, jnp.maximum(slope, 0), pushed)
    stationary = jnp.where(held, jnp.where(signed, pushed, 0), slope)
    rows, normals = gradient[n:], hessian[n:, :n]
    steep = steepness(w, gradient, hessian, n)
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
    return jnp.max(jnp.abs(violations))


def exactly(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix product, in full precision on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
