"""The turns that a runtime's log holds, each once."""

from __future__ import annotations

import json
from collections.abc import Iterable

from stackjax.agents.log._log import TurnRecord


def written_turns(records: Iterable[TurnRecord]) -> list[TurnRecord]:
    """The last record of each turn that was written, in the order of their first ones.

    A turn is written again after each of its model calls and when its quality is known, under one
    `turn_id`. A session that comes back after a pause may number its turns from 0 again: a turn's
    number does not identify it. Logs without a `turn_id` are read by their content: a record that
    differs from another in nothing but the quality is the same turn.

    Example:
      >>> import dataclasses
      >>> first = dataclasses.replace(
      ...     known_world.records(1, 1, design="random")[0], design="runtime", correct=False
      ... )
      >>> later = dataclasses.replace(first, time="2026-01-05T00:00:00+00:00")
      >>> rated = dataclasses.replace(first, correct=True, extra={"quality": 1.0})
      >>> [turn.correct for turn in written_turns([first, later, rated])]
      [True, False]
    """
    last: dict[str, TurnRecord] = {}
    for record in records:
        known = record.extra.get("turn_id")
        if isinstance(known, str):
            key = f"{record.episode} {known}"
        else:
            extra = {k: v for k, v in record.extra.items() if k != "quality"}
            content = {**vars(record), "correct": None, "extra": extra}
            key = json.dumps(content, sort_keys=True, default=str)
        last[key] = record
    return list(last.values())
