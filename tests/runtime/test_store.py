"""What outlives a process, and what several governors agree on."""

import sqlite3
import stat
import threading

import pytest
from recording_upstream import LEAN, StubPolicy

from stackjax.agents.log._log import read_log
from stackjax.runtime import Governor, Limits, Rollout, SessionMetadata, StopRule, Usage
from stackjax.runtime.governor._memory import Memory
from stackjax.runtime.report._summary import read_runtime, summarise

TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}


def governor(store=None, mode="on", **options):
    options = {"limits": Limits(deadline=30.0), "rollout": Rollout(mode), **options}
    return Governor(options.pop("policy", None) or StubPolicy(), store=store, **options)


def turn(made, name, usage=None, **told):
    decision = made.judge(SessionMetadata(name, **{**TURN, **told}))
    made.observe(decision, usage or Usage(30, 10))
    return decision


@pytest.fixture
def store(tmp_path):
    return tmp_path / "deep" / "governor.sqlite"


def test_a_restart_goes_on_with_the_sessions(store, tmp_path):
    log = tmp_path / "run.jsonl"
    for number in range(5):
        with governor(store, log=log) as made:
            decision = turn(made, "s", Usage(40, 10 * number))
            assert decision.features["turn_index"] == number
    with governor(store, log=log) as made:
        assert made.feedback("s", 0.25), "the last turn may be rated after a restart"
        assert made.decide({"identifier": "s", **TURN}).features["mean_tokens"] == 60
    rows = read_runtime([log])[0]
    assert [row.turn for row in rows] == [0, 1, 2, 3, 4] and len({r.episode for r in rows}) == 1
    assert rows[-1].extra["quality"] == 0.25
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


def test_a_session_that_is_idle_loses_no_turn(tmp_path):
    """15 turns were written and 3 reported: the numbers began again after each pause."""
    log = tmp_path / "run.jsonl"
    with governor(log=log, idle=10.0) as made:
        now = [0.0]
        made.ledger._clock = lambda: now[0]
        for _ in range(5):
            for _ in range(3):
                turn(made, "s")
                now[0] += 1.0
            now[0] += 100.0
    assert {row.turn for row in read_log(log).records} == {0, 1, 2}
    (summary,) = summarise(read_runtime([log])[0])
    assert summary.turns == 15 and summary.sessions == 1


def harm(made, sessions, prefix="s"):
    for number in range(sessions):
        name = f"{prefix}{number}"
        decision = made.judge(SessionMetadata(name, **TURN))
        made.observe(decision, Usage(60, 20, quality=float(decision.arm == "untouched")))
        made.end(name)
        made.reset_alarms()
        if made.observer.harmed:
            return


def test_a_stop_for_harm_stays_stopped(store):
    rule = StopRule(margin=0.05, minimum=20)
    with governor(store, "ab", stop=rule) as made:
        harm(made, 30)
        assert not made.observer.harmed
        entered = len(made.observer.experiment._outcomes)
    with governor(store, "ab", stop=rule) as made, governor(store, "ab", stop=rule) as other:
        assert len(made.observer.experiment._outcomes) == entered == 30, "it goes on where it was"
        harm(made, 500, "t")
        assert made.observer.harmed and made.rollout.mode == "shadow"
        other.decide({"identifier": "new", **TURN})
        assert other.observer.harmed and other.rollout.mode == "shadow", "the other one agrees"
    with governor(store, "ab", stop=rule) as made:
        assert made.rollout.mode == "shadow", "a restart starts no stopped test again"
        assert "stopped for harm" in made.health()["alarms"]
        assert turn(made, "x").response is None
    with governor(store, "shadow", stop=rule) as made:
        assert not made.observer.harmed
    with governor(store, "ab", stop=rule) as made:
        assert made.observer.harmed
        made.set_rollout(Rollout("ab"))
        assert not made.observer.harmed and made.rollout.mode == "ab"
    with governor(store, "ab", stop=rule) as made:
        assert made.rollout.mode == "ab", "an operator's word holds over a restart too"


def test_alarms_are_kept_and_shared(store):
    policy = StubPolicy()
    with governor(store, policy=policy) as made, governor(store, policy=policy) as other:
        for _ in range(12):
            turn(made, "s", Usage(400, 100))
        assert made.observer.drifting == ("tokens",)
        assert other.decide({"identifier": "t", **TURN}).reason == "drift_alarm"
    with governor(store, policy=policy) as made:
        assert turn(made, "u").reason == "drift_alarm"
        made.reset_alarms()
        assert turn(made, "u").response == LEAN
    with governor(store, policy=policy) as made:
        assert made.observer.drifting == ()


def test_two_governors_on_one_store_lose_nothing(store):
    limits = Limits(deadline=30.0, token_budget=1e9, pool_budget=1e9)
    made = [governor(store, limits=limits) for _ in range(2)]
    failed = []

    def work(which):
        try:
            for number in range(120):
                turn(made[which], f"s{number % 6}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    first = made[0]
    assert [g.metrics.value("unrecorded") for g in made] == [0, 0]
    assert first.budgets.balance(first.pseudonym("s0"), "").left == pytest.approx(
        1 - 480 * 40 / 1e9
    ), "the pool's, to the last token"
    for number in range(6):
        key = first.pseudonym(f"s{number}")
        assert first.memory.spent(key, 0.0) == 80 * 40
        account = first.ledger.peek(key)
        assert account is not None and account.accounts.turn_index == 80
    for one in made:
        one.close()


def test_a_session_ends_once(store):
    with governor(store, "ab", idle=10.0) as made, governor(store, "ab", idle=10.0) as other:
        now = [1e9]
        for one in (made, other):
            one.ledger._clock = lambda: now[0]
        for number in range(20):
            turn(made if number % 2 else other, f"s{number}")
        now[0] += 100.0
        for one in (made, other, made, other):
            one.ledger._opened = 0
            turn(one, "last")
        assert len(made.memory.outcomes(made.observer.experiment.name)) == 20


def test_a_file_that_others_hold_delays_and_loses_nothing(store):
    with governor(store, limits=Limits(deadline=30.0, token_budget=1e6)) as made:
        turn(made, "s")
        other = sqlite3.connect(store, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        made.memory._base.execute("PRAGMA busy_timeout=1")
        for number in range(1, 4):
            assert turn(made, "s").features["turn_index"] == number
        assert made.metrics.value("unrecorded") > 0, "an operator can see it"
        other.execute("ROLLBACK")
        other.close()
        turn(made, "s")
        key = made.pseudonym("s")
        assert made.memory.spent(key, 0.0) == 5 * 40
    with governor(store) as made:
        assert turn(made, "s").features["turn_index"] == 5


def test_a_store_that_is_gone_ends_no_agent(store):
    with governor(store, limits=Limits(deadline=30.0, token_budget=1e6)) as made:
        turn(made, "s")
        made.memory._base.close()
        assert turn(made, "s").response == LEAN
        assert made.decide({"identifier": "t", **TURN}).response == LEAN
        assert made.metrics.value("unrecorded") > 0
        with pytest.raises(sqlite3.Error):
            made.memory.fact("key")
    assert made.decide({"identifier": "t", **TURN}).reason == "deadline", "closed, and it says so"


def test_what_is_no_store_is_refused(tmp_path):
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no database " * 100)
    with pytest.raises(ValueError, match="`store` must be a governor's store; got .*notes.txt"):
        Governor(StubPolicy(), store=wrong)
    memory = Memory(tmp_path / "new.sqlite")
    memory.keep("version", 2)
    memory.close()
    with pytest.raises(ValueError, match="`store` must have version 1; got 2"):
        Memory(tmp_path / "new.sqlite")


def test_no_identifier_is_in_the_store(store):
    with governor(store, limits=Limits(deadline=30.0, pool_budget=1e6)) as made:
        turn(made, "somebody@example.org", pool="the secret pool")
        made.feedback("somebody@example.org", 1.0)
    for path in store.parent.iterdir():
        content = path.read_bytes()
        assert b"somebody" not in content and b"secret pool" not in content
