"""The wrapper of the official client, against an upstream that records."""

import asyncio
import json

import pytest
from recording_upstream import RecordingUpstream, Reply, StubPolicy, completion, eventually, stream

from stackjax.runtime import (
    Governor,
    Limits,
    Rollout,
    govern_client,
    session_scope,
)
from stackjax.runtime.chat._usage import AnswerReader

openai = pytest.importorskip("openai", reason="openai is not installed (extra llm)")

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CHAT = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ],
}
CALLING = json.dumps({
    "id": "c", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
}).encode()  # fmt: skip


def script(received, number):
    body = json.loads(received.body)
    if body.get("stream"):
        return stream("a b c", usage=bool(body.get("stream_options")))
    return Reply(CALLING if body.get("tools") else completion())


class Clients:
    """A plain client and a governed one at the same upstream."""

    def __init__(self, mode, policy=None, *, is_async=False, script=script, **limits):
        self.upstream = RecordingUpstream(script)
        self.governor = Governor(
            policy or StubPolicy(token_spread=50.0),
            rollout=Rollout(mode),
            limits=Limits(**{"deadline": 2.0, **limits}),
        )
        self._kind = openai.AsyncOpenAI if is_async else openai.OpenAI

    def __enter__(self):
        self.upstream.__enter__()
        options = {"base_url": self.upstream.base_url, "api_key": "k", "max_retries": 0}
        self.plain = self._kind(timeout=5.0, **options)
        self.governed = govern_client(self.plain, self.governor)
        return self

    def __exit__(self, *exception):
        if isinstance(self.plain, openai.OpenAI):
            self.plain.close()
        self.governor.close()
        self.upstream.stop()

    def sent(self, number=-1):
        return json.loads(self.upstream.received[number].body)

    def turns(self):
        metrics = self.governor.metrics
        return sum(metrics.value("turns", a, "answered") for a in ("governed", "untouched"))


def test_it_is_the_same_class_with_the_same_results():
    with Clients("shadow") as both:
        assert isinstance(both.governed, openai.OpenAI)
        assert type(both.plain) is openai.OpenAI, "the client that was given is not changed"
        assert type(both.governed).__name__ == "OpenAI"
        results = [c.chat.completions.create(**CHAT) for c in (both.plain, both.governed)]
        assert type(results[0]) is type(results[1]) and results[0] == results[1]
        assert both.upstream.received[0].body == both.upstream.received[1].body
        streams = [list(c.chat.completions.create(**CHAT, stream=True))
                   for c in (both.plain, both.governed)]  # fmt: skip
        assert streams[0] == streams[1]
        assert both.upstream.received[2].body == both.upstream.received[3].body
        kinds = [type(c.chat.completions.create(**CHAT, stream=True))
                 for c in (both.plain, both.governed)]  # fmt: skip
        assert kinds[0] is kinds[1]
        assert eventually(lambda: both.turns() == 2), "a stream that nobody read is not a turn yet"


@pytest.mark.parametrize("policy", [{"seconds": 0.05}, {"error": ValueError()}, {"advice": 3}])
def test_in_shadow_mode_arguments_pass_untouched(policy):
    with Clients("shadow", StubPolicy(**policy), deadline=0.002) as both:
        for arguments in (
            CHAT,
            {**CHAT, "tools": TOOLS, "temperature": 0.3},
            {**CHAT, "messages": []},
        ):
            for client in (both.plain, both.governed):
                client.chat.completions.create(**arguments)
            one, other = both.upstream.received[-2:]
            assert one.body == other.body
        assert eventually(lambda: both.governor.metrics.by_label("fallbacks") != {})


def test_governed_calls_of_every_kind():
    with Clients("on") as both:
        completions = both.governed.chat.completions
        with session_scope("s", task="simple_qa"):
            assert completions.create(**CHAT).choices[0].message.content == "ok"
        assert [m["content"] for m in both.sent()["messages"]] == ["three\n\nAnswer briefly."]
        made = completions.create(**CHAT, tools=TOOLS)
        assert made.choices[0].message.tool_calls[0].function.name == "f"
        assert "tool_choice" not in both.sent(), "an agent keeps its tools"
        text = [c.choices[0].delta.content for c in completions.create(**CHAT, stream=True)]
        assert text == ["a", "b", "c", None], "the counts that were asked for are taken out"
        assert both.sent()["stream_options"] == {"include_usage": True}
        with completions.create(**CHAT, stream=True) as entered:
            next(iter(entered))
        assert completions.parse(**CHAT).choices[0].message.content == "ok"
        with completions.stream(**CHAT, stream_options={"include_usage": True}) as events:
            assert events.get_final_completion().choices[0].message.content == "abc"
        raw = completions.with_raw_response.create(**CHAT)
        assert raw.parse().choices[0].message.content == "ok"
        with completions.with_streaming_response.create(**CHAT) as answer:
            assert json.loads(answer.read())["model"] == "fake"
        copy = both.governed.with_options(timeout=3.0)
        copy.chat.completions.create(**CHAT)
        for received in both.upstream.received:
            assert "Answer briefly." in received.body.decode()
        assert eventually(lambda: both.turns() == 8)
        assert both.governor.metrics.value("turns", "governed", "disconnected") == 1
        assert both.governor.metrics.value("tokens", "governed", "completion") > 0


def test_the_session_is_told_by_scope_or_header_and_stays_here():
    with Clients("on") as both:
        create = both.governed.chat.completions.create
        with session_scope("s", task="simple_qa", task_complexity=0.1):
            create(**CHAT)
            create(**CHAT, extra_headers={"X-Stackjax-Session": "t", "x-title": "kept"})
        create(**CHAT)
        assert len(both.governor.ledger) == 3
        headers = both.upstream.received[1].headers
        assert "x-stackjax-session" not in headers and headers["x-title"] == "kept"
        pseudonym = both.governor.pseudonym("t")
        assert both.governor.ledger.peek(pseudonym) is not None


def test_refusals_and_failures():
    def strict(received, number):
        refused = b"Answer briefly" in received.body
        return Reply(b'{"error": {"message": "no"}}', 400) if refused else Reply(completion())

    with Clients("on", script=strict) as both:
        assert both.governed.chat.completions.create(**CHAT).choices
        assert both.sent(1)["messages"] == CHAT["messages"]
        assert both.governor.metrics.by_label("fallbacks") == {"upstream_rejected": 1}
    with Clients("on", script=lambda r, n: Reply(b"{}", 503)) as both:
        with pytest.raises(openai.InternalServerError):
            both.governed.chat.completions.create(**CHAT)
        assert both.governor.metrics.value("turns", "governed", "http_503") == 1
        both.upstream.stop()
        with pytest.raises(openai.APIConnectionError):
            both.governed.chat.completions.create(**CHAT)
        assert both.governor.metrics.value("turns", "governed", "connection") == 1


def test_async_calls_of_every_kind():
    async def run(both):
        completions = both.governed.chat.completions
        with session_scope("s", task="simple_qa"):
            assert (await completions.create(**CHAT)).choices[0].message.content == "ok"
        pieces = [c async for c in await completions.create(**CHAT, stream=True)]
        assert pieces[0].choices[0].delta.content == "a"
        assert (await completions.parse(**CHAT)).choices[0].message.content == "ok"
        async with completions.stream(**CHAT) as events:
            assert (await events.get_final_completion()).choices[0].message.content == "abc"
        raw = await completions.with_raw_response.create(**CHAT)
        assert raw.parse().choices[0].message.content == "ok"
        many = await asyncio.gather(*(completions.create(**CHAT) for _ in range(20)))
        assert len(many) == 20
        await both.plain.close()

    with Clients("on", is_async=True) as both:
        assert isinstance(both.governed, openai.AsyncOpenAI)
        asyncio.run(run(both))
        for received in both.upstream.received:
            assert "Answer briefly." in received.body.decode()
        assert eventually(lambda: both.turns() == 25)


def test_a_chat_that_holds_an_answer_as_it_came_is_governed():
    """The official examples append `answer.choices[0].message` itself to the messages."""
    with Clients("on") as both:
        answer = both.plain.chat.completions.create(**CHAT, tools=TOOLS).choices[0].message
        result = {"role": "tool", "tool_call_id": "1", "content": "4"}
        said = {"role": "assistant", "content": "word " * 100}  # long enough to pay for a style
        chat = [*CHAT["messages"], answer, result, said, {"role": "user", "content": "four"}]
        both.governor.policy = StubPolicy((1.0, 0.0, 1.0))
        for client in (both.plain, both.governed):
            client.chat.completions.create(model="m", messages=chat)
        plain, governed = (both.sent(n)["messages"] for n in (1, 2))
        styled = {"role": "user", "content": "one\n\nAnswer briefly."}
        assert governed == [styled, *plain[1:]]
        assert chat[3] is answer, "the caller's list is the caller's"


def test_tool_calls_of_a_stream_are_counted():
    deltas = [
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 1, "id": "2", "function": {"name": "f", "arguments": "{}"}}]},
    ]
    base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    data = [{**base, "choices": [{"index": 0, "delta": d}]} for d in deltas]
    data += [{**base, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}]
    data += [{**base, "choices": [], "usage": None}]
    sse = [b"data: " + json.dumps(d).encode() + b"\n\n" for d in data]
    reader = AnswerReader("text/event-stream")
    for piece in sse:
        reader.feed(piece)
    assert reader.usage() == (5, 2) and reader.tool_calls == 2
    reply = Reply((*sse, b"data: [DONE]\n\n"), content_type="text/event-stream")
    with Clients("on", script=lambda r, n: reply) as both:
        seen = []
        both.governor.observe = lambda decision, usage: seen.append(usage)
        list(both.governed.chat.completions.create(**CHAT, stream=True))
        assert (seen[0].tool_calls, seen[0].tokens, seen[0].exact) == (2, 7, True)


def test_off_does_nothing_at_all():
    policy = StubPolicy()
    with Clients("off", policy) as both:
        both.governed.chat.completions.create(**CHAT)
        assert policy.calls == 0 and both.turns() == 0
        both.governor.set_rollout(Rollout("on"))
        both.governed.chat.completions.create(**CHAT)
        assert policy.calls == 1 and both.turns() == 1


def test_other_things_are_refused():
    governor = Governor(StubPolicy())
    for wrong in (None, "client", object()):
        with pytest.raises(TypeError, match="`client` must be an openai"):
            govern_client(wrong, governor)
    with pytest.raises(TypeError, match="`defaults` must have fields of .*; got tsk"):
        govern_client(openai.OpenAI(api_key="k"), governor, defaults={"tsk": "simple_qa"})
    with pytest.raises(ValueError, match="poetry"):
        govern_client(openai.OpenAI(api_key="k"), governor, defaults={"task": "poetry"})


def test_what_was_not_counted_is_estimated_from_what_was_sent():
    long = {**CHAT, "messages": [*CHAT["messages"][:2], {"role": "user", "content": "w " * 50}]}
    uncounting = lambda r, n: stream("a b c") if b"stream" in r.body else Reply(completion())
    with Clients("on", script=uncounting) as both:
        seen = []
        book = both.governor.observe

        def observe(decision, usage):
            seen.append(usage)
            book(decision, usage)

        both.governor.observe = observe
        both.plain.chat.completions.create(**long)
        list(both.governed.chat.completions.create(**long, stream=True))
        # 50 words, and 2 of "Answer briefly."
        assert seen[0].prompt_tokens == round(1.35 * 54) and not seen[0].exact
        assert both.governor.metrics.saved_tokens == 0, "an estimate is no saving"
