"""Between a request and the governor: shared by the client's wrapper and the proxy."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections.abc import Mapping
from concurrent import futures
from typing import Any, NamedTuple

from stackjax.runtime.chat._asked_usage import with_usage_asked
from stackjax.runtime.chat._request import ChatAdapter, Rewritten
from stackjax.runtime.chat._wire import Wire, request_tokens
from stackjax.runtime.chat._wire_chat import CHAT
from stackjax.runtime.gateway._identify import identify_session
from stackjax.runtime.gateway._memory import Memory
from stackjax.runtime.gateway._sessions import SessionNames, scoped_name
from stackjax.runtime.governor._deadline import DeadlineExceeded
from stackjax.runtime.governor._governor import Governor
from stackjax.runtime.governor._metadata import SessionMetadata
from stackjax.runtime.governor._observer import Usage
from stackjax.runtime.policy._decision import Fallback, TurnDecision

MAX_BODY = 1 << 20
"""Bytes of a request body above which it is not read."""


class Plan(NamedTuple):
    """What is sent instead of a request.

    Attributes:
      decision: The decision; None if the request could not be read.
      body: The rewritten arguments, None if the request goes as it came.
      encoded: The same as JSON, where the request came as bytes.
      changes: What differs.
      estimates: Estimated prompt tokens of the request as it came, and of what is sent.
      model: Model's name in the request.
      asked: Whether the stream's counts are asked for, which the client did not.
      identifier: The session's.
    """

    decision: TurnDecision | None
    body: Mapping[str, Any] | None = None
    encoded: bytes | None = None
    changes: tuple[str, ...] = ()
    estimates: tuple[int, int] = (0, 0)
    model: str = ""
    asked: bool = False
    identifier: str = ""

    @property
    def refusal(self) -> str | None:
        """Why the request is not sent at all, None if it is."""
        decision = self.decision
        return decision.refusal if decision is not None and decision.arm == "governed" else None


class Caller(NamedTuple):
    """Who asks, and in which format.

    Attributes:
      wire: The request's format.
      credential: A digest of the credential.
      headers: The request's headers by lower-case name.
      names: Where a session's name is looked for.
      usage: Whether counts are asked for in streams: ``"governed"``, in modes that govern,
        ``"always"`` or ``"never"``.
    """

    wire: Wire = CHAT
    credential: str = ""
    headers: Mapping[str, str] = {}
    names: SessionNames = SessionNames()
    usage: str = "governed"


ANYONE = Caller()


class Turn:
    """One request on its way: planned before, observed after; nothing here raises or waits.

    Args:
      governor: The governor.
      told: Metadata that the agent told.
      defaults: Metadata for what it did not tell.
      caller: Who asks, and in which format.
      memory: What earlier answers said; None for none.
    """

    def __init__(
        self,
        governor: Governor,
        told: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        *,
        caller: Caller = ANYONE,
        memory: Memory | None = None,
    ) -> None:
        self.governor, self._told, self._defaults = governor, told, defaults
        self.caller, self.memory = caller, memory or Memory()
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
            self._future = self.governor.rewriter.submit(lambda: self._make(request))
        except DeadlineExceeded as late:
            self._fallback = Fallback("deadline", str(late))

    def wait(self, request: Mapping[str, Any] | bytes) -> Plan:
        """Plans within the deadlines: that of the decision, and that of reading and rewriting."""
        self.begin(request)
        if self._future is not None:
            futures.wait([self._future], self._patience)
            self._take()
        return self.plan

    async def await_plan(self, request: Mapping[str, Any] | bytes) -> Plan:
        """As `wait`, for an event loop."""
        self.begin(request)
        if self._future is not None:
            wrapped = asyncio.wrap_future(self._future)
            await asyncio.wait([wrapped], timeout=self._patience)
            self._take()
        return self.plan

    def ready(self) -> Plan:
        """The plan if it is made by now, without waiting: in shadow mode nobody waits for it."""
        future = self._future
        made = future is not None and future.done() and not future.cancelled()
        return future.result() if future is not None and made else self.plan

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
    def _patience(self) -> float:
        return self.governor.limits.deadline + self.governor.limits.rewrite_deadline

    @property
    def _late(self) -> str:
        return f"not done in {1e3 * self._patience:g} ms"

    def _make(self, request: Mapping[str, Any] | bytes) -> Plan:
        """The plan, in a thread for rewriting. Whatever goes wrong is a fallback."""
        try:
            return self._read(request)
        except Exception as error:
            return self._unread("controller_error", type(error).__name__)

    def _decided(self, session: SessionMetadata) -> TurnDecision:
        """The decision, from the thread for decisions and within their deadline.

        Nobody waits for one in shadow mode: it takes as long as it takes, and is booked as late.
        """
        governor = self.governor
        try:
            if self.shadow:
                return governor.worker.submit(lambda: governor.judge(session)).result()
            return governor.worker.run(lambda: governor.judge(session))
        except DeadlineExceeded as late:
            return governor.without(session, Fallback("deadline", str(late)))

    def _read(self, request: Mapping[str, Any] | bytes) -> Plan:
        wire = self.caller.wire
        try:
            if isinstance(request, bytes) and len(request) > MAX_BODY:
                return self._unread("too_large")
            body = read_json(request) if isinstance(request, bytes) else request
            error = wire.error(body)
            if error is not None:
                return self._unread("malformed_body", error)
            model = body.get("model")
            plan = Plan(None, model=model if isinstance(model, str) else "")
            session = self._session(body, plan.model)
            came = request_tokens(wire, body)
        except Exception as error:
            return self._unread("malformed_body", type(error).__name__)
        decision = self._decided(session)
        plan = plan._replace(
            decision=decision, estimates=(came, came), identifier=session.identifier
        )
        if plan.refusal is not None:
            return plan
        made, encoded = Rewritten(body, body, (), 0), None
        asked = None
        try:
            if decision.response is not None:
                made = self._rewritten(body, decision.response, plan.model)
            if self._asks(plan.model):
                asked = with_usage_asked(made.body)
            sent = made.body if asked is None else asked
            if isinstance(request, bytes) and sent is not body:
                encoded = json.dumps(sent, allow_nan=False).encode()
        except Exception as error:
            fallback = Fallback("rewrite_error", type(error).__name__)
            decision = dataclasses.replace(decision, response=None, fallback=fallback)
            return plan._replace(decision=decision)
        if sent is body:
            return plan
        return plan._replace(
            body=sent,
            encoded=encoded,
            changes=made.changes,
            estimates=(came, request_tokens(wire, made.body)),
            asked=asked is not None,
        )

    def _asks(self, model: str) -> bool:
        """Whether the counts of a stream are to be asked for."""
        wanted = self.caller.usage
        if wanted == "never" or (wanted == "governed" and self.shadow):
            return False
        return self.caller.wire is CHAT and not self.memory.refuses_usage(model)

    def _rewritten(
        self, body: Mapping[str, Any], response: tuple[float, float, float], model: str
    ) -> Rewritten:
        adapter: Any = self.governor.adapter
        if isinstance(adapter, ChatAdapter):
            answer = self.memory.answer(model)
            return adapter.rewrite(body, response, wire=self.caller.wire, answer=answer)
        if self.caller.wire is CHAT:
            return adapter.rewrite(body, response)
        return Rewritten(body, body, (), 0)

    def _session(self, body: Mapping[str, Any], model: str) -> SessionMetadata:
        """The session's metadata, under the name that the client gives it somewhere."""
        caller, told = self.caller, dict(self._told)
        if not told.get("identifier"):
            found = caller.names.find(caller.headers, body)
            previous = body.get("previous_response_id")
            known = None
            if isinstance(previous, str) and caller.wire is not CHAT:
                known = self.memory.sessions.get((caller.credential, previous))
            if found is not None and (known is None or found[0] == "header"):
                known = scoped_name(caller.credential, *found)
                self.memory.sessions.put(("told", found[1]), known)
            told["identifier"] = known
        made = identify_session(
            body, told, self._defaults, wire=caller.wire, credential=caller.credential
        )
        scale = self.memory.scale(made.identifier, model)
        if scale == 1.0 or "context_tokens" in told or "context_tokens" in (self._defaults or {}):
            return made
        return dataclasses.replace(made, context_tokens=round((made.context_tokens or 0) * scale))

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

    @property
    def asked(self) -> bool:
        """Whether what was sent asks for counts that the client did not ask for."""
        return self.plan.asked and not self._rejected

    @property
    def sent(self) -> bool:
        """Whether the plan was carried out."""
        return self.plan.decision is not None and not (self._rejected and self.plan.changes)

    @property
    def fallback_code(self) -> str | None:
        """Why the policy was not followed, as far as it is known by now."""
        if self._rejected and self.plan.changes:
            return "upstream_rejected"
        decision = self.ready().decision
        found = self._fallback or (None if decision is None else decision.fallback)
        return None if found is None else found.code

    def rejected(self) -> None:
        """The upstream refused the rewritten request; the original goes instead."""
        if self.plan.asked:
            self.memory.refused_usage(self.plan.model)
        self._rejected = True
        self.governor.metrics.count("rejected_rewrites")

    def refused(self) -> None:
        """Counts a decision whose request is not sent, which is no turn of its session."""
        decision = self.plan.decision
        if decision is not None:
            self.governor.counted(decision, decision.seconds)

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
        sent = self.sent
        if self._rejected and plan.changes:
            fallback = Fallback("upstream_rejected")
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
        if usage.exact and usage.failure is None:
            plain = not (sent and "style" in self.plan.changes) and usage.tool_calls == 0
            self.memory.counted(
                plan.identifier,
                plan.model,
                plan.estimates[sent],
                usage.prompt_tokens,
                usage.completion_tokens if plain else None,
            )
        governor.observe(decision, usage)


def read_json(text: bytes) -> Any:
    """JSON as the standard has it: no NaN, and no number that is larger than a float can be.

    Python reads both and would write what no server reads.

    Raises:
      ValueError: If it is none.
    """

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError("a number is not finite")
        return value

    def refused(name: str) -> float:
        raise ValueError(f"{name} is no number of JSON")

    return json.loads(text, parse_float=finite, parse_constant=refused)
