import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.chat._messages import grammar_error
from stackjax.runtime.chat._request import ChatAdapter
from stackjax.runtime.chat._usage import AnswerReader, usage_of
from stackjax.runtime.chat._wire import exchanges, item_tokens
from stackjax.runtime.chat._wire_chat import CHAT as WIRE
from stackjax.runtime.chat._wire_chat import compact, with_style
from stackjax.runtime.gateway._identify import (
    guess_task,
    identify_session,
    session_scope,
    told_by_headers,
)


def user(text="question"):
    return {"role": "user", "content": text}


def answer(text="answer"):
    return {"role": "assistant", "content": text}


def calls(*names):
    made = [{"id": n, "type": "function", "function": {"name": "f"}} for n in names]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(name):
    return {"role": "tool", "tool_call_id": name, "content": "4"}


SYSTEM = {"role": "system", "content": "rules"}
CHAT = [
    SYSTEM, user("a"), calls("1", "2"), result("2"), result("1"), answer(),
    user("b"), answer(), {"role": "developer", "content": "more rules"}, user("c"), calls("1"),
    result("1"),
]  # fmt: skip


@st.composite
def chats(draw):
    """Well-formed conversations: standing messages anywhere between turns, rounds of tool calls."""
    chat, number = [], 0
    if draw(st.booleans()):
        chat.append(dict(SYSTEM))
    if draw(st.booleans()):
        chat.append(answer("opening"))
    for _ in range(draw(st.integers(1, 6))):
        for _ in range(draw(st.integers(1, 2))):
            chat.append(user(f"u{number}"))
            number += 1
        for _ in range(draw(st.integers(0, 3))):
            names = [f"c{number}-{i}" for i in range(draw(st.integers(1, 3)))]
            number += 1
            chat += [calls(*names), *(result(n) for n in draw(st.permutations(names)))]
        if draw(st.booleans()):
            chat.append(answer(f"a{number}"))
        if draw(st.integers(0, 3)) == 0:
            chat.append({"role": "developer", "content": f"d{number}"})
    return chat


@settings(max_examples=150, deadline=None)
@given(chats(), st.floats(0, 1))
def test_compaction_never_breaks_a_conversation(chat, share):
    assert grammar_error(chat) is None
    before = copy.deepcopy(chat)
    kept = compact(chat, share)
    assert chat == before
    assert grammar_error(kept) is None
    positions = [next(i for i, m in enumerate(chat) if m is k) for k in kept]
    assert positions == sorted(positions)
    standing = lambda messages: [m for m in messages if m["role"] in ("system", "developer")]
    assert standing(kept) == standing(chat)
    newest = exchanges(WIRE, chat)[-1]
    assert set(newest) <= set(positions)
    ids = {c["id"] for m in kept for c in m.get("tool_calls") or ()}
    assert ids == {m["tool_call_id"] for m in kept if m["role"] == "tool"}
    turns = len(exchanges(WIRE, chat))
    assert len(exchanges(WIRE, kept)) - 1 >= share * (turns - 1)


@settings(max_examples=80, deadline=None)
@given(chats(), st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3))
def test_a_rewritten_request_is_well_formed_and_the_original_is_untouched(chat, response):
    body = {"model": "m", "messages": chat, "tools": [{"type": "function"}], "temperature": 0}
    before = copy.deepcopy(body)
    made = ChatAdapter().rewrite(body, response)
    assert made.original is body and body == before
    assert grammar_error(made.body["messages"]) is None
    untouched = set(body) - {"messages"}
    assert {k: made.body[k] for k in untouched} == {k: body[k] for k in untouched}
    assert set(made.body) - set(body) <= {"tool_choice"}
    assert (made.body is body) == (made.changes == ())
    if response == (1.0, 1.0, 1.0):
        assert made.body is body


def test_levels_of_context():
    assert compact(CHAT, 1.0) is CHAT
    assert [m["content"] for m in compact(CHAT, 0.0)] == ["rules", "more rules", "c", None, "4"]
    assert len(compact(CHAT, 0.5)) == 7
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            compact(CHAT, wrong)


@pytest.mark.parametrize(
    "messages",
    [
        None, [], "text", [3], [{"content": "x"}], [{"role": ["user"]}], [{"role": "robot"}],
        [user(), result("1")], [user(), calls("1")], [user(), calls("1"), user()],
        [user(), calls("1", "1"), result("1")], [user(), calls("1"), result("2")],
        [user(), {"role": "assistant", "tool_calls": "x"}], [user(), calls("1"), SYSTEM],
        [user(), {"role": "assistant", "tool_calls": [{"id": 3}]}],
        [user(), calls("1"), result(["1"])],
    ],
)  # fmt: skip
def test_what_breaks_the_grammar_is_named_and_left_alone(messages):
    try:
        error = grammar_error(messages)
    except TypeError:
        error = "unhashable"
    assert error
    if isinstance(messages, list):
        made = ChatAdapter().rewrite({"messages": messages}, (0.0, 0.0, 0.0))
        assert made.changes == () and made.body["messages"] is messages


def test_tool_budget():
    tools = {"tools": [{"type": "function"}]}
    two = [user(), calls("1", "2"), result("1"), result("2")]
    limited = ChatAdapter(tool_calls=2)
    choice = lambda body, u, adapter=limited: adapter.rewrite(body, (1.0, 1.0, u)).body.get(
        "tool_choice"
    )
    assert choice({"messages": two, **tools}, 0.5) == "none"
    assert choice({"messages": two[:1], **tools}, 0.5) is None
    one = [user(), calls("1"), result("1")]
    assert choice({"messages": one, **tools}, 0.0) == "none"
    assert choice({"messages": one, **tools}, 0.5) is None
    assert choice({"messages": two, **tools}, 1.0) is None
    assert choice({"messages": [*two, answer(), user()], **tools}, 0.5) is None, (
        "a turn's own calls"
    )
    forced = {"messages": two, **tools, "tool_choice": "required"}
    assert choice(forced, 0.0) == "required"
    assert choice({"messages": two}, 0.0) is None


def test_an_agent_keeps_its_tools_at_every_level():
    tools = {"tools": [{"type": "function"}]}
    many = [user()]
    for number in range(40):
        many += [calls(str(number)), result(str(number))]
    for u in (0.0, 0.5, 1.0):
        for messages in (many[:1], many):
            body = {"messages": messages, **tools}
            assert ChatAdapter().rewrite(body, (1.0, 1.0, u)).body is body
    ends = ChatAdapter(without_tools=True).rewrite({"messages": [user()], **tools}, (1.0, 1.0, 0.0))
    assert ends.body["tool_choice"] == "none" and ends.body["tools"] is tools["tools"]


def test_a_style_ends_a_text_that_is_there_and_is_never_a_message_of_its_own():
    styled_as: Any = with_style
    chat = [user("first"), answer(), user("second")]
    assert [m["content"] for m in styled_as(chat, "Short.")] == [
        "first\n\nShort.", "answer", "second",
    ]  # fmt: skip
    assert with_style([answer()], "Short.") is None
    styled = styled_as([dict(SYSTEM), {"role": "developer", "content": ""}, user()], "Short.")
    assert [m["content"] for m in styled] == ["rules", "Short.", "question"]
    parts = [{"role": "system", "content": [{"type": "text", "text": "x"}]}, user()]
    assert styled_as(parts, "Short.")[0]["content"][1] == {"type": "text", "text": "Short."}
    assert len(parts[0]["content"]) == 1
    with pytest.raises(ValueError, match="styles"):
        ChatAdapter(styles={0.0: "x"})
    with pytest.raises(ValueError, match="tool_calls"):
        ChatAdapter(tool_calls=0)
    with pytest.raises(ValueError, match="action"):
        ChatAdapter().rewrite({"messages": [user()]}, (0.0, 0.0, 2.0))


def test_metadata_of_a_request():
    body = {"messages": CHAT}
    found = identify_session(body, {})
    assert found.earlier_turns == 2 and found.task == "simple_qa"
    assert found.context_tokens == item_tokens(WIRE, CHAT) - item_tokens(WIRE, [user("c")])
    longer = identify_session({"messages": [*CHAT, answer(), user("d")]}, {})
    assert longer.identifier == found.identifier, "a conversation is known by its beginning"
    assert identify_session({"messages": CHAT, "user": "u"}, {}).identifier != found.identifier
    told = identify_session(
        body, {"identifier": "mine", "task": "data_analysis"}, {"task": "casual_chat"}
    )
    assert (told.identifier, told.task) == ("mine", "data_analysis")
    assert identify_session(body, {}, {"task": "casual_chat"}).task == "casual_chat"
    assert "mine" not in repr(told)
    assert identify_session({"messages": [SYSTEM]}, {}).earlier_turns == 0
    headers = {"x-stackjax-session": "s", "x-stackjax-complexity": "high", "accept": "x"}
    assert told_by_headers(headers) == {"identifier": "s"}
    with pytest.raises(TypeError), session_scope("s", colour=1):
        pass


def test_guesses_stay_in_range():
    assert [guess_task(t) for t in ("def f(x):", "Why?", "hi there", "draft an email", "")] == [
        "code_generation", "complex_reasoning", "casual_chat", "text_writing", "simple_qa",
    ]  # fmt: skip
    assert guess_task("average of the table") in TASK_TYPES
    body = {"messages": [{"role": "user", "content": "word " * 500}]}
    assert math.isnan(identify_session(body, {}).task_complexity or 0.0)
    assert identify_session(body, {}, {"task_complexity": 0.3}).task_complexity == 0.3


def test_usage_is_read_in_any_split_and_encoding():
    import gzip

    whole = json.dumps({"usage": {"prompt_tokens": 7, "completion_tokens": 2}}).encode()
    events = b'data: {"choices": []}\n\ndata: ' + whole + b"\n\ndata: [DONE]\n\n"
    for kind, text in (("application/json", whole), ("text/event-stream; charset=utf-8", events)):
        for encoding, data in (("", text), ("gzip", gzip.compress(text))):
            for size in (1, 7, 10_000):
                reader = AnswerReader(kind, encoding)
                for start in range(0, len(data), size):
                    reader.feed(data[start : start + size])
                assert reader.usage() == (7, 2)
    assert reader.chunks == 2
    for encoding, data in (("br", whole), ("gzip", b"no gzip"), ("", b"[" * 100_000)):
        reader = AnswerReader("application/json", encoding)
        reader.feed(data)
        assert reader.usage() is None
    long = AnswerReader("application/json")
    for _ in range(20):
        long.feed(b"x" * 100_000)
    assert long.usage() is None and len(long._kept) == 0
    for wrong in ({"usage": {"prompt_tokens": -1, "completion_tokens": 2}}, {"usage": 3}, None):
        assert usage_of(wrong) is None
