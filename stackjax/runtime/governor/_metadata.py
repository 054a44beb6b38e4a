"""What a policy is told of a session, and the accounts that complete it between turns."""

from __future__ import annotations

import math
import numbers
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stackjax._arrays.arguments import check_count, check_within
from stackjax.agents.game._state import FIELDS
from stackjax.agents.log._accounts import Accounts

FIRST_SIGNAL = (0.775, 0.5)
"""The signal (q, alpha) before a session's first turn: the middle of the leader's box."""


@dataclass(frozen=True)
class SessionMetadata:
    """What the agent knows before a model step. A field that is None comes from the accounts.

    Attributes:
      identifier: The session's name; never written anywhere.
      task: Task type, one of `stackjax.agents.tasks._tasks.TASK_TYPES`.
      task_complexity: In [0, 1]; NaN where nobody can tell, see `Policy.recommend`.
      context_tokens: Tokens of the history that could be sent.
      turn_index: 0 at the session's first turn; failed turns count.
      mean_tokens: Mean tokens a turn so far.
      recent_quality: Recent quality in [0, 1].
      token_trend: Change between the last two turns' tokens, over `mean_tokens`.
      model_condition: 1 healthy, lowered by failures.
      budget: Share of the session's token budget that is left.
      earlier_turns: Turns before this one that the request shows, for a session that is older
        than its accounts; `turn_index` goes first.

    Raises:
      ValueError: If the identifier is not a non-empty string.

    Example:
      >>> SessionMetadata("session-7", task="data_analysis", context_tokens=180).task
      'data_analysis'
    """

    identifier: str = field(repr=False)
    task: str | None = None
    task_complexity: float | None = None
    context_tokens: float | None = None
    turn_index: float | None = None
    mean_tokens: float | None = None
    recent_quality: float | None = None
    token_trend: float | None = None
    model_condition: float | None = None
    budget: float | None = None
    earlier_turns: float | None = None

    def __post_init__(self) -> None:
        identifier: Any = self.identifier
        if not isinstance(identifier, str) or not identifier:
            kind = type(identifier).__name__
            raise ValueError(f"`identifier` must be a non-empty string; got {kind}.")


@dataclass
class Account:
    """One session, as the runtime keeps it.

    `accounts` are as in recorded turns, `signal` the last (q, alpha), `failures` the turns that the
    upstream did not answer, `last_seen` a clock's seconds, `arm` the session's first one with its
    propensity and the roll-out's label, `latest` the last turn's record, for a quality told later.
    """

    accounts: Accounts = field(default_factory=Accounts)
    signal: tuple[float, float] = FIRST_SIGNAL
    quality_sum: float = 0.0
    quality_count: int = 0
    failures: int = 0
    last_seen: float = 0.0
    arm: tuple[str, float, str] | None = None
    latest: Any = None
    predicted_quality: float | None = None

    @property
    def answered(self) -> int:
        """Turns that the upstream answered."""
        return self.accounts.turn_index - self.failures

    def finish(self, tokens: int, failed: bool) -> None:
        """Adds a finished turn, and its quality if it failed; an answer's is told by `rate`."""
        self.failures += failed
        correct = 0.0 if failed else None
        self.accounts = self.accounts.after(tokens, correct=correct, failed=float(failed))

    def rate(self, quality: float, *, failed: bool = False) -> None:
        """Adds the quality, in [0, 1], of the last turn; one that failed is known to be wrong."""
        self.accounts = self.accounts if failed else self.accounts.rated(quality)
        self.quality_sum += quality
        self.quality_count += 1


def complete(
    session: SessionMetadata, account: Account, token_budget: float | None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The eight numeric features, and the names of those that are missing or not finite."""
    known = account.accounts.measured(token_budget)
    known["turn_index"] = max(known["turn_index"], session.earlier_turns or 0)
    values, missing = {}, []
    for name in FIELDS:
        given = getattr(session, name)
        value: Any = known.get(name) if given is None else given
        number = not isinstance(value, bool) and isinstance(value, numbers.Real)
        unknown = number and name == "task_complexity" and math.isnan(float(value))
        if not number or not (unknown or math.isfinite(value)):
            missing.append(name)
        else:
            values[name] = float(value)
    return values, tuple(missing)


class Ledger:
    """Accounts of the running sessions, bounded in number and in idle time.

    Args:
      size: Sessions kept; the one seen longest ago goes first.
      idle: Seconds after which a session counts as finished.
      closed: Called with (key, account) for each session that leaves, outside of the lock.
      clock: Seconds; replaceable in tests.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If `size` is below 1 or `idle` is not positive.
    """

    def __init__(
        self,
        size: int = 10_000,
        idle: float = 1800.0,
        closed: Callable[[str, Account], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_count("size", size)
        check_within("idle", idle, "(0, inf]")
        self._size, self._idle, self._closed, self._clock = size, idle, closed, clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self.lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._accounts)

    def open(self, key: str) -> Account:
        """The session's account, new if there is none; sessions that are due leave."""
        now, gone = self._clock(), []
        with self.lock:
            account = self._accounts.get(key)
            if account is not None and now - account.last_seen > self._idle:
                gone.append((key, self._accounts.pop(key)))
                account = None
            if account is None:
                account = self._accounts[key] = Account()
            account.last_seen = now
            self._accounts.move_to_end(key)
            while self._accounts:
                oldest, first = next(iter(self._accounts.items()))
                if len(self._accounts) <= self._size and now - first.last_seen <= self._idle:
                    break
                gone.append((oldest, self._accounts.pop(oldest)))
        self._tell(gone)
        return account

    def peek(self, key: str) -> Account | None:
        """The session's account, or None."""
        return self._accounts.get(key)

    def close(self, key: str | None = None) -> None:
        """Ends one session, or all of them."""
        with self.lock:
            keys = list(self._accounts) if key is None else [key]
            gone = [(k, self._accounts.pop(k)) for k in keys if k in self._accounts]
        self._tell(gone)

    def _tell(self, gone: list[tuple[str, Account]]) -> None:
        for key, account in gone:
            if self._closed is not None:
                self._closed(key, account)
