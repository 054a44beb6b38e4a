"""Streams of the `openai` client, counted as they are read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from stackjax.runtime.chat._usage import streamed_calls_of, usage_of
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


class _Tally:
    """Counts what passes in a stream."""

    def __init__(self, turn: Turn, began: float) -> None:
        self._turn, self._began = turn, began
        self._counts: tuple[int, int] | None = None
        self._chunks = 0
        self._calls: set[tuple[Any, Any]] = set()
        self._ended = False
        self.failure: str | None = None

    def see(self, chunk: Any) -> None:
        self._chunks += 1
        self._counts = usage_of(chunk) or self._counts
        self._calls |= streamed_calls_of(chunk)

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
        counts = self._counts or (0, self._chunks)
        latency = time.perf_counter() - self._began
        exact = self._counts is not None
        usage = Usage(
            *counts,
            exact=exact,
            latency=latency,
            tool_calls=len(self._calls),
            failure=self.failure,
        )
        self._turn.finish(usage)

    def fail(self, error: BaseException) -> None:
        """Notes why the stream broke off."""
        self.failure = failed_usage(error, self._began).failure


def _watch(tally: _Tally, chunks: Iterator[Any]) -> Iterator[Any]:
    try:
        for chunk in chunks:
            tally.see(chunk)
            yield chunk
    except BaseException as error:  # GeneratorExit: nobody reads on
        tally.fail(error)
        raise
    finally:
        tally.end()


async def _awatch(tally: _Tally, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            tally.see(chunk)
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
