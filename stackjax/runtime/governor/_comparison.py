"""The sequential comparison of governed and untouched sessions, and when to stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stackjax._arrays.arguments import check_all_within, check_count, check_within
from stackjax._arrays.verdict import Verdict
from stackjax.stats._sequential import (
    ConfidenceSequence,
    asymptotic_sequence,
    bounded_sequence,
    effect_scores,
)


class SessionOutcome(NamedTuple):
    """One finished session of a roll-out with chance.

    Attributes:
      governed: Whether it was assigned to be governed, fallbacks included.
      share: Probability of that.
      tokens: Tokens, those of failed turns too, for each answered turn; None if none was.
      quality: Mean of the qualities told, in [0, 1], or None.
      failed: Share of its turns that the upstream did not answer.

    Example:
      >>> SessionOutcome(True, 0.5, 120.0, None).failed
      0.0
    """

    governed: bool
    share: float
    tokens: float | None
    quality: float | None
    failed: float = 0.0


@dataclass(frozen=True)
class StopRule:
    """When a comparison ends.

    Both rules may be looked at after every session: the intervals they read are confidence
    sequences, at level 1 - (1 - level) / 3 each, so that with probability `level` all hold always.
    Stopped for harm: quality is surely lower by more than `margin`, failed turns are surely more
    frequent by more than `margin`, or tokens are surely higher. Stopped for success: quality is
    surely not lower and failures surely not more frequent by `margin`, and tokens are surely lower.

    The level holds if sessions enter in an order that does not depend on their arm. Sessions that
    enter as they finish do not, where governing makes them much shorter or longer; the report takes
    them in the order of their first turns.

    Attributes:
      margin: Loss of quality, and rise of the share of failed turns, that are tolerated.
      level: Confidence level of the three together.
      minimum: Sessions of each arm before any verdict.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If the margin is not in [0, 1), the level not in (0, 1), or minimum below 1.

    Example:
      >>> StopRule(margin=0.05).margin
      0.05
    """

    margin: float = 0.05
    level: float = 0.95
    minimum: int = 20

    def __post_init__(self) -> None:
        check_within("margin", self.margin, "[0, 1)")
        check_within("level", self.level, "(0, 1)")
        check_count("minimum", self.minimum)


DEFAULT_RULE = StopRule()


@dataclass(frozen=True)
class Comparison:
    """Effect of governing on a session's mean quality, mean tokens a turn and failed turns.

    Attributes:
      sessions: Numbers of governed and untouched sessions.
      rated: Numbers of those with a quality.
      quality: Effect on quality, governed minus untouched: exact empirical-Bernstein sequence.
      tokens: Effect on tokens, over sessions with an answered turn: asymptotic sequence.
      failures: Effect on the share of failed turns: exact empirical-Bernstein sequence.
      verdict: 'continue', 'harm' or 'success'.
      stopped_at: Session, counted from 1, at which the verdict first fell; None without one.

    Example:
      >>> compare_sessions([]).verdict
      'continue'
    """

    sessions: tuple[int, int]
    rated: tuple[int, int]
    quality: ConfidenceSequence
    tokens: ConfidenceSequence
    failures: ConfidenceSequence
    verdict: Verdict
    stopped_at: int | None


def compare_sessions(
    outcomes: Sequence[SessionOutcome], rule: StopRule = DEFAULT_RULE
) -> Comparison:
    """Compares the arms after every session, in the order of `outcomes`.

    The estimands are means over sessions, each session with the same weight, by assignment: a
    governed session whose turns fell back counts as governed.

    Args:
      outcomes: Finished sessions in order.
      rule: Margin, level, minimum.

    Raises:
      ValueError: If the shares differ (compare each roll-out by itself) or are not in (0, 1), a
        quality or a share of failed turns is not in [0, 1], or tokens are not finite.

    Source: `effect_scores` with the sequences of Waudby-Smith and Ramdas (2024) and Waudby-Smith et
    al. (2024).

    Example:
      >>> few = [SessionOutcome(i % 2 == 0, 0.5, 90.0 + i, 1.0) for i in range(8)]
      >>> compare_sessions(few).verdict
      'continue'
    """
    level = 1.0 - (1.0 - rule.level) / 3.0
    governed = np.array([o.governed for o in outcomes], bool)
    share = np.array([o.share for o in outcomes], float)
    if share.size and np.ptp(share) > 1e-6:
        raise ValueError(
            f"`share` must be the same for all sessions; got {share.min():g} to {share.max():g}."
        )
    rated = np.array([o.quality is not None for o in outcomes], bool)
    told = np.array([o.quality for o in outcomes if o.quality is not None], float)
    check_all_within("quality", told, "[0, 1]")
    failed = np.array([o.failed for o in outcomes], float)
    check_all_within("failed", failed, "[0, 1]")
    counted = np.array([o.tokens is not None for o in outcomes], bool)
    used = np.array([o.tokens for o in outcomes if o.tokens is not None], float)
    tokens = effect_scores(used, governed[counted], share[counted])
    tokens = asymptotic_sequence(tokens, level=level)
    scores = effect_scores(told, governed[rated], share[rated])
    bound = 1.0 / min(share[0], 1.0 - share[0]) if share.size else 1.0
    quality = bounded_sequence(scores, low=-bound, high=bound, level=level)
    scores = effect_scores(failed, governed, share)
    failures = bounded_sequence(scores, low=-bound, high=bound, level=level)
    bounds = [
        _between(quality, rated),
        _between(tokens, counted),
        _between(failures, np.ones_like(governed)),
    ]
    verdict, stopped = _verdict(governed, bounds, rule)
    return Comparison(
        sessions=(int(governed.sum()), int((~governed).sum())),
        rated=(int(governed[rated].sum()), int((~governed[rated]).sum())),
        quality=quality,
        tokens=tokens,
        failures=failures,
        verdict=verdict,
        stopped_at=stopped,
    )


def _between(sequence: ConfidenceSequence, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high after each session; a sequence moves at the sessions that it has a value of."""
    seen = np.cumsum(moved)
    low = np.concatenate([[-np.inf], sequence.low])[seen]
    return low, np.concatenate([[np.inf], sequence.high])[seen]


def _verdict(
    governed: np.ndarray,
    bounds: Sequence[tuple[np.ndarray, np.ndarray]],
    rule: StopRule,
) -> tuple[Verdict, int | None]:
    """The first verdict and its session."""
    if not governed.size:
        return Verdict.CONTINUE, None
    quality, tokens, failures = bounds
    enough = np.minimum(np.cumsum(governed), np.cumsum(~governed)) >= rule.minimum
    harm = (quality[1] < -rule.margin) | (tokens[0] > 0) | (failures[0] > rule.margin)
    success = (quality[0] > -rule.margin) & (tokens[1] < 0) & (failures[1] < rule.margin)
    harm, success = enough & harm, enough & success
    ended = np.flatnonzero(harm | success)
    if not ended.size:
        return Verdict.CONTINUE, None
    first = int(ended[0])
    return (Verdict.HARM if harm[first] else Verdict.SUCCESS), first + 1
