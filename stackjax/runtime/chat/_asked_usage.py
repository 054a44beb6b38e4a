"""Counts of a stream that its client did not ask for: asked for, and taken out of the answer.

A stream of chat completions names its tokens only if ``stream_options.include_usage`` is set, which
the clients' libraries do not do of themselves; then one chunk without choices follows the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from stackjax.runtime.chat._usage import MAX_KEPT


def with_usage_asked(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A chat request whose stream will name its counts; None where nothing is to be asked.

    Example:
      >>> with_usage_asked({"stream": True})
      {'stream': True, 'stream_options': {'include_usage': True}}
      >>> with_usage_asked({"stream": False}) is None
      True
    """
    if body.get("stream") is not True:
        return None
    options = body.get("stream_options")
    if options is None:
        options = {}
    if not isinstance(options, Mapping) or options.get("include_usage"):
        return None
    return {**body, "stream_options": {**options, "include_usage": True}}


def is_usage_chunk(chunk: Any) -> bool:
    """Whether a chunk is the one that only names the counts."""
    read = lambda name: chunk.get(name) if isinstance(chunk, Mapping) else getattr(chunk, name, 0)
    return read("choices") == [] and bool(read("usage"))


_BLANK = re.compile(rb"\r?\n\r?\n")


class UsageFilter:
    """Passes the bytes of an event stream on without the chunk that only names the counts.

    Whole events are passed as soon as they end. Bytes stay as they are; an event that is longer
    than is kept passes unread, and all that follows it.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._seen = 0
        self._through = False

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now."""
        if self._through:
            return data
        self._kept += data
        passed, start = [], 0
        while found := _BLANK.search(self._kept, max(self._seen - 3, start)):
            event = bytes(self._kept[start : found.end()])
            start = self._seen = found.end()
            if not _only_usage(event):
                passed.append(event)
        del self._kept[:start]
        self._seen = len(self._kept)
        if len(self._kept) > MAX_KEPT:
            self._through = True
            passed.append(self.end())
        return b"".join(passed)

    def end(self) -> bytes:
        """What is left when the stream has ended, or broken off."""
        rest = bytes(self._kept)
        self._kept.clear()
        return b"" if _only_usage(rest) else rest


def _only_usage(event: bytes) -> bool:
    if b'"usage"' not in event:
        return False
    lines = [line for line in event.splitlines() if line]
    data = [line[5:] for line in lines if line.startswith(b"data:")]
    if len(data) != len(lines):
        return False
    try:
        chunk = json.loads(b"\n".join(data))
    except (ValueError, RecursionError):
        return False
    return isinstance(chunk, Mapping) and is_usage_chunk(chunk)
