"""Numbers that are not finite, and how they are kept out of derivatives."""

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.typing import PyTree


def finite(tree: PyTree) -> jax.Array:
    """Whether all floating-point numbers in a tree are finite; a scalar bool."""
    leaves = [
        jnp.asarray(leaf) if isinstance(leaf, int | float) else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    floating = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floating] or [True]))


def shield(tree: PyTree, valid: jax.Array) -> PyTree:
    """`tree` unchanged, but cut off from every derivative unless `valid`.

    In reverse mode this turns what a failed computation sends back, 0 x NaN, into zero.
    """
    return jax.tree.map(lambda leaf: jnp.where(valid, leaf, lax.stop_gradient(leaf)), tree)
