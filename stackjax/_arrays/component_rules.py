"""What `components` knows of single operations: how components move, and what constants give."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax

Parts = np.ndarray  # of objects, one scalar each


def _broadcast(parts: list[Parts], params: dict, shape: tuple[int, ...]) -> list[Parts]:
    (x,), aligned = parts, np.ones(len(shape), int)
    aligned[list(params["broadcast_dimensions"])] = x.shape
    return [np.broadcast_to(x.reshape(tuple(aligned)), shape)]


def _slice(parts: list[Parts], params: dict, shape: tuple[int, ...]) -> list[Parts]:
    (x,), first, last = parts, params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * x.ndim
    return [x[tuple(map(slice, first, last, strides))]]


def _split(parts: list[Parts], params: dict, shape: tuple[int, ...]) -> list[Parts]:
    return np.split(parts[0], np.cumsum(params["sizes"])[:-1], params["axis"])


def _pad(parts: list[Parts], params: dict, shape: tuple[int, ...]) -> list[Parts] | None:
    x, fill = parts
    if any(low < 0 or high < 0 for low, high, _ in params["padding_config"]):
        return None
    out = np.empty(shape, object)
    out[...] = fill
    places = [
        slice(low, low + n + (n - 1) * inner, inner + 1) if n else slice(0, 0)
        for (low, _, inner), n in zip(params["padding_config"], x.shape)
    ]
    out[tuple(places)] = x
    return [out]


# Operations that put numbers elsewhere, as numpy does it with objects.
MOVES: dict[str, Callable[[list[Parts], dict, tuple[int, ...]], list[Parts] | None]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda parts, params, shape: [np.concatenate(parts, params["dimension"])],
    "pad": _pad,
    "reshape": lambda parts, params, shape: [parts[0].reshape(shape)],
    "rev": lambda parts, params, shape: [np.flip(parts[0], params["dimensions"])],
    "slice": _slice,
    "split": _split,
    "squeeze": lambda parts, params, shape: [parts[0].reshape(shape)],
    "stack": lambda parts, params, shape: [np.stack(parts, params["axis"])],
    "transpose": lambda parts, params, shape: [parts[0].transpose(params["permutation"])],
}

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor
    ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul name ne neg
    nextafter not or pow real reduce_precision rem round rsqrt select_n sign sin sinh sqrt square
    stop_gradient sub tan tanh xor""".split()
)

REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "reduce_and": lax.bitwise_and,
    "reduce_max": lax.max,
    "reduce_min": lax.min,
    "reduce_or": lax.bitwise_or,
    "reduce_prod": lax.mul,
    "reduce_sum": lax.add,
}

_CONSTANT: dict[str, Callable[..., Any]] = {
    "add": np.add, "and": np.bitwise_and, "eq": np.equal, "ge": np.greater_equal,
    "gt": np.greater, "le": np.less_equal, "lt": np.less, "max": np.maximum, "min": np.minimum,
    "mul": np.multiply, "ne": np.not_equal, "neg": np.negative, "not": np.bitwise_not,
    "or": np.bitwise_or, "sub": np.subtract,
}  # fmt: skip


def constant(name: str, params: dict, arguments: Sequence[Any], shape: Any) -> np.ndarray | None:
    """The operation on constants, by numpy: a hundred times faster than to compile it first."""
    if name == "iota":
        line = np.arange(shape[params["dimension"]], dtype=params["dtype"])
        return _broadcast([line], {"broadcast_dimensions": (params["dimension"],)}, shape)[0]
    if name == "convert_element_type":
        if arguments[0].dtype.kind not in "biu" and np.dtype(params["new_dtype"]).kind in "biu":
            return None  # numpy rounds and overflows in other ways
        return np.asarray(arguments[0]).astype(params["new_dtype"])
    if name == "select_n" and len(arguments) == 3:
        return np.where(arguments[0], arguments[2], arguments[1])
    if name in _CONSTANT:
        with np.errstate(all="ignore"):
            return np.asarray(_CONSTANT[name](*arguments))
    if name in MOVES:
        out = MOVES[name]([np.asarray(x) for x in arguments], params, shape)
        return out[0].astype(arguments[0].dtype) if out is not None and len(out) == 1 else None
    return None
