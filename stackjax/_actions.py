"""The empirical action set, and the projection onto it (arXiv 2606.23026, the repair R)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

_CHUNK = 1024  # recorded actions compared at a time


class ActionSet(struct.PyTreeNode):
    """A finite set of recorded actions, one a row.

    Attributes:
      actions: `[K, ...]`, an array or any pytree of arrays with a common leading axis.
      scale: the length that counts as 1 in each coordinate: a pytree that broadcasts against
        one action, or None for 1 everywhere. Positive.

    Raises:
      ValueError: the set is empty, its leaves differ in length, or a number is not finite (or a
        scale not positive).
    """

    actions: Any
    scale: Any = None

    def __post_init__(self) -> None:
        leaves = jax.tree.leaves(self.actions)
        if not all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
            return  # a transformation rebuilds the tree with placeholders
        lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
        if not leaves or len(lengths) != 1 or None in lengths:
            raise ValueError(
                "actions: needs arrays with one common leading axis, "
                f"got shapes {[leaf.shape for leaf in leaves]}"
            )
        if 0 in lengths:
            raise ValueError("actions: the set is empty, need at least one recorded action")
        _check_finite("actions", self.actions)
        if self.scale is not None:
            _check_finite("scale", self.scale)
            for leaf in jax.tree.leaves(self.scale):
                if not isinstance(leaf, Tracer) and not np.all(np.asarray(leaf) > 0):
                    raise ValueError(f"scale: must be positive, got {leaf}")


class Projection(struct.PyTreeNode):
    """The recorded action nearest to a proposed one.

    Attributes:
      action: the recorded action, shaped as one action.
      index: `[]` integer, its row in the set.
      distance: `[]`, scaled Euclidean distance that was moved; inf if the proposed action has a
        NaN, in which case the action returned is the set's first.
    """

    action: Any
    index: jax.Array
    distance: jax.Array


def project(action: Any, action_set: ActionSet) -> Projection:
    """Replace an action by the nearest recorded one.

    Nearest in `||(a - a_k) / scale||`, ties to the smaller index. Unbatched: `vmap` over actions.
    Sets of more than 1,024 rows are scanned in chunks with a running minimum, so that a batch of N
    never holds an `N x K` array. The result is piecewise constant in `action`: keep it out of
    training objectives, and let the follower answer the projected action.

    Args:
      action: one action, shaped as a row of the set.
      action_set: the recorded actions.

    Returns:
      The recorded action, its row and the distance moved.

    Raises:
      ValueError: the action's structure or shape is not that of a row, or (outside of a
        transformation) it has a number that is not finite.

    Example:
      >>> project(jnp.array([0.2, 0.9]), ActionSet(jnp.array([[0.0, 0.0], [0.0, 1.0]]))).index
      Array(1, dtype=int32)
    """
    rows, shape = _matrix(action_set.actions, lead=1), jax.tree.map(jnp.shape, action)
    wanted = jax.tree.map(lambda leaf: leaf.shape[1:], action_set.actions)
    if jax.tree.structure(action) != jax.tree.structure(action_set.actions) or shape != wanted:
        raise ValueError(f"action: got shape {shape}, a row of the action set has {wanted}")
    if rows.shape[0] == 0:
        raise ValueError("action_set: the set is empty, need at least one recorded action")
    _check_finite("action", action)
    query = _matrix(action, lead=0)
    if action_set.scale is not None:
        row = jax.tree.map(lambda leaf: leaf[0], action_set.actions)
        scale = jax.tree.map(lambda s, leaf: jnp.broadcast_to(s, leaf.shape), action_set.scale, row)
        lengths = _matrix(scale, lead=0)
        rows, query = rows / lengths[None], query / lengths
    index, square = _nearest(query, rows)
    square = jnp.where(jnp.isnan(square), jnp.inf, square)
    return Projection(
        action=jax.tree.map(lambda leaf: leaf[index], action_set.actions),
        index=index,
        distance=jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square))),
    )


def _nearest(query: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Row and squared distance of the nearest of `rows: [K, d]` to `query: [d]`."""
    count = rows.shape[0]
    if count <= _CHUNK:
        squares = _squares(query, rows)
        index = jnp.argmin(squares).astype(jnp.int32)
        return index, squares[index]
    chunks = -(-count // _CHUNK)
    # The padding repeats the last row: a tie with it goes to the smaller index, the row itself.
    padded = jnp.concatenate([rows, jnp.repeat(rows[-1:], chunks * _CHUNK - count, axis=0)])

    def visit(best: tuple, item: tuple) -> tuple[tuple, None]:
        start, chunk = item
        squares = _squares(query, chunk)
        local = jnp.argmin(squares).astype(jnp.int32)
        nearer = squares[local] < best[1]
        return (
            jnp.where(nearer, start + local, best[0]),
            jnp.where(nearer, squares[local], best[1]),
        ), None

    first = _squares(query, rows[:1])[0]
    starts = jnp.arange(chunks, dtype=jnp.int32) * _CHUNK
    items = (starts, padded.reshape(chunks, _CHUNK, -1))
    best, _ = jax.lax.scan(visit, (jnp.zeros_like(starts[0]), first), items)
    return best


def _squares(query: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.sum((rows - query[None]) ** 2, axis=-1)


def _matrix(tree: Any, *, lead: int) -> jax.Array:
    """All numbers of a pytree side by side: `[d]`, or `[K, d]` with one leading axis."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    dtype = jnp.result_type(jnp.float32, *leaves) if leaves else jnp.float32
    flat = [leaf.reshape(*leaf.shape[:lead], -1).astype(dtype) for leaf in leaves]
    return jnp.concatenate(flat, axis=-1)


def _check_finite(name: str, tree: Any) -> None:
    """Refuse NaN and infinity where the numbers can be read; traced numbers pass."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Tracer):
            continue
        finite = np.isfinite(np.asarray(leaf))
        if not finite.all():
            raise ValueError(f"{name}: {(~finite).sum()} numbers are not finite")
