"""Fitted followers against optima by SciPy, formulas and simulation; what a fit says of itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, special, stats

import stackjax as sj

PARAMETERS = np.array([8.0, 2.0, 2.0])  # worth, its slope in the weather, the bend


def buyer(start):
    """`(w0 + w1 x - a) r - w2 r^2 / 2`, so r = (w0 + w1 x - a) / w2, at least 0 in a box."""
    utility = lambda w, a, r, x: (w[0] + w[1] * x - a) * r - w[2] * r**2 / 2
    return jax.tree_util.Partial(utility, jnp.asarray(start))


def table(seed, noise, count=400, top=9.0):
    """Weather, price and what was bought, clipped at 0 after the noise."""
    rng = np.random.default_rng(seed)
    x, a = rng.uniform(0, 1, count), rng.uniform(1, top, count)
    worth = PARAMETERS[0] + PARAMETERS[1] * x - a
    return x, a, np.maximum(0, worth / PARAMETERS[2] + noise * rng.normal(size=count))


def observed(x, a, r):
    return sj.Observations(jnp.asarray(x), jnp.asarray(a), jnp.asarray(r))


FAST: Any = {"steps": 400, "optimizer": optax.adam(optax.cosine_decay_schedule(0.3, 400))}
BOX: Any = {"response_set": sj.Box(lower=0.0)}


def test_fit_converged_tells_a_fit_that_is_done_from_one_that_is_not():
    """With no options the slope is right, 2; with small steps it is .5, and the fit says so."""
    x, a, r = (np.float32(y) for y in table(0, 0.1))
    start = np.array([10.0, -0.05, 1.0], np.float32)
    with pytest.warns(UserWarning, match="did not converge: the utility still rose after 200 step"):
        hasty, short = sj.fit_follower(
            buyer(start), observed(x, a, r), key=jax.random.key(0), **BOX,
            learning_rate=0.01, steps=200,
        )  # fmt: skip
    done, long = sj.fit_follower(buyer(start), observed(x, a, r), key=jax.random.key(0), **BOX)
    assert (short.status, long.status) == ("improving", "converged") and long.steps < 100
    assert abs(hasty.args[0][1] - 2) > 0.5 and abs(done.args[0][1] - 2) < 0.2
    assert short.converged[-1] == long.converged[-1] == 1  # all followers' solvers, both times
    assert not short.fit_converged and long.fit_converged


def test_a_fit_without_any_slope_says_that_it_did_not_move():
    """All modelled answers at 0: no gradient, the module comes back as it was."""
    x, a, r = (np.float32(y) for y in table(0, 0.1))
    start = np.array([-5.0, 0.0, 1.0], np.float32)
    with pytest.warns(UserWarning, match="the gradient is exactly zero"):
        found, history = sj.fit_follower(
            buyer(start), observed(x, a, r), key=jax.random.key(0), steps=50, **BOX
        )
    assert history.status == sj.fit.FitStatus.NO_SLOPE
    np.testing.assert_array_equal(found.args[0], start)
    assert (history.gradient_norm == 0).all() and not history.fit_converged and not history.diverged


@pytest.mark.parametrize("batch", [None, 64])
def test_fit_converged_follows_a_quadratic_by_hand(batch):
    """A mean: sure to be reached at rate 0.2, sure not to be at 1e-4; noise does not matter."""
    values = np.float32(np.random.default_rng(1).normal(3.0, 2.0, 512))
    rule = jax.tree_util.Partial(lambda w, action, context: w + 0 * action, jnp.array(50.0))
    seen = sj.Observations(jnp.zeros(512), jnp.zeros(512), jnp.asarray(values))
    for rate, wanted in ((0.2, True), (1e-4, False)):
        found, history = sj.fit_follower(
            rule, seen, key=jax.random.key(0), estimator=sj.fit.BehaviourCloning(), steps=200,
            batch_size=batch, optimizer=optax.sgd(rate),
        )  # fmt: skip
        assert bool(history.fit_converged) == wanted
        # loss (w - y)^2 contracts the distance to the mean by 1 - 2 rate a step
        left = (50 - values.mean()) * (1 - 2 * rate) ** 200
        error = 1e-3 if batch is None else 1.0
        assert abs(found.args[0] - values.mean() - left) < error


def test_noiseless_play_gives_the_parameters_back(x64):
    x, a, r = table(2, 0.0, top=12.0)
    assert 0.05 < (r == 0).mean() < 0.5
    found, history = sj.fit_follower(
        buyer([10.0, 0.5, 1.0]), observed(x, a, r), key=jax.random.key(0), steps=60,
        batch_size=None, optimizer=optax.lbfgs(), **BOX,
    )  # fmt: skip
    np.testing.assert_allclose(found.args[0], PARAMETERS, rtol=1e-5)
    assert history.utility[-1] > -1e-10 and history.fit_converged


@pytest.mark.parametrize("unit", [1.0, pytest.param(1e-3, marks=pytest.mark.slow)])
def test_noisy_play_gives_the_least_squares(x64, unit):
    """The same minimum as SciPy finds for `max(0, (w0 + w1 x - a) / w2)`, in two units."""
    x, a, r = table(3, 0.3)
    model = lambda w: np.maximum(0, (w[0] + w[1] * x - a) / w[2])
    best = optimize.least_squares(lambda w: model(w) - r, PARAMETERS, xtol=1e-14, ftol=1e-14)
    start = np.array([9.0, 1.0, 1.5]) * [1, 1, 1 / unit]
    # responses in other units bend the utility: the same answers, times `unit`
    change = jax.tree_util.Partial(
        lambda w, a, r, x: (w[0] + w[1] * x - a) * r - w[2] / unit * r**2 / 2,
        jnp.asarray(start * [1, 1, unit]),
    )
    found, history = sj.fit_follower(
        change, observed(x, a, unit * r), key=jax.random.key(0), steps=80,
        batch_size=None, optimizer=optax.lbfgs(), **BOX,
    )  # fmt: skip
    np.testing.assert_allclose(history.utility[-1], -2 * best.cost / len(x) * unit**2, rtol=1e-6)
    np.testing.assert_allclose(found.args[0], best.x, rtol=1e-3)


def test_gaussian_likelihood_is_that_of_a_regression(x64):
    """Without bounds: ordinary least squares, and the residuals' deviation, channel by channel."""
    rng = np.random.default_rng(4)
    a = rng.uniform(-3, 4, 200)
    slopes, spread = np.array([0.5, 300.0]), np.array([0.05, 40.0])
    r = a[:, None] * slopes + spread * rng.normal(size=(200, 2))
    pull = jax.tree_util.Partial(
        lambda w, a, r, x: -jnp.sum((r / jnp.array([1.0, 1e3]) - w * a) ** 2), jnp.zeros(2)
    )
    found, history = sj.fit_follower(
        pull, observed(np.zeros(200), a, r), key=jax.random.key(0), batch_size=None,
        estimator=sj.fit.GaussianResponse(), steps=800,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 800)),
    )  # fmt: skip
    ols = a @ r / (a @ a)
    residuals = r - a[:, None] * ols
    deviation = np.sqrt((residuals**2).mean(0))
    np.testing.assert_allclose(found.args[0] * np.array([1, 1e3]), ols, rtol=1e-4)
    np.testing.assert_allclose(history.noise, deviation, rtol=1e-3)
    likelihood = stats.norm.logpdf(residuals, scale=deviation).sum(1).mean()
    np.testing.assert_allclose(history.utility[-1], likelihood, atol=1e-5)


def test_censored_likelihood_is_tobit(x64):
    """Against SciPy's maximum of the Tobit likelihood, and against the truth (3 errors)."""
    x, a, r = table(5, 0.8, top=12.0)
    assert (r == 0).mean() > 0.15

    def minus(p):
        w, std = p[:3], np.exp(p[3])
        mean = (w[0] + w[1] * x - a) / w[2]
        at = stats.norm.logcdf(-np.maximum(mean, 0) / std)
        # the modelled answer is itself held at 0, as a best response is
        return -np.where(r <= 0, at, stats.norm.logpdf(r, np.maximum(mean, 0), std)).mean()

    best = optimize.minimize(
        minus, [*PARAMETERS, np.log(0.8)], method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 8000},
    )  # fmt: skip
    found, history = sj.fit_follower(
        buyer([9.0, 1.0, 1.5]), observed(x, a, r), key=jax.random.key(0), batch_size=None, **BOX,
        estimator=sj.fit.GaussianResponse(censored=True), **FAST,
    )  # fmt: skip
    assert history.utility[-1] >= -best.fun - 1e-4
    np.testing.assert_allclose(history.noise, np.exp(best.x[3]), rtol=0.02)
    np.testing.assert_allclose(found.args[0], best.x[:3], rtol=0.05)


def test_quantal_likelihood_is_a_logit(x64):
    """Three options with utilities `w_k a`: SciPy's multinomial logit on the same choices."""
    rng = np.random.default_rng(6)
    grid, a = np.array([1e3, 2e3, 5e3]), rng.uniform(-2, 2, 300)
    tastes = np.array([0.0, 0.8, -0.6])
    chosen = (a[:, None] * tastes + rng.gumbel(size=(300, 3))).argmax(1)

    def minus(w):
        scores = np.outer(a, [0, *w])
        return -(scores[np.arange(300), chosen] - special.logsumexp(scores, axis=1)).mean()

    best = optimize.minimize(minus, np.zeros(2), tol=1e-12)
    utility = jax.tree_util.Partial(
        lambda w, a, r, x: a * (w[0] * (r == 2e3) + w[1] * (r == 5e3)), jnp.zeros(2)
    )
    found, history = sj.fit_follower(
        utility, observed(np.zeros(300), a, grid[chosen]), key=jax.random.key(0),
        estimator=sj.fit.GibbsResponse(jnp.asarray(grid)), steps=30, batch_size=None,
        optimizer=optax.lbfgs(),
    )  # fmt: skip
    np.testing.assert_allclose(found.args[0], best.x, rtol=1e-4)
    np.testing.assert_allclose(history.utility[-1], -best.fun, rtol=1e-8)


def test_bootstrap_spread_is_the_standard_error(x64):
    """128 refits of a mean, in groups and without: the error of a mean by the textbook."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(40), 5)
    y = 1e3 * (rng.normal(size=40)[groups] + 0.3 * rng.normal(size=200))
    seen = sj.Observations(jnp.zeros(200), jnp.zeros(200), jnp.asarray(y))
    rule = jax.tree_util.Partial(lambda w, action, context: w + 0 * action, jnp.array(0.0))

    def spread(groups):
        def member(key):
            sample = seen.bootstrap(key, groups=groups)
            assert sample.weight is not None
            fitted, _ = sj.fit_follower(
                rule, sample, key=key, estimator=sj.fit.BehaviourCloning(), steps=40,
                batch_size=None, optimizer=optax.sgd(0.4),
            )  # fmt: skip
            return fitted.args[0], sample.weight

        means, weights = jax.jit(jax.vmap(member))(jax.random.split(jax.random.key(0), 128))
        weights = np.asarray(weights)
        np.testing.assert_allclose(means, weights @ y / weights.sum(1), rtol=1e-6)
        return np.std(means), weights

    alone, weights = spread(None)
    assert (weights.sum(1) == 200).all()
    np.testing.assert_allclose(alone, y.std(ddof=1) / np.sqrt(200), rtol=0.25)
    together, weights = spread(groups)
    assert (weights.reshape(128, 40, 5) == weights.reshape(128, 40, 5)[..., :1]).all()
    means = y.reshape(40, 5).mean(1)
    np.testing.assert_allclose(together, means.std(ddof=1) / np.sqrt(40), rtol=0.25)
