import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from payoff_draws import draw, pick, signals

import stackjax as sj
from stackjax.agents.game import _payoffs as payoffs
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface

COUNT = 40


@pytest.fixture(scope="module")
def contexts():
    return draw(COUNT, jnp.float32)


def test_both_payoffs_by_hand():
    nothing = jnp.zeros((3, 3))
    quality = QualitySurface(jnp.array(0.5), jnp.array([0.2, 0.0, 0.0]), nothing, jnp.zeros(3))
    tokens = TokenSurface(jnp.array(100.0), jnp.array([100.0, 0.0, 0.0]), nothing)
    context = payoffs.resource_context(
        jnp.zeros(14),
        quality,
        tokens,
        previous=jnp.array([0.7, 0.2]),
        budget=jnp.array(0.05),
        reference=jnp.ones(3),
    )
    action, response = jnp.array([0.8, 0.4]), jnp.zeros(3)  # Q = 0.4, t = 0.5; tau_Q = 0.6
    assert context.target_quality == pytest.approx(0.6)
    k = payoffs.DEFAULT.softness

    def soft(z):
        return k * np.log1p(np.exp(z / k))

    assert payoffs.follower_utility(action, response, context) == pytest.approx(
        0.4 - 0.3 * 0.3 - soft(0.4), rel=1e-5
    )
    expected = 0.5 - 3 * soft(0.2) - soft(0.15) * soft(0.0) - 0.05 * (0.01 + 0.04)
    assert payoffs.leader_utility(action, response, context) == pytest.approx(expected, rel=1e-5)


def test_smooth_hinge_bounds_the_hinge():
    z = jnp.linspace(-1, 1, 201)
    excess = payoffs.smooth_hinge(z, 0.02) - jnp.maximum(z, 0)
    assert (excess >= -1e-7).all()
    assert excess.max() == pytest.approx(0.02 * np.log(2), rel=1e-5)
    assert jnp.isfinite(jax.vmap(jax.grad(lambda z: payoffs.smooth_hinge(z, 1e-3)))(z)).all()


def test_a_follower_that_pays_nothing_ignores_tokens(contexts):
    context, response = pick(contexts, 0), jnp.full(3, 0.3)
    dear = context.replace(tokens=jax.tree.map(lambda leaf: 2 * leaf, context.tokens))
    free, paid = jnp.array([0.8, 1.0]), jnp.array([0.8, 0.0])
    utility = payoffs.follower_utility
    assert utility(free, response, context) == utility(free, response, dear)
    assert utility(paid, response, context) > utility(paid, response, dear)


def test_strong_concavity_is_at_least_the_computed_bound():
    with jax.enable_x64(True):
        contexts, actions = draw(COUNT, jnp.float64), signals(COUNT, jnp.float64)
        responses = jnp.asarray(np.random.default_rng(5).uniform(size=(COUNT, 3)))

        def least(action, response, context):
            hessian = jax.hessian(payoffs.follower_utility, argnums=1)(action, response, context)
            return -jnp.linalg.eigvalsh(hessian)[-1], payoffs.concavity_bound(context)

        curvature, bound = jax.jit(jax.vmap(least))(actions, responses, contexts)
        assert (bound >= 0.1).all()
        assert (curvature >= bound - 1e-9).all()


def test_best_response_beats_a_grid(contexts):
    game = payoffs.resource_game()
    actions = signals(COUNT, jnp.float32)

    def answer(action, context):
        return sj.best_response(game, action, context, response=jnp.full(3, 0.5))

    found = jax.jit(jax.vmap(answer))(actions, contexts)
    assert found.converged.all()
    axis = jnp.linspace(0, 1, 11)
    grid = jnp.stack(jnp.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    utility = payoffs.follower_utility
    best = jax.vmap(lambda a, x: jax.vmap(lambda r: utility(a, r, x))(grid).max())(
        actions, contexts
    )
    mine = jax.vmap(utility)(actions, found.value, contexts)
    assert (mine >= best - 1e-5).all()
    one = answer(actions[2], pick(contexts, 2))
    np.testing.assert_allclose(one.value, found.value[2], atol=1e-5)


def test_weights_reach_both_payoffs(contexts):
    heavy = dataclasses.replace(payoffs.DEFAULT, cost=2.0, degradation=0.0)
    game = payoffs.resource_game(weights=heavy)
    context, action, response = pick(contexts, 1), jnp.array([0.7, 0.0]), jnp.full(3, 0.2)
    follower = payoffs.follower_utility(action, response, context, weights=heavy)
    assert game.follower_utility(action, response, context) == follower
    assert follower != payoffs.follower_utility(action, response, context)
    assert game.leader_utility(action, response, context) != payoffs.leader_utility(
        action, response, context
    )


def test_smooth_subsidy_is_rate_limited_and_stays_in_the_interval():
    step = jax.jit(jax.vmap(payoffs.smooth_subsidy))
    applied = step(jnp.array([1.0, 0.0, 0.6, 1.0]), jnp.array([0.2, 0.1, 0.5, 0.95]))
    np.testing.assert_allclose(applied, [0.35, 0.05, 0.55, 0.975], rtol=1e-6)


def test_payoffs_batch_equals_loop(contexts):
    actions, responses = signals(COUNT, jnp.float32), jnp.full((COUNT, 3), 0.4)
    for utility in (payoffs.leader_utility, payoffs.follower_utility):
        batch = jax.jit(jax.vmap(utility))(actions, responses, contexts)
        loop = [utility(actions[i], responses[i], pick(contexts, i)) for i in range(5)]
        np.testing.assert_allclose(batch[:5], loop, rtol=1e-5)
