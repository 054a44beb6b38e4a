"""What a runtime writes: turn records, and shadow records that name nobody.

A turn record of the runtime has the fields of the turn log, so that `read_log` reads it, without
any text: `answer`, `gold` and `item` are empty, `episode` is a keyed hash of the session's
identifier whose key is never written. A shadow record has less still (arXiv 2606.23026, 9.2).
"""

from __future__ import annotations

import json
import os
import queue
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stackjax._arrays.arguments import check_count
from stackjax.agents.log._log import TurnLog


@dataclass(frozen=True)
class ShadowRecord:
    """One recommendation, without prompt, answer, identifier or precise time.

    Attributes:
      time: The hour, ISO 8601, UTC.
      task: Coarse task type.
      action: Recommended (c, p, u), None if there was no recommendation.
      fallback: Whether the decision fell back.
      quality: Quality proxy to one decimal, or None.

    Example:
      >>> sorted(json.loads(ShadowRecord("2026-01-05T10", "simple_qa", None, True).to_json()))
      ['action', 'fallback', 'quality', 'task', 'time']
    """

    time: str
    task: str
    action: tuple[float, float, float] | None
    fallback: bool
    quality: float | None = None

    def to_json(self) -> str:
        """The record as one line of JSON without the newline."""
        return json.dumps(vars(self), allow_nan=False)


def shadow_record(
    task: str | None,
    action: tuple[float, float, float] | None,
    fallback: bool,
    quality: float | None = None,
    *,
    now: datetime | None = None,
) -> ShadowRecord:
    """Coarsens a decision into a shadow record: the hour, the task type, one decimal of quality."""
    now = datetime.now(UTC) if now is None else now.astimezone(UTC)
    cell = None if action is None else tuple(round(float(x), 3) for x in action)
    return ShadowRecord(
        time=now.strftime("%Y-%m-%dT%H"),
        task=task or "unknown",
        action=cell,  # pyright: ignore[reportArgumentType]
        fallback=bool(fallback),
        quality=None if quality is None else round(float(quality), 1),
    )


def aggregate(records: Iterable[Mapping[str, Any]], *, minimum: int = 10) -> dict[str, Any]:
    """Counts of shadow records by day, task and action; small cells are left out.

    Cells below `minimum` go together into one; if that one is still below `minimum`, the smallest
    published cell joins it, so that a total does not give it away.

    Args:
      records: Shadow records as mappings (what `json.loads` gives for their lines).
      minimum: Least count that is published.

    Returns:
      ``cells``: rows of day, task, action, count, fallbacks and mean quality; ``other``: the
      count of all that is in no row, 0 or at least `minimum` (or everything, if there are fewer
      records than `minimum` altogether: then ``cells`` is empty and ``other`` is None).

    Raises:
      TypeError: If `minimum` is not an integer.
      ValueError: If `minimum` is below 2, or a record lacks a field.

    Example:
      >>> row = vars(ShadowRecord("2026-01-05T10", "simple_qa", None, True))
      >>> aggregate([row] * 12)["cells"][0]["count"], aggregate([row] * 3)["other"]
      (12, None)
    """
    check_count("minimum", minimum, least=2)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for number, row in enumerate(records):
        try:
            action = row["action"] if row["action"] is None else tuple(row["action"])
            groups[row["time"][:10], row["task"], action].append(row)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"`records[{number}]` must be a shadow record; got {type(error).__name__}: {error}."
            ) from error
    kept = {key: rows for key, rows in groups.items() if len(rows) >= minimum}
    other = sum(len(rows) for key, rows in groups.items() if key not in kept)
    while 0 < other < minimum and kept:
        smallest = min(kept, key=lambda key: len(kept[key]))
        other += len(kept.pop(smallest))
    cells = []
    for (day, task, action), rows in sorted(kept.items(), key=str):
        told = [row["quality"] for row in rows if row["quality"] is not None]
        cells.append(
            {
                "day": day,
                "task": task,
                "action": action,
                "count": len(rows),
                # Few ratings or few fallbacks in a large cell would tell of few sessions.
                "fallbacks": _coarse(
                    sum(bool(row["fallback"]) for row in rows), len(rows), minimum
                ),
                "quality": sum(told) / len(told) if len(told) >= minimum else None,
            }
        )
    return {"minimum": minimum, "cells": cells, "other": None if 0 < other < minimum else other}


def _coarse(count: int, total: int, minimum: int) -> int | None:
    # The complement is told with the count.
    return count if all(c == 0 or c >= minimum for c in (count, total - count)) else None


class RecordWriter:
    """Appends lines to a file from a thread of its own; the caller never waits for the disk.

    A last line that a kill tore is removed when a log is opened again. Lines that find no room, or
    that the disk refuses, are counted and lost: a log is not worth an agent's turn.

    Args:
      path: The file; created with its folder, readable by the owner alone.
      room: Lines that may wait.
      lost: Called for every line lost.

    Raises:
      ValueError: If an existing file is no turn log (files named ``*.shadow.jsonl`` are not
        parsed).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        room: int = 10_000,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self._lost = lost or (lambda: None)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._repair()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "ab")
        self._queue: queue.Queue[str | threading.Event | None] = queue.Queue(room)
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="stackjax-log", daemon=True)
        self._thread.start()

    def _repair(self) -> None:
        if not self.path.exists():
            return
        if not self.path.name.endswith(".shadow.jsonl"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                TurnLog(self.path).close()
            return
        content = self.path.read_bytes()
        os.truncate(self.path, content.rfind(b"\n") + 1)

    def append(self, line: str) -> None:
        """Queues one line, without its newline; after `close` it is lost."""
        if self._closed:
            self._lost()
            return
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._lost()

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until what was appended is on the disk; returns whether it is."""
        done = threading.Event()
        try:
            self._queue.put(done, timeout=timeout)
        except queue.Full:
            return False
        return done.wait(timeout)

    def close(self) -> None:
        """Writes what waits and closes the file."""
        self._closed = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(10.0)
        self._file.close()

    def _serve(self) -> None:
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty() and len(batch) < 1000:
                batch.append(self._queue.get())
            lines = [item for item in batch if isinstance(item, str)]
            try:
                # A lone surrogate, in a model's name for instance, becomes JSON's own escape.
                text = "".join(line + "\n" for line in lines)
                self._file.write(text.encode("utf-8", "backslashreplace"))
                self._file.flush()
                if lines:
                    os.fsync(self._file.fileno())
            except OSError:
                for _ in lines:
                    self._lost()
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
            if None in batch:
                return
