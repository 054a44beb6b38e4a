"""What constraints on averages cost, and how their multipliers are found."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

# Over minibatches, constraints have a running mean, and a penalty less steep: measured on duopolies
# with a bound on a mean, where longer means and steeper penalties swing.
_SMOOTH, _GENTLE = 0.5, 0.25


class Terms(NamedTuple):
    """How multipliers are ascended.

    Attributes:
      rate: by how much one moves in a step for a unit of its constraint; None for a rate that
        suits the units of the first rows.
      settling: steps in which a multiplier makes up for what the penalty alone leaves.
      noisy: whether constraints are means over minibatches.
    """

    rate: float | None
    settling: float
    noisy: bool


class Prices(struct.PyTreeNode):
    """The multipliers of k constraints `c >= 0`, and what finds them.

    Attributes:
      multiplier: `[k]`.
      penalty: `[k]` curvature of the penalty beside it; 0 before the first step.
      margin: `[k]` running mean of the constraints.
    """

    multiplier: jax.Array
    penalty: jax.Array
    margin: jax.Array

    @classmethod
    def none(cls, count: int, dtype: jnp.dtype) -> "Prices":
        """Those of `count` constraints, before the first step."""
        zero = jnp.zeros(count, dtype)
        return cls(zero, zero, zero)

    def cost(self, constraints: jax.Array, units: jax.Array | None, terms: Terms) -> jax.Array:
        """`sum_i (max(0, price_i - penalty_i c_i)^2 - price_i^2) / 2 penalty_i`.

        The augmented Lagrangian of inequalities (Rockafellar, Journal of Optimization Theory and
        Applications 12, 1973). Its curvature damps the swings of a Lagrangian that is ascended in
        the prices at every step.

        In noisy minibatches its square would punish their variance: the pressure then follows the
        running mean (Stooke, Achiam and Abbeel, ICML 2020), and the same gradient results on
        average.

        Args:
          constraints: `[k]`.
          units: `[k]` a curvature that suits their units.
          terms: as agreed.
        """
        if not constraints.size:
            return jnp.zeros((), constraints.dtype)
        penalty = self._penalty(units, terms)
        margin = self.margin if terms.noisy else constraints
        pressure = jnp.maximum(0, self.multiplier - penalty * margin)
        if terms.noisy:
            return -jnp.dot(jax.lax.stop_gradient(pressure), constraints)
        return jnp.sum((pressure**2 - self.multiplier**2) / (2 * penalty))

    def ascend(self, constraints: jax.Array, units: jax.Array | None, terms: Terms) -> "Prices":
        """The prices after a step; arguments as in `cost`."""
        if not constraints.size:
            return self
        constraints = constraints.astype(self.multiplier.dtype)
        penalty = self._penalty(units, terms)
        moved = self.multiplier - penalty / terms.settling * constraints
        margin = _SMOOTH * self.margin + (1 - _SMOOTH) * constraints
        return Prices(jnp.maximum(0, moved), penalty, margin)

    def _penalty(self, units: jax.Array | None, terms: Terms) -> jax.Array:
        if terms.rate is not None:
            return jnp.full_like(self.penalty, terms.rate * terms.settling)
        found = jnp.asarray(units, self.penalty.dtype) * (_GENTLE if terms.noisy else 1)
        return jnp.where(self.penalty > 0, self.penalty, found)
