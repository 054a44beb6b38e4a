"""Reading what is to be drawn: host arrays of floats, and errors that name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape, shown


def numbers(name: str, values: Any, dims: int | None = None, *, least: int = 1) -> np.ndarray:
    """`values` as a finite float array with `dims` axes, none shorter than `least`.

    Raises:
      TypeError: it is not numbers.
      ValueError: it has another number of axes, is too short, or has a number that is not finite.
    """
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array of numbers; got {shown(values)}.") from error
    if dims is not None:
        check_shape(name, array, (None,) * dims)
    if array.size == 0 or min(array.shape, default=1) < least:
        raise ValueError(
            f"`{name}` must have at least {least} along each axis; got shape {array.shape}."
        )
    check_all_within(name, array, "(-inf, inf)")
    return array


def fitting(name: str, values: Any, shape: tuple[int, ...], of: str) -> np.ndarray:
    """`values` as a finite float array of the `shape` that `of` asks for.

    Raises:
      TypeError, ValueError: as `numbers`, or the shape is another one.
    """
    array = numbers(name, values)
    check_shape(name, array, shape, f" for {of}")
    return array


def flags(name: str, values: Any, shape: tuple[int, ...], of: str) -> np.ndarray:
    """`values` as booleans of that shape.

    Raises:
      TypeError: they are not booleans.
      ValueError: the shape is another one.
    """
    array = np.asarray(values)
    if array.dtype != bool:
        raise TypeError(f"`{name}` must be booleans; got {array.dtype}.")
    check_shape(name, array, shape, f" for {of}")
    return array


def columns(name: str, tree: Any, count: int, of: str, *, width: int | None = None) -> np.ndarray:
    """A batch of points, any pytree (or list of numbers) with a leading `count`: `[count, R]`.

    Raises:
      TypeError: a leaf is not numbers.
      ValueError: a leaf has another leading axis, there is none, R is not the `width`, or a number
        is not finite.
    """
    leaves = jax.tree.leaves(tree)
    if not any(np.ndim(leaf) for leaf in leaves):  # a list of numbers, not a pytree of arrays
        leaves = [tree]
    leaves = [numbers(name, leaf) for leaf in leaves]
    if any(leaf.ndim < 1 or len(leaf) != count for leaf in leaves):
        shapes = [leaf.shape for leaf in leaves]
        raise ValueError(
            f"`{name}` must have a leading axis of {count} for {of}; got shapes {shapes}."
        )
    rows = np.concatenate([leaf.reshape(count, -1) for leaf in leaves], axis=1)
    if width is not None and rows.shape[1] != width:
        raise ValueError(f"`{name}` must have {width} numbers a row for {of}; got {rows.shape[1]}.")
    return rows


def names(name: str, labels: Any, count: int) -> tuple[str, ...]:
    """`count` labels.

    Raises:
      ValueError: they are not a sequence of that many strings.
    """
    wrong = isinstance(labels, str) or not isinstance(labels, Sequence)
    if wrong or not all(isinstance(label, str) for label in labels) or len(labels) != count:
        raise ValueError(f"`{name}` must be {count} strings; got {shown(labels)}.")
    return tuple(labels)
