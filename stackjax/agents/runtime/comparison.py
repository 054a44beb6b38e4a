"""The sequential comparison of governed and untouched sessions, and when to stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from stackjax.agents.runtime.sequential import (
    ConfidenceSequence,
    asymptotic_sequence,
    bounded_sequence,
    effect_scores,
)

Verdict = Literal["continue", "harm", "success"]


class SessionOutcome(NamedTuple):
    """One finished session of a roll-out with chance.

    Attributes:
        governed: Whether it was assigned to be governed, fallbacks included.
        share: Probability of that.
        tokens: Mean tokens a turn.
        quality: Mean of the qualities told, in [0, 1], or None.
        failed: Share of its turns that the upstream did not answer.

    Example:
        >>> SessionOutcome(True, 0.5, 120.0, None).failed
        0.0
    """

    governed: bool
    share: float
    tokens: float
    quality: float | None
    failed: float = 0.0


@dataclass(frozen=True)
class StopRule:
    """When a comparison ends.

    Both rules may be looked at after every session: the intervals they read are confidence
    sequences, at level 1 - (1 - level) / 2 each, so that with probability `level` both hold always.
    Stopped for harm: quality is surely lower by more than `margin`, or tokens are surely higher.
    Stopped for success: quality is surely not lower by `margin`, and tokens are surely lower.

    Attributes:
        margin: Loss of quality that is tolerated.
        level: Confidence level of the two together.
        minimum: Sessions of each arm before any verdict.

    Raises:
        ValueError: If the margin is not in [0, 1), the level not in (0, 1), or minimum below 1.

    Example:
        >>> StopRule(margin=0.05).margin
        0.05
    """

    margin: float = 0.05
    level: float = 0.95
    minimum: int = 20

    def __post_init__(self) -> None:
        if not (0 <= self.margin < 1 and 0 < self.level < 1 and self.minimum >= 1):
            raise ValueError(
                "margin must lie in [0, 1), level in (0, 1), minimum be at least 1; "
                f"got {self.margin}, {self.level}, {self.minimum}"
            )


DEFAULT_RULE = StopRule()


@dataclass(frozen=True)
class Comparison:
    """Effect of governing on a session's mean quality and mean tokens a turn.

    Attributes:
        sessions: Numbers of governed and untouched sessions.
        rated: Numbers of those with a quality.
        quality: Effect on quality, governed minus untouched: exact empirical-Bernstein sequence.
        tokens: Effect on tokens: asymptotic sequence.
        verdict: ``"continue"``, ``"harm"`` or ``"success"``.
        stopped_at: Session, counted from 1, at which the verdict first fell; None without one.

    Example:
        >>> compare_sessions([]).verdict
        'continue'
    """

    sessions: tuple[int, int]
    rated: tuple[int, int]
    quality: ConfidenceSequence
    tokens: ConfidenceSequence
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
            quality is not in [0, 1], or tokens are not finite.

    Source: `effect_scores` with the sequences of Waudby-Smith and Ramdas (2024) and Waudby-Smith et
    al. (2024).

    Example:
        >>> few = [SessionOutcome(i % 2 == 0, 0.5, 90.0 + i, 1.0) for i in range(8)]
        >>> compare_sessions(few).verdict
        'continue'
    """
    level = 1.0 - (1.0 - rule.level) / 2.0
    governed = np.array([o.governed for o in outcomes], bool)
    share = np.array([o.share for o in outcomes], float)
    if share.size and np.ptp(share) > 1e-6:
        raise ValueError(f"share differs between sessions: {share.min():g} to {share.max():g}")
    rated = np.array([o.quality is not None for o in outcomes], bool)
    told = np.array([o.quality for o in outcomes if o.quality is not None], float)
    if told.size and not ((told >= 0) & (told <= 1)).all():
        raise ValueError("quality must lie in [0, 1] for every session")
    used = np.array([o.tokens for o in outcomes], float)
    tokens = asymptotic_sequence(effect_scores(used, governed, share), level=level)
    scores = effect_scores(told, governed[rated], share[rated])
    bound = 1.0 / min(share[0], 1.0 - share[0]) if share.size else 1.0
    quality = bounded_sequence(scores, low=-bound, high=bound, level=level)
    verdict, stopped = _verdict(governed, rated, quality, tokens, rule)
    return Comparison(
        sessions=(int(governed.sum()), int((~governed).sum())),
        rated=(int(governed[rated].sum()), int((~governed[rated]).sum())),
        quality=quality,
        tokens=tokens,
        verdict=verdict,
        stopped_at=stopped,
    )


def _verdict(
    governed: np.ndarray,
    rated: np.ndarray,
    quality: ConfidenceSequence,
    tokens: ConfidenceSequence,
    rule: StopRule,
) -> tuple[Verdict, int | None]:
    """The first verdict and its session."""
    if not governed.size:
        return "continue", None
    # The quality's sequence moves at rated sessions only; before the first it knows nothing.
    seen = np.cumsum(rated)
    low = np.concatenate([[-np.inf], quality.low])[seen]
    high = np.concatenate([[np.inf], quality.high])[seen]
    enough = np.minimum(np.cumsum(governed), np.cumsum(~governed)) >= rule.minimum
    harm = enough & ((high < -rule.margin) | (tokens.low > 0))
    success = enough & (low > -rule.margin) & (tokens.high < 0)
    ended = np.flatnonzero(harm | success)
    if not ended.size:
        return "continue", None
    first = int(ended[0])
    return ("harm" if harm[first] else "success"), first + 1
