"""Which session a request belongs to, by the names that clients give already."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stackjax._arrays.arguments import check_choice, check_type
from stackjax.runtime.gateway._memory import named

SOURCES = ("header", "metadata", "conversation", "prompt_cache_key", "user", "traceparent")
"""Where a session's name is looked for, in this order; after ``x-stackjax-session``.

>>> SOURCES[0]
'header'
"""

HEADER_NAMES = (
    "session-id",
    "session_id",
    "conversation_id",
    "helicone-session-id",
    "x-conversation-id",
    "x-thread-id",
    "x-openwebui-chat-id",
)
"""Headers that name a session, with all of the form ``x-...-session-id``."""

_SESSION_ID = re.compile(r"x-(?:[a-z0-9_-]+-)?session-id")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CREDENTIALS = ("authorization", "x-api-key", "api-key")


@dataclass(frozen=True)
class SessionNames:
    """Where the name of a session is read.

    Attributes:
      sources: Some of `SOURCES`, in the order in which they are tried. ``"header"``: the headers
        below. ``"metadata"``: ``metadata.session_id`` or ``conversation_id`` or ``thread_id`` of
        the body. ``"conversation"``: of the Responses API. ``"user"``: the body's ``user`` or
        ``safety_identifier``, or ``metadata.user_id``. ``"traceparent"``: the trace of a W3C
        header; leave it out where each request is a trace of its own.
      headers: Further headers that name a session, in any case.

    Raises:
      TypeError: If `headers` is a text.
      ValueError: If a source is unknown.

    Example:
      >>> SessionNames().find({"x-litellm-session-id": "7"}, {"user": "ada"})
      ('header', '7')
      >>> SessionNames(("user",)).find({"x-litellm-session-id": "7"}, {"user": "ada"})
      ('user', 'ada')
    """

    sources: tuple[str, ...] = SOURCES
    headers: Iterable[str] = ()

    def __post_init__(self) -> None:
        for source in self.sources:
            check_choice("sources", source, SOURCES)
        if isinstance(self.headers, str):
            check_type("headers", self.headers, tuple, "a collection of names")
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "headers", tuple(name.strip().lower() for name in self.headers))

    def find(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> tuple[str, str] | None:
        """The source and the name that it gives; None if no source gives one."""
        for source in self.sources:
            name = _FINDERS[source](self, headers, body)
            if name is not None:
                return source, name
        return None


def _in_headers(
    names: SessionNames, headers: Mapping[str, str], body: Mapping[str, Any]
) -> str | None:
    for name in (*names.headers, *HEADER_NAMES):
        if (value := named(headers.get(name))) is not None:
            return value
    found = (value for name, value in headers.items() if _SESSION_ID.fullmatch(name))
    return next((value for value in found if named(value)), None)


def _in_metadata(
    names: SessionNames, headers: Mapping[str, str], body: Mapping[str, Any]
) -> str | None:
    given = _mapping(body.get("metadata"))
    keys = ("session_id", "conversation_id", "thread_id")
    return next((value for key in keys if (value := named(given.get(key)))), None)


def _conversation(
    names: SessionNames, headers: Mapping[str, str], body: Mapping[str, Any]
) -> str | None:
    given = body.get("conversation")
    return named(given) or named(_mapping(given).get("id"))


def _cache_key(
    names: SessionNames, headers: Mapping[str, str], body: Mapping[str, Any]
) -> str | None:
    return named(body.get("prompt_cache_key"))


def _user(names: SessionNames, headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    given = body.get("user"), body.get("safety_identifier")
    told = (*given, _mapping(body.get("metadata")).get("user_id"))
    return next((value for value in told if named(value)), None)


def _trace(names: SessionNames, headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    found = _TRACE.fullmatch(headers.get("traceparent", "").strip().lower())
    return found.group(1) if found and set(found.group(1)) != {"0"} else None


_FINDERS = {
    "header": _in_headers,
    "metadata": _in_metadata,
    "conversation": _conversation,
    "prompt_cache_key": _cache_key,
    "user": _user,
    "traceparent": _trace,
}


def credential_of(headers: Mapping[str, str]) -> str:
    """A digest of the credential of a request: the same text twice is the same credential."""
    digest = hashlib.sha256()
    for name in _CREDENTIALS:
        digest.update(headers.get(name, "").strip().encode("utf-8", "surrogatepass") + b"\x1f")
    return digest.hexdigest()


def scoped_name(credential: str, source: str, name: str) -> str:
    """A session's identifier that no other credential shares."""
    text = "\x1f".join((credential, source, name))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
