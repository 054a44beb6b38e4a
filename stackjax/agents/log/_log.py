"""The turn log: one JSON object a line, safe against a kill at any moment."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

TurnKey = tuple[str, int, str, tuple[float, ...]]


@dataclass(frozen=True)
class TurnRecord:
    """One real turn.

    Attributes:
      episode: Episode's name.
      turn: 0-based position in the episode.
      task: Task type.
      family: Generator's name.
      item: Hash of the question's content.
      policy: Arm's name.
      design: ``"random"``, ``"factorial"``, ``"heuristic"``, ``"later"``, ``"candidate"`` or
        ``"policy"``.
      state: Raw features at decision time.
      signal: The leader's (q, alpha), or None where no leader played.
      intended: The follower's (c, p, u) before the adapter rounded it.
      executed: (c, p, u) as executed.
      propensity: Probability of the executed action under the design, or None if unknown.
      prompt_tokens: Tokens read by the model, summed over the turn's calls.
      completion_tokens: Tokens written by the model, summed over the turn's calls.
      latency: Seconds.
      tool_calls: Tool calls executed.
      answer: The model's final reply.
      gold: What was checked.
      correct: Whether the check passed.
      fallback: Reason why the turn was answered by the fallback, or None.
      replayed: Whether every reply came from the cache.
      model: Model's name.
      adapter: Adapter's version.
      seed: Seed of the episode stream.
      time: ISO 8601, UTC.
      extra: Keys that this version does not know, kept as they are.

    Raises:
      TypeError: If a field is missing.

    Example:
      >>> record = known_world.records()[0]
      >>> record.key
      ('factorial-0', 0, 'factorial', (0.0, 0.0, 0.0))
      >>> sj.agents.log.TurnRecord.from_json(record.to_json()) == record
      True
    """

    episode: str
    turn: int
    task: str
    family: str
    item: str
    policy: str
    design: str
    state: dict[str, float]
    signal: tuple[float, float] | None
    intended: tuple[float, float, float]
    executed: tuple[float, float, float]
    propensity: float | None
    prompt_tokens: int
    completion_tokens: int
    latency: float
    tool_calls: int
    answer: str
    gold: str
    correct: bool
    fallback: str | None
    replayed: bool
    model: str
    adapter: str
    seed: int
    time: str
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> TurnKey:
        """What identifies a turn for resuming: episode, turn, policy, executed action."""
        return turn_key(self.episode, self.turn, self.policy, self.executed)

    @property
    def answered(self) -> bool:
        """False where no server answered: an outage, which a resumed run takes again."""
        reason = self.fallback or ""
        return reason not in ("timeout", "connection") and not reason.startswith("http_")

    def to_json(self) -> str:
        """Returns the record as one line of JSON without the newline."""
        data = dataclasses.asdict(self)
        data.update(data.pop("extra"))
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> TurnRecord:
        """Reads a record; unknown keys go to `extra`.

        Raises:
          ValueError: If the line is not a JSON object or lacks a field.
        """
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError(f"a turn record must be a JSON object; got {type(data).__name__}.")
        names = [f.name for f in dataclasses.fields(cls) if f.name != "extra"]
        missing = [name for name in names if name not in data]
        if missing:
            raise ValueError(
                f"a turn record must have all fields; got none of {', '.join(missing)}."
            )
        known = {name: data.pop(name) for name in names}
        for name in ("signal", "intended", "executed"):
            if name == "signal" and known[name] is None:
                continue
            if not isinstance(known[name], list):
                raise ValueError(f"`{name}` must be a list of numbers; got {known[name]!r}.")
            known[name] = tuple(float(value) for value in known[name])
        return cls(**known, extra=data)


def turn_key(episode: str, turn: int, policy: str, action: tuple[float, ...]) -> TurnKey:
    """Returns the key under which a finished turn is recognised when a run resumes."""
    return episode, turn, policy, tuple(round(float(a), 6) for a in action)


def latest(records: Iterable[TurnRecord]) -> list[TurnRecord]:
    """The last record of each turn; one taken again after an outage stands in a log twice.

    A policy that reads the session's health may act otherwise the second time: an outage gives
    way to any answered record of the same episode, turn and policy.

    Example:
      >>> import dataclasses
      >>> good = known_world.records(1, 1, design="random")[0]
      >>> outage = dataclasses.replace(good, fallback="timeout")
      >>> [record.fallback for record in sj.agents.log.latest([outage, good])]
      [None]
    """
    last = {record.key: record for record in records}.values()
    answered = {(r.episode, r.turn, r.policy) for r in last if r.answered}
    return [r for r in last if r.answered or (r.episode, r.turn, r.policy) not in answered]


class LogContents(NamedTuple):
    """A log that was read: its records and, if the last line was torn, where it begins.

    Example:
      >>> contents = sj.agents.log.LogContents(records=[], torn="line 3, byte 812: 40 bytes")
      >>> contents.torn is None  # a whole log has None
      False
    """

    records: list[TurnRecord]
    torn: str | None


def read_log(path: str | os.PathLike[str]) -> LogContents:
    """Reads a log (``.jsonl`` or ``.jsonl.gz``).

    A last line without a newline that is not a complete record was torn by a kill: it is left out
    and described in `torn`.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If any other line is not a turn record; names the file and the line.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "turns.jsonl"
      ...     with path.open("w") as file:
      ...         print(known_world.records()[0].to_json(), file=file)
      ...         print('{"episode":', end="", file=file)  # killed in the middle of a line
      ...     contents = sj.agents.log.read_log(path)
      >>> len(contents.records), contents.torn is None
      (1, False)
    """
    path = Path(path)
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
    with opened as file:
        try:
            content = file.read()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path} must be a complete gzip file; it is torn or damaged."
            ) from error
    records, _, torn = _parse(content, path)
    return LogContents(records, torn)


def _parse(content: bytes, path: Path) -> tuple[list[TurnRecord], int, str | None]:
    """Returns the records, the length of the well-formed part, and what was torn."""
    records: list[TurnRecord] = []
    offset = 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        complete = line.endswith(b"\n")
        if line.strip():
            try:
                records.append(TurnRecord.from_json(line.decode("utf-8")))
            except ValueError as error:
                if not complete and offset + len(line) == len(content):
                    return records, offset, f"line {number}, byte {offset}: {len(line)} bytes"
                raise ValueError(f"{path}, line {number}: not a turn record: {error}") from error
        offset += len(line)
    return records, offset, None


class TurnLog:
    """An append-only log of turns; each record is flushed to the disk before `append` returns.

    Opening an existing log truncates a torn last line, with a warning that says where; complete
    records are never touched.

    Args:
      path: A ``.jsonl`` file; created, with its folder, if absent.

    Attributes:
      records: The records that were there when the log was opened.
      done: Keys of all finished turns, for resuming; turns lost to an outage are not among them.

    Raises:
      ValueError: If a line other than the last is not a turn record.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "turns.jsonl"
      ...     with sj.agents.log.TurnLog(path) as log:
      ...         log.append(known_world.records()[0])
      ...     with sj.agents.log.TurnLog(path) as again:
      ...         print(len(again.records), len(again.done))
      1 1
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.records: list[TurnRecord] = []
        seal = False
        if self.path.exists():
            content = self.path.read_bytes()
            self.records, length, torn = _parse(content, self.path)
            if torn is not None:
                warnings.warn(f"{self.path}: torn last record removed, {torn}.", stacklevel=2)
                os.truncate(self.path, length)
            seal = torn is None and bool(content) and not content.endswith(b"\n")
        self.done: set[TurnKey] = {record.key for record in latest(self.records) if record.answered}
        self._file = open(self.path, "ab")
        if seal:
            self._write(b"\n")

    def append(self, record: TurnRecord) -> None:
        """Writes one record and waits until it is on the disk."""
        self._write(record.to_json().encode("utf-8") + b"\n")
        if record.answered:
            self.done.add(record.key)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> TurnLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
