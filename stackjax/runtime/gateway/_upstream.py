"""The one upstream of a proxy: its address, and the headers that may pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from stackjax._arrays.arguments import check_within

REQUEST_HEADERS = frozenset(
    """accept accept-encoding accept-language api-key authorization content-encoding content-type
    http-referer idempotency-key openai-beta openai-organization openai-project
    traceparent tracestate user-agent x-api-key x-request-id x-title""".split()
)
"""Request headers that go on to the upstream, with those that begin with ``x-stainless-``."""
RESPONSE_HEADERS = frozenset(
    """cache-control content-encoding content-language content-type date openai-model
    openai-organization openai-processing-ms openai-version retry-after retry-after-ms
    x-request-id""".split()
)
"""Response headers that go back, with those that begin with ``x-ratelimit-``."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Upstream:
    """Where requests go, fixed at the start.

    Attributes:
      url: Base URL of the server, ending in ``/v1`` or wherever its API begins; ``http`` or
        ``https``.
      allow: Further request headers that may pass, in any case.
      connect: Seconds to connect.
      read: Seconds of silence that are tolerated in an answer.

    Raises:
      TypeError: If `allow` is a text, or a timeout not a number.
      ValueError: If the URL is not absolute http(s), or holds a query, a fragment or credentials;
        if a timeout is not positive; or if `allow` holds a header that belongs to a connection or
        to the session metadata.

    Example:
      >>> Upstream("http://127.0.0.1:8080/v1/").target("/v1/chat/completions", b"")
      'http://127.0.0.1:8080/v1/chat/completions'
    """

    url: str
    allow: Iterable[str] = field(default=(), repr=False)
    connect: float = 5.0
    read: float = 600.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`upstream` must be an absolute http(s) URL; got {self.url!r}.")
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("`upstream` must hold no query, fragment or credentials; got some.")
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError(
                f"`upstream` must be an absolute http(s) URL; got {self.url!r}: {error}."
            ) from error
        check_within("connect", self.connect, "(0, inf]")
        check_within("read", self.read, "(0, inf]")
        if isinstance(self.allow, str):
            raise TypeError(f"`allow` must be a collection of names; got the text {self.allow!r}.")
        allow = frozenset(name.strip().lower() for name in self.allow)
        wrong = {n for n in allow if n in _CONNECTION or n.startswith("x-stackjax-")}
        if wrong:
            raise ValueError(
                f"`allow` must name headers that can be passed on; got {', '.join(sorted(wrong))}."
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))
        object.__setattr__(self, "allow", allow)

    def target(self, path: str, query: bytes) -> str | None:
        """The upstream's address for a path of ours; None if the path is not below ``/v1/``."""
        if not path.startswith("/v1/") or not path.isascii():
            return None
        # A dot segment, plain or encoded, could leave the upstream's base path.
        lowered = path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/")
        if any(part in (".", "..") for part in lowered.replace("\\", "/").split("/")):
            return None
        target = self.url + path[len("/v1") :]
        return f"{target}?{query.decode('latin-1')}" if query else target

    def outgoing(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The request headers that may pass, in their order."""
        kept = []
        for name, value in headers:
            low = name.decode("latin-1").lower()
            if low in REQUEST_HEADERS or low in self.allow or low.startswith("x-stainless-"):
                kept.append((name, value))
        return kept

    def incoming(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The response headers that may go back, in their order."""
        kept = []
        for name, value in headers:
            low = name.decode("latin-1").lower()
            if low in RESPONSE_HEADERS or low.startswith("x-ratelimit-"):
                kept.append((name.lower(), value))
        return kept


_CONNECTION = frozenset(
    """connection content-length cookie host keep-alive proxy-authenticate proxy-authorization te
    trailer transfer-encoding upgrade""".split()
)
