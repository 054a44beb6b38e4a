"""Followers known only roughly, on linear-quadratic games whose worst case is known by hand.

`U_F = -mu/2 |r - b l|^2` leaves the ball of radius `sqrt(2 delta / mu)` around `b l`; a leader with
`U_L = x c'r - l^2` loses `x |c|` times the radius there.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from quick import quick_jit

import stackjax as sj
from stackjax.fit._robust import answer_to, worst_share

MU, PULL, TASTE = 2.0, np.array([0.5, 0.3]), np.array([1.0, -2.0])
KEY = jax.random.key(0)
ADAM = optax.adam(0.05)  # one, so that fits share a compilation
THREE: Any = 3
WORD: Any = "a"


def linear(action, response, context):
    return context * jnp.dot(TASTE, response) - action**2


def follower(action, response, context):
    return -0.5 * MU * jnp.sum((response - PULL * action) ** 2)


GAME = sj.Game(linear, follower)


def worst(action, context, delta, game=GAME, starts=2):
    """The leader's utility at the worst response, the response, whether it was found."""
    settings = sj.Newton()
    start = jnp.zeros(2, action.dtype)
    found = answer_to(
        sj.fit.Suboptimal(delta, starts=starts), game, action, context, start, settings
    )
    return game.leader_utility(action, found[0], context), found[0], found[1]


def by_hand(action, context, delta):
    radius = jnp.sqrt(2 * delta / MU)
    return linear(action, PULL * action, context) - context * jnp.linalg.norm(TASTE) * radius


ACTIONS, CONTEXTS = np.linspace(0.1, 2.0, 5), np.linspace(0.5, 2.0, 5)


def test_worst_response_and_its_gradient_by_hand(x64):
    """Under jit and vmap, over five orders of delta, which is differentiated too."""

    def value(action, context, delta):
        utility, _, found = worst(action, context, delta)
        return utility, found

    slopes = jax.value_and_grad(value, (0, 1, 2), has_aux=True)
    many = quick_jit(jax.vmap(slopes, in_axes=(0, 0, None)))
    expected = jax.vmap(jax.value_and_grad(by_hand, (0, 1, 2)), in_axes=(0, 0, None))
    for delta in (1.0, 1e-2, 1e-5):
        arguments = jnp.asarray(ACTIONS), jnp.asarray(CONTEXTS), jnp.asarray(delta)
        (utility, found), slope = many(*arguments)
        wanted, way = expected(*arguments)
        assert found.all()
        np.testing.assert_allclose(utility, wanted, rtol=1e-9, atol=1e-9)
        chex.assert_trees_all_close(slope, way, rtol=1e-6, atol=1e-8)


class Bent(nnx.Module):
    """A follower with parameters that is not quadratic, in a box that it touches."""

    def __init__(self):
        self.pull = nnx.Param(jnp.asarray(PULL))

    def __call__(self, action, response, context):
        off = response - self.pull[...] * action
        return -jnp.sum(off**2) - 0.3 * jnp.sum(off**4) + 0.2 * context * response[0]


def concave(action, response, context):
    return -jnp.sum((response - 0.3 * context) ** 2) - action**2 + 0.1 * response[0]


def test_concave_leader_against_a_grid_and_differences(x64):
    """A leader with a worst response on either side; the box binds; through the parameters."""
    delta = 0.3

    def value(pull, action, context):
        bent = Bent()
        bent.pull[...] = pull
        game = sj.Game(concave, bent, response_set=sj.Box(-0.5, 0.6))
        utility, _, found = worst(action, context, delta, game)
        return utility, found

    many = quick_jit(jax.vmap(jax.value_and_grad(value, (0, 1), has_aux=True), (None, 0, 0)))
    alone = lambda *moved: many(*moved)[0][0]
    pull, actions, contexts = jnp.asarray(PULL), jnp.asarray(ACTIONS), jnp.asarray(CONTEXTS)
    (utility, found), slope = many(pull, actions, contexts)
    assert found.all()
    step, game = 1e-5, sj.Game(concave, Bent())
    up, down = (alone(pull, actions + s * step, contexts) for s in (1, -1))
    np.testing.assert_allclose(slope[1], (up - down) / (2 * step), rtol=1e-4, atol=1e-7)
    up, down = (alone(pull + s * step * TASTE, actions, contexts) for s in (1, -1))
    np.testing.assert_allclose(slope[0] @ TASTE, (up - down) / (2 * step), rtol=1e-4, atol=1e-7)

    axis = jnp.linspace(0, 1, 251)
    grid = jnp.stack(jnp.meshgrid(axis * 1.1 - 0.5, axis * 1.1 - 0.5), -1).reshape(-1, 2)
    each = lambda f: jax.jit(jax.vmap(jax.vmap(f, (None, 0, None)), (0, None, 0)))
    own, lead = (each(f)(actions, grid, contexts) for f in (game.follower_utility, concave))
    near = own >= own.max(axis=1, keepdims=True) - delta
    np.testing.assert_allclose(utility, jnp.where(near, lead, jnp.inf).min(axis=1), atol=0.02)


class Level(nnx.Module):
    def __init__(self):
        self.level = nnx.Param(jnp.array(1.5))

    def __call__(self, context):
        return self.level * jnp.ones_like(context)


def hitting(action, response, context):
    """Little effort for the response to be at least 1, softly, and none to be far above."""
    return -jax.nn.softplus(8 * (1 - response)) - 0.5 * action**2


def matching(action, response, context):
    return -((response - action) ** 2)


SAFE = sj.Game(hitting, matching)


def fit(policy: Any = None, game: Any = SAFE, **options):
    options = {"steps": 250, "optimizer": ADAM, "batch_size": None} | options
    return sj.fit_leader(
        Level() if policy is None else policy, game, jnp.ones(4), response=jnp.array(1.0),
        key=KEY, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_robust_policy_loses_less_under_a_suboptimal_follower():
    """Responses of `action +- 0.3`: the careful leader acts as if 0.3 were always missing."""
    nominal, _ = fit()
    robust, history = fit(follower=sj.fit.Suboptimal(0.09))
    assert (history.converged == 1).all()
    lazy = lambda action: hitting(action, action - 0.3, None)
    exact = lambda action: hitting(action, action, None)
    careful, usual = robust.level[...], nominal.level[...]
    assert lazy(careful) > lazy(usual) + 0.05 and exact(usual) > exact(careful)
    levels = jnp.linspace(0.5, 2.5, 20001)
    best = levels[jnp.argmax(jax.vmap(lazy)(levels))]
    np.testing.assert_allclose(careful, best, atol=2e-3)
    np.testing.assert_allclose(history.utility[-1], lazy(best), rtol=1e-3)
    nearly, _ = fit(follower=sj.fit.Suboptimal(1e-7))  # a radius of 0.0003
    np.testing.assert_allclose(nearly.level[...], usual, atol=2e-3)


class Pulled(nnx.Module):
    def __init__(self, gain):
        self.gain = nnx.Param(jnp.asarray(gain))

    def __call__(self, action, response, context):
        return -((response - self.gain * action) ** 2)


GAINS = jnp.array([0.6, 1.0, 1.2, 1.6])


def many(gains=GAINS):
    """Followers that answer `gain l`, to a leader who would have the response at 1."""
    goal = lambda action, response, context: -((response - context) ** 2)
    return sj.Game(goal, jax.vmap(Pulled)(gains))


def test_ensemble_mean_worst_and_between():
    """Members miss by `gain l - 1`: the worst two are equally bad at `l = 2 / (0.6 + 1.6)`."""
    average, history = fit(game=many(), follower=sj.fit.Ensemble())
    np.testing.assert_allclose(average.level[...], GAINS.sum() / (GAINS**2).sum(), atol=2e-3)
    assert history.utility.shape == (250,) and (history.converged == 1).all()
    decay = optax.adam(optax.cosine_decay_schedule(0.05, 250))
    worst, history = fit(game=many(), follower=sj.fit.Ensemble(tail=0.0), optimizer=decay)
    np.testing.assert_allclose(worst.level[...], 2 / 2.2, atol=5e-3)
    np.testing.assert_allclose(history.utility[-1], -((0.6 * 2 / 2.2 - 1) ** 2), rtol=0.03)
    # the worst half: the lowest gain, and 1 or 1.6, whose errors cross at the best level
    half, _ = fit(game=many(), follower=sj.fit.Ensemble(tail=0.5), optimizer=decay)
    np.testing.assert_allclose(half.level[...], 2 / 2.6, atol=5e-3)


@pytest.mark.parametrize(
    "each", [None, pytest.param(sj.fit.Suboptimal(1e-6), marks=pytest.mark.slow)]
)
def test_all_options_at_once(each):
    """One member that is (nearly) exact, two turns, a constraint: the first step by hand."""
    dynamics = sj.fit.Dynamics(lambda x: x, lambda x, a, r, key: 0.9 * x + 0.1 * r)
    policy, history = fit(
        game=many(jnp.array([0.6])), follower=sj.fit.Ensemble(each=each), steps=20,
        horizon=sj.fit.Horizon(dynamics, turns=2),
        constraints=[sj.fit.Average(lambda a, r, x: r, at_least=0.95)],
    )  # fmt: skip
    # responses of 0.6 times 1.5 to goals of 1 and 0.99
    first = -((0.9 - 1) ** 2) - 0.99 * (0.9 - 0.99) ** 2
    np.testing.assert_allclose(history.utility[0], first, atol=1e-3)
    np.testing.assert_allclose(history.constraints[0], [-0.05], atol=2e-3)
    assert (history.converged == 1).all() and policy.level[...] > 1.55


def test_a_member_that_fails_is_left_out():
    gains = jnp.array([0.6, jnp.nan, 1.6])
    policy, history = fit(game=many(gains), follower=sj.fit.Ensemble())
    np.testing.assert_allclose(policy.level[...], 2.2 / (0.6**2 + 1.6**2), atol=2e-3)
    np.testing.assert_allclose(history.converged, 2 / 3, rtol=1e-6)
    assert np.isfinite(history.gradient_norm).all()


def test_worst_share():
    values = jnp.array([3.0, -1.0, 2.0, 0.0])
    present = jnp.array([True, True, True, False])
    share = lambda tail, present=jnp.ones(4, bool): worst_share(values, present, tail)
    for tail, want in ((1.0, 1.0), (0.0, -1.0), (0.25, -1.0), (0.5, -0.5), (0.375, -2 / 3)):
        np.testing.assert_allclose(share(tail), want, rtol=1e-6)
    np.testing.assert_allclose(share(1.0, present), 4 / 3, rtol=1e-6)
    np.testing.assert_allclose(share(0.0, jnp.zeros(4, bool)), 0.0)
    slope = jax.jit(jax.grad(lambda v: worst_share(v, present, 2 / 3)))(values)
    np.testing.assert_allclose(slope, [0.0, 0.5, 0.5, 0.0], atol=1e-6)


@pytest.mark.slow
def test_rollout_against_a_suboptimal_follower():
    """Every turn's response lies 0.3 below the action."""
    dynamics = sj.fit.Dynamics(lambda x: x, lambda x, a, r, key: x + r)
    played = sj.fit.rollout(
        lambda x: 1.0 + 0.0 * x, SAFE, dynamics, jnp.array(0.0), turns=2, response=jnp.array(1.0),
        key=KEY, follower=sj.fit.Suboptimal(jnp.array(0.09)),
    )  # fmt: skip
    np.testing.assert_allclose(played.response, [0.7, 0.7], rtol=1e-4)
    np.testing.assert_allclose(played.last, 1.4, rtol=1e-4)
    assert played.converged.all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sj.fit.Suboptimal(0.0), ValueError,
         "`delta` must be positive and finite; got 0.0"),
        (lambda: sj.fit.Suboptimal("1"), TypeError,
         "Suboptimal: `delta` must be a number; got '1'"),
        (lambda: sj.fit.Suboptimal(0.1, starts=0), ValueError,
         "`starts` must be at least 1; got 0"),
        (lambda: sj.fit.Suboptimal(0.1, solver=THREE), TypeError, "`solver` must be"),
        (lambda: sj.fit.Ensemble(tail=1.5), ValueError, r"`tail` must lie in \[0, 1\]; got 1.5"),
        (lambda: sj.fit.Ensemble(tail=WORD), TypeError, "`tail` must be a Python number; got 'a'"),
        (lambda: sj.fit.Ensemble(each=THREE), TypeError,
         "`each` must be stackjax.fit.Suboptimal.*got 3"),
        (lambda: fit(follower=0.1), TypeError,
         r"`follower` must be stackjax.fit.Suboptimal.*got 0.1"),
        (lambda: fit(follower=sj.fit.Suboptimal(jnp.array(-1.0))), ValueError,
         "`follower.delta`.*-1"),
        (lambda: fit(follower=sj.fit.Ensemble()), ValueError, "`follower`: an Ensemble needs"),
        (lambda: fit(game=sj.Game(hitting, Pulled(1.0)), follower=sj.fit.Ensemble()), ValueError,
         r"leading axes \['none'\]"),
    ],
)  # fmt: skip
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
