"""What a runtime's log says, in numbers."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackjax.agents.log._log import TurnRecord, latest, read_log
from stackjax.runtime.governor._comparison import (
    DEFAULT_RULE,
    Comparison,
    SessionOutcome,
    StopRule,
    compare_sessions,
)
from stackjax.runtime.governor._records import aggregate
from stackjax.runtime.policy._decision import FALLBACKS
from stackjax.runtime.report._arm_values import (
    ArmValue,
    ShadowBounds,
    arm_values,
    shadow_bounds,
)
from stackjax.stats._bootstrap import Interval, clustered_ratio


@dataclasses.dataclass(frozen=True)
class RolloutSummary:
    """One roll-out.

    Attributes:
      label: ``"shadow"``, ``"canary:0.05"`` and so on.
      turns: Turns, failed ones among them.
      sessions: Sessions.
      arms: Turns by arm.
      tokens: Mean tokens of answered turns by arm.
      fallbacks: Turns by reason of their fallback or failure.
      saving: Counterfactual saving 1 - sum(used) / sum(T_0) over governed turns whose tokens the
        upstream counted; `T_0` is the surrogate's prediction. None without two such sessions.
      bounds: Shadow bounds; None without a recommendation that was not carried out.
      comparison: Sequential comparison, for a canary or A/B.
      off_policy: Off-policy estimates, likewise.
    """

    label: str
    turns: int
    sessions: int
    arms: dict[str, int]
    tokens: dict[str, float]
    fallbacks: dict[str, int]
    saving: Interval | None
    bounds: ShadowBounds | None
    comparison: Comparison | None
    off_policy: dict[str, dict[str, ArmValue]] | None


def read_runtime(paths: Iterable[Path]) -> tuple[list[TurnRecord], dict[str, Any] | None]:
    """The runtime turns of some logs, and the aggregate of the shadow records beside them.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If a file is no turn log, or there is no turn of a runtime.
    """
    records: list[TurnRecord] = []
    shadow: list[dict[str, Any]] = []
    for path in paths:
        records += read_log(path).records
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        beside = plain.with_suffix(".shadow.jsonl")
        if beside.is_file():
            lines = beside.read_text(encoding="utf-8").splitlines(keepends=True)
            shadow += [json.loads(line) for line in lines if line.endswith("\n")]
    rows = [r for r in latest(records) if r.design == "runtime"]
    if not rows:
        raise ValueError(f'`log` must hold turns of design "runtime"; got none of {len(records)}.')
    return rows, aggregate(shadow) if shadow else None


def session_outcomes(rows: Sequence[TurnRecord]) -> list[SessionOutcome]:
    """One outcome a session, in the order of their first turns.

    Args:
      rows: Turns of one roll-out with chance.
    """
    episodes: dict[str, list[TurnRecord]] = {}
    for row in rows:
        episodes.setdefault(row.episode, []).append(row)
    outcomes = []
    for turns in episodes.values():
        governed = turns[0].extra["arm"] == "governed"
        share = turns[0].propensity or 0.0
        answered = [t for t in turns if was_answered(t)]
        told = [t.extra["quality"] for t in turns if t.extra.get("quality") is not None]
        outcomes.append(
            SessionOutcome(
                governed=governed,
                share=round(share if governed else 1.0 - share, 9),
                tokens=sum(used(t) for t in answered) / len(answered) if answered else None,
                quality=sum(told) / len(told) if told else None,
                failed=1.0 - len(answered) / len(turns),
            )
        )
    return outcomes


def was_answered(row: TurnRecord) -> bool:
    """Whether the turn came to its end; one that a client left has a part of its tokens only."""
    return row.fallback is None or row.fallback in FALLBACKS


def used(row: TurnRecord) -> int:
    """Tokens of a turn."""
    return row.prompt_tokens + row.completion_tokens


def summarise(
    records: Sequence[TurnRecord], *, rule: StopRule = DEFAULT_RULE
) -> list[RolloutSummary]:
    """One summary for each roll-out, in the order in which they began.

    A session belongs to the roll-out of its first turn; turns under a later one are left out of
    comparisons, and counted with the roll-out that they were taken under.

    Raises:
      ValueError: If a record lacks what a runtime writes.
    """
    first: dict[str, str] = {}
    groups: dict[str, list[TurnRecord]] = {}
    for row in records:
        if "rollout" not in row.extra or "arm" not in row.extra:
            raise ValueError(
                f"`records` must be written by a runtime; got turn {row.turn} without a rollout."
            )
        first.setdefault(row.episode, row.extra["rollout"])
        groups.setdefault(row.extra["rollout"], []).append(row)
    return [
        _summary(label, rows, [r for r in rows if first[r.episode] == label], rule)
        for label, rows in groups.items()
    ]


def _summary(
    label: str, rows: list[TurnRecord], own: list[TurnRecord], rule: StopRule
) -> RolloutSummary:
    arms = Counter(r.extra["arm"] for r in rows)
    answered = [r for r in rows if was_answered(r)]
    tokens = {
        arm: float(np.mean([used(r) for r in answered if r.extra["arm"] == arm]))
        for arm in arms
        if any(r.extra["arm"] == arm for r in answered)
    }
    chance = label.split(":")[0] in ("canary", "ab")
    outcomes = session_outcomes(own) if chance else []
    return RolloutSummary(
        label=label,
        turns=len(rows),
        sessions=len({r.episode for r in rows}),
        arms=dict(arms),
        tokens=tokens,
        fallbacks=dict(Counter(r.fallback for r in rows if r.fallback is not None)),
        saving=_saving(answered),
        bounds=_bounds(answered),
        comparison=compare_sessions(outcomes, rule) if chance else None,
        off_policy=arm_values(outcomes) if chance else None,
    )


def _saving(rows: Sequence[TurnRecord]) -> Interval | None:
    saved: Counter[str] = Counter()
    base: Counter[str] = Counter()
    for row in rows:
        reference = row.extra.get("reference_tokens")
        followed = row.extra["arm"] == "governed" and row.fallback is None
        if followed and reference and row.extra.get("exact_tokens"):
            saved[row.episode] += reference - used(row)
            base[row.episode] += reference
    if len(base) < 2:
        return None
    names = list(base)
    return clustered_ratio(
        np.array([saved[n] for n in names]), np.array([base[n] for n in names]), seed=0
    )


def _bounds(rows: Sequence[TurnRecord]) -> ShadowBounds | None:
    """Over the turns that were left alone although there was a recommendation."""
    told = [
        r for r in rows if r.extra["arm"] == "untouched" and r.extra.get("recommended") is not None
    ]
    if not told:
        return None
    quality = [r.extra.get("quality") for r in told]
    return shadow_bounds(
        np.array([tuple(r.extra["recommended"]) == tuple(r.executed) for r in told]),
        np.array([np.nan if q is None else q for q in quality], float),
        np.array([r.extra["predicted_tokens"] for r in told], float),
        np.array([r.extra["reference_tokens"] for r in told], float),
    )
