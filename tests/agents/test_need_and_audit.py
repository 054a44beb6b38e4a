"""Probes, the need head, the audit and off-policy estimates."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_turns import GRID, synthetic_log

import stackjax as sj
from stackjax.agents.tasks._tasks import TASK_TYPES

RECORDS = synthetic_log(2, random=60, heuristic=0, factorial=70)
FACTORIAL = [r for r in RECORDS if r.design == "factorial"]


@pytest.fixture(scope="module")
def log():
    return sj.agents.log.outcomes(FACTORIAL)


@pytest.fixture(scope="module")
def fitted(log):
    return sj.agents.repair.fit_need(log, level=0.9)


def test_probes_find_what_each_channel_does(log):
    found = {(p.channel, p.low, p.high, p.task): p for p in sj.agents.surrogate.probe(log, seed=0)}
    prompt = found["prompt", 0.0, 1.0, None]
    assert prompt.tokens.low < 110 + 35 * 1.25 / 3 < prompt.tokens.high  # the mean of u^2
    tools = found["tools", 0.0, 1.0, "complex_reasoning"]
    assert tools.correct.low > 0.1 and tools.tokens.low > 50
    chat = found["tools", 0.0, 1.0, "casual_chat"]
    assert chat.correct.estimate == 0.0
    share = prompt.elasticity.estimate
    scores = sj.agents.log.cell_scores(log)
    means = [scores.tokens[:, log.cells[:, 1] == p].mean() for p in (0.0, 1.0)]
    assert share == pytest.approx((means[1] - means[0]) / (means[1] + means[0]))
    half = found["prompt", 0.5, 1.0, None]
    assert half.turns == len(scores) and half.episodes == 70


def test_probes_refuse_what_they_cannot_compare():
    fixed = [r for r in FACTORIAL if r.executed[2] == 0.5]
    with pytest.raises(ValueError, match="two levels of tools; got 0.5 only"):
        sj.agents.surrogate.probe(sj.agents.log.outcomes(fixed), seed=0)
    holes = [r for r in FACTORIAL if r.executed != (0.0, 0.0, 0.0)]
    with pytest.raises(ValueError, match="a full grid of the levels; got 26 cells"):
        sj.agents.surrogate.probe(sj.agents.log.outcomes(holes), seed=0)


def test_probes_of_a_random_log_whose_estimates_are_negative_somewhere():
    log = sj.agents.log.outcomes([r for r in RECORDS if r.design == "random"])
    assert sj.agents.log.cell_scores(log).tokens.min() < 0
    found = sj.agents.surrogate.probe(log, seed=0)
    assert np.isfinite([p.elasticity for p in found]).all()
    tools = [p.elasticity for p in found if p.channel == "tools" and p.task is None][-1]
    assert tools.low < tools.estimate < tools.high


def test_tools_are_necessary_where_they_help(fitted):
    head, report = fitted
    needs = {task: report.least[2 * i : 2 * i + 2].max() for i, task in enumerate(TASK_TYPES)}
    assert needs["complex_reasoning"] > 0 and needs["data_analysis"] > 0
    assert needs["casual_chat"] == needs["simple_qa"] == needs["text_writing"] == 0
    assert report.levels.tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(report.gain_low[:, 0]).all()
    np.testing.assert_allclose(head.least, report.least)


def test_the_head_is_capped_and_silent_without_evidence(log):
    capped, report = sj.agents.repair.fit_need(log, level=0.9, cap=0.25)
    assert capped.least.max() == 0.25 and report.shown.max() == 1.0
    few = log.take(log.episode < 3)
    nothing, report = sj.agents.repair.fit_need(few)
    assert not nothing.least.any() and (report.turns < 10).all()
    strict, _ = sj.agents.repair.fit_need(log, tolerance=0.9)
    assert not strict.least.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cap": 1.5}, r"`cap` must lie in \[0, 1\]; got 1.5"),
        ({"tolerance": -0.1}, "`tolerance` must not be negative; got -0.1"),
        ({"level": 95}, r"`level` must lie in \(0, 1\); got 95"),
        ({"among": np.ones((3, 3))}, "`among` must have shape"),
    ],
)
def test_wrong_options_of_the_need_head(log, options, message):
    with pytest.raises(ValueError, match=message):
        sj.agents.repair.fit_need(log, **options)


def test_constant_tools_are_refused():
    fixed = sj.agents.log.outcomes([r for r in FACTORIAL if r.executed[2] == 0.5])
    with pytest.raises(ValueError, match="two levels of tools; got 0.5 only"):
        sj.agents.repair.fit_need(fixed)


def test_sets_are_restricted_to_the_need():
    head = sj.agents.repair.NeedHead(jnp.zeros(12).at[1].set(0.5).at[2].set(1.0))
    cells = jnp.tile(jnp.array([[0.0, 0, 0], [1, 0, 0.5], [0, 0, 0.5]]), (12, 1, 1))
    kept = head.restrict(sj.ActionSet(cells)).actions
    np.testing.assert_array_equal(kept[0], cells[0])
    np.testing.assert_array_equal(kept[1], [[1, 0, 0.5], [1, 0, 0.5], [0, 0, 0.5]])
    np.testing.assert_array_equal(kept[2], [[1, 0, 0.5]] * 3)  # none reaches the need


def test_misses_fall_with_tools_and_cost_tokens(log):
    scores = sj.agents.log.cell_scores(log)
    rows = [log.row((1.0, 0.5, u)) for u in (0.0, 1.0)]
    without, with_tools = (
        sj.agents.repair.tool_misses(scores, np.full(len(scores), row), seed=0) for row in rows
    )
    assert with_tools.share.estimate == 0.0 < without.share.low
    assert with_tools.tokens > without.tokens
    by_hand = (scores.correct[:, rows[0]] == 0) & (
        scores.correct[:, [log.row((1.0, 0.5, u)) for u in (0.5, 1.0)]].any(1)
    )
    assert without.share.estimate == pytest.approx(by_hand.mean())
    with pytest.raises(ValueError, match="`played` must have shape"):
        sj.agents.repair.tool_misses(scores, np.zeros(3, int), seed=0)
    with pytest.raises(ValueError, match="`played` must be integers in 0..26"):
        sj.agents.repair.tool_misses(scores, np.full(len(scores), -1), seed=0)
    random = sj.agents.log.cell_scores(
        sj.agents.log.outcomes([r for r in RECORDS if r.design == "random"])
    )
    with pytest.raises(ValueError, match="factorial"):
        sj.agents.repair.tool_misses(random, np.zeros(len(random), int), seed=0)


def test_audit_counts_what_is_outside():
    states = sj.agents.game.stack_states(
        [r.state for r in FACTORIAL[:54:27]] * 2, ["simple_qa"] * 4
    )
    cells = jnp.zeros((12, 2, 3)).at[:, 1, 0].set(0.5)
    responses = jnp.array([[0.1, 0.2, 0.0], [0.6, 0.0, 0.0], [0.2, 0.3, 0.0], [1.0, 1.0, 1.0]])
    found = sj.agents.repair.audit(
        responses, states, sj.ActionSet(cells), np.array([0, 0, 1, 1]), seed=0
    )
    assert found.outside.estimate == 0.5 and found.by_task == {"simple_qa": 0.5}
    assert found.farthest == pytest.approx(1.5)
    assert found.turns == 4 and found.episodes == 2
    for wrong in (responses[:3], responses + 1.0):
        with pytest.raises(ValueError, match="responses"):
            sj.agents.repair.audit(
                wrong, states, sj.ActionSet(cells), np.array([0, 0, 1, 1]), seed=0
            )


def test_an_audit_needs_a_set_for_every_stratum():
    states = sj.agents.game.stack_states([r.state for r in FACTORIAL[:54:27]], ["simple_qa"] * 2)
    few = sj.ActionSet(jnp.zeros((6, 2, 3)))
    with pytest.raises(ValueError, match=r"`actions` must have shape \(12, any, 3\)"):
        sj.agents.repair.audit(jnp.zeros((2, 3)), states, few, np.arange(2), seed=0)


def test_off_policy_estimates_are_right_on_average():
    rng = np.random.default_rng(0)
    n, truth, wide = 200, 0.0, []
    made = {"weighted": [], "self_normalised": [], "doubly_robust": []}
    for seed in range(30):
        x = rng.uniform(size=n)
        propensity = np.where(rng.uniform(size=n) < 0.5, 0.3, 0.7)
        action = rng.uniform(size=n) < propensity
        y = x + action * (x > 0.5) + 0.1 * rng.normal(size=n)
        played = x > 0.5
        taken = np.where(action, propensity, 1 - propensity)
        found = sj.agents.evaluation.off_policy(
            y, taken, (action == played).astype(float), np.arange(n) // 4, seed=seed,
            predicted=x + action * 0.5, predicted_target=x + played * 0.5,
        )  # fmt: skip
        truth += np.mean(x + played) / 30
        for name in made:
            made[name].append(getattr(found, name).estimate)
        assert found.doubly_robust is not None
        wide.append(found.doubly_robust.high - found.doubly_robust.low)
    for name, values in made.items():
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / 30**0.5 + 0.01, name
    assert np.std(made["doubly_robust"]) < np.std(made["weighted"])
    assert 2 * 1.96 * np.std(made["doubly_robust"]) == pytest.approx(np.mean(wide), rel=0.5)


def test_a_policy_evaluated_on_its_own_turns_has_its_own_mean():
    y = np.random.default_rng(0).uniform(size=50)
    found = sj.agents.evaluation.off_policy(
        y, np.full(50, 0.4), np.full(50, 0.4), np.arange(50), seed=0
    )
    assert found.weighted.estimate == pytest.approx(y.mean())
    assert found.effective == pytest.approx(50) and found.largest == 1.0
    assert found.doubly_robust is None and found.direct is None


def test_a_few_equal_outcomes_give_no_interval():
    played = np.zeros(50)
    played[:3] = 1.0
    found = sj.agents.evaluation.off_policy(
        np.ones(50), np.full(50, 0.04), played, np.arange(50), seed=0
    )
    assert found.effective == pytest.approx(3) and found.self_normalised.estimate == 1.0
    assert np.isnan(found.self_normalised.low) and np.isnan(found.self_normalised.high)
    assert found.weighted.low < found.weighted.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"outcome": np.array([1.0, np.nan, 0.0])},
            "`outcome` must be finite; got nan at index 1, 1 of 3",
        ),
        (
            {"propensity": np.array([0.5, 0.0, 0.5])},
            r"`propensity` must lie in \(0, 1\]; got 0 at index 1",
        ),
        ({"target": np.array([0.5, 2.0, 0.5])}, r"`target` must lie in \[0, 1\]; got 2 at index 1"),
        ({"target": np.zeros(3)}, "must be positive for a recorded cell"),
        ({"episode": np.zeros(2)}, r"`target` and `episode` must have one shape, \[N\]"),
        ({"predicted": np.zeros(3)}, "must be given together"),
        ({"episode": np.zeros(3)}, "must have at least 2 episodes; got 1"),
    ],
)
def test_wrong_off_policy_input(change, message):
    given = {
        "outcome": np.ones(3), "propensity": np.full(3, 0.5), "target": np.ones(3),
        "episode": np.arange(3),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        sj.agents.evaluation.off_policy(**(given | change), seed=0)


def test_grid_is_the_logs(log):
    assert sorted(map(tuple, log.cells.tolist())) == sorted(GRID)
    assert dataclasses.is_dataclass(log)
