"""The proxy's inner ASGI application: one request in, one request out, bytes as they are."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from stackjax.runtime.chat._usage import AnswerReader
from stackjax.runtime.gateway._bridge import Turn
from stackjax.runtime.gateway._client import REFUSALS
from stackjax.runtime.gateway._identify import HEADERS, told_by_headers
from stackjax.runtime.gateway._upstream import Headers, Upstream
from stackjax.runtime.governor._governor import Governor
from stackjax.runtime.governor._observer import Usage

MAX_REQUEST = 64 << 20
"""Bytes of a request body that are accepted."""

_ERRORS = {
    404: ("not_found", "this proxy serves paths below /v1/ only"),
    413: ("too_large", f"the body is larger than {MAX_REQUEST} bytes"),
    502: ("upstream_unreachable", "the upstream could not be reached or broke off"),
    503: ("overloaded", "no connection to the upstream is free"),
    504: ("upstream_timeout", "the upstream did not answer in time"),
}


class Relay:
    """Passes requests to the upstream and answers back, governing chat completions on the way.

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
    ) -> None:
        self.governor, self.upstream, self.client = governor, upstream, client
        self._defaults = dict(defaults or {})

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
        body = await _read(scope, receive)
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
        headers = scope["headers"]
        turn = None
        chat = scope["method"] == "POST" and target.partition("?")[0].endswith("/chat/completions")
        if chat and self.governor.rollout.mode != "off":
            names = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers}
            told = told_by_headers({k: v for k, v in names.items() if k in HEADERS})
            turn = Turn(self.governor, told, self._defaults)
        sent = body
        if turn is not None:
            if turn.shadow:
                turn.begin(body)
            else:
                sent = (await turn.await_plan(body)).encoded or body
        exchange = _Exchange(self, turn, send)
        try:
            await exchange.run(scope["method"], target, self.upstream.outgoing(headers), sent, body)
        except asyncio.CancelledError:
            exchange.failure = "disconnected"
            raise
        finally:
            exchange.finish()

    async def refuse(self, send: Any, status: int) -> None:
        """Answers with an error of our own, in the form that clients of the API know."""
        kind, message = _ERRORS[status]
        self.governor.metrics.count("requests", f"{status // 100}xx")
        content = json.dumps({"error": {"message": message, "type": kind, "code": kind}}).encode()
        headers = [(b"content-type", b"application/json"), (b"x-stackjax-error", kind.encode())]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class _Exchange:
    """One exchange with the upstream."""

    def __init__(self, relay: Relay, turn: Turn | None, send: Any) -> None:
        self._relay, self._turn, self._send = relay, turn, send
        self._reader: AnswerReader | None = None
        self._began = time.perf_counter()
        self.failure: str | None = None

    async def run(
        self, method: str, target: str, headers: Headers, sent: bytes, original: bytes
    ) -> None:
        import httpx

        started = False
        try:
            response = await self._request(method, target, headers, sent)
            if sent is not original and response.status_code in REFUSALS and self._turn:
                await response.aclose()
                self._turn.rejected()
                response = await self._request(method, target, headers, original)
            try:
                status = response.status_code
                self._relay.governor.metrics.count("requests", f"{status // 100}xx")
                if status >= 400:
                    self.failure = f"http_{status}"
                answer = response.headers
                self._reader = AnswerReader(
                    answer.get("content-type", ""), answer.get("content-encoding", "")
                )
                back = self._relay.upstream.incoming(answer.raw)
                if "content-length" in answer and "transfer-encoding" not in answer:
                    back.append((b"content-length", answer["content-length"].encode()))
                started = True
                await self._send({"type": "http.response.start", "status": status, "headers": back})
                async for piece in response.aiter_raw():
                    if self._turn is not None:
                        self._reader.feed(piece)
                    await self._send(
                        {"type": "http.response.body", "body": piece, "more_body": True}
                    )
                await self._send({"type": "http.response.body", "body": b""})
            finally:
                await response.aclose()
        except httpx.PoolTimeout:
            await self._fail(503, "overloaded", started)
        except httpx.TimeoutException:
            await self._fail(504, "timeout", started)
        except (httpx.HTTPError, httpx.InvalidURL):
            await self._fail(502, "connection", started)

    async def _request(self, method: str, target: str, headers: Headers, body: bytes) -> Any:
        import httpx

        # Built by hand: the client's own defaults (user-agent, accept) must not be added.
        request = httpx.Request(
            method,
            target,
            headers=headers,
            content=body or None,
            extensions={"timeout": self._relay.client.timeout.as_dict()},
        )
        return await self._relay.client.send(request, stream=True)

    async def _fail(self, status: int, reason: str, started: bool) -> None:
        """Tells the client, or, within an answer, leaves it unfinished: the server hangs up."""
        self.failure = reason
        if not started:
            await self._relay.refuse(self._send, status)

    def finish(self) -> None:
        """Books the turn."""
        if self._turn is None:
            return
        latency = time.perf_counter() - self._began
        counts = self._reader.usage() if self._reader is not None else None
        if counts is not None:
            calls = self._reader.tool_calls if self._reader is not None else 0
            usage = Usage(*counts, latency=latency, tool_calls=calls, failure=self.failure)
        else:
            chunks = self._reader.chunks if self._reader is not None else 0
            usage = Usage(0, chunks, exact=False, latency=latency, failure=self.failure)
        self._turn.finish(usage)


async def _read(scope: Mapping[str, Any], receive: Any) -> bytes | int | None:
    """The whole body; a status if it is too large, None if the client left."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > MAX_REQUEST):
            return 413
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_REQUEST:
            return 413
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _disconnect(receive: Any) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
