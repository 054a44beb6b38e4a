"""Constraints as operators, and the units of a problem at a point, from a few products.

For `minimise f(z) s.t. c(z) = 0, g(z) <= 0` stack the rows, c before g, with their multipliers
`prices`; the Lagrangian is `L = f + prices . rows`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._bounds import Bounds
from stackjax.solvers._conjugate import Product
from stackjax.solvers._optimality import Evaluate
from stackjax.solvers.newton._matrix_free import sizes_of

_PROBES = 16
# Where the objective has no curvature of its own, it is taken to have these parts of what would
# bend its slope away within the reach: in its own coordinate, and in the steepest one.
_OWN, _STEEPEST = 1e-2, 1e-4


class Operators(NamedTuple):
    """The problem to second order at one point: numbers, and maps linear in their argument.

    Attributes:
      slope: `[d]` the Lagrangian's gradient.
      rows: `[k]`.
      bend: `v -> H v`, `[d] -> [d]`.
      push: `v -> J v`, `[d] -> [k]`.
      pull: `u -> J' u`.
    """

    slope: jax.Array
    rows: jax.Array
    bend: Product
    push: Product
    pull: Product


class Local(struct.PyTreeNode):
    """The sizes of all that the problem is made of at one point.

    Attributes:
      value: scalar f.
      own: `[d]` gradient of f.
      slope: `[d]` of the Lagrangian.
      rows: `[k]`.
      sizes: `[d]` of the rows of the Lagrangian's Hessian, as `sizes_of` has them.
      norms: `[k]`, `J_i D^-1 J_i'` with D the curvature: in the unit of a row squared, over f's.
      curved: `[d]` the diagonal D, positive: `sizes`, or the least that counts as curvature.
      terms: `[d]` the size of the terms that the Lagrangian's gradient is the sum of.
      row_terms: `[k]` of those of each constraint, its constant among them.
    """

    value: jax.Array
    own: jax.Array
    slope: jax.Array
    rows: jax.Array
    sizes: jax.Array
    norms: jax.Array
    curved: jax.Array
    terms: jax.Array
    row_terms: jax.Array

    @property
    def finite(self) -> jax.Array:
        """Whether all derivatives are numbers; a scalar bool."""
        parts = (self.value, self.own, self.slope, self.rows, self.sizes, self.norms)
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(part)) for part in parts]))


def stacked(evaluate: Evaluate) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """`z -> (f, rows [k])`."""

    def both(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        f, c, g = evaluate(z)
        return f, jnp.concatenate([c, g])

    return both


def operators(evaluate: Evaluate, z: jax.Array, prices: jax.Array) -> Operators:
    """The problem `z -> (f, c, g)` at `z`, with multipliers `prices`."""

    def value(z: jax.Array) -> jax.Array:
        f, rows = stacked(evaluate)(z)
        return f + jnp.sum(prices * rows)

    rows = lambda z: stacked(evaluate)(z)[1]
    slope, bend = jax.linearize(jax.grad(value), z)
    reached, push = jax.linearize(rows, z)
    _, pull = jax.vjp(rows, z)
    return Operators(slope, reached, bend, push, lambda u: pull(u)[0])


def local(
    evaluate: Evaluate, made: Operators, z: jax.Array, prices: jax.Array, box: Bounds
) -> Local:
    """The problem at a point, where its operators have been `made`."""
    value, own = jax.value_and_grad(lambda z: evaluate(z)[0])(z)
    slope, rows, bend, push, pull = made
    sizes = sizes_of(bend, z)
    curved = _curvature(sizes, own, box.reach(z))
    # With normal random numbers a row's image is never 0 by accident.
    key = jax.random.key(0)
    over_z = jax.random.normal(key, (_PROBES, len(z)), z.dtype)
    over_rows = jax.random.normal(key, (_PROBES, len(rows)), z.dtype)
    square = lambda images: jnp.mean(images**2, axis=0)
    norms = square(jax.vmap(push)(over_z / jnp.sqrt(curved)[None]))
    pulled = jnp.sqrt(square(jax.vmap(pull)(over_rows * prices[None])))
    image = push(z)
    return Local(
        value,
        own,
        slope,
        rows,
        sizes,
        jnp.where(norms > 0, norms, 1),
        curved,
        jnp.abs(own) + pulled + sizes * jnp.abs(z),
        jnp.sqrt(square(jax.vmap(push)(over_z * z[None]))) + jnp.abs(rows - image),
    )


def _curvature(sizes: jax.Array, own: jax.Array, reach: jax.Array) -> jax.Array:
    """`[d]` what one change of a coordinate costs, also where the objective is linear in it."""
    info = jnp.finfo(sizes.dtype)
    steep = jnp.abs(own)
    least = _STEEPEST * jnp.max(steep * reach) / reach**2
    curved = jnp.maximum(jnp.maximum(sizes, _OWN * steep / reach), least)
    # (a constant objective: any unit will do)
    curved = jnp.where(jnp.max(curved) > 0, curved, 1 / reach**2)
    return jnp.maximum(curved, jnp.maximum(jnp.max(curved) * float(info.eps) ** 2, info.tiny))
