"""A Euclidean ball."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax._arrays.typing import PyTree
from stackjax.sets._arguments import broadcast, check_numbers, concrete, ravel
from stackjax.sets._base import FeasibleSet


@dataclasses.dataclass(frozen=True)
class Ball(FeasibleSet):
    """A Euclidean ball, `|y - center| <= radius`, over the whole point (all leaves together).

    Center and radius may be traced and are differentiable: on the sphere the best response moves
    with them.

    Attributes:
      center: a number or an array that broadcasts against every leaf of the point, or a pytree of
        such, with the point's structure or a prefix of it.
      radius: one number, positive.

    Raises:
      TypeError: `center` or `radius` is not a number.
      ValueError: `center` is not finite, or `radius` not positive and finite (unchecked under a
        trace); `center` does not broadcast to the point, or `radius` is not one number (both at
        first use, so that a batch of balls can be built and mapped over).

    Example:
      >>> ball = sj.Ball(center=1.0, radius=5.0)
      >>> ball.project(jnp.array([7.0, 9.0]))
      Array([4., 5.], dtype=float32)
    """

    projectable: ClassVar[bool] = True
    has_support: ClassVar[bool] = True

    center: PyTree = 0.0
    radius: jax.typing.ArrayLike = 1.0

    def __post_init__(self) -> None:
        for name, value in (("center", self.center), ("radius", self.radius)):
            if not jax.tree.leaves(value):
                raise TypeError(f"Ball: `{name}` must hold numbers; got {value!r}.")
            check_numbers("Ball", name, value)
            for leaf in concrete(value):
                if not np.isfinite(leaf).all():
                    raise ValueError(f"Ball: `{name}` must be finite; got {leaf}.")
        for leaf in concrete(self.radius):
            if not (leaf > 0).all():
                raise ValueError(f"Ball: `radius` must be positive; got {leaf}.")

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """The whole space: no bound on any coordinate."""
        lower = jax.tree.map(lambda y: jnp.full(jnp.shape(y), -jnp.inf, jnp.result_type(y)), point)
        return lower, jax.tree.map(jnp.negative, lower)

    @property
    def open_sides(self) -> tuple[bool, bool]:
        """As the base class says."""
        return True, True  # its bounds follow from the radius

    def residuals(
        self, point: PyTree, action: PyTree, response: PyTree, context: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """One inequality, `(|y - center|^2 - radius^2) / (2 radius)`, and no equality.

        Near the sphere it is the distance to it; it is smooth everywhere.
        """
        offset = ravel(jax.tree.map(jnp.subtract, point, self._center(point)))
        radius = self._radius(offset.dtype)
        excess = (jnp.sum(offset**2) - radius**2) / (2 * radius)
        return excess[None], jnp.zeros(0, offset.dtype)

    def project(self, point: PyTree) -> PyTree:
        """Euclidean projection of `point` (a pytree of arrays) onto the ball."""
        center = self._center(point)
        offset = jax.tree.map(jnp.subtract, point, center)
        flat = ravel(offset)
        # In units of the largest number, whose square cannot overflow.
        unit = lax.stop_gradient(
            jnp.maximum(jnp.max(jnp.abs(flat), initial=0), self._radius(flat.dtype))
        )
        radius = self._radius(flat.dtype) / unit
        squared = jnp.sum((flat / unit) ** 2)
        outside = squared > radius**2
        shrink = jnp.where(outside, radius / jnp.sqrt(jnp.where(outside, squared, 1)), 1)
        return jax.tree.map(
            lambda y, c, step: jnp.where(outside, c + (shrink * step).astype(c.dtype), y),
            point,
            center,
            offset,
        )

    def support_point(self, slope: PyTree) -> PyTree:
        """The point of the sphere in the slope's direction; the center where the slope is 0."""
        flat = ravel(slope)
        size = lax.stop_gradient(jnp.max(jnp.abs(flat), initial=0))
        unit = jnp.where(size > 0, size, 1)
        squared = jnp.sum((flat / unit) ** 2)
        norm = jnp.sqrt(jnp.where(squared > 0, squared, 1))
        reach = self._radius(flat.dtype) / norm / unit
        return jax.tree.map(
            lambda c, u: c + (reach * u).astype(c.dtype), self._center(slope), slope
        )

    def _center(self, point: PyTree) -> PyTree:
        return broadcast("Ball", "center", self.center, point)

    def _radius(self, dtype: jnp.dtype) -> jax.Array:
        if jnp.shape(self.radius) != ():
            raise ValueError(
                f"Ball: `radius` must be one number (shape ()); got shape {jnp.shape(self.radius)}."
            )
        return jnp.asarray(self.radius, dtype)
