"""Checks of what callers pass."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def check_number(
    name: str, value: Any, *, above: float | None = None, at_least: float | None = None,
    at_most: float | None = None,
) -> None:  # fmt: skip
    """Raises ValueError unless `value` is one number, or many, in the range; traced ones pass."""
    if isinstance(value, Tracer):
        return
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {value!r}, must be a number") from None
    if (
        np.isnan(numbers).any()
        or (above is not None and not (numbers > above).all())
        or (at_least is not None and not (numbers >= at_least).all())
        or (at_most is not None and not (numbers <= at_most).all())
    ):
        lower = f"greater than {above}" if above is not None else f"at least {at_least}"
        upper = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name}: got {value}, must be {lower}{upper}")


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


def check_features(features: Any) -> None:
    """Raises ValueError unless features are `[K, d]` floating point, at least two alternatives."""
    shape, dtype = jax.numpy.shape(features), jax.numpy.result_type(features)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        raise ValueError(
            f"features: got shape {shape}, must be [K, d] with at least two alternatives "
            "and one feature"
        )
    if not jax.numpy.issubdtype(dtype, jax.numpy.floating):
        raise ValueError(f"features: got dtype {dtype}, must be floating point")
