"""Confidence intervals for the mean of bounded numbers, valid at every sample size.

All take independent draws of one distribution on `[low, high]` and no other assumption. Draws that
come in clusters (turns of an episode) are not independent: pass one number a cluster.
"""

from __future__ import annotations

import math

import numpy as np

from stackjax._arrays.arguments import check_all_within, check_choice, check_within
from stackjax.stats._interval import Interval

METHODS = ("hoeffding", "bernstein", "betting")

_HALVINGS = 16
_LARGEST_BET = 0.5  # share of the capital that one round can lose


def mean_interval(
    values: np.ndarray,
    *,
    low: float,
    high: float,
    alpha: float,
    method: str = "betting",
) -> Interval:
    """A two-sided interval for the mean that misses it with probability at most `alpha`.

    Each side alone misses with probability at most `alpha / 2`, so that one side at `alpha` is the
    limit of the interval at `2 alpha`. With `R = high - low` and the sample variance V,

        hoeffding   R sqrt(ln(2 / alpha) / (2 n))
        bernstein   sqrt(2 V ln(4 / alpha) / n) + 7 R ln(4 / alpha) / (3 (n - 1))

    around the mean. 'betting' excludes a mean against which a fixed strategy of bets would have
    multiplied its capital by `2 / alpha` at any time; it adapts to the variance as Bernstein's
    does, with a far smaller constant, and is the one to use below a few hundred draws. It reads
    the draws in their order, which must not depend on their values.

    Args:
      values: `[..., n]`, n draws; leading axes are separate samples.
      low: the least possible value.
      high: the largest possible value.
      alpha: probability of a miss, in (0, 1).
      method: 'hoeffding', 'bernstein' (empirical Bernstein) or 'betting'.

    Returns:
      The `Interval`, inside `[low, high]`, with the leading axes' shape.

    Raises:
      TypeError: `alpha` is not a number.
      ValueError: no draw, a draw outside of the bounds or not a number, bounds that are not finite
        or not in order, `alpha` outside of (0, 1), or an unknown method.

    Source: Hoeffding, JASA 58, 1963; Maurer and Pontil, COLT 2009, Theorem 4; Waudby-Smith and
    Ramdas, JRSS-B 86, 2024, Theorem 3 (hedged capital, predictable plug-in bets).

    Example:
      >>> found = sj.stats.mean_interval(np.full(100, 0.5), low=0.0, high=1.0, alpha=0.05)
      >>> bool(found.low < 0.5 < found.high)
      True
    """
    values = np.asarray(values, float)
    check_within("alpha", alpha, "(0, 1)")
    check_choice("method", method, METHODS)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"`low` and `high` must be finite and in order; got {low} and {high}.")
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(
            f"`values` must be [..., n] with n of at least 1; got shape {values.shape}."
        )
    slack = 1e-6 * (high - low)  # rounding of what was computed in float32
    if not ((values >= low - slack) & (values <= high + slack)).all():
        check_all_within("values", values, f"[{low}, {high}]")
    values = np.clip(values, low, high)
    mean, count = values.mean(-1), values.shape[-1]
    if method == "betting":
        lower, upper = _betting((values - low) / (high - low), alpha)
        lower, upper = low + (high - low) * lower, low + (high - low) * upper
    else:
        deviation = values.std(-1, ddof=1) if count > 1 else np.full(mean.shape, np.inf)
        half = half_width(count, high - low, deviation, alpha, method)
        lower, upper = mean - half, mean + half
    return Interval(mean, np.clip(lower, low, mean), np.clip(upper, mean, high))


def half_width(
    count: float, width: float, deviation: np.ndarray | float, alpha: float, method: str
) -> np.ndarray:
    """Half the width of a two-sided interval by its formula; Bernstein's for 'betting'.

    Args:
      count: number of draws n.
      width: R, the range of one draw.
      deviation: sample standard deviation.
      alpha: probability of a miss.
      method: as in `mean_interval`; betting has no formula, and is narrower than Bernstein's in
        all cases that were tried.
    """
    deviation = np.asarray(deviation, float)
    if method == "hoeffding":
        return np.full(deviation.shape, width * math.sqrt(math.log(2 / alpha) / (2 * count)))
    if count <= 1:
        return np.full(deviation.shape, np.inf)
    logarithm = math.log(4 / alpha)
    return deviation * math.sqrt(2 * logarithm / count) + 7 * width * logarithm / (3 * (count - 1))


def draws_needed(
    target: float, *, width: float, deviation: float, alpha: float, method: str = "betting"
) -> float:
    """The smallest n at which the half-width is at most `target`: the formula, solved for n.

    Args:
      target: half-width to be reached; `inf` comes back where it is not positive.
      width: R, the range of one draw.
      deviation: standard deviation, as measured.
      alpha: probability of a miss.
      method: as in `half_width`: with 'betting' fewer will do.

    Raises:
      TypeError: `alpha` is not a number.
      ValueError: `alpha` is outside of (0, 1), or `method` is unknown.

    Source: as `mean_interval`.

    Example:
      >>> sj.stats.draws_needed(0.1, width=1.0, deviation=0.5, alpha=0.05, method="hoeffding")
      185.0
    """
    check_within("alpha", alpha, "(0, 1)")
    check_choice("method", method, METHODS)
    if not target > 0 or not np.isfinite(deviation):
        return math.inf
    if math.isinf(target):
        return 1.0
    half = lambda n: float(half_width(n, width, deviation, alpha, method))
    upper = 2
    while half(upper) > target:
        upper *= 2
    lower = upper // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        lower, upper = (lower, middle) if half(middle) <= target else (middle, upper)
    return float(upper if lower > 1 or half(1) > target else 1)


def _betting(x: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits for the means of `x: [..., n]` in [0, 1].

    The capital of the bets that the mean is above m falls with m, round by round (with the cap on
    a bet, too), and that of the bets below m rises: bisection finds where each crosses.
    """
    count, mean = x.shape[-1], x.mean(-1)
    order = np.arange(1, count + 1)
    # Shrunk to mean 1/2 and variance 1/4, and shifted by one: each bet knows the draws before it.
    means = (0.5 + np.cumsum(x, -1)) / (order + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2, -1)) / (order + 1)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), variances[..., :-1]], -1)
    # Each side holds half of the capital.
    threshold = math.log(2 / alpha)
    bets = np.sqrt(2 * threshold / (count * before))

    def most(x: np.ndarray, m: np.ndarray) -> np.ndarray:
        """Log of the largest capital of bets that the mean is above `m`."""
        size = np.minimum(bets, _LARGEST_BET / np.maximum(m, 1e-300)[..., None])
        return np.cumsum(np.log1p(size * (x - m[..., None])), -1).max(-1)

    def lower(x: np.ndarray) -> np.ndarray:
        """The largest mean found to be excluded from below, or 0."""
        out, within = np.zeros(x.shape[:-1]), np.ones(x.shape[:-1])
        for _ in range(_HALVINGS):
            middle = (out + within) / 2
            excluded = most(x, middle) >= threshold
            out, within = np.where(excluded, middle, out), np.where(excluded, within, middle)
        return out

    return np.minimum(lower(x), mean), np.maximum(1 - lower(1 - x), mean)
