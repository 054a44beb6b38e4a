"""Shares of a total."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from optax.projections import projection_simplex

from stackjax._arrays.arguments import list_advice
from stackjax._arrays.typing import PyTree
from stackjax.sets._arguments import broadcast, check_numbers, concrete, ravel
from stackjax.sets._base import FeasibleSet


@dataclasses.dataclass(frozen=True)
class Simplex(FeasibleSet):
    """Nonnegative shares of a total, `y >= 0` and `sum(y) = total` along the last axis.

    A leaf of shape `[..., k]` is a product of simplices, one for each index of its leading axes.

    The total may be traced and is differentiable: the shares move with it.

    Attributes:
      total: what the shares sum to, positive: a number, an array that broadcasts against the
        leading axes `[...]` of every leaf, or a pytree of such, with the point's structure or a
        prefix of it.

    Raises:
      TypeError: `total` is not a number.
      ValueError: `total` is not positive and finite (unchecked under a trace), or does not
        broadcast; the point has a leaf without a last axis, or nothing along it.

    Example:
      >>> budget = sj.Simplex(total=2.0)
      >>> budget.project(jnp.array([1.5, 1.0, -3.0]))
      Array([1.25, 0.75, 0.  ], dtype=float32)

    Source: Held, Wolfe and Crowder 1974, 'Validation of subgradient optimization' (the projection,
    by sorting).
    """

    projectable: ClassVar[bool] = True
    has_support: ClassVar[bool] = True

    total: PyTree = 1.0

    def __post_init__(self) -> None:
        if not jax.tree.leaves(self.total):
            raise TypeError(f"Simplex: `total` must hold numbers; got {self.total!r}.")
        check_numbers("Simplex", "total", self.total)
        for leaf in concrete(self.total):
            wrong = leaf[~(np.isfinite(leaf) & (leaf > 0))]
            if wrong.size:
                raise ValueError(f"Simplex: `total` must be positive and finite; got {wrong[0]}.")

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Zero, and the total of the simplex that each coordinate belongs to.

        Raises:
          ValueError: as the class says.
        """
        upper = jax.tree.map(
            lambda y, total: jnp.broadcast_to(total[..., None], jnp.shape(y)),
            point,
            self._totals(point),
        )
        return jax.tree.map(jnp.zeros_like, upper), upper

    @property
    def open_sides(self) -> tuple[bool, bool]:
        """As the base class says."""
        return False, True  # the upper bounds follow from the sum

    def residuals(
        self, point: PyTree, action: PyTree, response: PyTree, context: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """No inequality, and one equality for each simplex, `sum(y) - total`."""
        excess = jax.tree.map(
            lambda y, total: jnp.sum(jnp.asarray(y), -1) - total, point, self._totals(point)
        )
        equality = ravel(excess)
        return jnp.zeros(0, equality.dtype), equality

    def project(self, point: PyTree) -> PyTree:
        """Euclidean projection of `point` (a pytree of arrays), exact, in `O(k log k)`.

        Its derivatives are those on the face that holds the projection.
        """
        nearest = jnp.vectorize(projection_simplex, signature="(k),()->(k)")

        def one(y: jax.Array, total: jax.Array) -> jax.Array:
            # A common shift changes nothing, and keeps large numbers from drowning the total.
            return nearest(y - lax.stop_gradient(jnp.max(y, -1, keepdims=True)), total)

        return jax.tree.map(one, point, self._totals(point))

    def support_point(self, slope: PyTree) -> PyTree:
        """The whole total at the largest slope, at the first of several."""

        def one(u: jax.Array, total: jax.Array) -> jax.Array:
            u = jnp.asarray(u)
            return total[..., None] * jax.nn.one_hot(jnp.argmax(u, -1), u.shape[-1], dtype=u.dtype)

        return jax.tree.map(one, slope, self._totals(slope))

    def _totals(self, point: PyTree) -> PyTree:
        for y in jax.tree.leaves(point):
            if not jnp.ndim(y) or not jnp.shape(y)[-1]:
                raise ValueError(
                    "Simplex: a point must have a last axis with at least one share; got a leaf of "
                    f"shape {jnp.shape(y)}.{list_advice(point)}"
                )
        return broadcast("Simplex", "total", self.total, point, lambda y: jnp.shape(y)[:-1])
