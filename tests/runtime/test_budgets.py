"""Budgets bind, survive restarts and pauses, and are shared by pools."""

import json
import subprocess
import sys

import numpy as np
import pytest
from agent_traffic import Agent
from recording_upstream import LEAN, StubPolicy, calibration, controller

from stackjax.runtime import Governor, Limits, Policy, Rollout, Usage
from stackjax.runtime.gateway._bridge import Turn

TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}


def governor(policy=None, mode="on", **limits):
    options = {k: limits.pop(k) for k in ("store", "idle") if k in limits}
    limits = Limits(**{"deadline": 30.0, "slack": 1e9, **limits})
    return Governor(policy or StubPolicy(), rollout=Rollout(mode), limits=limits, **options)


def growing_chat(made, turns):
    """Estimated lengths, came and sent, of the requests of a chat that grows by 170 tokens."""
    messages, lengths = [{"role": "system", "content": "word " * 60}], []
    for _ in range(turns):
        messages.append({"role": "user", "content": "why"})
        turn = Turn(made, {"identifier": "s", "task": "simple_qa"})
        plan = turn.wait({"model": "m", "messages": list(messages)})
        lengths.append(plan.estimates)
        turn.finish(Usage(plan.estimates[1], 10))
        messages.append({"role": "assistant", "content": "word " * 120})
    return lengths


def test_a_spent_budget_makes_no_request_larger():
    """It was 98, 98, 98 tokens, and 602, 775, 947 and 1119 once the budget was spent."""
    with governor(token_budget=300.0) as made:
        lengths = growing_chat(made, 8)
        assert made.metrics.value("fallbacks", "budget_alarm") >= 4
    came, sent = zip(*lengths)
    assert came[-1] > 10 * sent[0] and max(sent[1:]) == sent[1], "each as large as before"


@pytest.mark.parametrize("seed", range(4))
def test_after_the_budget_every_request_is_the_smallest_that_is_allowed(seed):
    """A random policy, random chats: from the first alarm on nothing but the cheapest cell."""
    cells = [(0.0, 0.0, 1.0), (0.5, 0.5, 1.0), (1.0, 1.0, 1.0)]
    rng = np.random.default_rng(seed)

    class Random(StubPolicy):
        def recommend(self, numbers, task, previous):
            advice = super().recommend(numbers, task, previous)
            return advice._replace(response=cells[rng.integers(3)], cheapest=cells[0])

    with governor(Random(), token_budget=4000.0) as made:
        agent = Agent(made, seed)
        agent.run(6)
        spent = [c for c in agent.calls if c["decision"].reason == "budget_alarm"]
        free = [c for c in agent.calls if c["decision"].fallback is None]
        assert spent and free
        assert {c["decision"].response for c in spent} == {cells[0]}
        assert all(c["sent"] <= c["came"] + 8 for c in spent), "never larger, but for the style"


def test_the_cheapest_allowed_cell_is_the_policys_own():
    policy = Policy(controller(), calibration())
    with governor(policy, token_budget=50.0) as made:
        told = {"identifier": "s", **TURN}
        made.observe(made.decide(told), Usage(60, 10))
        advice = policy.recommend(made.decide(told).features, "simple_qa", (0.8, 0.5))
        cells = np.asarray(policy.controller.actions.actions[0])
        from stackjax.agents.game._state import state_of

        state = state_of(made.decide(told).features, "simple_qa")
        costs = [float(policy.controller.surrogate.predict(state, cell)[1]) for cell in cells]
        assert advice.cheapest == tuple(cells[int(np.argmin(costs))])
        assert made.decide(told).response == advice.cheapest
        # Nothing is known of the request: the lowest of the cells that every state has.
        assert made.decide({"identifier": "s"}).response == policy.floor == LEAN


def test_a_hard_budget_refuses_with_the_numbers():
    with governor(token_budget=100.0, hard_budget=True) as made:
        told = {"identifier": "s", **TURN}
        first = made.decide(told)
        assert first.refusal is None
        made.observe(first, Usage(90, 12))
        second = made.decide(told)
        assert second.refusal == ("the token budget is spent (session: 102 of 100 tokens are used)")
        assert second.response is None and second.reason == "budget_alarm"
        assert made.metrics.value("refusals", "session") == 1
        assert made.decide({**told, "identifier": "t"}).refusal is None
        made.set_rollout(Rollout("shadow"))
        assert made.decide(told).refusal is None, "shadow mode touches nothing"
    late = Limits(token_budget=100.0, hard_budget=True, deadline=1e-9)
    with Governor(StubPolicy(), rollout=Rollout("on"), limits=late) as made:
        made.observe(made.judge(metadata("s")), Usage(90, 12))
        decision = made.decide({"identifier": "s", **TURN})
        assert decision.refusal is not None, "a decision that is late refuses too"


def metadata(name):
    from stackjax.runtime import SessionMetadata

    return SessionMetadata(name, **TURN)


def test_a_pool_is_shared_for_one_window():
    with governor(pool_budget=1000.0, pool_window=3600.0, hard_budget=True) as made:
        now = [1_800_000_000.0]
        made.budgets._clock = lambda: now[0]
        for number in range(5):
            told = {"identifier": f"s{number}", "pool": "a", **TURN}
            decision = made.decide(told)
            assert decision.refusal is None
            assert decision.features["budget"] == pytest.approx(1 - 0.2 * number)
            made.observe(decision, Usage(150, 50))
        refused = made.decide({"identifier": "new", "pool": "a", **TURN})
        assert refused.refusal is not None
        assert "pool: 1,000 of 1,000 tokens are used, until 2027-01-15T09:00:00" in refused.refusal
        assert made.decide({"identifier": "new", "pool": "b", **TURN}).refusal is None
        assert "a" not in json.dumps(made.memory.outcomes("x")), "no pool's name is written"
        now[0] += 3600.0
        assert made.decide({"identifier": "new", "pool": "a", **TURN}).refusal is None


def test_a_session_that_was_idle_has_the_budget_that_it_left():
    with governor(token_budget=100.0, idle=10.0) as made:
        now = [0.0]
        made.ledger._clock = lambda: now[0]
        made.observe(made.decide({"identifier": "s", **TURN}), Usage(90, 12))
        now[0] = 1000.0
        decision = made.decide({"identifier": "s", **TURN})
        assert decision.features["turn_index"] == 0, "another visit"
        assert decision.reason == "budget_alarm" and decision.response == LEAN


KILLED = """
import os, sys
sys.path.insert(0, "tests")
from recording_upstream import StubPolicy
from stackjax.runtime import Governor, Limits, Rollout, Usage
limits = Limits(deadline=30.0, token_budget=100.0)
made = Governor(StubPolicy(), rollout=Rollout("on"), limits=limits, store=sys.argv[1])
told = {"identifier": "s", "task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}
made.observe(made.decide(told), Usage(90, 12))
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_forgets_no_token(tmp_path):
    store = tmp_path / "governor.sqlite"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store)], timeout=120, check=False)
    assert killed.returncode == -9
    with governor(token_budget=100.0, store=store) as made:
        decision = made.decide({"identifier": "s", **TURN})
        assert decision.reason == "budget_alarm" and decision.features["turn_index"] == 1


def test_the_proxys_options_reach_the_governor(tmp_path):
    """By the command line and by the file of options."""
    from stackjax.runtime.proxy import parsed

    path = tmp_path / "proxy.toml"
    path.write_text('upstream = "http://127.0.0.1:1/v1"\npolicy = "p"\nhard-budget = true\n')
    args = parsed(["--config", str(path), "--store", "g.sqlite", "--pool-budget", "5"])
    assert args.hard_budget and args.pool_budget == 5.0 and args.store.name == "g.sqlite"
    path.write_text("hard-budget = 1\n")
    with pytest.raises(SystemExit):
        parsed(["--config", str(path)])
