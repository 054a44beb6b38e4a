"""One exchange with the upstream: what is planned is sent, what comes is read as it passes."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from stackjax.runtime.chat._asked_usage import UsageFilter
from stackjax.runtime.chat._usage import READABLE, AnswerReader, Counts, Decoder
from stackjax.runtime.gateway._bridge import Turn
from stackjax.runtime.gateway._client import REFUSALS
from stackjax.runtime.gateway._streams import usage_from
from stackjax.runtime.gateway._told import told_headers
from stackjax.runtime.gateway._upstream import Headers

if TYPE_CHECKING:
    from stackjax.runtime.gateway._relay import Relay


class Exchange:
    """One exchange with the upstream.

    Args:
      relay: Whose.
      turn: The governed turn, None for a request that is only passed on.
      send: ASGI's.

    Attributes:
      failure: Why the answer is not whole, or None.
    """

    def __init__(self, relay: Relay, turn: Turn | None, send: Any) -> None:
        self._relay, self._turn, self._send = relay, turn, send
        self._reader: AnswerReader | None = None
        self._began = time.perf_counter()
        self.failure: str | None = None

    async def run(
        self, method: str, target: str, headers: Headers, sent: bytes, original: bytes
    ) -> None:
        """Sends the request, and the original if the upstream refuses what was rewritten."""
        import httpx

        started = False
        try:
            response = await self._request(method, target, headers, sent)
            if sent is not original and response.status_code in REFUSALS and self._turn:
                await response.aclose()
                self._turn.rejected()
                response = await self._request(method, target, headers, original)
            self._relay.health.note(True)
            try:
                status = response.status_code
                self._relay.governor.metrics.count("requests", f"{status // 100}xx")
                if status >= 400:
                    self.failure = f"http_{status}"
                started = True
                await self._pass_on(response, status)
            finally:
                await response.aclose()
        except httpx.PoolTimeout:
            await self._fail(503, "overloaded", started)
        except httpx.ConnectTimeout:
            self._relay.health.note(False)
            await self._fail(504, "timeout", started)
        except httpx.TimeoutException:
            await self._fail(504, "timeout", started)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if isinstance(error, httpx.ConnectError):
                self._relay.health.note(False)
            await self._fail(502, "connection", started)

    async def _pass_on(self, response: Any, status: int) -> None:
        answer = response.headers
        kind, encoding = answer.get("content-type", ""), answer.get("content-encoding", "")
        self._reader = reader = AnswerReader(kind, encoding)
        back = self._relay.upstream.incoming(answer.raw)
        # Counts that were asked for here are taken out again; what is packed is unpacked for that.
        unasked = self._turn is not None and self._turn.asked and reader.streamed
        if unasked and encoding.lower().strip() in ("", *READABLE):
            back = [(name, value) for name, value in back if name != b"content-encoding"]
            pieces = self._without_counts(response, encoding)
        else:
            if "content-length" in answer and "transfer-encoding" not in answer:
                back.append((b"content-length", answer["content-length"].encode()))
            pieces = self._as_they_come(response)
        back += told_headers(self._turn)
        await self._send({"type": "http.response.start", "status": status, "headers": back})
        async for piece in pieces:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _as_they_come(self, response: Any) -> AsyncGenerator[bytes]:
        async for piece in response.aiter_raw():
            if self._turn is not None and self._reader is not None:
                self._reader.feed(piece)
            yield piece

    async def _without_counts(self, response: Any, encoding: str) -> AsyncGenerator[bytes]:
        import httpx

        decoder, events = Decoder(encoding), UsageFilter()
        assert self._reader is not None
        try:
            async for raw in response.aiter_raw():
                piece = decoder.feed(raw)
                self._reader.read(piece)
                if passed := events.feed(piece):
                    yield passed
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
        if rest := events.end():
            yield rest

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
            await self._relay.refuse(self._send, status, turn=self._turn)

    def finish(self) -> Counts | None:
        """Books the turn; returns the counts of the answer, if it names any."""
        if self._turn is None:
            return None
        reader = self._reader
        counts = reader.counts() if reader is not None else None
        usage = usage_from(
            counts,
            reader.tool_calls if reader is not None else 0,
            time.perf_counter() - self._began,
            chunks=reader.chunks if reader is not None else 0,
            failure=self.failure,
        )
        self._turn.finish(usage)
        if reader is not None and reader.identifier is not None:
            self._relay.answered(self._turn, reader.identifier)
        return counts
