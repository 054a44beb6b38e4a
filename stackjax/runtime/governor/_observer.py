"""After the turn: accounts, drift, records, and the running comparison."""

from __future__ import annotations

import dataclasses
import math
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stackjax._arrays.verdict import Verdict
from stackjax.agents.log._log import TurnRecord
from stackjax.runtime.governor._comparison import SessionOutcome
from stackjax.runtime.governor._drift import DriftWatch
from stackjax.runtime.governor._experiment import Experiment
from stackjax.runtime.governor._ledger import Account, OpenTurn
from stackjax.runtime.governor._metrics import Metrics
from stackjax.runtime.governor._records import RecordWriter, shadow_record
from stackjax.runtime.governor._usage import Usage
from stackjax.runtime.policy._decision import TurnDecision
from stackjax.runtime.policy._drift import DriftChart
from stackjax.runtime.policy._policy import UNTOUCHED, answered


class Observer:
    """Keeps the books of a governor. Its methods are called under the ledger's lock."""

    def __init__(
        self,
        metrics: Metrics,
        experiment: Experiment,
        watch: DriftWatch,
        own_cell: tuple[float, float, float],
        log: Path | None,
        adapter: str,
    ) -> None:
        self._metrics, self.experiment, self.watch = metrics, experiment, watch
        self._own, self._adapter = own_cell, adapter
        self.policy = ""
        lost = lambda: metrics.count("unrecorded")
        self._log = self._shadow = None
        if log is not None:
            self._log = RecordWriter(log, lost=lost)
            self._shadow = RecordWriter(log.with_suffix(".shadow.jsonl"), lost=lost)

    @property
    def charts(self) -> dict[str, DriftChart]:
        """The charts of drift by name."""
        return self.watch.charts

    @property
    def drifting(self) -> tuple[str, ...]:
        """Charts whose alarm is up."""
        return self.watch.drifting

    def reset_drift(self) -> None:
        """Lowers the alarms."""
        self.watch.reset()

    @property
    def verdict(self) -> Verdict:
        """Of the running comparison."""
        return self.experiment.verdict

    @property
    def harmed(self) -> bool:
        """Whether the roll-out was stopped for harm."""
        return self.experiment.harmed

    def name_policy(self, fingerprint: dict[str, str]) -> None:
        """Whose turns are recorded from now on."""
        self.policy = "-".join(fingerprint.get(k, "")[:8] for k in ("leader", "surrogate"))

    def call(self, decision: TurnDecision, usage: Usage, account: Account) -> None:
        """Books one model call: the first of a turn, or a further one of the open turn."""
        turn = account.turn
        if turn is None or not decision.turn or turn.identifier != decision.turn:
            self.settle(decision.session, account)
            turn = self._open(decision, usage, account)
        self._metrics.count("calls", turn.arm)
        _add(turn, decision, usage)
        if usage.failure is None:
            self._metrics.count("tokens", turn.arm, "prompt", by=usage.prompt_tokens)
            self._metrics.count("tokens", turn.arm, "completion", by=usage.completion_tokens)
            self._metrics.count("cached_tokens", turn.arm, by=usage.cached_tokens)
        account.book(turn.tokens, turn.failure is not None)
        assert account.latest is not None
        account.latest = _counted(account.latest, turn, decision)
        if usage.quality is not None:
            self.rated(decision.session, account, usage.quality)
        elif self._log is not None:
            self._log.append(account.latest.to_json())
        if usage.tool_calls == 0:
            self.settle(decision.session, account)

    def _open(self, decision: TurnDecision, usage: Usage, account: Account) -> OpenTurn:
        if account.arm is None:
            name = self.experiment.name
            account.arm = decision.arm, decision.propensity, decision.rollout, name
        account.begin()
        if decision.signal is not None:
            account.signal = decision.signal
        advice, fallback = decision.recommended, decision.fallback
        account.turn = OpenTurn(
            decision.turn or secrets.token_hex(8),
            earlier=decision.earlier,
            arm=decision.arm,
            advice=None
            if advice is None
            else [list(x) if isinstance(x, tuple) else x for x in advice],
            fallback=None if fallback is None else list(fallback),
            task=decision.task,
        )
        account.latest = self._record(decision, account, usage)
        if self._shadow is not None:
            told = decision.recommended
            response = None if told is None or fallback is not None else told.response
            line = shadow_record(decision.task, response, fallback is not None, usage.quality)
            self._shadow.append(line.to_json())
        return account.turn

    def settle(self, session: str, account: Account) -> None:
        """Counts a turn that is at its end, and shows it to the charts; once."""
        turn = account.turn
        if turn is None or turn.settled:
            return
        turn.settled = True
        self._metrics.count("turns", turn.arm, turn.failure or "answered")
        advice = turn.recommended
        if turn.failure is not None or advice is None:
            return
        if turn.followed and turn.exact:
            kappa = math.exp(min(self.watch.calibration.token_mean, 50.0))
            came = advice.reference_tokens
            came = came if advice.untouched_tokens is None else advice.untouched_tokens
            # What was sent as it came saves nothing, whatever was predicted for its cell.
            sent = advice.tokens if turn.changed else came
            self._metrics.count("estimated_tokens_as_it_came", by=kappa * came)
            self._metrics.count("estimated_tokens_as_sent", by=kappa * sent)
        self.watch.turn(session, turn, advice)

    def rated(self, session: str, account: Account, quality: float) -> None:
        """Books the quality of a session's last turn and writes its record (again)."""
        record, turn = account.latest, account.turn
        assert record is not None and turn is not None
        if record.extra.get("quality") is None:
            account.rate(quality, failed=turn.failure is not None)
            if turn.recommended is not None:
                self.watch.rated(session, turn, turn.recommended, quality)
        extra = {**record.extra, "quality": quality}
        account.latest = dataclasses.replace(record, extra=extra, correct=quality >= 0.5)
        if self._log is not None:
            self._log.append(account.latest.to_json())

    def session_closed(self, key: str, account: Account) -> None:
        """Enters a finished session into the comparison."""
        self.settle(key, account)
        turns = account.accounts.turn_index
        if account.arm is None or turns == 0:
            return
        arm, propensity, rollout, experiment = account.arm
        if rollout.split(":")[0] not in ("canary", "ab"):
            return
        governed = arm == "governed"
        outcome = SessionOutcome(
            governed=governed,
            share=round(propensity if governed else 1.0 - propensity, 9),
            tokens=account.accounts.total_tokens / account.answered if account.answered else None,
            quality=account.quality_sum / account.quality_count if account.quality_count else None,
            failed=account.failures / turns,
        )
        self.experiment.enter(experiment, outcome)

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

    def _record(self, decision: TurnDecision, account: Account, usage: Usage) -> TurnRecord:
        """The record of a turn before its first call is counted."""
        advice, turn = decision.recommended, account.turn
        assert turn is not None
        carried = decision.response if usage.applied else None
        executed = carried or self._own
        own = None if advice is None else advice.untouched_tokens
        extra: dict[str, Any] = {
            "turn_id": turn.identifier,
            "rollout": decision.rollout,
            "arm": decision.arm,
            "recommended": None if advice is None else list(advice.response),
            "predicted_tokens": None if advice is None else round(advice.tokens, 2),
            "reference_tokens": None if advice is None else round(advice.reference_tokens, 2),
            "untouched_tokens": None if own is None else round(own, 2),
            "predicted_quality": None if advice is None else round(advice.quality, 4),
            "quality": None,
            "complexity_known": not math.isnan(decision.features.get("task_complexity", 0.0)),
            "decision_seconds": round(decision.seconds, 6),
            "reason": None if decision.fallback is None else str(decision.fallback),
            "policy_fingerprint": self.policy,
        }
        return TurnRecord(
            episode=decision.session,
            turn=account.before.turn_index,
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
            prompt_tokens=0,
            completion_tokens=0,
            latency=0.0,
            tool_calls=0,
            answer="",
            gold="",
            correct=False,
            fallback=decision.reason,
            replayed=False,
            model=usage.model[:80],
            adapter=self._adapter,
            seed=0,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            extra=extra,
        )


def _add(turn: OpenTurn, decision: TurnDecision, usage: Usage) -> None:
    """Adds a call to its turn."""
    came, sent = usage.estimates
    if usage.applied and decision.fallback is None and decision.response is not None:
        turn.followed = True
        unknown = sent <= 0 and tuple(decision.response) != UNTOUCHED
        turn.changed = turn.changed or unknown or came != sent
    turn.calls += 1
    turn.prompt_tokens += usage.prompt_tokens
    turn.cached_tokens += usage.cached_tokens
    turn.completion_tokens += usage.completion_tokens
    turn.tool_calls += usage.tool_calls
    turn.latency += usage.latency
    turn.exact, turn.failure = turn.exact and usage.exact, usage.failure
    turn.refused = usage.refused
    removed = usage.removed
    turn.removed = None if removed is None or turn.removed is None else turn.removed + removed


def _counted(record: TurnRecord, turn: OpenTurn, decision: TurnDecision) -> TurnRecord:
    """The record with what its turn used so far."""
    extra = {
        **record.extra,
        "calls": turn.calls,
        "cached_tokens": turn.cached_tokens,
        "removed_tokens": None if turn.removed is None else round(turn.removed, 1),
        "changed": turn.changed,
        "exact_tokens": turn.exact,
        "refused": turn.refused,
    }
    return dataclasses.replace(
        record,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        latency=round(turn.latency, 4),
        tool_calls=turn.tool_calls,
        fallback=turn.failure or (turn.fallback[0] if turn.fallback else decision.reason),
        extra=extra,
    )
