"""Intervals that know that turns come in episodes: the clustered bootstrap."""

from __future__ import annotations

import functools

import numpy as np

from stackjax._arrays.arguments import check_all_within, check_same_shape, check_within
from stackjax.stats._interval import Interval


def clustered_ratio(
    over: np.ndarray,
    under: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    draws: int = 10_000,
) -> Interval:
    """Ratio of two totals over episodes, with a bootstrap interval that redraws whole episodes.

    Percentile interval (Efron and Tibshirani 1993, chapter 13). It is somewhat too short for few
    episodes: at level 0.95 it covered 0.90, 0.92 and 0.94 for 10, 20 and 30 normal episodes.

    Args:
      over: `[E]`, the numerator's total in each episode.
      under: `[E]`, the denominator's; positive.
      seed: of the bootstrap; arms that share a seed share its draws.
      level: confidence level.
      draws: bootstrap samples.

    Raises:
      TypeError: `level` is not a number.
      ValueError: shapes differ, there are fewer than 2 episodes, a denominator is not positive,
        or `level` is not in (0, 1).

    Example:
      >>> wrong, turns = np.array([1.0, 0, 2, 1]), np.array([4.0, 5, 6, 5])
      >>> found = sj.stats.clustered_ratio(wrong, turns, seed=0)
      >>> [round(number, 3) for number in found]
      [0.2, 0.053, 0.304]
    """
    over, under = np.asarray(over, float), np.asarray(under, float)
    check_same_shape("[E]", over=over, under=under)
    check_within("level", level, "(0, 1)")
    count = len(over)
    if count < 2:
        raise ValueError(f"`over` must have at least 2 episodes; got {count}.")
    check_all_within("under", under, "(0, inf]")
    weights = _redraws(count, draws, seed)
    ratios = (weights @ over) / (weights @ under)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(over.sum() / under.sum()), float(low), float(high))


@functools.lru_cache(maxsize=4)  # the same for all arms that share a seed
def _redraws(count: int, draws: int, seed: int) -> np.ndarray:
    """How often each bootstrap sample holds each episode, `[draws, E]`; read-only."""
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    weights.flags.writeable = False
    return weights


def clustered_mean(
    values: np.ndarray, present: np.ndarray, *, seed: int, level: float = 0.95
) -> Interval:
    """Mean over turns with an episode-clustered bootstrap interval.

    Args:
      values: `[E, T]`, for instance a paired difference between two policies.
      present: `[E, T]`, True where there is a turn; episodes without any are left out.
      seed: of the bootstrap.
      level: confidence level.

    Raises:
      ValueError: as `clustered_ratio`, or shapes that are not `[E, T]`.

    Example:
      >>> tokens = np.array([[100.0, 120.0], [90.0, 0.0], [110.0, 130.0]])
      >>> there = np.array([[True, True], [True, False], [True, True]])
      >>> sj.stats.clustered_mean(tokens, there, seed=0)
      Interval(estimate=110.0, low=90.0, high=120.0)
    """
    values, present = np.asarray(values, float), np.asarray(present, bool)
    check_same_shape("[E, T]", values=values, present=present)
    counts = present.sum(1)
    sums = np.where(present, values, 0.0).sum(1)
    return clustered_ratio(sums[counts > 0], counts[counts > 0], seed=seed, level=level)
