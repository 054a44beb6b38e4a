"""What the sets ask of their arguments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from stackjax._arrays.typing import Array, PyTree


def ravel(point: PyTree) -> jax.Array:
    """The point as one vector, in the order of `jax.flatten_util.ravel_pytree`."""
    return ravel_pytree(point)[0]


def check_numbers(owner: str, name: str, value: PyTree) -> None:
    """Raises TypeError unless every leaf is a real number or an array of such."""
    for leaf in jax.tree.leaves(value):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.dtype(type(leaf))
        if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer)):
            raise TypeError(f"{owner}: `{name}` must hold numbers; got {leaf!r}.")


def as_array(owner: str, name: str, value: Any) -> Array:
    """An array as it is; a number or a list of numbers as one. Raises TypeError otherwise."""
    check_numbers(owner, name, value)
    if isinstance(value, jax.Array | np.ndarray):
        return value
    try:
        return jnp.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{owner}: `{name}` must be one array; got {value!r}.") from error


def concrete(value: PyTree) -> list[np.ndarray]:
    """The leaves as NumPy arrays; none where any of them is traced."""
    leaves = jax.tree.leaves(value)
    return [] if any(isinstance(x, Tracer) for x in leaves) else [np.asarray(x) for x in leaves]


def broadcast(
    owner: str,
    name: str,
    value: PyTree,
    point: PyTree,
    shape: Callable[..., tuple[int, ...]] = jnp.shape,
) -> PyTree:
    """`value` at every leaf `y` of `point`, broadcast to `shape(y)` and in the dtype of `y`."""

    def to_leaf(leaf: Any, subtree: PyTree) -> PyTree:
        def one(y: jax.Array) -> jax.Array:
            try:
                return jnp.broadcast_to(jnp.asarray(leaf, jnp.result_type(y)), shape(y))
            except ValueError as error:
                raise ValueError(
                    f"{owner}: `{name}` of shape {jnp.shape(leaf)} does not broadcast to "
                    f"{'a point' if shape is jnp.shape else 'the leading axes of a point'} of "
                    f"shape {jnp.shape(y)}."
                ) from error

        return jax.tree.map(one, subtree)

    try:
        return jax.tree.map(to_leaf, value, point)
    except (ValueError, TypeError) as error:
        if str(error).startswith(f"{owner}:"):
            raise
        raise ValueError(
            f"{owner}: the structure of `{name}`, {jax.tree.structure(value)}, is not a prefix of "
            f"the point's, {jax.tree.structure(point)}."
        ) from error
