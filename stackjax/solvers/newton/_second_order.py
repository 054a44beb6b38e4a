"""A function to second order at a point, and what Newton's method does with it.

The Hessian is formed and factorised here (`dense`), or used through products in `_matrix_free`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.factor import Factor, diagonal, factorise, restrict
from stackjax._arrays.typing import PyTree
from stackjax.solvers._judge import rounding


class Point(struct.PyTreeNode):
    """`f` to second order at one point.

    Attributes:
      value: scalar `f`.
      gradient: `[d]`.
      hessian: `[d, d]`; in a matrix-free model `[d]`, the sizes of its rows.
      aux: what the objective hands on to its next evaluation (a warm start).
    """

    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    aux: PyTree

    @property
    def finite(self) -> jax.Array:
        """Whether all derivatives are numbers; a scalar bool."""
        every = [jnp.all(jnp.isfinite(x)) for x in (self.value, self.gradient, self.hessian)]
        return every[0] & every[1] & every[2]


class Turn(NamedTuple):
    """One Newton step.

    Attributes:
      step: `[d]`, 0 where y is blocked.
      convex: scalar bool, whether the curvature is that of a minimum.
      strict: scalar bool, whether that of a strict one, as far as the model can tell.
      aux: what the objective hands on.
    """

    step: jax.Array
    convex: jax.Array
    strict: jax.Array
    aux: PyTree


class Model(NamedTuple):
    """How a Hessian is held and used. All functions are pure; `free` is `[d]` bool.

    Attributes:
      value: `(y, aux) -> f`.
      expand: `(y, aux) -> Point`.
      sizes: `Point.hessian -> [d]`, how strongly each coordinate is curved.
      step: `(y, point, free, last, error, fresh) -> (step, convex)`, the Newton step on the free
        coordinates and whether the curvature is that of a minimum. `last` is the step before,
        `error` its length, and unless `fresh` it started from the same point.
      full_step: `(y, aux, blocked, hessian, error) -> Turn`, all at once: `blocked` is
        `(y, gradient) -> [d]`, and `hessian` may be that of another point, or None if `exact`.
      rounding: `(y, value, hessian) -> [d]`, what rounding may leave of the gradient.
      flat: `(hessian, free) -> [d]` bool, where curvature is missing, as far as the model knows.
      product: `(y, hessian, aux) -> (v -> H v)`.
      exact: whether `step` takes no notice of `error`.
      finish: `(hessian, free, product) -> (factor, curvature)`, for the report.
    """

    value: Callable
    expand: Callable
    sizes: Callable
    step: Callable
    full_step: Callable
    rounding: Callable
    flat: Callable
    product: Callable
    finish: Callable
    exact: bool


def linearise(objective: Callable, y: jax.Array, aux: PyTree) -> tuple[jax.Array, Callable, tuple]:
    """The gradient of `objective(y, aux) -> (value, aux)`, `v -> H v`, and what it returned."""

    def gradient(y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
        (value, new_aux), slope = jax.value_and_grad(objective, has_aux=True)(y, aux)
        return slope, (value, new_aux)

    return jax.linearize(gradient, y, has_aux=True)


def dense(objective: Callable) -> Model:
    """The `Model` that forms the Hessian and factorises it."""

    def expand(y: jax.Array, aux: PyTree) -> Point:
        # One linearisation, then d pushforwards: the gradient is evaluated once.
        slope, push, (value, new_aux) = linearise(objective, y, aux)
        hessian = jax.vmap(push)(jnp.eye(len(y), dtype=y.dtype))
        return Point(value, slope, (hessian + hessian.T) / 2, new_aux)

    def newton(point: Point, free: jax.Array) -> tuple[jax.Array, Factor]:
        factor = factorise(restrict(point.hessian, free))
        return -factor.descend(jnp.where(free, point.gradient, 0)), factor

    def step(y: jax.Array, point: Point, free: jax.Array, *_: Any) -> tuple[jax.Array, jax.Array]:
        together, factor = newton(point, free)
        return together, factor.semidefinite

    def full_step(
        y: jax.Array, aux: PyTree, blocked: Callable, hessian: None, error: jax.Array
    ) -> Turn:
        point = expand(y, aux)
        free = ~blocked(y, point.gradient)
        together, factor = newton(point, free)
        strict = jnp.min(factor.relative) > float(jnp.finfo(y.dtype).eps) ** 0.5
        return Turn(jnp.where(free, together, 0), factor.semidefinite, strict, point.aux)

    def flat(hessian: jax.Array, free: jax.Array) -> jax.Array:
        factor = factorise(restrict(hessian, free))
        return free & (factor.relative <= float(jnp.finfo(hessian.dtype).eps) ** 0.5)

    def noise_of(y: jax.Array, value: jax.Array, hessian: jax.Array) -> jax.Array:
        terms = jnp.sum(jnp.abs(hessian) * jnp.abs(y)[None, :], axis=1)
        return rounding(value, terms, sizes(hessian))

    def product(y: jax.Array, hessian: jax.Array, aux: PyTree) -> Callable:
        return lambda v: hessian @ v

    def finish(hessian: jax.Array, free: jax.Array, product: Callable) -> tuple[Factor, jax.Array]:
        factor = factorise(restrict(hessian, free))
        return factor, jnp.min(jnp.where(free, factor.relative, 1))

    value = lambda y, aux: objective(y, aux)[0]
    sizes = lambda hessian: jnp.abs(diagonal(hessian))
    return Model(value, expand, sizes, step, full_step, noise_of, flat, product, finish, exact=True)
