"""Feasible sets for the leader's action and the follower's response."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

PyTree = Any


class Box(struct.PyTreeNode):
    """Coordinatewise bounds, `lower <= y <= upper`.

    Bounds are scalars or arrays that broadcast against every leaf of the point they bound, or
    pytrees of such, with the point's structure or a prefix of it. Infinite bounds leave a side
    open; `Box()` is the whole space; `lower == upper` pins a coordinate.

    Bounds may be traced and are differentiable: at an active bound the best response moves with
    the bound.

    Attributes:
      lower: smallest allowed values.
      upper: largest allowed values.

    Raises:
      ValueError: a bound is NaN, or some lower bound lies above its upper bound (checked
        wherever the bounds are concrete; under a trace a crossed pair clips to `upper`).
    """

    lower: PyTree = -jnp.inf
    upper: PyTree = jnp.inf

    def __post_init__(self) -> None:
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            for leaf in _concrete(bound) or ():
                if np.isnan(leaf).any():
                    raise ValueError(f"Box: `{name}` holds NaN; bounds are numbers or +-inf.")
        same = jax.tree.structure(self.lower) == jax.tree.structure(self.upper)
        for low, high in zip(*map(_concrete, (self.lower, self.upper))) if same else ():
            try:
                crossed = np.argwhere(low > high)
            except ValueError as error:
                raise ValueError(
                    f"Box: `lower` of shape {low.shape} and `upper` of shape {high.shape} do not "
                    "broadcast against each other."
                ) from error
            if len(crossed):
                at = tuple(int(i) for i in crossed[0])
                low, high = np.broadcast_arrays(low, high)
                raise ValueError(
                    f"Box: `lower` must not exceed `upper`, but lower={low[at]} > "
                    f"upper={high[at]}" + (f" at index {at}." if at else ".")
                )

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Both bounds, broadcast to the structure, shapes and dtypes of `point`.

        Raises:
          ValueError: a bound does not broadcast to the leaf of `point` that it bounds.
        """
        return _broadcast("lower", self.lower, point), _broadcast("upper", self.upper, point)

    def project(self, point: PyTree) -> PyTree:
        """Euclidean projection of `point` (a pytree of arrays) onto the box."""
        return jax.tree.map(jnp.clip, point, *self.bounds(point))

    def contains(self, point: PyTree, *, tol: float = 0.0) -> jax.Array:
        """Whether every coordinate of `point` lies in the box, up to `tol`; a scalar bool."""
        inside = jax.tree.map(
            lambda y, low, high: jnp.all((y >= low - tol) & (y <= high + tol)),
            point,
            *self.bounds(point),
        )
        return jnp.all(jnp.stack(jax.tree.leaves(inside)))


def _concrete(bound: PyTree) -> list[np.ndarray]:
    """The numeric leaves of a bound; none where any of them is traced or a placeholder.

    JAX rebuilds pytrees around tracers and sentinels, which must pass unchecked.
    """
    leaves = jax.tree.leaves(bound)
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
        return []
    arrays = [np.asarray(x) for x in leaves if isinstance(x, (jax.Array, np.ndarray, float, int))]
    return arrays if len(arrays) == len(leaves) else []


def _broadcast(name: str, bound: PyTree, point: PyTree) -> PyTree:
    def to_leaf(bound_leaf: Any, subtree: PyTree) -> PyTree:
        def one(y: jax.Array) -> jax.Array:
            try:
                return jnp.broadcast_to(jnp.asarray(bound_leaf, y.dtype), y.shape)
            except ValueError as error:
                raise ValueError(
                    f"Box: `{name}` of shape {jnp.shape(bound_leaf)} does not broadcast to a "
                    f"point of shape {y.shape}."
                ) from error

        return jax.tree.map(one, subtree)

    try:
        return jax.tree.map(to_leaf, bound, point)
    except (ValueError, TypeError) as error:
        if str(error).startswith("Box:"):
            raise
        raise ValueError(
            f"Box: the structure of `{name}`, {jax.tree.structure(bound)}, is not a prefix of the "
            f"point's, {jax.tree.structure(point)}."
        ) from error
