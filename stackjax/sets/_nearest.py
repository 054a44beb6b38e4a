"""The best of many rows, without an array of queries by rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_Scored = tuple[jax.Array, jax.Array]
_CHUNK = 1024  # rows compared at a time


def smallest(
    score: Callable[[jax.Array], jax.Array], rows: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Row and value of the smallest score, ties to the smaller row.

    More than 1,024 rows are scanned in chunks with a running minimum, so that a batch of N queries
    over K rows never holds an `N x K` array.

    Args:
      score: `[C, d] -> [C]`.
      rows: `[K, d]`.
    """
    count = rows.shape[0]
    if count <= _CHUNK:
        scores = score(rows)
        index = jnp.argmin(scores).astype(jnp.int32)
        return index, scores[index]
    chunks = -(-count // _CHUNK)
    # The padding repeats the last row: a tie with it goes to the smaller index, the row itself.
    padded = jnp.concatenate([rows, jnp.repeat(rows[-1:], chunks * _CHUNK - count, axis=0)])

    def visit(best: _Scored, item: _Scored) -> tuple[_Scored, None]:
        start, chunk = item
        scores = score(chunk)
        local = jnp.argmin(scores).astype(jnp.int32)
        better = scores[local] < best[1]
        return (
            jnp.where(better, start + local, best[0]),
            jnp.where(better, scores[local], best[1]),
        ), None

    first = score(rows[:1])[0]
    starts = jnp.arange(chunks, dtype=jnp.int32) * _CHUNK
    items = (starts, padded.reshape(chunks, _CHUNK, -1))
    best, _ = jax.lax.scan(visit, (jnp.zeros_like(starts[0]), first), items)
    return best


def nearest(query: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Row and squared distance of the nearest of `rows: [K, d]` to `query: [d]`."""
    return smallest(lambda chunk: jnp.sum((chunk - query[None]) ** 2, axis=-1), rows)


def matrix(tree: Any, *, lead: int) -> jax.Array:
    """All numbers of a pytree side by side: `[d]`, or `[K, d]` with one leading axis."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    dtype = jnp.result_type(jnp.float32, *leaves) if leaves else jnp.float32
    flat = [leaf.reshape(*leaf.shape[:lead], -1).astype(dtype) for leaf in leaves]
    return jnp.concatenate(flat, axis=-1)


def length(vector: jax.Array) -> jax.Array:
    """Euclidean length of `[d]`, with the derivative 0 at 0."""
    square = jnp.sum(vector**2)
    return root(square)


def root(square: jax.Array) -> jax.Array:
    """Square root of a number, with the derivative 0 at 0."""
    return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def check_rows(name: str, rows: Any, scale: Any) -> None:
    """Checks the points of a set, `[K, ...]` leaves, and their scale; traced numbers pass.

    Raises:
      ValueError: there is no point, leaves differ in length, or a number is not finite (or a scale
        not positive).
    """
    leaves = jax.tree.leaves(rows)
    if not all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
        return  # a transformation rebuilds the tree with placeholders
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    if not leaves or len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"`{name}` must hold arrays with one common leading axis; got shapes "
            f"{[leaf.shape for leaf in leaves]}."
        )
    if 0 in lengths:
        raise ValueError(f"`{name}` must hold at least one recorded action; it is empty.")
    check_finite(name, rows)
    if scale is not None:
        check_finite("scale", scale)
        for leaf in jax.tree.leaves(scale):
            if not isinstance(leaf, Tracer) and not np.all(np.asarray(leaf) > 0):
                raise ValueError(f"`scale` must be positive; got {leaf}.")


def check_finite(name: str, tree: Any) -> None:
    """Refuse NaN and infinity where the numbers can be read; traced numbers pass."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Tracer):
            continue
        finite = np.isfinite(np.asarray(leaf))
        if not finite.all():
            raise ValueError(f"`{name}` must be finite; {(~finite).sum()} numbers are not finite.")
