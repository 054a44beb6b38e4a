"""What a fit depends on, as one number: arrays, options, and the code of functions."""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

_PLAIN = type(None) | bool | int | float | complex | str | bytes


def fingerprint(value: Any) -> str:
    """SHA-256 of a value, the same in every process.

    Functions count by their code and by what they close over, objects by their class and
    attributes; what is none of these by its class alone.
    """
    digest, seen = hashlib.sha256(), {}
    _add(value, lambda *parts: digest.update(repr(parts).encode()), digest.update, seen)
    return digest.hexdigest()


def _add(
    value: Any, put: Callable[..., None], raw: Callable[[bytes], None], seen: dict[int, Any]
) -> None:
    each = lambda items: [_add(item, put, raw, seen) for item in items]
    if isinstance(value, _PLAIN):
        put(value)
        return
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        _add_array(value, put, raw)
        return
    put(f"{type(value).__module__}.{type(value).__qualname__}")
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object gets its id
    if isinstance(value, nnx.Module | nnx.Variable):
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            put(jax.tree_util.keystr(path))
            each([leaf])
    elif isinstance(value, Mapping):
        each(value.keys())
        each(value.values())
    elif isinstance(value, list | tuple):
        put(len(value))
        each(value)
    elif isinstance(value, type | types.ModuleType | np.dtype):
        put(str(getattr(value, "__qualname__", None) or value))
    elif isinstance(value, types.CodeType):
        put(value.co_name, value.co_code, value.co_names)
        each(const for const in value.co_consts if isinstance(const, _PLAIN | types.CodeType))
    elif isinstance(value, types.FunctionType):
        each([value.__code__, value.__defaults__, value.__kwdefaults__])
        each(_content(cell) for cell in value.__closure__ or ())
    elif isinstance(value, types.MethodType):
        each([value.__func__, value.__self__])
    elif isinstance(value, functools.partial):
        each([value.func, value.args, value.keywords])
    elif dataclasses.is_dataclass(value):
        each(getattr(value, field.name) for field in dataclasses.fields(value))
    elif hasattr(value, "__wrapped__"):
        each([value.__wrapped__])
    else:
        each([getattr(value, "__dict__", None)])


def _add_array(array: Any, put: Callable[..., None], raw: Callable[[bytes], None]) -> None:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    put(str(array.dtype), array.shape)
    raw(np.ascontiguousarray(array).tobytes())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"
