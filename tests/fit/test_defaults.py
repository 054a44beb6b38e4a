"""`fit_follower` with no options: three followers whose responses are known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import stackjax as sj

rng = np.random.default_rng(11)


def firm(w, price, amount, demand):
    """Sells (w0 demand - w1 price) / 2."""
    return amount * (w[0] * demand - w[1] * price - amount)


def shopper(w, prices, amounts, taste):
    """Buys (w taste - prices) / bend of each good, bend = exp of the last two entries."""
    worth = w[:2] * taste
    return jnp.sum((worth - prices) * amounts - 0.5 * jnp.exp(w[2:]) * amounts**2)


def chooser(w, fees, shares, ease):
    """Shares in proportion to exp((w ease - fees) / exp(w3)): the entropy's weight is learned."""
    entropy = -jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.maximum(shares, 1e-30)), 0.0))
    return shares @ (w[:3] * ease - fees) + jnp.exp(w[3]) * entropy


def firms():
    demand, price = rng.uniform(50, 200, 300), rng.uniform(5, 30, 300)
    return demand, price, (0.8 * demand - 2.5 * price) / 2, sj.Box(lower=0.0)


def shoppers():
    taste, prices = rng.uniform(1, 3, (300, 2)), rng.uniform(0, 1, (300, 2))
    amounts = (np.array([2.0, 1.2]) * taste - prices) / np.array([0.5, 3.0])
    return taste, prices, amounts, sj.Box(lower=0.0)


def choosers():
    ease, fees = rng.normal(size=(300, 3)), rng.uniform(0, 1, (300, 3))
    score = (np.array([1.0, 0.5, 2.0]) * ease - fees) / 0.7
    shares = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    return ease, fees, shares, sj.Simplex()


@pytest.mark.parametrize(
    ("utility", "play", "truth", "start"),
    [
        (firm, firms, [0.8, 2.5], [1.0, 1.0]),
        (shopper, shoppers, [2.0, 1.2, np.log(0.5), np.log(3.0)], [3.0, 3.0, 0.0, 0.0]),
        (chooser, choosers, [1.0, 0.5, 2.0, np.log(0.7)], [0.3, 0.3, 0.3, 0.0]),
    ],
    ids=["firm", "shopper", "chooser"],
)
def test_no_options_recover_a_follower(utility, play, truth, start):
    context, action, response, feasible = play()
    seen = sj.Observations(
        *(jnp.asarray(part, jnp.float32) for part in (context, action, response))
    )
    module = Partial(utility, jnp.asarray(start, jnp.float32))
    fitted, history = sj.fit_follower(
        module, seen, response_set=feasible, key=jax.random.key(0)
    )  # fmt: skip
    np.testing.assert_allclose(fitted.args[0], truth, rtol=1e-2, atol=5e-3)
    assert history.fit_converged and history.converged[-1] == 1, history


def test_parameters_of_very_different_steepness():
    """A slope in thousands and a constant: the first step leaves 1e-6 of the steepest gradient."""
    a = jnp.linspace(-1000.0, 1000.0, 101)
    line = Partial(lambda w, a, r, x: -((r - w[0] - w[1] * a) ** 2), jnp.zeros(2))
    fitted, history = sj.fit_follower(
        line, sj.Observations(None, a, 0.3 + a), key=jax.random.key(0)
    )  # fmt: skip
    np.testing.assert_allclose(fitted.args[0], [0.3, 1.0], rtol=1e-3)
    assert history.status == sj.fit.FitStatus.CONVERGED


def test_steep_starts_end_right_or_flagged():
    """`max(0, 2 - a)` from starts at which it is up to 40 times as much; the loss can reach 0."""
    a = jnp.linspace(0.0, 3.0, 40)
    seen = sj.Observations(None, a, jnp.maximum(0.0, 2.0 - a))
    utility = lambda w, a, r, x: (w[0] - a) * r - 0.5 * jnp.exp(w[1]) * r**2
    starts = jnp.asarray([(w, b) for w in (4.0, 8.0, 12.0) for b in (-2.0, 0.0, 2.0)])
    fit = lambda w: sj.fit_follower(
        Partial(utility, w), seen, response_set=sj.Box(0.0), key=jax.random.key(0)
    )
    fitted, history = jax.jit(jax.vmap(fit))(starts)
    right = np.abs(np.asarray(fitted.args[0]) - np.array([2.0, 0.0])).max(1) < 1e-2
    assert right.sum() >= 8 and right[np.asarray(history.fit_converged)].all()
