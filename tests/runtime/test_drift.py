"""Drift is a state: it holds its level on dependent residuals, is found, and passes."""

import dataclasses
import math

import numpy as np
import pytest
from recording_upstream import LEAN, StubPolicy, controller
from synthetic_turns import synthetic_log

from stackjax.agents.log._turns import turn_arrays
from stackjax.runtime import (
    Behaviour,
    DriftChart,
    Governor,
    Limits,
    Rollout,
    SessionMetadata,
    Usage,
    measure_residuals,
)
from stackjax.runtime.policy._drift import wander_of

TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}


def dependent(rng, turns, *, running=8, shift=0.0):
    """Residuals of sessions that come interleaved: each has a level of its own, follows its last
    turn with correlation 0.95, and jumps now and then. Standard deviation 1, mean `shift`."""
    levels, ages, names, found = {}, {}, list(range(running)), []
    for number in range(turns):
        place = int(rng.integers(running))
        if number == 0 or ages.get(names[place], 0) > rng.geometric(1 / 15):
            names[place] = number + running
        name = names[place]
        fresh = rng.standard_t(4) / math.sqrt(2)
        last = levels.get(name)
        levels[name] = fresh if last is None else 0.95 * last + math.sqrt(1 - 0.95**2) * fresh
        ages[name] = ages.get(name, 0) + 1
        found.append((f"s{name}", levels[name] + shift))
    return found


def page(residuals, slack=0.5, threshold=8.0):
    """Whether Page's cumulative sums, made for independent residuals, ever raise an alarm."""
    high = low = 0.0
    for _, z in residuals:
        z = min(max(z, -4.0), 4.0)
        high, low = max(0.0, high + z - slack), max(0.0, low - z - slack)
        if max(high, low) > threshold:
            return True
    return False


def test_the_alarm_holds_its_level_on_dependent_residuals():
    rng = np.random.default_rng(0)
    up, ever, sums, count, length = 0, 0, 0, 60, 1500
    for _ in range(count):
        traffic, chart = dependent(rng, length), DriftChart(0.0, 1.0)
        alarms = sum(chart.update(*turn) for turn in traffic)
        up, ever, sums = up + alarms, ever + (alarms > 0), sums + page(traffic)
    assert sums > 0.9 * count, "the test that assumes independence cries wolf on all of it"
    assert ever <= 2 and up < 0.001 * count * length


def test_a_shift_is_found_and_passes():
    rng = np.random.default_rng(1)
    for shift in (-2.0, 2.0):
        chart = DriftChart(0.0, 1.0)
        assert not any(chart.update(*turn) for turn in dependent(rng, 500))
        moved = [chart.update(f"m{n}", z) for n, z in dependent(rng, 400, shift=shift)]
        assert moved[-1] and moved.index(True) < 250
        back = [chart.update(f"b{n}", z) for n, z in dependent(rng, 700)]
        assert not back[-1] and back.index(False) < 500


def test_an_alarm_that_comes_back_stays_longer_each_time():
    chart, lasted = DriftChart(0.0, 1.0), []
    for cycle in range(6):
        number = 0
        while not chart.update(f"{cycle}-{number % 40}", 5.0):
            number += 1
        number = 0
        while chart.update(f"{cycle}c{number % 40}", 0.0):
            number += 1
        lasted.append(number)
    assert lasted == sorted(lasted) and lasted[-1] > lasted[0] + 16


def test_no_alarm_on_the_traffic_of_the_calibration():
    """Quiet weeks and loud weeks: independent sessions would never wander that far."""
    rng = np.random.default_rng(2)
    sessions, residuals = [], []
    for number in range(600):
        loud = (number // 100) % 2
        sessions += [f"s{number}"] * 3
        residuals += (1.5 * loud + 0.5 * rng.normal(size=3)).tolist()
    mean, spread = float(np.mean(residuals)), float(np.std(residuals))
    wander = wander_of(sessions, residuals, mean, spread)
    for factor, expected in ((wander, False), (1.0, True)):
        chart = DriftChart(mean, spread, wander=factor)
        found = [chart.update(*turn) for turn in zip(sessions, residuals)]
        assert any(found) is expected
    rows = synthetic_log(3, random=40, heuristic=0, factorial=0)
    twice = [
        dataclasses.replace(r, prompt_tokens=3 * r.prompt_tokens) for r in rows[len(rows) // 2 :]
    ]
    turns = turn_arrays([*rows[: len(rows) // 2], *twice])
    found = measure_residuals(controller().surrogate, turns)
    assert found.token_wander > 1.0


def turn(made, name, usage, **told):
    decision = made.judge(SessionMetadata(name, **{**TURN, **told}))
    made.observe(decision, usage)
    return decision


def governor(policy, mode="on", **limits):
    return Governor(policy, rollout=Rollout(mode), limits=Limits(deadline=30.0, **limits))


def test_good_traffic_lowers_the_alarm_and_an_operator_may_do_so():
    """Six of 36 calls were governed, for good: no traffic, mode or endpoint cleared the alarm."""
    advice = StubPolicy()._advice._replace(untouched_tokens=100.0, untouched_quality=0.7)
    with governor(StubPolicy(advice=advice)) as made:
        for number in range(40):
            turn(made, f"bad{number}", Usage(4000, 100))
        assert made.observer.drifting == ("tokens",)
        assert turn(made, "s", Usage(4000, 100)).response is None
        reasons = []
        for number in range(60):
            decision = made.judge(SessionMetadata(f"good{number}", **TURN))
            reasons.append(decision.reason)
            made.observe(decision, Usage(90 if decision.response is None else 30, 10))
        assert reasons[0] == "drift_alarm" and reasons[-20:] == [None] * 20
        for number in range(40):
            turn(made, f"worse{number}", Usage(4000, 100))
        assert made.observer.drifting
        made.reset_alarms()
        assert turn(made, "fresh", Usage(90, 10)).response == LEAN


BEHAVIOUR = Behaviour((2,) * 6, 0.9, math.log1p(20), 0.4, 0.0)


def test_turns_that_stop_calling_tools_end_the_governing():
    """1,500 sessions of an agent that had become a chatbot read `ok`."""
    policy = StubPolicy(behaviour=BEHAVIOUR, token_spread=9.0)
    with governor(policy, keep_tools=False) as made:
        for number in range(60):
            told = {"tools": True, "calls": 0}
            decision = turn(made, f"s{number}", Usage(90, 20), **told)
            if decision.fallback is not None:
                break
        assert number < 12 and decision.reason == "drift_alarm"
        assert made.observer.drifting == ("tool_use",)
        assert "drift: tool_use" in made.health()["alarms"]
        governed = []
        for number in range(60):  # left alone, it calls its tools again
            name = f"t{number}"
            first = turn(made, name, Usage(90, 5, tool_calls=1), tools=True, calls=0)
            turn(made, name, Usage(120, 20), tools=True, calls=1, tool_calls=1)
            governed.append(first.fallback is None)
        assert any(governed), "the alarm passes"


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("answer_length", {"completion_tokens": 2}),
        ("answer_length", {"completion_tokens": 900}),
        ("refusals", {"completion_tokens": 20, "refused": True}),
    ],
)
def test_short_answers_and_refusals_end_it_too(name, usage):
    told = dataclasses.replace(BEHAVIOUR, tool_share=0.0)
    with governor(StubPolicy(behaviour=told, token_spread=99.0)) as made:
        for number in range(40):
            turn(made, f"s{number}", Usage(**{"prompt_tokens": 90, **usage}))
        assert made.observer.drifting == (name,)


def test_shadow_turns_do_not_move_how_governed_turns_end():
    policy = StubPolicy(behaviour=BEHAVIOUR, token_spread=99.0)
    with governor(policy, "shadow") as made:
        for number in range(40):
            turn(made, f"s{number}", Usage(90, 900))
        assert made.observer.drifting == ()
