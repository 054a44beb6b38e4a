"""One adapter on three formats: random conversations, checked by the upstream's own rules."""

import copy
import itertools
import json
import math
import random
from typing import Any

import pytest
from full_upstream import Chat, Messages, Responses
from hypothesis import given, settings
from hypothesis import strategies as st

from stackjax.runtime import ChatAdapter
from stackjax.runtime.chat._compaction import (
    compact_items,
    due,
    head_and_tail,
    stepped,
    without_spaces,
)
from stackjax.runtime.chat._wire import item_tokens, request_tokens
from stackjax.runtime.chat._wires import wire_at

PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
WIRES: dict[str, Any] = {path: wire_at(path) for path in PATHS}
RULES: dict[str, Any] = dict(zip(PATHS, (Chat(), Responses(), Messages())))
TOOLS = [{"type": "function", "name": "f", "function": {"name": "f"}}]
JSON = json.dumps([{"row": n, "value": f"item {n}"} for n in range(60)], indent=2)
TEXT = "\n".join(f"line {n} of a long log" for n in range(200))


def conversation(seed, exchanges=None, rounds=None):
    """A neutral conversation: a list of exchanges, each a list of (kind, text or calls)."""
    rng = random.Random(seed)
    found, number = [], 0
    for _ in range(exchanges or rng.randint(1, 8)):
        steps: list[Any] = [("user", f"question {number} " + "word " * rng.randint(0, 30))]
        for _ in range(rng.randint(0, 4) if rounds is None else rounds):
            results = []
            for _ in range(rng.randint(1, 3)):
                number += 1
                text = rng.choice([JSON, TEXT, "4", f"result {number}", "{ broken"])
                results.append((f"call-{number}", text))
            steps.append(("tools", results))
        steps.append(("assistant", "answer " + "word " * rng.randint(0, 40)))
        found.append(steps)
        number += 1
    if rng.random() < 0.5:
        found[-1].pop()  # an agent in the middle of its work, or a question that was just asked
    return found


def written(path, exchanges, system="Be kind.", parts=False):
    """The conversation in the format of a path."""
    wrap = lambda text, kind="text": [{"type": kind, "text": text}] if parts else text
    items = []
    chat, responses = path.endswith("completions"), path.endswith("responses")
    if system and chat:
        items.append({"role": "system", "content": system})
    for steps in exchanges:
        for kind, what in steps:
            if kind != "tools":
                items.append(
                    {"role": kind, "content": wrap(what, "input_text" if responses else "text")}
                )
            elif chat:
                calls = [
                    {"id": n, "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    for n, _ in what
                ]
                items.append({"role": "assistant", "content": None, "tool_calls": calls})
                items += [{"role": "tool", "tool_call_id": n, "content": wrap(t)} for n, t in what]
            elif responses:
                items.append({"type": "reasoning", "id": "r", "summary": []})
                items += [
                    {"type": "function_call", "call_id": n, "name": "f", "arguments": "{}"}
                    for n, _ in what
                ]
                items += [
                    {"type": "function_call_output", "call_id": n, "output": wrap(t, "input_text")}
                    for n, t in what
                ]
            else:
                calls = [{"type": "tool_use", "id": n, "name": "f", "input": {}} for n, _ in what]
                items.append({"role": "assistant", "content": calls})
                results = [
                    {"type": "tool_result", "tool_use_id": n, "content": wrap(t)} for n, t in what
                ]
                items.append({"role": "user", "content": results})
    body = {"model": "m", "tools": TOOLS, "temperature": 0.5}
    if responses:
        return {**body, "input": items, **({"instructions": system} if system else {})}
    extra = {"system": system} if system and not chat else {}
    return {**body, "messages": items, **extra}


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    response=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3),
    system=st.sampled_from(["", "Be kind."]),
    parts=st.booleans(),
    answer=st.sampled_from([None, 0.0, 1000.0]),
    limit=st.sampled_from([None, 1, 3]),
)
def test_a_rewritten_request_keeps_its_format_and_does_not_grow(
    path, seed, response, system, parts, answer, limit
):
    wire, rules = WIRES[path], RULES[path]
    body = written(path, conversation(seed), system, parts)
    assert rules.read(body, {}) is not None and wire.error(body) is None
    before = copy.deepcopy(body)
    made = ChatAdapter(tool_calls=limit).rewrite(body, response, wire=wire, answer=answer)
    assert body == before and made.original is body
    turns = rules.read(made.body, {})
    assert turns is not None, "the upstream's own rules refuse it"
    # What was asked last is there, word for word, and the tools are.
    assert (
        rules.read(body, {})[-1] == turns[-1] or "style" in made.changes or turns[-1][0] == "tool"
    )
    assert made.body["tools"] is body["tools"] and made.body["temperature"] == 0.5
    growth = request_tokens(wire, made.body) - request_tokens(wire, body)
    # A style may cost a tenth of an answer; those that are shown here have 41 words at most.
    assert growth <= {0.0: 0.0, None: 0.1 * 41 * 1.35, 1000.0: 100.0}[answer]
    if answer == 0.0:
        assert len(json.dumps(made.body)) <= len(json.dumps(body)) + 60
    assert (made.body is body) == (made.changes == ())
    if response == (1.0, 1.0, 1.0):
        assert made.body is body
    choice = made.body.get("tool_choice")
    if limit is None:
        assert choice is None
    again = ChatAdapter(tool_calls=limit).rewrite(
        copy.deepcopy(body), response, wire=wire, answer=answer
    )
    assert json.dumps(again.body) == json.dumps(made.body), "the same bytes for the same request"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_beginning_of_a_growing_session_changes_rarely(path, share):
    """Over 64 exchanges the prefix that a provider has cached changes about 2 log2(64) times."""
    wire = WIRES[path]
    whole = conversation(5, exchanges=64, rounds=1)
    given_up, before = 0, []
    for count in range(1, 65):
        items = wire.items(written(path, whole[:count]))
        sent = compact_items(wire, items, share).items
        given_up += list(sent[: len(before)]) != before
        before = list(sent)
    if share:
        assert given_up <= 2 * math.log2(64) + 2
        exact = compact_items(wire, items, share).dropped / len(items)
        assert 0.3 < exact <= 0.5
    else:
        assert item_tokens(wire, before) < 0.05 * item_tokens(wire, items), "nothing old is left"


def test_steps():
    for count in range(200):
        assert stepped(count) <= count < 1.5 * stepped(count) + 1
        for share in (0.0, 0.1, 0.5, 0.9, 1.0):
            gone = due(count, share)
            assert 0 <= gone <= count - math.ceil(share * count)
    assert due(7, 0.0) == 7 and due(7, 1.0) == 0


def tool_chat(*texts):
    """One question and a round of one call for each text."""
    messages: list[Any] = [{"role": "user", "content": "go"}]
    for number, text in enumerate(texts):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "f"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": text})
    return messages


def results(share, *texts, **options):
    made = compact_items(WIRES[PATHS[0]], tool_chat(*texts), share, **options)
    return [m["content"] for m in made.items if m["role"] == "tool"]


def test_tool_results_are_repacked_without_loss_before_they_are_cut():
    packed = json.dumps(json.loads(JSON), separators=(",", ":"))
    assert results(0.0, JSON) == [packed], "the newest round is whole"
    assert json.loads(packed) == json.loads(JSON)
    assert results(1.0, JSON) == [JSON]
    old, new = results(0.0, TEXT, TEXT + ".", longest=900)
    assert new == TEXT + "." and len(old) < 1000
    assert old.startswith(TEXT[:600]) and old.endswith(TEXT[-300:]) and "characters left out" in old
    first, second, third = results(0.5, TEXT, "short", TEXT, longest=10**6)
    assert first == TEXT and second == "short"
    assert third == "[Identical to the result of call c0, above.]"
    # A whole result never points to one that was cut.
    cut, whole = results(0.0, TEXT, TEXT, longest=900)
    assert whole == TEXT and "left out" in cut


@settings(max_examples=100, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20,
))  # fmt: skip
def test_json_without_spaces_says_the_same(value):
    for text in (
        json.dumps(value),
        json.dumps(value, indent=2),
        json.dumps(value, ensure_ascii=False),
    ):
        short = without_spaces(text)
        assert json.loads(short) == value and len(short) <= len(text)
    assert without_spaces('{"a": 1.10, "b": 1e5}') == '{"a":1.10,"b":1e5}', "numbers as written"


def test_a_style_is_left_out_where_it_does_not_pay():
    """A single question with a system text: nothing to drop, and answers of unknown length."""
    adapter = ChatAdapter()
    for path in PATHS:
        wire = WIRES[path]
        body = written(path, [[("user", "a question " * 40)]])
        made = adapter.rewrite(body, (0.0, 0.5, 0.5), wire=wire)
        assert made.body is body and made.undone == ("style",)
        assert adapter.rewrite(body, (0.0, 0.5, 0.5), wire=wire, answer=500.0).changes == ("style",)
        short = {**body, "max_tokens": 16}
        assert adapter.rewrite(short, (0.0, 0.5, 0.5), wire=wire, answer=500.0).body is short


def test_where_a_style_stands():
    adapter, says = ChatAdapter(), "Answer briefly."
    styled = lambda path, body: (
        adapter.rewrite(body, (1.0, 0.0, 1.0), wire=WIRES[path], answer=900.0).body
    )
    whole = conversation(3, exchanges=3, rounds=1)
    for system in ("", "Be kind."):
        for path in PATHS:
            bodies = [styled(path, written(path, whole[: n + 1], system)) for n in range(3)]
            for body in bodies:
                assert json.dumps(body).count(says) == 1
            items = [WIRES[path].items(body) for body in bodies]
            for one, other in itertools.pairwise(items):
                assert other[: len(one) - 1] == one[:-1], "it does not move while a session grows"
            roles = [item.get("role") for item in items[0]]
            assert roles.count("system") == bool(system) * (path == PATHS[0])
    blocks = [{"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}]
    body = styled(PATHS[2], {"system": blocks, "messages": [{"role": "user", "content": "hi"}]})
    assert body["system"] == [*blocks, {"type": "text", "text": says}]
    text = styled(PATHS[1], {"input": "hi"})
    assert text == {"input": f"hi\n\n{says}"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATHS[1], {"input": ""}),
        (PATHS[1], {"input": []}),
        (PATHS[1], {"input": [3]}),
        (PATHS[1], {"input": [{"type": 3}]}),
        (PATHS[1], {"input": [{"role": "robot", "content": "x"}]}),
        (PATHS[1], {"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]}),
        (PATHS[1], {"input": [{"type": "function_call", "call_id": "1", "arguments": ""}]}),
        (PATHS[1], {"input": [{"type": "function_call_output", "output": "x"}]}),
        (PATHS[2], {"messages": []}),
        (PATHS[2], {"messages": [{"role": "system", "content": "x"}]}),
        (PATHS[2], {"messages": [{"role": "user", "content": 3}]}),
        (PATHS[2], {"messages": [{"role": "user", "content": [3]}]}),
        (PATHS[2], {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}),
        (PATHS[2], {"messages": [{"role": "user", "content": "x"}, {"role": "assistant",
         "content": [{"type": "tool_use", "id": "1"}]}]}),
    ],
)  # fmt: skip
def test_what_breaks_a_format_is_named_and_left_alone(path, body):
    wire = WIRES[path]
    assert wire.error(body)
    assert ChatAdapter().rewrite(body, (0.0, 0.0, 0.0), wire=wire).body is body


def test_what_lies_at_the_server_is_neither_seen_nor_dropped():
    wire = WIRES[PATHS[1]]
    output = {"type": "function_call_output", "call_id": "1", "output": JSON}
    body = {"previous_response_id": "resp_1", "input": [output], "tools": TOOLS}
    assert wire.error(body) is None
    made = ChatAdapter().rewrite(body, (0.0, 0.0, 0.0), wire=wire)
    assert made.dropped == 0 and made.body["previous_response_id"] == "resp_1"
    assert len(made.body["input"]) == 1
    many = written(PATHS[1], conversation(1, exchanges=6))
    many["input"].insert(1, {"type": "compaction", "id": "x"})
    assert ChatAdapter().rewrite(many, (0.0, 1.0, 1.0), wire=wire).dropped == 0


def test_head_and_tail_never_grow_a_text():
    for length in range(0, 4000, 37):
        for longest in (1, 100, 2000):
            text = "x" * length
            assert len(head_and_tail(text, longest)) <= length
