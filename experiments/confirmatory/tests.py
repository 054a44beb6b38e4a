"""The confirmatory tests: means over turns whose errors are clustered by episode."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

LEVEL = 0.05
ROUNDING = 1e-9  # an error below this is none, in units of an answer or a token


def clustered_t(values: np.ndarray, episode: np.ndarray) -> tuple[float, float, int]:
    """Mean over turns, its standard error clustered by episode, and degrees of freedom.

    The ratio estimator: residual totals of the episodes over the number of turns, with the factor
    E / (E - 1).
    """
    number = np.unique(episode, return_inverse=True)[1]
    count = number.max() + 1
    if count < 2:
        raise ValueError(f"episode: got {count}, need at least 2")
    mean = values.mean()
    totals = np.bincount(number, values - mean, count)
    error = np.sqrt((totals**2).sum() * count / (count - 1)) / len(values)
    return float(mean), float(error), int(count - 1)


def non_inferiority(values: np.ndarray, episode: np.ndarray, margin: float) -> dict[str, float]:
    """One-sided test of `mean <= -margin`, and the lower bounds at 95 and 97.5%."""
    mean, error, freedom = clustered_t(values, episode)
    low = lambda level: mean - stats.t.ppf(level, freedom) * error
    if error < ROUNDING:
        p = 0.0 if mean > -margin + ROUNDING else 1.0
    else:
        p = float(stats.t.sf((mean + margin) / error, freedom))
    return {
        "margin": margin,
        "p": p,
        "low_95": float(low(0.95)),
        "low_975": float(low(0.975)),
    }


def two_way_bound(values: np.ndarray, episode: np.ndarray, item: np.ndarray) -> float:
    """Lower 95% bound of the mean with errors clustered by episode and by item.

    Items occur in several sessions. Variances add up as V(episode) + V(item) - V(both) (Cameron,
    Gelbach and Miller 2011); not below that of episodes alone.
    """
    mean, error, freedom = clustered_t(values, episode)
    both = np.unique(np.stack([episode, item], axis=1), axis=0, return_inverse=True)[1].ravel()
    parts = [error**2, 0.0, 0.0]
    if len(np.unique(item)) > 1:
        parts[1:] = [clustered_t(values, groups)[1] ** 2 for groups in (item, both)]
    wide = max(parts[0] + parts[1] - parts[2], error**2) ** 0.5
    return float(mean - stats.t.ppf(1 - LEVEL, freedom) * wide)


def difference(values: np.ndarray, episode: np.ndarray) -> dict[str, float]:
    """Two-sided test of `mean = 0` and the 95% interval."""
    mean, error, freedom = clustered_t(values, episode)
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if error > ROUNDING else 0.0
    p = p if abs(mean) > ROUNDING else 1.0
    return {
        "estimate": mean,
        "low": float(mean - half),
        "high": float(mean + half),
        "error": error,
        "p": p,
    }


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values (Holm 1979)."""
    order = sorted(p, key=lambda name: p[name])
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min((len(order) - rank) * p[name], 1.0))
        adjusted[name] = largest
    return adjusted
