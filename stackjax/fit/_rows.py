"""Rows of data: what a fit may be given, and how their scores are averaged."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from stackjax._arrays.arguments import check_all_within, check_columns, concrete, list_advice
from stackjax._arrays.blocks import check_layout
from stackjax._arrays.typing import PyTree
from stackjax.fit._options import Score

CODES = " (np.unique(column, return_inverse=True)[1], or one column for each)"
One = Callable[[PyTree, PyTree], tuple[jax.Array, jax.Array, PyTree]]


def mean_of(one: One, rows: PyTree, starts: PyTree, weight: jax.Array | None = None) -> Score:
    """Averages `one(row, start) -> (utility, counts, response)` over the rows that count.

    `weight: [N]` weighs the average; rows of weight 0 are not there, and so do not fail.
    """
    utility, counts, response = jax.vmap(one)(rows, starts)

    def keep(new: jax.Array, old: jax.Array) -> jax.Array:
        # A failed follower begins again where it began, not where it got lost.
        return jnp.where(counts.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    if weight is None:
        total = jnp.sum(jnp.where(counts, utility, 0)) / jnp.maximum(jnp.sum(counts), 1)
        share = jnp.mean(counts, dtype=total.dtype)
    else:
        there, weight = weight > 0, weight.astype(utility.dtype)
        whole = jnp.sum(jnp.where(counts, weight, 0))
        total = jnp.sum(jnp.where(counts & there, weight * utility, 0))
        total = total / jnp.where(whole > 0, whole, 1)
        # without any row nothing failed
        number = jnp.sum(there)
        share = jnp.where(number > 0, jnp.sum(counts & there) / jnp.maximum(number, 1), 1)
    return Score(
        utility=total,
        converged=share.astype(total.dtype),
        starts=jax.lax.stop_gradient(jax.tree.map(keep, response, starts)),
        constraints=jnp.zeros(0, total.dtype),
    )


def as_batch(data: PyTree, name: str) -> PyTree:
    """Arrays with one leading axis in common, all of them numbers."""
    check_columns(data, name, CODES)
    advice = list_advice(data)
    data = jax.tree.map(jnp.asarray, data)
    leaves = jax.tree_util.tree_leaves_with_path(data)
    sizes = {name + jax.tree_util.keystr(path): jnp.shape(leaf)[:1] for path, leaf in leaves}
    if not sizes or (0,) in sizes.values():
        raise ValueError(f"`{name}` must hold at least one row to fit; it is empty.")
    if () in sizes.values() or len(set(sizes.values())) > 1:
        listed = ", ".join(f"{k}: {v[0] if v else 'none'}" for k, v in sizes.items())
        raise ValueError(f"`{name}` must share one leading axis (rows); got {listed}.{advice}")
    check_layout(data, f"`{name}`")
    for path, leaf in leaves if concrete(data) else ():
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            check_all_within(f"{name}{jax.tree_util.keystr(path)}", leaf, "(-inf, inf)")
    return data
