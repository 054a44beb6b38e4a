"""The words of the annotations, for every room."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
Vector: TypeAlias = jax.Array  # one axis
PyTree: TypeAlias = Any  # of arrays; an array is one too
Fields: TypeAlias = tuple[Any, ...]  # of a node of a pytree: its children, or its static parts
Utility: TypeAlias = Callable[..., Any]  # (action, response, context) -> scalar
Constraint: TypeAlias = Callable[..., Any]  # (action, response, context) -> pytree of arrays
Policy: TypeAlias = Callable[..., Any]  # context -> action
