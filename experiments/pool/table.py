"""Recorded turns as arrays: what was tried, what came out, and what each player could know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.pool.features import BUCKETS
from experiments.pool.sessions import CELLS
from stackjax.agents.log._log import TurnRecord, latest
from stackjax.agents.tasks._research import RESEARCH_TYPES
from stackjax.agents.tasks._tasks import TASK_TYPES

MENU = np.array([c < 1.0 for c, _, _ in CELLS])
"""`[K]`: the cells that a policy may choose; the two with all context are fixed actions only."""
CHEAPEST = CELLS.index((0.0, 0.0, 0.0))


@dataclasses.dataclass(frozen=True)
class Table:
    """T turns under some of the K cells of `CELLS`, in the order of sessions and turns.

    Attributes:
      seen: `[T, K]` bool, whether the turn was taken under the cell.
      correct, tokens: `[T, K]`, 0 where not seen.
      session: `[T]`, numbers from 0. names: `[S]`, of the sessions.
      turn: `[T]`, position in the session. task: `[T]`, index into `RESEARCH_TYPES`.
      length: `[T]`, tokens of the history.
      text: `[T, BUCKETS]` bool, n-grams of the question. numbers: `[T, 7]`, relevance and counts.
      item: `[T]`, hashes of the questions.
    """

    seen: np.ndarray
    correct: np.ndarray
    tokens: np.ndarray
    session: np.ndarray
    names: tuple[str, ...]
    turn: np.ndarray
    task: np.ndarray
    length: np.ndarray
    text: np.ndarray
    numbers: np.ndarray
    item: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.session)

    @property
    def kind(self) -> np.ndarray:
        """`[T]`, index into `TASK_TYPES`."""
        return np.array([TASK_TYPES.index(name) for name in RESEARCH_TYPES])[self.task]

    def rows(self, keep: np.ndarray) -> Table:
        """The turns of a mask or an index; sessions keep their numbers."""
        whole = ("names", "item")
        parts = {
            field.name: getattr(self, field.name)[keep]
            for field in dataclasses.fields(self)
            if field.name not in whole
        }
        item = tuple(np.asarray(self.item)[keep].tolist())
        return Table(names=self.names, item=item, **parts)

    def with_other_text(self, seed: int) -> Table:
        """The text features of other turns, drawn without replacement: a falsification check."""
        order = np.random.default_rng(seed).permutation(len(self))
        return dataclasses.replace(self, text=self.text[order], numbers=self.numbers[order])


def text_rows(extra: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """`[T, BUCKETS]` and `[T, 7]`: what `text_features` found in T turns, as arrays."""
    text = np.zeros((len(extra), BUCKETS), bool)
    for row, features in enumerate(extra):
        text[row, features["ngrams"]] = True
    numbers = [[*found["relevance"], found["digits"], found["words"]] for found in extra]
    return text, np.array(numbers, float)


def table_of(records: Sequence[TurnRecord]) -> Table:
    """The turns of one model's log.

    Raises:
      ValueError: There is no record, or one of a cell that is not in `CELLS`.
    """
    if not records:
        raise ValueError("`records` must have a turn; got none")
    by_turn: dict[tuple[str, int], list[TurnRecord]] = {}
    for record in latest(records):
        if record.executed not in CELLS:
            raise ValueError(f"`records` must be of the study's cells; got {record.executed}")
        by_turn.setdefault((record.episode, record.turn), []).append(record)
    keys = sorted(by_turn)
    first = [by_turn[key][0] for key in keys]
    shape = len(keys), len(CELLS)
    seen, correct, tokens = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape)
    for row, key in enumerate(keys):
        for record in by_turn[key]:
            k = CELLS.index(record.executed)
            seen[row, k], correct[row, k] = True, float(record.correct)
            tokens[row, k] = record.prompt_tokens + record.completion_tokens
    names = tuple(dict.fromkeys(episode for episode, _ in keys))
    text, numbers = text_rows([record.extra for record in first])
    return Table(
        seen=seen,
        correct=correct,
        tokens=tokens,
        session=np.array([names.index(episode) for episode, _ in keys]),
        names=names,
        turn=np.array([turn for _, turn in keys]),
        task=np.array([RESEARCH_TYPES.index(record.task) for record in first]),
        length=np.array([record.state["context_tokens"] for record in first], float),
        text=text,
        numbers=numbers,
        item=tuple(record.item for record in first),
    )
