"""Confidence sequences: intervals that hold at all times at once.

A fixed-sample interval that is looked at after every session is wrong far more often than its
level says. The intervals here may be looked at whenever one likes, and a test may stop when they
say so: with probability `level` the mean lies inside all of them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from stackjax._arrays.arguments import (
    check_all_within,
    check_count,
    check_same_shape,
    check_shape,
    check_within,
)


@dataclasses.dataclass(frozen=True)
class ConfidenceSequence:
    """Estimate and interval after each of n observations.

    Attributes:
      estimate: `[n]`.
      low: `[n]`.
      high: `[n]`.

    Example:
      >>> ConfidenceSequence(np.ones(1), np.zeros(1), np.full(1, 2.0)).last
      (1.0, 0.0, 2.0)
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.estimate)

    @property
    def last(self) -> tuple[float, float, float]:
        """Estimate, low and high after the last observation; NaN and infinities without any."""
        if not len(self):
            return float("nan"), float("-inf"), float("inf")
        return float(self.estimate[-1]), float(self.low[-1]), float(self.high[-1])


def bounded_sequence(
    values: np.ndarray, *, low: float = 0.0, high: float = 1.0, level: float = 0.95
) -> ConfidenceSequence:
    """The predictable plug-in empirical-Bernstein sequence, for observations within known bounds.

    Holds for every n without any approximation, for independent observations of one mean and for
    any sequence whose conditional mean is constant.

    Args:
      values: `[n]`, in order.
      low: Least possible value.
      high: Largest possible value.
      level: Confidence level, in (0, 1).

    Returns:
      The running intersection of the intervals, within [low, high].

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a value is outside of the bounds or not finite, or the level not in (0, 1).

    Source: Waudby-Smith and Ramdas, Journal of the Royal Statistical Society B 86, 2024, Theorem 2.

    Example:
      >>> bounded_sequence(np.tile([0.0, 1.0], 500)).low[-1].round(2).item()
      0.44
    """
    x = _checked(values, level)
    if not low < high:
        raise ValueError(f"`low` must be below `high`; got {low} and {high}.")
    check_all_within("values", x, f"[{low}, {high}]")
    if not x.size:
        return ConfidenceSequence(x, x, x)
    x = (x - low) / (high - low)
    count = np.arange(1, x.size + 1)
    mean = (0.5 + np.cumsum(x)) / (count + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (count + 1)
    before_mean = np.concatenate([[0.5], mean[:-1]])
    before_variance = np.concatenate([[0.25], variance[:-1]])
    log = np.log(2.0 / (1.0 - level))
    bets = np.sqrt(2.0 * log / (before_variance * count * np.log1p(count)))
    bets = np.minimum(bets, 0.5)
    # 4 (x - mean)^2 times (-log(1 - bet) - bet) / 4
    spent = np.cumsum((x - before_mean) ** 2 * (-np.log1p(-bets) - bets))
    total = np.cumsum(bets)
    center, half = np.cumsum(bets * x) / total, (log + spent) / total
    lower = np.maximum.accumulate(np.clip(center - half, 0.0, 1.0))
    upper = np.minimum.accumulate(np.clip(center + half, 0.0, 1.0))
    running = np.cumsum(x) / count
    back = lambda y: low + (high - low) * y
    return ConfidenceSequence(back(running), back(lower), back(upper))


def mixture_sequence(
    values: np.ndarray, *, sigma: float, level: float = 0.95, tight_at: int = 100
) -> ConfidenceSequence:
    """The normal-mixture sequence, for sub-Gaussian observations of known scale.

    Args:
      values: `[n]`, in order; sub-Gaussian around one mean.
      sigma: Their scale: exp(t (x - mean)) has mean at most exp(t^2 sigma^2 / 2).
      level: Confidence level, in (0, 1).
      tight_at: Number of observations at which the interval is to be narrowest.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a value is not finite, sigma not positive, the level not in (0, 1), or
        `tight_at` below 1.

    Source: Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49, 2021, equation (14).

    Example:
      >>> sequence = mixture_sequence(np.zeros(100), sigma=1.0)
      >>> bool(sequence.high[-1] < sequence.high[0])
      True
    """
    x = _checked(values, level)
    check_within("sigma", sigma, "(0, inf)")
    return _mixture(x, np.full(x.shape, float(sigma)), level, tight_at)


def asymptotic_sequence(
    values: np.ndarray, *, level: float = 0.95, tight_at: int = 100
) -> ConfidenceSequence:
    """The asymptotic sequence, for observations without known bounds or scale.

    It plugs the running standard deviation into the normal mixture, and holds at level in the
    limit, as the central limit theorem does for one n. Intervals of fewer than 20 observations are
    the whole line.

    Args:
      values: `[n]`, in order.
      level: Confidence level, in (0, 1).
      tight_at: Number of observations at which the interval is to be narrowest.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a value is not finite, the level not in (0, 1), or `tight_at` below 1.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 52, 2024,
    Theorem 2.2.

    Example:
      >>> asymptotic_sequence(np.arange(5.0)).last
      (2.0, -inf, inf)
    """
    x = _checked(values, level)
    count = np.arange(1, x.size + 1)
    # Two passes over shifted values: the plain formula loses digits for a mean far from 0.
    y = x - (x[0] if x.size else 0.0)
    mean = np.cumsum(y) / count if x.size else y
    sigma = np.sqrt(np.maximum(np.cumsum(y**2) / count - mean**2, 0.0)) if x.size else y
    found = _mixture(x, sigma, level, tight_at)
    early = count < 20
    return ConfidenceSequence(
        found.estimate, np.where(early, -np.inf, found.low), np.where(early, np.inf, found.high)
    )


def _mixture(x: np.ndarray, sigma: np.ndarray, level: float, tight_at: int) -> ConfidenceSequence:
    check_count("tight_at", tight_at)
    if not x.size:
        return ConfidenceSequence(x, x, x)
    alpha = 1.0 - level
    count = np.arange(1, x.size + 1)
    rho = (-2.0 * np.log(alpha) + np.log(-2.0 * np.log(alpha) + 1.0)) / tight_at
    scaled = count * rho + 1.0
    half = sigma * np.sqrt(2.0 * scaled / (count**2 * rho) * np.log(np.sqrt(scaled) / alpha))
    mean = np.cumsum(x) / count
    return ConfidenceSequence(mean, mean - half, mean + half)


def _checked(values: np.ndarray, level: float) -> np.ndarray:
    x = np.asarray(values, float)
    check_shape("values", x, (None,))
    check_all_within("values", x, "(-inf, inf)")
    check_within("level", level, "(0, 1)")
    return x


def effect_scores(outcome: np.ndarray, governed: np.ndarray, share: np.ndarray) -> np.ndarray:
    """One score a session whose mean is the effect of governing, whatever came before.

    The score is the augmented inverse-propensity one, with the running means of the two arms as
    predictions:

        m_1 - m_0 + A / p (Y - m_1) - (1 - A) / (1 - p) (Y - m_0)

    The means use earlier sessions only and p is known, so that every score has the effect as its
    conditional mean. For outcomes in [0, 1] it lies
    in [-k, k] with k = 1 / min(p, 1 - p).

    Args:
      outcome: `[n]`, one a session, in order.
      governed: `[n]`, whether the session was governed.
      share: `[n]`, probability with which it would be.

    Raises:
      ValueError: If the shapes differ, or a share is not in (0, 1).

    Example:
      >>> scores = effect_scores(np.array([1.0, 0.0]), np.array([True, False]), np.full(2, 0.5))
      >>> scores.tolist()
      [2.0, 2.0]
    """
    y, a, p = np.asarray(outcome, float), np.asarray(governed, bool), np.asarray(share, float)
    check_same_shape("[n]", outcome=y, governed=a, share=p)
    check_all_within("share", p, "(0, 1)")
    means = []
    for arm in (a, ~a):
        total = np.concatenate([[0.0], np.cumsum(np.where(arm, y, 0.0))[:-1]])[: y.size]
        count = np.concatenate([[0.0], np.cumsum(arm)[:-1]])[: y.size]
        overall = np.concatenate([[0.0], np.cumsum(y)[:-1]])[: y.size] / np.maximum(
            np.arange(y.size), 1
        )
        # Half a session of the overall mean: an arm that has none yet is not predicted to be 0.
        means.append((total + 0.5 * overall) / (count + 0.5))
    first, other = means
    return first - other + np.where(a, (y - first) / p, -(y - other) / (1.0 - p))
