"""`fit_follower`'s estimators, gaps, weights, early stopping and bootstrap."""

from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fit_examples import KEY, Pull, observations
from flax import nnx
from quick import quick, quick_jit

import stackjax as sj

TRUE = jnp.array([0.7, -0.3])
NAN = jnp.nan


class Pulls(nnx.Module):
    """A follower with two channels, each drawn to a linear function of action and context."""

    def __init__(self):
        self.weights = nnx.Param(jnp.zeros((2, 2)))

    def __call__(self, action, response, context):
        pull = self.weights[...] @ jnp.stack([action, context])
        return -jnp.sum((response - pull) ** 2)


class Clone(nnx.Module):
    def __init__(self):
        self.weights = nnx.Param(jnp.zeros((2, 2)))

    def __call__(self, action, context):
        return self.weights[...] @ jnp.stack([action, context])


def two_channels(n=512, noise=(0.05, 0.4), low=-jnp.inf):
    keys = jax.random.split(KEY, 3)
    action, context = (jax.random.normal(k, (n,)) for k in keys[:2])
    mean = jnp.stack([0.7 * action - 0.3 * context, 0.2 * action + 0.5 * context], axis=1)
    errors = jax.random.normal(keys[2], (n, 2)) * jnp.array([noise])
    return sj.Observations(context, action, jnp.maximum(mean + errors, low))


BOTH = jnp.array([[0.7, -0.3], [0.2, 0.5]])


def fit(module: Any, seen: Any, **options: Any):
    given = {"steps": 200, "batch_size": 64, "optimizer": optax.adam(0.03)} | options
    return sj.fit_follower(module, seen, key=KEY, **given)


def test_the_default_is_the_regression():
    plain = fit(Pull(), observations(), steps=20)
    named = fit(Pull(), observations(), steps=20, estimator=sj.fit.ResponseRegression())
    chex.assert_trees_all_equal(plain, named)
    assert plain[1].noise is None


def test_gaussian_errors_are_learned_channel_by_channel():
    options: dict = {"estimator": sj.fit.GaussianResponse(), "batch_size": None, "steps": 500}
    module, history = quick(lambda seen: fit(Pulls(), seen, **options), two_channels())
    chex.assert_trees_all_close(module.weights[...], BOTH, atol=0.05)
    assert history.noise is not None
    np.testing.assert_allclose(history.noise, [0.05, 0.4], rtol=0.1)
    known = np.log([0.05, 0.4]).sum() + np.log(2 * np.pi) + 1  # entropy of the errors
    assert history.utility[-1] == pytest.approx(-known, abs=0.1)
    fixed, other = fit(Pulls(), two_channels(), estimator=sj.fit.GaussianResponse(std=0.2), steps=5)
    assert other.noise is None and isinstance(fixed, Pulls)


def test_noise_of_a_module_without_variables_and_in_callbacks():
    pull = jax.tree_util.Partial(lambda w, a, r, x: -((r - w * a) ** 2), jnp.array(0.0))
    seen = []
    watch = lambda step, module, history: seen.append((module.args[0], history.noise))
    module, history = fit(
        pull, observations(noise=0.1), estimator=sj.fit.GaussianResponse(), callback=watch, steps=40
    )
    assert history.noise is not None and history.noise.shape == ()
    chex.assert_trees_all_equal(seen[-1], (module.args[0], history.noise))


def test_censored_errors_do_not_bias():
    """Errors clipped to the box: the regression shrinks the slope, the tails mend it."""
    seen = two_channels(n=2000, noise=(0.3, 0.3), low=0.0)
    options: dict = {"response_set": sj.Box(0.0, jnp.inf), "batch_size": None, "steps": 300}
    biased, _ = quick(lambda seen: fit(Pulls(), seen, **options), seen)
    options["estimator"] = sj.fit.GaussianResponse(censored=True)
    mended, history = quick(lambda seen: fit(Pulls(), seen, **options), seen)
    off = lambda module: jnp.abs(module.weights[...] - BOTH).max()
    assert off(mended) < 0.08 and off(mended) < off(biased)
    np.testing.assert_allclose(history.noise, [0.3, 0.3], rtol=0.2)


GRID = jnp.linspace(-2.0, 2.0, 9)


def quantal(n=2000, temperature=0.5):
    """Play of a quantal follower on `GRID`."""
    keys = jax.random.split(KEY, 3)
    action, context = (jax.random.normal(k, (n,)) for k in keys[:2])
    pull = 0.7 * action - 0.3 * context
    utility = -2.0 * (GRID[None] - pull[:, None]) ** 2
    drawn = jax.random.categorical(keys[2], utility / temperature, axis=1)
    return sj.Observations(context, action, GRID[drawn])


@pytest.mark.parametrize("temperature", [0.5, None])
def test_gibbs_recovers_a_quantal_follower(temperature):
    estimator = sj.fit.GibbsResponse(GRID, temperature)
    module, history = fit(Pull(), quantal(), estimator=estimator, batch_size=None)
    chex.assert_trees_all_close(module.weights[...], TRUE, atol=0.05)
    if temperature is None:
        assert history.noise == pytest.approx(0.5, rel=0.1)
    assert (history.converged == 1).all()


def test_gibbs_likelihood_by_hand():
    """A missing channel is summed over: the marginal of the other."""
    axis = jnp.array([0.0, 1.0])
    grid = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    seen = sj.Observations(jnp.zeros(2), jnp.zeros(2), jnp.array([[0.9, NAN], [0.1, 1.2]]))
    _, history = fit(Pulls(), seen, estimator=sj.fit.GibbsResponse(grid), steps=1, batch_size=None)
    p = np.exp(-np.asarray(grid**2).sum(1))
    p /= p.sum()
    by_hand = (np.log(p[2] + p[3]) + np.log(p[1])) / 2
    assert history.utility[0] == pytest.approx(by_hand, rel=1e-5)


def test_cloning_needs_no_utility():
    module, history = fit(Clone(), two_channels(), estimator=sj.fit.BehaviourCloning())
    chex.assert_trees_all_close(module.weights[...], BOTH, atol=0.05)
    assert (history.converged == 1).all()


ESTIMATORS: list = [
    (sj.fit.ResponseRegression(), Pulls),
    (sj.fit.GaussianResponse(), Pulls),
    (sj.fit.GaussianResponse(censored=True), Pulls),
    (sj.fit.GibbsResponse(jnp.linspace(-1.0, 1.0, 10).reshape(5, 2)), Pulls),
    (sj.fit.BehaviourCloning(), Clone),
]
SOME = [
    ESTIMATORS[0],
    *(pytest.param(*one, marks=pytest.mark.slow) for one in ESTIMATORS[1:-1]),
    ESTIMATORS[-1],
]


@pytest.mark.parametrize(("estimator", "module"), SOME)
def test_gaps_and_weights(estimator, module):
    """Rows without a number or a weight are as if absent; gaps leave the other channel."""
    seen = two_channels(n=24)
    options: dict = {"estimator": estimator, "steps": 3, "batch_size": None}
    if "Gaussian" in type(estimator).__name__:
        options["response_set"] = sj.Box(-3.0, 3.0)
    short = jax.tree.map(lambda leaf: leaf[:20], seen)
    alone, history = fit(module(), short, **options)
    response = seen.response.at[20:22].set(NAN)
    weight = jnp.full(24, 2.0).at[22:].set(0.0)
    under_jit = quick_jit(lambda seen: fit(module(), seen, **options))
    padded, other = under_jit(seen.replace(response=response, weight=weight))
    chex.assert_trees_all_close(padded, alone, atol=1e-5)
    chex.assert_trees_all_close(other.noise, history.noise, rtol=1e-4)
    assert (other.converged[:3] == history.converged).all()

    blind, how = under_jit(
        seen.replace(response=seen.response.at[:, 1].set(NAN), weight=0 * weight + 1)
    )
    assert np.isfinite(how.gradient_norm).all() and jnp.isfinite(blind.weights[...]).all()
    assert (blind.weights[0] != 0).all()
    if not isinstance(estimator, sj.fit.GibbsResponse):
        assert (blind.weights[1] == 0).all()


@pytest.mark.parametrize(("estimator", "module"), SOME)
def test_first_step_follows_the_objective(estimator, module, x64):
    """The gradient of the first step is the finite difference of the utility in the history."""
    seen = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), two_channels(n=24))
    seen = seen.replace(weight=jnp.linspace(0.0, 2.0, 24), response=seen.response.at[3, 1].set(NAN))
    box = (
        None
        if isinstance(estimator, sj.fit.GibbsResponse | sj.fit.BehaviourCloning)
        else sj.Box(-0.5, 9)
    )
    at = jnp.array([[0.3, 0.1], [-0.2, 0.4]])

    def utility(weights, rate=0.0):
        begun = module()
        begun.weights[...] = weights
        return fit(
            begun, seen, estimator=estimator, response_set=box, steps=1, batch_size=None,
            optimizer=optax.sgd(rate),
        )  # fmt: skip

    moved, _ = utility(at, 1e-4)
    way = (moved.weights[...] - at) / 1e-4
    value = jax.jit(lambda t: utility(at + t * way)[1].utility[0])
    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, jnp.sum(way**2), rtol=1e-5)


def test_validation_returns_the_best_module_and_stops():
    """Six rows are learned by heart; the held-out rows say when to stop."""

    class Wide(nnx.Module):
        def __init__(self):
            self.weights = nnx.Param(jnp.zeros(8))

        def __call__(self, action, context):
            return jnp.cos(jnp.arange(8.0) * action * 3) @ self.weights[...]

    seen = observations(n=12, noise=0.5)
    options: dict = {"estimator": sj.fit.BehaviourCloning(), "batch_size": None, "steps": 2000}
    module, history = fit(Wide(), seen, validation=0.5, patience=3, **options)
    assert history.best < history.steps < 2000
    at_best = history.validation[history.best - 1]
    assert at_best == history.validation[np.isfinite(history.validation)].max()
    order = jax.random.permutation(jax.random.fold_in(KEY, 2**32 - 1), 12)
    part = lambda index: jax.tree.map(lambda leaf: leaf[index], seen)
    again, same = fit(Wide(), part(order[6:]), validation=part(order[:6]), patience=3, **options)
    chex.assert_trees_all_equal((module, history), (again, same))
    value = -jnp.mean(
        jax.vmap(lambda r: (module(r.action, r.context) - r.response) ** 2)(part(order[:6]))
    )
    assert value == pytest.approx(float(at_best), rel=1e-5)


def test_bootstrap_weights():
    seen = observations(n=50)
    groups = np.repeat(["a", "b", "c", "d", "e"], 10)
    keys = jax.random.split(KEY, 200)
    plain = jax.jit(jax.vmap(lambda k: seen.bootstrap(k).weight))(keys)
    whole = jax.jit(jax.vmap(lambda k: seen.bootstrap(k, groups=groups).weight))(keys)
    assert plain.shape == whole.shape == (200, 50)
    assert (plain.sum(1) == 50).all() and (whole.sum(1) == 50).all()
    assert (whole.reshape(200, 5, 10) == whole.reshape(200, 5, 10)[:, :, :1]).all()
    # multinomial: mean 1, variance 1 - 1/N
    np.testing.assert_allclose(plain.mean(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(plain.var(0).mean(), 0.98, rtol=0.05)
    np.testing.assert_allclose(whole.var(0).mean(), 0.8, rtol=0.1)
    weighted = seen.replace(weight=jnp.arange(50.0))
    chex.assert_trees_all_close(weighted.bootstrap(keys[0]).weight, plain[0] * jnp.arange(50.0))


def test_an_ensemble_by_vmap_knows_its_error():
    """The spread over bootstrap samples is the standard error of the slope, 0.5 / sqrt(200)."""
    seen = observations(n=200, noise=0.5)

    def member(key):
        sample, train = jax.random.split(key)
        return sj.fit_follower(
            Pull(), seen.bootstrap(sample), key=train, batch_size=None, steps=150,
            optimizer=optax.adam(0.05),
        )  # fmt: skip

    members, history = jax.jit(jax.vmap(member))(jax.random.split(KEY, 24))
    weights = members.weights[...]
    assert weights.shape == (24, 2) and history.utility.shape == (24, 150)
    np.testing.assert_allclose(weights.std(0), 0.5 / 200**0.5, rtol=0.5)
    assert (jnp.abs(weights.mean(0) - TRUE) < 0.12).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit(Pull(), observations(), estimator="ml"), TypeError,
         r"`estimator` must be stackjax.fit.ResponseRegression\(\), .*; got 'ml'"),
        (lambda: sj.fit.GaussianResponse(std=-1.0), ValueError,
         "`std` must be positive.*; got -1.0"),
        (lambda: sj.fit.GaussianResponse(std=cast(Any, jnp.ones(2))), TypeError,
         "`std` must be a Python number"),
        (lambda: sj.fit.GaussianResponse(censored=cast(Any, 1)), TypeError,
         "`censored` must be True or False"),
        (lambda: sj.fit.GibbsResponse(GRID, 0.0), ValueError, "`temperature` must be positive"),
        (lambda: fit(Pull(), observations(), estimator=sj.fit.GibbsResponse(GRID[:, None])),
         ValueError, r"`estimator.grid` must hold at least 2 .* shapes \[\(\)\]; got \[\(9, 1\)\]"),
        (lambda: fit(Pull(), observations(), estimator=sj.fit.GibbsResponse({"r": GRID})),
         ValueError, "`estimator.grid` must have the structure of a response"),
        (lambda: fit(Pull(), observations(), estimator=sj.fit.GibbsResponse(GRID.at[1].set(NAN))),
         ValueError, "`estimator.grid` must be finite; got nan at index 1"),
        (lambda: fit(Pull(), observations(), estimator=sj.fit.GibbsResponse(GRID),
                     solver=sj.Newton()), TypeError, "`solver` must be None with GibbsResponse"),
        (lambda: fit(Clone(), two_channels(), estimator=sj.fit.BehaviourCloning(),
                     response_set=sj.Box(0.0, 1.0)), TypeError,
         "`response_set` must be None with BehaviourCloning"),
        (lambda: fit(Clone(), observations(), estimator=sj.fit.BehaviourCloning()), ValueError,
         r"`module` must return a response like the recorded .*\(\); it returned \(2,\)"),
        (lambda: fit(Pulls(), two_channels(), response_set=sj.Simplex(),
                     estimator=sj.fit.GaussianResponse(censored=True)), TypeError,
         "`response_set` must be a Box with censored responses"),
        (lambda: fit(Pull(), observations().replace(weight=-jnp.ones(512))), ValueError,
         "`observations.weight` must not be negative; got -1 at index 0, 512 of 512"),
        (lambda: fit(Pull(), observations().replace(weight=jnp.ones((512, 1)))), ValueError,
         r"`observations.weight` must have shape \(512,\), one number a row; got shape \(512, 1\)"),
        (lambda: fit(Pull(), observations().replace(weight=jnp.zeros(512))), ValueError,
         "a row of positive weight with a number in its response; got none"),
        (lambda: fit(Pull(), observations().replace(response=jnp.full(512, jnp.inf))), ValueError,
         "`observations.response` must be finite; got inf at index 0"),
        (lambda: fit(Pull(), observations().replace(action=jnp.full(512, NAN))), ValueError,
         "`observations.action` must be finite; got nan at index 0"),
        (lambda: fit(Pull(), observations(), validation=1.0), ValueError,
         "`validation` must be a share between 0 and 1; got 1.0"),
        (lambda: fit(Pull(), observations(1), validation=0.5), ValueError,
         "`validation` must have at least 2 rows to split; got 1"),
        (lambda: fit(Pull(), observations(), validation="a"), TypeError, "`validation` must be"),
        (lambda: fit(Pull(), observations(), validation=two_channels()), ValueError,
         "`validation` must hold rows like those of `observations`"),
        (lambda: fit(Pull(), observations(), validation=0.5, patience=0), ValueError,
         "`patience` must be at least 1; got 0"),
        (lambda: observations().bootstrap(KEY, groups=[1, 2]), ValueError,
         r"`groups` must have shape \(512,\), one label a row; got shape \(2,\)"),
    ],
)  # fmt: skip
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
