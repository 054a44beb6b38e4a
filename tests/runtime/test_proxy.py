"""The proxy between real sockets; the upstream keeps every byte that it gets."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from proxy_stand import CHAT, KEY, Stand
from recording_upstream import (
    RecordingUpstream,
    Reply,
    StubPolicy,
    chunks,
    completion,
    eventually,
    stream,
)

from stackjax.runtime import Governor, Intake, Limits, Upstream, make_app

for _package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra llm)")
httpx = pytest.importorskip("httpx", reason="httpx is not installed (extra llm)")


def fine(received, number):
    return Reply(completion())


ODD_BODIES = [
    json.dumps(CHAT, indent=3).encode() + b" \n",
    b'{"messages": [{"role":"user","content":"\\u00e9\xc3\xa9"}],   "model":"m", "model":"n"}',
    b"{not json",
    b"",
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b'{"messages": [{"role": "tool", "tool_call_id": "1"}]}',
]


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"seconds": 0.05},
        {"error": ValueError("boom")},
        {"advice": "garbage"},
    ],
    ids=["well", "slow", "raising", "garbage"],
)
def test_in_shadow_mode_bytes_in_are_bytes_out(policy):
    limits = Limits(deadline=0.002)
    with Stand(fine, StubPolicy(**policy), limits=limits) as stand:
        for body in ODD_BODIES:
            answer = stand.chat(body, **{"x-stackjax-session": "s"})
            assert answer.content == completion() and answer.status_code == 200
        assert [r.body for r in stand.upstream.received] == ODD_BODIES
        if policy.get("seconds"):
            assert eventually(lambda: stand.governor.metrics.value("fallbacks", "deadline") >= 1)
        elif policy:
            wanted = {"controller_error", "invalid_decision", "deadline"}
            codes = lambda: set(stand.governor.metrics.by_label("fallbacks"))
            assert eventually(lambda: codes() & wanted)


def test_a_governed_request_is_rewritten_and_the_answer_is_not():
    with Stand(fine, mode="on") as stand:
        answer = stand.chat()
        assert answer.content == completion()
        sent = json.loads(stand.upstream.received[0].body)
        assert [m["content"] for m in sent["messages"]] == [
            "Be kind.\n\nAnswer briefly.", "the second question",
        ]  # fmt: skip
        assert sent["model"] == "m"
        assert stand.finished()
        metrics = stand.governor.metrics
        assert metrics.value("rewrites", "context") == metrics.value("rewrites", "style") == 1
        assert metrics.saved_tokens == 100 - 40, "predicted with predicted"
        text = stand.client.get("/metrics").text
        for line in (
            'stackjax_tokens_total{arm="governed",kind="prompt"} 20.0',
            "stackjax_estimated_saved_tokens 60.0",
            "stackjax_decision_seconds_count 1.0",
            'stackjax_requests_total{status="2xx"} 1.0',
        ):
            assert line in text
        health = stand.client.get("/healthz").json()
        assert health["status"] == "ok" and health["rollout"] == "on"


def test_what_the_upstream_refuses_is_sent_again_as_it_came():
    def strict(received, number):
        if b"Answer briefly" in received.body:
            return Reply(b'{"error": {"message": "no"}}', 400)
        return Reply(completion())

    with Stand(strict, mode="on") as stand:
        assert stand.chat().status_code == 200
        assert stand.upstream.received[1].body == json.dumps(CHAT).encode()
        assert stand.finished()
        assert stand.governor.metrics.by_label("fallbacks") == {"upstream_rejected": 1}
        assert stand.governor.metrics.saved_tokens == 0
    with Stand(lambda r, n: Reply(b"{}", 400), mode="shadow") as stand:
        assert stand.chat().status_code == 400
        assert stand.upstream.count == 1, "nothing was rewritten: the refusal is the answer"


def test_streams_pass_chunk_by_chunk_and_are_counted():
    slow = stream("a b c d", usage=True, delay=0.1)
    with Stand(lambda r, n: slow, mode="on") as stand:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps({**CHAT, **options})
        start, seen, first = time.monotonic(), b"", None
        with stand.client.stream("POST", "/v1/chat/completions", content=body) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            for piece in answer.iter_raw():
                first = first or time.monotonic() - start
                seen += piece
        assert seen == b"".join(chunks("a b c d", True))
        assert first is not None and first < (time.monotonic() - start) / 2
        assert stand.finished()
        assert stand.governor.metrics.value("tokens", "governed", "completion") == 3


def test_headers_pass_by_an_allow_list_in_both_directions():
    with Stand(fine) as stand:
        sent = {
            "openai-organization": "o", "X-Stainless-Lang": "python", "cookie": "c=1",
            "x-forwarded-for": "1.2.3.4", "x-stackjax-session": "secret-session",
            "accept-encoding": "identity", "proxy-authorization": "Basic x",
        }  # fmt: skip
        answer = stand.chat(**sent)
        got = stand.upstream.received[0].headers
        assert got["authorization"] == f"Bearer {KEY}" and got["x-stainless-lang"] == "python"
        assert got["openai-organization"] == "o" and got["accept-encoding"] == "identity"
        assert got["host"] == f"127.0.0.1:{stand.upstream.port}"
        assert not {"cookie", "x-forwarded-for", "x-stackjax-session"} & set(got)
        assert "proxy-authorization" not in got
        assert answer.headers["x-request-id"] == "r0" and "set-cookie" not in answer.headers
        plain = stand.client.get("/v1/models?limit=2&a=%2F")
        assert plain.status_code == 200
        assert stand.upstream.received[1].head.startswith(b"GET /v1/models?limit=2&a=%2F HTTP/1.1")


def raw(url, text):
    """Sends bytes and returns the first line of the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as connection:
        connection.sendall(text)
        return connection.recv(1000).split(b"\r\n")[0]


def test_it_is_no_open_proxy():
    with Stand(fine) as stand:
        for path in (
            b"/v2/models", b"/", b"//example.com/v1/x",
            b"/v1/../admin", b"/v1/%2e%2e/admin", b"/v1/..%2fadmin", b"/v1", b"/v1/a/%2E%2e/b",
        ):  # fmt: skip
            line = raw(stand.url, b"GET " + path + b" HTTP/1.1\r\nhost: evil\r\n\r\n")
            assert line.split()[1] in (b"404", b"400"), path
        assert stand.upstream.count == 0
        # Some parsers strip the host of an absolute target: it still goes to the one upstream.
        line = raw(stand.url, b"GET http://example.com/v1/models HTTP/1.1\r\nhost: evil\r\n\r\n")
        assert line.split()[1] in (b"404", b"400", b"200")
        assert stand.upstream.count == (line.split()[1] == b"200")
    for wrong in ("127.0.0.1:80", "ftp://x/v1", "http://u:p@x/v1", "http://x/v1?a=1", ""):
        with pytest.raises(ValueError, match="upstream"):
            Upstream(wrong)
    with pytest.raises(ValueError, match="host"):
        Upstream("http://x/v1", allow=["Host"])
    for wrong in ("X-Stackjax-Session", "cookie"):
        with pytest.raises(ValueError, match="can be passed on; got"):
            Upstream("http://x/v1", allow=[wrong])
    with pytest.raises(TypeError, match="collection"):
        Upstream("http://x/v1", allow="x-a")
    with pytest.raises(ValueError, match="Port"):
        Upstream("http://x:99999/v1")
    with pytest.raises(TypeError, match="`defaults` must have fields of .*; got tsk"):
        make_app(Governor(StubPolicy()), Upstream("http://x/v1"), defaults={"tsk": "simple_qa"})
    with pytest.raises(ValueError, match="connect"):
        Upstream("http://x/v1", connect=0)


def test_a_dead_upstream_is_a_502_and_a_silent_one_a_504():
    with Stand(fine, mode="on") as stand:
        assert stand.chat().status_code == 200
        stand.upstream.stop()
        answer = stand.chat()
        assert answer.status_code == 502
        assert answer.json()["error"]["type"] == "upstream_unreachable"
        assert eventually(
            lambda: stand.governor.metrics.value("turns", "governed", "connection") == 1
        )
    with Stand(lambda r, n: Reply(completion(), delay=30.0), read=0.2) as stand:
        assert stand.chat().status_code == 504, "the client's own patience is 10 seconds"


@pytest.mark.parametrize("reply", [stream("a b c", kill=2), Reply(b"x" * 9, kill=0)])
def test_an_answer_that_breaks_off_is_not_passed_off_as_whole(reply):
    with Stand(lambda r, n: reply) as stand, pytest.raises(httpx.RemoteProtocolError):
        stand.chat()


def test_a_client_that_leaves_frees_the_upstream():
    with Stand(lambda r, n: stream("w " * 400, delay=0.02), mode="on") as stand:
        body = json.dumps({**CHAT, "stream": True})
        with stand.client.stream("POST", "/v1/chat/completions", content=body) as answer:
            next(answer.iter_raw())
        assert eventually(lambda: stand.upstream.aborted == 1)
        value = stand.governor.metrics.value
        assert eventually(lambda: value("turns", "governed", "disconnected") == 1)
    with Stand(lambda r, n: Reply(completion(), delay=1.0)) as stand:
        with pytest.raises(httpx.ReadTimeout):
            stand.client.post("/v1/chat/completions", json=CHAT, timeout=0.2)
        value = stand.governor.metrics.value
        assert eventually(lambda: value("turns", "untouched", "disconnected") == 1)
        assert stand.client.get("/healthz").status_code == 200


def test_large_bodies_pass_untouched_and_too_large_ones_are_refused():
    big = json.dumps({**CHAT, "user": "x" * 2_000_000}).encode()
    with Stand(fine, mode="on", intake=Intake(body_limit=3_000_000)) as stand:
        assert stand.chat(big, **{"x-stackjax-session": "s"}).status_code == 200
        assert stand.upstream.received[0].body == big
        assert stand.finished()
        assert stand.governor.metrics.by_label("fallbacks") == {"too_large": 1}
        assert stand.chat(b"y" * 3_000_001).status_code == 413
        assert stand.client.post("/v1/x", content=iter([b"y" * 2_000_000] * 2)).status_code == 413
        assert stand.upstream.count == 1


def test_no_answer_is_lost_or_crossed_among_many_sessions():
    def echo(received, number):
        told = json.loads(received.body)["messages"][-1]["content"]
        return Reply(completion(told), delay=0.01 * (number % 5))

    def session(stand, name):
        answers = []
        with httpx.Client(base_url=stand.url, timeout=20.0, trust_env=False) as client:
            for turn in range(4):
                messages = [*CHAT["messages"][:1], {"role": "user", "content": f"{name}-{turn}"}]
                body = {"model": "m", "messages": messages}
                reply = client.post(
                    "/v1/chat/completions", json=body, headers={"x-stackjax-session": name}
                )
                answers.append(reply.json()["choices"][0]["message"]["content"])
        return answers

    with (
        Stand(echo, mode="ab", limits=Limits(deadline=0.05)) as stand,
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        names = [f"session-{i}" for i in range(16)]
        found = list(pool.map(lambda name: session(stand, name), names))
        assert found == [[f"{name}-{turn}" for turn in range(4)] for name in names]
        assert stand.upstream.count == 64 and stand.finished(64)
        decisions = stand.governor.metrics.by_label("decisions")
        assert sum(decisions.values()) == 64 and len(decisions) == 2


def test_the_mode_is_switched_while_it_runs_by_those_who_may():
    with Stand(fine, admin_token="t0p") as stand:
        switch = lambda content, token="t0p": stand.client.post(
            "/stackjax/rollout", content=content, headers={"authorization": f"Bearer {token}"}
        )
        assert stand.client.get("/stackjax/rollout").status_code == 405
        assert switch('{"mode": "on"}', "wrong").status_code == 401
        assert stand.governor.rollout.mode == "shadow"
        assert switch('{"mode": "canary", "share": 0.5}').json() == {"rollout": "canary:0.5"}
        for wrong in (
            '{"mode": "ab", "salt": 5}',
            '{"mode": "loud"}',
            "[]",
            "x",
            '{"colour": 1}',
            '{"mode": "on", "share": 2}',
        ):
            assert switch(wrong).status_code == 400
        assert switch('{"mode": "on"}').status_code == 200
        stand.chat(**{"x-stackjax-session": "s"})
        assert b"Answer briefly" in stand.upstream.received[0].body
        assert stand.finished()
        tell = lambda data: stand.client.post(
            "/stackjax/feedback", json=data, headers={"authorization": "Bearer t0p"}
        )
        assert tell({"session": "s", "quality": 1}).json() == {"known": True}
        assert tell({"session": "t", "quality": 1}).json() == {"known": False}
        assert tell({"session": "s", "quality": 7}).status_code == 400
        assert tell({"quality": 1}).status_code == 400
        switch('{"mode": "off"}')
        stand.chat()
        assert stand.upstream.received[1].body == json.dumps(CHAT).encode()
    with Stand(fine) as stand:
        assert stand.client.post("/stackjax/rollout", json={"mode": "on"}).status_code == 404
    with pytest.raises(ValueError, match="admin_token"):
        make_app(Governor(StubPolicy()), Upstream("http://x/v1"), admin_token=" ")


def test_no_secret_is_ever_written(tmp_path, capfd):
    """Everything written, by whatever path, searched for everything that must not be there."""
    log = tmp_path / "runtime.jsonl"
    secrets = [
        KEY,
        "the first question",
        "the second",
        "first answer",
        "session-of-ada",
        "ok-reply",
    ]
    script = lambda r, n: Reply(completion("ok-reply"), 500 if n == 3 else 200)
    bad = StubPolicy(error=ValueError(" ".join(secrets)))
    for policy, mode in ((StubPolicy(), "on"), (bad, "ab"), (StubPolicy(), "shadow")):
        with Stand(script, policy, mode, log=log, admin_token="t0psecret") as stand:
            for _ in range(5):
                stand.chat(**{"x-stackjax-session": "session-of-ada"})
            stand.chat(b'{"messages": "' + KEY.encode())
            told = [stand.client.get(path).content for path in ("/metrics", "/healthz")]
    captured = capfd.readouterr()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 2 and all(written)
    assert (os.stat(log).st_mode & 0o077) == 0
    for text in [*written, *told, captured.out.encode(), captured.err.encode()]:
        for secret in [*secrets, "t0psecret"]:
            assert secret.encode() not in text


@pytest.mark.slow
def test_the_command_serves_on_loopback_and_stops(tmp_path):
    from recording_upstream import calibration, controller

    from stackjax.runtime import Policy, save_policy

    save_policy(Policy(controller(), calibration()), tmp_path / "p")
    with RecordingUpstream(fine) as upstream:
        command = [sys.executable, "-m", "stackjax.runtime.proxy", "--upstream", upstream.base_url]
        command += ["--policy", str(tmp_path / "p"), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        killer = threading.Timer(240.0, process.kill)
        killer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "mode shadow" in line
            url = line.split(" at ")[1].split("/v1")[0]
            assert eventually(lambda: _opens(url + "/healthz"), 60.0)
            httpx.post(url + "/v1/chat/completions", json=CHAT, trust_env=False, timeout=30.0)
            assert upstream.count == 1
            process.send_signal(signal.SIGINT)
            process.wait(60.0)
        finally:
            killer.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _opens(url):
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_a_port_that_is_taken_is_told(monkeypatch, capsys):
    from stackjax.runtime.proxy import main

    policy = StubPolicy()
    monkeypatch.setattr("stackjax.runtime.policy._store.load_policy", lambda folder: policy)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        base = ["--upstream", "http://127.0.0.1:9/v1", "--policy", "p", "--port"]
        for wrong, message in ((port, "in use"), ("99999", "port")):
            assert main([*base, wrong]) == 2
            told = capsys.readouterr()
            assert message in told.err and not told.out


def test_a_wrong_command_says_what_is_wrong(tmp_path, capsys):
    from stackjax.runtime.proxy import main

    base = ["--upstream", "http://127.0.0.1:9/v1", "--policy", str(tmp_path)]
    for extra, message in (
        ([], "must hold a policy"),
        (["--mode", "loud"], "`mode` must be one of"),
        (["--mode", "on", "--share", "0.5"], "share"),
        (["--upstream", "nowhere"], "absolute http"),
        (["--log", "x.txt"], ".jsonl"),
        (["--deadline-ms", "0"], "deadline"),
        (["--allow-header", "Host"], "host"),
    ):
        assert main([*base, *extra]) == 2
        assert message in capsys.readouterr().err
