"""Go or no-go from the pilot: is there private information, and is the need spread out?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pool.features import BUCKETS
from stackjax.agents.log._log import TurnRecord, latest
from stackjax.agents.tasks._research import RESEARCH_TYPES

MIN_GAIN, MIN_ENTROPY, CONSERVATIVE_RANGE = 0.05, 1.5, (0.6, 0.9)
TOLERANCE = 0.02  # Conservative: the cheapest cell this close to the best one
FOLDS, INNER = 10, 4
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
NO_CELL = -1
SHUFFLES = 200


class Pilot:
    """T turns, each under all K cells.

    Args:
      records: of the pilot, one model.

    Attributes:
      cells: `[K]` tuples. correct, tokens: `[T, K]`. session, task: `[T]`.
      length, position: `[T]`, the leader's context tokens and turn number.
      incomplete: turns left out, because a cell is missing.
    """

    def __init__(self, records: Sequence[TurnRecord]) -> None:
        by_turn: dict[tuple[str, int], dict[tuple[float, ...], TurnRecord]] = {}
        for record in latest(records):
            by_turn.setdefault((record.episode, record.turn), {})[record.executed] = record
        self.cells = sorted({record.executed for record in records})
        whole = [rows for rows in by_turn.values() if len(rows) == len(self.cells)]
        if not whole:
            raise ValueError("`records` must have a turn under all cells; got none")
        self.incomplete = len(by_turn) - len(whole)
        grid = [[rows[cell] for cell in self.cells] for rows in whole]
        first = [row[0] for row in grid]
        self.correct = np.array([[r.correct for r in row] for row in grid], float)
        self.tokens = np.array(
            [[r.prompt_tokens + r.completion_tokens for r in row] for row in grid], float
        )
        names = sorted({record.episode for record in first})
        self.session = np.array([names.index(record.episode) for record in first])
        self.task = np.array([RESEARCH_TYPES.index(record.task) for record in first])
        self.length = np.array([record.state["context_tokens"] for record in first], float)
        self.position = np.array([record.state["turn_index"] for record in first], float)
        self.first = first

    def __len__(self) -> int:
        return len(self.session)

    def leader(self) -> np.ndarray:
        """`[T, L]`: what the leader knows: task type, context length, turn, and their products."""
        kind = np.eye(len(RESEARCH_TYPES))[self.task]
        length, position = _scaled(self.length), _scaled(self.position)
        numbers = np.stack([length, length**2, position, position**2, length * position], 1)
        products = (kind[:, :, None] * numbers[:, None, :2]).reshape(len(self), -1)
        return np.concatenate([kind, numbers, products], 1)

    def executor(self) -> np.ndarray:
        """`[T, E]`: the leader's features, and those of the question's text."""
        extra = [record.extra for record in self.first]
        grams = np.zeros((len(self), BUCKETS))
        for i, features in enumerate(extra):
            grams[i, features["ngrams"]] = 1.0
        grams = grams[:, grams.sum(0) >= 3]
        relevance = np.array([features["relevance"] for features in extra], float)
        counts = np.array([[features["digits"], features["words"]] for features in extra], float)
        numbers = np.concatenate([relevance, counts], 1)
        numbers = (numbers - numbers.mean(0)) / (numbers.std(0) + 1e-9)
        return np.concatenate([self.leader(), numbers, grams - grams.mean(0)], 1)


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-9)


def cross_validated(
    features: np.ndarray, outcome: np.ndarray, session: np.ndarray, seed: int
) -> np.ndarray:
    """`[T, K]`: the outcome under each cell, predicted by ridge regression from other sessions.

    Folds are of whole sessions. The penalty of each fold is the best of `PENALTIES` in folds within
    the other sessions. Each cell has its own mean, which is not penalised.

    Args:
      features: `[T, F]`.
      outcome: `[T, K]`.
      session: `[T]`, numbers from 0.
      seed: of the folds.

    Raises:
      ValueError: There are fewer than three sessions.
    """
    if len(np.unique(session)) < 3:
        raise ValueError(f"`session` must have 3 sessions; got {len(np.unique(session))}")
    predicted = np.zeros_like(outcome)
    for test in _folds(session, seed):
        train = ~test
        inner = [fold[train] for fold in _folds(np.where(train, session, -1), seed + 1, INNER)]
        inner = [fold for fold in inner if fold.any() and not fold.all()]
        x, y = features[train], outcome[train]
        losses = sum(((_ridge(x[~f], y[~f], x[f]) - y[f]) ** 2).sum((1, 2)) for f in inner)
        predicted[test] = _ridge(x, y, features[test])[int(np.argmin(losses))]
    return predicted


def _folds(session: np.ndarray, seed: int, count: int = FOLDS) -> list[np.ndarray]:
    """Masks of the turns that each fold tests; sessions numbered -1 are in none."""
    names = np.unique(session[session >= 0])
    shuffled = np.random.default_rng(seed).permutation(names)
    return [np.isin(session, part) for part in np.array_split(shuffled, min(count, len(names)))]


def _ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`[P, N, K]`: predictions at `new`, for each of the P penalties."""
    centre, mean = x.mean(0), y.mean(0)
    x, new = x - centre, new - centre
    values, vectors = np.linalg.eigh(x @ x.T)
    projected = vectors.T @ (y - mean)
    known = new @ x.T @ vectors
    return np.stack([mean + (known / (values + p)) @ projected for p in PENALTIES])


def r_squared(pilot: Pilot, predicted: np.ndarray, turns: np.ndarray | None = None) -> float:
    """Share of the variance of correctness over turns and cells, cells' means included."""
    turns = np.arange(len(pilot)) if turns is None else turns
    y, p = pilot.correct[turns], predicted[turns]
    return float(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def gain(pilot: Pilot, seed: int) -> dict[str, Any]:
    """R^2 of leader and executor, and their difference with a 95% interval by session."""
    by_leader = cross_validated(pilot.leader(), pilot.correct, pilot.session, seed)
    by_executor = cross_validated(pilot.executor(), pilot.correct, pilot.session, seed)
    rng = np.random.default_rng(seed)
    names = np.unique(pilot.session)
    rows = [np.flatnonzero(pilot.session == name) for name in names]
    draws = []
    for _ in range(2000):
        turns = np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])
        draws.append(r_squared(pilot, by_executor, turns) - r_squared(pilot, by_leader, turns))
    leader, executor = r_squared(pilot, by_leader), r_squared(pilot, by_executor)
    return {
        "leader": leader,
        "executor": executor,
        "gain": executor - leader,
        "interval": np.quantile(draws, [0.025, 0.975]),
    }


def needed(pilot: Pilot) -> np.ndarray:
    """`[T]`: the cheapest cell that is right, by its tokens at the turn; `NO_CELL` if none is."""
    cost = np.where(pilot.correct > 0, pilot.tokens, np.inf)
    return np.where(pilot.correct.any(1), cost.argmin(1), NO_CELL)


def need_entropy(pilot: Pilot, seed: int) -> dict[str, float]:
    """Bits of the needed cell given the leader's state, over turns that some cell answers.

    ``given_type`` is the plug-in entropy given the task type, too low by what few turns a type
    cost. ``given_bins`` also knows halves of context length and of the turn number; its bins have
    so few turns that most of its difference is bias, which needs shuffled within each type have as
    well (``shuffled``). ``given_state``, the criterion, is ``given_type`` less what remains, the
    information ``shuffled - given_bins`` of length and turn where it is positive.
    ``corrected`` is ``given_state`` with Miller's correction of the plug-in bias, for the report.
    ``cross_entropy`` is that of frequencies by type, smoothed, from other sessions: too high.
    """
    need = needed(pilot)
    known = need != NO_CELL
    halves = [(v > np.median(v)).astype(int) for v in (pilot.length, pilot.position)]
    bins = (pilot.task * 4 + halves[0] * 2 + halves[1])[known]
    kind, cell = pilot.task[known], need[known]
    by_type, by_bins = _conditional(cell, kind), _conditional(cell, bins)
    rng = np.random.default_rng(seed)
    shuffled = np.mean([_conditional(_within(rng, cell, kind), bins) for _ in range(SHUFFLES)])
    given_state = by_type - max(float(shuffled) - by_bins, 0.0)
    extra = sum(len(np.unique(cell[kind == name])) - 1 for name in np.unique(kind))
    bits = 0.0
    for test in _folds(pilot.session, seed):
        for i in np.flatnonzero(test & known):
            seen = need[~test & known & (pilot.task == pilot.task[i])]
            count = np.bincount(seen, minlength=len(pilot.cells)) + 0.5
            bits -= np.log2(count[need[i]] / count.sum())
    return {
        "answered_by_some_cell": float(known.mean()),
        "marginal": _conditional(cell, np.zeros(len(cell), int)),
        "given_type": by_type,
        "given_bins": by_bins,
        "shuffled": float(shuffled),
        "given_state": given_state,
        "corrected": given_state + extra / (2 * np.log(2) * len(cell)),
        "cross_entropy": bits / known.sum(),
    }


def _within(rng: np.random.Generator, values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`values`, shuffled within each group."""
    shuffled = values.copy()
    for name in np.unique(group):
        rows = np.flatnonzero(group == name)
        shuffled[rows] = values[rng.permutation(rows)]
    return shuffled


def _conditional(values: np.ndarray, given: np.ndarray) -> float:
    """Plug-in entropy of `values` given `given`, in bits."""
    total = 0.0
    for group in np.unique(given):
        share = np.unique(values[given == group], return_counts=True)[1]
        p = share / share.sum()
        total -= share.sum() * float((p * np.log2(p)).sum())
    return total / len(values)


def conservative(pilot: Pilot) -> int:
    """The cheapest cell whose correctness is within `TOLERANCE` of the best one's."""
    right = pilot.correct.mean(0)
    close = right >= right.max() - TOLERANCE
    return int(np.argmin(np.where(close, pilot.tokens.mean(0), np.inf)))


def judge(records: Sequence[TurnRecord], *, seed: int) -> dict[str, Any]:
    """All criteria of one model, with ``go`` true if every one is met.

    Raises:
      ValueError: No turn was taken under all cells.
    """
    pilot = Pilot(records)
    base = conservative(pilot)
    right = float(pilot.correct[:, base].mean())
    need = needed(pilot)
    information, entropy = gain(pilot, seed), need_entropy(pilot, seed)
    low, high = CONSERVATIVE_RANGE
    criteria = {
        "information": information["gain"] >= MIN_GAIN,
        "entropy": entropy["given_state"] >= MIN_ENTROPY,
        "conservative": low <= right <= high,
    }
    return {
        "turns": len(pilot),
        "sessions": len(np.unique(pilot.session)),
        "incomplete": pilot.incomplete,
        "r_squared": information,
        "entropy_bits": entropy,
        "conservative": {"cell": pilot.cells[base], "right": right},
        "cells": [
            {
                "cell": cell,
                "right": float(pilot.correct[:, k].mean()),
                "tokens": float(pilot.tokens[:, k].mean()),
                "needed": int((need == k).sum()),
            }
            for k, cell in enumerate(pilot.cells)
        ],
        "by_type": {
            name: float(pilot.correct[pilot.task == i, base].mean())
            for i, name in enumerate(RESEARCH_TYPES)
            if (pilot.task == i).any()
        },
        "criteria": criteria,
        "go": all(criteria.values()),
    }
