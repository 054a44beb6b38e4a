"""Intervals for means, ratios, many hypotheses at once, and at any time."""

from stackjax.stats._bootstrap import clustered_mean, clustered_ratio
from stackjax.stats._delta import delta_interval
from stackjax.stats._interval import Interval
from stackjax.stats._mean import draws_needed, mean_interval
from stackjax.stats._sequential import (
    ConfidenceSequence,
    asymptotic_sequence,
    bounded_sequence,
    effect_scores,
    mixture_sequence,
)
from stackjax.stats._simultaneous import Bounds, simultaneous_bounds

__all__ = [
    "Bounds",
    "ConfidenceSequence",
    "Interval",
    "asymptotic_sequence",
    "bounded_sequence",
    "clustered_mean",
    "clustered_ratio",
    "delta_interval",
    "draws_needed",
    "effect_scores",
    "mean_interval",
    "mixture_sequence",
    "simultaneous_bounds",
]
