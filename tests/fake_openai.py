"""A small HTTP server on 127.0.0.1 that speaks just enough of the OpenAI protocol to break it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What the server sends: status, body, seconds to wait first."""

    status: int = 200
    body: bytes = b""
    delay: float = 0.0


def completion(text: str | None, prompt: int = 10, written: int = 3, delay: float = 0.0) -> Reply:
    """A well-formed chat completion."""
    data = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        },
    }
    return Reply(200, json.dumps(data).encode(), delay)


class FakeServer:
    """Answers request number `n` (from 0) with `script(body, n)`; keeps bodies and headers."""

    def __init__(self, script: Callable[[dict[str, Any], int], Reply]):
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        bodies, keys, lock = self.bodies, self.keys, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(bodies)
                    bodies.append(body)
                    keys.append(self.headers.get("Authorization"))
                reply = script(body, number)
                time.sleep(reply.delay)
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
