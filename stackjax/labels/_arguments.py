"""Checks of what callers pass."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def check_dtype(name: str, dtype: Any) -> None:
    """Raises ValueError unless the dtype is one that a matrix can be factorised in."""
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"`{name}` must be floating point of 32 or 64 bits; got {dtype}.")


def check_features(features: Any) -> None:
    """Raises TypeError or ValueError unless features are floating point, `[K, d]`, K at least 2."""
    if not hasattr(features, "shape"):
        raise TypeError(f"`features` must be an array; got {type(features).__name__}.")
    shape, dtype = jax.numpy.shape(features), jax.numpy.result_type(features)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        raise ValueError(
            "`features` must be [K, d] with at least two alternatives and one feature; got shape "
            f"{shape}."
        )
    check_dtype("features", dtype)


def common_length(name: str, tree: Any) -> int:
    """The common leading axis of a pytree's arrays; ValueError if there is none."""
    lengths = {leaf.shape[0] if getattr(leaf, "ndim", 0) else 0 for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"`{name}` must hold arrays with one common leading axis, not empty; got lengths "
            f"{sorted(lengths)}."
        )
    return lengths.pop()
