"""What callers may pass: the checks of arguments that know no game."""

from collections.abc import Collection
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from stackjax._arrays.typing import PyTree

_KINDS = {"U": "strings", "S": "bytes", "O": "objects", "M": "dates", "m": "spans of time"}
_WORDS = {
    "(0, inf)": "be positive and finite",
    "(0, inf]": "be positive",
    "[0, inf)": "be finite and not negative",
    "[0, inf]": "not be negative",
    "(-inf, inf)": "be finite",
    "[-inf, inf]": "not be NaN",
}


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
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
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
        raise TypeError(f"{owner}`{name}` must be {wanted}; got {shown(value)}.")


def shown(value: Any) -> str:
    """What an error says of a value: its repr where that is short, else the name of its type."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else type(value).__name__


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Raises ValueError unless `value` is among the `allowed`."""
    if value not in list(allowed):
        listed = ", ".join(map(repr, allowed))
        raise ValueError(f"`{name}` must be one of {listed}; got {value!r}.")


def check_within(name: str, value: Any, interval: str, *, owner: str = "") -> None:
    """Raises TypeError or ValueError unless `value` is one number in an interval, as "(0, 1]"."""
    check_shape(name, value, (), owner=owner)
    check_all_within(name, value, interval, owner=owner)


def check_all_within(name: str, values: Any, interval: str, *, owner: str = "") -> None:
    """Raises TypeError or ValueError unless all `values` are numbers in it; traced ones pass."""
    if not concrete(values):
        return
    array = np.asarray(values)
    if array.dtype.kind in "cOSUMm" or (array.dtype == bool and not array.ndim):
        kind = "hold numbers" if array.ndim else "be a number"
        raise TypeError(f"{owner}`{name}` must {kind}; got {shown(values)}.")
    low, high = map(float, interval[1:-1].split(","))
    array = array.astype(float, copy=False)
    above = array > low if interval[0] == "(" else array >= low
    inside = above & (array < high if interval[-1] == ")" else array <= high)
    if not inside.all():
        given = str(values)
        if array.ndim:
            first = tuple(np.argwhere(~inside)[0].tolist())
            at = first[0] if array.ndim == 1 else first
            count = f"{(~inside).sum()} of {array.size} numbers"
            given = f"{array[first]:.6g} at index {at}, {count} are wrong"
        must = _WORDS.get(interval, f"lie in {interval}")
        raise ValueError(f"{owner}`{name}` must {must}; got {given}.")


def check_shape(
    name: str, array: Any, shape: tuple[int | None, ...], meaning: str = "", *, owner: str = ""
) -> None:
    """Raises ValueError, with the `meaning`, unless the shape is this; None is any length."""
    got = np.shape(array)
    if len(got) != len(shape) or any(n is not None and g != n for g, n in zip(got, shape)):
        wanted = str(tuple("any" if n is None else n for n in shape)).replace("'", "")
        must = f"have shape {wanted}" if shape else "be one number"
        raise ValueError(f"{owner}`{name}` must {must}{meaning}; got shape {got}.")


def check_same_shape(layout: str, **arrays: Any) -> None:
    """Raises ValueError unless the arrays are of one shape, with the axes of a layout, "[n]"."""
    shapes = [np.shape(array) for array in arrays.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != layout.count(",") + 1:
        *first, last = (f"`{name}`" for name in arrays)
        listed = ", ".join(map(str, shapes))
        raise ValueError(
            f"{', '.join(first)} and {last} must have one shape, {layout}; got {listed}."
        )


def check_columns(data: PyTree, name: str, advice: str = "") -> None:
    """Raises TypeError, followed by the advice, unless all leaves hold numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if isinstance(leaf, jax.Array | int | float) or hasattr(leaf, "__jax_array__"):
            continue
        kind = np.asarray(leaf).dtype.kind
        if kind in _KINDS:
            raise TypeError(
                f"`{name}{jax.tree_util.keystr(path)}` must hold numbers; got {_KINDS[kind]}. "
                f"Code categories as numbers{advice}, and times as seconds."
            )


def as_arrays(data: PyTree, name: str) -> PyTree:
    """A pytree of arrays. Raises TypeError where a leaf holds no numbers."""
    check_columns(data, name)
    return jax.tree.map(jnp.asarray, data)


def lists_of_numbers(data: PyTree) -> list[str]:
    """Where, in a pytree, a list or tuple of numbers is, which one array may be meant by."""
    is_list = lambda x: isinstance(x, list | tuple) and not hasattr(x, "_fields") and len(x) > 0
    numbers = lambda x: all(jax.tree_util.all_leaves([y]) and np.ndim(y) == 0 for y in x)
    found = jax.tree_util.tree_leaves_with_path(data, is_leaf=lambda x: is_list(x) and numbers(x))
    return [jax.tree_util.keystr(path) for path, leaf in found if is_list(leaf)]


def list_advice(data: PyTree) -> str:
    """A sentence to end an error with, where lists of numbers may be its cause; or nothing."""
    if not lists_of_numbers(data):
        return ""
    return " A list or tuple counts as that many scalars: give one array, jnp.array([...])."


def as_start(start: PyTree, name: str) -> PyTree:
    """The starting point as a pytree of arrays.

    Raises:
      TypeError: a leaf is not floating point.
      ValueError: there is nothing in it to choose.
    """
    start = as_arrays(start, name)
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
