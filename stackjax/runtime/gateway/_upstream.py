"""The one upstream of a proxy: its address, and the headers that may pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from stackjax._arrays.arguments import check_within

REQUEST_HEADERS = frozenset(
    """accept accept-encoding accept-language anthropic-beta anthropic-version api-key authorization
    content-encoding content-type http-referer idempotency-key openai-beta openai-organization
    openai-project traceparent tracestate user-agent x-api-key x-request-id x-title""".split()
)
"""Request headers that go on to the upstream, with those that begin with ``x-stainless-``."""
RESPONSE_HEADERS = frozenset(
    """apim-request-id cache-control content-encoding content-language content-type date location
    openai-model openai-organization openai-processing-ms openai-version request-id retry-after
    retry-after-ms x-ms-region x-request-id x-should-retry""".split()
)
"""Response headers that go back, with those that begin with ``x-ratelimit-`` or ``anthropic-``."""

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
      pool: Seconds to wait for one of the connections.

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
    connect: float = 10.0
    read: float = 600.0
    pool: float = 60.0

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
        check_within("pool", self.pool, "(0, inf]")
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
        """The upstream's address for a path of ours; None if the path is not one of an API.

        ``/v1/...`` is below the base URL. Azure's paths, ``/openai/...``, are below the same host.
        """
        azure = path.startswith("/openai/")
        if not (path.startswith("/v1/") or azure) or not path.isascii() or leaves(path):
            return None
        if azure:
            before, found, _ = self.url.partition("/openai")
            target = (before if found else self.url.removesuffix("/v1")) + path
        else:
            target = self.url + path[len("/v1") :]
        return f"{target}?{query.decode('latin-1')}" if query else target

    def outgoing(self, headers: Iterable[tuple[bytes, bytes]], *, read: str = "") -> Headers:
        """The request headers that may pass, in their order.

        Args:
          headers: As they came.
          read: The encodings that the answer may have, ``"gzip, deflate"``, where it is to be read;
            empty for any. One that the client does not accept is left out.
        """
        kept = []
        for name, value in headers:
            low = name.decode("latin-1").lower()
            if low in REQUEST_HEADERS or low in self.allow or low.startswith("x-stainless-"):
                # White space around a value means nothing, and some clients refuse to send it.
                value = value.strip(b" \t")
                if read and low == "accept-encoding":
                    value = common_encodings(value, read)
                kept.append((name, value))
        return kept

    def incoming(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The response headers that may go back, in their order.

        A location at the upstream becomes one here.
        """
        kept = []
        for name, value in headers:
            low = name.decode("latin-1").lower()
            if low in RESPONSE_HEADERS or low.startswith(("x-ratelimit-", "anthropic-")):
                if low == "location" and value.startswith(self.url.encode() + b"/"):
                    value = b"/v1" + value[len(self.url) :]
                kept.append((low.encode("latin-1"), value.strip(b" \t")))
        return kept


def leaves(path: str) -> bool:
    """Whether a server could read a path as one that leads out of its base.

    That is a dot segment, plain, with parameters after a semicolon, or encoded however often.

    Example:
      >>> [leaves(p) for p in ("/v1/a.b", "/v1/..;/admin", "/v1/%252e%252e/admin")]
      [False, True, True]
    """
    for _ in range(10):
        segments = path.replace("\\", "/").split("/")
        if any(segment.partition(";")[0].strip() in (".", "..") for segment in segments):
            return True
        decoded = unquote(path, "latin-1")
        if decoded == path:
            return "\x00" in path
        path = decoded
    return True  # nobody encodes a path so often to be understood


def common_encodings(accepted: bytes, read: str) -> bytes:
    """The encodings that a client accepts and that can be read; ``identity`` if there are none.

    Example:
      >>> common_encodings(b"br, gzip;q=0.8, zstd", "gzip, deflate")
      b'gzip;q=0.8'
    """
    names = [*read.replace(" ", "").split(","), "identity"]
    given = [part.strip() for part in accepted.decode("latin-1").split(",")]
    kept = [part for part in given if part.partition(";")[0].strip().lower() in names]
    return (", ".join(kept) or "identity").encode("latin-1")


_CONNECTION = frozenset(
    """connection content-length cookie host keep-alive proxy-authenticate proxy-authorization te
    trailer transfer-encoding upgrade""".split()
)
