"""Newton's method without a Hessian: steps by conjugate gradients from products `v -> H v`.

The memory is that of a few vectors. Gradients are linearised again at the point from which a step
starts, which costs one gradient more than keeping the linearisation would, and that is little
beside the products.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax.solvers._conjugate import (
    LinearSolve,
    Product,
    descend,
    least_ritz,
    row_sizes,
    signs,
    solver,
)
from stackjax.solvers._judge import rounding
from stackjax.solvers._settings import DENSE
from stackjax.solvers.newton._second_order import Model, Point, Turn, linearise


def matrix_free(objective: Callable) -> Model:
    """The `Model` whose `Point.hessian` holds no more than `[d]`, the size of each of its rows."""

    def expand(y: jax.Array, aux: PyTree) -> Point:
        slope, push, (value, new_aux) = linearise(objective, y, aux)
        return Point(value, slope, sizes_of(push, y), new_aux)

    def towards(
        push: Product, free: jax.Array, slope: jax.Array, sizes: jax.Array, error: jax.Array,
        skip: jax.Array | bool,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        # As exact as the Newton step itself promises to be: its error is of second order.
        forcing = jnp.clip(error, 1e-2 * jnp.finfo(slope.dtype).eps ** 0.5, 0.1)
        return descend(
            lambda v: jnp.where(free, push(jnp.where(free, v, 0)), 0),
            jnp.where(free, -slope, 0),
            positive(sizes, 1e-12 * jnp.max(jnp.abs(slope))),
            forcing=forcing,
            skip=skip,
        )

    def step(
        y: jax.Array, point: Point, free: jax.Array, last: jax.Array, error: jax.Array, fresh: Any
    ) -> tuple[jax.Array, jax.Array]:
        _, push, _ = linearise(objective, y, point.aux)
        skip = ~jnp.asarray(fresh)
        step, convex = towards(push, free, point.gradient, point.hessian, error, skip)
        return jnp.where(fresh, step, last), convex

    def full_step(
        y: jax.Array, aux: PyTree, blocked: Callable, hessian: jax.Array, error: jax.Array
    ) -> Turn:
        slope, push, (_, new_aux) = linearise(objective, y, aux)
        step, convex = towards(push, ~blocked(y, slope), slope, hessian, error, False)
        convex = convex & jnp.all(jnp.isfinite(slope))
        return Turn(step, convex, jnp.ones((), bool), new_aux)

    def noise_of(y: jax.Array, value: jax.Array, hessian: jax.Array) -> jax.Array:
        return rounding(value, hessian * jnp.abs(y), hessian)

    def product(y: jax.Array, hessian: jax.Array, aux: PyTree) -> Product:
        return linearise(objective, y, aux)[1]

    def finish(hessian: jax.Array, free: jax.Array, product: Product) -> tuple[None, jax.Array]:
        root = jnp.sqrt(positive(hessian))
        scaled = lambda v: jnp.where(free, product(jnp.where(free, v / root, 0)) / root, 0)
        return None, least_ritz(scaled, jnp.where(free, signs(1, hessian)[0], 0))

    value = lambda y, aux: objective(y, aux)[0]
    flat = lambda hessian, free: free & (hessian == 0)
    return Model(
        value, expand, jnp.abs, step, full_step, noise_of, flat, product, finish, exact=False
    )


def sizes_of(push: Product, y: jax.Array) -> jax.Array:
    """`[d]` how strongly each coordinate is curved: exact where that is affordable.

    Norms of rows, estimated, would do if all coordinates had one unit; the diagonal needs none.
    """
    if len(y) > DENSE:
        return row_sizes(push, y)
    return jnp.abs(jnp.diagonal(jax.vmap(push)(jnp.eye(len(y), dtype=y.dtype))))


def on_face(
    objective: Callable,
    y: jax.Array,
    free: jax.Array,
    sizes: jax.Array,
    linear_solve: LinearSolve | None = None,
) -> tuple[Product, Product]:
    """`v -> H v` at `y`, and `b -> H_FF^-1 b` on the free coordinates: numbers, for derivatives.

    Args:
      objective: `[d] -> scalar`.
      y: `[d]`.
      free: `[d]` bool; none is where the Hessian is not a number, and then products are 0.
      sizes: `[d]` those of the Hessian's rows.
      linear_solve: the user's, which gets a product that is the identity elsewhere.
    """
    _, push = jax.linearize(jax.grad(objective), y)
    some = jnp.any(free)
    rest = (lambda v: v) if linear_solve is not None else jnp.zeros_like
    within = lambda v: jnp.where(free, push(jnp.where(free, v, 0)), rest(v))
    return lambda v: jnp.where(some, push(v), 0), solver(within, positive(sizes), linear_solve)


def positive(sizes: jax.Array, least: jax.Array | float = 0.0) -> jax.Array:
    """`[d]` a preconditioner from the rows' sizes: none may vanish."""
    info = jnp.finfo(sizes.dtype)
    least = jnp.maximum(least, jnp.max(sizes) * float(info.eps) ** 2)
    return jnp.maximum(sizes, jnp.maximum(least, 1e6 * float(info.tiny)))
