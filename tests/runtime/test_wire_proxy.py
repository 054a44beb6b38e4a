"""The proxy in front of an upstream that speaks three formats, counts, and fails on demand."""

import dataclasses
import gzip
import json
import logging
import socket
import threading
import time
from typing import Any

import pytest
from full_upstream import FullUpstream
from proxy_stand import CHAT, KEY, Stand
from recording_upstream import LEAN, Reply, StubPolicy, completion, eventually

from stackjax.runtime import (
    ChatAdapter,
    Governor,
    Intake,
    Limits,
    Rollout,
    SessionNames,
    TurnDecision,
    Upstream,
)
from stackjax.runtime.chat._asked_usage import UsageFilter
from stackjax.runtime.chat._usage import AnswerReader
from stackjax.runtime.gateway._bridge import Turn

for _package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra llm)")

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
ASKED = {"stream_options": {"include_usage": True}}
LONG = "words of a question " * 20


class Format:
    """How a client of one format writes a request, reads an answer and goes on."""

    def __init__(self, path):
        self.path, self.name = path, path.rsplit("/", 1)[1]

    def body(self, messages, model="m", tools=(), **more):
        if self.name == "responses":
            made = {
                "input": messages,
                "tools": [{"type": "function", "name": n, "parameters": SCHEMA} for n in tools],
            }
        elif self.name == "messages":
            made = {
                "messages": messages,
                "max_tokens": 99,
                "tools": [{"name": n, "input_schema": SCHEMA} for n in tools],
            }
        else:
            functions = [{"name": n, "parameters": SCHEMA} for n in tools]
            made = {
                "messages": messages,
                "tools": [{"type": "function", "function": f} for f in functions],
            }
        if not tools:
            del made["tools"]
        return {"model": model, **made, **more}

    def calls(self, answer):
        if self.name == "responses":
            return [i["call_id"] for i in answer["output"] if i["type"] == "function_call"]
        if self.name == "messages":
            return [b["id"] for b in answer["content"] if b["type"] == "tool_use"]
        return [c["id"] for c in answer["choices"][0]["message"].get("tool_calls") or ()]

    def text(self, answer):
        if self.name == "responses":
            return answer["output"][0]["content"][0]["text"]
        if self.name == "messages":
            return answer["content"][0]["text"]
        return answer["choices"][0]["message"]["content"]

    def answered(self, answer, result):
        names = self.calls(answer)
        if self.name == "responses":
            outputs = [
                {"type": "function_call_output", "call_id": n, "output": result} for n in names
            ]
            return [*answer["output"], *outputs]
        if self.name == "messages":
            blocks = [{"type": "tool_result", "tool_use_id": n, "content": result} for n in names]
            said = {"role": "assistant", "content": answer["content"]}
            return [said, *([{"role": "user", "content": blocks}] if names else [])]
        results = [{"role": "tool", "tool_call_id": n, "content": result} for n in names]
        return [answer["choices"][0]["message"], *results]


FORMATS = [Format(f"/v1/{path}") for path in ("chat/completions", "responses", "messages")]
each_format = pytest.mark.parametrize("form", FORMATS, ids=[f.name for f in FORMATS])


def question(text=LONG):
    return {"role": "user", "content": text}


# Wherever a session goes, the policy has been there, and what it uses raises no alarm.
WIDE = {"token_spread": 50.0, "high": (1.0, 1e6, 1e3, 1e6, 1.0, 2.0, 1.0, 1.0)}


def stand(mode="on", response=LEAN, **options) -> Any:
    return Stand(FullUpstream(), StubPolicy(response, **WIDE), mode, **options)


def post(place, form, body, **headers):
    headers = {"authorization": f"Bearer {KEY}", **headers}
    return place.client.post(form.path, json=body, headers=headers)


@each_format
@pytest.mark.parametrize("response", [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)])
def test_an_agent_with_two_tools_finishes_its_task_at_every_level(form, response):
    with stand(response=response) as place:
        messages = []
        for task in range(3):
            messages.append(question(f"task {task} " + LONG))
            for step in range(3):
                body = form.body(messages, "tools:2+words:4", ["search", "add"])
                answer = post(place, form, body)
                assert answer.status_code == 200, answer.text
                messages += form.answered(answer.json(), f"result {step} " * 300)
            assert form.text(answer.json()) == "w0 w1 w2 w3", "it called both and then answered"
        assert place.finished(9)
        value = place.governor.metrics.value
        assert value("rewrites", "context") >= 5 and value("rewrites", "tools") == 0
        sent, came = place.upstream.received[-1].body, json.dumps(body).encode()
        assert len(sent) < 0.7 * len(came)


@each_format
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("packed", ["", "+zip:gzip", "+zip:raw"])
def test_what_was_used_is_counted_in_every_format(form, streamed, packed):
    with stand("shadow", intake=Intake(stream_usage="always")) as place:
        seen = []
        book = place.governor.observe
        place.governor.observe = lambda decision, usage: (seen.append(usage), book(decision, usage))
        for _ in range(2):
            body = form.body([question()], "words:7" + packed, stream=streamed)
            assert post(place, form, body).status_code == 200
        assert eventually(lambda: len(seen) == 2)
        for usage, cached in zip(seen, place.upstream.cached):
            assert usage.exact and usage.completion_tokens == 7
            assert usage.cached_tokens == cached and usage.prompt_tokens > 90
        assert seen[1].cached_tokens > 90
        value = place.governor.metrics.value("cached_tokens", "untouched")
        assert value == sum(place.upstream.cached)


def events(answer):
    return [line for line in answer.content.split(b"\n\n") if line]


@pytest.mark.parametrize("packed", ["", "+zip:gzip", "+zip:deflate"])
def test_counts_that_a_client_did_not_ask_for_are_not_in_its_stream(packed):
    form = FORMATS[0]
    body = form.body([question()], "words:3" + packed, stream=True)
    with stand() as place:
        unasked = post(place, form, body)
        asked = post(place, form, {**body, **ASKED})
        assert place.upstream.bodies()[0]["stream_options"] == {"include_usage": True}
        parts = [events(answer) for answer in (unasked, asked)]
        assert len(parts[1]) == len(parts[0]) + 1
        counting = [e for e in parts[1] if b'"prompt_tokens"' in e]
        assert len(counting) == 1 and not any(b'"prompt_tokens"' in e for e in parts[0])
        assert parts[0][-1] == parts[1][-1] == b"data: [DONE]"
        assert place.finished(2)
        assert place.governor.metrics.value("tokens", "governed", "completion") == 6
    with stand("shadow") as place:
        post(place, form, body)
        assert "stream_options" not in place.upstream.bodies()[0]
    with stand(intake=Intake(stream_usage="never")) as place:
        post(place, form, body)
        assert "stream_options" not in place.upstream.bodies()[0]


def test_a_server_that_refuses_to_count_is_asked_once():
    form = FORMATS[0]
    body = form.body([question()], "400:include_usage+words:3", stream=True)
    with stand(response=(1.0, 1.0, 1.0)) as place:
        for _ in range(3):
            assert post(place, form, body).status_code == 200
        assert len(place.upstream.received) == 4
        assert place.finished(3)
        assert place.governor.metrics.by_label("fallbacks") == {}, "the decision was carried out"


@pytest.mark.parametrize("status", [400, 422, 500])
def test_what_a_server_does_not_expect_is_sent_again_without_it(status):
    form = FORMATS[0]
    messages = [question(), {"role": "assistant", "content": "yes"}, question()]
    with stand() as place:
        answer = post(place, form, form.body(messages, f"{status}:Answer briefly"))
        assert answer.status_code == 200
        assert answer.headers["x-stackjax-fallback"] == "upstream_rejected"
        assert "x-stackjax-cell" not in answer.headers
        tokens = [answer.headers[f"x-stackjax-tokens-{when}"] for when in ("before", "after")]
        assert tokens[0] == tokens[1]
        assert len(place.upstream.received) == 2


def test_only_encodings_that_are_read_are_accepted():
    form = FORMATS[0]
    with stand() as place:
        for given, sent in (
            ("br, zstd", "identity"), ("gzip, br;q=1.0, deflate;q=0.5", "gzip, deflate;q=0.5"),
            ("*", "identity"), ("GZIP", "GZIP"),
        ):  # fmt: skip
            post(place, form, form.body([question()]), **{"accept-encoding": given})
            assert place.upstream.received[-1].headers["accept-encoding"] == sent
        place.client.post("/v1/embeddings", json={}, headers={"accept-encoding": "br"})
        assert place.upstream.received[-1].headers["accept-encoding"] == "br", "not read"


@each_format
def test_answers_say_what_was_done(form):
    messages = [question(), {"role": "assistant", "content": "yes " * 50}, question("and now?")]
    with stand() as place:
        told = post(place, form, form.body(messages)).headers
        assert told["x-stackjax-mode"] == "on" and told["x-stackjax-cell"] == "0,0,0"
        assert told["x-stackjax-changes"] == "context,style"
        before, after = (int(told[f"x-stackjax-tokens-{when}"]) for when in ("before", "after"))
        assert after < before / 4 and "x-stackjax-fallback" not in told
        left = post(place, form, form.body([question()])).headers
        assert "x-stackjax-changes" not in left, "nothing to drop, no answer to shorten"
        assert left["x-stackjax-tokens-before"] == left["x-stackjax-tokens-after"]
        broken = post(place, form, {"model": "m", "messages": 3, "input": 3}).headers
        assert broken["x-stackjax-fallback"] == "malformed_body"
    with stand("off") as place:
        assert not [n for n in post(place, form, form.body(messages)).headers if "stackjax" in n]


def test_a_provider_still_finds_the_beginning_of_a_governed_session():
    """Tokens that were new to the provider: governed sessions cost no more of them."""
    new = {}
    for mode in ("off", "on"):
        with stand(mode, (0.5, 0.0, 0.5)) as place:
            messages: list[Any] = [{"role": "system", "content": "Be kind."}]
            total = 0
            for turn in range(24):
                messages.append(question(f"{turn} " + LONG))
                answer = post(place, FORMATS[0], FORMATS[0].body(messages, "words:60")).json()
                messages.append(answer["choices"][0]["message"])
                usage = answer["usage"]
                total += usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
            held = sum(place.upstream.cached)
            new[mode] = total, held
    assert new["on"][1] < 0.8 * new["off"][1], "and fewer that were known"
    assert new["on"][0] < 2.5 * new["off"][0]


def session_of(place, form, body, **headers):
    """The session that the ledger opened for a request."""
    before = set(place.governor.ledger._accounts)
    post(place, form, body, **headers)
    assert place.finished()
    last = next(reversed(place.governor.ledger._accounts))
    return last, last not in before


@each_format
def test_two_credentials_never_share_a_session(form):
    with stand() as place:
        found = []
        for number in range(4):
            for name in ({}, {"x-stackjax-session": "s"}, {"x-session-id": "s"}):
                key = {"authorization": f"Bearer key-{number % 2}"}
                if number >= 2:
                    key = {"x-api-key": f"key-{number}", "authorization": ""}
                found.append(session_of(place, form, form.body([question("hi")]), **key, **name)[0])
        assert len(set(found)) == 12


NAMED = [
    ({"x-litellm-session-id": "a"}, {}),
    ({"Session_Id": "a"}, {}),
    ({"x-my-own": "a"}, {}),
    ({}, {"metadata": {"session_id": "a"}}),
    ({}, {"prompt_cache_key": "a"}),
    ({}, {"user": "a"}),
    ({}, {"metadata": {"user_id": "a"}}),
    ({"traceparent": "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01"}, {}),
]


@pytest.mark.parametrize(("headers", "fields"), NAMED)
def test_a_session_has_the_name_that_its_client_gives_it(headers, fields):
    form = FORMATS[0]
    names = SessionNames(headers=["X-My-Own"])
    other = json.loads(json.dumps([headers, fields]).replace('"a"', '"b"').replace("a1a1", "c3c3"))
    with stand(intake=Intake(names=names)) as place:
        one = session_of(place, form, form.body([question("one")], **fields), **headers)
        again = session_of(place, form, form.body([question("two")], **fields), **headers)
        else_ = session_of(place, form, form.body([question("one")], **other[1]), **other[0])
        plain = session_of(place, form, form.body([question("one")]))
        assert one[0] == again[0] and not again[1]
        assert len({one[0], else_[0], plain[0]}) == 3


def test_thirty_users_who_say_hi_are_thirty_sessions():
    form = FORMATS[0]
    with stand() as place:
        for number in range(30):
            post(place, form, form.body([question("hi")], user=f"user {number}"))
        assert place.finished(30) and len(place.governor.ledger) == 30


def test_a_response_is_of_the_session_of_the_one_before():
    form = FORMATS[1]
    with stand() as place:
        first = post(place, form, form.body([question("one")])).json()
        assert place.finished(1)
        more = form.body([question("two")], previous_response_id=first["id"])
        second = post(place, form, more).json()
        assert place.finished(2) and len(place.governor.ledger) == 1
        more = form.body("three", previous_response_id=second["id"], stream=True)
        post(place, form, more, authorization="Bearer other")
        assert place.finished(3) and len(place.governor.ledger) == 2, "another key"


def test_feedback_finds_a_session_by_the_name_that_its_client_gave():
    with stand(admin_token="t0p") as place:
        post(place, FORMATS[0], FORMATS[0].body([question()]), **{"x-session-id": "mine"})
        assert place.finished()
        rate = lambda name: place.client.post(
            "/stackjax/feedback", json={"session": name, "quality": 1},
            headers={"authorization": "Bearer t0p"},
        ).json()  # fmt: skip
        assert rate("mine") == {"known": True} and rate("yours") == {"known": False}


def test_the_context_is_all_that_is_sent_but_the_question():
    """Schemas, system text and tool results cost: a feature that leaves them out sees nothing."""
    form, seen = FORMATS[0], []
    with stand() as place:
        judge = place.governor.judge
        place.governor.judge = lambda session: (seen.append(session), judge(session))[1]
        messages: list[Any] = [question()]
        post(place, form, form.body(messages))
        post(place, form, form.body(messages, "tools:1", ["search"] * 30))
        call = {"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "1", "content": "word " * 500})
        post(place, form, form.body(messages, "tools:1", ["search"] * 30))
        assert place.finished(3)
        post(place, form, form.body(messages, "tools:1", ["search"] * 30))
        assert place.finished(4)
    plain, schemas, results, again = (session.context_tokens for session in seen)
    assert plain == 0 and schemas > 500 and results > schemas + 500
    counted = len(place.upstream.received[-1].body) / 4  # as this upstream counts
    assert abs(again - counted) < 0.25 * counted, "brought to what was counted before"


def test_headers_of_other_providers_pass():
    reply = Reply(
        completion(),
        headers=("X-Should-Retry: true", "Location: /v1/x", "Anthropic-Organization-Id: o",
                 "Request-Id: r", "X-Secret: s"),
    )  # fmt: skip
    with Stand(lambda r, n: reply) as place:
        answer = place.chat(**{"anthropic-version": "2023-06-01", "anthropic-beta": "b"})
        got = place.upstream.received[0].headers
        assert got["anthropic-version"] == "2023-06-01" and got["anthropic-beta"] == "b"
        assert answer.headers["x-should-retry"] == "true" and answer.headers["location"] == "/v1/x"
        assert answer.headers["anthropic-organization-id"] == "o"
        assert answer.headers["request-id"] == "r" and "x-secret" not in answer.headers
    upstream = Upstream("http://x/v1")
    back = upstream.incoming(
        [(b"Location", b"http://x/v1/batches/1"), (b"location", b"http://y/z")]
    )
    assert back == [(b"location", b"/v1/batches/1"), (b"location", b"http://y/z")]


def test_white_space_around_a_header_means_nothing():
    with Stand(lambda r, n: Reply(completion())) as place:
        host, port = place.url.removeprefix("http://").split(":")
        head = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-title:  a title \t \r\n"
        with socket.create_connection((host, int(port)), timeout=5.0) as connection:
            connection.sendall(head + b"connection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert place.upstream.received[0].headers["x-title"] == "a title"


def test_paths_of_azure():
    path = "/openai/deployments/m/chat/completions?api-version=2024-10-21"
    with stand() as place:
        answer = place.client.post(path, json=CHAT, headers={"api-key": "k"})
        assert answer.status_code == 200 and answer.headers["x-stackjax-mode"] == "on"
        line = place.upstream.received[0].head.split(b"\r\n")[0]
        assert line == f"POST {path} HTTP/1.1".encode()
    for url in ("https://r.openai.azure.com/openai", "https://r.openai.azure.com/openai/v1"):
        target = Upstream(url).target("/openai/deployments/m/responses", b"a=b")
        assert target == "https://r.openai.azure.com/openai/deployments/m/responses?a=b"
    target = Upstream("https://r.openai.azure.com/openai/v1").target("/v1/responses", b"")
    assert target == "https://r.openai.azure.com/openai/v1/responses"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_a_number_that_is_none_never_leaves_as_other_json(number):
    chat = json.dumps({**CHAT, "temperature": 0.25}).replace("0.25", number)
    with Stand(lambda r, n: Reply(completion()), mode="on") as place:
        answer = place.chat(chat)
        assert place.upstream.received[0].body == chat.encode(), "it goes as it came"
        assert answer.headers["x-stackjax-fallback"] == "malformed_body"


@pytest.mark.parametrize(
    "path",
    ["/v1/..;/admin", "/v1/%252e%252e/admin", "/v1/%25252e%25252e/x", "/v1/..%3b/x", "/v1/.;a/x",
     "/v1/%2e%2e;x=1/admin", "/v1/a/..%5cb", "/v1/..%252fadmin", "/v1/x%00", "/openai/../v1/x",
     "/openai/..;/x", "/v1/%" + "25" * 20 + "2e"],
)  # fmt: skip
def test_a_path_that_could_lead_out_is_refused(path):
    assert Upstream("http://x/v1").target(path, b"") is None


def test_paths_that_do_not_lead_out_pass():
    for path in ("/v1/a..b", "/v1/...", "/v1/files/x.json", "/v1/a%20b", "/v1/;x", "/v1/100%25"):
        assert Upstream("http://x/v1").target(path, b"") == "http://x" + path


def test_what_passes_ungoverned_is_counted_and_warned_of_once(caplog):
    caplog.set_level(logging.WARNING, logger="stackjax.runtime")
    with stand(admin_token="t") as place:
        for path in ("embeddings", "embeddings", "audio/speech", "strange/thing"):
            place.client.post(f"/v1/{path}", json={"model": "m"})
        place.client.get("/v1/models")
        place.client.post("/v1/messages/count_tokens", json={"model": "m"})
        wanted = {"embeddings": 2, "audio": 1, "other": 1, "messages/count_tokens": 1}
        assert place.governor.metrics.by_label("ungoverned") == wanted
        assert place.client.get("/healthz").json()["ungoverned"] == wanted
        assert [r.message.count("embeddings") for r in caplog.records].count(1) == 1
        assert (
            'stackjax_ungoverned_total{path="embeddings"} 2.0' in place.client.get("/metrics").text
        )


@dataclasses.dataclass(frozen=True)
class Refused(TurnDecision):
    """A decision that the request is not to be sent."""

    refusal: str | None = "The session has used its 100 tokens."


class Refusing(Governor):
    """A governor whose sessions have no budget left."""

    def judge(self, session):
        told = {**vars(super().judge(session)), "refusal": Refused.refusal}
        return Refused(**told)


@each_format
def test_a_spent_budget_is_refused_clearly(form):
    place = stand()
    place.governor.__class__ = Refusing
    with place:
        answer = post(place, form, form.body([question()]))
        assert answer.status_code == 429 and answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["message"] == "The session has used its 100 tokens."
        assert (answer.json().get("type") == "error") == (form.name == "messages")
        assert not place.upstream.received
        assert sum(place.governor.metrics.by_label("decisions").values()) == 1
    place = stand("shadow")
    place.governor.__class__ = Refusing
    with place:
        assert post(place, form, form.body([question()])).status_code == 200


def test_an_administrator_lowers_alarms_and_reads_the_policy_again():
    with stand(admin_token="t0p", reload=lambda: "new") as place:
        send = lambda path, token="t0p": place.client.post(
            path, headers={"authorization": f"Bearer {token}"}
        )
        for path in ("/admin/alarms/reset", "/admin/policy/reload"):
            assert send(path, "wrong").status_code == 401
        for session in range(40):
            place.governor.observer.watch.charts["tokens"].update(str(session), 1e4)
        assert place.client.get("/healthz").json()["status"] == "degraded"
        assert send("/admin/alarms/reset").json() == {"alarms": []}
        taken = []
        place.governor.reset_alarms = lambda: taken.append("lowered")
        assert send("/admin/alarms/reset").json() == {"alarms": []} and taken.pop() == "lowered"
        place.governor.set_policy = taken.append
        assert send("/admin/policy/reload").status_code == 200 and taken == ["new"]
    with Stand(FullUpstream(), admin_token="t0p") as place:
        answer = place.client.post("/admin/policy/reload", headers={"authorization": "Bearer t0p"})
        assert answer.status_code == 400 and "policy" in answer.json()["error"]
    with Stand(FullUpstream()) as place:
        assert place.client.post("/admin/alarms/reset").status_code == 404


@pytest.mark.parametrize("size", [1, 3, 17, 200, 100_000])
@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n"])
def test_a_stream_is_filtered_alike_however_it_is_cut(size, ending):
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    chunks = [
        {"choices": [{"delta": {"content": "x" * n}}], "usage": None} for n in (1, 5000, 0)
    ] + [{"choices": [], "usage": usage}, {"choices": [{"delta": {}}], "usage": usage}]
    parts = [b"data: " + json.dumps(c).encode() for c in chunks] + [b": a comment", b"data: [DONE]"]
    whole = b"".join(part + ending for part in parts)
    wanted = b"".join(part + ending for part in parts if b'"choices": []' not in part)
    for tail in (b"", b"data: {"):
        data, events_, reader = whole + tail, UsageFilter(), AnswerReader("text/event-stream")
        found = b""
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            reader.feed(piece)
            found += events_.feed(piece)
        assert found + events_.end() == wanted + tail
        assert reader.usage() == (3, 2)


def test_a_long_event_is_held_once_and_not_read_again_with_every_piece():
    event = b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 900_000}}]}).encode()
    reader, events_ = AnswerReader("text/event-stream"), UsageFilter()
    for start in range(0, len(event), 200):
        reader.feed(event[start : start + 200])
        assert events_.feed(event[start : start + 200]) == b""
    assert len(reader._kept) == len(range(0, len(event), 200)), "nothing was put together yet"
    assert events_._seen == len(event), "nor looked at twice"
    end = (
        b"\n\ndata: " + json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()
    )
    reader.feed(end + b"\n\n")
    assert reader.usage() == (1, 2)
    assert events_.feed(b"\n\n") == event + b"\n\n"
    flood = UsageFilter()
    assert (
        b"".join([*(flood.feed(b"y" * 100_000) for _ in range(20)), flood.end()])
        == b"y" * 2 * 10**6
    )


def test_packed_answers_in_several_members_are_read():
    body = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()
    reader = AnswerReader("application/json", "gzip")
    for byte in gzip.compress(body[:10]) + gzip.compress(body[10:]):
        reader.feed(bytes([byte]))
    assert reader.usage() == (1, 2)


def test_a_compressor_of_ones_own_has_time_and_threads_of_its_own():
    """Rewriting does not share the decision's deadline, and holds up no other decision."""

    class Slow(ChatAdapter):
        def rewrite(self, body, response, **options):
            time.sleep(0.6)
            return super().rewrite(body, response, **options)

    messages = [question(), {"role": "assistant", "content": "yes"}, question()]
    with stand(adapter=Slow(), limits=Limits(deadline=0.5, rewrite_deadline=30.0)) as place:
        told = post(place, FORMATS[0], FORMATS[0].body(messages)).headers
        assert told["x-stackjax-changes"] == "context,style"

    gate = threading.Event()

    class Stopped(ChatAdapter):
        def rewrite(self, body, response, **options):
            gate.wait(30.0)
            return super().rewrite(body, response, **options)

    patient = Limits(deadline=20.0, rewrite_deadline=60.0)
    with Governor(
        StubPolicy(**WIDE), rollout=Rollout("on"), limits=patient, adapter=Stopped()
    ) as one:
        first = Turn(one, {"identifier": "a"})
        first.begin({"messages": messages})
        assert one.decide({"identifier": "b", "task": "simple_qa", "task_complexity": 0.4,
                           "context_tokens": 9}).fallback is None  # fmt: skip
        assert first._future is not None and not first._future.done()
        gate.set()
        assert first._future.result(30.0).changes
    late = Limits(deadline=0.2, rewrite_deadline=1e-3)
    gate.clear()
    with Governor(
        StubPolicy(**WIDE), rollout=Rollout("on"), limits=late,
        adapter=Stopped(),
    ) as one:  # fmt: skip
        turn = Turn(one, {"identifier": "a"})
        assert turn.wait({"messages": messages}).body is None, "it goes as it came"
        assert turn.fallback_code == "deadline"
        gate.set()


def test_a_wrong_intake_is_refused():
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"body_limit": 0}, "body_limit"), ({"read_deadline": 0}, "read_deadline"),
        ({"stream_usage": "often"}, "stream_usage"),
    ]  # fmt: skip
    for wrong, error in wrongs:
        with pytest.raises(ValueError, match=error):
            Intake(**wrong)
    with pytest.raises(ValueError, match="sources"):
        SessionNames(("moon",))
    with pytest.raises(TypeError, match="headers"):
        SessionNames(headers="x-a")
