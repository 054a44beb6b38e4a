"""A small OpenAI-compatible server on 127.0.0.1 that keeps what it receives, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from typing import NamedTuple


class Received(NamedTuple):
    """One request: its head (request line and headers) and its body, as they came."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return {name.lower(): value.strip() for name, _, value in pairs}


class Reply(NamedTuple):
    """What is sent back.

    Attributes:
      body: The whole answer, or its pieces, each sent as a chunk.
      status: Status code.
      delay: Seconds before the answer, and between its pieces.
      content_type: Its content type.
      kill: Pieces after which the connection is cut; None for a whole answer.
      headers: Further header lines.
    """

    body: bytes | tuple[bytes, ...]
    status: int = 200
    delay: float = 0.0
    content_type: str = "application/json"
    kill: int | None = None
    headers: tuple[str, ...] = ()


def completion(text: str = "ok", prompt: int = 20, written: int = 4) -> bytes:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": prompt, "completion_tokens": written}
    usage["total_tokens"] = prompt + written
    data = {"id": "c", "object": "chat.completion", "created": 0, "model": "fake"}
    return json.dumps({**data, "choices": [choice], "usage": usage}).encode()


def uncounted(text: str) -> bytes:
    """A chat completion that names no usage, so that invented counts raise no drift alarm."""
    data = json.loads(completion(text))
    del data["usage"]
    return json.dumps(data).encode()


def chunks(text: str = "a b c", usage: bool = False) -> tuple[bytes, ...]:
    """The same as a stream of server-sent events, a word each."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "fake"}
    pieces = []
    for word in text.split():
        delta = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        pieces.append({**base, "choices": [delta]})
    pieces.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        counts = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
        pieces.append({**base, "choices": [], "usage": counts})
    return (*(b"data: " + json.dumps(p).encode() + b"\n\n" for p in pieces), b"data: [DONE]\n\n")


def stream(text: str = "a b c", *, usage: bool = False, **options) -> Reply:
    """A streamed reply."""
    return Reply(chunks(text, usage), content_type="text/event-stream", **options)


class RecordingUpstream:
    """Answers request number `n` (from 0) with `script(received, n)`.

    Args:
      script: Chooses the reply.
      keep: Whether requests are kept in `received`.

    Attributes:
      received: The requests, in order.
      aborted: Answers that the other side did not wait for.
    """

    def __init__(self, script: Callable[[Received, int], Reply], *, keep: bool = True) -> None:
        self._script, self._keep = script, keep
        self.received: list[Received] = []
        self.count = self.aborted = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RecordingUpstream:
        self._thread.start()
        self._ready.wait(10.0)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Closes the port and cuts every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10.0)

    @property
    def base_url(self) -> str:
        """The server's base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # a transport that was told to close does so in the next round

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(Received(head, b"").headers.get("content-length", 0))
        received = Received(head, await reader.readexactly(length) if length else b"")
        number, self.count = self.count, self.count + 1
        if self._keep:
            self.received.append(received)
        reply = self._script(received, number)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        lines = [f"HTTP/1.1 {reply.status} Scripted", f"Content-Type: {reply.content_type}"]
        lines += ["Set-Cookie: upstream=1", "X-Request-Id: r" + str(number), *reply.headers]
        pieces = (reply.body,) if isinstance(reply.body, bytes) else reply.body
        chunked = not isinstance(reply.body, bytes)
        size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(pieces[0])}"
        writer.write("\r\n".join([*lines, size, "", ""]).encode())
        for position, piece in enumerate(pieces):
            if reply.kill is not None and position >= reply.kill:
                await writer.drain()
                return False
            if reply.delay and position:
                await asyncio.sleep(reply.delay)
            if reader.at_eof() or writer.is_closing():
                self.aborted += 1
                return False
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return True
