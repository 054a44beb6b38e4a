"""The delta method, against a closed form, a simulation and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stackjax as sj


def price(theta):
    """A seller: the best price (worth + cost) / 2, and the sale slope (worth - cost) / 2."""
    game = sj.Game(
        lambda a, r, x: (a - x["cost"]) * r,
        lambda a, r, x: (x["worth"] - a) * r - r**2 / (2 * x["slope"]),
        action_set=sj.Box(0.0, 50.0),
        response_set=sj.Box(lower=0.0),
    )
    one = jnp.array(1.0)
    found = sj.solve(game, action=one, response=one, context=theta, starts=1)
    return {"price": found.action, "sold": found.response}


THETA = {"cost": jnp.array(2.0), "slope": jnp.array(0.5), "worth": jnp.array(10.0)}
COVARIANCE = np.array([[0.04, 0.0, 0.01], [0.0, 0.0025, 0.0], [0.01, 0.0, 0.09]])


def test_a_price_by_hand_and_under_transforms():
    find = lambda theta: sj.stats.delta_interval(price, theta, COVARIANCE, alpha=0.1)
    rows = np.array([[0.5, 0.0, 0.5], [-0.25, 4.0, 0.25]])  # of price and of what is sold
    error = np.sqrt(np.diag(rows @ COVARIANCE @ rows.T)) * stats.norm.ppf(0.95)
    for found in (find(THETA), jax.jit(find)(THETA)):
        np.testing.assert_allclose(found.estimate["price"], 6.0, rtol=1e-5)
        width = [(found.high[name] - found.low[name]) / 2 for name in ("price", "sold")]
        np.testing.assert_allclose(width, error, rtol=1e-4)
    several = jax.tree.map(lambda x: jnp.stack([x, 1.1 * x]), THETA)
    batch = jax.jit(jax.vmap(find))(several)
    np.testing.assert_allclose(batch.high["sold"][0], found.high["sold"], rtol=1e-5)


def test_it_covers_what_it_says():
    """Estimates drawn around the truth: 95% of the intervals hold the price there."""
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal([2.0, 0.5, 10.0], COVARIANCE, 4000).astype(np.float32)
    price = lambda y: (y[0] + y[2]) ** 2 / 4 + y[1]  # curved, and as cheap as can be
    find = jax.jit(jax.vmap(lambda y: sj.stats.delta_interval(price, y, COVARIANCE)))
    found = find(jnp.asarray(drawn))
    truth = 36.5
    share = np.mean((found.low <= truth) & (truth <= found.high))
    assert abs(share - 0.95) < 0.012


def test_its_gradient_is_that_of_finite_differences(x64):
    theta, covariance = jnp.array([0.7, -0.2]), jnp.eye(2) / 9
    end = lambda y: (
        sj.stats.delta_interval(lambda z: jnp.sin(z[0]) * jnp.exp(z[1]), y, covariance).high
    )
    found, step = jax.grad(end)(theta), 1e-6
    for i in range(2):
        moved = step * jnp.eye(2)[i]
        np.testing.assert_allclose(
            found[i], (end(theta + moved) - end(theta - moved)) / (2 * step), rtol=1e-6
        )


def test_wrong_input():
    square = lambda y: y**2
    with pytest.raises(
        ValueError, match=r"`covariance` must have shape \(1, 1\); got shape \(2, 2\)"
    ):
        sj.stats.delta_interval(square, jnp.array(1.0), np.eye(2))
    with pytest.raises(ValueError, match="`alpha` must lie in"):
        sj.stats.delta_interval(square, jnp.array(1.0), np.eye(1), alpha=5.0)
