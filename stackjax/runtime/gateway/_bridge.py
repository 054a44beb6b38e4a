"""Between a chat request and the governor: shared by the client's wrapper and the proxy."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Mapping
from concurrent import futures
from typing import Any, NamedTuple

from stackjax.runtime.chat._messages import estimate_tokens, grammar_error
from stackjax.runtime.gateway._identify import identify_session
from stackjax.runtime.governor._deadline import DeadlineExceeded
from stackjax.runtime.governor._governor import Governor
from stackjax.runtime.governor._metadata import SessionMetadata
from stackjax.runtime.governor._observer import Usage
from stackjax.runtime.policy._decision import Fallback, TurnDecision

MAX_BODY = 1 << 20
"""Bytes of a request body above which it is not read: reading alone would break the deadline."""


class Plan(NamedTuple):
    """What is sent instead of a request.

    Attributes:
      decision: The decision; None if the request could not be read.
      body: The rewritten arguments, None if the request goes as it came.
      encoded: The same as JSON, where the request came as bytes.
      changes: What differs.
      estimates: Estimated prompt tokens of the request as it came, and of what is sent.
      model: Model's name in the request.
    """

    decision: TurnDecision | None
    body: Mapping[str, Any] | None = None
    encoded: bytes | None = None
    changes: tuple[str, ...] = ()
    estimates: tuple[int, int] = (0, 0)
    model: str = ""


class Turn:
    """One request on its way: planned before, observed after; nothing here raises or waits.

    Args:
      governor: The governor.
      told: Metadata that the agent told.
      defaults: Metadata for what it did not tell.
    """

    def __init__(
        self,
        governor: Governor,
        told: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.governor, self._told, self._defaults = governor, told, defaults
        self.plan = Plan(None)
        self._future: futures.Future[Plan] | None = None
        self._fallback: Fallback | None = None
        self._rejected = False

    @property
    def idle(self) -> bool:
        """Whether the mode is off: nothing is to be done for this turn."""
        return self.governor.rollout.mode == "off"

    @property
    def shadow(self) -> bool:
        """Whether no request may be touched in this mode."""
        return self.governor.rollout.mode in ("off", "shadow")

    def begin(self, request: Mapping[str, Any] | bytes) -> None:
        """Starts planning and does not wait: the request goes as it came."""
        try:
            self._future = self.governor.worker.submit(lambda: self._make(request))
        except DeadlineExceeded as late:
            self._fallback = Fallback("deadline", str(late))

    def wait(self, request: Mapping[str, Any] | bytes) -> Plan:
        """Plans within the deadline."""
        self.begin(request)
        if self._future is not None:
            futures.wait([self._future], self.governor.limits.deadline)
            self._take()
        return self.plan

    async def await_plan(self, request: Mapping[str, Any] | bytes) -> Plan:
        """As `wait`, for an event loop."""
        self.begin(request)
        if self._future is not None:
            wrapped = asyncio.wrap_future(self._future)
            await asyncio.wait([wrapped], timeout=self.governor.limits.deadline)
            self._take()
        return self.plan

    def _take(self) -> None:
        """The plan if it is ready; else it is given up, and skipped if it has not begun."""
        future = self._future
        if future is None:
            return
        if future.done():
            self.plan = future.result()
        else:
            self._fallback = Fallback("deadline", self._late)
            future.cancel()

    @property
    def _late(self) -> str:
        return f"not done in {1e3 * self.governor.limits.deadline:g} ms"

    def _make(self, request: Mapping[str, Any] | bytes) -> Plan:
        """The plan, in the worker's thread. Whatever goes wrong is a fallback."""
        start = time.perf_counter()
        try:
            plan = self._read(request)
        except Exception as error:
            plan = self._unread("controller_error", type(error).__name__)
        if plan.decision is None:
            return plan
        seconds = time.perf_counter() - start
        return plan._replace(decision=dataclasses.replace(plan.decision, seconds=seconds))

    def _read(self, request: Mapping[str, Any] | bytes) -> Plan:
        governor = self.governor
        try:
            if isinstance(request, bytes) and len(request) > MAX_BODY:
                return self._unread("too_large")
            body = json.loads(request) if isinstance(request, bytes) else request
            error = grammar_error(body.get("messages"))
            if error is not None:
                return self._unread("malformed_body", error)
            session = identify_session(body, self._told, self._defaults)
        except Exception as error:
            return self._unread("malformed_body", type(error).__name__)
        decision = governor.judge(session)
        model = body.get("model")
        estimate = estimate_tokens(body["messages"])
        plan = Plan(
            decision,
            estimates=(estimate, estimate),
            model=model if isinstance(model, str) else "",
        )
        if decision.response is None:
            return plan
        try:
            made = governor.adapter.rewrite(body, decision.response)
            if not made.changes:
                return plan
            encoded = json.dumps(made.body).encode() if isinstance(request, bytes) else None
        except Exception as error:
            fallback = Fallback("rewrite_error", type(error).__name__)
            decision = dataclasses.replace(decision, response=None, fallback=fallback)
            return plan._replace(decision=decision)
        estimates = estimate, estimate_tokens(made.body["messages"])
        return plan._replace(
            body=made.body, encoded=encoded, changes=made.changes, estimates=estimates
        )

    def _unread(self, code: str, detail: str = "") -> Plan:
        """A plan for a request that was not understood."""
        self._fallback = Fallback(code, detail)
        return Plan(self._named())

    def _named(self) -> TurnDecision | None:
        """A decision to leave the request alone, if the agent told which session it is of."""
        identifier = self._told.get("identifier")
        if not isinstance(identifier, str) or not identifier:
            return None
        decision = self.governor.without(SessionMetadata(identifier), self._fallback)
        return dataclasses.replace(decision, response=None)

    def rejected(self) -> None:
        """The upstream refused the rewritten request; the original goes instead."""
        self._rejected = True
        self.governor.metrics.count("rejected_rewrites")

    def finish(self, usage: Usage) -> None:
        """Books the turn: the decision, or why there is none, and what it took; never raises.

        A plan that is still being made is booked when it is ready, by the thread that makes it.
        """
        future = self._future
        if future is None and self._fallback is None:
            return  # the mode was off
        if future is None or future.done():
            self._book(usage)
        else:
            future.add_done_callback(lambda _: self._book(usage))

    def _book(self, usage: Usage) -> None:
        try:
            self._finish(usage)
        except Exception:
            self.governor.metrics.count("unrecorded")

    def _finish(self, usage: Usage) -> None:
        governor, plan, future = self.governor, self.plan, self._future
        if plan.decision is None and future is not None and not future.cancelled():
            plan = future.result()
        decision = plan.decision or self._named()
        if decision is None:
            if self._fallback is not None:
                governor.metrics.count("fallbacks", self._fallback.code)
            return
        fallback = self._fallback or decision.fallback
        if self._rejected:
            fallback = Fallback("upstream_rejected")
        sent = self.plan.decision is not None and not self._rejected
        if not sent and fallback is None and decision.seconds > governor.limits.deadline:
            fallback = Fallback("deadline", f"took {1e3 * decision.seconds:.1f} ms")
        decision = dataclasses.replace(decision, fallback=fallback)
        decision = governor.counted(decision, decision.seconds)
        for change in self.plan.changes if sent else ():
            governor.metrics.count("rewrites", change)
        if usage.prompt_tokens == 0 and not usage.exact:
            usage = dataclasses.replace(usage, prompt_tokens=plan.estimates[sent])
        estimates = (plan.estimates[0], plan.estimates[sent])
        usage = dataclasses.replace(
            usage, applied=sent, model=usage.model or plan.model, estimates=estimates
        )
        governor.observe(decision, usage)
