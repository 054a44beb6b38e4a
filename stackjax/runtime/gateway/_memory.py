"""What earlier answers say about later requests: bounded, and of this process only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that forgets what was used longest ago; safe between threads."""

    def __init__(self, size: int = 10_000) -> None:
        self._size, self._lock = size, threading.Lock()
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, None if there is none."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: K, value: V) -> None:
        """Holds a value."""
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            if len(self._held) > self._size:
                self._held.popitem(last=False)

    def __len__(self) -> int:
        return len(self._held)


class Memory:
    """What was learnt from answers.

    Attributes:
      sessions: The session of a name that a client told, and of a response that it may name.
    """

    def __init__(self) -> None:
        self.sessions: Recent[tuple[str, str], str] = Recent()
        self._scales: Recent[str, float] = Recent()
        self._answers: Recent[str, float] = Recent(1000)
        self._refused: Recent[str, bool] = Recent(1000)

    def scale(self, session: str, model: str) -> float:
        """Counted over estimated tokens of the session's last request, else of the model's."""
        return self._scales.get(session) or self._scales.get(f"model {model}") or 1.0

    def answer(self, model: str) -> float | None:
        """Mean tokens of the model's answers to requests without a style; None before the first."""
        return self._answers.get(model)

    def counted(
        self, session: str, model: str, estimate: int, prompt: int, completion: int | None
    ) -> None:
        """Notes the counts of a request; `completion` is None if a style was sent."""
        if estimate > 0 and prompt > 0:
            scale = min(max(prompt / estimate, 0.1), 10.0)
            self._scales.put(session, scale)
            self._scales.put(f"model {model}", scale)
        if completion is not None:
            before = self._answers.get(model)
            mean = completion if before is None else before + (completion - before) / 20
            self._answers.put(model, float(mean))

    def refuses_usage(self, model: str) -> bool:
        """Whether the model's server refused a request for counts."""
        return bool(self._refused.get(model))

    def refused_usage(self, model: str) -> None:
        """Notes that it did."""
        self._refused.put(model, True)


def named(value: Any) -> str | None:
    """A text that may name a session: not empty, and not too long to be a name."""
    return value if isinstance(value, str) and 0 < len(value) <= 512 else None
