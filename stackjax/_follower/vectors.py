"""Responses as vectors: bounds and dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from stackjax._arrays.typing import PyTree
from stackjax.sets import FeasibleSet


def flat(tree: PyTree) -> jax.Array:
    """The tree as one vector."""
    return ravel_pytree(tree)[0]


def vector_bounds(
    feasible: FeasibleSet, point: PyTree
) -> tuple[jax.Array | None, jax.Array | None]:
    """Both bounds as vectors; None for a side that is known to be open everywhere."""
    lower, upper = feasible.bounds(point)
    no_lower, no_upper = feasible.open_sides
    return None if no_lower else flat(lower), None if no_upper else flat(upper)


def filled_bounds(feasible: FeasibleSet, point: PyTree) -> tuple[jax.Array, jax.Array]:
    """Both bounds as vectors, infinite where there are none."""
    start, (lower, upper) = flat(point), vector_bounds(feasible, point)
    return (
        jnp.full_like(start, -jnp.inf) if lower is None else lower,
        jnp.full_like(start, jnp.inf) if upper is None else upper,
    )


def at_least_float32(tree: PyTree) -> PyTree:
    """Half precision is for storage: its rounding is coarser than any useful tolerance."""
    return at_least(tree, jnp.float32)


def at_least(tree: PyTree, dtype: Any) -> PyTree:
    """`tree` with leaves of a narrower dtype promoted."""
    return jax.tree.map(lambda y: y.astype(jnp.promote_types(y.dtype, dtype)), tree)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """`tree` in the dtypes of `other`."""
    return jax.tree.map(lambda y, o: y.astype(o.dtype), tree, other)
