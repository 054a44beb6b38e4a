"""Calibration of the predictors against fresh turns, and whether an old calibration still holds.

A map's error is judged by cross-fitting over episodes: each turn is predicted by a map that was
fitted without its episode. Intervals are clustered by episode.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from stackjax._arrays.arguments import check_type, check_within
from stackjax._arrays.verdict import Verdict
from stackjax.agents.surrogate._accuracy import (
    Accuracy,
    check_turns,
    interval,
    mean_interval,
    prediction_accuracy,
)
from stackjax.agents.surrogate._calibration_maps import CalibrationMap, Kind, MonotoneMap, fit_map
from stackjax.stats._bootstrap import Interval


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted map, and what it does to turns that it was not fitted on.

    Attributes:
      map: fitted on all turns given.
      before: accuracy of the predictions as they came.
      after: accuracy of cross-fitted calibrated predictions: each turn by a map fitted without its
        episode (and without the other episodes of its fold).
      mae_gain: mean absolute error before minus after, paired by turn; positive is better.
      mse_gain: the same of the squared error.

    Example:
      >>> x, group = np.linspace(0.0, 1.0, 40), np.arange(40) // 4
      >>> found = sj.agents.surrogate.fit_calibration(x, 0.5 * x + 0.2, group)
      >>> print(found.map.slope.round(3), found.mae_gain.low > 0)
      0.5 True
    """

    map: CalibrationMap
    before: Accuracy
    after: Accuracy
    mae_gain: Interval
    mse_gain: Interval


@dataclasses.dataclass(frozen=True)
class Drift:
    """Whether an old map still holds on later turns.

    Attributes:
      verdict: 'holds' if bias and slope lie within their margins, 'fails' if one of them differs
        from 0 or 1 and 'holds' cannot be said, 'undecided' if the turns do not tell.
      level: of the verdict: both intervals cover with at least this probability together
        (Bonferroni).
      bias: of the old map's values, relative to the mean outcome; 0 if it holds.
      slope: of observed on the old map's values; 1 if it holds.
      bias_margin: largest relative bias that counts as none.
      slope_margin: largest `|slope - 1|` that counts as none.
      bias_change: later bias minus the bias on the turns of the calibration (cross-fitted), in
        units of the outcome, an interval that knows of both samples; None if only a map was given.
      slope_change: the same of the slope.
      changed: whether an interval of the two excludes 0, at `level` together; None likewise, and
        where the calibration left only one value, so that a slope has no meaning.
      old: accuracy of the old map's values.
      refitted: accuracy of a map of the same kind fitted on these turns, cross-fitted.
      mae_gain: mean absolute error of the old map minus the refitted one's, paired by turn.

    Example:
      >>> x, group = np.linspace(1.0, 2.0, 40), np.arange(40) // 4
      >>> old = sj.agents.surrogate.fit_calibration(x, x, group)
      >>> found = sj.agents.surrogate.check_drift(old, x, 1.2 * x, group)
      >>> found.verdict, round(found.bias.estimate, 3), round(found.slope.estimate, 3)
      ('fails', -0.167, 1.2)
    """

    verdict: Verdict
    level: float
    bias: Interval
    slope: Interval
    bias_margin: float
    slope_margin: float
    bias_change: Interval | None
    slope_change: Interval | None
    changed: bool | None
    old: Accuracy
    refitted: Accuracy
    mae_gain: Interval


def fit_calibration(
    predicted: np.ndarray | jax.Array,
    observed: np.ndarray | jax.Array,
    episode: np.ndarray | jax.Array,
    *,
    kind: Kind = "linear",
    folds: int = 5,
    seed: int = 0,
    level: float = 0.95,
) -> Calibration:
    """Fit a calibration map, and measure by cross-fitting over episodes what it is worth.

    Args:
      predicted: `[N]`, predictions of turns that the predictor was not fitted on.
      observed: `[N]`, their outcomes: tokens, or correctness in [0, 1].
      episode: `[N]` labels, equal for turns of one episode. An episode recorded twice under one
        label is one episode.
      kind: 'linear' or 'isotonic' (any outcome), 'logistic' or 'beta' (probabilities).
      folds: parts into which the episodes are split at random; each is predicted by a map fitted
        on the others.
      seed: of the split.
      level: of the intervals.

    Raises:
      ValueError: lengths differ, a number is not finite, there are fewer than `folds` episodes or
        fewer than 2, predictions are constant (in a fold's fit, too), `kind` or `level` is not
        allowed, probabilities are outside of [0, 1], or for 'linear' outcomes fall with
        predictions.

    Example:
      >>> predicted = np.arange(20.0)
      >>> found = fit_calibration(predicted, 2.0 * predicted + 1.0, np.arange(20) // 2)
      >>> print(found.map(jnp.array(3.0)), found.after.mae.estimate < 1e-4)
      7.0 True
    """
    predicted, observed, episode = check_turns(predicted, observed, episode, level)
    fitted, crossed = _cross_fit(predicted, observed, episode, kind, folds, seed)
    before, after = predicted - observed, crossed - observed
    return Calibration(
        map=fitted,
        before=prediction_accuracy(predicted, observed, episode, level=level),
        after=prediction_accuracy(crossed, observed, episode, level=level),
        mae_gain=mean_interval(np.abs(before) - np.abs(after), episode, level),
        mse_gain=mean_interval(before**2 - after**2, episode, level),
    )


def check_drift(
    old: Calibration | CalibrationMap,
    predicted: np.ndarray | jax.Array,
    observed: np.ndarray | jax.Array,
    episode: np.ndarray | jax.Array,
    *,
    level: float = 0.95,
    bias_margin: float = 0.05,
    slope_margin: float = 0.1,
    folds: int = 5,
    seed: int = 0,
) -> Drift:
    """Test on later turns whether an old map still holds, and what a new one would bring.

    'Not significant' is not 'no drift': the verdict is 'holds' only where both intervals lie within
    margins stated beforehand. It is about the map as it stands: one fitted on few turns may fail
    on later ones though nothing changed. What changed is asked with `old` a `Calibration`, whose
    own uncertainty then counts (`bias_change`, `slope_change`).

    Args:
      old: a calibration, or its map alone.
      predicted: `[N]`, raw predictions of the later turns, before any map.
      observed: `[N]`, their outcomes.
      episode: `[N]` labels.
      level: of the verdict.
      bias_margin: relative to the mean outcome.
      slope_margin: of `|slope - 1|`.
      folds: of the refitted map.
      seed: of its split.

    Raises:
      TypeError: `old` is neither a calibration nor a map, or a margin is not a number.
      ValueError: as `fit_calibration`; a margin is negative, the mean outcome is not positive,
        or the old map takes all predictions to one value.

    Example:
      >>> x, group = np.linspace(100.0, 500.0, 60), np.arange(60) // 3
      >>> noise = np.random.default_rng(0).normal(size=60)
      >>> old = fit_calibration(x, 2 * x + noise, group)
      >>> check_drift(old, x, 2 * x + noise, group).verdict
      'holds'
      >>> check_drift(old, x, 3 * x + noise, group).verdict
      'fails'
    """
    calibration = old if isinstance(old, Calibration) else None
    fitted = old.map if isinstance(old, Calibration) else old
    wanted = "a Calibration, LinearMap, MonotoneMap or LogOddsMap"
    check_type("old", fitted, CalibrationMap, wanted)
    check_within("bias_margin", bias_margin, "[0, inf]")
    check_within("slope_margin", slope_margin, "[0, inf]")
    predicted, observed, episode = check_turns(predicted, observed, episode, level)
    if not observed.mean() > 0:
        raise ValueError(f"`observed` must have a positive mean; got {observed.mean():.4g}.")
    _, crossed = _cross_fit(predicted, observed, episode, fitted.kind, folds, seed)
    values = _applied(fitted, predicted)
    if np.ptp(values) == 0:
        raise ValueError(
            f"`old` must not take all {len(values)} predictions to one value, which has no slope; "
            f"got {values[0]:.4g}."
        )
    both = 1 - (1 - level) / 2
    error, mean = values - observed, observed.mean()
    ratio = error.mean() / mean
    bias = interval(ratio, (error - ratio * observed) / (mean * len(error)), episode, both)
    now = prediction_accuracy(values, observed, episode, level=both)
    slope = now.slope
    tests = (
        (bias.low, bias.high, bias_margin),
        (slope.low - 1, slope.high - 1, slope_margin),
    )
    near = [-margin <= low and high <= margin for low, high, margin in tests]
    moved = [low > 0 or high < 0 for low, high, _ in tests]
    verdict = Verdict.UNDECIDED
    if all(near):
        verdict = Verdict.HOLDS
    elif any(m and not n for m, n in zip(moved, near)):
        verdict = Verdict.FAILS
    bias_change = slope_change = changed = None
    if calibration is not None:
        then = calibration.after
        bias_change = _change(then.bias, now.bias, then, now)
        slope_change = _change(then.slope, now.slope, then, now)
        both_changes = bias_change, slope_change
        if all(np.isfinite(ends.high) for ends in both_changes):
            changed = any(ends.low > 0 or ends.high < 0 for ends in both_changes)
    return Drift(
        verdict=verdict,
        level=level,
        bias=bias,
        slope=slope,
        bias_margin=bias_margin,
        slope_margin=slope_margin,
        bias_change=bias_change,
        slope_change=slope_change,
        changed=changed,
        old=prediction_accuracy(values, observed, episode, level=level),
        refitted=prediction_accuracy(crossed, observed, episode, level=level),
        mae_gain=mean_interval(np.abs(error) - np.abs(crossed - observed), episode, level),
    )


def _change(before: Interval, after: Interval, earlier: Accuracy, later: Accuracy) -> Interval:
    """After minus before, at the later level; degrees of freedom of the smaller sample."""
    errors = [
        (ends.high - ends.estimate) / stats.t.ppf((1 + of.level) / 2, of.episodes - 1)
        for ends, of in ((before, earlier), (after, later))
    ]
    freedom = min(earlier.episodes, later.episodes) - 1
    half = stats.t.ppf((1 + later.level) / 2, freedom) * np.hypot(*errors)
    moved = after.estimate - before.estimate
    return Interval(moved, float(moved - half), float(moved + half))


def _cross_fit(
    predicted: np.ndarray,
    observed: np.ndarray,
    episode: np.ndarray,
    kind: Kind,
    folds: int,
    seed: int,
) -> tuple[CalibrationMap, np.ndarray]:
    """The map of all turns, and `[N]` values by maps fitted without the turn's fold."""
    labels, number = np.unique(episode, return_inverse=True)
    if not 2 <= folds <= len(labels):
        raise ValueError(f"`folds` must lie in 2..{len(labels)}, the episodes; got {folds}.")
    order = np.random.default_rng(seed).permutation(len(labels))
    fold = (order % folds)[number]
    fitted, crossed = fit_map(kind, predicted, observed), np.empty_like(predicted)
    for part in range(folds):
        out = fold == part
        crossed[out] = _applied(fit_map(kind, predicted[~out], observed[~out]), predicted[out])
    return fitted, crossed


def _applied(fitted: CalibrationMap, predicted: np.ndarray) -> np.ndarray:
    if isinstance(fitted, MonotoneMap):  # its knots differ in number, and each would be compiled
        return np.interp(predicted, np.asarray(fitted.knots), np.asarray(fitted.values))
    return np.asarray(fitted(jnp.asarray(predicted)), float)
