"""The sample size, from a pilot on tuning items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from experiments.confirmatory.analysis import source_of
from experiments.confirmatory.fit import fit
from experiments.confirmatory.tuning import MARGIN, tuning_records
from experiments.confirmatory.turns import confirmatory
from experiments.govern.arms import FIRST_ACTION
from experiments.repair.fit import play
from stackjax.agents.evaluation._replay import Replay, constant, factorial, replay
from stackjax.agents.log._log import TurnRecord, latest, read_log

QUESTION_TURNS = 225  # confirmatory questions that others wrote
LEVEL, POWER = 0.05, 0.9


def power(logs: Sequence[Path], *, seed: int, steps: int) -> dict[str, Any]:
    """Turns for 90% power to show non-inferiority when nothing is lost, one-sided 5%.

    Own sessions: the primary arms are replayed on factorial episodes that no fit has seen, and
    the paired difference in correctness has some variance a turn, clustering included. Questions of
    others: the mean squared difference between two random cells at one question, which is more
    than two tuned arms differ by. The two are mixed in the shares of the run.
    """
    records = tuning_records(logs)
    whole = factorial([r for r in latest(read_log(logs[0]).records) if r.design == "factorial"])
    item = {(r.episode, r.turn): r.item for r in read_log(logs[0]).records}
    counted = whole.present & np.array(
        [
            [not confirmatory(item.get((name, t), "9")) for t in range(whole.present.shape[1])]
            for name in whole.episodes
        ]
    )
    fitted = fit([r for r in records if r.design != "factorial"], seed=seed, steps=steps)
    base = replay(whole, constant(whole, fitted.conservative), first_action=FIRST_ACTION)
    arms = {
        name: play(fitted.controller(name, repaired=True), whole).replay
        for name in ("rational", "learned")
    }
    pilot = {name: compared(arm, base, counted) for name, arm in arms.items()}
    questions = question_variance([r for r in records if source_of(r) != "own"])
    return {
        "margin": MARGIN,
        "one_sided_level": LEVEL,
        "power": POWER,
        "conservative": fitted.conservative,
        "pilot": pilot,
        "questions_variance": questions,
        "turns": turns_needed(pilot["rational"]["variance"], questions),
    }


def compared(arm: Replay, base: Replay, counted: np.ndarray) -> dict[str, float]:
    """Saving, difference in correctness and its variance a turn with the design effect."""
    difference = np.where(counted, arm.correct - base.correct, 0.0)
    turns, mean = counted.sum(), difference.sum() / counted.sum()
    centred = np.where(counted, difference - mean, 0.0).sum(1)
    spent = np.where(counted, arm.tokens, 0.0).sum() / np.where(counted, base.tokens, 0.0).sum()
    return {
        "turns": int(turns),
        "episodes": int(counted.any(1).sum()),
        "saving": float(1 - spent),
        "difference": float(mean),
        "variance_independent": float(difference[counted].var()),
        "variance": float(max((centred**2).sum() / turns, difference[counted].var())),
    }


def question_variance(records: Sequence[TurnRecord]) -> float:
    """Mean squared difference in correctness of two different cells at one question."""
    by_question: dict[str, list[TurnRecord]] = {}
    for record in records:
        by_question.setdefault(record.item, []).append(record)
    squares = [
        float(a.correct != b.correct)
        for rows in by_question.values()
        for a, b in itertools.combinations(rows, 2)
        if a.executed != b.executed
    ]
    return float(np.mean(squares))


def turns_needed(own: float, questions: float) -> int:
    """The least number of turns; the questions' part of them is fixed."""
    reach = stats.norm.ppf(1 - LEVEL) + stats.norm.ppf(POWER)
    turns = QUESTION_TURNS
    while True:
        share = min(QUESTION_TURNS / turns, 1.0)
        variance = share * questions + (1 - share) * own
        if turns >= variance * (reach / MARGIN) ** 2:
            return turns
        turns += 1
