"""Token counts out of an answer, whole or streamed, without holding or changing it.

Three formats name their counts differently; here `prompt_tokens` always includes what was read from
a cache, `cached_tokens` is that part of it.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_KEPT = 1 << 20
"""Bytes of one answer, or of one event, that are kept to be read; a longer one is estimated."""

READABLE = ("gzip", "deflate", "identity", "x-gzip")
"""Encodings of answers that can be read."""


class Counts(NamedTuple):
    """Tokens that an answer names."""

    prompt: int
    completion: int
    cached: int = 0


def counts_of(answer: Any) -> Counts | None:
    """The counts of a decoded answer or event of any format, None if it does not say."""
    found = _merged([_usage_in(answer)])
    prompt, completion = found.get("prompt"), found.get("completion")
    if prompt is None or completion is None:
        return None
    return Counts(prompt, completion, found.get("cached", 0))


def usage_of(answer: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens of a decoded answer or chunk, None if it does not say."""
    counts = counts_of(answer)
    return None if counts is None else counts[:2]


def _read(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _usage_in(answer: Any) -> Any:
    """The usage of an answer; in an event it may lie in the response or message that it holds."""
    for place in (answer, _read(answer, "response"), _read(answer, "message")):
        usage = _read(place, "usage")
        if usage is not None:
            return usage
    return None


def _merged(usages: list[Any]) -> dict[str, int]:
    """What some usages say together; a later one goes first."""
    found: dict[str, int] = {}
    for usage in usages:
        for kind, names in _NAMES.items():
            for name in names:
                value = _read(usage, name)
                if isinstance(value, int) and not isinstance(value, bool):
                    found[kind] = value
                    break
        for parent, name in _DETAILS:
            value = _read(_read(usage, parent), name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                found["cached"] = value
        # Anthropic counts what was read from a cache, or written to it, apart from the rest.
        apart = [_read(usage, name) for name in _APART]
        if any(isinstance(x, int) for x in apart):
            read, written = (x if isinstance(x, int) and x >= 0 else 0 for x in apart)
            found["cached"], found["apart"] = read, read + written
    if any(value < 0 for value in found.values()):
        return {}
    if "prompt" in found:
        found["prompt"] += found.pop("apart", 0)
    return found


_NAMES = {
    "prompt": ("prompt_tokens", "input_tokens"),
    "completion": ("completion_tokens", "output_tokens"),
}
_DETAILS = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
)
_APART = ("cache_read_input_tokens", "cache_creation_input_tokens")


class AnswerReader:
    """Reads counts off the bytes of an answer as they pass.

    For a stream it keeps the first and the last event that name counts; for a whole answer it keeps
    the body. Gzip and deflate are decoded; of any other encoding nothing is read. The work is
    linear in the bytes, however they are cut.

    Attributes:
      chunks: Events of a stream, but for those that say nothing of the answer.
      tool_calls: Calls that the answer asks for; of a whole answer known after `counts`.
      identifier: The answer's own name, where it has counts.
    """

    def __init__(self, content_type: str = "", encoding: str = "") -> None:
        self.streamed = content_type.lower().startswith("text/event-stream")
        self.chunks = 0
        self.tool_calls = 0
        self.identifier: str | None = None
        self._readable = encoding.lower().strip() in ("", *READABLE)
        self._decoder = Decoder(encoding)
        self._calls: set[tuple[Any, Any]] = set()
        self._kept: list[bytes] = []
        self._size = 0
        self._first: bytes | None = None
        self._last: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Reads the next bytes; never raises."""
        if not self._readable:
            return
        try:
            data = self._decoder.feed(data)
        except zlib.error:
            self._readable = False
            return
        self.read(data)

    def read(self, data: bytes) -> None:
        """As `feed`, for bytes that are decoded."""
        if self.streamed and b"\n" in data:
            *lines, rest = b"".join((*self._kept, data)).split(b"\n")
            self._kept, self._size = [rest], len(rest)
            for line in lines:
                self._line(line)
        else:
            self._kept.append(data)
            self._size += len(data)
        if self._size > MAX_KEPT:
            self._readable = False
            self._kept.clear()

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        self.chunks += 1
        if b'_tokens"' in data and b'"usage"' in data:  # later chunks may name "usage": null
            self._first, self._last = self._first or data, data
        if b'"tool_calls"' in data or b'"content_block_start"' in data:
            with contextlib.suppress(ValueError, RecursionError):
                self._calls |= streamed_calls_of(json.loads(data))
                self.tool_calls = len(self._calls)

    def counts(self) -> Counts | None:
        """The counts, None if the answer did not say."""
        texts = [self._first, self._last] if self.streamed else [b"".join(self._kept)]
        if not all(texts) or not self._readable:
            return None
        try:
            answers = [json.loads(text) for text in texts if text]
        except (ValueError, RecursionError):
            return None
        last = answers[-1]
        whole = _read(last, "response") if self.streamed else last
        if isinstance(whole, Mapping):
            self.tool_calls = max(self.tool_calls, tool_calls_of(whole))
            named = whole.get("id")
            self.identifier = named if isinstance(named, str) else None
        found = _merged([_usage_in(answer) for answer in answers])
        if "prompt" not in found or "completion" not in found:
            return None
        return Counts(found["prompt"], found["completion"], found.get("cached", 0))

    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens, None if the answer did not say."""
        counts = self.counts()
        return None if counts is None else counts[:2]


class Decoder:
    """Undoes gzip or deflate, piece by piece; anything else comes back as it is."""

    def __init__(self, encoding: str = "") -> None:
        self._packed = encoding.lower().strip() in ("gzip", "x-gzip", "deflate")
        self._decoder: Any = zlib.decompressobj(47) if self._packed else None
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes, decoded.

        Raises:
          zlib.error: If they are no such encoding.
        """
        if not self._packed or not data:
            return data
        try:
            made = self._decoder.decompress(data)
        except zlib.error:
            if self._begun:
                raise
            # Some servers send "deflate" without the header that belongs to it.
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
            made = self._decoder.decompress(data)
        self._begun = True
        while self._decoder.eof and self._decoder.unused_data:  # one member after another
            rest = self._decoder.unused_data
            self._decoder = zlib.decompressobj(47)
            made += self._decoder.decompress(rest)
        return made


def tool_calls_of(answer: Any) -> int:
    """Tool calls that an answer asks for, in any format."""
    total = 0
    for choice in _listed(_read(answer, "choices")):
        total += len(_listed(_read(_read(choice, "message"), "tool_calls")))
    for item in _listed(_read(answer, "output")):
        total += str(_read(item, "type")).endswith("_call") and _read(item, "call_id") is not None
    for block in _listed(_read(answer, "content")):
        total += _read(block, "type") == "tool_use"
    return total


def streamed_calls_of(chunk: Any) -> set[tuple[Any, Any]]:
    """The tool calls that a chunk of a stream is part of, by the indices of choice and call."""
    found = set()
    for choice in _listed(_read(chunk, "choices")):
        for call in _listed(_read(_read(choice, "delta"), "tool_calls")):
            place = _read(choice, "index"), _read(call, "index")
            if all(index is None or isinstance(index, int) for index in place):
                found.add(place)
    if _read(_read(chunk, "content_block"), "type") == "tool_use":
        found.add((None, _read(chunk, "index")))
    return found


def _listed(value: Any) -> list[Any]:
    """The value if it is a list, as it should be; else nothing."""
    return value if isinstance(value, list) else []
