"""A box as two vectors, and lengths, blocked coordinates and Newton steps in it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stackjax.solvers.newton._second_order import Model, Point


class Bounds(NamedTuple):
    """The box, and lengths in it.

    Attributes:
      lower: `[d]`.
      upper: `[d]`.
    """

    lower: jax.Array
    upper: jax.Array

    def clip(self, y: jax.Array) -> jax.Array:
        """The nearest point of the box."""
        return jnp.clip(y, self.lower, self.upper)

    def length(self, y: jax.Array, step: jax.Array, natural: jax.Array | float = 0.0) -> jax.Array:
        """The largest coordinate of a step from `y`, as `Quality.residual` measures it."""
        return jnp.max(jnp.abs(self.clip(y + step) - y) / self.unit(y, step, natural))

    def unit(self, y: jax.Array, step: jax.Array, natural: jax.Array | float = 0.0) -> jax.Array:
        """`[d]` what each coordinate of a step from `y` is measured in, at least `natural`."""
        tiny = float(jnp.finfo(y.dtype).tiny)
        reached = jnp.maximum(jnp.abs(y) + jnp.abs(step), natural)
        return jnp.maximum(jnp.minimum(reached, self.upper - self.lower), tiny)

    def reach(self, y: jax.Array) -> jax.Array:
        """`[d]` the longest step that is worth a trial where curvature sets no length."""
        width = self.upper - self.lower
        size = jnp.maximum(jnp.abs(y), jnp.max(jnp.abs(y)))
        return jnp.where(jnp.isfinite(width), width, 10 * jnp.where(size > 0, size, 1))

    def inner(self, y: jax.Array) -> jax.Array:
        """`[d]` a point well inside, towards which to move where f is not a number at `y`."""
        low, high = jnp.isfinite(self.lower), jnp.isfinite(self.upper)
        away = jnp.where(y != 0, jnp.abs(y), 1)
        one = jnp.where(low, self.lower + away, jnp.where(high, self.upper - away, y))
        return jnp.where(low & high, self.lower / 2 + self.upper / 2, one)

    def blocked(
        self, y: jax.Array, gradient: jax.Array, near: jax.Array | float = 0.0
    ) -> jax.Array:
        """`[d]` whether a coordinate is at (or `near`) a bound and is pushed against it."""
        at_lower = (y <= self.lower + near) & (gradient > 0)
        at_upper = (y >= self.upper - near) & (gradient < 0)
        return at_lower | at_upper | (self.lower == self.upper)

    def newton(
        self,
        model: Model,
        y: jax.Array,
        point: Point,
        last: jax.Array,
        error: jax.Array,
        fresh: jax.Array | bool = True,
    ) -> tuple[jax.Array, jax.Array]:
        """The Newton step from `y`, and whether the curvature is that of a minimum."""
        tiny = float(jnp.finfo(y.dtype).tiny)
        alone = -point.gradient / jnp.maximum(model.sizes(point.hessian), 1e6 * tiny)
        # Coordinates about to hit their bound move on their own, which keeps the step a descent.
        moved = jnp.abs(self.clip(y + alone) - y)
        width = jnp.where(jnp.isfinite(self.upper - self.lower), self.upper - self.lower, 2 * moved)
        share = jnp.max(moved / jnp.where(width > 0, width, 1))
        near = jnp.minimum(share, 1e-3) * width
        free = ~self.blocked(y, point.gradient, near)
        together, convex = model.step(y, point, free, last, error, fresh)
        return jnp.where(free, together, alone), convex
