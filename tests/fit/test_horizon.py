"""Sessions of several turns: exact on a problem with a solution by hand, and safe where one fails.

A stock s is fished: the follower catches what the leader asks for, r = l, for the leader's utility
`s r - r^2`, and half the catch is missing at the next turn. Of two turns the last is best with
`l = s / 2`, worth `s^2 / 4`, and the first, which thinks of it, with `theta s`.
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

KEY = jax.random.key(0)
ADAM = optax.adam(0.03)  # one, so that fits share a compilation
THREE: Any = 3
HALF: Any = 1.5
LOSS, GAMMA = 0.5, 0.9
FIRST = (2 - GAMMA * LOSS) / (4 - GAMMA * LOSS**2)
STOCKS = jnp.linspace(1.0, 3.0, 16)


def catch(action, response, context):
    return context[0] * response - response**2


def obedient(action, response, context):
    return -((response - action) ** 2)


def fished(state, action, response, key):
    return state[0] - LOSS * response, state[1] + 1


GAME = sj.Game(catch, obedient, action_set=sj.Box(0.0, 5.0), response_set=sj.Box(0.0, 5.0))
DYNAMICS = sj.fit.Dynamics(lambda state: state, fished)
START = np.array(0.5)  # in the precision of the test


class Shares(nnx.Module):
    """What is caught of the stock, by turn."""

    def __init__(self, turns=2):
        self.shares = nnx.Param(jnp.full(turns, 0.3))

    def __call__(self, context):
        stock, turn = context
        return self.shares[...][turn.astype(int)] * stock


def begin(stocks):
    return stocks, jnp.zeros_like(stocks)


def fit(policy: Any = None, horizon: Any = None, states: Any = None, **options):
    horizon = sj.fit.Horizon(DYNAMICS, turns=2, discount=GAMMA) if horizon is None else horizon
    options = {"steps": 200, "optimizer": ADAM, "game": GAME} | options
    return sj.fit_leader(
        Shares() if policy is None else policy, options.pop("game"),
        begin(STOCKS) if states is None else states,
        response=START, key=KEY, horizon=horizon, **options,
    )  # fmt: skip


def play(policy, state, key=KEY, game=GAME, dynamics=DYNAMICS, **options):
    options = {"turns": 2, "discount": GAMMA} | options
    return sj.fit.rollout(policy, game, dynamics, state, response=START, key=key, **options)


def test_leader_thinks_ahead():
    policy, history = fit()
    chex.assert_trees_all_close(policy.shares[...], jnp.array([FIRST, 0.5]), atol=2e-3)
    assert (history.converged == 1).all() and history.constraints.shape == (200, 0)
    best = jax.vmap(lambda s: play(policy, s).value)(begin(STOCKS)).mean()
    shortsighted = lambda context: 0.5 * context[0]
    assert best > jax.vmap(lambda s: play(shortsighted, s).value)(begin(STOCKS)).mean()
    chex.assert_trees_all_close(history.utility[-1], best, rtol=1e-4)


def test_one_turn_is_the_stage_wise_fit():
    horizon = sj.fit.Horizon(DYNAMICS, turns=1)
    several, _ = fit(Shares(1), horizon, steps=50)
    alone, _ = sj.fit_leader(
        Shares(1), GAME, begin(STOCKS), response=START, key=KEY, steps=50,
        optimizer=ADAM,
    )  # fmt: skip
    chex.assert_trees_all_close(several, alone, rtol=1e-5)


def test_trajectory_by_hand():
    played = play(lambda context: 0.5 * context[0], begin(jnp.array(2.0)))
    chex.assert_trees_all_close(played.action, jnp.array([1.0, 0.75]), rtol=1e-5)
    chex.assert_trees_all_close(played.response, played.action, rtol=1e-5)
    chex.assert_trees_all_close(played.leader_utility, jnp.array([1.0, 0.5625]), rtol=1e-5)
    chex.assert_trees_all_close(played.value, jnp.array(1 + GAMMA * 0.5625), rtol=1e-5)
    chex.assert_trees_all_close(played.state, (jnp.array([2.0, 1.5]), jnp.array([0.0, 1.0])))
    chex.assert_trees_all_close(played.last, (jnp.array(1.125), jnp.array(2.0)))
    assert played.converged.all() and isinstance(played, sj.fit.Trajectory)


def test_actions_are_held_and_committed():
    """Held for two turns; moved by at most 0.1 each time the policy is asked."""
    limited = sj.fit.Dynamics(
        lambda state: state,
        lambda state, action, response, key: (state[0] - 0.1 * response, action),
        commit=lambda state, action: jnp.clip(action, state[1] - 0.1, state[1] + 0.1),
    )
    state = jnp.array(2.0), jnp.array(0.4)
    played = play(lambda context: 0.5 * context[0], state, dynamics=limited, turns=5, hold=2)
    chex.assert_trees_all_close(played.action, jnp.array([0.5, 0.5, 0.6, 0.6, 0.7]), rtol=1e-5)


class Coupled(nnx.Module):
    """A smooth follower, so that every turn's response depends on the state and the action."""

    def __init__(self):
        self.pull = nnx.Param(jnp.array([0.7, 0.4]))

    def __call__(self, action, response, context):
        target = self.pull[0] * action + self.pull[1] * jnp.sin(context[0])
        return -((response - target) ** 2) - 0.1 * response**4


def drifting(state, action, response, key):
    noise = 0.1 * jax.random.normal(key, dtype=state[0].dtype)
    return 0.9 * state[0] + 0.3 * jnp.tanh(response) * action + noise, action


DRIFT = sj.fit.Dynamics(
    lambda state: state, drifting, commit=lambda state, action: 0.5 * (state[1] + action)
)


@pytest.mark.parametrize("options", [{}, {"hold": 2}])
def test_gradient_against_differences(x64, options):
    """With respect to the policy, the follower and the state, under jit and vmap."""
    theta = jnp.array([0.4, 0.3])
    states = jnp.array([1.0, 1.7]), jnp.array([0.2, 0.9])
    pull = jnp.array([0.7, 0.4])

    def value(theta, pull, state):
        follower = Coupled()
        follower.pull[...] = pull
        game = sj.Game(lambda a, r, x: x[0] * r - a**2 - r**2 * a, follower)
        policy = jax.tree_util.Partial(lambda w, x: w[0] * x[0] + w[1], theta)
        return play(policy, state, game=game, dynamics=DRIFT, turns=4, **options).value

    both = quick_jit(jax.vmap(jax.value_and_grad(value, (0, 1, 2)), in_axes=(None, None, 0)))
    batch = lambda *moved: both(*moved)[0]
    found, step = both(theta, pull, states)[1], 1e-5
    for part, size in ((0, 2), (1, 2)):
        for i in range(size):
            move = [jnp.zeros(2), jnp.zeros(2)]
            move[part] = move[part].at[i].set(step)
            up, down = (batch(theta + s * move[0], pull + s * move[1], states) for s in (1, -1))
            np.testing.assert_allclose(found[part][:, i], (up - down) / (2 * step), rtol=1e-6)
    up, down = (batch(theta, pull, (states[0] + s * step, states[1])) for s in (1, -1))
    np.testing.assert_allclose(found[2][0], (up - down) / (2 * step), rtol=1e-6)


def test_batch_is_the_loop_and_luck_belongs_to_the_key():
    keys = jax.random.split(KEY, 3)
    states = jnp.array([1.0, 2.0, 3.0]), jnp.zeros(3)
    pick = lambda tree, i: jax.tree.map(lambda x: x[i], tree)

    def one(state, key, w):
        policy = jax.tree_util.Partial(lambda w, x: w * x[0], w)
        return play(policy, state, key, dynamics=DRIFT, turns=3)

    wide = jnp.array(0.5)
    many = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))(states, keys, wide)
    lone = jax.jit(one)
    alone = [lone(pick(states, i), keys[i], wide) for i in range(3)]
    for i in range(3):
        chex.assert_trees_all_close(pick(many, i), alone[i], rtol=1e-5)

    def shock(played):
        """What the last turn added to the stock by chance."""
        pulled = 0.3 * jnp.tanh(played.response[-1]) * played.action[-1]
        return played.last[0] - 0.9 * played.state[0][-1] - pulled

    other = lone(pick(states, 0), keys[0], jnp.array(0.2))
    np.testing.assert_allclose(shock(alone[0]), shock(other), atol=1e-6)
    assert abs(shock(alone[0]) - shock(lone(pick(states, 0), keys[1], wide))) > 1e-3


def test_failed_sessions_are_left_out_and_counted():
    """A third of the sessions have a follower that fails at the second turn."""

    def fragile(action, response, context):
        _, turn, valid = context
        broken = (turn > 0) & (valid < 0.5)
        return jnp.where(broken, jnp.nan, 1.0) * obedient(action, response, None)

    game = sj.Game(catch, fragile, action_set=GAME.action_set, response_set=GAME.response_set)
    lost = lambda s, a, r, key: (jnp.sqrt(s[0] - LOSS * r), s[1] + 1, s[2])
    kept = lambda s, a, r, key: (jnp.sqrt(s[0] - LOSS * r), s[1] + 1)
    valid = (jnp.arange(16) % 3 > 0).astype(float)

    class First(Shares):
        def __call__(self, context):
            return super().__call__(context[:2])

    horizon = lambda step: sj.fit.Horizon(
        sj.fit.Dynamics(lambda s: s, step), turns=2, discount=GAMMA
    )
    states = (*begin(STOCKS), valid)
    policy, history = fit(First(), horizon(lost), states, game=game, steps=60)
    alone, _ = fit(Shares(), horizon(kept), begin(STOCKS[valid > 0]), steps=60)
    chex.assert_trees_all_close(history.converged, jnp.full(60, valid.mean()), atol=1e-6)
    chex.assert_trees_all_close(policy.shares[...], alone.shares[...], rtol=1e-4)
    assert np.isfinite(history.gradient_norm).all()
    failing = jax.tree.map(lambda x: x[0], states)
    played = play(policy, failing, game=game, dynamics=horizon(lost).dynamics)
    assert played.converged.tolist() == [True, False]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(played))


def test_a_state_that_is_no_number_does_not_spoil_the_gradient():
    """The smallest stock runs out: its root has no value and no derivative."""
    step = lambda s, a, r, key: (jnp.sqrt(s[0] - r - 1.0) + 1.5, s[1] + 1)
    horizon = sj.fit.Horizon(sj.fit.Dynamics(lambda s: s, step), turns=2, discount=GAMMA)
    _, history = fit(Shares(), horizon, (jnp.array([1.0, 2.0, 3.0]), jnp.zeros(3)), steps=5)
    assert np.isfinite(history.gradient_norm).all() and not history.diverged
    chex.assert_trees_all_close(history.converged, jnp.full(5, 2 / 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sj.fit.Dynamics(THREE, fished), TypeError, "must have a callable `context`"),
        (lambda: sj.fit.Dynamics(lambda s: s, fished, commit=THREE), TypeError,
         "callable `commit`"),
        (lambda: sj.fit.Horizon(DYNAMICS, turns=0), ValueError,
         "`turns` must be at least 1; got 0"),
        (lambda: sj.fit.Horizon(DYNAMICS, hold=HALF), TypeError,
         "`hold` must be an integer; got 1.5"),
        (lambda: sj.fit.Horizon(DYNAMICS, discount=1.1), ValueError,
         r"`discount`.*\(0, 1\]; got 1.1"),
        (lambda: fit(horizon=3), TypeError,
         "`horizon` must be a stackjax.fit.Horizon or None; got 3"),
        (lambda: fit(horizon=sj.fit.Horizon(GAME)), TypeError, "`dynamics` must have a callable"),
        (lambda: fit(horizon=sj.fit.Horizon(sj.fit.Dynamics(lambda s: s, lambda *a: a[0][0]))),
         TypeError, "`dynamics.step` must return a state like the one before"),
        (lambda: play(3, begin(START)), TypeError, "`policy` must be callable; got 3"),
        (lambda: play(Shares(), begin(START), key=THREE), TypeError, "`key` must be one key"),
        (lambda: play(Shares(), begin(START), follower=sj.fit.Ensemble()), TypeError,
         r"`follower` must be stackjax.fit.Suboptimal\(...\) or None"),
    ],
)  # fmt: skip
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
