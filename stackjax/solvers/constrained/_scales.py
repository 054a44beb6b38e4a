"""Units in which a constrained problem is searched, chosen from the problem alone.

Methods for constrained problems compare quantities of different kinds: a barrier with a slack, a
multiplier with a slope, a violation with an improvement. In the units chosen here all are of order
one, so that no unit of the user's decides what a search does. The numbers are powers of two:
nothing is rounded on the way.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

Evaluate = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


class Scales(struct.PyTreeNode):
    """The problem's units.

    Attributes:
      variables: `[n]`.
      value: scalar, by which the objective is multiplied.
      equality: `[p]` by which each is multiplied.
      inequality: `[m]` likewise.
    """

    variables: jax.Array
    value: jax.Array
    equality: jax.Array
    inequality: jax.Array

    @property
    def point(self) -> jax.Array:
        """`[n + p + m]` by which a solution and its multipliers are multiplied to be the user's."""
        rows = jnp.concatenate([self.equality, self.inequality])
        return jnp.concatenate([self.variables, rows / self.value])

    def inside(
        self, start: jax.Array, lower: jax.Array, upper: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The start and the bounds in these units."""
        return start / self.variables, lower / self.variables, upper / self.variables

    def program(self, evaluate: Evaluate) -> Evaluate:
        """The problem in these units."""

        def scaled(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            f, c, g = evaluate(z * self.variables)
            return f * self.value, c * self.equality, g * self.inequality

        return scaled


def scales_at(evaluate: Evaluate, start: jax.Array, lower: jax.Array, upper: jax.Array) -> Scales:
    """The units of a problem, as it looks from the start.

    A variable's is its width; or else the least intercept of a constraint on its axis; or else its
    start; or else what others have.

    Args:
      evaluate: `z -> (f, c [p], g [m])`.
      start: `[n]`.
      lower: `[n]`.
      upper: `[n]`.
    """
    # What is not a number at the start says nothing.
    z = jnp.clip(jnp.where(jnp.isfinite(start), start, 0), lower, upper)
    p = jax.eval_shape(evaluate, z)[1].shape[0]
    values, slopes, bends, curved = _second_order(lambda z: jnp.concatenate(evaluate(z)[1:]), z)

    # From the origin to where a constraint is met, or from the start if it is curved: there it
    # may be flat.
    ratio = lambda top, below: jnp.where(
        (top > 0) & (below > 0), top / jnp.where(below > 0, below, 1), jnp.inf
    )
    # Of a curved constraint only what is large at the start says anything about further away.
    terms = jnp.abs(slopes * z[None])
    noise = jnp.where(curved, 0.02, 64 * float(jnp.finfo(z.dtype).eps))
    least = jnp.where(curved, 0.02, 0) * jnp.max(terms, axis=1, initial=0)
    constants = jnp.abs(values - slopes @ z)
    constants = jnp.where(constants > noise * jnp.sum(terms, axis=1), constants, 0)
    axis = ratio(constants[:, None], jnp.where(terms >= least[:, None], jnp.abs(slopes), 0))
    axis = jnp.minimum(axis, jnp.sqrt(ratio(2 * jnp.abs(values)[:, None], jnp.abs(bends))))
    axis = jnp.min(axis, axis=0, initial=jnp.inf)
    width = jnp.where(upper > lower, upper - lower, jnp.inf)
    some = lambda x: jnp.where((x > 0) & jnp.isfinite(x), x, jnp.nan)
    unit = some(width)
    for other in (some(axis), some(jnp.abs(start))):
        unit = jnp.where(jnp.isnan(unit), other, unit)
    known = jnp.where(jnp.isnan(unit), 0, unit)
    largest = jnp.max(known, initial=0)
    unit = jnp.where(jnp.isnan(unit), jnp.where(largest > 0, largest, 1), unit)
    unit = _power(unit)

    sizes = jnp.maximum(jnp.abs(slopes) * unit[None], jnp.abs(bends) * unit[None] ** 2 / 2)
    rows = _inverse(jnp.maximum(jnp.max(sizes, axis=1, initial=0), jnp.abs(values)))
    value = utility_scale(lambda z: evaluate(z)[0], within(z, lower, upper, unit), unit)
    return Scales(unit, value, rows[:p], rows[p:])


def within(z: jax.Array, lower: jax.Array, upper: jax.Array, unit: jax.Array) -> jax.Array:
    """`z`, `[n]`, moved off bounds, where utilities may have poles, by a hundredth of a unit."""
    middle = jnp.where(jnp.isfinite(upper - lower), lower / 2 + upper / 2, z)
    low, high = jnp.minimum(lower + 0.01 * unit, middle), jnp.maximum(upper - 0.01 * unit, middle)
    return jnp.clip(z, low, high)


def utility_scale(
    utility: Callable[[jax.Array], jax.Array], z: jax.Array, unit: jax.Array
) -> jax.Array:
    """By what to multiply a utility so that it changes by about one a unit; a scalar.

    Args:
      utility: `[n] -> scalar`.
      z: `[n]` where to look at it.
      unit: `[n]` the variables' units.
    """
    # It may be flat there: what its slope becomes a unit further on counts too.
    slope, bent = jax.jvp(jax.grad(utility), (z,), (unit,))
    sizes = [jnp.max(jnp.abs(jnp.where(jnp.isfinite(x), x, 0)) * unit) for x in (slope, bent)]
    return _inverse(jnp.maximum(*sizes))


def _second_order(rows: Callable[[jax.Array], jax.Array], z: jax.Array) -> tuple[jax.Array, ...]:
    """Values `[k]`, slopes and second derivatives on the axes `[k, n]`; `[k]`, which are curved."""

    def jacobian(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pull = jax.vjp(rows, z)
        return jax.vmap(lambda e: pull(e)[0])(jnp.eye(len(values), dtype=z.dtype)), values

    slopes, push, values = jax.linearize(jacobian, z, has_aux=True)
    number = lambda x: jnp.where(jnp.isfinite(x), x, 0)
    bends = number(jax.vmap(push)(jnp.eye(len(z), dtype=z.dtype)))
    curved = jnp.max(jnp.abs(bends), axis=(0, 2), initial=0) > 0
    return number(values), number(slopes), jnp.diagonal(bends, axis1=0, axis2=2), curved


def _inverse(size: jax.Array) -> jax.Array:
    return 1 / _power(jnp.where(size > 0, size, 1))


def _power(x: jax.Array) -> jax.Array:
    """The power of two next to it."""
    return jnp.exp2(jnp.round(jnp.log2(x)))
