"""Feasible sets for the leader's action and the follower's response."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

PyTree = Any


class Box(struct.PyTreeNode):
    """Coordinatewise bounds, `lower <= y <= upper`.

    Bounds are scalars or arrays that broadcast against every leaf of the point they bound, or
    pytrees of such, with the point's structure or a prefix of it. None and infinite bounds leave a
    side open; `Box()` is the whole space; `lower == upper` pins a coordinate.

    Bounds may be traced and are differentiable: at an active bound the best response moves with
    the bound.

    Attributes:
      lower: smallest allowed values.
      upper: largest allowed values.

    Raises:
      TypeError: a bound is not a number.
      ValueError: a bound is NaN, `lower` is inf or `upper` is -inf, or some lower bound lies above
        its upper bound (here or, where structures differ, at first use with a point; under a
        trace, where nothing can be checked, a crossed pair clips to `upper`).
    """

    lower: PyTree | None = None
    upper: PyTree | None = None

    def __post_init__(self) -> None:
        for name, bound, never in (
            ("lower", self.lower, np.inf),
            ("upper", self.upper, -np.inf),
        ):
            for leaf in jax.tree.leaves(bound):
                if isinstance(leaf, str | bytes | bool | complex):
                    raise TypeError(f"Box: `{name}` must hold numbers; got {leaf!r}.")
            for leaf in _concrete(bound):
                if np.isnan(leaf).any() or (leaf == never).any():
                    raise ValueError(
                        f"Box: `{name}` holds {'NaN' if np.isnan(leaf).any() else never}; it must "
                        "be numbers, or infinite on its own side."
                    )
        if jax.tree.structure(self.lower) == jax.tree.structure(self.upper):
            _check_order(_concrete(self.lower), _concrete(self.upper))

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Both bounds, broadcast to the structure, shapes and dtypes of `point`.

        Raises:
          ValueError: a bound does not broadcast to the leaf of `point` that it bounds, or the
            bounds are crossed.
        """
        lower = _broadcast("lower", -jnp.inf if self.lower is None else self.lower, point)
        upper = _broadcast("upper", jnp.inf if self.upper is None else self.upper, point)
        _check_order(_concrete(lower), _concrete(upper))
        return lower, upper

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
    if any(isinstance(x, Tracer) for x in leaves):
        return []
    arrays = [np.asarray(x) for x in leaves if isinstance(x, (jax.Array, np.ndarray, float, int))]
    return arrays if len(arrays) == len(leaves) else []


def _check_order(lower: list[np.ndarray], upper: list[np.ndarray]) -> None:
    for low, high in zip(lower, upper):
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
                f"Box: `lower` must not exceed `upper`, but lower={low[at]} > upper={high[at]}"
                + (f" at index {at}." if at else ".")
            )


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
