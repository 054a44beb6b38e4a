"""The adapter: levels, what is sent, and what is refused."""

import ast
import itertools
import json
import math
import random
from pathlib import Path

import pytest

from stackjax.agents.executor import _adapter as adapter
from stackjax.agents.executor._adapter import (
    LEVELS,
    Message,
    build_request,
    executed_action,
    retained,
    tool_message,
)
from stackjax.agents.executor._examples import EXAMPLES
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.tasks._tasks import TASK_TYPES, is_correct, make_episode
from stackjax.agents.tasks._tools import ToolCall, evaluate, run_call

HISTORY = [Message("note", f"note {i}.") for i in range(5)]


def sent(task="simple_qa", action=(1, 1, 1), history=HISTORY):
    return build_request(history, "Where?", task, action)


def length(request) -> int:
    return sum(len(message["content"].split()) for message in request.messages)


@pytest.mark.parametrize(
    ("value", "level"),
    [(0, 0), (0.2499, 0), (0.25, 0.5), (0.5, 0.5), (0.7499, 0.5), (0.75, 1), (1, 1)],
)
def test_values_go_to_the_nearest_level(value, level):
    for channel in range(3):
        action = [0.0, 0.0, 0.0]
        action[channel] = value
        assert executed_action(action)[channel] == level
        assert sent(action=action).executed == executed_action(action)


@pytest.mark.parametrize(
    "action",
    [
        (math.nan, 0, 0),
        (0, -0.001, 0),
        (0, 0, 1.001),
        (math.inf, 0, 0),
        (0, 0),
        (0, 0, 0, 0),
        (),
    ],
)
def test_actions_outside_the_cube_are_refused(action):
    with pytest.raises(ValueError, match="action must be three numbers"):
        executed_action(action)
    with pytest.raises(ValueError, match="action"):
        sent(action=action)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="task must be one of .*got 'poetry'"):
        sent(task="poetry")


@pytest.mark.parametrize(("count", "half"), [(0, 0), (1, 1), (4, 2), (5, 3)])
def test_context_keeps_the_newest_messages_in_order(count, half):
    history = HISTORY[:count]
    assert retained(history, 0.0) == []
    assert retained(history, 0.5) == history[count - half :]
    assert retained(history, 1.0) == history


def test_context_changes_only_the_last_message():
    requests = [sent(action=(c, 1, 1)) for c in LEVELS]
    assert len({json.dumps(r.messages[:-1]) for r in requests}) == 1
    none, half, full = (r.messages[-1]["content"] for r in requests)
    assert none == "Question: Where?"
    assert half.splitlines() == ["Note: note 2.", "Note: note 3.", "Note: note 4.", none]
    assert full.splitlines()[0] == "Note: note 0." and full.endswith(half)


@pytest.mark.parametrize("task", TASK_TYPES)
def test_prompt_levels_add_examples(task):
    count = [len(sent(task, (0, p, 0)).messages) for p in LEVELS]
    assert count == [2, 4, 2 + 2 * len(EXAMPLES[task])]


@pytest.mark.parametrize("task", TASK_TYPES)
def test_without_tools_no_tool_is_mentioned(task):
    for c, p in itertools.product(LEVELS, LEVELS):
        request = sent(task, (c, p, 0))
        text = json.dumps(request.messages)
        assert request.max_calls == 0
        assert "CALC" not in text and "FIND" not in text and "Result" not in text


def test_tool_levels_allow_more_calls_and_describe_more():
    requests = [sent("complex_reasoning", (0, 0, u)) for u in LEVELS]
    assert [r.max_calls for r in requests] == [0, 1, 2]
    systems = [r.messages[0]["content"] for r in requests]
    assert ["CALC" in s for s in systems] == [False, True, True]
    assert ["FIND" in s for s in systems] == [False, False, True]
    assert length(requests[0]) < length(requests[1]) < length(requests[2])


@pytest.mark.parametrize("task", TASK_TYPES)
def test_no_level_costs_less_than_the_one_below(task):
    for channel, others in itertools.product(range(3), itertools.product(LEVELS, LEVELS)):
        sizes = []
        for level in LEVELS:
            action = list(others)
            action.insert(channel, level)
            sizes.append(length(sent(task, action)))
        if channel < 2:
            assert sizes[0] < sizes[1] < sizes[2], (channel, action)
        elif action[1] < 1:
            # With all examples a note that is looked up may stand for the notes it replaces.
            assert sizes[0] < sizes[1] <= sizes[2], action


@pytest.mark.parametrize("task", TASK_TYPES)
def test_worked_examples_are_right(task):
    for example in EXAMPLES[task]:
        if example.calc:
            assert evaluate(example.calc) == float(example.answer)
        if example.find:
            found = run_call(ToolCall("FIND", example.find), example.notes)
            assert found in example.notes


def test_worked_examples_do_not_leak_into_the_episodes():
    questions = {example.question for examples in EXAMPLES.values() for example in examples}
    for index in range(400):
        for turn in make_episode(5, index).turns:
            assert turn.question not in questions or turn.notes or turn.family == "greeting"
            if turn.family in ("recall", "table_day", "greeting"):
                for example in EXAMPLES[turn.task]:
                    assert not is_correct(turn, example.answer), (turn, example)


def test_the_request_is_deterministic_and_leaves_its_input_alone():
    history = list(HISTORY)
    assert sent(history=history) == sent(history=history)
    assert history == HISTORY


def test_tool_messages():
    assert tool_message("CALC", "84", "How many?") == "Result: 84"
    assert tool_message("FIND", "A pen costs 4.", "How?") == "Note: A pen costs 4.\nQuestion: How?"


STATE = {
    "task_complexity": 0.5,
    "context_tokens": 100,
    "turn_index": 2,
    "mean_tokens": 200.0,
    "recent_quality": 0.5,
    "token_trend": 0.0,
    "model_condition": 1.0,
    "budget": 0.8,
}


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        (("q", 0.95), 1),
        (("alpha", 1.0), 1),
        (("task_complexity", 0.9), 1),
        (("mean_tokens", 600.0), -1),
        (("budget", 0.1), -1),
    ],
)
def test_the_heuristic_follower_moves_the_way_its_rules_say(change, sign):
    follower, (name, value) = HeuristicExecutor(), change
    signal = {"q": 0.7, "alpha": 0.3}
    before = follower.mean((signal["q"], signal["alpha"]), STATE)
    changed = signal | ({name: value} if name in signal else {})
    after = follower.mean((changed["q"], changed["alpha"]), STATE | {name: value})
    for a, b in zip(before, after, strict=True):
        assert sign * (b - a) > 0


def test_the_heuristic_follower_is_noisy_seeded_and_stays_in_the_cube():
    follower = HeuristicExecutor()
    draws = [follower.respond((0.9, 0.9), STATE, random.Random(s)) for s in range(300)]
    assert draws == [follower.respond((0.9, 0.9), STATE, random.Random(s)) for s in range(300)]
    assert len(set(draws)) > 250
    assert all(0 <= v <= 1 for draw in draws for v in draw)
    quiet = HeuristicExecutor(noise=0.0)
    assert quiet.respond((0.9, 0.9), STATE, random.Random(0)) == quiet.mean((0.9, 0.9), STATE)
    with pytest.raises(ValueError, match="signal"):
        follower.mean((math.nan, 0.5), STATE)
    with pytest.raises(ValueError, match="noise"):
        HeuristicExecutor(noise=-1.0)


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"executor/_{part}"
            for part in ("adapter", "executor", "heuristic", "server", "session")
        ),
        *("tasks/_tasks", "tasks/_tools", "log/_log"),
    ],
)
def test_real_turns_need_no_array_library_and_no_extra_at_import(name):
    source = (Path(adapter.__file__).parents[1] / f"{name}.py").read_text()
    modules = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])
    assert modules and not modules & {"jax", "flax", "numpy", "openai", "xllamacpp"}
