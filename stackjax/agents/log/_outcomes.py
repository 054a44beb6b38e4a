"""Recorded turns as columns, checked: what estimates of cells, probes and policies start from.

A *cell* is a response as the adapter carried it out. A *turn* is one question of one episode; in a
factorial log it has one row for each cell, in a randomised log a single one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stackjax._arrays.arguments import check_choice, check_shape
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.agents.tasks._tools import find_call


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """N recorded rows of one model.

    Attributes:
      cells: `[K, 3]`, the cells that occur, in lexicographic order.
      cell: `[N]`, row of `cells`.
      tokens: `[N]`, prompt and completion tokens.
      correct: `[N]`, 1 where the checked answer was right.
      failed: `[N]`, 1 where there was no answer: a fallback, nothing, or a tool call left open.
      propensity: `[N]`, probability that the design ran this cell at this turn: 1 in a factorial
        log; NaN where it is unknown.
      turn: `[N]`, number of the turn, equal for rows of one turn.
      episode: `[N]`, number of the episode.
      task: `[N]`, index into `TASK_TYPES`.
      complexity: `[N]`, in [0, 1].
      records: the N records.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(4))
      >>> len(log), log.cells.shape, log.row((1, 0, 1))
      (64, (8, 3), 5)
    """

    cells: np.ndarray
    cell: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    failed: np.ndarray
    propensity: np.ndarray
    turn: np.ndarray
    episode: np.ndarray
    task: np.ndarray
    complexity: np.ndarray
    records: tuple[TurnRecord, ...]

    def __len__(self) -> int:
        return len(self.cell)

    def take(self, mask: np.ndarray) -> Outcomes:
        """The rows that `mask` (N booleans, or integers) picks; the cells stay.

        Raises:
          ValueError: there are not N booleans.
        """
        mask = np.asarray(mask)
        if mask.dtype == bool:
            check_shape("mask", mask, self.cell.shape)
        index = np.flatnonzero(mask) if mask.dtype == bool else mask
        rows = {
            field.name: getattr(self, field.name)[index]
            for field in dataclasses.fields(self)
            if field.name not in ("cells", "records")
        }
        return Outcomes(self.cells, records=tuple(self.records[i] for i in index), **rows)

    def row(self, response: Sequence[float] | np.ndarray) -> int:
        """The row of `cells` that equals `response`.

        Raises:
          ValueError: it is not three numbers, or not one of the cells.
        """
        wanted = np.asarray(response, float)
        check_shape("response", wanted, (3,), ", (c, p, u)")
        found = np.flatnonzero(np.abs(self.cells - wanted).max(axis=1) < 1e-6)
        if found.size != 1:
            raise ValueError(
                f"`response` must be one of the recorded cells; got {wanted.tolist()}."
            )
        return int(found[0])


def outcomes(records: Iterable[TurnRecord]) -> Outcomes:
    """Arrange and check the records of one model.

    Args:
      records: N records of the turn log; pass them through `latest` where a turn may have been
        taken again.

    Raises:
      ValueError: there is no record; there are several models; a turn was recorded twice under one
        cell and one policy; tokens are not finite and positive; an executed action is outside of
        [0, 1]; a propensity is not in (0, 1]; a task type is unknown; a state's complexity is
        missing or not in [0, 1].

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(4))
      >>> print(log.tokens[:3], log.propensity[0])
      [100. 160. 160.] 1.0
    """
    rows = tuple(records)
    if not rows:
        raise ValueError("`records` must hold at least one record; got none.")
    models = sorted({row.model for row in rows})
    if len(models) > 1:
        raise ValueError(f"`records` must be of one model; got {', '.join(models)}.")
    seen: dict[tuple, int] = {}
    for number, row in enumerate(rows):
        first = seen.setdefault((row.episode, row.turn, row.policy, row.executed), number)
        if first != number:
            raise ValueError(
                f"`records[{number}]` must be of a turn not yet recorded, as `latest` does; got "
                f"record {first} again: turn {row.turn} of episode {row.episode!r} under "
                f"{row.executed} by {row.policy!r}."
            )
        check_choice(f"records[{number}].task", row.task, TASK_TYPES)
        check_shape(f"records[{number}].executed", row.executed, (3,), ", (c, p, u)")
    tokens = np.array([row.prompt_tokens + row.completion_tokens for row in rows], float)
    executed = np.round(np.array([row.executed for row in rows], float), 6)
    propensity = np.array([np.nan if r.propensity is None else r.propensity for r in rows], float)
    _refuse(~(np.isfinite(tokens) & (tokens > 0)), tokens, "tokens", "finite and positive")
    inside = (executed >= 0) & (executed <= 1)  # false for NaN, too
    _refuse(np.any(~inside, axis=1), executed, "executed", "three numbers in [0, 1]")
    unknown = np.isnan(propensity)
    wrong = ~unknown & ~((propensity > 0) & (propensity <= 1))
    _refuse(wrong, propensity, "propensity", "in (0, 1], or None")
    complexity = np.array([row.state.get("task_complexity", np.nan) for row in rows], float)
    wrong = ~((complexity >= 0) & (complexity <= 1))
    _refuse(wrong, complexity, "state.task_complexity", "in [0, 1]")
    cells, cell = np.unique(executed, axis=0, return_inverse=True)
    return Outcomes(
        cells=cells,
        cell=cell.ravel(),
        tokens=tokens,
        correct=np.array([row.correct for row in rows], float),
        failed=np.array([_failed(row) for row in rows], float),
        propensity=propensity,
        turn=_numbers([(row.episode, row.turn) for row in rows]),
        episode=_numbers([row.episode for row in rows]),
        task=np.array([TASK_TYPES.index(row.task) for row in rows]),
        complexity=complexity,
        records=rows,
    )


def _failed(record: TurnRecord) -> bool:
    open_call = find_call(record.answer) is not None
    return record.fallback is not None or open_call or not record.answer.strip()


def _numbers(labels: list) -> np.ndarray:
    """Numbers the distinct labels in order of appearance."""
    known: dict = {}
    return np.array([known.setdefault(label, len(known)) for label in labels])


def _refuse(wrong: Any, values: np.ndarray, name: str, allowed: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"`records[{first}].{name}` must be {allowed}; got {values[first]}.")
