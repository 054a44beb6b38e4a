"""What the tuning turns say: predictors of both players, and estimates of any policy.

A policy's cell was tried on a turn with a known probability, whatever the cell. So its right
answers and tokens are estimated without bias as what was predicted from other sessions, plus the
error of the prediction where the cell was tried, over that probability (doubly robust).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from experiments.confirmatory.tests import clustered_t
from experiments.pool.pilot import TOLERANCE
from experiments.pool.predictors import Predictor, cross_fitted, fit_predictor, log_loss
from experiments.pool.sessions import CELLS
from experiments.pool.table import MENU, Table, table_of
from experiments.pool.take import TUNING_CELLS
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._research import RESEARCH_TYPES

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Tuning turns of one model and what was fitted on them.

    Attributes:
      table: turns under `tried` random cells each; turns with fewer are left out.
      executor, leader: predictors with and without the text, fitted on all of the turns.
      quality, tokens: `[T, K]`, the executor's, predicted from other sessions.
      leader_quality, leader_tokens: `[T, K]`, the leader's, predicted from other sessions.
      tried: cells of a turn.
    """

    table: Table
    executor: Predictor
    leader: Predictor
    quality: np.ndarray
    tokens: np.ndarray
    leader_quality: np.ndarray
    leader_tokens: np.ndarray
    tried: int = TUNING_CELLS

    def outcomes(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimated right answers and tokens of each turn, `[T]` each, under `cells: [T]`."""
        rows = np.arange(len(self.table))
        weight = self.table.seen[rows, cells] * (len(CELLS) / self.tried)
        guess = self.quality[rows, cells], self.tokens[rows, cells]
        truth = self.table.correct[rows, cells], self.table.tokens[rows, cells]
        right, used = (g + weight * (t - g) for g, t in zip(guess, truth))
        return right, used

    def value(self, cells: np.ndarray) -> tuple[float, float]:
        """Estimated mean of right answers and of tokens a turn."""
        right, used = self.outcomes(cells)
        return float(right.mean()), float(used.mean())

    def fixed(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes as above of one cell for all turns."""
        return self.outcomes(np.full(len(self.table), k))

    def report(self) -> dict[str, float]:
        """Log losses of the predictors on turns of other sessions, next to the cells' means."""
        seen = self.table.seen
        mean = (self.table.correct * seen).sum(0) / np.maximum(seen.sum(0), 1)
        error = lambda tokens: float(np.abs(tokens - self.table.tokens)[seen].mean())
        return {
            "executor": log_loss(self.table, self.quality),
            "leader": log_loss(self.table, self.leader_quality),
            "cells": log_loss(self.table, np.tile(mean, (len(self.table), 1))),
            "executor_tokens": error(self.tokens),
            "leader_tokens": error(self.leader_tokens),
        }


def tune(records: Sequence[TurnRecord], *, seed: int, tried: int = TUNING_CELLS) -> Tuning:
    """Fits both players' predictors on one model's tuning turns.

    Args:
      records: of the part `tune`.
      seed: of the folds.
      tried: cells of a turn; turns that have fewer are left out.

    Raises:
      ValueError: There are turns of fewer than 8 sessions.
    """
    table = table_of(records)
    return tune_table(table.rows(table.seen.sum(1) >= tried), seed=seed, tried=tried)


def tune_table(
    table: Table,
    *,
    seed: int,
    tried: int = TUNING_CELLS,
    penalty: tuple[float, float] | None = None,
) -> Tuning:
    """As `tune`, for a table of turns with `tried` cells each; penalties are chosen if None."""
    sessions = len(np.unique(table.session))
    if sessions < 8:
        raise ValueError(f"`records` must be of at least 8 sessions; got {sessions}")
    executor, leader = (
        fit_predictor(table, text=text, seed=seed, penalty=penalty) for text in (True, False)
    )
    quality, tokens = cross_fitted(table, text=True, seed=seed, penalty=executor.penalty)
    own, cost = cross_fitted(table, text=False, seed=seed, penalty=leader.penalty)
    return Tuning(table, executor, leader, quality, tokens, own, cost, tried)


def conservative(tuning: Tuning) -> int:
    """The cheapest of the fixed actions within `TOLERANCE` of the best one's correctness."""
    found = [[values.mean() for values in tuning.fixed(k)] for k in range(len(CELLS))]
    right, tokens = np.array(found).T
    good = np.flatnonzero(right >= right.max() - TOLERANCE)
    return int(good[tokens[good].argmin()])


def not_excluded(tuning: Tuning, base: int) -> list[int]:
    """Other fixed actions with an upper bound above the base's correctness less `TOLERANCE`."""
    reference = tuning.fixed(base)[0]
    found = []
    for k in range(len(CELLS)):
        high = _upper(tuning.fixed(k)[0] - reference, tuning.table.session)
        if k != base and high > -TOLERANCE:
            found.append(k)
    return found


def action_sets(tuning: Tuning, base: int) -> np.ndarray:
    """`[5, K]` bool: the base, and the cells of the menu that are not excluded for a task type."""
    reference = tuning.fixed(base)[0]
    allowed = np.zeros((len(RESEARCH_TYPES), len(CELLS)), bool)
    allowed[:, base] = True
    for kind in range(len(RESEARCH_TYPES)):
        rows = tuning.table.task == kind
        if len(np.unique(tuning.table.session[rows])) < 2:
            continue
        for k in np.flatnonzero(MENU):
            difference = (tuning.fixed(int(k))[0] - reference)[rows]
            allowed[kind, k] |= _upper(difference, tuning.table.session[rows]) > -TOLERANCE
    return allowed


def _upper(values: np.ndarray, session: np.ndarray) -> float:
    mean, error, freedom = clustered_t(values, session)
    return mean + float(stats.t.ppf(1 - LEVEL, freedom)) * error
