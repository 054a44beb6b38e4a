"""Taking the turns: every turn of a session under cells of the grid, one line each."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.collect.__main__ import record_environment, served_environment
from experiments.common.results import sha256
from experiments.common.serving import Patience, check_resumable, executor_for
from experiments.pool.features import text_features
from experiments.pool.sessions import ADAPTER, CELLS, pool_sessions
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._session import Choice, SessionState, take_turn
from stackjax.agents.log._log import TurnLog, TurnRecord
from stackjax.agents.tasks._tasks import Episode
from stackjax.agents.tasks._tools import find_call

Cell = tuple[float, float, float]
CellsOf = Callable[[Episode, int], tuple[Sequence[Cell], float, str]]
TUNING_CELLS = 5
LEADER = ("task_complexity", "context_tokens", "turn_index")
"""What the leader's state has with the task type; complexity is a constant here."""


def take(args: Any, part: str, *, cells_of: CellsOf | None = None) -> None:
    """Takes the turns of one part that the log lacks; `args` are those of `experiments.pool`.

    Args:
      args: the command line's.
      part: of `sessions.PARTS`.
      cells_of: as in `take_sessions`; by default the part's own.

    Raises:
      ValueError: The log is of another model or adapter, or the file has too few rows.
      RuntimeError: The server has stopped answering.
    """
    sessions = pool_sessions(part, args.hotpotqa, count=args.sessions)
    served = executor_for(
        args.base_url,
        "default",
        args.model_path,
        args.out / "cache",
        timeout=args.timeout,
        adapter=ADAPTER,
    )
    with served as (executor, model), TurnLog(args.out / f"{part}-{args.executor}.jsonl") as log:
        check_resumable(log, executor)
        entry = served_environment(model, args.server, local=args.base_url is None)
        entry |= {"adapter": ADAPTER, "part": part, "hotpotqa": sha256(args.hotpotqa)}
        record_environment(args.out / f"environment-{part}-{args.executor}.json", entry)
        take_sessions(executor, sessions, log, cells_of=cells_of or CELLS_OF[part])


def take_sessions(
    executor: Executor,
    sessions: Sequence[Episode],
    log: TurnLog,
    *,
    cells_of: CellsOf,
) -> None:
    """Asks each turn under the cells that `cells_of` names; finished lines are not taken again.

    Earlier replies in the history are reference replies, so that an outcome depends on the turn and
    the cell alone.

    Args:
      executor: Takes the turns.
      sessions: The sessions, in order.
      log: Where the records go.
      cells_of: Cells of a turn, their propensity and the design's name, from session and position.

    Raises:
      RuntimeError: Ten turns in a row had no real answer.
    """
    patience, start, taken = Patience(limit=10), time.monotonic(), 0
    for number, episode in enumerate(sessions, 1):
        state = SessionState(token_budget=1.0)
        for position, turn in enumerate(episode.turns):
            state.hear(turn)
            cells, propensity, design = cells_of(episode, position)
            for cell in cells:
                choice = Choice(cell, None, propensity, name_of(cell), design)
                if (episode.name, position, choice.name, cell) in log.done:
                    continue
                record = take_turn(executor, episode, position, state, choice)
                record = numbers_only(record, state, turn.question)
                log.append(record)
                patience.watch([record])
                taken += 1
            state.update(turn, 0, True, False, turn.reference)
        rate = taken / max(time.monotonic() - start, 1e-9)
        done = f"{number} of {len(sessions)} sessions, {taken} lines now, {rate:.2f} a second"
        print(done, file=sys.stderr, flush=True)


def numbers_only(record: TurnRecord, state: SessionState, question: str) -> TurnRecord:
    """The record without text: the verdict for the reply, no gold, the features of the question."""
    turn_features = {name: record.state[name] for name in LEADER}
    open_call = find_call(record.answer) is not None
    verdict = "right" if record.correct else "open call" if open_call else "wrong"
    return dataclasses.replace(
        record,
        answer="" if record.fallback else verdict,
        gold="",
        state=turn_features | {"notes": len(state.notes)},
        extra=text_features(state.history, question),
    )


def name_of(cell: Cell) -> str:
    """The policy's name in the log."""
    return "cell-" + "-".join(f"{level:g}" for level in cell)


def _all_cells(episode: Episode, position: int) -> tuple[Sequence[Cell], float, str]:
    return CELLS, 1.0, "factorial"


def _random_cells(episode: Episode, position: int) -> tuple[Sequence[Cell], float, str]:
    rng = random.Random(f"stackjax-pool-{episode.name}-{position}")
    drawn = sorted(rng.sample(range(len(CELLS)), TUNING_CELLS))
    return [CELLS[i] for i in drawn], TUNING_CELLS / len(CELLS), "random"


CELLS_OF = {"pilot": _all_cells, "tune": _random_cells}
