"""Load for a proxy: many sessions at once over plain sockets, each answer checked to be its own."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

BOUND = 60.0
"""Seconds after which any one request counts as lost."""


class Answer(NamedTuple):
    """What came back: status (0 if nothing did), body, seconds."""

    status: int
    body: bytes
    seconds: float


def chat_body(text: str, turns: int = 3, *, stream: bool = False, padding: int = 0) -> bytes:
    """A conversation of some turns whose last question is `text`."""
    messages: list[dict[str, str]] = [{"role": "system", "content": "You are helpful."}]
    for turn in range(turns - 1):
        messages.append({"role": "user", "content": f"question {turn} of {text} " + "word " * 20})
        messages.append({"role": "assistant", "content": "an answer of some words " * 4})
    messages.append({"role": "user", "content": text})
    body: dict[str, Any] = {"model": "m", "messages": messages, "stream": stream}
    if padding:
        body["user"] = "x" * padding
    return json.dumps(body).encode()


class Connection:
    """One kept-alive connection to a server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes, session: str = "") -> Answer:
        """Posts a chat completion and reads the whole answer; whatever fails is status 0."""
        start = time.perf_counter()
        try:
            status, content = await asyncio.wait_for(self._post(body, session), BOUND)
        except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError):
            self.close()
            status, content = 0, b""
        return Answer(status, content, time.perf_counter() - start)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The streams, connected."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def _post(self, body: bytes, session: str) -> tuple[int, bytes]:
        reader, writer = await self.open()
        lines = [f"POST {self._path}/chat/completions HTTP/1.1", f"Host: {self._host}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += ["Authorization: Bearer key"]
        lines += [f"x-stackjax-session: {session}"] if session else []
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split()[1])
        if "transfer-encoding: chunked" in head:
            content = b""
            while size := int(await reader.readline(), 16):
                content += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            content = await reader.readexactly(int(head.split("content-length:")[1].split()[0]))
        if "connection: close" in head:
            self.close()
        return status, content

    def close(self) -> None:
        """Drops the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Tally(NamedTuple):
    """Answers of a load.

    Attributes:
      seconds: Latency of each answer that was right.
      right: Answers with the session's own text.
      crossed: Answers with another text.
      failed: Answers with an error status.
      lost: Requests without an answer.
    """

    seconds: list[float]
    right: int
    crossed: int
    failed: int
    lost: int


def tally(answers: list[tuple[str, Answer]]) -> Tally:
    """Compares every answer with the text that its request asked for."""
    seconds, right, crossed, failed, lost = [], 0, 0, 0, 0
    for text, answer in answers:
        if answer.status == 0:
            lost += 1
        elif answer.status != 200:
            failed += 1
        elif json.loads(answer.body)["choices"][0]["message"]["content"] == text:
            right += 1
            seconds.append(answer.seconds)
        else:
            crossed += 1
    return Tally(seconds, right, crossed, failed, lost)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) if seconds else (np.nan, np.nan)
    p50, p99 = round(1e3 * float(p50), 3), round(1e3 * float(p99), 3)
    return {"p50_ms": p50, "p99_ms": p99, "count": len(seconds)}


async def sessions(
    url: str, count: int, turns: int, pause: float, *, seed: int, padding: int = 0
) -> Tally:
    """Sessions that ask one question after another, each over a connection of its own."""

    async def one(number: int) -> list[tuple[str, Answer]]:
        rng, connection, answers = random.Random(seed * 10_000 + number), Connection(url), []
        for turn in range(turns):
            await asyncio.sleep(rng.uniform(0, 2 * pause))
            text = f"s{number}-t{turn}"
            body = chat_body(text, 1 + turn % 4, padding=padding)
            answers.append((text, await connection.post(body, f"session-{seed}-{number}")))
        connection.close()
        return answers

    found = await asyncio.gather(*(one(number) for number in range(count)))
    return tally([answer for answers in found for answer in answers])


async def connections(url: str, count: int) -> Tally:
    """One request on each of many connections that are open at the same time."""
    made = [Connection(url) for _ in range(count)]
    gate = asyncio.Semaphore(200)  # of handshakes under way; the connections stay open

    async def connect(connection: Connection) -> None:
        async with gate:
            await connection.open()

    await asyncio.gather(*(connect(c) for c in made), return_exceptions=True)

    async def one(number: int) -> tuple[str, Answer]:
        text = f"c{number}"
        return text, await made[number].post(chat_body(text), f"connection-{number}")

    found = await asyncio.gather(*(one(number) for number in range(count)))
    for connection in made:
        connection.close()
    return tally(list(found))


async def leaving(url: str, count: int, after: float) -> int:
    """Clients that send a request and leave before the answer; returns how many did."""

    async def one(number: int) -> None:
        connection = Connection(url)
        post = asyncio.ensure_future(connection.post(chat_body(f"l{number}"), f"leaver-{number}"))
        await asyncio.sleep(after)
        connection.close()
        post.cancel()
        await asyncio.gather(post, return_exceptions=True)

    await asyncio.gather(*(one(number) for number in range(count)))
    return count
