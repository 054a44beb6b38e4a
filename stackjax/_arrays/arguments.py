"""What callers may pass: the checks of arguments that know no game."""

from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
from jax.core import Tracer

from stackjax._arrays.typing import PyTree


def check_key(key: Any, otherwise: str = "") -> None:
    """Raises TypeError, which says what else is allowed, unless `key` is one typed key."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape:
        raise TypeError(f"`key` must be one key from jax.random.key(seed){otherwise}; got {key!r}.")


def check_starts(starts: Any, key: Any) -> None:
    """Raises TypeError or ValueError unless `starts` is a positive integer and `key` a key."""
    if key is not None:
        check_key(key, " or None")
    check_count("starts", starts)


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Raises TypeError or ValueError unless `value` is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether `value` is a Python number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_number(name: str, value: Any, *, owner: str = "", otherwise: str = "") -> None:
    """Raises TypeError, which says what else is allowed, unless `value` is a Python number."""
    if not is_number(value):
        raise TypeError(f"{owner}`{name}` must be a Python number{otherwise}; got {value!r}.")


def check_type(name: str, value: Any, kinds: Any, wanted: str, *, owner: str = "") -> None:
    """Raises TypeError, which says what is `wanted`, unless `value` is of one of the kinds."""
    if not isinstance(value, kinds):
        raise TypeError(f"{owner}`{name}` must be {wanted}; got {value!r}.")


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
