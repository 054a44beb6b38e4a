"""Exact replay of policies over factorial records.

In a factorial episode every turn was run under all K cells (responses) of a grid, on a history that
is scripted and so does not depend on the cells chosen before. Any policy over the cells can then be
replayed turn by turn: its turn's tokens and correctness are those recorded for the cell it chooses,
and they update the session's state that it sees next. No model of the world is involved and nothing
is reweighted: every decision is matched by a record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stackjax.agents.executor._session import TURN_BUDGET, SessionState
from stackjax.agents.game._state import State, stack_states
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._tasks import Turn


@dataclasses.dataclass(frozen=True)
class Factorial:
    """Outcomes of every cell at every turn, `E` episodes of at most `T` turns, `K` cells.

    Attributes:
      episodes: names of the E episodes.
      cells: `[K, 3]`, the responses tried.
      tokens: `[E, T, K]`, prompt and completion tokens; 0 where there is no turn.
      correct: `[E, T, K]`, 1 where the checked answer was right.
      fallback: `[E, T, K]`, True where the adapter fell back.
      present: `[E, T]`, True where the episode has a turn.
      states: for each episode and turn the recorded state; of these replay keeps only what the
        script fixes.
      tasks: for each episode and turn the task type.
      families: for each episode and turn the generator's name.

    Example:
      >>> table = sj.agents.evaluation.factorial(known_world.records(4, 2))
      >>> print(table.tokens.shape, table.tasks[0], table.cell((1, 0, 1)))
      (4, 2, 8) ('simple_qa', 'complex_reasoning') 5
    """

    episodes: tuple[str, ...]
    cells: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    fallback: np.ndarray
    present: np.ndarray
    states: tuple[tuple[Mapping[str, Any], ...], ...]
    tasks: tuple[tuple[str, ...], ...]
    families: tuple[tuple[str, ...], ...]

    def cell(self, response: Sequence[float]) -> int:
        """The row of `cells` that equals `response`.

        Raises:
          ValueError: the response is not one of the cells.
        """
        rows = np.flatnonzero(np.abs(self.cells - np.asarray(response)).max(axis=1) < 1e-6)
        if rows.size != 1:
            raise ValueError(
                f"`response` must be one of the {len(self.cells)} cells; got {list(response)}."
            )
        return int(rows[0])


def factorial(records: Iterable[TurnRecord]) -> Factorial:
    """Arrange factorial records; episodes with an incomplete turn are left out.

    Args:
      records: turn-log records; only those of design "factorial" are used. A cell that was run
        twice counts once, the last time.

    Raises:
      ValueError: there is no factorial record, or no complete episode.

    Example:
      >>> table = sj.agents.evaluation.factorial(known_world.records(4, 2))
      >>> print(table.tokens[0, 0, :3], len(table.episodes))
      [100. 160. 160.] 4
    """
    outcomes: dict[str, dict[int, dict[tuple, TurnRecord]]] = {}
    for record in records:
        if record.design == "factorial":
            cell = tuple(round(float(x), 6) for x in record.executed)
            turns = outcomes.setdefault(record.episode, {})
            turns.setdefault(int(record.turn), {})[cell] = record
    if not outcomes:
        raise ValueError('`records` must hold some of design "factorial"; got none.')
    cells = sorted(
        {cell for turns in outcomes.values() for turn in turns.values() for cell in turn}
    )
    complete = {
        name: turns
        for name, turns in sorted(outcomes.items())
        if sorted(turns) == list(range(len(turns)))
        and all(len(turn) == len(cells) for turn in turns.values())
    }
    if not complete:
        raise ValueError(
            f"`records` must hold an episode with all {len(cells)} cells at every turn; got none."
        )
    shape = (len(complete), max(map(len, complete.values())), len(cells))
    tokens, correct, fallback = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    present = np.zeros(shape[:2], bool)
    for e, turns in enumerate(complete.values()):
        for t in range(len(turns)):
            present[e, t] = True
            for k, cell in enumerate(cells):
                record = turns[t][cell]
                tokens[e, t, k] = record.prompt_tokens + record.completion_tokens
                correct[e, t, k] = bool(record.correct)
                fallback[e, t, k] = record.fallback is not None

    def column(pick: Callable[[TurnRecord], Any]) -> tuple:
        return tuple(
            tuple(pick(turns[t][cells[0]]) for t in range(len(turns)))
            for turns in complete.values()
        )

    return Factorial(
        episodes=tuple(complete),
        cells=np.asarray(cells, dtype=float),
        tokens=tokens,
        correct=correct,
        fallback=fallback,
        present=present,
        states=column(lambda record: record.state),
        tasks=column(lambda record: record.task),
        families=column(lambda record: record.family),
    )


@dataclasses.dataclass(frozen=True)
class Replay:
    """One policy's path through the factorial records; entries without a turn are 0.

    Attributes:
      cell: `[E, T]`, the cell that was chosen.
      tokens: `[E, T]`. correct: `[E, T]`.
      action: `[E, T, 2]`, the signal that the policy gave; NaN for policies without one.
      present: `[E, T]`, True where the episode has a turn.

    Example:
      >>> table = sj.agents.evaluation.factorial(known_world.records(4, 2))
      >>> policy = sj.agents.evaluation.constant(table, (1, 1, 1))
      >>> found = sj.agents.evaluation.replay(table, policy, first_action=(0.8, 0.5))
      >>> print(found.tokens.sum(axis=1), found.cell[0])
      [660. 660. 660. 660.] [7 7]
    """

    cell: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    action: np.ndarray
    present: np.ndarray


Policy = Callable[[State, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""`(state with [E] leaves, previous action [E, 2]) -> (cell [E], action [E, 2])`."""


def constant(table: Factorial, response: Sequence[float]) -> Policy:
    """The policy that always plays one cell; it gives no signal.

    Raises:
      ValueError: the response is not one of the cells.

    Example:
      >>> table = sj.agents.evaluation.factorial(known_world.records(4, 2))
      >>> cell, signal = sj.agents.evaluation.constant(table, (0, 1, 1))(None, np.zeros((4, 2)))
      >>> print(cell, signal[0])
      [3 3 3 3] [nan nan]
    """
    cell = table.cell(response)

    def policy(state: State, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(previous), cell), np.full((len(previous), 2), np.nan)

    return policy


def replay(
    table: Factorial,
    policy: Policy,
    *,
    first_action: Sequence[float],
    turn_budget: float = TURN_BUDGET,
) -> Replay:
    """Play a policy through the records, turn by turn and all episodes at once.

    The session's state is the live one's (`SessionState`), fed with the chosen cells' recorded
    outcomes; complexity and length of the history, which the script fixes, are the recorded ones.
    The policy is called T times, always with all E episodes (ended ones repeat a stale state and
    are ignored), so that a jitted policy compiles once.

    Args:
      table: the factorial records.
      policy: chooses a cell for each episode.
      first_action: `[2]`, what counts as the action before the first turn.
      turn_budget: tokens that a session may use, a turn.

    Example:
      >>> table = sj.agents.evaluation.factorial(known_world.records(4, 2))
      >>> def tools_when_hard(state, previous):  # a policy over cells
      ...     hard = np.asarray(state.task_complexity) > 0.5
      ...     return np.where(hard, table.cell((1, 1, 1)), table.cell((1, 0, 0))), previous
      >>> found = sj.agents.evaluation.replay(table, tools_when_hard, first_action=(0.8, 0.5))
      >>> print(found.tokens[0], found.correct.mean())
      [210. 330.] 0.5
    """
    count, length, _ = table.tokens.shape
    cell = np.zeros((count, length), int)
    tokens, correct = np.zeros((count, length)), np.zeros((count, length))
    action = np.full((count, length, 2), np.nan)
    previous = np.tile(np.asarray(first_action, np.float32), (count, 1))
    sessions = [SessionState(turn_budget * len(states)) for states in table.states]
    rows = np.arange(count)
    for t in range(length):
        seen = [_observe(sessions[e], table, e, min(t, len(table.states[e]) - 1)) for e in rows]
        state = stack_states([features for _, features in seen], [turn.task for turn, _ in seen])
        chosen, signal = (np.asarray(x) for x in policy(state, previous))
        previous = np.where(np.isnan(signal), previous, signal).astype(np.float32)
        here = table.present[:, t]
        cell[:, t], action[:, t] = np.where(here, chosen, 0), signal
        tokens[:, t] = np.where(here, table.tokens[rows, t, chosen], 0)
        correct[:, t] = np.where(here, table.correct[rows, t, chosen], 0)
        for e in rows[here]:
            fell = bool(table.fallback[e, t, chosen[e]])
            sessions[e].update(seen[e][0], int(tokens[e, t]), bool(correct[e, t]), fell, "")
    return Replay(cell, tokens, correct, action, table.present)


def _observe(
    session: SessionState, table: Factorial, episode: int, turn: int
) -> tuple[Turn, dict[str, float]]:
    """A turn without its text, and the state before it."""
    recorded = table.states[episode][turn]
    stub = Turn(
        task=table.tasks[episode][turn],
        family=table.families[episode][turn],
        notes=(),
        question="",
        gold="",
        check="word",
        complexity=recorded["task_complexity"],
        reference="",
    )
    return stub, {**session.features(stub), "context_tokens": recorded["context_tokens"]}
