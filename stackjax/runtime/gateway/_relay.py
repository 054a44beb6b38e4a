"""The proxy's inner ASGI application: one request in, one request out, bytes as they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stackjax._arrays.arguments import check_choice, check_count, check_type, check_within
from stackjax.runtime.chat._usage import READABLE
from stackjax.runtime.chat._wire import Wire
from stackjax.runtime.chat._wires import wire_at
from stackjax.runtime.gateway._bridge import Caller, Turn
from stackjax.runtime.gateway._exchange import Exchange
from stackjax.runtime.gateway._identify import told_by_headers
from stackjax.runtime.gateway._memory import Memory
from stackjax.runtime.gateway._sessions import SessionNames, credential_of, scoped_name
from stackjax.runtime.gateway._told import error_answer
from stackjax.runtime.gateway._upstream import Upstream
from stackjax.runtime.gateway._upstream_health import UpstreamHealth
from stackjax.runtime.governor._governor import Governor

USAGE = ("governed", "always", "never")
_PATHS = (
    "completions",
    "embeddings",
    "images",
    "audio",
    "moderations",
    "batches",
    "files",
    "rerank",
    "realtime",
    "messages/count_tokens",
    "messages/batches",
)
_LOG = logging.getLogger("stackjax.runtime")


@dataclass(frozen=True)
class Intake:
    """How requests are taken in.

    Attributes:
      body_limit: Bytes of a request body that are accepted.
      read_deadline: Seconds in which a request's body must have arrived.
      stream_usage: Whether the counts of streams are asked for where the client did not:
        ``"governed"``, in modes that govern (both arms of an A/B); ``"always"``, in shadow mode
        too, whose requests then differ by this one option; ``"never"``.
      names: Where a session's name is looked for.

    Raises:
      TypeError: If a value is of the wrong kind.
      ValueError: If a limit is below 1, the deadline not positive, or the choice unknown.

    Example:
      >>> Intake(stream_usage="never").read_deadline
      60.0
    """

    body_limit: int = 64 << 20
    read_deadline: float = 60.0
    stream_usage: str = "governed"
    names: SessionNames = field(default_factory=SessionNames)

    def __post_init__(self) -> None:
        check_count("body_limit", self.body_limit)
        check_within("read_deadline", self.read_deadline, "(0, inf]")
        check_choice("stream_usage", self.stream_usage, USAGE)
        check_type("names", self.names, SessionNames, "a SessionNames")


DEFAULT_INTAKE = Intake()


class Relay:
    """Passes requests to the upstream and answers back, governing requests to a model on the way.

    Bodies are passed as they came unless a plan rewrote them. An answer is streamed as its bytes
    arrive. When the client leaves, the upstream's connection is closed; when the upstream breaks
    off in the middle of an answer, so is the client's, since nothing else would tell it.
    """

    def __init__(
        self,
        governor: Governor,
        upstream: Upstream,
        defaults: Mapping[str, Any] | None = None,
        client: Any = None,
        intake: Intake = DEFAULT_INTAKE,
    ) -> None:
        self.governor, self.upstream, self.client = governor, upstream, client
        self.memory, self.health = Memory(), UpstreamHealth(upstream)
        self._defaults, self._intake = dict(defaults or {}), intake
        self._warned: set[str] = set()

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serves one request (ASGI)."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope.get("raw_path") or scope["path"].encode()
        target = self.upstream.target(path.decode("latin-1"), scope.get("query_string", b""))
        if target is None:
            await self.refuse(send, 404)
            return
        try:
            body = await asyncio.wait_for(
                _read(scope, receive, self._intake.body_limit), self._intake.read_deadline
            )
        except TimeoutError:
            body = 408
        if body is None:
            return
        if isinstance(body, int):
            await self.refuse(send, body)
            return
        relay = asyncio.ensure_future(self._serve(scope, target, body, send))
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait([relay, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (relay, gone):
                task.cancel()
            await asyncio.gather(relay, gone, return_exceptions=True)

    async def _serve(self, scope: Mapping[str, Any], target: str, body: bytes, send: Any) -> None:
        headers, turn, sent = scope["headers"], None, body
        wire = None
        if scope["method"] == "POST":
            wire = wire_at(target.partition("?")[0])
            if wire is None:
                self._passed(target)
            elif self.governor.rollout.mode != "off":
                turn = self._turn(wire, headers)
        if turn is not None:
            if turn.shadow:
                # What asks for counts has to be made before it is sent.
                waits = self._intake.stream_usage == "always"
                made = (await turn.await_plan(body)).encoded if waits else turn.begin(body)
            else:
                made = (await turn.await_plan(body)).encoded
            sent = made or body
            if turn.plan.refusal is not None and not turn.shadow:
                turn.refused()
                await self.refuse(send, 429, wire=wire, message=turn.plan.refusal, turn=turn)
                return
        exchange = Exchange(self, turn, send)
        # An answer in an encoding that is not read here would be an answer without counts.
        read = "" if turn is None else ", ".join(READABLE)
        outgoing = self.upstream.outgoing(headers, read=read)
        try:
            await exchange.run(scope["method"], target, outgoing, sent, body)
        except asyncio.CancelledError:
            exchange.failure = "disconnected"
            raise
        finally:
            exchange.finish()

    def _turn(self, wire: Wire, headers: Any) -> Turn:
        names = {k.decode("latin-1"): v.decode("latin-1").strip() for k, v in headers}
        told, credential = told_by_headers(names), credential_of(names)
        if "identifier" in told:
            name = told["identifier"]
            told["identifier"] = scoped_name(credential, "told", name)
            self.memory.sessions.put(("told", name), told["identifier"])
        caller = Caller(wire, credential, names, self._intake.names, self._intake.stream_usage)
        return Turn(self.governor, told, self._defaults, caller=caller, memory=self.memory)

    def session(self, name: str) -> str:
        """The identifier of the session that a client called by a name, of late."""
        return self.memory.sessions.get(("told", name)) or name

    def answered(self, turn: Turn, identifier: str) -> None:
        """Notes an answer's own name: a later request may go on from it."""
        if turn.plan.identifier or turn.ready().identifier:
            key = turn.caller.credential, identifier
            self.memory.sessions.put(key, turn.ready().identifier)

    def _passed(self, target: str) -> None:
        """Counts a request to a model that is not governed; warns of each path once."""
        path = target.partition("?")[0]
        name = next((known for known in _PATHS if path.endswith("/" + known)), None)
        name = name or next((known for known in _PATHS if f"/{known}/" in path), "other")
        self.governor.metrics.count("ungoverned", name)
        if name not in self._warned:
            self._warned.add(name)
            _LOG.warning("requests to .../%s pass ungoverned", name)

    async def refuse(
        self,
        send: Any,
        status: int,
        *,
        wire: Wire | None = None,
        message: str | None = None,
        turn: Turn | None = None,
    ) -> None:
        """Answers with an error of our own, in the form that clients of the API know."""
        self.governor.metrics.count("requests", f"{status // 100}xx")
        headers, content = error_answer(status, wire, message, turn)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


async def _read(scope: Mapping[str, Any], receive: Any, limit: int) -> bytes | int | None:
    """The whole body; a status if it is too large, None if the client left."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            return 413
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            return 413
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _disconnect(receive: Any) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
