import json
import math
import threading
from typing import Any

import numpy as np
import pytest
from recording_upstream import LEAN, StubPolicy, eventually

from stackjax.agents.log._log import latest, read_log
from stackjax.runtime import FALLBACKS, DriftChart, Governor, Limits, Rollout, StopRule, Usage
from stackjax.runtime.gateway._bridge import Turn
from stackjax.runtime.governor._deadline import DeadlineExceeded, DeadlineWorker
from stackjax.runtime.governor._ledger import Account, Ledger
from stackjax.runtime.governor._metadata import SessionMetadata
from stackjax.runtime.policy._policy import Recommendation

TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}
PATIENT = Limits(deadline=5.0)


def governor(policy=None, mode="on", **options):
    options = {"limits": PATIENT, "rollout": Rollout(mode), **options}
    return Governor(policy or StubPolicy(), **options)


class Gated(StubPolicy):
    """Waits in every recommendation until the gate is opened, so that no test counts on a clock."""

    PATIENCE = 20.0

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()

    def recommend(self, numbers, task, previous):
        self.gate.wait(self.PATIENCE)
        return super().recommend(numbers, task, previous)


def test_the_share_of_governed_sessions_is_the_one_asked_for_and_sticks():
    rollout = Rollout("canary", 0.2)
    arms = [rollout.assign(f"s{i}") for i in range(4000)]
    share = np.mean([arm.arm == "governed" for arm in arms])
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 4000)
    assert {a.propensity for a in arms if a.arm == "governed"} == {0.2}
    assert {a.propensity for a in arms if a.arm == "untouched"} == {0.8}
    assert arms == [rollout.assign(f"s{i}") for i in range(4000)]
    wider = Rollout("canary", 0.5)
    assert all(
        wider.assign(f"s{i}").arm == "governed" for i, a in enumerate(arms) if a.arm == "governed"
    )
    other = [Rollout("canary", 0.2, "b").assign(f"s{i}").arm for i in range(4000)]
    both = np.mean([a.arm == b == "governed" for a, b in zip(arms, other)])
    assert both == pytest.approx(0.04, abs=0.02)


@pytest.mark.parametrize(
    ("mode", "share"),
    [("on", 0.5), ("canary", 0.0), ("canary", 1.0), ("ab", math.nan), ("loud", None)],
)
def test_a_wrong_rollout_is_refused(mode, share):
    with pytest.raises(ValueError, match="mode|share"):
        Rollout(mode, share)


def test_true_is_no_share():
    with pytest.raises(TypeError, match="`share` must be a number; got True"):
        Rollout("ab", True)


def test_each_mode_carries_out_what_it_should():
    with governor(mode="on") as on, governor(mode="shadow") as shadow, governor(mode="off") as off:
        told = {"identifier": "s", **TURN}
        made = on.decide(told)
        assert (made.response, made.arm, made.propensity, made.fallback) == (
            LEAN, "governed", 1.0, None,
        )  # fmt: skip
        seen = shadow.decide(told)
        assert seen.response is None and seen.recommended is not None
        assert seen.recommended.response == LEAN
        nothing = off.decide(told)
        assert nothing.response is None and nothing.recommended is None
        assert off.policy.calls == 0  # pyright: ignore
        off.set_rollout(Rollout("on"))
        assert off.decide(told).response == LEAN


class Imitation:
    """Says that it is an advice, and is none."""

    finite = converged = True


ODD = Recommendation((0.8, 0.5), (0.0, 0.0, math.nan), True, 0.0, 40.0, 100.0, 0.7, 0.7)


@pytest.mark.parametrize(
    ("code", "policy", "told"),
    [
        ("controller_error", {"error": RuntimeError("the prompt was: secret")}, {}),
        ("invalid_decision", {"advice": ODD}, {}),
        ("invalid_decision", {"advice": ODD._replace(response=(0.0, 0.0, 1.5))}, {}),
        ("invalid_decision", {"advice": "garbage"}, {}),
        ("invalid_decision", {"advice": Imitation()}, {}),
        ("not_converged", {"advice": ODD._replace(response=LEAN, converged=False)}, {}),
        ("missing_feature", {}, {"task_complexity": None}),
        ("missing_feature", {}, {"context_tokens": math.inf}),
        ("missing_feature", {}, {"task": "poetry"}),
        ("missing_feature", {}, {"task_complexity": "high"}),
        ("stale_calibration", {"time": "2001-01-01T00:00:00+00:00"}, {}),
        ("budget_alarm", {}, {"budget": 0.0}),
        ("outside_support", {}, {"context_tokens": 1e6}),
    ],
)
def test_whatever_goes_wrong_is_the_fallback_with_its_reason(code, policy, told):
    for cell in (None, (0.5, 0.5, 0.5)):
        with governor(StubPolicy(**policy), fallback=cell) as made:
            decision = made.decide({"identifier": "s", **TURN, **told})
            assert decision.reason == code and code in FALLBACKS
            # A spent budget binds: the request as it came would be the largest of all.
            assert decision.response == (LEAN if code == "budget_alarm" else cell)
            assert "secret" not in str(decision)
            assert made.metrics.value("fallbacks", code) == 1


def test_a_slow_controller_costs_the_deadline_and_no_more():
    policy = Gated()
    with governor(policy, limits=Limits(deadline=0.02)) as made:
        decision = made.decide({"identifier": "s", **TURN})
        assert decision.reason == "deadline" and decision.response is None
        assert decision.seconds < 0.5 * Gated.PATIENCE
        assert eventually(lambda: made.worker.stuck)
        assert "controller stuck" in made.health()["alarms"]
        for _ in range(50):
            refused = made.decide({"identifier": "s", **TURN}).fallback
            assert refused == ("deadline", "no thread is free"), "it is not waited for"
        policy.gate.set()
        assert eventually(lambda: not made.worker.stuck)
    assert policy.calls == 1


def test_deadline_worker_keeps_errors_and_refuses_what_it_cannot_hold():
    worker = DeadlineWorker(5.0, backlog=1)
    with pytest.raises(TimeoutError, match="its own"):
        worker.run(lambda: (_ for _ in ()).throw(TimeoutError("its own")))
    gate = threading.Event()
    blocked = worker.submit(lambda: gate.wait(10.0))
    assert eventually(blocked.running)
    worker.submit(lambda: None)
    with pytest.raises(DeadlineExceeded, match="full"):
        worker.submit(lambda: None)
    gate.set()
    assert eventually(blocked.done)
    worker.close()
    with pytest.raises(DeadlineExceeded):
        worker.run(lambda: 1)
    wrong: Any
    for wrong in ({"deadline": 0.0}, {"deadline": math.nan}, {"threads": 0}, {"backlog": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
            DeadlineWorker(**wrong)


def test_accounts_follow_the_recorded_sessions_rules():
    account = Account()
    account.finish(100, False)
    account.finish(160, False)
    account.rate(1.0)
    features = account.accounts.measured(1000.0)
    assert features["turn_index"] == 2 and features["mean_tokens"] == 130
    assert features["token_trend"] == pytest.approx(60 / 130)
    assert features["recent_quality"] == pytest.approx(0.7)
    assert features["budget"] == pytest.approx(0.74)
    account.finish(60, True)
    accounts = account.accounts
    assert account.answered == 2 and account.failures == 1 and accounts.model_condition == 0.5
    assert accounts.turn_index == 3 and accounts.total_tokens == 320
    assert accounts.recent_quality == pytest.approx(0.6 * 0.7)
    account.finish(10, False)
    assert account.accounts.model_condition == pytest.approx(0.65)


def test_the_ledger_is_bounded_in_number_and_time():
    now, closed = [0.0], []
    ledger = Ledger(2, 10.0, lambda key, account: closed.append(key), lambda: now[0])
    first = ledger.open("a")
    ledger.open("b")
    assert ledger.open("a") is first
    ledger.open("c")
    assert closed == ["b"] and len(ledger) == 2
    now[0] = 11.0
    assert ledger.open("a") is not first, "an idle session that comes back is a new one"
    assert closed == ["b", "a", "c"]
    ledger.close()
    assert closed[-1] == "a" and len(ledger) == 0
    with pytest.raises(ValueError, match="size"):
        Ledger(0)


def test_the_signal_and_the_accounts_reach_the_next_decision():
    seen = []

    class Watching(StubPolicy):
        def recommend(self, numbers, task, previous):
            seen.append((numbers["turn_index"], numbers["mean_tokens"], previous))
            return super().recommend(numbers, task, previous)

    with governor(Watching()) as made:
        for _ in range(2):
            made.observe(made.decide({"identifier": "s", **TURN}), Usage(30, 10))
        made.decide({"identifier": "t", **TURN})
    assert seen == [(0, 0, (0.775, 0.5)), (1, 40, (0.8, 0.5)), (0, 0, (0.775, 0.5))]


def test_the_drift_chart_finds_a_shift_and_stays_quiet_without_one():
    rng = np.random.default_rng(0)
    chart = DriftChart(0.0, 1.0)
    quiet = [chart.update(f"s{n % 40}", z) for n, z in enumerate(rng.normal(size=1000))]
    assert not any(quiet)
    shifted = enumerate(rng.normal(-1.5, 1.0, size=200))
    found = [chart.update(f"s{n % 40}", z) for n, z in shifted]
    assert found[-1] and 5 < found.index(True) < 60
    chart.reset()
    assert not chart.update("s", 1e9), "one outlier is no drift"
    assert not chart.update("s", math.nan)
    wrong: Any
    for wrong in ({"spread": 0.0}, {"wander": 0.5}, {"window": 1}, {"margin": 0.0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must"):
            DriftChart(**{"mean": 0.0, "spread": 1.0, **wrong})


def test_a_policy_or_a_leaving_session_that_raises_never_reaches_the_agent():
    class Broken(StubPolicy):
        @property
        def calibration(self):
            if self.calls < 0:
                raise OSError("gone")
            return self._kept

        @calibration.setter
        def calibration(self, made):
            self._kept = made

    policy = Broken()
    with governor(policy) as made:
        policy.calls = -1
        assert made.decide({"identifier": "s", **TURN}).reason == "controller_error"
        turn = Turn(made, {"identifier": "s", **TURN})
        assert turn.wait({"messages": [{"role": "user", "content": "hi"}]}).body is None

    def fails(key, account):
        raise ArithmeticError

    with governor(sessions=1) as made:
        made.observer.session_closed = fails
        for name in "ab":
            assert made.decide({"identifier": name, **TURN}).response == LEAN
        assert made.metrics.value("unrecorded") == 1


def test_turns_that_fail_more_often_are_harm():
    """Also where no turn of a governed session is answered, so that none has tokens or quality."""
    with governor(rollout=Rollout("ab")) as made:
        for number in range(600):
            name = f"s{number}"
            decision = made.decide({"identifier": name, **TURN})
            failed = decision.arm == "governed"
            made.observe(decision, Usage(0, 0, failure="http_500") if failed else Usage(60, 20))
            made.end(name)
        assert made.observer.harmed and made.rollout.mode == "shadow"


def test_numbers_of_numpy_are_numbers():
    with governor() as made:
        odd = {"context_tokens": np.int64(50), "task_complexity": np.float32(0.4)}
        assert made.decide({"identifier": "s", **TURN, **odd}).fallback is None


def test_drift_raises_the_alarm_and_only_a_reset_lowers_it():
    with governor() as made:
        for _ in range(12):
            decision = made.decide({"identifier": "s", **TURN, "turn_index": 1})
            made.observe(decision, Usage(400, 100))  # 40 were predicted
        assert made.decide({"identifier": "s", **TURN}).reason == "drift_alarm"
        assert made.health()["status"] == "degraded"
        made.observer.reset_drift()
        assert made.decide({"identifier": "s", **TURN}).fallback is None


def test_harm_ends_the_test_by_itself():
    with governor(rollout=Rollout("ab"), stop=StopRule(margin=0.05, minimum=20)) as made:
        for number in range(600):
            name = f"s{number}"
            decision = made.decide({"identifier": name, **TURN})
            made.observe(decision, Usage(60, 20, quality=float(decision.arm == "untouched")))
            made.end(name)
            made.observer.reset_drift()
            if made.observer.harmed:
                break
        assert made.observer.harmed and 40 <= number < 400
        assert made.rollout.mode == "shadow"
        assert "stopped for harm" in made.health()["alarms"]
        made.set_rollout(Rollout("ab"))
        assert not made.observer.harmed, "an operator may start again"


def test_records_are_read_by_the_turn_log_and_quality_may_come_later(tmp_path):
    path = tmp_path / "runtime.jsonl"
    with governor(log=path) as made:
        made.observe(made.decide({"identifier": "s", **TURN}), Usage(30, 10, model="m\ud800"))
        assert made.feedback("s", 0.9) and not made.feedback("t", 1.0)
        made.observe(made.decide({"identifier": "s", **TURN}), Usage(0, 0, failure="http_503"))
        for wrong in (1.5, -0.1, math.nan):
            with pytest.raises(ValueError, match=r"`quality` must lie in \[0, 1\]"):
                made.feedback("s", wrong)
        for wrong in ("good", True):
            with pytest.raises(TypeError, match="`quality` must be a number"):
                made.feedback("s", wrong)  # pyright: ignore[reportArgumentType]
        assert made.metrics.saved_tokens == 60
    rows = latest(read_log(path).records)
    assert rows[0].model == "m\ud800", "a lone surrogate ends no log"
    assert [row.turn for row in rows] == [0, 1]
    assert rows[0].extra["quality"] == 0.9 and rows[0].correct
    assert rows[0].extra["reference_tokens"] == 100 and rows[0].propensity == 1.0
    assert rows[1].fallback == "http_503" and not rows[1].answered
    shadow = [json.loads(x) for x in (tmp_path / "runtime.shadow.jsonl").read_text().splitlines()]
    assert set(shadow[0]) == {"time", "task", "action", "fallback", "quality"}
    assert len(shadow[0]["time"]) == 13


def test_wrong_input_is_refused_by_name():
    with governor() as made:
        with pytest.raises(TypeError, match="colour"):
            made.decide({"identifier": "s", "colour": 3})
        for wrong in ("", None, 7):
            with pytest.raises(ValueError, match="identifier"):
                SessionMetadata(wrong)  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="Rollout"):
            made.set_rollout("on")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="action"):
        Governor(StubPolicy(), fallback=(0.0, 2.0, 0.0))
    with pytest.raises(ValueError, match="tokens` must not be negative"):
        Usage(-1, 0)
    with pytest.raises(ValueError, match="deadline"):
        Limits(deadline=-1)
    with pytest.raises(ValueError, match="token_budget"):
        Limits(token_budget=0)
    wrong: Any
    for wrong in ({"deadline": math.inf}, {"budget_floor": math.nan}):
        with pytest.raises(ValueError, match="deadline|budget_floor"):
            Limits(**wrong)
    with pytest.raises(TypeError, match="`salt` must be a string; got 5"):
        Rollout("ab", salt=5)  # pyright: ignore[reportArgumentType]
    for wrong, error, match in (
        (("policies/first",), TypeError, "load_policy"),
        ((StubPolicy(), {"rollout": "on"}), TypeError, "Rollout"),
        ((StubPolicy(), {"fallback": 0.5}), ValueError, "`fallback` must be three"),
        ((StubPolicy(), {"log": "log.jsonl.gz"}), ValueError, ".jsonl"),
    ):
        with pytest.raises(error, match=match):
            Governor(wrong[0], **(wrong[1] if len(wrong) > 1 else {}))
