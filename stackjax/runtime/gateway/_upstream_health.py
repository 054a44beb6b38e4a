"""Whether the upstream can be reached: by what happened last, or by a new connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from stackjax.runtime.gateway._upstream import Upstream


class UpstreamHealth:
    """What is known of the upstream.

    Args:
      upstream: The upstream.
      fresh: Seconds for which what happened last is believed.
      patience: Seconds that a new connection may take.
      clock: Seconds; replaceable in tests.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        fresh: float = 5.0,
        patience: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(upstream.url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._fresh, self._patience, self._clock = fresh, patience, clock
        self._last: tuple[float, bool] | None = None
        self._probing: asyncio.Task[bool] | None = None

    def note(self, alive: bool) -> None:
        """Notes that the upstream answered, or could not be reached."""
        self._last = self._clock(), alive

    async def alive(self) -> bool:
        """Whether it can be reached; many that ask at once make one connection."""
        if self._last is not None and self._clock() - self._last[0] <= self._fresh:
            return self._last[1]
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._probe())
        return await asyncio.shield(self._probing)

    async def _probe(self) -> bool:
        try:
            opening = asyncio.open_connection(self._host, self._port)
            _, writer = await asyncio.wait_for(opening, self._patience)
            writer.close()
            await writer.wait_closed()
            self.note(True)
            return True
        except (OSError, TimeoutError):
            self.note(False)
            return False
