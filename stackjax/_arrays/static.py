"""Functions as the static part of a pytree."""

from collections.abc import Sequence
from typing import Any

import jax

from stackjax._arrays.reads import Unreadable, reads
from stackjax._arrays.typing import Fields


class Static:
    """A function as a hashable key: which one it is, and what it reads from elsewhere now.

    Args:
      function: the function; or a `jax.tree_util.Partial`, of which only the function is static.

    Raises:
      TypeError: it reads something whose changes could not be noticed.
    """

    def __init__(self, function: Any) -> None:
        self.partial = isinstance(function, jax.tree_util.Partial)
        self.function = function.func if self.partial else function
        try:
            key, self.kept = reads(self.function)
        except Unreadable as error:
            raise TypeError(f"a function ({self.function!r}) {error}") from error
        # A bound method is made anew whenever it is looked up: its object counts.
        self.owner = getattr(self.function, "__self__", self.function)
        self.key = id(self.owner), self.partial, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self.key == other.key


def split_static(values: Sequence[Any]) -> tuple[Fields, Fields]:
    """`(children, plain)` of a pytree: plain functions are static, their children None.

    The arguments of a `Partial` are children, and its function counts as static besides.
    """
    plain = tuple(Static(v) if _is_static(v) else None for v in values)
    return tuple(v if p is None or p.partial else None for p, v in zip(plain, values)), plain


def join_static(plain: Sequence[Static | None], children: Sequence[Any]) -> Fields:
    """The values that `split_static` split."""
    return tuple(
        child if p is None or p.partial else p.function for p, child in zip(plain, children)
    )


def _is_static(value: Any) -> bool:
    if isinstance(value, jax.tree_util.Partial):
        return True
    return callable(value) and jax.tree_util.all_leaves([value])
