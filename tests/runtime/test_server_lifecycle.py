"""The proxy as a server: probes, drain, deadlines, options."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from full_upstream import FullUpstream
from proxy_stand import CHAT, Stand, httpx
from recording_upstream import RecordingUpstream, Reply, StubPolicy, completion, eventually, stream

from stackjax.runtime import Governor, Intake, Upstream, make_app
from stackjax.runtime.gateway._upstream_health import UpstreamHealth
from stackjax.runtime.proxy import from_file, parsed, parser

for _package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra llm)")

PROGRAM = textwrap.dedent(
    """
    import sys
    from recording_upstream import StubPolicy
    from stackjax.runtime import Governor, Limits, Rollout, Upstream, make_app
    from stackjax.runtime.gateway._asgi import uvicorn_server

    limits = Limits(deadline=5.0)
    governor = Governor(StubPolicy(), rollout=Rollout("on"), limits=limits, log=sys.argv[2])
    app = make_app(governor, Upstream(sys.argv[1]))
    server = uvicorn_server(app, "127.0.0.1", int(sys.argv[3]))
    server.run()
    print("ended")
    """
)


def test_a_signal_lets_streams_finish_and_ends_the_process_with_status_0(tmp_path):
    """Thirty words at 50 ms each, and SIGTERM after the second of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "run.jsonl"
    with RecordingUpstream(lambda r, n: stream("w " * 30, usage=True, delay=0.05)) as upstream:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, upstream.base_url, str(log), str(port)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        killer = threading.Timer(120.0, process.kill)
        killer.start()
        try:
            url = f"http://127.0.0.1:{port}"
            assert eventually(lambda: _opens(url), 90.0)
            body = json.dumps({**CHAT, "stream": True})
            with httpx.stream("POST", url + "/v1/chat/completions", content=body, timeout=30.0,
                              trust_env=False) as answer:  # fmt: skip
                pieces = answer.iter_raw()
                seen = next(pieces) + next(pieces)
                process.send_signal(signal.SIGTERM)
                seen += b"".join(pieces)
            assert seen.count(b'"content"') == 30 and seen.endswith(b"data: [DONE]\n\n")
            assert process.wait(60.0) == 0
            assert process.stdout is not None and process.stdout.read() == "ended\n"
        finally:
            killer.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(records) == 1 and records[0]["completion_tokens"] == 3
    assert records[0]["fallback"] is None


def _opens(url):
    try:
        return httpx.get(url + "/livez", timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_probes_tell_the_process_from_its_upstream():
    with Stand(lambda r, n: Reply(completion()), mode="on") as place:
        get = place.client.get
        assert get("/livez").json() == {"status": "alive"}
        assert get("/readyz").status_code == 200 and get("/healthz").json()["status"] == "ok"
        assert "stackjax_upstream_up 1.0" in get("/metrics").text
        place.upstream.stop()
        assert place.chat().status_code == 502
        assert get("/livez").status_code == 200
        assert get("/readyz").status_code == 503
        told = get("/healthz")
        assert told.status_code == 200 and told.json()["status"] == "degraded"
        assert told.json()["alarms"] == ["upstream unreachable"]
        assert "stackjax_upstream_up 0.0" in get("/metrics").text
    with Stand(lambda r, n: Reply(completion())) as place:
        place.governor.metrics.count("unrecorded", by=169)
        assert place.client.get("/healthz").json()["alarms"] == ["records lost: 169"]


def test_an_upstream_is_tried_when_nothing_is_known_of_it():
    import asyncio

    async def run():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            now, port = [0.0], listening.getsockname()[1]
            health = UpstreamHealth(Upstream(f"http://127.0.0.1:{port}"), clock=lambda: now[0])
            assert all(await asyncio.gather(*(health.alive() for _ in range(20))))
            listening.close()
            assert await health.alive(), "what was seen a moment ago is believed"
            now[0] = 6.0
            assert not await health.alive()
            health.note(True)
            assert await health.alive()

    asyncio.run(run())


def trickle(url, pieces, pause, wait=10.0) -> Any:
    """Sends pieces slowly; returns what came until the other side hung up, None if it did not."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        found = b""
        try:
            while part := connection.recv(10_000):
                found += part
        except TimeoutError:
            return None
        except OSError:
            pass
        return found


def test_a_head_that_does_not_come_is_hung_up_on():
    with Stand(FullUpstream(), read_deadline=1.0) as place:
        head = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
        slow = [bytes([byte]) for byte in head + b"x-a: b\r\n" * 20]
        assert trickle(place.url, slow, 0.1) == b""
        # One that comes in time is served, the second on a connection too.
        whole = [head, b"\r\n", head, b"\r\n", head, b"connection: close\r\n\r\n"]
        assert trickle(place.url, whole, 0.0).count(b"HTTP/1.1 200") == 3
        # A second head that never ends.
        assert trickle(place.url, [head + b"\r\n", *slow], 0.1).count(b"HTTP/1.1 200") == 1


def test_a_body_that_does_not_come_is_a_408():
    with Stand(FullUpstream(), intake=Intake(read_deadline=0.2)) as place:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
        found = trickle(place.url, [head, *[b"x"] * 20], 0.02)
        assert found.startswith(b"HTTP/1.1 408") and b"connection: close" in found
        assert not place.upstream.received
        assert place.client.get("/livez").status_code == 200


def test_an_answer_may_take_longer_than_a_request():
    reply = stream("a b c d e", delay=0.3)
    with Stand(lambda r, n: reply, read_deadline=1.0, intake=Intake(read_deadline=1.0)) as place:
        assert place.chat().content.endswith(b"[DONE]\n\n")


def test_an_idle_connection_stays_open_and_is_closed_in_the_end():
    with Stand(FullUpstream(), keep_alive=2, read_deadline=1.0) as place:
        head = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
        assert trickle(place.url, [head, head], 1.2).count(b"HTTP/1.1 200") == 2
        assert trickle(place.url, [], 0.0) == b""


BASE = ["--upstream", "http://127.0.0.1:9/v1", "--policy", "p"]


def test_options_come_from_a_file_and_the_command_line_goes_first(tmp_path):
    path = tmp_path / "proxy.toml"
    path.write_text(
        'upstream = "http://127.0.0.1:9/v1"\npolicy = "p"\nport = 0\nmode = "ab"\nshare = 1\n'
        'session-header = ["x-mine"]\nread_timeout = 30\n'
    )
    args = parsed(["--config", str(path), "--mode", "on"])
    assert (args.mode, args.share, args.port, args.read_timeout) == ("on", 1.0, 0, 30.0)
    assert args.session_header == ["x-mine"] and str(args.policy) == "p"
    assert args.drain == 60.0 and args.keep_alive == 75.0
    for text, message in (
        ("moon = 1", "`moon` must be one of"),
        ("port = 'x'", "`port` must be a number; got 'x'"),
        ("mode = 3", "`mode` must be a text; got 3"),
        ("port = true", "`port` must be a number; got True"),
        ("session-header = 'x'", "`session-header` must be a list of texts"),
        ("port = ", "no TOML file"),
        ("config = 'x'", "`config` must be one of"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            from_file(parser(), path)


def test_a_wrong_option_is_told_in_one_line(tmp_path, capsys):
    from stackjax.runtime.proxy import main

    for arguments, message in (
        ([], "required: --upstream"),
        (["--config", str(tmp_path / "none.toml")], "No such file"),
        ([*BASE, "--task", "poetry"], "poetry"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        told = capsys.readouterr().err
        assert left.value.code == 2 and message in told and told.count("\n") == 1
    for arguments, message in (
        (["--stream-usage", "often"], "stream_usage"),
        (["--session-source", "moon"], "sources"),
        (["--read-timeout", "0"], "read"),
        (["--tool-calls", "0"], "tool_calls"),
        (["--body-limit", "0"], "body_limit"),
    ):
        assert main([*BASE, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_another_intake_is_refused():
    with pytest.raises(TypeError, match="intake"):
        make_app(Governor(StubPolicy()), Upstream("http://x/v1"), intake={})  # pyright: ignore
