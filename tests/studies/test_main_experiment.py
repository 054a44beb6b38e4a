"""The confirmatory experiment: its split, its arms that learn, its tests and its command line."""

import dataclasses
import gzip
import json
import random
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.confirmatory import __main__ as main
from experiments.confirmatory.analysis import by_arm, compare_arms, paired
from experiments.confirmatory.arms import CONSERVATIVE, MAIN, Fixed, RandomInside
from experiments.confirmatory.certificate import certificate
from experiments.confirmatory.log import digest, final_records, finished, hold, pack
from experiments.confirmatory.power import turns_needed
from experiments.confirmatory.tests import (
    clustered_t,
    difference,
    holm,
    non_inferiority,
    two_way_bound,
)
from experiments.confirmatory.turns import (
    CANDIDATES,
    confirmatory,
    confirmatory_sessions,
    tuning_sessions,
)
from stackjax.agents.control import known_world
from stackjax.agents.control._controller import contexts_of
from stackjax.agents.executor._session import SessionState
from stackjax.agents.log._log import read_log
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.tasks._tasks import TASK_TYPES, make_episode


def records(arms, episodes=30, turns=3, seed=0):
    """Records of several arms: each `(tokens, chance of a right answer)` by name."""
    rng, made = random.Random(seed), []
    sample = known_world.records(1, 1)[0]
    for e in range(episodes):
        for t in range(turns):
            for name, (tokens, chance) in arms.items():
                made.append(
                    dataclasses.replace(
                        sample,
                        episode=f"e{e:03d}",
                        turn=t,
                        policy=name,
                        gold="g",
                        family="documents" if e % 5 == 0 else "recall",
                        prompt_tokens=tokens + rng.randint(-9, 9),
                        completion_tokens=5,
                        correct=rng.random() < chance,
                        replayed=False,
                    )
                )
    return made


def test_tuning_and_confirmatory_items_are_disjoint():
    confirm = confirmatory_sessions([], 200)
    assert sum(len(e.turns) for e in confirm) >= 200 > sum(len(e.turns) for e in confirm[:-1])
    kept = {turn.item for episode in confirm for turn in episode.turns}
    tuned = {turn.item for episode in tuning_sessions(20) for turn in episode.turns}
    assert all(map(confirmatory, kept)) and not any(map(confirmatory, tuned))
    assert not kept & tuned
    assert confirm[:5] == confirmatory_sessions([], 100)[:5]


def test_candidates_have_all_context_and_instructions():
    assert len(CANDIDATES) == 6
    assert all(c == 1.0 and p > 0.0 for c, p, _ in CANDIDATES)


def test_clustered_t_is_the_t_test_where_an_episode_is_a_turn():
    values = np.random.default_rng(0).normal(0.3, 1.0, 40)
    found = difference(values, np.arange(40))
    known: Any = stats.ttest_1samp(values, 0.0)
    np.testing.assert_allclose(found["p"], known.pvalue)
    np.testing.assert_allclose(
        (found["low"], found["high"]), known.confidence_interval(), rtol=1e-12
    )
    lower = non_inferiority(values, np.arange(40), 0.1)
    one_sided: Any = stats.ttest_1samp(values, -0.1, alternative="greater")
    np.testing.assert_allclose(lower["p"], one_sided.pvalue)


def test_turns_of_one_episode_are_not_independent_evidence():
    once = np.random.default_rng(1).normal(size=50)
    alone = clustered_t(once, np.arange(50))
    copied = clustered_t(np.repeat(once, 4), np.repeat(np.arange(50), 4))
    np.testing.assert_allclose(copied, alone)


def test_no_difference_at_all_is_non_inferior_and_a_loss_of_the_margin_is_not():
    nothing, episode = np.zeros(30), np.arange(30) // 3
    assert non_inferiority(nothing, episode, 0.02)["p"] == 0.0
    assert non_inferiority(nothing - 0.02, episode, 0.02)["p"] == 1.0
    assert difference(nothing, episode)["p"] == 1.0
    with pytest.raises(ValueError, match="at least 2"):
        clustered_t(nothing, np.zeros(30, int))


def test_a_loss_as_large_as_the_margin_is_accepted_in_at_most_the_level():
    rng, accepted = np.random.default_rng(2), 0
    episode = np.arange(300) // 5
    for _ in range(400):
        values = rng.choice([-1.0, 0.0, 1.0], size=300, p=[0.12, 0.78, 0.1])  # mean -0.02
        accepted += non_inferiority(values, episode, 0.02)["p"] <= 0.05
    assert accepted / 400 <= stats.binom.ppf(0.9999, 400, 0.05) / 400


def test_holm():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_comparison_pairs_turns_and_refuses_doubles():
    arms = by_arm(records({"a": (200, 0.8), "b": (300, 0.8)}))
    found = compare_arms(arms["a"], arms["b"][:-3], seed=0)
    assert (found["turns"], found["episodes"]) == (87, 29)
    assert found["saving"].low > 0.25 and found["tokens"]["p"] < 1e-6
    assert found["tokens"]["low"] < found["tokens_bootstrap"].estimate < found["tokens"]["high"]
    with pytest.raises(ValueError, match="no turn in common"):
        paired(arms["a"][:3], arms["b"][3:])


def test_the_last_record_counts_where_an_outage_lost_a_turn():
    good = records({"a": (200, 1.0)}, episodes=2)
    moved = dataclasses.replace(good[1], executed=(0.5, 1.0, 0.5))
    with pytest.raises(ValueError, match="turn 1 of e000 twice"):
        final_records([*good, moved])
    lost = dataclasses.replace(good[0], executed=(0.5, 0.5, 0.5), fallback="timeout")
    kept = final_records([lost, *good, moved])
    assert len(kept) == 6 and moved in kept and good[1] not in kept and lost not in kept


def test_sessions_count_up_to_the_first_unfinished_one():
    made = records({"a": (200, 1.0), "b": (200, 1.0)}, episodes=4)
    order = [(f"e{e:03d}", 3) for e in (2, 0, 1, 3)]
    torn = [r for r in made if (r.policy, r.episode, r.turn) != ("b", "e001", 2)]
    assert {r.episode for r in finished(torn, "ab", order)} == {"e002", "e000"}
    assert len(finished(made, "ab", order)) == 24 and len(finished(made, "a", order)) == 12


def test_a_run_that_rests_on_something_else_is_refused(tmp_path):
    hold(tmp_path / "run.json", {"seed": 0, "sessions": [("a", 3)]})
    hold(tmp_path / "run.json", {"seed": 0, "sessions": [("a", 3)]})
    with pytest.raises(ValueError, match="other seed"):
        hold(tmp_path / "run.json", {"seed": 1, "sessions": [("a", 3)]})
    assert digest([np.ones(2)]) == digest((np.ones(2),)) != digest([np.zeros(2)])


def test_packing_leaves_out_answers_that_may_not_be_carried(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(FileNotFoundError, match="qwen"):
        pack(tmp_path, "qwen", tmp_path / "data", "-qwen")
    for name, arm in (("primary", "a"), ("arms", "b")):
        made = records({arm: (200, 1.0)}, episodes=6)
        (tmp_path / f"main-qwen-{name}.jsonl").write_text(
            "".join(record.to_json() + "\n" for record in made)
        )
    for name in ("run", "environment"):
        (tmp_path / f"{name}-qwen.json").write_text("{}")
    kept = read_log(pack(tmp_path, "qwen", tmp_path / "data", "-qwen")).records
    assert {record.policy for record in kept} == {"a", "b"} and len(kept) == 36
    assert {record.family for record in kept if not record.gold} == {"documents"}


def test_errors_by_item_as_well_are_not_smaller():
    rng = np.random.default_rng(3)
    item = rng.integers(0, 6, 60)
    values = rng.normal(size=6)[item] + 0.1 * rng.normal(size=60)
    episode = np.arange(60) // 3
    once = two_way_bound(values, episode, np.arange(60))
    assert once == pytest.approx(non_inferiority(values, episode, 0.02)["low_95"])
    assert two_way_bound(values, episode, item) < once - 0.1


def test_sample_size_is_the_textbook_one_and_grows_with_variance():
    reach = stats.norm.ppf(0.95) + stats.norm.ppf(0.9)
    assert turns_needed(0.05, 0.05) == int(np.ceil(0.05 * (reach / 0.02) ** 2))
    assert turns_needed(0.05, 0.2) > turns_needed(0.05, 0.05)


def test_fixed_and_random_arms_stay_where_they_may_play():
    cells = tuple((c / 11, 0.0, 0.0) for c in range(12))
    turn = make_episode(0, 0).turns[0]
    state = SessionState(1000.0)
    row = 2 * TASK_TYPES.index(turn.task) + (turn.complexity > 0.5)
    assert Fixed("f", cells).session()(state, turn, random.Random(0)).action == cells[row]
    assert Fixed("f", cells[:1]).session()(state, turn, random.Random(0)).action == cells[0]
    policy = RandomInside("r", tuple((cell, (1.0, 1.0, 1.0)) for cell in cells)).session()
    played = [policy(state, turn, random.Random(i)) for i in range(40)]
    assert {choice.action for choice in played} == {cells[row], (1.0, 1.0, 1.0)}
    assert all(choice.propensity == 0.5 for choice in played)


def test_analysis_of_a_log(tmp_path, capsys):
    others = ("middle", "best fixed by task type", "constant inside the set")
    arms = {CONSERVATIVE: (300, 0.7), MAIN: (200, 0.75), **dict.fromkeys(others, (250, 0.7))}
    made = records(arms)
    with gzip.open(tmp_path / "main-qwen.jsonl.gz", "wt") as file:
        file.writelines(record.to_json() + "\n" for record in made[:-5])  # the last turn is lacking
    run = {"sessions": [[f"e{e:03d}", 3] for e in range(31)]}
    (tmp_path / "main-run-qwen.json").write_text(json.dumps(run))
    found = main.analyse(0, tmp_path, tmp_path)
    primary = found["executors"]["qwen"]["primary"]
    assert primary["all"]["turns"] == 87 and primary["HotpotQA"]["turns"] == 18
    assert primary["all"]["saving"].low > 0.25
    assert "GSM8K" not in primary
    assert (tmp_path / "main.json").exists() and (tmp_path / "main.png").exists()
    assert MAIN in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--executor", "gpt"], "qwen"),
        (["--take"], "gsm8k"),
        (["--take", "--power"], "one of them"),
        (["--timeout", "nan"], "timeout"),
        (["--gsm8k", "absent.jsonl"], "gsm8k"),
        (["--workers", "0"], "workers"),
        (["--turns", "many"], "turns"),
    ],
)
def test_wrong_arguments_give_one_line(wrong, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(wrong)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.mark.slow
def test_certificate_of_a_log():
    arms = {CONSERVATIVE: (300, 0.7), MAIN: (200, 0.75), "middle": (250, 0.7), "LinUCB": (1, 0.5)}
    made = records(arms)
    turns = turn_arrays(made)
    world = known_world.controller()
    before = jnp.tile(jnp.array([[0.8, 0.5]]), (len(made), 1))
    fitted: Any = types.SimpleNamespace(
        surrogate=world.surrogate,
        conservative=(1.0, 1.0, 1.0),
        strata=np.zeros(len(made)),
        contexts=contexts_of(world.surrogate, jnp.ones(3), turns.state, before),
        controller=lambda name, repaired: world,
    )
    found = certificate(made, fitted, seed=0)
    assert found["policies"] == [CONSERVATIVE, MAIN, "middle"] and found["turns"] == 90
    assert {row["name"] for row in found["certificate"]["statements"]} > {"Transfer", "Stability"}
    assert found["values"][MAIN]["real"] > found["values"][CONSERVATIVE]["real"]
