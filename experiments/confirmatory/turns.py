"""The confirmatory sessions, how their items are split, and how arms are played on them."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from experiments.collect.__main__ import CELLS, spread
from experiments.common.serving import Patience
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._session import Choice, Policy, SessionState, run_episode
from stackjax.agents.log._log import TurnLog, TurnRecord
from stackjax.agents.tasks._questions import gsm8k, hotpotqa, question_sessions
from stackjax.agents.tasks._tasks import Episode, Turn, make_episode

STREAM = 8  # seed of the confirmatory sessions
TUNING_STREAM = 9  # seed of the sessions on which fixed actions are tuned
TUNING_CELLS = 6  # random cells under which each tuning question is asked
TUNING_QUESTIONS, TUNING_OWN = (12, 5), 18
"""Sessions of tuning questions (under random cells, and under fixed actions), and our own ones."""
CANDIDATES = tuple(cell for cell in CELLS if cell[0] == 1.0 and cell[1] > 0.0)
"""Fixed actions that may be Conservative: all context, instructions, and any tools. Fixed actions
with less lost 10 points and more on the turns recorded earlier."""


def confirmatory(item: str) -> bool:
    """Whether an item, by the hash of its content, is kept for the confirmatory turns: 3 of 10."""
    return int(item, 16) % 10 >= 7


@dataclasses.dataclass(frozen=True)
class Questions:
    """Questions of others: sessions of two of HotpotQA and one of GSM8K, in random order."""

    tuning: list[Episode]
    confirmatory: list[Episode]


def read_questions(gsm8k_path: Path, hotpotqa_path: Path) -> Questions:
    """Read both files; the tuning sessions that are used, and all confirmatory ones."""
    kinds = gsm8k(gsm8k_path), hotpotqa(hotpotqa_path)

    def sessions(keep: bool, name: str) -> list[Episode]:
        sums, hops = ([turn for turn in kind if confirmatory(turn.item) == keep] for kind in kinds)
        half = len(hops) // 2
        return question_sessions([sums, hops[:half], hops[half:]], name=name, seed=0, turns=3)

    return Questions(sessions(False, "q-tune-")[: max(TUNING_QUESTIONS)], sessions(True, "q-conf-"))


def confirmatory_sessions(questions: Sequence[Episode], turns: int) -> list[Episode]:
    """Whole sessions of at least `turns` turns: all `questions`, spread evenly among our own.

    The order is the order of the run, and does not depend on `turns` but for where it ends and
    how densely the questions lie.
    """
    own: list[Episode] = []
    accept = lambda turn: confirmatory(turn.item)
    left = turns - sum(len(episode.turns) for episode in questions)
    while left > 0:
        own.append(make_episode(STREAM, len(own), accept=accept))
        left -= len(own[-1].turns)
    return spread(own, questions)


class Arm(Protocol):
    """A policy for each session; `learn` is told the session's records when it is over."""

    @property
    def name(self) -> str: ...

    @property
    def online(self) -> bool:
        """Whether it learns as it goes, so that sessions must come in order."""
        ...

    def session(self) -> Policy:
        """A policy for one session, with its own memory of the last signal."""
        ...

    def learn(self, records: Sequence[TurnRecord]) -> None:
        """What an arm that learns as it goes makes of a finished session."""
        ...


def random_cells(number: int) -> Policy:
    """A cell drawn uniformly, the draw with this number."""

    def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
        for _ in range(number):
            rng.choice(CELLS)
        return Choice(rng.choice(CELLS), None, 1 / len(CELLS), f"random-{number}", "random")

    return policy


def take_tuning(
    executor: Executor, questions: Sequence[Episode], log: TurnLog, workers: int
) -> None:
    """Questions under `TUNING_CELLS` random cells, then sessions under every candidate.

    Args:
      executor: takes the turns.
      questions: tuning sessions of questions, at least `TUNING_QUESTIONS[0]`.
      log: where they go.
      workers: sessions side by side.
    """
    random_designs = [random_cells(number) for number in range(TUNING_CELLS)]
    fixed = [candidate(cell) for cell in CANDIDATES]
    own = tuning_sessions(TUNING_OWN)
    for sessions, policies in (
        (questions[: TUNING_QUESTIONS[0]], random_designs),
        (spread(own, questions[: TUNING_QUESTIONS[1]]), fixed),
    ):

        def one(episode: Episode, policies: Sequence[Policy] = policies) -> list[TurnRecord]:
            played = (run_episode(executor, episode, policy, log) for policy in policies)
            return [record for records in played for record in records]

        _in_parallel(sessions, one, workers, log)


def tuning_sessions(count: int) -> list[Episode]:
    """Our own sessions for tuning fixed actions; none of their items is confirmatory."""
    accept = lambda turn: not confirmatory(turn.item)
    return [make_episode(TUNING_STREAM, index, accept=accept) for index in range(count)]


def candidate(cell: tuple[float, float, float]) -> Policy:
    """A fixed action, recorded as one of those that are tuned."""
    name = "candidate-" + "-".join(f"{level:g}" for level in cell)
    return lambda state, turn, rng: Choice(cell, None, None, name, "candidate")


def take_arms(
    executor: Executor,
    sessions: Sequence[Episode],
    arms: dict[str, Arm],
    log: TurnLog,
    workers: int,
) -> None:
    """Every session under every arm; arms that learn as they go follow, session by session.

    Sessions are taken side by side, arms one after the other, so that equal requests of a session
    are sent once.
    """
    fixed = {name: arm for name, arm in arms.items() if not arm.online}

    def one(episode: Episode) -> list[TurnRecord]:
        played = (run_episode(executor, episode, arm.session(), log) for arm in fixed.values())
        return [record for records in played for record in records]

    _in_parallel(sessions, one, workers, log)
    patience, before = Patience(limit=10), set(log.done)
    for arm in arms.values():
        if arm.online:
            for episode in sessions:
                records = run_episode(executor, episode, arm.session(), log)
                patience.watch(record for record in records if record.key not in before)
                arm.learn(records)


def _in_parallel(
    sessions: Sequence[Episode],
    one: Callable[[Episode], Iterable[TurnRecord]],
    workers: int,
    log: TurnLog,
) -> None:
    """`one` over all sessions; stops when the server has stopped answering."""
    patience, before = Patience(limit=10), set(log.done)
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(one, episode) for episode in sessions]
        try:
            for number, done in enumerate(as_completed(waiting), 1):
                patience.watch(record for record in done.result() if record.key not in before)
                tell(f"{number} of {len(sessions)} sessions")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def tell(line: str) -> None:
    """Progress goes to standard error."""
    print(f"  {line}", file=sys.stderr, flush=True)
