"""Reading what is to be drawn: host arrays of floats, and errors that name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np


def numbers(name: str, values: Any, dims: int | None = None, *, least: int = 1) -> np.ndarray:
    """`values` as a finite float array with `dims` axes, none shorter than `least`.

    Raises:
      ValueError: it is not numbers, has another number of axes, is too short, or has a number that
        is not finite.
    """
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: must be an array of numbers, got {values!r:.60}") from error
    if dims is not None and array.ndim != dims:
        raise ValueError(f"{name}: must have {dims} axes, got shape {array.shape}")
    if array.size == 0 or min(array.shape, default=1) < least:
        raise ValueError(f"{name}: needs at least {least} along each axis, got {array.shape}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name}: {bad} of {array.size} numbers are not finite")
    return array


def fitting(name: str, values: Any, shape: tuple[int, ...], of: str) -> np.ndarray:
    """`values` as a finite float array of the `shape` that the argument `of` asks for.

    Raises:
      ValueError: as `numbers`, or the shape is another one.
    """
    array = numbers(name, values)
    if array.shape != shape:
        raise ValueError(f"{name}: must have shape {shape}, as {of} has, got {array.shape}")
    return array


def flags(name: str, values: Any, shape: tuple[int, ...], of: str) -> np.ndarray:
    """`values` as booleans of that shape.

    Raises:
      ValueError: they are not booleans, or the shape is another one.
    """
    array = np.asarray(values)
    if array.dtype != bool or array.shape != shape:
        raise ValueError(
            f"{name}: must be booleans of shape {shape}, as {of} has, got {array.dtype} of shape "
            f"{array.shape}"
        )
    return array


def columns(name: str, tree: Any, count: int, of: str) -> np.ndarray:
    """A batch of points, any pytree (or list of numbers) with a leading `count`: `[count, R]`.

    Raises:
      ValueError: a leaf has another leading axis, there is none, or a number is not finite.
    """
    leaves = jax.tree.leaves(tree)
    if not any(np.ndim(leaf) for leaf in leaves):  # a list of numbers, not a pytree of arrays
        leaves = [tree]
    leaves = [numbers(name, leaf) for leaf in leaves]
    if any(leaf.ndim < 1 or len(leaf) != count for leaf in leaves):
        shapes = [leaf.shape for leaf in leaves]
        raise ValueError(f"{name}: needs a leading axis of {count}, as {of} has, got {shapes}")
    return np.concatenate([leaf.reshape(count, -1) for leaf in leaves], axis=1)


def names(name: str, labels: Any, count: int) -> tuple[str, ...]:
    """`count` labels.

    Raises:
      ValueError: they are not a sequence of that many strings.
    """
    wrong = isinstance(labels, str) or not isinstance(labels, Sequence)
    if wrong or not all(isinstance(label, str) for label in labels) or len(labels) != count:
        raise ValueError(f"{name}: must be {count} strings, got {labels!r:.60}")
    return tuple(labels)
