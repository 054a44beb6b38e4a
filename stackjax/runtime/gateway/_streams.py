"""Streams of the `openai` client, counted as they are read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from stackjax.runtime.chat._asked_usage import is_usage_chunk
from stackjax.runtime.chat._usage import Counts, counts_of, streamed_calls_of
from stackjax.runtime.gateway._bridge import Turn
from stackjax.runtime.governor._observer import Usage


def watch_stream(turn: Turn, stream: Any, began: float, *, is_async: bool) -> None:
    """Books a turn when its stream ends, breaks off or is closed; the stream stays what it is."""
    tally = _Tally(turn, began)
    stream._iterator = (_awatch if is_async else _watch)(tally, stream._iterator)
    # A stream that is left early is booked when it is closed.
    stream.close = (_aclosing if is_async else _closing)(tally, stream.close)


def failed_usage(error: BaseException, began: float) -> Usage:
    """The usage of a call that raised."""
    import openai

    reason = "disconnected"
    if isinstance(error, openai.APIStatusError):
        reason = f"http_{error.status_code}"
    elif isinstance(error, openai.APITimeoutError):
        reason = "timeout"
    elif isinstance(error, openai.APIConnectionError):
        reason = "connection"
    elif isinstance(error, Exception):
        reason = "client_error"
    return Usage(0, 0, exact=False, failure=reason, latency=time.perf_counter() - began)


def usage_from(
    counts: Counts | None,
    calls: int,
    latency: float,
    *,
    chunks: int = 0,
    failure: str | None = None,
) -> Usage:
    """The usage of an answer; where it names no counts, its chunks are taken for tokens."""
    if counts is None:
        return Usage(0, chunks, exact=False, latency=latency, tool_calls=calls, failure=failure)
    return Usage(
        counts.prompt,
        counts.completion,
        cached_tokens=counts.cached,
        latency=latency,
        tool_calls=calls,
        failure=failure,
    )


class _Tally:
    """Counts what passes in a stream."""

    def __init__(self, turn: Turn, began: float) -> None:
        self._turn, self._began = turn, began
        self._counts: Counts | None = None
        # The chunk of counts that the client did not ask for is not for it.
        self._asked = turn.asked
        self._chunks = 0
        self._calls: set[tuple[Any, Any]] = set()
        self._ended = False
        self.failure: str | None = None

    def see(self, chunk: Any) -> bool:
        """Counts a chunk; returns whether it is for the client."""
        self._counts = counts_of(chunk) or self._counts
        if self._asked and is_usage_chunk(chunk):
            return False
        self._chunks += 1
        self._calls |= streamed_calls_of(chunk)
        return True

    def leave(self) -> None:
        """The stream was closed, before its end or after it."""
        if not self._ended:
            self.failure = "disconnected"
            self.end()

    def end(self) -> None:
        """Books the turn, once."""
        if self._ended:
            return
        self._ended = True
        latency = time.perf_counter() - self._began
        usage = usage_from(
            self._counts, len(self._calls), latency, chunks=self._chunks, failure=self.failure
        )
        self._turn.finish(usage)

    def fail(self, error: BaseException) -> None:
        """Notes why the stream broke off."""
        self.failure = failed_usage(error, self._began).failure


def _watch(tally: _Tally, chunks: Iterator[Any]) -> Iterator[Any]:
    try:
        for chunk in chunks:
            if tally.see(chunk):
                yield chunk
    except BaseException as error:  # GeneratorExit: nobody reads on
        tally.fail(error)
        raise
    finally:
        tally.end()


async def _awatch(tally: _Tally, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            if tally.see(chunk):
                yield chunk
    except BaseException as error:
        tally.fail(error)
        raise
    finally:
        tally.end()


def _closing(tally: _Tally, close: Callable[[], Any]) -> Callable[[], None]:
    def closed() -> None:
        try:
            close()
        finally:
            tally.leave()

    return closed


def _aclosing(tally: _Tally, close: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    async def closed() -> None:
        try:
            await close()
        finally:
            tally.leave()

    return closed
