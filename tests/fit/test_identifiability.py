"""Simulated play of a known follower: what `fit_follower` finds out, and what it cannot."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_examples import observations
from flax import nnx
from payoff_draws import make_context, signals
from quick import quick_jit

import stackjax as sj
from stackjax.agents.game._networks import LearnedFollower
from stackjax.agents.game._payoffs import resource_game

FIT, HELD = 2000, 600
NOISE = 0.05
RATIONAL = resource_game()


def surfaces(count):
    """Contexts whose features tell their surfaces: quality and tokens both rise in each channel."""
    rng = np.random.default_rng(3)
    rise, cost = rng.uniform(0.02, 0.12, (count, 3)), rng.uniform(-1.5, 0.5, (count, 3))
    level = rng.uniform(0.7, 0.85, (count, 1))
    low = lambda width, value=-3.0: np.full((count, width), value)
    quality = np.concatenate([level, rise, low(12)], axis=1)
    tokens = np.concatenate([low(1, -1.0), cost, low(12)], axis=1)
    previous, budget = rng.uniform(size=(count, 2)), np.full(count, 0.5)
    arrays = (jnp.asarray(x, jnp.float32) for x in (quality, tokens, previous, budget))
    drawn = jax.vmap(make_context)(*arrays)
    features = np.concatenate([level, rise, cost, np.zeros((count, 7))], axis=1)
    return drawn.replace(features=jnp.asarray(features, jnp.float32))


@pytest.fixture(scope="module")
def play():
    """The rational follower's answers to random signals, with noise, clipped to the box."""
    contexts, actions = surfaces(FIT + HELD), signals(FIT + HELD, jnp.float32)
    answer = quick_jit(lambda a, x: answers(RATIONAL, a, x))
    truth = answer(actions, contexts)
    noise = NOISE * jax.random.normal(jax.random.key(7), truth.shape)
    seen = sj.Observations(contexts, actions, jnp.clip(truth + noise, 0, 1))
    return seen, truth, slopes(answer, actions, contexts)


def answers(game, actions, contexts):
    one = lambda a, x: sj.best_response(game, a, x, response=jnp.full(3, 0.5)).value
    return jax.vmap(one)(actions, contexts)


def slopes(answer, actions, contexts):
    """The mean of d r / d (q, alpha) over contexts and channels, `[2]`, by central differences."""
    half = jnp.array([[0.01, 0.0], [0.0, 0.01]])
    change = [answer(actions + h, contexts) - answer(actions - h, contexts) for h in half[:, None]]
    return np.array([float(c.mean()) / 0.02 for c in change])


def rmse(apart):
    return float(jnp.sqrt(jnp.mean(apart**2)))


def test_a_known_follower_is_found_from_2000_observations(play):
    """Held-out error within 5 % of the noise floor; mean slopes of the right sign and size."""
    seen, truth, true_slopes = play
    part = lambda rows: jax.tree.map(lambda leaf: leaf[rows], seen)
    fit = quick_jit(
        lambda rows: sj.fit_follower(
            LearnedFollower(rngs=nnx.Rngs(0)),
            rows,
            key=jax.random.key(0),
            estimator=sj.fit.GaussianResponse(),
            response_set=RATIONAL.response_set,
            steps=400,
            batch_size=128,
        )
    )
    fitted, history = fit(part(slice(FIT)))
    answer = quick_jit(lambda a, x: answers(resource_game(fitted), a, x))
    found, held = answer(seen.action, seen.context)[FIT:], seen.response[FIT:]
    assert rmse(held - found) < 1.05 * rmse(held - truth[FIT:])
    assert (true_slopes > 0.1).all()
    np.testing.assert_allclose(slopes(answer, seen.action, seen.context), true_slopes, rtol=0.2)
    np.testing.assert_allclose(history.noise, NOISE, rtol=0.1)
    assert history.converged.min() > 0.98


def test_scale_and_terms_without_the_response_cannot_be_known():
    """Utilities with one best response explain play equally well, number for number."""
    seen = observations(n=64, noise=0.3)

    def twin(w, action, response, context):
        return -7.0 * (response - w * action) ** 2 + jnp.exp(action) * context

    plain = lambda w, action, response, context: -((response - w * action) ** 2)
    start = jnp.array(0.2)
    fits = [
        sj.fit_follower(jax.tree_util.Partial(one, start), seen, key=jax.random.key(0), steps=50)
        for one in (plain, twin)
    ]
    chex.assert_trees_all_close(fits[0][0].args, fits[1][0].args, rtol=1e-4)
    chex.assert_trees_all_close(fits[0][1].utility, fits[1][1].utility, rtol=1e-4)
