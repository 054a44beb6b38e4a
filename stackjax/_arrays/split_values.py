"""Small arrays that are held whole, as their components, or both."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

# The most numbers that an array is split into.
SPLIT = 16


class Value:
    """An array: whole, as components, or both. Either form is made when it is first asked for."""

    def __init__(
        self, shape: tuple[int, ...], whole: Any = None, parts: Any = None, layer: bool = False
    ) -> None:
        self.shape, self._whole, self._parts, self.layer = shape, whole, parts, layer

    @classmethod
    def of(cls, x: Any) -> "Value":
        if (
            np.size(x) <= SPLIT
            and not isinstance(x, Tracer)
            and not jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended)
        ):
            x = np.asarray(x, jnp.result_type(x))
        return cls(np.shape(x), whole=x)

    def outside(self) -> Callable[[], "Value"]:
        """For use inside of a loop's body: what is made there must not stay behind."""
        if is_small(self.size):
            _ = self.parts
        return lambda: Value(self.shape, self._whole, self._parts)

    @property
    def size(self) -> int:
        return size_of(self.shape)

    @property
    def known(self) -> bool:
        """Whether it is a constant."""
        return self._whole is not None and is_known(self._whole)

    @property
    def whole(self) -> Any:
        if self._whole is None:
            parts = list(self._parts.flat)
            if all(map(is_known, parts)):
                self._whole = np.array(parts, parts[0].dtype).reshape(self.shape)
            else:
                self._whole = jnp.stack(parts).reshape(self.shape) if self.shape else parts[0]
        return self._whole

    @property
    def parts(self) -> np.ndarray:
        """Object array of scalars, in the shape of the array."""
        if self._parts is None:
            if not self.shape:
                scalars = [self._whole[()] if is_known(self._whole) else self._whole]
            elif is_known(self._whole):
                scalars = list(np.asarray(self._whole).flat)
            else:
                # split, whose transpose is a concatenation
                row = lax.reshape(self._whole, (self.size,))
                scalars = [x.reshape(()) for x in lax.split(row, (1,) * self.size)]
            self._parts = objects(scalars, self.shape)
        return self._parts


def size_of(shape: Sequence[int]) -> int:
    return int(np.prod(shape))


def is_small(size: int) -> bool:
    return 0 < size <= SPLIT


def is_known(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic)


def objects(scalars: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty(len(scalars), object)
    for i, x in enumerate(scalars):  # numpy would try to convert a list of tracers
        out[i] = x
    return out.reshape(shape)


def packing(
    like: Sequence[Value], avals: Sequence[Any]
) -> tuple[Callable[[Sequence[Value]], list], Callable[[list], list[Value]]]:
    """Values to a list of arrays that a loop can carry, and back."""
    typed = lambda x, aval: jnp.asarray(x, aval.dtype) if is_known(x) else x

    def pack(values: Sequence[Value]) -> list:
        return [
            [typed(x, aval) for x in value.parts.flat]
            if is_small(value.size)
            else [typed(value.whole, aval)]
            for value, aval in zip(values, avals)
        ]

    def unpack(state: list) -> list[Value]:
        return [
            Value(v.shape, parts=objects(x, v.shape))
            if is_small(v.size)
            else Value(v.shape, whole=x[0])
            for v, x in zip(like, state)
        ]

    return pack, unpack
