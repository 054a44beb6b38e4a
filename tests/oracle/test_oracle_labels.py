"""Labels under a budget against NumPy: the ridge estimate, the gap, the budget, the ellipsoid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stackjax as sj

GATES = {
    "gap": (sj.labels.largest_gap(), 0.4),
    "pool": (sj.labels.waiting_pool(size=8), 0.5),
    "age": (sj.labels.oldest_direction(horizon=120), 30.0),
    "margin": (sj.labels.margin(), -0.3),
    "entropy": (sj.labels.entropy(temperature=0.2), 0.6),
    "width": (sj.labels.width(), 0.1),
    "random": (sj.labels.at_random(), 0.4),
    "every": (sj.labels.every_round(), 0.0),
}


def rounds(seed, count=90, alternatives=3, dim=4, unit=1.0):
    rng = np.random.default_rng(seed)
    features = unit * rng.normal(size=(count, alternatives, dim))
    theta = rng.normal(size=dim) / unit
    rewards = features @ theta + 0.3 * rng.normal(size=(count, alternatives))
    return features, rewards, theta


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("budget", [0, 7])
def test_budget_is_kept_and_spent(name, budget):
    features, rewards, _ = rounds(0)
    gate, threshold = GATES[name]
    learner = sj.labels.budgeted_learner(gate, budget=budget, threshold=threshold)
    stream = sj.labels.recorded_stream(jnp.float32(features), jnp.float32(rewards))
    state, curves = sj.labels.run(learner, stream, 90, key=jax.random.key(0), block=7)
    assert state.labels == budget and curves.labels.max() <= budget
    assert (np.diff(curves.labels) >= 0).all() and curves.round[-1] == 90
    if not budget:
        np.testing.assert_array_equal(state.ridge.theta, 0)


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e-3])
def test_estimate_is_the_ridge_of_what_was_labelled(x64, unit):
    """Every round up to a budget of 20: the normal equations, the determinant, the radius."""
    features, rewards, _ = rounds(1, unit=unit)
    prior, level = np.array([0.5, -0.2, 0.1, 0.3]) / unit, 3.0 * unit**2
    learner = sj.labels.stacksl(
        budget=20, regularisation=level, prior_mean=jnp.asarray(prior), noise=0.3, norm=2 / unit
    )
    stream = sj.labels.recorded_stream(jnp.asarray(features), jnp.asarray(rewards))
    state, curves = sj.labels.run(learner, stream, 90, key=jax.random.key(0), block=13)
    rows, seen = features[:20].reshape(-1, 4), rewards[:20].ravel()
    V = level * np.eye(4) + rows.T @ rows
    theta = np.linalg.solve(V, level * prior + rows.T @ seen)
    np.testing.assert_allclose(state.ridge.theta, theta, rtol=1e-9)
    np.testing.assert_allclose(
        state.ridge.inverse, np.linalg.inv(V), rtol=1e-8, atol=1e-12 / unit**2
    )
    log_det = np.linalg.slogdet(V)[1] - 4 * np.log(level)
    np.testing.assert_allclose(state.ridge.log_det, log_det, rtol=1e-9)
    radius = 0.3 * np.sqrt(log_det + 2 * np.log(20)) + np.sqrt(level) * 2 / unit
    np.testing.assert_allclose(curves.radius[-1], radius, rtol=1e-9)


def test_largest_gap_run_is_replayed_by_hand(x64):
    """Action, gap, label and regret of every round by NumPy, ends of blocks and forgetting too."""
    features, rewards, _ = rounds(2)
    budget, threshold, scale, forget, block = 12, 0.8, 0.5, 0.99, 10
    learner = sj.labels.llf_stacksl(
        budget=budget, threshold=threshold, noise=0.3, norm=2.0, scale=scale, forget=forget
    )
    stream = sj.labels.recorded_stream(jnp.asarray(features), jnp.asarray(rewards))
    state, curves = sj.labels.run(learner, stream, 90, key=jax.random.key(0), block=block)
    gram, moment = np.zeros((4, 4)), np.zeros(4)
    asked, regret, gaps, record = 0, 0.0, 0.0, []
    for t in range(90):
        V = np.eye(4) + gram
        estimate, inverse = np.linalg.solve(V, moment), np.linalg.inv(V)
        radius = 0.3 * np.sqrt(np.linalg.slogdet(V)[1] + 2 * np.log(20)) + 2.0
        scores = features[t] @ estimate
        action = scores.argmax()
        apart = np.delete(features[t], action, 0) - features[t, action]
        wide = np.sqrt(np.einsum("ki,ij,kj->k", apart, inverse, apart))
        gap = max(0.0, (apart @ estimate + scale * radius * wide).max())
        regret, gaps = regret + rewards[t].max() - rewards[t, action], gaps + gap
        if gap > threshold and asked < budget:
            gram, moment = gram + features[t].T @ features[t], moment + features[t].T @ rewards[t]
            asked += 1
        if (t + 1) % block == 0:
            gram, moment = forget**block * gram, forget**block * moment
            record.append((regret, gaps, asked))
    assert asked == budget and record[0][2] < budget
    np.testing.assert_allclose(
        np.stack([curves.regret, curves.gaps, curves.labels], 1), record, rtol=1e-8
    )
    np.testing.assert_allclose(
        state.ridge.theta, np.linalg.solve(np.eye(4) + gram, moment), rtol=1e-8
    )


def test_ellipsoid_holds_at_its_confidence(x64):
    """200 streams: theta* is inside at the end of every block but for a share of `confidence`."""

    @jax.jit
    @jax.vmap
    def broken(key):
        stream = sj.labels.linear_stream(key, dim=3, noise=0.7)
        learner = sj.labels.llf_stacksl(
            budget=100, threshold=0.2, noise=0.7, norm=1.0, confidence=0.2
        )
        _, curves = sj.labels.run(learner, stream, 200, key=key, block=10)
        return jnp.any(curves.error > curves.radius), curves.broken[-1] > 0

    outside, unbounded = broken(jax.random.split(jax.random.key(3), 200))
    assert outside.sum() <= stats.binom.ppf(0.999, 200, 0.2)
    # where theta* was inside throughout, no round's regret exceeded its gap
    assert not np.any(np.asarray(unbounded) & ~np.asarray(outside))


def test_a_weight_is_so_many_labels(x64):
    features, rewards, _ = rounds(4)
    ridge = sj.labels.new_ridge(4, regularisation=0.7, dtype=jnp.float64)
    thrice = ridge
    for _ in range(3):
        thrice = sj.labels.label(thrice, features[0], rewards[0])
    once = sj.labels.label(ridge, features[0], rewards[0], weight=3.0)
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(thrice)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
