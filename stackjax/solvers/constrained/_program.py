"""A small smooth program with well scaled rows, and its second-order model.

    minimise f(z, mu)   subject to   c(z, mu) = 0,   g(z, mu) <= 0.

It may depend on the weight mu of a barrier (see `_interior_point.py`). Its rows are `f`, then c,
then g.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

Evaluate = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]

# The largest gradient that a row keeps, cf. Waechter and Biegler 2006, section 3.8 (g_max).
_STEEPEST = 10
# A flatter objective is magnified as if it were this steep.
_FLATTEST = 1e-4


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


class Local(struct.PyTreeNode):
    """The program to second order at one iterate.

    Attributes:
      f: scalar.
      c: `[p]`.
      g: `[m]`.
      slope: `[n]` gradient of f.
      jac_c: `[p, n]`.
      jac_g: `[m, n]`.
      hessian: `[n, n]` of the Lagrangian.
    """

    f: jax.Array
    c: jax.Array
    g: jax.Array
    slope: jax.Array
    jac_c: jax.Array
    jac_g: jax.Array
    hessian: jax.Array

    @property
    def finite(self) -> jax.Array:
        """Whether all derivatives are numbers; a scalar bool."""
        finite = jnp.all(jnp.isfinite(self.hessian)) & jnp.all(jnp.isfinite(self.jac_c))
        return finite & jnp.all(jnp.isfinite(self.jac_g)) & jnp.all(jnp.isfinite(self.slope))


class Scaled(NamedTuple):
    """The program, each row times a factor.

    Attributes:
      evaluate: `(z [n], mu) -> (f, c [p], g [m])`, in its own units.
      scale: `[1 + p + m]` the rows' factors.
      n: number of variables.
      p: number of equalities.
      m: number of inequalities.
    """

    evaluate: Evaluate
    scale: jax.Array
    n: int
    p: int
    m: int

    def linearise(self, point: Iterate, mu: jax.Array) -> Local:
        """The model at a point."""
        p, dtype = self.p, point.z.dtype
        weights = jnp.concatenate([jnp.ones(1, dtype), point.equality, point.inequality])

        def reverse(z: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            scaled = lambda z: self.scale * _stacked(self.evaluate, z, mu)
            value, rows = _value_and_rows(scaled, z, 1 + p + self.m)
            return weights @ rows, (value, rows)

        push = lambda e: jax.jvp(reverse, (point.z,), (e,), has_aux=True)
        _, columns, (value, rows) = jax.vmap(push, out_axes=(None, 0, None))(
            jnp.eye(self.n, dtype=dtype)
        )
        return Local(
            value[0], value[1 : 1 + p], value[1 + p :],
            rows[0], rows[1 : 1 + p], rows[1 + p :],
            (columns + columns.T) / 2,
        )  # fmt: skip

    def blank(self, dtype: jnp.dtype) -> Local:
        """A model of zeros."""
        n, p, m = self.n, self.p, self.m
        zeros = lambda *shape: jnp.zeros(shape, dtype)
        return Local(zeros(), zeros(p), zeros(m), zeros(n), zeros(p, n), zeros(m, n), zeros(n, n))

    def unscaled(self, point: Iterate) -> Iterate:
        """A point of this program, in the units of the one that was scaled."""
        p, scale = self.p, self.scale
        return point.replace(
            inequality=point.inequality * scale[1 + p :] / scale[0],
            equality=point.equality * scale[1 : 1 + p] / scale[0],
            lower=point.lower / scale[0],
            upper=point.upper / scale[0],
            slack=point.slack / scale[1 + p :],
        )


def scaled_at(evaluate: Evaluate, z: jax.Array, barrier: float) -> tuple[Scaled, jax.Array]:
    """The program, scaled once by its gradients at one point, and its inequalities there.

    Args:
      evaluate: `(z [n], mu) -> (f, c [p], g [m])`.
      z: `[n]`.
      barrier: mu there.

    Returns:
      The `Scaled` program and its g, `[m]`.
    """
    dtype = z.dtype
    shapes = jax.eval_shape(evaluate, z, jnp.ones((), dtype))
    p, m = shapes[1].shape[0], shapes[2].shape[0]

    # No gradient at the start is to be far above 1.
    begin = lambda z: _stacked(evaluate, z, jnp.asarray(barrier, dtype))
    first, rows = _value_and_rows(begin, z, 1 + p + m)
    steepest = jnp.max(jnp.where(jnp.isfinite(rows), jnp.abs(rows), 0), axis=1)
    scale = 1 / jnp.maximum(1, steepest / _STEEPEST)
    # Likewise a utility in tiny units is magnified.
    magnified = 1 / jnp.clip(steepest[0], _FLATTEST, 1)
    scale = scale.at[0].multiply(magnified)
    return Scaled(evaluate, scale, len(z), p, m), (scale * first)[1 + p :]


def _stacked(evaluate: Evaluate, z: jax.Array, mu: jax.Array) -> jax.Array:
    """`[1 + p + m]`: f, c and g."""
    return jnp.concatenate([jnp.ravel(part) for part in evaluate(z, mu)])


def _value_and_rows(function: Callable, z: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """`function(z)`, `[size]`, and its Jacobian, `[size, n]`, one row at a time."""
    value, pull = jax.vjp(function, z)
    return value, jax.vmap(lambda e: pull(e)[0])(jnp.eye(size, dtype=z.dtype))
