"""What a runtime's log says, in numbers."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackjax.agents.log._log import TurnRecord, read_log
from stackjax.runtime.governor._comparison import (
    DEFAULT_RULE,
    Comparison,
    SessionOutcome,
    StopRule,
    compare_sessions,
)
from stackjax.runtime.governor._records import aggregate
from stackjax.runtime.policy._written import written_turns
from stackjax.runtime.report._arm_values import (
    ArmValue,
    ShadowBounds,
    arm_values,
    shadow_bounds,
)
from stackjax.runtime.report._savings import (
    Prices,
    cost,
    estimated_saving,
    measured_saving,
    nothing_changed,
    used,
    was_answered,
)
from stackjax.stats._interval import Interval


@dataclasses.dataclass(frozen=True)
class RolloutSummary:
    """One roll-out.

    Attributes:
      label: ``"shadow"``, ``"canary:0.05"`` and so on.
      turns: Turns, failed ones among them.
      sessions: Sessions.
      arms: Turns by arm.
      tokens: Mean tokens of answered turns by arm.
      kinds: Mean tokens of answered turns by arm: read and not cached, read from a cache, written.
      fallbacks: Turns by reason of their fallback or failure.
      saving: Measured saving of tokens against the sessions that were left alone, for a canary or
        A/B; exactly 0 where no governed request was changed. None in other modes.
      cost: Mean cost of answered turns by arm, None without prices.
      cost_saving: The same saving of cost, None without prices.
      estimate: The policy's own estimate, `estimated_saving`: no measurement.
      calls: Model calls.
      period: Times of the first and the last turn.
      models: Models' names.
      policies: Fingerprints of the policies.
      bounds: Shadow bounds; None without a recommendation that was not carried out.
      comparison: Sequential comparison, for a canary or A/B.
      off_policy: Off-policy estimates, likewise.
    """

    label: str
    turns: int
    sessions: int
    arms: dict[str, int]
    tokens: dict[str, float]
    kinds: dict[str, tuple[float, float, float]]
    fallbacks: dict[str, int]
    saving: Interval | None
    cost: dict[str, float] | None
    cost_saving: Interval | None
    estimate: Interval | None
    calls: int
    period: tuple[str, str]
    models: tuple[str, ...]
    policies: tuple[str, ...]
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
    rows = written_turns(r for r in records if r.design == "runtime")
    if not rows:
        raise ValueError(f'`log` must hold turns of design "runtime"; got none of {len(records)}.')
    return rows, aggregate(shadow) if shadow else None


def session_outcomes(
    rows: Sequence[TurnRecord], price: Callable[[TurnRecord], float] = used
) -> list[SessionOutcome]:
    """One outcome a session, in the order of their first turns.

    Args:
      rows: Turns of one roll-out with chance.
      price: What stands for a turn's tokens.
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
                tokens=sum(price(t) for t in answered) / len(answered) if answered else None,
                quality=sum(told) / len(told) if told else None,
                failed=1.0 - len(answered) / len(turns),
            )
        )
    return outcomes


def summarise(
    records: Sequence[TurnRecord],
    *,
    rule: StopRule = DEFAULT_RULE,
    prices: Prices | None = None,
) -> list[RolloutSummary]:
    """One summary for each roll-out, in the order in which they began.

    A session belongs to the roll-out of its first turn; turns under a later one are left out of
    comparisons, and counted with the roll-out that they were taken under.

    Args:
      records: Turns, each once (`written_turns`).
      rule: Of the comparison.
      prices: For the cost of turns; None for none.

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
        _summary(label, rows, [r for r in rows if first[r.episode] == label], rule, prices)
        for label, rows in groups.items()
    ]


def _summary(
    label: str,
    rows: list[TurnRecord],
    own: list[TurnRecord],
    rule: StopRule,
    prices: Prices | None,
) -> RolloutSummary:
    answered = [r for r in rows if was_answered(r)]
    by_arm = {
        arm: [r for r in answered if r.extra["arm"] == arm]
        for arm in dict.fromkeys(r.extra["arm"] for r in answered)
    }
    mean = lambda arm, value: float(np.mean([value(r) for r in by_arm[arm]]))
    chance = label.split(":")[0] in ("canary", "ab")
    outcomes = session_outcomes(own) if chance else []
    priced = None if prices is None else functools.partial(cost, prices=prices)
    return RolloutSummary(
        label=label,
        turns=len(rows),
        sessions=len({r.episode for r in rows}),
        arms=dict(Counter(r.extra["arm"] for r in rows)),
        tokens={arm: mean(arm, used) for arm in by_arm},
        kinds={
            arm: (
                mean(arm, lambda r: r.prompt_tokens - _cached(r)),
                mean(arm, _cached),
                mean(arm, lambda r: r.completion_tokens),
            )
            for arm in by_arm
        },
        fallbacks=dict(Counter(r.fallback for r in rows if r.fallback is not None)),
        saving=_saving(outcomes, own, rule) if chance else None,
        cost=None if priced is None else {arm: mean(arm, priced) for arm in by_arm},
        cost_saving=_saving(session_outcomes(own, priced), own, rule)
        if chance and priced is not None
        else None,
        estimate=estimated_saving(answered),
        calls=sum(int(r.extra.get("calls") or 1) for r in rows),
        period=(min(r.time for r in rows), max(r.time for r in rows)),
        models=tuple(sorted({r.model for r in rows if r.model})),
        policies=tuple(sorted({str(r.extra.get("policy_fingerprint")) for r in rows})),
        bounds=_bounds(answered),
        comparison=compare_sessions(outcomes, rule) if chance else None,
        off_policy=arm_values(outcomes) if chance else None,
    )


def _cached(row: TurnRecord) -> int:
    return min(int(row.extra.get("cached_tokens") or 0), row.prompt_tokens)


def _saving(
    outcomes: Sequence[SessionOutcome], rows: Sequence[TurnRecord], rule: StopRule
) -> Interval:
    if nothing_changed(rows):
        return Interval(0.0, 0.0, 0.0)
    told = [o for o in outcomes if o.tokens is not None]
    return measured_saving(
        np.array([o.tokens for o in told], float),
        np.array([o.governed for o in told], bool),
        np.array([o.share for o in told], float),
        level=rule.level,
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
        np.array([_as_it_came(r) for r in told], float),
    )


def _as_it_came(row: TurnRecord) -> float:
    own = row.extra.get("untouched_tokens")
    return row.extra["reference_tokens"] if own is None else own
