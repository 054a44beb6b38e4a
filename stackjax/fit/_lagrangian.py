"""What constraints on averages cost, and how their multipliers are found."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

# Over minibatches, constraints have a running mean, and a penalty less steep: measured on duopolies
# with a bound on a mean, where longer means and steeper penalties swing.
_SMOOTH, _GENTLE = 0.5, 0.25
# A penalty grows by this factor where a bound stays broken for two periods on end, and by more than
# this share of the period before; not for less than 1e-2 of the most that was seen.
_STEEPER, _SLOW, _BROKEN = 4.0, 0.9, 1e-2


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
      total: `[k]` their sum in the period at hand, of as many steps as a multiplier settles in.
      square: `[k]` that of their squares.
      high: `[k]` the largest in it.
      before: `[k]` by how much the last period broke the bound throughout; 0 if it did not.
      most: `[k]` the largest constraint so far, in size.
      age: `[]` steps so far.
    """

    multiplier: jax.Array
    penalty: jax.Array
    margin: jax.Array
    total: jax.Array
    square: jax.Array
    high: jax.Array
    before: jax.Array
    most: jax.Array
    age: jax.Array

    @classmethod
    def none(cls, count: int, dtype: jnp.dtype) -> "Prices":
        """Those of `count` constraints, before the first step."""
        zero = jnp.zeros(count, dtype)
        none = jnp.full(count, -jnp.inf, dtype)
        return cls(zero, zero, zero, zero, zero, none, zero, zero, jnp.zeros((), jnp.int32))

    def cost(self, constraints: jax.Array, units: jax.Array | None, terms: Terms) -> jax.Array:
        """`sum_i (max(0, price_i - penalty_i c_i)^2 - price_i^2) / 2 penalty_i`.

        The augmented Lagrangian of inequalities (Rockafellar, Journal of Optimization Theory and
        Applications 12, 1973). Its curvature damps the swings of a Lagrangian that is ascended in
        the prices at every step.

        In noisy minibatches its square would punish their variance: the pressure then follows the
        running mean (Stooke, Achiam and Abbeel, ICML 2020), and the same gradient results on
        average.
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
        """The prices after a step; arguments as in `cost`.

        Where the utility was alike in all rows at first, as at its own optimum, its spread says
        little of what the penalty should be; so where a bound stays broken the penalty grows, as
        is usual for an augmented Lagrangian (Nocedal and Wright, Numerical Optimization, 17.4).
        """
        if not constraints.size:
            return self
        constraints = constraints.astype(self.multiplier.dtype)
        penalty = self._penalty(units, terms)
        moved = self.multiplier - penalty / terms.settling * constraints
        margin = _SMOOTH * self.margin + (1 - _SMOOTH) * constraints
        period = round(terms.settling)
        total, square = self.total + constraints, self.square + constraints**2
        high = jnp.maximum(self.high, constraints)
        most = jnp.maximum(self.most, jnp.abs(constraints))
        mean, age = total / period, self.age + 1
        # In minibatches no step tells; the mean must be beyond their noise.
        error = jnp.sqrt(jnp.maximum(square / period - mean**2, 0) / period)
        throughout = mean < -2 * error if terms.noisy else high < 0
        broken = jnp.where(throughout & (-mean > _BROKEN * most), -mean, 0)
        due = age % period == 0
        stays = (self.before > 0) & (broken > _SLOW * self.before)
        if terms.rate is None:
            penalty = jnp.where(due & stays, _STEEPER * penalty, penalty)
        return Prices(
            multiplier=jnp.maximum(0, moved),
            penalty=penalty,
            margin=margin,
            total=jnp.where(due, 0, total),
            square=jnp.where(due, 0, square),
            high=jnp.where(due, -jnp.inf, high),
            before=jnp.where(due, broken, self.before),
            most=most,
            age=age,
        )

    def _penalty(self, units: jax.Array | None, terms: Terms) -> jax.Array:
        if terms.rate is not None:
            return jnp.full_like(self.penalty, terms.rate * terms.settling)
        found = jnp.asarray(units, self.penalty.dtype) * (_GENTLE if terms.noisy else 1)
        return jnp.where(self.penalty > 0, self.penalty, found)
