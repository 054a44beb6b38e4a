"""After the turn: accounts, drift, records, and the running comparison."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stackjax._arrays.arguments import check_within
from stackjax._arrays.verdict import Verdict
from stackjax.agents.log._log import TurnRecord
from stackjax.runtime.chat._request import CHAT_ADAPTER_VERSION
from stackjax.runtime.governor._comparison import (
    SessionOutcome,
    StopRule,
    compare_sessions,
)
from stackjax.runtime.governor._health import Cusum
from stackjax.runtime.governor._metadata import Account
from stackjax.runtime.governor._metrics import Metrics
from stackjax.runtime.governor._records import RecordWriter, shadow_record
from stackjax.runtime.policy._decision import FALLBACKS, TurnDecision
from stackjax.runtime.policy._policy import Residuals, answered

CHECK_EVERY = 5
"""Least number of finished sessions between two looks at the comparison. Looking less often never
invalidates it; the gap grows with the sessions, so that looks stay cheap."""
MAX_SESSIONS = 100_000
"""Sessions of one roll-out that are compared; what comes after is logged only."""


@dataclass(frozen=True)
class Usage:
    """What a turn took.

    Attributes:
      prompt_tokens: Tokens read by the model.
      completion_tokens: Tokens written.
      exact: Whether the upstream counted them; else they are estimates.
      latency: Seconds of the upstream's call.
      tool_calls: Calls that the model asked for.
      model: Model's name.
      failure: ``"http_503"``, ``"timeout"``, ``"connection"``, ``"disconnected"``, or None.
      quality: In [0, 1] if it is known at once.
      cached_tokens: Of the prompt tokens, those that the upstream read from a cache.
      applied: Whether the decision's response was carried out in full; False if the request went
        as it came although the turn was governed.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a count is negative or the quality not in [0, 1].

    Example:
      >>> Usage(120, 30).tokens
      150
    """

    prompt_tokens: int
    completion_tokens: int
    exact: bool = True
    latency: float = 0.0
    tool_calls: int = 0
    model: str = ""
    failure: str | None = None
    quality: float | None = None
    applied: bool = True
    cached_tokens: int = 0

    def __post_init__(self) -> None:
        check_within("prompt_tokens", self.prompt_tokens, "[0, inf]")
        check_within("completion_tokens", self.completion_tokens, "[0, inf]")
        if self.quality is not None:
            check_within("quality", self.quality, "[0, 1]")

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


class Observer:
    """Keeps the books of a governor. Its methods are called under the ledger's lock."""

    def __init__(
        self,
        calibration: Residuals,
        metrics: Metrics,
        own_cell: tuple[float, float, float],
        log: Path | None,
        stop: StopRule | None,
        harm: Callable[[], None],
        fingerprint: dict[str, str],
    ) -> None:
        self.charts = {
            "tokens": Cusum(calibration.token_mean, calibration.token_spread),
            "quality": Cusum(calibration.quality_mean, calibration.quality_spread),
        }
        self._metrics, self._own, self._stop, self._harm = metrics, own_cell, stop, harm
        self._policy = "-".join(fingerprint.get(k, "")[:8] for k in ("leader", "surrogate"))
        self._lock = threading.Lock()
        self.restart("")
        lost = lambda: metrics.count("unrecorded")
        self._log = self._shadow = None
        if log is not None:
            self._log = RecordWriter(log, lost=lost)
            self._shadow = RecordWriter(log.with_suffix(".shadow.jsonl"), lost=lost)

    @property
    def drifting(self) -> tuple[str, ...]:
        """Charts whose alarm is up."""
        return tuple(name for name, chart in self.charts.items() if chart.alarm)

    def reset_drift(self) -> None:
        """Lowers the alarms, for instance after a new calibration."""
        for chart in self.charts.values():
            chart.reset()

    def restart(self, rollout: str) -> None:
        """Starts the comparison again for another roll-out, given by its label."""
        with self._lock:
            self._rollout = rollout
            self._outcomes: list[SessionOutcome] = []
            self._next_look = CHECK_EVERY
            self.verdict: Verdict = Verdict.CONTINUE
            self.harmed = False

    def turn(self, decision: TurnDecision, usage: Usage, account: Account) -> None:
        """Books one finished turn."""
        if account.arm is None:
            account.arm = (decision.arm, decision.propensity, decision.rollout)
        self._metrics.count("turns", decision.arm, usage.failure or "answered")
        if usage.failure is None:
            self._metrics.count("tokens", decision.arm, "prompt", by=usage.prompt_tokens)
            self._metrics.count("tokens", decision.arm, "completion", by=usage.completion_tokens)
            self._metrics.count("cached_tokens", decision.arm, by=usage.cached_tokens)
        advice = decision.recommended
        if decision.response is None or not usage.applied:
            advice = None  # it was not followed: what happened says nothing of its predictions
        if advice is not None and usage.failure is None and usage.exact:
            self._metrics.count("reference_tokens", by=advice.reference_tokens)
            self._metrics.count("governed_tokens", by=usage.tokens)
            if usage.tokens > 0 and advice.tokens > 0:
                self.charts["tokens"].update(math.log(usage.tokens / max(advice.tokens, 1.0)))
        account.predicted_quality = None if advice is None else advice.quality
        record = self._record(decision, usage, account)
        account.latest = record
        account.finish(usage.tokens, usage.failure is not None)
        if self._shadow is not None:
            told = decision.recommended
            response = None if told is None else told.response
            fell_back = decision.fallback is not None
            line = shadow_record(decision.task, response, fell_back, usage.quality)
            self._shadow.append(line.to_json())
        if usage.quality is not None:
            self.rated(account, usage.quality)
        elif self._log is not None:
            self._log.append(record.to_json())

    def rated(self, account: Account, quality: float) -> None:
        """Books the quality of a session's last turn and writes its record (again)."""
        record: TurnRecord = account.latest
        if record.extra.get("quality") is None:
            failed = record.fallback is not None and record.fallback not in FALLBACKS
            account.rate(quality, failed=failed)
            if account.predicted_quality is not None:
                self.charts["quality"].update(quality - account.predicted_quality)
        extra = {**record.extra, "quality": quality}
        told: dict[str, Any] = {**vars(record), "extra": extra, "correct": quality >= 0.5}
        account.latest = TurnRecord(**told)
        if self._log is not None:
            self._log.append(account.latest.to_json())

    def session_closed(self, key: str, account: Account) -> None:
        """Enters a finished session into the comparison."""
        if account.arm is None:
            return
        arm, propensity, rollout = account.arm
        chance = rollout.split(":")[0] in ("canary", "ab")
        turns = account.accounts.turn_index
        if not chance or turns == 0:
            return
        governed = arm == "governed"
        outcome = SessionOutcome(
            governed=governed,
            share=round(propensity if governed else 1.0 - propensity, 9),
            tokens=account.accounts.total_tokens / account.answered if account.answered else None,
            quality=account.quality_sum / account.quality_count if account.quality_count else None,
            failed=account.failures / turns,
        )
        with self._lock:
            # A session that began under another roll-out belongs to that one.
            if rollout != self._rollout or len(self._outcomes) >= MAX_SESSIONS:
                return
            self._outcomes.append(outcome)
            count = len(self._outcomes)
            if self._stop is None or self.verdict != Verdict.CONTINUE or count < self._next_look:
                return
            self._next_look = count + max(CHECK_EVERY, count // 20)
            self.verdict = compare_sessions(self._outcomes, self._stop).verdict
            self.harmed = self.verdict == Verdict.HARM
        if self.harmed:
            self._harm()

    def close(self) -> None:
        """Writes what waits."""
        for writer in (self._log, self._shadow):
            if writer is not None:
                writer.close()

    def flush(self) -> None:
        """Waits until all records so far are on the disk."""
        for writer in (self._log, self._shadow):
            if writer is not None:
                writer.flush()

    def _record(self, decision: TurnDecision, usage: Usage, account: Account) -> TurnRecord:
        advice = decision.recommended
        carried = decision.response if usage.applied else None
        executed = carried or self._own
        extra: dict[str, Any] = {
            "rollout": decision.rollout,
            "arm": decision.arm,
            "recommended": None if advice is None else list(advice.response),
            "predicted_tokens": None if advice is None else round(advice.tokens, 2),
            "reference_tokens": None if advice is None else round(advice.reference_tokens, 2),
            "predicted_quality": None if advice is None else round(advice.quality, 4),
            "quality": None,
            "exact_tokens": usage.exact,
            "cached_tokens": usage.cached_tokens,
            "complexity_known": not math.isnan(decision.features.get("task_complexity", 0.0)),
            "decision_seconds": round(decision.seconds, 6),
            "reason": None if decision.fallback is None else str(decision.fallback),
            "policy_fingerprint": self._policy,
        }
        return TurnRecord(
            episode=decision.session,
            turn=account.accounts.turn_index,
            task=decision.task or "unknown",
            family="runtime",
            item="",
            policy=decision.arm,
            design="runtime",
            state={k: round(v, 6) for k, v in answered(decision.features).items()},
            signal=decision.signal,
            intended=executed if advice is None else advice.response,
            executed=executed,
            propensity=decision.propensity,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            latency=round(usage.latency, 4),
            tool_calls=usage.tool_calls,
            answer="",
            gold="",
            correct=False,
            fallback=usage.failure or decision.reason,
            replayed=False,
            model=usage.model[:80],
            adapter=CHAT_ADAPTER_VERSION,
            seed=0,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            extra=extra,
        )
