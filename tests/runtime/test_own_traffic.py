"""Shadow, calibrate, govern: on an agent's own traffic, and what is reported of it."""

import re

import numpy as np
import pytest
from agent_traffic import Agent
from recording_upstream import StubPolicy, calibration, controller

from stackjax.agents.log._log import read_log
from stackjax.runtime import (
    Governor,
    Limits,
    Policy,
    Rollout,
    SessionMetadata,
    Usage,
    load_policy,
    recalibrated,
    save_policy,
)
from stackjax.runtime.__main__ import main
from stackjax.runtime.report._savings import Prices, measured_saving
from stackjax.runtime.report._summary import read_runtime, summarise

LIMITS = Limits(deadline=30.0)
TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}


@pytest.fixture(scope="module")
def policy():
    return Policy(controller(), calibration())


@pytest.fixture(scope="module")
def shadow(policy, tmp_path_factory):
    """The log of 60 sessions that nobody touched or rated."""
    log = tmp_path_factory.mktemp("traffic") / "shadow.jsonl"
    with Governor(policy, limits=LIMITS, log=log) as made:
        agent = Agent(made, 0)
        agent.run(60)
    assert agent.governed < 0.2, "a policy that was calibrated elsewhere does not know this traffic"
    return log


def test_one_command_calibrates_and_the_traffic_is_governed(policy, shadow, tmp_path, capsys):
    """It raised without ratings; with every turn rated 11 of 48 turns were governed."""
    saved, out = save_policy(policy, tmp_path / "policy"), tmp_path / "calibrated"
    assert main(["calibrate", str(shadow), "--policy", str(saved), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"of them rated +0: quality is not watched", printed)
    assert re.search(r"within the calibrated ranges +100.0%", printed)
    made = load_policy(out)
    turns = {record.extra["turn_id"] for record in read_log(shadow).records}
    assert made.calibration.turns == len(turns)
    with Governor(policy, rollout=Rollout("on"), limits=LIMITS) as governor:
        Agent(governor, 1).run(10, "before")
        assert governor.observer.drifting == ("tokens",)
        governor.set_policy(made)  # without a restart
        shares = []
        for seed in range(1, 6):
            agent = Agent(governor, seed)
            agent.run(60, f"after{seed}")
            shares.append(agent.governed)
        assert min(shares) >= 0.95 and governor.observer.drifting == ()
        assert sum(c["sent"] for c in agent.calls) < 0.95 * sum(c["came"] for c in agent.calls)
        other = Agent(governor, 9, scale=5.0)
        other.run(40, "other")
        assert other.governed < 0.5, "other traffic is seen as such"


def test_the_commands_errors_are_one_line(policy, shadow, tmp_path, capsys):
    saved = save_policy(policy, tmp_path / "policy")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "forged.jsonl").write_text('{"\\u001b[2J": 1}\n')
    command = ["calibrate", "--policy", str(saved), "--out", str(tmp_path / "out")]
    for arguments, message in (
        ([str(tmp_path / "empty.jsonl")], "must hold turns of a runtime; got 0 others"),
        ([str(tmp_path / "absent.jsonl")], "No such file"),
        ([str(tmp_path / "forged.jsonl")], "line 1"),
        ([str(shadow), "--expect", "0000"], "digest of all parts"),
    ):
        assert main([*command, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "\x1b" not in error
    assert not (tmp_path / "out").exists()


def test_set_policy_takes_what_fits_only(policy, shadow):
    again = recalibrated(policy, read_log(shadow).records)
    with Governor(policy, limits=LIMITS) as made:
        made.set_policy(again)
        assert made.health()["fingerprint"]["calibration"] == again.fingerprint["calibration"][:12]
        with pytest.raises(TypeError, match="load_policy"):
            made.set_policy("policies/first")  # pyright: ignore[reportArgumentType]
        foreign = StubPolicy()
        foreign.fingerprint["adapter"] = "0" * 64
        with pytest.raises(ValueError, match="`adapter` must be that of the policy"):
            made.set_policy(foreign)
        assert made.policy is again


def unchanged():
    """A policy that recommends what the agent does anyway, and predicts 100 tokens for it."""
    advice = StubPolicy((1.0, 1.0, 1.0))._advice
    same = advice._replace(tokens=100.0, reference_tokens=100.0, untouched_tokens=100.0)
    return StubPolicy(advice=same, token_spread=99.0)


@pytest.mark.parametrize("mode", ["shadow", "canary", "ab", "on"])
def test_a_policy_that_changes_nothing_saves_nothing(mode, tmp_path, capsys):
    """It read 39.4% [39.4%, 39.4%], and -1987% where prompts were long."""
    log = tmp_path / "run.jsonl"
    with Governor(unchanged(), rollout=Rollout(mode), limits=LIMITS, log=log) as made:
        for number in range(60):
            for tokens in (60, 2087):
                decision = made.judge(SessionMetadata(f"s{number}", **TURN))
                made.observe(decision, Usage(tokens, 0))
        assert made.metrics.saved_tokens == 0
        assert made.health()["estimated_saved_tokens"] == 0
        agent = Agent(made, 0)
        agent.run(30)
        assert all(call["sent"] == call["came"] for call in agent.calls)
    (summary,) = summarise(read_runtime([log])[0], prices=Prices(2.0, 0.5, 8.0))
    assert summary.estimate is not None and summary.estimate == (0.0, 0.0, 0.0)
    for found in (summary.saving, summary.cost_saving):
        assert found == ((0.0, 0.0, 0.0) if mode in ("canary", "ab") else None)
    assert main(["report", str(log), "--out", str(tmp_path / "r")]) == 0
    printed = capsys.readouterr().out
    assert all(float(x) == 0 for x in re.findall(r"tokens saved.*?(-?[\d.]+)%", printed))
    assert ("not measured" in printed) == (mode in ("shadow", "on"))


def test_the_measured_saving_covers_the_true_one_at_all_times():
    """Against simulation: 30% saved by sessions of very different lengths; nobody's predictions."""
    rng, missed, runs = np.random.default_rng(0), 0, 60
    for _ in range(runs):
        governed = rng.random(300) < 0.3
        used = rng.gamma(2.0, 200.0, size=300) * np.where(governed, 0.7, 1.0)
        out = False
        for count in range(60, 301, 20):
            found = measured_saving(used[:count], governed[:count], np.full(count, 0.3))
            out |= not found.low <= 0.3 <= found.high
        missed += out
    assert missed <= 0.05 * runs + 3 * np.sqrt(0.05 * 0.95 * runs)
    large = rng.random(6000) < 0.5
    used = rng.gamma(2.0, 200.0, size=6000) * np.where(large, 0.7, 1.0)
    found = measured_saving(used, large, np.full(6000, 0.5))
    assert found.low > 0.2 and found.high < 0.4 and found.estimate == pytest.approx(0.3, abs=0.03)
    few = measured_saving(np.ones(5), np.ones(5, bool), np.full(5, 0.5))
    assert np.isnan(few.estimate) and few.low == -np.inf


def test_each_kind_of_token_has_its_price(tmp_path):
    """Governing that breaks a cached prefix may save tokens and cost more."""
    log = tmp_path / "run.jsonl"
    policy = StubPolicy(token_spread=99.0)
    options = {"rollout": Rollout("ab"), "limits": LIMITS, "stop": None, "log": log}
    rng = np.random.default_rng(0)
    with Governor(policy, **options) as made:
        for number in range(300):
            decision = made.judge(SessionMetadata(f"s{number}", **TURN))
            length = int(rng.integers(90, 110))
            if decision.response is None:
                made.observe(decision, Usage(10 * length, 10, cached_tokens=9 * length))
            else:
                made.observe(decision, Usage(7 * length, 10))
    (summary,) = summarise(read_runtime([log])[0], prices=Prices(2.0, 0.2, 8.0))
    assert summary.saving is not None and summary.cost_saving is not None
    assert summary.saving.low > 0.2 and summary.cost_saving.high < 0
    fresh, cached, written = summary.kinds["untouched"]
    assert cached == pytest.approx(9 * fresh) and written == 10
    assert summary.cost is not None
    assert summary.cost["untouched"] == pytest.approx((2.0 * fresh + 0.2 * cached + 8.0 * 10) / 1e6)
    with pytest.raises(ValueError, match="`cached_tokens` must"):
        Usage(10, 1, cached_tokens=11)
