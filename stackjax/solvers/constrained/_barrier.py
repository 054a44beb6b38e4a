"""The logarithmic barrier of an interior-point method: its function, slope and residuals.

Of a program whose inequalities have slacks (`g + s = 0`, `s > 0`) within bounds, the barrier
function is

    phi = f - mu (sum log(z - lower) + sum log(upper - z) + sum log s),

over the finite bounds. References are to Waechter and Biegler, Mathematical Programming 106, 2006.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stackjax.solvers.constrained._program import Iterate, Local

# Multipliers count as large, and errors in their unit as small, from this mean on (s_max in (5)).
_LARGE_MULTIPLIER = 100


class Barrier(NamedTuple):
    """The bounds that have a barrier. A coordinate with `lower == upper` is fixed and has none.

    Attributes:
      has_lower: `[n]` bool.
      has_upper: `[n]` bool.
      low: `[n]` lower bounds; 0 for none.
      high: `[n]` upper bounds; 0 for none.
      fixed: `[n]` bool.
      free: `[n]` 0 where fixed, else 1.
    """

    has_lower: jax.Array
    has_upper: jax.Array
    low: jax.Array
    high: jax.Array
    fixed: jax.Array
    free: jax.Array

    def gaps(self, point: Iterate) -> tuple[jax.Array, jax.Array]:
        """The distances to the bounds, `[n]` each; 1 for none."""
        return (
            jnp.where(self.has_lower, point.z - self.low, 1),
            jnp.where(self.has_upper, self.high - point.z, 1),
        )

    def value(self, point: Iterate, f: jax.Array, mu: jax.Array) -> jax.Array:
        """The barrier function phi, a scalar."""
        below, above = self.gaps(point)
        logs = jnp.sum(jnp.log(below)) + jnp.sum(jnp.log(above)) + jnp.sum(jnp.log(point.slack))
        return f - mu * logs

    def slope(self, point: Iterate, local: Local, mu: jax.Array) -> jax.Array:
        """The gradient of phi in z, `[n]`."""
        below, above = self.gaps(point)
        slope = local.slope - jnp.where(self.has_lower, mu / below, 0)
        return slope + jnp.where(self.has_upper, mu / above, 0)

    def error(self, point: Iterate, local: Local, mu: jax.Array) -> jax.Array:
        """The largest residual of the primal-dual equations, a scalar: E_mu in (5)."""
        below, above = self.gaps(point)
        dual = local.slope + point.equality @ local.jac_c + point.inequality @ local.jac_g
        dual = (dual - point.lower + point.upper) * self.free
        size = jnp.sum(jnp.abs(point.equality)) + jnp.sum(point.inequality)
        count = 2 * len(point.z) + len(point.slack) + len(point.equality)
        size = (size + jnp.sum(point.lower + point.upper)) / count
        down = jnp.maximum(1, size / _LARGE_MULTIPLIER)
        every = [
            dual / down,
            local.c,
            local.g + point.slack,
            (point.slack * point.inequality - mu) / down,
            jnp.where(self.has_lower, below * point.lower - mu, 0) / down,
            jnp.where(self.has_upper, above * point.upper - mu, 0) / down,
        ]
        return jnp.max(jnp.abs(jnp.concatenate(every)))

    def active(self, point: Iterate) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Which inequalities `[m]`, lower `[n]` and upper bounds `[n]` have more price than gap."""
        below, above = self.gaps(point)
        return (
            point.inequality > point.slack,
            (self.has_lower & (point.lower > below)) | self.fixed,
            self.has_upper & (point.upper > above),
        )


def barrier_on(lower: jax.Array, upper: jax.Array, dtype: jnp.dtype) -> Barrier:
    """The barrier of bounds, `[n]` each, -inf or inf for none."""
    has_lower, has_upper = jnp.isfinite(lower), jnp.isfinite(upper)
    fixed = lower >= upper
    free = (~fixed).astype(dtype)
    has_lower, has_upper = has_lower & ~fixed, has_upper & ~fixed
    low, high = jnp.where(has_lower, lower, 0), jnp.where(has_upper, upper, 0)
    return Barrier(has_lower, has_upper, low, high, fixed, free)


def infeasibility(point: Iterate, local: Local) -> jax.Array:
    """By how much the constraints are violated, a scalar: theta."""
    return jnp.sum(jnp.abs(local.c)) + jnp.sum(jnp.abs(local.g + point.slack))
