"""What a governor must not forget: keys, sessions, budgets, verdicts, alarms, in one SQLite file.

Several governors, in one process or in several, may share a file on one machine. Without a file
the same tables live in memory and end with the governor.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
  key TEXT PRIMARY KEY, version INTEGER NOT NULL, seen REAL NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS sessions_seen ON sessions (seen);
CREATE TABLE IF NOT EXISTS spent (
  name TEXT NOT NULL, began REAL NOT NULL, tokens REAL NOT NULL, seen REAL NOT NULL,
  PRIMARY KEY (name, began));
CREATE TABLE IF NOT EXISTS outcomes (
  number INTEGER PRIMARY KEY AUTOINCREMENT, experiment TEXT NOT NULL, data TEXT NOT NULL);
"""
VERSION = 1
WAIT = 0.25
"""Seconds for which another process's transaction is waited for."""
KEPT = 90 * 86400.0
"""Seconds after which what a session spent is forgotten."""


class Memory:
    """The tables. Every method is one transaction.

    What cannot be written at once, since the disk is full or another process holds the file, is
    kept and written with the next transaction; `lost` is called each time.

    Args:
      path: The file, created with its folder, readable by the owner alone; None: in memory.
      lost: Called when a transaction had to be put off.

    Raises:
      ValueError: If the file is not such a store.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.persistent = path is not None
        self._lost = lost or (lambda: None)
        self._lock = threading.RLock()
        self._late: list[tuple[str, tuple[Any, ...]]] = []
        self._doing: list[tuple[str, tuple[Any, ...]]] = []
        self._depth = 0
        self._seen = -1
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._base = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=5.0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if path is not None:
                _share(self._base)
                # A killed process loses nothing; a power cut may cost the last transactions.
                self._base.execute("PRAGMA synchronous=NORMAL")
            with self._transaction() as base:
                for statement in SCHEMA.split(";"):
                    base.execute(statement)
                row = base.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()
                if row is None:
                    base.execute("INSERT INTO facts VALUES ('version', ?)", (str(VERSION),))
                elif row[0] != str(VERSION):
                    raise ValueError(f"`store` must have version {VERSION}; got {row[0]}.")
            self._base.execute(f"PRAGMA busy_timeout={int(1e3 * WAIT)}")
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise ValueError(f"`store` must be a governor's store; got {path}: {error}.") from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """One transaction that no other writer can come between; what was put off goes first.

        Within another one it is part of that one.
        """
        with self._lock:
            if self._depth:
                yield self._base
                return
            self._base.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                for statement, values in self._late:
                    self._base.execute(statement, values)
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                self._base.execute("ROLLBACK")
                self._late += self._doing
                raise
            else:
                self._late.clear()
            finally:
                self._depth = 0
                self._doing.clear()

    def _write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Writes now, or with the next transaction; within one, it is part of that one."""
        with self._lock:
            if self._depth:
                self._doing += statements
                for statement, values in statements:
                    self._base.execute(statement, values)
                return
            try:
                with self._transaction() as base:
                    for statement, values in statements:
                        base.execute(statement, values)
            except sqlite3.Error:
                self._lost()
                self._late += statements
                del self._late[:-10_000]

    def put_off(self) -> None:
        """Tells that a transaction of somebody's could not be made."""
        self._lost()

    def changed(self) -> bool:
        """Whether another governor has written since the last time this was asked."""
        if not self.persistent:
            return False
        with self._lock:
            (now,) = self._base.execute("PRAGMA data_version").fetchone()
            changed, self._seen = now != self._seen, now
        return changed

    # Facts

    def fact(self, name: str) -> Any:
        """A fact, decoded from JSON; None if it is unknown."""
        with self._lock:
            row = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, name: str, value: Any) -> None:
        """Writes a fact."""
        text = json.dumps(value, allow_nan=False)
        self._write(("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text)))

    def revise(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Replaces a fact by a function of it; no other governor can come between."""
        with self._transaction() as base:
            row = base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            value = change(None if row is None else json.loads(row[0]))
            text = json.dumps(value, allow_nan=False)
            base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))
        return value

    def secret(self) -> bytes:
        """The key of the sessions' pseudonyms, made by whoever asks first."""
        made = self.revise("key", lambda known: known or secrets.token_hex(32))
        return bytes.fromhex(made)

    # Sessions

    def session(self, key: str) -> tuple[int, float, str] | None:
        """A session's version, time and data."""
        with self._lock:
            query = "SELECT version, seen, data FROM sessions WHERE key = ?"
            return self._base.execute(query, (key,)).fetchone()

    def revise_session(
        self, key: str, change: Callable[[tuple[int, float, str] | None], tuple[float, str]]
    ) -> int:
        """Replaces a session by a function of it, and returns its new version."""
        query = "SELECT version, seen, data FROM sessions WHERE key = ?"
        with self._transaction() as base:
            row = base.execute(query, (key,)).fetchone()
            seen, data = change(row)
            version = 1 if row is None else row[0] + 1
            base.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", (key, version, seen, data)
            )
        return version

    def take_session(self, key: str) -> str | None:
        """Removes a session and returns its data; of several governors, one gets them."""
        with self._transaction() as base:
            row = base.execute("SELECT data FROM sessions WHERE key = ?", (key,)).fetchone()
            base.execute("DELETE FROM sessions WHERE key = ?", (key,))
        return None if row is None else row[0]

    def idle_sessions(self, before: float, limit: int = 20) -> list[str]:
        """Keys of sessions that were last seen before a time, the oldest first."""
        query = "SELECT key FROM sessions WHERE seen < ? ORDER BY seen LIMIT ?"
        with self._lock:
            return [key for (key,) in self._base.execute(query, (before, limit))]

    # Budgets

    def spend(self, name: str, began: float, tokens: float, now: float) -> None:
        """Adds tokens to what a session or a pool spent in the window that began then."""
        self._write(
            (
                "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT (name, began) DO UPDATE "
                "SET tokens = tokens + excluded.tokens, seen = excluded.seen",
                (name, began, tokens, now),
            )
        )

    def spent(self, name: str, began: float) -> float:
        """What a session or a pool spent in a window."""
        query = "SELECT tokens FROM spent WHERE name = ? AND began = ?"
        with self._lock:
            row = self._base.execute(query, (name, began)).fetchone()
            late = sum(v[2] for s, v in self._late if "INTO spent" in s and v[:2] == (name, began))
        return late + (0.0 if row is None else row[0])

    def forget(self, before: float) -> None:
        """Drops what was spent by those who were last seen before a time."""
        self._write(("DELETE FROM spent WHERE seen < ?", (before,)))

    # Outcomes

    def enter(self, experiment: str, outcome: list[Any]) -> None:
        """Adds a finished session's outcome."""
        row = (experiment, json.dumps(outcome, allow_nan=False))
        self._write(("INSERT INTO outcomes (experiment, data) VALUES (?, ?)", row))

    def outcomes(self, experiment: str, after: int = 0) -> list[tuple[int, list[Any]]]:
        """The numbers and data of the outcomes of an experiment, in their order."""
        query = "SELECT number, data FROM outcomes WHERE experiment = ? AND number > ? ORDER BY 1"
        with self._lock:
            rows = self._base.execute(query, (experiment, after)).fetchall()
        return [(number, json.loads(data)) for number, data in rows]

    def close(self) -> None:
        """Writes what was put off, and closes the file."""
        if self._late:
            self._write()
        with self._lock:
            self._base.close()


def _share(base: sqlite3.Connection) -> None:
    """Write-ahead logging, which lets others read; two processes that begin at once take turns."""
    for attempt in range(50):
        try:
            base.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if attempt == 49:
                raise
            time.sleep(0.02)
