"""The governor: decides before each model step, accounts after it, and never raises or waits."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackjax._arrays.arguments import check_within
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.chat._request import ChatAdapter
from stackjax.runtime.governor._budget import Balance, Budgets
from stackjax.runtime.governor._comparison import StopRule
from stackjax.runtime.governor._deadline import DeadlineExceeded, DeadlineWorker
from stackjax.runtime.governor._drift import DriftWatch
from stackjax.runtime.governor._experiment import Experiment
from stackjax.runtime.governor._given import (
    calibration_name,
    cell_of,
    check_policy,
    check_rollout,
    metadata_of,
    running_turn,
)
from stackjax.runtime.governor._health import state_of
from stackjax.runtime.governor._ledger import Account, Ledger
from stackjax.runtime.governor._limits import (
    DEFAULT_LIMITS,
    Cell,
    Limits,
    Recommender,
    advise,
    cheapest_cell,
    never_worse,
    with_tools,
)
from stackjax.runtime.governor._memory import Memory
from stackjax.runtime.governor._metadata import SessionMetadata, complete
from stackjax.runtime.governor._metrics import Metrics
from stackjax.runtime.governor._observer import Observer
from stackjax.runtime.governor._usage import Usage
from stackjax.runtime.policy._decision import Fallback, TurnDecision
from stackjax.runtime.policy._policy import Recommendation
from stackjax.runtime.policy._rollout import Rollout

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
      store: SQLite file for what must outlive the process: keys, sessions, budgets, verdicts and
        alarms. Governors of one machine may share it. None: they end with the governor.
      threads: Threads for decisions; rewriting has as many of its own, at least 4.
      sessions: Sessions whose accounts are kept.
      idle: Seconds after which a session counts as finished.

    Raises:
      TypeError: If the policy is none, or the rollout is not a `Rollout`.
      ValueError: If a cell is not three numbers in [0, 1], the log no ``.jsonl`` file, or the store
        no governor's.
      PolicyMismatch: If the adapter is not the one that the policy was saved for.

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
        store: str | os.PathLike[str] | None = None,
        threads: int = 1,
        sessions: int = 10_000,
        idle: float = 1800.0,
    ) -> None:
        check_rollout(rollout)
        if log is not None and Path(log).suffix != ".jsonl":
            raise ValueError(f"`log` must be a .jsonl file; got {os.fspath(log)}.")
        self.adapter = ChatAdapter() if adapter is None else adapter
        check_policy(policy, self.adapter)
        self.policy, self.limits = policy, limits
        self.fallback = None if fallback is None else cell_of("fallback", fallback)
        self.own_cell = cell_of("own_cell", own_cell)
        self.metrics = Metrics()
        self.memory = Memory(store, lost=lambda: self.metrics.count("unrecorded"))
        self._key = self.memory.secret()
        self.budgets = Budgets(self.memory, limits)
        self.worker = DeadlineWorker(limits.deadline, threads=threads)
        self.rewriter = DeadlineWorker(limits.rewrite_deadline, threads=max(threads, 4))
        self._rollout, self._switch = rollout, threading.Lock()
        self.observer = Observer(
            self.metrics,
            Experiment(self.memory, stop, rollout),
            DriftWatch(self.memory, policy.calibration, calibration_name(policy)),
            self.own_cell,
            None if log is None else Path(log),
            self.adapter.version,
        )
        self.observer.name_policy(dict(policy.fingerprint))
        clock = time.monotonic if store is None else time.time
        self.ledger = Ledger(sessions, idle, self._session_closed, clock, self.memory)

    # Switching

    @property
    def rollout(self) -> Rollout:
        """Whom the governor governs now: nobody after a stop for harm."""
        return SHADOW if self.observer.harmed else self._rollout

    def set_rollout(self, rollout: Rollout) -> None:
        """Switches the mode; holds from the next decision on. The comparison begins anew.

        Raises:
          TypeError: If it is not a `Rollout`.
        """
        check_rollout(rollout)
        with self._switch:
            if rollout != self.rollout:
                # The comparison keeps a verdict of harm until somebody chooses a roll-out.
                self.observer.experiment.restart(rollout)
                self._rollout = rollout

    def set_policy(self, policy: Recommender) -> None:
        """Puts another policy in place of this one, for instance a recalibrated one.

        Holds from the next decision on. Accounts, budgets and the comparison stay; the drift
        alarms are those of the new calibration.

        Raises:
          TypeError: If it is no policy.
          PolicyMismatch: If it is for another adapter than the governor's.
        """
        check_policy(policy, self.adapter)
        with self._switch:
            self.observer.watch.take_up(policy.calibration, calibration_name(policy))
            self.observer.name_policy(dict(policy.fingerprint))
            self.policy = policy

    def reset_alarms(self) -> None:
        """Lowers the drift alarms; they rise again if their cause is still there."""
        self.observer.reset_drift()

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
        session = metadata_of(session)
        start = time.perf_counter()
        if self.rollout.mode == "off":
            return self.without(session)
        try:
            decision = self.worker.run(lambda: self.judge(session))
        except DeadlineExceeded as late:
            decision = self.without(session, Fallback("deadline", str(late)))
        except Exception as error:
            decision = self.without(session, Fallback("controller_error", type(error).__name__))
        return self.counted(decision, time.perf_counter() - start)

    def judge(self, session: SessionMetadata) -> TurnDecision:
        """Decides in this thread, without a deadline; a policy that raises is a fallback.

        All calls of one turn follow the decision of its first one, if that is what the policy was
        fitted for, unless a budget is spent meanwhile.
        """
        start = time.perf_counter()
        policy, key = self.policy, self.pseudonym(session.identifier)
        account = self.ledger.open(key)
        self._sync()
        balance = self._balance(key, self._pool(session))
        features, missing = complete(session, account, self.limits.token_budget, balance.left)
        turn = running_turn(session, account, policy)
        if turn is None:
            fallback, advice = advise(
                policy, self.limits, session.task, features, missing, account.signal
            )
            if fallback is None and self.observer.drifting:
                fallback = Fallback("drift_alarm", ", ".join(self.observer.drifting))
        else:
            advice = turn.recommended
            fallback = None if turn.fallback is None else Fallback(*turn.fallback)
        if balance.spent is None and features.get("budget", 1.0) <= self.limits.budget_floor:
            balance = balance._replace(spent="session: nothing is left of what the agent told")
        decision = self.without(session, fallback, features, balance, advice)
        if turn is not None:
            decision = dataclasses.replace(decision, turn=turn.identifier)
        if advice is not None:
            decision = dataclasses.replace(decision, signal=advice.signal, recommended=advice)
            if decision.fallback is None and decision.arm == "governed":
                decision = dataclasses.replace(decision, response=never_worse(advice))
        if decision.response is not None:
            called = 0 if turn is None else turn.tool_calls
            cell = decision.response
            if self.limits.keep_tools:
                cell = with_tools(cell, policy, session, called)
            decision = dataclasses.replace(decision, response=cell)
        return dataclasses.replace(decision, seconds=time.perf_counter() - start)

    def without(
        self,
        session: SessionMetadata,
        fallback: Fallback | None = None,
        features: Mapping[str, float] | None = None,
        balance: Balance | None = None,
        advice: Recommendation | None = None,
    ) -> TurnDecision:
        """A decision that does not follow the policy: the fallback, or what a spent budget allows.

        Args:
          session: The request.
          fallback: Why the policy is not followed; None if it is.
          features: The numeric features that are known.
          balance: Of the budgets; looked up if None.
          advice: What the policy says, for the cheapest cell that is allowed.
        """
        rollout = self.rollout
        arm, propensity = rollout.assign(session.identifier)
        key, pool = self.pseudonym(session.identifier), self._pool(session)
        response = self.fallback if arm == "governed" and fallback is not None else None
        refusal = None
        if balance is None:
            balance = self._balance(key, pool)
        if balance.spent is not None and arm == "governed":
            if self.limits.hard_budget:
                refusal = f"the token budget is spent ({balance.spent})"
            else:
                response = cheapest_cell(self.policy, advice)
        if balance.spent is not None and rollout.mode != "off":
            fallback = Fallback("budget_alarm", balance.spent)
        return TurnDecision(
            session=key,
            rollout=rollout.label,
            arm=arm,
            propensity=propensity,
            response=None if refusal else response,
            fallback=fallback,
            task=session.task if session.task in TASK_TYPES else None,
            features={} if features is None else features,
            refusal=refusal,
            turn=secrets.token_hex(8),
            earlier=session.earlier_turns,
            pool=pool,
        )

    def counted(self, decision: TurnDecision, seconds: float) -> TurnDecision:
        """The decision with its latency, counted in the metrics."""
        self.metrics.count("decisions", decision.rollout, decision.arm)
        self.metrics.time(seconds)
        if decision.fallback is not None:
            self.metrics.count("fallbacks", decision.fallback.code)
        if decision.refusal is not None and decision.fallback is not None:
            self.metrics.count("refusals", decision.fallback.detail.split(":")[0])
        return dataclasses.replace(decision, seconds=seconds)

    def pseudonym(self, identifier: str) -> str:
        """Keyed hash of an identifier; the key lives in the store, or in this process only."""
        message = identifier.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:24]

    def _balance(self, key: str, pool: str) -> Balance:
        try:
            return self.budgets.balance(key, pool)
        except sqlite3.Error:  # the agent is not to wait for a disk, nor to end with it
            self.metrics.count("unrecorded")
            return Balance(1.0, None)

    def _sync(self) -> None:
        """Reads what governors with the same store have concluded."""
        try:
            if self.memory.changed():
                self.observer.experiment.sync()
                self.observer.watch.sync()
        except sqlite3.Error:
            self.metrics.count("unrecorded")

    def _pool(self, session: SessionMetadata) -> str:
        named = self.limits.pool_budget is not None and session.pool
        return self.pseudonym(f"pool {session.pool}") if named else ""

    # After the turn

    def observe(self, decision: TurnDecision, usage: Usage) -> None:
        """Accounts for a finished turn and logs it; never raises."""
        try:

            def change(account: Account) -> None:
                self.budgets.spend(decision.session, decision.pool, usage.tokens)
                self.observer.call(decision, usage, account)

            self.ledger.change(decision.session, change)
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
        key = self.pseudonym(identifier)
        account = self.ledger.peek(key)
        if account is None or account.latest is None:
            return False
        self.ledger.change(key, lambda now: self.observer.rated(key, now, float(quality)))
        return True

    def end(self, identifier: str) -> None:
        """Ends a session: its outcome enters the comparison."""
        self.ledger.close(self.pseudonym(identifier))

    def health(self) -> dict[str, Any]:
        """State of the governor: mode, fingerprint, alarms, fallbacks; plain JSON."""
        state = state_of(self.policy, self.limits, self.observer, self.worker, self.metrics)
        return {**state, "rollout": self.rollout.label, "sessions": len(self.ledger)}

    def close(self) -> None:
        """Ends all sessions and writes what waits."""
        self.ledger.close()
        self.worker.close()
        self.rewriter.close()
        self.observer.close()
        self.memory.close()

    def __enter__(self) -> Governor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
