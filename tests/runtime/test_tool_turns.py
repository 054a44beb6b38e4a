"""A turn is all model calls up to the next user message; tools stay while it may need them."""

import numpy as np
import pytest
from agent_traffic import Agent
from recording_upstream import LEAN, StubPolicy

from stackjax.agents.log._log import read_log
from stackjax.runtime import Behaviour, Governor, Limits, Rollout, SessionMetadata, Usage
from stackjax.runtime.governor._ledger import Account
from stackjax.runtime.report._summary import read_runtime, summarise

TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}
MIXED = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


def governor(policy=None, mode="on", **options):
    options = {"limits": Limits(deadline=30.0, slack=1e9), **options}
    return Governor(policy or StubPolicy(token_spread=99.0), rollout=Rollout(mode), **options)


class Changing(StubPolicy):
    """Another cell at each question."""

    unit = "turn"

    def recommend(self, numbers, task, previous):
        advice = super().recommend(numbers, task, previous)
        return advice._replace(response=MIXED[self.calls % 3])


@pytest.mark.parametrize("unit", ["turn", "call"])
def test_a_policy_is_asked_once_for_each_of_its_units(unit, tmp_path):
    policy = Changing(token_spread=99.0)
    policy.unit = unit
    log = tmp_path / "run.jsonl"
    with governor(
        policy, log=log, limits=Limits(deadline=30.0, slack=1e9, keep_tools=False)
    ) as made:
        agent = Agent(made, 0)
        agent.run(12)
        count = {"turn": len(agent.turns), "call": len(agent.calls)}
        assert count["call"] > 1.4 * count["turn"]
        assert policy.calls == count[unit] == sum(made.metrics.by_label("turns").values())
        assert made.metrics.value("calls", "governed") == count["call"]
    rows = read_runtime([log])[0]
    assert len(rows) == count[unit]
    for turn in agent.turns if unit == "turn" else []:
        assert len({call["decision"].response for call in turn}) == 1, "served as fitted"
    wanted = agent.turns if unit == "turn" else [[call] for call in agent.calls]
    for row, turn in zip(rows, wanted):
        assert row.prompt_tokens == sum(call["sent"] for call in turn)
        assert row.extra["calls"] == len(turn)
    (summary,) = summarise(rows)
    assert summary.calls == len(agent.calls)


def test_a_turn_that_is_answered_late_or_never_is_still_one(tmp_path):
    """Two turns of one session at once, a call without its answer, and a failure made good."""
    log = tmp_path / "run.jsonl"
    with governor(log=log) as made:
        ask = lambda calls=0, earlier=0: made.judge(
            SessionMetadata("s", calls=calls, earlier_turns=earlier, **TURN)
        )
        first, second = ask(), ask()
        made.observe(second, Usage(10, 1))
        made.observe(first, Usage(20, 2))
        ask(earlier=2)  # its answer never comes
        third = ask(earlier=3)
        made.observe(third, Usage(30, 3, tool_calls=1))
        made.observe(ask(1, 3), Usage(40, 0, failure="http_503"))
        made.observe(ask(1, 3), Usage(40, 4))
        account = made.ledger.peek(made.pseudonym("s"))
        assert account is not None and account.failures == 0
        assert account.accounts.turn_index == 3 and account.accounts.total_tokens == 150
        assert account.accounts.last_tokens == 117
    rows = read_runtime([log])[0]
    assert [(r.prompt_tokens, r.extra["calls"], r.fallback) for r in rows] == [
        (10, 1, None), (20, 1, None), (110, 3, None)
    ]  # fmt: skip
    assert len(read_log(log).records) == 5, "each call is on the disk before the next"


def test_an_account_is_written_and_read_alike():
    with governor() as made:
        rng = np.random.default_rng(0)
        for number in range(20):
            calls = int(rng.integers(2))
            session = SessionMetadata("s", calls=calls, earlier_turns=number, **TURN)
            usage = Usage(int(rng.integers(99)), 3, tool_calls=int(rng.integers(2)))
            made.observe(made.judge(session), usage)
            if rng.random() < 0.5:
                made.feedback("s", float(rng.random()))
            account = made.ledger.peek(made.pseudonym("s"))
            assert account is not None
            assert Account.unpack(account.pack(), account.version, account.last_seen) == account


def needed(calls):
    behaviour = Behaviour((calls,) * 6, 0.9, 4.0, 9.0, 0.0)
    return StubPolicy(behaviour=behaviour, token_spread=99.0)


def test_tools_stay_until_a_turn_has_made_the_calls_that_it_may_need():
    told = {"tools": True, "earlier_turns": 0, **TURN}
    with governor(needed(2)) as made:
        for calls, response in ((0, (0.0, 0.0, 1.0)), (1, (0.0, 0.0, 1.0)), (2, LEAN)):
            session = SessionMetadata("s", calls=calls, tool_calls=calls, **told)
            decision = made.judge(session)
            assert decision.response == response
            made.observe(decision, Usage(50, 5, tool_calls=int(calls < 2)))
        assert made.judge(SessionMetadata("t", **{**told, "tools": False})).response == LEAN
        bare = {"identifier": "u", "tools": True}
        assert made.judge(SessionMetadata(**bare)).response is None
    unknown = StubPolicy(token_spread=99.0)
    with governor(unknown) as made:
        for calls in range(9):
            session = SessionMetadata("s", calls=calls, tool_calls=calls, **told)
            assert made.judge(session).response == (0.0, 0.0, 1.0), "nothing is known: they stay"
    with governor(unknown, limits=Limits(deadline=30.0, keep_tools=False)) as made:
        assert made.judge(SessionMetadata("s", calls=0, **told)).response == LEAN
    spent = Limits(deadline=30.0, token_budget=1.0)
    with governor(unknown, limits=spent) as made:
        made.observe(made.judge(SessionMetadata("s", calls=0, **told)), Usage(9, 9))
        found = made.judge(SessionMetadata("s", calls=0, **told))
        assert found.reason == "budget_alarm" and found.response == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_no_agent_loses_its_tools_by_a_lean_policy(seed):
    """u = 0 made a chatbot of every tool agent, with HTTP 200."""
    with governor() as made:
        agent = Agent(made, seed, tools=1.0)
        agent.run(8)
        assert agent.governed == 1.0 and all(call["tools"] for call in agent.calls)


def test_a_cell_that_is_predicted_to_cost_more_is_not_carried_out():
    worse = StubPolicy()._advice._replace(tokens=120.0, untouched_tokens=100.0)
    with governor(StubPolicy(advice=worse)) as made:
        decision = made.decide({"identifier": "s", **TURN})
        assert decision.response == (1.0, 1.0, 1.0) and decision.fallback is None
        made.observe(decision, Usage(90, 10))
        assert made.metrics.saved_tokens == 0
