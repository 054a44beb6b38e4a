"""The empirical action set, and the projection onto it (arXiv 2606.23026, the repair R)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import check_columns, list_advice
from stackjax.sets._base import FeasibleSet
from stackjax.sets._hull import nearest_in_hull
from stackjax.sets._nearest import check_finite, check_rows, length, matrix, nearest, root


class ActionSet(struct.PyTreeNode):
    """A finite set of recorded actions, one a row.

    Attributes:
      actions: `[K, ...]`, an array or any pytree of arrays with a common leading axis.
      scale: the length that counts as 1 in each coordinate: a pytree that broadcasts against
        one action, or None for 1 everywhere. Positive. `sensitivity_scale` computes one in which
        a distance of 1 costs the same in each coordinate.

    Raises:
      ValueError: the set is empty, its leaves differ in length, or a number is not finite (or a
        scale not positive).

    Source: arXiv 2606.23026, eq. (29).

    Example:
      >>> tried = sj.ActionSet(jnp.array([[0.0, 0.0], [1.0, 1.0]]), scale=jnp.array([1.0, 10.0]))
      >>> sj.project(jnp.array([0.2, 0.9]), tried).index
      Array(0, dtype=int32)
    """

    actions: Any
    scale: Any = None

    def __post_init__(self) -> None:
        check_rows("actions", self.actions, self.scale)


class ConvexHull(struct.PyTreeNode):
    """All mixtures of recorded actions: the smallest convex set that holds them.

    Points may repeat, lie on a line or inside of the others' hull; one point is a hull.

    Attributes:
      points: `[K, ...]`, an array or any pytree of arrays with a common leading axis.
      scale: as in `ActionSet`: the projection is the nearest mixture in scaled distance.

    Raises:
      ValueError: as `ActionSet`.

    Source: Wolfe, Mathematical Programming 11, 1976 (the projection).

    Example:
      >>> hull = sj.sets.ConvexHull(jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
      >>> found = sj.project(jnp.array([2.0, 2.0]), hull)
      >>> print(found.action.round(3), found.distance.round(3), found.converged)
      [1. 1.] 1.414 True
    """

    points: Any
    scale: Any = None

    def __post_init__(self) -> None:
        check_rows("points", self.points, self.scale)


class Projection(struct.PyTreeNode):
    """The action of a set nearest to a proposed one.

    Attributes:
      action: the action, shaped as the proposed one. If that has a number that is not finite: the
        first row of a finite set or of a hull, and the projection of 0 for any other set.
      index: `[]` integer: the row of a finite set; of a hull, the row of largest weight; -1 for
        any other set.
      distance: `[]`, the Euclidean distance that was moved, scaled where the set has a scale;
        inf if the proposed action has a number that is not finite.
      converged: `[]` bool. False if the proposed action has a number that is not finite, and for a
        hull also where the method ended before its condition of optimality held to eps^(2/3) of
        the dtype.
      rows: of a hull, `[d + 1]` integers for actions of d numbers: the rows that are mixed. Else
        None.
      weights: of a hull, `[d + 1]`, their shares, which sum to 1; a row of share 0 has no meaning.
        Else None.

    Source: arXiv 2606.23026, eq. (29-30).

    Example:
      >>> tried = sj.ActionSet(jnp.array([[0.0, 0.0], [0.0, 1.0]]))
      >>> near = sj.project(jnp.array([0.0, 0.75]), tried)
      >>> print(near.action, near.index, near.distance, near.converged)
      [0. 1.] 1 0.25 True
    """

    action: Any
    index: jax.Array
    distance: jax.Array
    converged: jax.Array
    rows: jax.Array | None = None
    weights: jax.Array | None = None


def project(action: Any, action_set: ActionSet | ConvexHull | FeasibleSet) -> Projection:
    """Replace an action by the nearest one of a set. Unbatched: `vmap` over actions.

    - `ActionSet`: the nearest row in `||(a - a_k) / scale||`, ties to the smaller index. The result
      is piecewise constant in `action`: keep it out of training objectives, and let the follower
      answer the projected action.
    - `ConvexHull`: the nearest mixture of rows in the same distance, exact up to rounding (Wolfe's
      method). Differentiable almost everywhere in action, points and scale. For actions of up to
      a few dozen numbers.
    - `Box`, `Simplex`, `Ball`: the set's own Euclidean projection, of a box a clip.

    More than 1,024 rows are scanned in chunks, so that a batch of N actions never holds an `N x K`
    array.

    Args:
      action: one action; for recorded actions shaped as one of them.
      action_set: the set.

    Returns:
      The action, its row and the distance moved.

    Raises:
      TypeError: the set holds lists instead of arrays, or is none of these: a `Polyhedron` or
        `Constrained` has no cheap projection; `best_response` to `-||r - action||^2` in it is one.
      ValueError: the action's structure or shape does not fit the set, or (outside of a
        transformation) it has a number that is not finite.

    Source: arXiv 2606.23026, eq. (29-30).

    Example:
      >>> sj.project(jnp.array([0.2, 0.9]), sj.ActionSet(jnp.array([[0.0, 0.0], [0.0, 1.0]]))).index
      Array(1, dtype=int32)
    """
    check_columns(action, "action")
    if isinstance(action_set, ActionSet):
        return _onto_rows(action, action_set)
    if isinstance(action_set, ConvexHull):
        return _onto_hull(action, action_set)
    if not _projectable(action_set):
        raise TypeError(
            "`action_set` must be an ActionSet, ConvexHull, Box, Simplex or Ball; got "
            f"{type(action_set).__name__}."
        )
    check_finite("action", action)
    action = jax.tree.map(_floating, action)
    if not jax.tree.leaves(action):
        raise ValueError("`action` must hold a number; it is empty, there is nothing to project.")
    known = _all_finite(action)
    safe = jax.tree.map(lambda leaf: jnp.where(known, leaf, 0), action)
    moved = action_set.project(safe)
    distance = length(ravel_pytree(jax.tree.map(jnp.subtract, moved, safe))[0])
    return Projection(
        action=moved,
        index=jnp.full((), -1, jnp.int32),
        distance=jnp.where(known, distance, jnp.inf),
        converged=known,
    )


def _projectable(feasible: Any) -> bool:
    return isinstance(feasible, FeasibleSet) and feasible.projectable


def _onto_rows(action: Any, action_set: ActionSet) -> Projection:
    query, rows = _scaled(action, action_set.actions, action_set.scale)
    index, square = nearest(query, rows)
    square = jnp.where(jnp.isnan(square), jnp.inf, square)
    return Projection(
        action=jax.tree.map(lambda leaf: leaf[index], action_set.actions),
        index=index,
        distance=root(square),
        converged=_all_finite(action),
    )


def _onto_hull(action: Any, hull: ConvexHull) -> Projection:
    query, points = _scaled(action, hull.points, hull.scale)
    known = _all_finite(action)
    found = nearest_in_hull(jnp.where(known, query, points[0]), points)

    def mix(leaf: Any) -> jax.Array:
        chosen = _floating(leaf)[found.rows]
        weights = found.weights.astype(chosen.dtype)
        # Around one of them, so that a mixture of equal numbers is that number.
        base = chosen[jnp.argmax(weights)]
        shares = weights.reshape(-1, *[1] * base.ndim)
        return base + jnp.sum(shares * (chosen - base[None]), axis=0)

    return Projection(
        action=jax.tree.map(mix, hull.points),
        index=found.rows[jnp.argmax(found.weights)],
        distance=jnp.where(known, found.distance, jnp.inf),
        converged=known & found.converged,
        rows=found.rows,
        weights=found.weights,
    )


def _scaled(action: Any, rows: Any, scale: Any) -> tuple[jax.Array, jax.Array]:
    """The action `[d]` and the rows `[K, d]` in units of the scale.

    Raises:
      TypeError: the set holds lists of numbers.
      ValueError: the action is not shaped as a row, is not finite, or the set is empty.
    """
    if not all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(rows)):
        raise TypeError(
            "`action_set` must hold rows that are arrays; got bare numbers. Give jnp.array([...])."
        )
    points, shape = matrix(rows, lead=1), jax.tree.map(jnp.shape, action)
    wanted = jax.tree.map(lambda leaf: leaf.shape[1:], rows)
    if jax.tree.structure(action) != jax.tree.structure(rows) or shape != wanted:
        raise ValueError(
            f"`action` must have the shape of a row of the action set, {wanted}; got shape {shape}."
            f"{list_advice(action)}"
        )
    if points.shape[0] == 0:
        raise ValueError("`action_set` must hold at least one recorded action; it is empty.")
    check_finite("action", action)
    query = matrix(action, lead=0)
    if scale is not None:
        row = jax.tree.map(lambda leaf: leaf[0], rows)
        scale = jax.tree.map(lambda s, leaf: jnp.broadcast_to(s, leaf.shape), scale, row)
        lengths = matrix(scale, lead=0)
        points, query = points / lengths[None], query / lengths
    return query, points


def _floating(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.result_type(jnp.float32, leaf))


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
