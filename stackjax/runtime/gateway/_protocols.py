"""Connections that do not wait for ever: a head that does not arrive in time is hung up on."""

from __future__ import annotations

import asyncio
from typing import Any


def patient_protocol(deadline: float) -> type:
    """The HTTP protocol of uvicorn, which hangs up if the head of a request takes too long.

    uvicorn waits for a head without end, so that a client that sends a byte now and then holds a
    connection. A new connection that sends nothing has as long as an idle one.

    Args:
      deadline: Seconds from the first byte of a head to its end.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Base
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as Base
    base: Any = Base

    class PatientProtocol(base):
        _waiting: asyncio.TimerHandle | None = None
        _begun = False

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._wait(max(self.timeout_keep_alive, deadline))

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._begun = False
                self._rest()
            elif not self._begun and not self.transport.is_closing():
                self._begun = True
                self._rest()
                self._wait(deadline)

        def on_response_complete(self) -> None:
            self._begun = False
            self._rest()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            super().connection_lost(exc)

        def _wait(self, seconds: float) -> None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(seconds, self.transport.close)

        def _rest(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return PatientProtocol
