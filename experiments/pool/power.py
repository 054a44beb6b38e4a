"""Sample size from the pilot: an executor that reads the request against one that knows the state.

Both maximise predicted correctness less a price times predicted tokens, with predictors of one
class fitted on other sessions; the price of each is set so that the tokens used equal the budget.
The paired difference of right answers, turn by turn, has some variance a turn, which gives the
turns that a test needs. On sixty turns the difference itself says little; the variance is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from experiments.pool.pilot import Pilot, conservative, cross_validated

LEVEL, POWER = 0.05, 0.9
SHARES = (0.4, 0.55, 0.7, 0.85)
"""Budgets, as shares of Conservative's tokens; H3 is about the third."""
EFFECTS = (0.03, 0.05)
STEPS = 60  # bisections of the price


def power(pilot: Pilot, *, seed: int) -> list[dict[str, Any]]:
    """For each budget: right answers of both, their difference, its variance, and turns needed.

    Args:
      pilot: turns under all cells.
      seed: of the folds.
    """
    base = float(pilot.tokens[:, conservative(pilot)].mean())
    predicted = {
        name: (
            cross_validated(features, pilot.correct, pilot.session, seed),
            cross_validated(features, pilot.tokens / base, pilot.session, seed),
        )
        for name, features in (("direct", pilot.leader()), ("executor", pilot.executor()))
    }
    rows = np.arange(len(pilot))
    found = []
    for share in SHARES:
        right, tokens = {}, {}
        for name, (quality, cost) in predicted.items():
            cell = at_budget(quality, cost, pilot.tokens / base, share)
            right[name] = pilot.correct[rows, cell]
            tokens[name] = float(pilot.tokens[rows, cell].mean() / base)
        difference = right["executor"] - right["direct"]
        variance = clustered_variance(difference, pilot.session)
        found.append(
            {
                "share": share,
                "tokens": tokens,
                "right": {name: float(values.mean()) for name, values in right.items()},
                "difference": float(difference.mean()),
                "standard_error": float(np.sqrt(variance / len(pilot))),
                "variance": variance,
                "turns": {str(effect): turns_needed(variance, effect) for effect in EFFECTS},
            }
        )
    return found


def at_budget(
    quality: np.ndarray, cost: np.ndarray, tokens: np.ndarray, share: float
) -> np.ndarray:
    """`[T]`: the cells that maximise ``quality - price * cost``, at the lowest price in budget.

    Args:
      quality: `[T, K]`, predicted.
      cost: `[T, K]`, predicted tokens in units of the base.
      tokens: `[T, K]`, tokens used in the same units; their mean must not exceed the budget.
      share: the budget a turn.
    """
    low, high = 0.0, 1e3
    rows = np.arange(len(quality))
    for _ in range(STEPS):
        price = (low + high) / 2
        spent = tokens[rows, (quality - price * cost).argmax(1)].mean()
        low, high = (price, high) if spent > share else (low, price)
    return (quality - high * cost).argmax(1)


def clustered_variance(difference: np.ndarray, session: np.ndarray) -> float:
    """Variance a turn of a mean over turns, at least that of independent turns."""
    centred = difference - difference.mean()
    by_session = np.bincount(session, weights=centred)
    return float(max((by_session**2).sum() / len(difference), difference.var()))


def turns_needed(variance: float, effect: float) -> int:
    """Turns for `POWER` at a true difference of `effect`, one-sided at `LEVEL`."""
    reach = stats.norm.ppf(1 - LEVEL) + stats.norm.ppf(POWER)
    return int(np.ceil(variance * (reach / effect) ** 2))
