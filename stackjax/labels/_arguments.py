"""Checks of what callers pass."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def check_number(
    name: str, value: Any, *, above: float | None = None, at_least: float | None = None,
    at_most: float | None = None, finite: bool = True,
) -> None:  # fmt: skip
    """Raises ValueError unless `value` is one number in the range; of traced ones, one number.

    Infinite numbers are refused unless `finite` is False: a radius of infinity times a width of
    zero would be NaN.
    """
    if isinstance(value, Tracer):
        check_shape(name, value, ())
        return
    try:
        number = np.asarray(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {value!r}, must be a number") from None
    if number.ndim:
        raise ValueError(f"{name}: got shape {number.shape}, must be one number; jax.vmap for many")
    if (
        np.isnan(number)
        or (finite and np.isinf(number))
        or (above is not None and not number > above)
        or (at_least is not None and not number >= at_least)
        or (at_most is not None and not number <= at_most)
    ):
        lower = "" if above is None else f" greater than {above}"
        lower = lower if at_least is None else f" at least {at_least}"
        upper = "" if at_most is None else f" and at most {at_most}"
        kind = "a finite number" if finite else "a number"
        raise ValueError(f"{name}: got {value}, must be {kind}{lower}{upper}")


def check_count(name: str, value: Any, *, at_least: int = 1) -> None:
    """Raises ValueError unless `value` is a Python integer of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise ValueError(f"{name}: got {value!r}, must be an integer of at least {at_least}")


def check_shape(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Raises ValueError unless the shape is the one given; None stands for any length."""
    got = jax.numpy.shape(array)
    if len(got) != len(shape) or any(w is not None and g != w for g, w in zip(got, shape)):
        wanted = tuple("any" if w is None else w for w in shape)
        raise ValueError(f"{name}: got shape {got}, must be {wanted}".replace("'", ""))


def check_dtype(name: str, dtype: Any) -> None:
    """Raises ValueError unless the dtype is one that a matrix can be factorised in."""
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"{name}: got {dtype}, must be floating point of 32 or 64 bits")


def check_features(features: Any) -> None:
    """Raises ValueError unless features are `[K, d]` floating point, at least two alternatives."""
    if not hasattr(features, "shape"):
        raise ValueError(f"features: got {type(features).__name__}, must be an array")
    shape, dtype = jax.numpy.shape(features), jax.numpy.result_type(features)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        raise ValueError(
            f"features: got shape {shape}, must be [K, d] with at least two alternatives "
            "and one feature"
        )
    check_dtype("features", dtype)


def common_length(name: str, tree: Any) -> int:
    """The common leading axis of a pytree's arrays; ValueError if there is none."""
    lengths = {leaf.shape[0] if getattr(leaf, "ndim", 0) else 0 for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"{name}: needs arrays with one common leading axis, got {sorted(lengths)}"
        )
    return lengths.pop()
