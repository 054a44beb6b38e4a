import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_turns import GRID, synthetic_log, true_quality, true_tokens

from stackjax.agents.log._turns import take, turn_arrays
from stackjax.agents.repair._cells import (
    STRATA,
    action_sets,
    admissible_cells,
    reference_cell,
    summarise_cells,
)
from stackjax.agents.surrogate._diagnostics import (
    r_squared,
    reliability,
    shape_free,
    surrogate_report,
)
from stackjax.agents.surrogate._fit import _shares, fit_surrogate
from stackjax.agents.tasks._tasks import TASK_TYPES


@pytest.fixture(scope="module")
def log():
    return synthetic_log(0, random=200, heuristic=0, factorial=12)


@pytest.fixture(scope="module")
def turns(log):
    return turn_arrays([r for r in log if r.design == "random"])


@pytest.fixture(scope="module")
def held_out(log):
    return turn_arrays([r for r in log if r.design == "factorial"])


@pytest.fixture(scope="module")
def fitted(turns):
    return fit_surrogate(turns, key=jax.random.key(0), members=4, steps=400)


def test_turn_arrays_follow_the_records(log, turns):
    record = [r for r in log if r.design == "random"][7]
    assert turns.tokens[7] == record.prompt_tokens + record.completion_tokens
    assert turns.state.budget[7] == pytest.approx(record.state["budget"])
    assert TASK_TYPES[int(turns.state.task[7])] == record.task
    assert np.isnan(turns.signal[7]).all()
    assert len(np.unique(turns.episode)) == 200


def test_known_surfaces_are_recovered(log, fitted, held_out):
    """Close to the true probabilities and mean tokens, at states and cells never seen."""
    truth = [r for r in log if r.design == "factorial"]
    quality = np.array(
        [true_quality(r.task, r.state["task_complexity"], r.executed) for r in truth]
    )
    tokens = np.array([true_tokens(r.task, r.state["context_tokens"], r.executed) for r in truth])
    predict = jax.jit(jax.vmap(fitted[0].predict))
    guessed, counted = predict(held_out.state, held_out.executed)
    # 1,000 coin flips leave an error near 0.08 for some forty effective coefficients.
    assert np.sqrt(np.mean((guessed - np.array(quality)) ** 2)) < 0.1 < 0.6 * np.std(quality)
    assert r_squared(np.asarray(counted), np.array(tokens)) > 0.93


def test_report_scores_held_out_turns(fitted, turns, held_out):
    scores = surrogate_report(fitted[0], turns, held_out)
    assert scores.turns == len(held_out.tokens)
    assert scores.token_r2 > 0.85
    assert abs(scores.token_bias) < 0.05
    assert 0.05 < scores.quality_r2 < 0.5
    assert scores.brier < scores.brier_constant
    assert scores.reliability.error < 0.12
    assert scores.reliability.count.sum() == scores.turns


def test_fit_stops_early_and_is_deterministic(turns, fitted):
    surrogate, history = fitted
    assert history.quality.shape == (400, 4)
    for errors, step in (
        (history.quality, history.quality_step),
        (history.tokens, history.token_step),
    ):
        np.testing.assert_array_equal(np.argmin(errors, axis=0), step)
    again, _ = fit_surrogate(turns, key=jax.random.key(0), members=4, steps=400)
    for one, two in zip(jax.tree.leaves(surrogate), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_member_that_saw_every_episode_is_judged_on_them():
    inside, outside = _shares(jnp.array([[1, 2, 1], [3, 0, 0]]))
    np.testing.assert_allclose(inside, [[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(outside, [[0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])


def test_prediction_batch_equals_loop(fitted, turns):
    surrogate = fitted[0]
    few = take(turns, np.arange(4))
    batch = jax.jit(jax.vmap(surrogate.predict))(few.state, few.executed)
    for i in range(4):
        row = take(few, i)
        one = surrogate.predict(row.state, row.executed)
        np.testing.assert_allclose(one, [batch[0][i], batch[1][i]], rtol=1e-4)
    assert ((batch[0] >= 0) & (batch[0] <= 1)).all()


def test_scalar_encoding_is_accepted_and_others_refused(turns):
    surrogate, _ = fit_surrogate(turns, key=jax.random.key(1), size=9, members=2, steps=5)
    assert surrogate.encode(jax.tree.map(lambda leaf: leaf[0], turns.state)).shape == (9,)
    with pytest.raises(ValueError, match="`size` must be one of 9, 14; got 10"):
        fit_surrogate(turns, key=jax.random.key(1), size=10)
    with pytest.raises(ValueError, match="at least 4 episodes to hold some out; got 2"):
        fit_surrogate(take(turns, turns.episode < 2), key=jax.random.key(1))


def test_cells_are_judged_on_the_same_states(fitted, turns):
    summary = summarise_cells(fitted[0], turns)
    np.testing.assert_array_equal(summary.cells, GRID)
    assert summary.count.sum() == len(turns.tokens)
    row = 14
    here = (np.asarray(turns.executed) == summary.cells[row]).all(1)
    assert summary.measured_tokens[row] == pytest.approx(float(turns.tokens[here].mean()))
    assert summary.stratum_count.sum() == len(turns.tokens)
    weights = summary.stratum_count / len(turns.tokens)
    np.testing.assert_allclose(weights @ summary.stratum_quality, summary.quality, rtol=1e-5)


def test_action_set_and_reference_rules(fitted, turns):
    summary = summarise_cells(fitted[0], turns)
    reference = reference_cell(summary, margin=0.02)
    good = summary.quality >= summary.quality.max() - 0.02
    assert good[reference]
    assert summary.tokens[reference] == summary.tokens[good].min()
    mask = admissible_cells(summary, reference, margin=0.05)
    assert mask[:, reference].all()
    assert (
        summary.stratum_quality[mask] >= summary.stratum_quality[:, reference].min() - 0.05
    ).all()
    assert mask.sum() < admissible_cells(summary, reference, margin=0.2).sum()
    rare = admissible_cells(summary, reference, support=10_000)
    assert rare.sum() == STRATA
    sets = action_sets(summary, mask, reference)
    for kind in range(STRATA):
        allowed = {tuple(cell) for cell in np.asarray(sets.actions[kind])}
        assert allowed == {tuple(cell) for cell in summary.cells[mask[kind]]}
    with pytest.raises(ValueError, match="at most the turns of a cell, .*; got 10000"):
        reference_cell(summary, support=10_000)


def test_reliability_of_perfect_and_of_constant_forecasts():
    rng = np.random.default_rng(0)
    chance = rng.uniform(size=20_000)
    correct = rng.uniform(size=20_000) < chance
    assert reliability(chance, correct).error < 0.02
    assert reliability(np.full(100, 0.9), np.r_[np.ones(40), np.zeros(60)]).error > 0.45
    with pytest.raises(ValueError, match="`bins` must be at most the 3 turns; got 10"):
        reliability(np.ones(3), np.ones(3))


def test_shape_free_regression_is_a_fair_reference(turns, held_out):
    guessed = shape_free(turns, held_out, turns.tokens)
    assert 0.8 < r_squared(guessed, np.asarray(held_out.tokens)) < 1.0
    shuffled = turns.replace(executed=turns.executed[::-1])
    lost = shape_free(shuffled, held_out, turns.tokens)
    assert r_squared(lost, np.asarray(held_out.tokens)) < 0.5


def test_r_squared_by_hand():
    assert r_squared(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])) == 1.0
    assert r_squared(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])) == 0.0
    assert np.isnan(r_squared(np.zeros(3), np.ones(3)))
    assert jnp.isfinite(r_squared(np.zeros(3), np.arange(3)))
