"""What governing saves: measured against sessions that were left alone, or estimated by a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stackjax._arrays.arguments import check_within
from stackjax.agents.log._log import TurnRecord
from stackjax.runtime.policy._decision import FALLBACKS
from stackjax.runtime.policy._policy import UNTOUCHED
from stackjax.stats._bootstrap import clustered_ratio
from stackjax.stats._interval import Interval
from stackjax.stats._sequential import asymptotic_sequence, effect_scores


@dataclass(frozen=True)
class Prices:
    """What a million tokens of each kind cost, in any currency.

    Attributes:
      prompt: Tokens read that were in no cache.
      cached: Tokens read that the upstream had in its cache.
      completion: Tokens written.

    Raises:
      TypeError: If a price is no number.
      ValueError: If a price is negative or not finite.

    Example:
      >>> Prices(2.0, 0.5, 8.0).of(1000, 400, 100)
      0.0022
    """

    prompt: float
    cached: float
    completion: float

    def __post_init__(self) -> None:
        for name in ("prompt", "cached", "completion"):
            check_within(name, getattr(self, name), "[0, inf)")

    def of(self, prompt: int, cached: int, completion: int) -> float:
        """The price of a turn; `prompt` counts the cached tokens too."""
        fresh = self.prompt * (prompt - cached) + self.cached * cached
        return round((fresh + self.completion * completion) / 1e6, 12)


def was_answered(row: TurnRecord) -> bool:
    """Whether the turn came to its end; one that a client left has a part of its tokens only."""
    return row.fallback is None or row.fallback in FALLBACKS


def used(row: TurnRecord) -> int:
    """Tokens of a turn."""
    return row.prompt_tokens + row.completion_tokens


def cost(row: TurnRecord, prices: Prices) -> float:
    """Price of a turn."""
    cached = min(int(row.extra.get("cached_tokens") or 0), row.prompt_tokens)
    return prices.of(row.prompt_tokens, cached, row.completion_tokens)


def measured_saving(
    values: np.ndarray, governed: np.ndarray, share: np.ndarray, *, level: float = 0.95
) -> Interval:
    """The relative saving 1 - E[Y_1] / E[Y_0] of governed sessions, valid at any time.

    A session's Y is what it used for a turn. For each possible saving s the scores of

        A Y + (1 - s) (1 - A) Y

    have mean E[Y_1] - (1 - s) E[Y_0], which is 0 at the true saving alone. The interval holds each
    s whose confidence sequence covers 0, at the last session: with probability `level` the true
    saving is never left out, however often one looks.

    Args:
      values: `[n]`, one a session, in the order of their first turns; not negative.
      governed: `[n]`, the sessions' arms, by assignment.
      share: `[n]`, the probability of being governed.
      level: Confidence level.

    Returns:
      The estimate and its interval; NaN and the whole line below 20 sessions, or where the
      untouched ones used nothing.

    Raises:
      ValueError: If the shapes differ, or a share is not in (0, 1).

    Source: Fieller, Journal of the Royal Statistical Society B 16, 1954, with the scores and the
    sequence of `effect_scores` and `asymptotic_sequence`.

    Example:
      >>> arm = np.arange(400) % 2 == 0
      >>> used = np.where(arm, 75.0, 100.0) + np.arange(400) % 7
      >>> found = measured_saving(used, arm, np.full(400, 0.5))
      >>> round(found.estimate, 2), found.low < 0.24 < found.high
      (0.24, True)
    """
    y, a = np.asarray(values, float), np.asarray(governed, bool)
    first = effect_scores(y, a, share)
    second = effect_scores(np.where(a, 0.0, y), a, share)  # mean -E[Y_0]
    count = len(y)
    if count < 20 or not second.mean() < 0:
        return Interval(math.nan, -math.inf, 1.0)
    unit = np.where(np.arange(count) % 2, 1.0, -1.0)
    sequence = asymptotic_sequence(unit, level=level)
    factor = float((sequence.high[-1] - sequence.estimate[-1]) / unit.std()) ** 2
    (v0, c), (_, v1) = np.cov(first, second, ddof=0)
    m0, m1 = float(first.mean()), float(second.mean())
    lead, half, rest = m1**2 - factor * v1, m0 * m1 - factor * c, m0**2 - factor * v0
    if lead <= 0:
        return Interval(m0 / m1, -math.inf, 1.0)
    root = math.sqrt(max(half**2 - lead * rest, 0.0))
    return Interval(m0 / m1, float((half - root) / lead), float(min((half + root) / lead, 1.0)))


def nothing_changed(rows: Sequence[TurnRecord]) -> bool:
    """Whether there are governed turns, and every one of them left as it came."""
    governed = [row for row in rows if row.extra["arm"] == "governed"]
    return bool(governed) and all(row.extra.get("changed") is False for row in governed)


def estimated_saving(rows: Sequence[TurnRecord]) -> Interval | None:
    """The policy's own estimate of the relative saving: predicted with predicted.

    1 - sum(T as sent) / sum(T as it came) over turns with a recommendation, both predicted; the
    calibration is a factor of both. A governed turn that left as it came saves nothing, a turn of
    shadow mode counts as its recommendation. The interval redraws sessions; it does not know the
    predictor's errors.

    Returns:
      None without two sessions that have a recommendation.
    """
    saved: Counter[str] = Counter()
    base: Counter[str] = Counter()
    for row in rows:
        extra = row.extra
        came, sent = extra.get("untouched_tokens"), extra.get("predicted_tokens")
        came = extra.get("reference_tokens") if came is None else came
        if came is None or sent is None or came <= 0:
            continue
        left = extra.get("changed") is False if extra["arm"] == "governed" else None
        if left or (left is None and tuple(extra["recommended"] or ()) == UNTOUCHED):
            sent = came
        saved[row.episode] += came - sent
        base[row.episode] += came
    if len(base) < 2:
        return None
    names = list(base)
    return clustered_ratio(
        np.array([saved[n] for n in names]), np.array([base[n] for n in names]), seed=0
    )
