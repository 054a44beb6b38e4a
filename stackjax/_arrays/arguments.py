"""What callers may pass: the checks of arguments that know no game."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

PyTree = Any


def check_key(key: Any, otherwise: str = "") -> None:
    """Raises TypeError, which says what else is allowed, unless `key` is one typed key."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape:
        raise TypeError(f"`key` must be one key from jax.random.key(seed){otherwise}; got {key!r}.")


def check_starts(starts: Any, key: Any) -> None:
    """Raises TypeError or ValueError unless `starts` is a positive integer and `key` a key."""
    if key is not None:
        check_key(key, " or None")
    if not isinstance(starts, int) or isinstance(starts, bool):
        raise TypeError(f"`starts` must be an integer; got {starts!r}.")
    if starts < 1:
        raise ValueError(f"`starts` must be at least 1; got {starts}.")


def as_start(start: PyTree, name: str) -> PyTree:
    """The starting point as a pytree of arrays.

    Raises:
      TypeError: a leaf is not floating point.
      ValueError: there is nothing in it to choose.
    """
    start = jax.tree.map(jnp.asarray, start)
    leaves = jax.tree.leaves(start)
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"`{name}` must be floating point; got dtype {leaf.dtype}. Write 1.0 instead of 1."
            )
    if sum(leaf.size for leaf in leaves) == 0:
        raise ValueError(f"`{name}` is empty: it has no coordinate to choose.")
    return start


def concrete(tree: PyTree) -> bool:
    """Whether every leaf holds numbers that the host can read now."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
