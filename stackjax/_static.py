"""Functions as the static part of a pytree."""

from collections.abc import Callable, Sequence
from typing import Any

import jax


class Static:
    """A function as a hashable key; one that cannot be hashed is known by its identity."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        try:
            self.key: Any = function
            self.hash = hash(function)
        except TypeError:
            self.key, self.hash = id(function), id(function)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and bool(self.key == other.key)


def split_static(values: Sequence[Any]) -> tuple[tuple, tuple]:
    """`(children, plain)` of a pytree: plain functions are static, their children None."""
    plain = tuple(
        Static(v) if callable(v) and jax.tree_util.all_leaves([v]) else None for v in values
    )
    return tuple(None if p else v for p, v in zip(plain, values)), plain


def join_static(plain: Sequence[Static | None], children: Sequence[Any]) -> tuple:
    """The values that `split_static` split."""
    return tuple(child if p is None else p.function for p, child in zip(plain, children))
