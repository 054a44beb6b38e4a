"""The ridge estimate, its radius, and the game of a round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stackjax import labels
from stackjax.labels._ridge import Ridge


def direct(features, rewards, weights, level, mean):
    """The estimate and V by definition, in float64."""
    flat, weight = features.reshape(-1, features.shape[-1]), np.repeat(weights, features.shape[1])
    gram = level * np.eye(flat.shape[1]) + (flat * weight[:, None]).T @ flat
    right = level * mean + (flat * weight[:, None]).T @ rewards.ravel()
    return np.linalg.solve(gram, right), gram


def absorb(ridge, features, rewards, weights):
    def step(ridge, item):
        return labels.label(ridge, *item), None

    return jax.lax.scan(step, ridge, (features, rewards, weights))[0]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    features, rewards = rng.normal(size=(60, 3, 5)), rng.normal(size=(60, 3))
    weights = np.where(np.arange(60) % 3 == 0, 0.0, rng.uniform(0.2, 2.0, 60))
    return features, rewards, weights, rng.normal(size=5)


def test_updates_are_the_definition(x64, data):
    features, rewards, weights, mean = data
    start = labels.new_ridge(5, regularisation=0.7, prior_mean=mean)
    ridge = jax.jit(absorb)(
        start, jnp.asarray(features), jnp.asarray(rewards), jnp.asarray(weights)
    )
    theta, gram = direct(features, rewards, weights, 0.7, mean)
    for each in (ridge, labels.refresh(ridge)):
        np.testing.assert_allclose(each.theta, theta, rtol=1e-10)
        np.testing.assert_allclose(each.inverse, np.linalg.inv(gram), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            each.log_det, np.linalg.slogdet(gram)[1] - 5 * np.log(0.7), rtol=1e-10
        )
    np.testing.assert_array_equal(ridge.inverse, ridge.inverse.T)
    other = mean + 1.0
    away = theta - other
    np.testing.assert_allclose(
        labels.parameter_error(ridge, jnp.asarray(other)), np.sqrt(away @ gram @ away), rtol=1e-9
    )


def test_forgetting_discounts_labels_and_not_the_prior(x64, data):
    features, rewards, weights, mean = data
    ridge = labels.new_ridge(5, prior_mean=mean)
    expected = []
    for part in np.split(np.arange(60), 3):
        ridge = labels.refresh(absorb(ridge, *(jnp.asarray(x[part]) for x in data[:3])), 0.6)
        expected = [0.6 * w for w in [*expected, *weights[part]]]
    theta, gram = direct(features, rewards, np.array(expected), 1.0, mean)
    np.testing.assert_allclose(ridge.theta, theta, rtol=1e-10)
    np.testing.assert_allclose(ridge.inverse, np.linalg.inv(gram), rtol=1e-9, atol=1e-12)


def test_derivative_in_the_weight_also_at_zero(x64, data):
    features, rewards, _, mean = (jnp.asarray(x) for x in data)
    start = labels.label(labels.new_ridge(5, prior_mean=mean), features[0], rewards[0])

    def value(weight):
        ridge = labels.label(start, features[1], rewards[1], weight)
        return ridge.theta @ jnp.arange(5.0) + ridge.inverse.sum() + ridge.log_det

    slope, step = jax.jit(jax.vmap(jax.grad(value))), 1e-6
    at = jnp.array([0.0, 0.3, 2.0])
    central = (jax.vmap(value)(at + step) - jax.vmap(value)(at - step)) / (2 * step)
    np.testing.assert_allclose(slope(at), central, rtol=1e-7)


def test_float32_with_refreshes_follows_float64():
    """Badly scaled features, 8,000 rank-one updates: without refreshes the error is larger."""
    rng = np.random.default_rng(1)
    scale = np.logspace(0, -2, 8)
    features = (rng.normal(size=(2000, 4, 8)) * scale).astype(np.float32)
    rewards = (features @ rng.normal(size=8)).astype(np.float32)

    def absorbed(features, rewards, every):
        def block(ridge, items):
            ridge = absorb(ridge, items[0], items[1], jnp.ones(every, features.dtype))
            return (labels.refresh(ridge) if every < 2000 else ridge), None

        start = labels.new_ridge(8, regularisation=1e-3, dtype=features.dtype)
        parts = features.reshape(-1, every, 4, 8), rewards.reshape(-1, every, 4)
        return jax.lax.scan(block, start, parts)[0]

    exact = np.linalg.inv(direct(features.astype(float), rewards, np.ones(2000), 1e-3, 0)[1])

    def error(every):
        ridge = jax.jit(absorbed, static_argnums=2)(features, rewards, every)
        assert ridge.inverse.dtype == jnp.float32
        return np.abs(np.asarray(ridge.inverse, float) - exact).max() / np.abs(exact).max()

    kept, lost = error(250), error(2000)
    assert kept < 1e-4
    assert lost > 2 * kept


def test_radius_is_the_formula_and_covers():
    ridge = labels.new_ridge(3, regularisation=4.0).replace(log_det=jnp.array(2.0))
    rho = labels.confidence_radius(ridge, noise=0.5, norm=2.0, confidence=0.1)
    np.testing.assert_allclose(rho, 0.5 * np.sqrt(2 + 2 * np.log(10)) + 4.0, rtol=1e-6)

    def worst(key):
        """Largest error over radius in 150 rounds, with one reward of 1 among 4 alternatives."""
        key, kind = jax.random.split(key)
        theta = jnp.array([0.3, -0.2])

        def step(ridge, key):
            phi = jax.random.uniform(key, (4, 2))
            phi = phi - phi.mean(0, keepdims=True)
            chance = 0.25 + phi @ theta
            won = jax.random.choice(jax.random.fold_in(key, 1), 4, p=chance)
            ridge = labels.label(ridge, phi, jax.nn.one_hot(won, 4) - 0.25)
            rho = labels.confidence_radius(ridge, noise=2**-0.5, norm=0.0, confidence=0.2)
            return ridge, labels.parameter_error(ridge, theta) / rho

        # Almost no prior: what is left of its bias is less than a thousandth.
        start = labels.new_ridge(2, regularisation=1e-6)
        ratios = jax.lax.scan(step, start, jax.random.split(kind, 150))[1]
        return ratios[0], ratios.max()

    first, largest = jax.jit(jax.vmap(worst))(jax.random.split(jax.random.key(0), 200))
    assert (largest > 1).mean() <= 0.2
    assert largest.max() > 0.3, "the radius is so large that this says nothing"
    assert (first > 0).all()


def games(count, alternatives=5, dim=3):
    """Random rounds, estimates and ellipsoids in float64."""
    rng = np.random.default_rng(2)
    root = rng.normal(size=(count, dim, dim))
    inverse = root @ root.transpose(0, 2, 1) + 0.05 * np.eye(dim)
    features = rng.normal(size=(count, alternatives, dim))
    return [jnp.asarray(x) for x in (features, rng.normal(size=(count, dim)), inverse)], rng


def test_the_gap_bounds_the_regret_inside_the_ellipsoid_and_no_less_would_do(x64):
    (features, theta, inverse), rng = games(2000)
    action = jnp.asarray(rng.integers(0, 5, 2000))
    choose = jax.jit(jax.vmap(lambda x, t, i, a: labels.challenge(x, t, i, 0.8, action=a)))
    play = choose(features, theta, inverse, action)
    root = np.linalg.cholesky(inverse)
    direction = rng.normal(size=(2000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    # theta + rho L u with V^-1 = L L' has a V-norm of rho for unit u.
    star = np.asarray(theta) + 0.8 * np.einsum("nij,nj->ni", root, direction)

    def regret(star):
        means = np.einsum("nkd,nd->nk", features, star)
        return means.max(1) - means[np.arange(2000), action]

    assert (regret(star) <= np.asarray(play.gap) + 1e-9).all()
    apart = (
        np.asarray(features)[np.arange(2000), play.challenger]
        - np.asarray(features)[np.arange(2000), action]
    )
    reach = np.einsum("nij,nj->ni", inverse, apart) / np.asarray(play.width)[:, None]
    open_ = np.asarray(play.gap) > 0
    tight = regret(np.asarray(theta) + 0.8 * reach)
    np.testing.assert_allclose(tight[open_], np.asarray(play.gap)[open_], rtol=1e-9)
    assert 0 < open_.sum() < 2000
    np.testing.assert_allclose(regret(np.asarray(theta) + 0.8 * reach)[~open_], 0.0, atol=1e-12)


def test_greedy_challenge_eager_jit_vmap_and_by_hand(x64):
    (features, theta, inverse), _ = games(20)
    batch = jax.jit(jax.vmap(lambda x, t, i: labels.challenge(x, t, i, 0.5)))(
        features, theta, inverse
    )
    for i in range(20):
        one = labels.challenge(features[i], theta[i], inverse[i], 0.5)
        np.testing.assert_allclose(one.gap, batch.gap[i], rtol=1e-12)
        scores = np.asarray(features[i] @ theta[i])
        best = scores.argmax()
        z = np.asarray(features[i]) - np.asarray(features[i])[best]
        advantage = z @ np.asarray(theta[i]) + 0.5 * np.sqrt(
            np.einsum("kd,de,ke->k", z, np.asarray(inverse[i]), z)
        )
        advantage[best] = -np.inf
        assert one.action == best and one.challenger == advantage.argmax()
        np.testing.assert_allclose(one.gap, max(0.0, advantage.max()), rtol=1e-9, atol=1e-12)
        others = np.delete(scores, best)
        np.testing.assert_allclose(one.margin, scores[best] - others.max(), rtol=1e-9)


def test_derivatives_of_the_gap(x64):
    (features, theta, inverse), _ = games(50)

    def gap(theta, inverse, radius):
        return labels.challenge(features[0], theta, inverse, radius).gap

    slope = jax.jit(jax.grad(gap, argnums=(0, 2)))
    for i in range(3):
        in_theta, in_radius = slope(theta[i], inverse[i], 2.0)
        for j in range(3):
            step = 1e-6 * jnp.eye(3)[j]
            central = gap(theta[i] + step, inverse[i], 2.0) - gap(theta[i] - step, inverse[i], 2.0)
            np.testing.assert_allclose(in_theta[j], central / 2e-6, rtol=1e-5, atol=1e-7)
        central = gap(theta[i], inverse[i], 2.0 + 1e-6) - gap(theta[i], inverse[i], 2.0 - 1e-6)
        np.testing.assert_allclose(in_radius, central / 2e-6, rtol=1e-6)


def test_equal_alternatives_have_no_gap_and_finite_derivatives():
    features = jnp.ones((3, 2))
    play = labels.challenge(features, jnp.ones(2), jnp.eye(2), 1.0)
    assert (play.action, play.challenger, play.gap, play.width) == (0, 1, 0, 0)
    slope = jax.grad(lambda x: labels.challenge(x, jnp.ones(2), jnp.eye(2), 1.0).width)(features)
    assert jnp.isfinite(slope).all()


def test_derivatives_at_a_root_of_zero():
    ridge = labels.new_ridge(2)
    slope = jax.grad(lambda theta: labels.parameter_error(ridge, theta))(ridge.theta)
    np.testing.assert_array_equal(slope, 0.0)

    def radius(log_det):
        grown = ridge.replace(log_det=log_det)
        return labels.confidence_radius(grown, noise=1.0, norm=1.0, confidence=1.0)

    assert jnp.isfinite(jax.grad(radius)(0.0))
    assert jnp.isnan(radius(jnp.nan)), "what is not a number must be seen"


def test_a_failed_factorisation_leaves_the_estimate():
    ridge = labels.new_ridge(2)
    broken = ridge.replace(recent=jnp.full((2, 2), jnp.nan))
    after = jax.jit(labels.refresh)(broken)
    np.testing.assert_array_equal(after.inverse, ridge.inverse)
    np.testing.assert_array_equal(after.theta, ridge.theta)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: labels.new_ridge(0), "`dim` must be at least 1; got 0"),
        (
            lambda: labels.new_ridge(2, regularisation=0.0),
            "`regularisation` must be positive and finite; got 0.0",
        ),
        (
            lambda: labels.new_ridge(2, prior_mean=[1.0]),
            r"`prior_mean` must have shape \(2,\); got shape \(1,\)",
        ),
        (
            lambda: labels.label(labels.new_ridge(2), jnp.ones((3, 1)), jnp.ones(3)),
            r"`features` must have shape \(any, 2\); got shape \(3, 1\)",
        ),
        (
            lambda: labels.label(labels.new_ridge(2), jnp.ones((3, 2)), jnp.ones(2)),
            r"`rewards` must have shape \(3,\); got shape \(2,\)",
        ),
        (
            lambda: labels.challenge(jnp.ones((1, 2)), jnp.ones(2), jnp.eye(2), 1.0),
            "at least two alternatives",
        ),
        (
            lambda: labels.challenge(jnp.ones((2, 2), int), jnp.ones(2), jnp.eye(2), 1.0),
            "must be floating point of 32 or 64 bits",
        ),
        (
            lambda: labels.challenge(jnp.ones((2, 2)), jnp.ones(2), jnp.eye(2), -1.0),
            "`radius` must be finite and not negative; got -1.0",
        ),
        (
            lambda: labels.challenge(jnp.ones((2, 2)), jnp.ones(3), jnp.eye(2), 1.0),
            r"`theta` must have shape \(2,\); got shape \(3,\)",
        ),
        (
            lambda: labels.challenge(
                jnp.ones((2, 2)), jnp.ones(2), jnp.eye(2), 1.0, action=jnp.array(2)
            ),
            r"`action` must be an integer in \[0, 2\); got 2",
        ),
        (
            lambda: labels.challenge(jnp.eye(2), jnp.ones(2), jnp.eye(2), np.inf),
            "`radius` must be finite and not negative; got inf",
        ),
        (
            lambda: labels.new_ridge(2, dtype=int),
            "`dtype` must be floating point of 32 or 64 bits; got int32",
        ),
        (
            lambda: labels.label(labels.new_ridge(2), jnp.eye(2), jnp.ones(2), -1.0),
            "`weight` must be finite and not negative; got -1.0",
        ),
        (
            lambda: labels.refresh(labels.new_ridge(2), -0.5),
            r"`forget` must lie in \(0, 1\]; got -0.5",
        ),
        (
            lambda: labels.confidence_radius(
                labels.new_ridge(2), noise=1.0, norm=1.0, confidence=2.0
            ),
            r"`confidence` must lie in \(0, 1\]; got 2.0",
        ),
        (
            lambda: labels.parameter_error(labels.new_ridge(2), jnp.ones(3)),
            r"`theta` must have shape \(2,\); got shape \(3,\)",
        ),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ridge_is_a_pytree():
    assert isinstance(jax.tree.map(lambda x: x, labels.new_ridge(2)), Ridge)
