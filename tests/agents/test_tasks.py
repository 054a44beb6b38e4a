"""Generators, checks and tools: every gold is reachable, every check can fail."""

import itertools
import random
import re
from collections import Counter

import pytest

from stackjax.agents.tasks._families import FAMILIES
from stackjax.agents.tasks._tasks import (
    MAX_TURNS,
    MIN_TURNS,
    TASK_TYPES,
    Turn,
    is_correct,
    make_episode,
)
from stackjax.agents.tasks._tools import ToolCall, evaluate, find_call, run_call, search_notes

EPISODES = [make_episode(3, index) for index in range(150)]
TURNS = [turn for episode in EPISODES for turn in episode.turns]


def turn(check: str, gold: str) -> Turn:
    return Turn("simple_qa", "recall", (), "?", gold, check, 0.5, gold)


def test_episodes_depend_on_seed_and_index_only():
    random.seed(1)
    again = [make_episode(3, index) for index in range(10)]
    assert again == EPISODES[:10]
    assert len({make_episode(seed, 0) for seed in range(20)}) == 20
    assert len({episode.name for episode in EPISODES}) == len(EPISODES)
    with pytest.raises(ValueError, match="index"):
        make_episode(0, -1)


def test_episodes_mix_task_types():
    for episode in EPISODES:
        assert MIN_TURNS <= len(episode.turns) <= MAX_TURNS
        assert len({turn.task for turn in episode.turns}) >= 3
    assert {len(episode.turns) for episode in EPISODES} == set(range(MIN_TURNS, MAX_TURNS + 1))
    assert {turn.task for turn in TURNS} == set(TASK_TYPES)
    assert {turn.family for turn in TURNS} == set(FAMILIES)


def test_reference_replies_are_correct_and_other_golds_are_not():
    failing = Counter()
    for family in FAMILIES:
        turns = [turn for turn in TURNS if turn.family == family]
        for one in turns:
            assert is_correct(one, one.reference), one
            assert not is_correct(one, ""), one
            assert not is_correct(one, "I do not know."), one
        for one, other in itertools.pairwise(turns):
            if one.gold != other.gold:
                failing[family] += not is_correct(one, other.reference)
    assert set(failing) == set(FAMILIES), "replies to other questions fail in every family"


def test_some_questions_need_a_note_of_an_earlier_turn():
    needs = Counter()
    for episode in EPISODES:
        for position, one in enumerate(episode.turns):
            earlier = " ".join(n for t in episode.turns[:position] for n in t.notes)
            if "earlier" in one.question:
                needs[one.family] += 1
                assert not one.notes
                if one.family in ("recall", "table_lookup", "table_day"):
                    assert re.search(rf"\b{one.gold}\b", earlier), one
    assert set(needs) == {"recall", "price", "table_lookup", "table_day", "table_sum"}


def test_what_needs_notes_cannot_be_read_off_the_question():
    for one in TURNS:
        if one.family in ("recall", "table_lookup", "table_day", "table_sum", "greeting"):
            assert not re.search(rf"\b{one.gold}\b", one.question), one


def test_a_pending_tool_call_is_no_answer():
    assert is_correct(turn("number", "28"), "phones on Tuesday 28")
    assert not is_correct(turn("number", "28"), "FIND: phones Tuesday 28")
    assert not is_correct(turn("number", "28"), "CALC: 14 * 2 = 28")


def test_complexity_is_a_function_of_the_question():
    for one in TURNS:
        assert 0.0 <= one.complexity <= 1.0
    by_pattern: dict[str, set[float]] = {}
    for one in TURNS:
        if one.family in ("recall", "price", "table_lookup", "table_day", "table_sum"):
            key = f"{one.family} {'earlier' in one.question}"
            by_pattern.setdefault(key, set()).add(one.complexity)
    assert all(len(values) == 1 for values in by_pattern.values()), by_pattern


def test_items_identify_content():
    content = {}
    for one in TURNS:
        same = content.setdefault(one.item, (one.family, one.notes, one.question, one.gold))
        assert same == (one.family, one.notes, one.question, one.gold)
    assert len(content) == len(set(content.values()))


@pytest.mark.parametrize(
    ("check", "gold", "right", "wrong"),
    [
        (
            "word",
            "Rome",
            ["rome", "It is Rome.", "**Rome**"],
            ["Romeo", "Oslo", "word " * 13 + "Rome"],
        ),
        (
            "number",
            "84",
            ["84", "14 * 6 = 84.", "84.0", "84 coins"],
            ["840", "84 of 90", "-84", "x"],
        ),
        ("number", "1200", ["1,200", "1200 coins"], ["1 200 3", "12.00"]),
        (
            "expression",
            "x * 3 + 4",
            ["x*3+4", "4 + 3*x", "`3 * x + 4`", "y = x*3+4"],
            ["x*3", "25"],
        ),
        ("expression", "x / 5", ["x / 5", "x/5.0"], ["x // 5", "x / 5 = 2", "__import__('os')"]),
        (
            "form",
            "Tom | 31 | Rome",
            ["tom|31|rome", "Tom | 31 | Rome."],
            ["Tom | 13 | Rome", "Tom"],
        ),
        ("contains", "dog boat", ["The boat has a dog."], ["A dog.", "dog boat " + "and " * 30]),
    ],
)
def test_checks(check, gold, right, wrong):
    for reply in right:
        assert is_correct(turn(check, gold), reply), reply
    for reply in wrong:
        assert not is_correct(turn(check, gold), reply), reply


def test_constraint_only_families_are_the_ones_without_an_honest_check():
    constrained = {"compose", "greeting"}
    assert {FAMILIES[name].task for name in constrained} == {"text_writing", "casual_chat"}
    assert {one.check for one in TURNS if one.family in constrained} == {"contains"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("12 * 7", 84), ("-(3 + 4) ** 2", -49), ("7 // 2 + 7 % 4", 6), ("1e3 / 8", 125), ("+2", 2)],
)
def test_the_calculator_computes(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "x + 1",
        "True",
        "'a' * 3",
        "(1).real",
        "__import__('os')",
        "[1][0]",
        "1 / 0",
        "0 ** -1",
        "(-8) ** 0.5",
        "9 ** 99",
        "9 ** 9 ** 9 ** 9",
        "999999 ** 12",
        "1e999",
        "9" * 121,
        "1+" * 30 + "1",
        "lambda: 1",
        "1 if 2 else 3",
        "1\n2",
    ],
)
def test_the_calculator_refuses(text):
    with pytest.raises(ValueError):
        evaluate(text)
    assert run_call(ToolCall("CALC", text), []) == "error"


def test_calls_are_found_only_on_a_line_of_their_own():
    assert find_call("CALC: 3 * 4") == ToolCall("CALC", "3 * 4")
    assert find_call("I see.\n FIND:  home town ") == ToolCall("FIND", "home town")
    for text in ("", "42", "use CALC: 3", "calc: 3", "CALC:", "EXEC: ls"):
        assert find_call(text) is None, text


def test_the_calculator_evaluates_what_the_model_wrote_even_when_it_is_wrong():
    assert run_call(ToolCall("CALC", "19 * 21 = 321."), []) == "399"
    assert run_call(ToolCall("CALC", "7 \u00d7 6"), []) == "42"
    assert run_call(ToolCall("CALC", "7 / 4"), []) == "1.75"
    assert run_call(ToolCall("CALC", "seven"), []) == "error"


def test_the_search_returns_the_newest_best_note():
    notes = ["My home town is Oslo.", "A pen costs 4 coins.", "My home town is Rome."]
    assert search_notes("home town", notes) == "My home town is Rome."
    assert search_notes("pen", notes) == "A pen costs 4 coins."
    assert search_notes("4", notes) == "nothing found", "numbers are not looked up"
    assert search_notes("price of tea", notes) == "nothing found"
    assert search_notes("pen", []) == "nothing found"
