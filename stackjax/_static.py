"""Functions as the static part of a pytree."""

from collections.abc import Callable
from typing import Any


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
