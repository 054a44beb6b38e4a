"""How predictions meet outcomes, with intervals clustered by episode.

Turns of one episode are not independent: episodes are. For an estimate with the linearisation
`sum_e u_e` over E episodes the variance is `E/(E-1) sum_e u_e^2`, and the interval uses Student's t
with E - 1 degrees of freedom (Liang and Zeger, Biometrika 73, 1986; Cameron and Miller, Journal of
Human Resources 50, 2015). Correlations get theirs on Fisher's scale, atanh.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from scipy import stats

from stackjax._arrays.arguments import check_all_within, check_same_shape, check_within
from stackjax.stats._bootstrap import Interval


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How N predictions meet their outcomes; each interval is clustered by episode.

    Attributes:
      turns: N.
      episodes: E.
      level: of each interval.
      mean: mean outcome.
      bias: mean of predicted minus observed.
      mae: mean absolute error.
      mse: mean squared error; of probabilities the Brier score.
      slope: of the least-squares line of observed on predicted, 1 if differences are right; NaN
        if the predictions are constant.
      correlation: Pearson's, of predicted and observed; NaN if either is constant.
      r2: `1 - mse / variance of observed`; NaN if that is 0.

    Example:
      >>> predicted, observed = np.array([1.0, 2, 3]), np.array([1.0, 3, 4])
      >>> found = sj.agents.surrogate.prediction_accuracy(predicted, observed, np.arange(3))
      >>> found.turns, round(found.mae.estimate, 3), round(found.r2, 3)
      (3, 0.667, 0.571)
    """

    turns: int
    episodes: int
    level: float
    mean: float
    bias: Interval
    mae: Interval
    mse: Interval
    slope: Interval
    correlation: Interval
    r2: float


def prediction_accuracy(
    predicted: np.ndarray | jax.Array,
    observed: np.ndarray | jax.Array,
    episode: np.ndarray | jax.Array,
    *,
    level: float = 0.95,
) -> Accuracy:
    """Bias, error, slope and correlation of predictions, with intervals clustered by episode.

    Args:
      predicted: `[N]`.
      observed: `[N]`, the outcomes.
      episode: `[N]` labels, equal for turns of one episode.
      level: of each interval.

    Raises:
      TypeError: `level` is not a number.
      ValueError: lengths differ, a number is not finite, there are fewer than 2 episodes, or
        `level` is not in (0, 1).

    Example:
      >>> predicted, observed = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 4, 4])
      >>> found = prediction_accuracy(predicted, observed, np.arange(4))
      >>> found.bias.estimate, found.mae.estimate, found.slope.estimate
      (-0.5, 0.5, 0.8)
    """
    predicted, observed, episode = check_turns(predicted, observed, episode, level)
    error = predicted - observed
    x, y = predicted - predicted.mean(), observed - observed.mean()
    xx, yy = x @ x, y @ y
    # by their ranges: rounding leaves a constant column's squares above 0
    predicted_varies, observed_varies = np.ptp(predicted) > 0, np.ptp(observed) > 0
    slope = correlation = Interval(np.nan, np.nan, np.nan)
    if predicted_varies:
        b = x @ y / xx
        slope = interval(b, x * (y - b * x) / xx, episode, level)
    if predicted_varies and observed_varies:
        u, v = x / np.sqrt(xx), y / np.sqrt(yy)
        r = float(np.clip(u @ v, -1, 1))
        # (1 - r^2) from the residual, which does not cancel
        rest = np.sum((v - r * u) ** 2)
        correlation = Interval(r, r, r)
        if rest > np.finfo(float).eps:
            z = interval(np.arctanh(r), (u * v - r * (u**2 + v**2) / 2) / rest, episode, level)
            correlation = Interval(r, float(np.tanh(z.low)), float(np.tanh(z.high)))
    return Accuracy(
        turns=len(observed),
        episodes=len(np.unique(episode)),
        level=level,
        mean=float(observed.mean()),
        bias=mean_interval(error, episode, level),
        mae=mean_interval(np.abs(error), episode, level),
        mse=mean_interval(error**2, episode, level),
        slope=slope,
        correlation=correlation,
        r2=float(1 - error @ error / yy) if observed_varies else float("nan"),
    )


def mean_interval(values: np.ndarray, episode: np.ndarray, level: float) -> Interval:
    """Mean of `values: [N]`, with its interval."""
    mean = values.mean()
    return interval(mean, (values - mean) / len(values), episode, level)


def interval(estimate: float, influence: np.ndarray, episode: np.ndarray, level: float) -> Interval:
    """An estimate with the interval of its linearisation, `influence: [N]`."""
    _, number = np.unique(episode, return_inverse=True)
    sums = np.bincount(number, influence)
    count = len(sums)
    half = stats.t.ppf((1 + level) / 2, count - 1) * np.sqrt(count / (count - 1) * (sums @ sums))
    return Interval(float(estimate), float(estimate - half), float(estimate + half))


def check_turns(
    predicted: Any, observed: Any, episode: Any, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three columns as NumPy arrays, `[N]` each.

    Raises:
      TypeError: `level` is not a number.
      ValueError: lengths differ, a number is not finite, there are fewer than 2 episodes, or
        `level` is not in (0, 1).
    """
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    episode = np.asarray(episode)
    check_same_shape("[N]", predicted=predicted, observed=observed, episode=episode)
    for name, values in (("predicted", predicted), ("observed", observed)):
        check_all_within(name, values, "(-inf, inf)")
    if len(np.unique(episode)) < 2:
        raise ValueError(f"`episode` must have at least 2; got {len(np.unique(episode))}.")
    check_within("level", level, "(0, 1)")
    return predicted, observed, episode
