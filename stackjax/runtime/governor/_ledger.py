"""Accounts of the sessions between their turns, and the turn that is open in each."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from stackjax._arrays.arguments import check_count, check_within
from stackjax.agents.log._accounts import Accounts
from stackjax.agents.log._log import TurnRecord
from stackjax.runtime.governor._memory import Memory
from stackjax.runtime.policy._policy import Recommendation

FIRST_SIGNAL = (0.775, 0.5)
"""The signal (q, alpha) before a session's first turn: the middle of the leader's box."""


@dataclass
class OpenTurn:
    """A session's last turn, as far as its model calls have been observed.

    `advice` is the policy's, as a list, and `fallback` the reason against it with its detail: all
    calls of a turn follow its first one. `removed` are the estimated prompt tokens that rewriting
    took out, None if a call did not say; `changed` whether a request was sent otherwise than it
    came. `settled` once its outcome has gone to the charts.
    """

    identifier: str
    earlier: float | None = None
    arm: str = "untouched"
    advice: list[Any] | None = None
    fallback: list[str] | None = None
    followed: bool = False
    task: str | None = None
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    removed: float | None = 0.0
    changed: bool = False
    tool_calls: int = 0
    latency: float = 0.0
    exact: bool = True
    refused: bool = False
    failure: str | None = None
    model: str = ""
    settled: bool = False

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def recommended(self) -> Recommendation | None:
        """The policy's advice, None if there was none."""
        if self.advice is None:
            return None
        told: list[Any] = [tuple(x) if isinstance(x, list) else x for x in self.advice]
        return Recommendation(*told)


def as_lists(advice: Recommendation) -> list[Any]:
    """An advice as JSON gives it back."""
    return [list(x) if isinstance(x, tuple) else x for x in advice]


@dataclass
class Account:
    """One session, as the runtime keeps it.

    `accounts` are as in recorded turns, with the open turn; `before` are those without it. `signal`
    is the last (q, alpha), `failures` counts the turns that the upstream did not answer,
    `last_seen` is a clock's seconds, `arm` the session's first one with its propensity, the
    roll-out's label and the experiment, `latest` the open turn's record, for a quality told later.
    """

    accounts: Accounts = field(default_factory=Accounts)
    before: Accounts = field(default_factory=Accounts)
    signal: tuple[float, float] = FIRST_SIGNAL
    quality: float | None = None
    quality_sum: float = 0.0
    quality_count: int = 0
    failures: int = 0
    failures_before: int = 0
    last_seen: float = 0.0
    arm: tuple[str, float, str, str] | None = None
    turn: OpenTurn | None = None
    latest: TurnRecord | None = None
    version: int = 0

    @property
    def answered(self) -> int:
        """Turns that the upstream answered."""
        return self.accounts.turn_index - self.failures

    def begin(self) -> None:
        """Opens another turn."""
        self.before, self.failures_before, self.quality = self.accounts, self.failures, None

    def book(self, tokens: int, failed: bool) -> None:
        """The open turn's tokens so far, and whether its last call failed."""
        self.failures = self.failures_before + failed
        correct = 0.0 if failed else self.quality
        self.accounts = self.before.after(tokens, correct=correct, failed=float(failed))

    def finish(self, tokens: int, failed: bool) -> None:
        """Adds a turn of one call, and its quality if it failed; an answer's is told by `rate`."""
        self.begin()
        self.book(tokens, failed)

    def rate(self, quality: float, *, failed: bool = False) -> None:
        """Adds the quality, in [0, 1], of the last turn; one that failed is known to be wrong."""
        self.accounts = self.accounts if failed else self.accounts.rated(quality)
        self.quality = quality
        self.quality_sum += quality
        self.quality_count += 1

    def pack(self) -> str:
        """The account as JSON."""
        data = {k: v for k, v in vars(self).items() if k not in ("version", "last_seen")}
        data["accounts"], data["before"] = list(self.accounts), list(self.before)
        data["turn"] = None if self.turn is None else asdict(self.turn)
        data["latest"] = None if self.latest is None else self.latest.to_json()
        return json.dumps(data)

    @classmethod
    def unpack(cls, text: str, version: int = 0, seen: float = 0.0) -> Account:
        """What `pack` wrote."""
        data: dict[str, Any] = json.loads(text)
        made = cls(**data)
        made.version, made.last_seen = version, seen
        made.accounts, made.before = Accounts(*data["accounts"]), Accounts(*data["before"])
        made.signal = (data["signal"][0], data["signal"][1])
        made.arm = None if data["arm"] is None else tuple(data["arm"])
        made.turn = None if data["turn"] is None else OpenTurn(**data["turn"])
        made.latest = None if data["latest"] is None else TurnRecord.from_json(data["latest"])
        return made


class Ledger:
    """Accounts of the running sessions, bounded in number and in idle time.

    With a memory on disk an account is read again before each use if another governor has changed
    it, and what leaves for want of room is only forgotten here.

    Args:
      size: Sessions kept; the one seen longest ago goes first.
      idle: Seconds after which a session counts as finished.
      closed: Called with (key, account) for each session that ends, outside of the lock.
      clock: Seconds; replaceable in tests. Governors that share a memory share the clock.
      memory: Where accounts are kept over a restart; None: nowhere.

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
        memory: Memory | None = None,
    ) -> None:
        check_count("size", size)
        check_within("idle", idle, "(0, inf]")
        self._size, self._idle, self._closed, self._clock = size, idle, closed, clock
        self._memory = memory if memory is not None and memory.persistent else None
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._opened = 0
        self.lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._accounts)

    def open(self, key: str) -> Account:
        """The session's account, new if there is none; sessions that are due leave."""
        now, gone = self._clock(), []
        with self.lock:
            account = self._newest(key)
            if account is not None and now - account.last_seen > self._idle:
                gone += self._leave(key)
                account = None
            if account is None:
                account = Account()
            self._accounts[key] = account
            account.last_seen = now
            self._accounts.move_to_end(key)
            while self._accounts:
                oldest, first = next(iter(self._accounts.items()))
                due = now - first.last_seen > self._idle
                if len(self._accounts) <= self._size and not due:
                    break
                if self._memory is not None and not due:
                    del self._accounts[oldest]
                else:
                    gone += self._leave(oldest)
            if self._memory is not None and self._opened % 64 == 0:
                for due in self._memory.idle_sessions(now - self._idle):
                    gone += self._leave(due) if due != key else []
            self._opened += 1
        self._tell(gone)
        return account

    def change(self, key: str, change: Callable[[Account], None]) -> None:
        """Changes an account, and writes it; of several governors one at a time."""
        with self.lock:
            account = self.open(key)
            if self._memory is None:
                change(account)
                return

            done = False

            def newest(row: tuple[int, float, str] | None) -> tuple[float, str]:
                nonlocal account, done
                if row is not None and row[0] != account.version:
                    account = self._accounts[key] = Account.unpack(row[2], row[0])
                change(account)
                done, account.last_seen = True, self._clock()
                return account.last_seen, account.pack()

            try:
                account.version = self._memory.revise_session(key, newest)
            except sqlite3.Error:
                # Written with the session's next change: until then this governor has it alone.
                self._memory.put_off()
                if not done:
                    change(account)

    def peek(self, key: str) -> Account | None:
        """The session's account, or None."""
        with self.lock:
            return self._newest(key)

    def close(self, key: str | None = None) -> None:
        """Ends one session; or all of them, which a memory on disk keeps instead."""
        with self.lock:
            if key is None and self._memory is not None:
                return
            keys = list(self._accounts) if key is None else [key]
            gone = [pair for k in keys for pair in self._leave(k)]
        self._tell(gone)

    def _newest(self, key: str) -> Account | None:
        account = self._accounts.get(key)
        if self._memory is None:
            return account
        try:
            row = self._memory.session(key)
        except sqlite3.Error:
            return account
        if row is None:
            return account if account is not None and account.version == 0 else None
        if account is None or account.version != row[0]:
            account = Account.unpack(row[2], row[0], row[1])
        return account

    def _leave(self, key: str) -> list[tuple[str, Account]]:
        """Takes a session out; empty if another governor has done it, or there is none."""
        account = self._accounts.pop(key, None)
        if self._memory is not None:
            try:
                data = self._memory.take_session(key)
            except sqlite3.Error:
                return []  # it stays, for the next look
            account = None if data is None else Account.unpack(data)
        return [] if account is None else [(key, account)]

    def _tell(self, gone: list[tuple[str, Account]]) -> None:
        for key, account in gone:
            if self._closed is not None:
                self._closed(key, account)
