"""A governed proxy between real sockets, in front of an upstream that keeps every byte it gets."""

import contextlib
import json
import threading
import time

import pytest
from recording_upstream import RecordingUpstream, StubPolicy, eventually

from stackjax.runtime import Governor, Limits, Rollout, Upstream, make_app
from stackjax.runtime.gateway._asgi import uvicorn_server

httpx = pytest.importorskip("httpx", reason="httpx is not installed (extra llm)")

PATIENT = Limits(deadline=2.0)
KEY = "sk-verysecretkey123"
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "the first question"},
        {"role": "assistant", "content": "the first answer"},
        {"role": "user", "content": "the second question"},
    ],
}


@contextlib.contextmanager
def serving(app, **options):
    """Serves an application on 127.0.0.1 from a thread; yields its address."""
    server = uvicorn_server(app, "127.0.0.1", 0, **{"drain": 5.0, **options})
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10.0
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15.0)


class Stand:
    """A governed proxy in front of a recording upstream."""

    def __init__(
        self, script, policy=None, mode="shadow", *, limits=PATIENT, log=None, adapter=None,
        **options,
    ):  # fmt: skip
        own = isinstance(script, RecordingUpstream)
        self.upstream = script if own else RecordingUpstream(script)
        self.governor = Governor(
            policy or StubPolicy(), rollout=Rollout(mode), limits=limits, log=log, adapter=adapter
        )
        self._options = options

    def __enter__(self):
        self.upstream.__enter__()
        timeouts = {"connect": 2.0, "read": self._options.pop("read", 10.0)}
        target = Upstream(self.upstream.base_url, **timeouts)
        server = {
            name: self._options.pop(name)
            for name in ("drain", "keep_alive", "read_deadline")
            if name in self._options
        }
        self._serving = serving(make_app(self.governor, target, **self._options), **server)
        self.url = self._serving.__enter__()
        self.client = httpx.Client(base_url=self.url, timeout=10.0, trust_env=False)
        return self

    def __exit__(self, *exception):
        self.client.close()
        self._serving.__exit__(None, None, None)
        self.upstream.stop()

    def chat(self, body=None, **headers):
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
        content = json.dumps(CHAT) if body is None else body
        return self.client.post("/v1/chat/completions", content=content, headers=headers)

    def finished(self, calls=1):
        return eventually(lambda: self.answered >= calls)

    @property
    def answered(self):
        """Model calls that were answered."""
        return sum(self.governor.metrics.by_label("calls").values())
