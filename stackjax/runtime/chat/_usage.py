"""Token counts out of an answer, whole or streamed, without holding or changing it."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

MAX_KEPT = 1 << 20
"""Bytes of one answer that are kept to be read; a longer one is estimated."""


def usage_of(answer: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens of a decoded answer or chunk, None if it does not say."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else getattr(answer, "usage", None)
    if usage is None:
        return None
    found = []
    for name in ("prompt_tokens", "completion_tokens"):
        value = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            return None
        found.append(value)
    return found[0], found[1]


class AnswerReader:
    """Reads usage off the bytes of an answer as they pass.

    For a stream it keeps the last chunk that names usage and counts chunks; for a whole answer it
    keeps the body. Gzip and deflate are decoded; of any other encoding nothing is read.
    """

    def __init__(self, content_type: str = "", encoding: str = "") -> None:
        self.streamed = content_type.lower().startswith("text/event-stream")
        self.chunks = 0
        self.tool_calls = 0
        self._encoding = encoding.lower().strip()
        self._decoder = zlib.decompressobj(47) if self._encoding in ("gzip", "deflate") else None
        self._readable = self._encoding in ("", "identity", "gzip", "deflate")
        self._calls: set[tuple[Any, Any]] = set()
        self._kept = bytearray()
        self._last: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Reads the next bytes; never raises."""
        if not self._readable:
            return
        try:
            if self._decoder is not None:
                data = self._decoder.decompress(data, MAX_KEPT)
        except zlib.error:
            self._readable = False
            return
        self._kept += data
        if self.streamed:
            *lines, rest = bytes(self._kept).split(b"\n")
            self._kept = bytearray(rest)
            for line in lines:
                self._line(line)
        if len(self._kept) > MAX_KEPT:
            self._readable = False
            self._kept.clear()

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        self.chunks += 1
        if b'"prompt_tokens"' in data:  # later chunks may name "usage": null
            self._last = data
        if b'"tool_calls"' in data:
            with contextlib.suppress(ValueError, RecursionError):
                self._calls |= streamed_calls_of(json.loads(data))
                self.tool_calls = len(self._calls)

    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens, None if the answer did not say."""
        text = self._last if self.streamed else bytes(self._kept)
        if not text or not self._readable:
            return None
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(answer, Mapping) and not self.streamed:
            self.tool_calls = tool_calls_of(answer)
        return usage_of(answer)


def tool_calls_of(answer: Any) -> int:
    """Tool calls that an answer asks for."""
    read = lambda x, name: x.get(name) if isinstance(x, Mapping) else getattr(x, name, None)
    total = 0
    for choice in _listed(read(answer, "choices")):
        calls = read(read(choice, "message"), "tool_calls")
        total += len(calls) if isinstance(calls, list) else 0
    return total


def streamed_calls_of(chunk: Any) -> set[tuple[Any, Any]]:
    """The tool calls that a chunk of a stream is part of, by the indices of choice and call."""
    read = lambda x, name: x.get(name) if isinstance(x, Mapping) else getattr(x, name, None)
    found = set()
    for choice in _listed(read(chunk, "choices")):
        for call in _listed(read(read(choice, "delta"), "tool_calls")):
            place = read(choice, "index"), read(call, "index")
            if all(index is None or isinstance(index, int) for index in place):
                found.add(place)
    return found


def _listed(value: Any) -> list[Any]:
    """The value if it is a list, as it should be; else nothing."""
    return value if isinstance(value, list) else []
