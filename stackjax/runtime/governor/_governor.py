"""The governor: decides before each model step, accounts after it, and never raises or waits."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackjax._arrays.arguments import check_type, check_within
from stackjax.agents.executor._adapter import executed_action
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.chat._request import ChatAdapter
from stackjax.runtime.governor._comparison import StopRule
from stackjax.runtime.governor._deadline import DeadlineExceeded, DeadlineWorker
from stackjax.runtime.governor._limits import DEFAULT_LIMITS, Limits, Recommender, advise
from stackjax.runtime.governor._metadata import Account, Ledger, SessionMetadata, complete
from stackjax.runtime.governor._metrics import Metrics
from stackjax.runtime.governor._observer import Observer, Usage
from stackjax.runtime.policy._decision import Fallback, TurnDecision
from stackjax.runtime.policy._rollout import Rollout

Cell = tuple[float, float, float]
SHADOW = Rollout()
DEFAULT_STOP = StopRule()


class Governor:
    """Puts a policy in front of an agent.

    `decide` never raises for anything that a session or the policy does: it falls back, says why,
    and waits no longer than the deadline. The fallback is the request as it came, or a fixed cell.

    Args:
      policy: A `Policy`, or another `Recommender`.
      rollout: Whom to govern; by default shadow, nobody.
      limits: Deadline and alarms.
      fallback: Cell that is carried out when a governed turn falls back; None: the request as it
        came.
      own_cell: Cell that the agent's own requests count as in records and shadow bounds.
      adapter: Carries out responses on requests.
      stop: Rule that ends a canary or A/B for harm; None for none.
      log: Turn log to append to, a ``.jsonl`` file; None for none. The shadow records go beside
        it, to ``.shadow.jsonl``.
      threads: Threads for decisions.
      sessions: Sessions whose accounts are kept.
      idle: Seconds after which a session counts as finished.

    Raises:
      TypeError: If the policy is none, or the rollout is not a `Rollout`.
      ValueError: If a cell is not three numbers in [0, 1], or the log no ``.jsonl`` file.

    Example:
      >>> limits = Limits(deadline=60.0)  # this example is to end alike on a slow machine
      >>> with Governor(known_policy(), rollout=Rollout("on"), limits=limits) as governor:
      ...     session = {"identifier": "session-7", "task": "simple_qa"}
      ...     first = governor.decide(session)
      ...     second = governor.decide({**session, "task_complexity": 0.3, "context_tokens": 40})
      >>> str(first.fallback)
      'missing_feature: task_complexity, context_tokens'
      >>> second.fallback, second.response
      (None, (1.0, 1.0, 1.0))
    """

    def __init__(
        self,
        policy: Recommender,
        *,
        rollout: Rollout = SHADOW,
        limits: Limits = DEFAULT_LIMITS,
        fallback: Cell | None = None,
        own_cell: Cell = (1.0, 1.0, 1.0),
        adapter: ChatAdapter | None = None,
        stop: StopRule | None = DEFAULT_STOP,
        log: str | os.PathLike[str] | None = None,
        threads: int = 1,
        sessions: int = 10_000,
        idle: float = 1800.0,
    ) -> None:
        for name in ("calibration", "fingerprint", "recommend"):
            if not hasattr(policy, name):
                kind = type(policy).__name__
                raise TypeError(
                    f"`policy` must be a Policy, see load_policy; got {kind} without {name}."
                )
        _rollout(rollout)
        if log is not None and Path(log).suffix != ".jsonl":
            raise ValueError(f"`log` must be a .jsonl file; got {os.fspath(log)}.")
        self.policy, self.limits = policy, limits
        self.fallback = None if fallback is None else _cell("fallback", fallback)
        self.own_cell = _cell("own_cell", own_cell)
        self.adapter = ChatAdapter() if adapter is None else adapter
        self.metrics = Metrics()
        self.worker = DeadlineWorker(limits.deadline, threads=threads)
        self._rollout, self._switch = rollout, threading.Lock()
        self._key = secrets.token_bytes(32)
        self.observer = Observer(
            policy.calibration,
            self.metrics,
            self.own_cell,
            None if log is None else Path(log),
            stop,
            self._stop_for_harm,
            dict(policy.fingerprint),
        )
        self.observer.restart(rollout.label)
        self.ledger = Ledger(sessions, idle, closed=self._session_closed)

    # Switching

    @property
    def rollout(self) -> Rollout:
        """Whom the governor governs now."""
        return self._rollout

    def set_rollout(self, rollout: Rollout) -> None:
        """Switches the mode; holds from the next decision on.

        Raises:
          TypeError: If it is not a `Rollout`.
        """
        _rollout(rollout)
        with self._switch:
            if rollout != self._rollout:
                self._rollout = rollout
                self.observer.restart(rollout.label)

    def _stop_for_harm(self) -> None:
        # The comparison keeps its verdict until somebody chooses another roll-out.
        self._rollout = Rollout("shadow")

    def _session_closed(self, key: str, account: Account) -> None:
        # A session may leave while another one's turn is decided: that turn must not fail with it.
        try:
            self.observer.session_closed(key, account)
        except Exception:
            self.metrics.count("unrecorded")

    # Deciding

    def decide(self, session: SessionMetadata | Mapping[str, Any]) -> TurnDecision:
        """Decides one turn: within the deadline, or the fallback.

        Args:
          session: The metadata, or a mapping with its fields.

        Raises:
          TypeError: If the mapping has a field that the metadata do not have.
          ValueError: If there is no identifier.
        """
        session = _metadata(session)
        start = time.perf_counter()
        if self._rollout.mode == "off":
            return self.without(session)
        try:
            decision = self.worker.run(lambda: self.judge(session))
        except DeadlineExceeded as late:
            decision = self.without(session, Fallback("deadline", str(late)))
        except Exception as error:
            decision = self.without(session, Fallback("controller_error", type(error).__name__))
        return self.counted(decision, time.perf_counter() - start)

    def judge(self, session: SessionMetadata) -> TurnDecision:
        """Decides in this thread, without a deadline; a policy that raises is a fallback."""
        start = time.perf_counter()
        account = self.ledger.open(self.pseudonym(session.identifier))
        features, missing = complete(session, account, self.limits.token_budget)
        fallback, advice = advise(
            self.policy, self.limits, session.task, features, missing, self.observer, account.signal
        )
        base = self.without(session, fallback, features)
        if advice is not None:
            account.signal = advice.signal
            response = advice.response if base.arm == "governed" else None
            base = dataclasses.replace(
                base, response=response, signal=advice.signal, recommended=advice
            )
        return dataclasses.replace(base, seconds=time.perf_counter() - start)

    def without(
        self,
        session: SessionMetadata,
        fallback: Fallback | None = None,
        features: Mapping[str, float] | None = None,
    ) -> TurnDecision:
        """A decision without a recommendation."""
        rollout = self._rollout
        arm, propensity = rollout.assign(session.identifier)
        follow = arm == "governed" and fallback is not None
        return TurnDecision(
            session=self.pseudonym(session.identifier),
            rollout=rollout.label,
            arm=arm,
            propensity=propensity,
            response=self.fallback if follow else None,
            fallback=fallback,
            task=session.task if session.task in TASK_TYPES else None,
            features={} if features is None else features,
        )

    def counted(self, decision: TurnDecision, seconds: float) -> TurnDecision:
        """The decision with its latency, counted in the metrics."""
        self.metrics.count("decisions", decision.rollout, decision.arm)
        self.metrics.time(seconds)
        if decision.fallback is not None:
            self.metrics.count("fallbacks", decision.fallback.code)
        return dataclasses.replace(decision, seconds=seconds)

    def pseudonym(self, identifier: str) -> str:
        """Keyed hash of an identifier; the key lives in this process only."""
        message = identifier.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:24]

    # After the turn

    def observe(self, decision: TurnDecision, usage: Usage) -> None:
        """Accounts for a finished turn and logs it; never raises."""
        try:
            account = self.ledger.open(decision.session)
            with self.ledger.lock:
                self.observer.turn(decision, usage, account)
        except Exception:
            self.metrics.count("unrecorded")

    def feedback(self, identifier: str, quality: float) -> bool:
        """Tells the quality of a session's last turn.

        Args:
          identifier: The session's.
          quality: In [0, 1].

        Returns:
          Whether the session is known.

        Raises:
          TypeError: If the quality is not a number.
          ValueError: If the quality is not in [0, 1].
        """
        check_within("quality", quality, "[0, 1]")
        account = self.ledger.peek(self.pseudonym(identifier))
        if account is None or account.latest is None:
            return False
        with self.ledger.lock:
            self.observer.rated(account, float(quality))
        return True

    def end(self, identifier: str) -> None:
        """Ends a session: its outcome enters the comparison."""
        self.ledger.close(self.pseudonym(identifier))

    def health(self) -> dict[str, Any]:
        """State of the governor: mode, fingerprint, alarms, fallbacks; plain JSON."""
        age = self.policy.calibration.age()
        alarms = [f"drift: {name}" for name in self.observer.drifting]
        alarms += ["stale calibration"] if age > self.limits.max_age else []
        alarms += ["controller stuck"] if self.worker.stuck else []
        alarms += ["stopped for harm"] if self.observer.harmed else []
        return {
            "status": "degraded" if alarms else "ok",
            "alarms": alarms,
            "rollout": self._rollout.label,
            "verdict": self.observer.verdict,
            "fingerprint": {k: v[:12] for k, v in self.policy.fingerprint.items()},
            "calibration_age_days": round(age / 86400.0, 2),
            "sessions": len(self.ledger),
            "fallbacks": self.metrics.by_label("fallbacks"),
            "saved_tokens_counterfactual": round(self.metrics.saved_tokens, 1),
        }

    def close(self) -> None:
        """Ends all sessions and writes what waits."""
        self.ledger.close()
        self.worker.close()
        self.observer.close()

    def __enter__(self) -> Governor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _metadata(session: SessionMetadata | Mapping[str, Any]) -> SessionMetadata:
    return session if isinstance(session, SessionMetadata) else SessionMetadata(**session)


def _rollout(rollout: Any) -> None:
    check_type("rollout", rollout, Rollout, "a Rollout")


def _cell(name: str, cell: Any) -> Cell:
    try:
        return executed_action(cell)
    except TypeError as error:
        raise ValueError(f"`{name}` must be three numbers in [0, 1]; got {cell!r}.") from error
