"""`fit_follower` and `fit_leader`: they recover known answers, exactly repeatable, and say no."""

from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fit_examples import DEMAND, KEY, Line, Pull, known, leader, observations
from flax import nnx

import stackjax as sj


class Tied(nnx.Module):
    def __init__(self):
        self.line = Line()
        self.again = self.line.slope

    def __call__(self, demand):
        return self.line(demand) * self.again


def test_leader_reaches_the_known_optimum():
    policy, history = leader(steps=1500)
    played = jax.vmap(policy)(DEMAND)
    chex.assert_trees_all_close(played, (DEMAND - 1) / 2, atol=0.05)
    answer = jax.vmap(known.best_response)(played, DEMAND)
    value = jax.vmap(known.game.leader_utility)(played, answer, DEMAND).mean()
    best = jax.vmap(lambda x: known.game.leader_utility(*known.equilibrium(x), x))(DEMAND).mean()
    assert value > 0.999 * best
    assert history.utility.shape == history.gradient_norm.shape == (1500,)
    assert (history.converged == 1).all()


def test_follower_is_recovered():
    module, history = sj.fit_follower(Pull(), observations(), key=KEY)
    chex.assert_trees_all_close(module.weights[...], jnp.array([0.7, -0.3]), atol=1e-3)
    assert module.scale == 2.0
    assert history.utility[-1] > -1e-4 > history.utility[0]


def test_follower_is_recovered_from_censored_play():
    """Responses at a bound say only that the bound was reached; knowing the set undoes the bias."""
    seen = observations(bound=0.4)
    box = sj.Box(-0.4, 0.4)
    knowing, _ = sj.fit_follower(Pull(), seen, key=KEY, response_set=box, steps=2000)
    chex.assert_trees_all_close(knowing.weights[...], jnp.array([0.7, -0.3]), atol=0.01)
    ignoring, _ = sj.fit_follower(Pull(), seen, key=KEY, steps=2000)
    assert ignoring.weights[0] < 0.6


def test_deterministic_and_the_same_with_progress():
    seen = []
    plain = leader(steps=45)
    again = leader(
        steps=45,
        progress=True,
        callback=lambda step, _, h: seen.append((step, len(h.utility))),
    )
    chex.assert_trees_all_equal(plain, again)
    assert seen[-1] == (45, 45) and len(seen) > 10
    other = leader(jax.random.key(1), steps=45)
    assert not np.array_equal(plain[1].utility, other[1].utility)


def test_seeds_by_vmap_under_jit():
    keys = jax.random.split(KEY, 3)
    policies, history = jax.jit(jax.vmap(lambda k: leader(k, steps=20)))(keys)
    assert history.utility.shape == (3, 20)
    alone, _ = leader(keys[1], steps=20)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], policies), alone, rtol=1e-4)


def test_first_step_follows_the_total_derivative(x64):
    """One step of gradient descent moves by the finite difference of the mean utility."""

    def mean(slope):
        action = slope * DEMAND + 1.0
        answer = jax.vmap(known.best_response)(action, DEMAND)
        return jax.vmap(known.game.leader_utility)(action, answer, DEMAND).mean()

    _, history = leader(steps=1, batch_size=None, optimizer=optax.sgd(1.0))
    policy, _ = leader(steps=1, batch_size=None, optimizer=optax.sgd(1e-6))
    slope = (mean(0.1 + 1e-5) - mean(0.1 - 1e-5)) / 2e-5
    assert np.isclose((policy.slope[...] - 0.1) / 1e-6, slope, rtol=1e-2)
    assert history.gradient_norm[0] > abs(slope)


def test_failed_followers_are_left_out_and_counted():
    """A third of the contexts have a follower without an answer: the rest is fitted as if alone."""

    def follower(q1, q2, x):
        demand, valid = x
        return jnp.where(valid, known.game.follower_utility(q1, q2, demand), jnp.nan)

    broken = sj.Game(lambda a, r, x: known.game.leader_utility(a, r, x[0]), follower)
    valid = jnp.arange(512) % 3 > 0
    policy = nnx.List([Line()])

    class First(nnx.Module):
        def __init__(self):
            self.line = policy[0]

        def __call__(self, x):
            return self.line(x[0])

    fitted, history = leader(
        policy=First(), game=broken, contexts=(DEMAND, valid), batch_size=None, steps=200
    )
    alone, _ = leader(contexts=DEMAND[valid], batch_size=None, steps=200)
    chex.assert_trees_all_close(history.converged, jnp.full(200, valid.mean()), atol=1e-6)
    chex.assert_trees_all_close(fitted.line, alone, rtol=1e-3)


def test_a_policy_that_is_not_a_number_somewhere_still_learns():
    class Root(Line):
        def __call__(self, demand):
            return self.slope * jnp.sqrt(demand - 8.0) + self.offset

    _, history = leader(policy=Root(), batch_size=None)
    assert np.isfinite(history.gradient_norm).all()
    assert history.utility[-1] > history.utility[0] + 1
    chex.assert_trees_all_close(history.converged, jnp.full(300, (DEMAND >= 8).mean()), atol=1e-6)


def test_a_follower_without_a_maximum_is_left_out():
    class Runaway(nnx.Module):
        def __init__(self):
            self.pull = nnx.Param(jnp.array(1.0))

        def __call__(self, action, response, context):
            return self.pull * response

    _, history = sj.fit_follower(Runaway(), observations(32), key=KEY, steps=20)
    assert (history.converged == 0).all() and np.isfinite(history.utility).all()


def test_line_search_optimisers_work():
    policy, _ = leader(batch_size=None, optimizer=optax.lbfgs(), steps=20)
    chex.assert_trees_all_close(policy.slope[...], 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: leader(contexts=jnp.zeros(0)), ValueError,
         "`contexts` must hold at least one row"),
        (lambda: leader(contexts=(DEMAND, DEMAND[:3])), ValueError,
         r"`contexts` must share one leading axis.*contexts\[0\]: 512, contexts\[1\]: 3"),
        (lambda: leader(contexts=DEMAND.at[7].set(jnp.nan)), ValueError,
         "`contexts` must be finite; got nan at index 7, 1 of 512"),
        (lambda: leader(key=0), TypeError, "`key` must be one key from jax.random.key"),
        (lambda: leader(policy=3), TypeError, "`policy` must be callable; got 3"),
        (lambda: leader(policy=jnp.sin), ValueError, "`policy` must have parameters to train"),
        (lambda: leader(policy=nnx.BatchNorm(1, rngs=nnx.Rngs(0))), ValueError,
         "`policy` holds state that is not a parameter: BatchStat at `policy.mean`"),
        (lambda: leader(steps=0), ValueError, "`steps` must be at least 1; got 0"),
        (lambda: leader(batch_size=0), ValueError, "`batch_size` must be at least 1; got 0"),
        (lambda: leader(batch_size=3.5), TypeError, "`batch_size` must be an integer; got 3.5"),
        (lambda: leader(optimizer=0.1), TypeError, "`optimizer` must be an optax.Gradient.*0.1"),
        (lambda: leader(key=jax.random.split(KEY)), TypeError, "`key` must be one key"),
        (lambda: leader(policy=Tied()), ValueError,
         "holds one parameter twice, as `policy.again` and `policy.line.slope`"),
        (lambda: leader(response=1), TypeError, "`response` must be floating point"),
        (lambda: leader(game=known), TypeError, "`game` must be a stackjax.Game; got ClosedForm"),
        (lambda: sj.fit_follower(Pull(), cast(Any, 3), key=KEY), TypeError,
         "`observations` must be a stackjax.Observations; got 3"),
        (lambda: sj.fit_follower(Pull(), observations(0), key=KEY), ValueError,
         "`observations` must hold at least one row"),
        (lambda: sj.fit_follower(Pull(), observations().replace(action=jnp.zeros(3)), key=KEY),
         ValueError, "observations.action: 3, observations.response: 512"),
    ],
)  # fmt: skip
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
def test_follower_on_a_simplex():
    """Shares of a budget: what is learned is the taste, up to a constant in all shares."""

    class Taste(nnx.Module):
        def __init__(self):
            self.taste = nnx.Param(jnp.zeros(3))

        def __call__(self, action, response, context):
            return (self.taste[...] + action) @ response - jnp.sum(response**2)

    true, budget = jnp.array([0.5, -0.2, 0.1]), sj.Simplex()
    known = sj.Game(
        lambda a, r, x: 0.0,
        lambda a, r, x: (true + a) @ r - jnp.sum(r**2),
        response_set=budget,
    )
    action = 0.3 * jax.random.normal(jax.random.key(0), (64, 3))
    start = jnp.full(3, 1 / 3)
    play = jax.jit(jax.vmap(lambda a: sj.best_response(known, a, None, response=start).value))
    logs = sj.Observations(jnp.zeros((64, 1)), action, play(action))
    learned, history = sj.fit_follower(
        Taste(), logs, key=jax.random.key(1), response_set=budget, steps=150
    )
    centred = learned.taste[...] - jnp.mean(learned.taste[...])
    assert jnp.abs(centred - (true - jnp.mean(true))).max() < 0.01
    assert history.converged.min() == 1


def test_leader_needs_a_set_to_project_onto():
    ring = sj.Constrained(lambda a, r, x: jnp.sum(a**2) - 1.0)
    game = sj.Game(lambda a, r, x: 0.0, lambda a, r, x: -(r**2), action_set=ring)
    with pytest.raises(TypeError, match="`game.action_set` must be a Box, Simplex or Ball"):
        sj.fit_leader(
            nnx.Linear(1, 1, rngs=nnx.Rngs(0)), game, jnp.zeros((4, 1)), response=jnp.array(0.0),
            key=jax.random.key(0),
        )  # fmt: skip


def test_a_sweep_of_rates_compiles_once_and_is_that_of_each_alone():
    traced = []

    def utility(w, a, r, x):
        traced.append(1)
        return -((r - w * a) ** 2)

    pull = jax.tree_util.Partial(utility, jnp.array(0.0))
    how: Any = {"key": KEY, "steps": 30}
    fit = lambda rate: sj.fit_follower(pull, observations(16), learning_rate=rate, **how)
    first = fit(0.01)[0].args[0]
    count = len(traced)
    second = fit(jnp.array(0.03))[0].args[0]
    assert len(traced) - count < count / 2  # shapes are looked at again; no program is made
    both = jax.jit(jax.vmap(lambda rate: fit(rate)[0].args[0]))(jnp.array([0.01, 0.03]))
    chex.assert_trees_all_close(both, jnp.stack([first, second]), rtol=1e-5)
    assert abs(second) > 2 * abs(first)
    for rate, error in ((0.0, ValueError), ("fast", TypeError), (jnp.ones(2), TypeError)):
        with pytest.raises(error, match="`learning_rate` must be"):
            fit(cast(Any, rate))


def test_how_often_a_callback_is_called():
    steps = []
    call = lambda step, module, history: steps.append(step)
    pull = jax.tree_util.Partial(lambda w, a, r, x: -((r - w * a) ** 2), jnp.array(0.0))
    how: Any = {"key": KEY, "steps": 20, "batch_size": 4, "callback": call}
    sj.fit_follower(pull, observations(16), every=8, **how)
    assert steps == [8, 16, 20]
    with pytest.raises(ValueError, match="`every` must be at least 1; got 0"):
        sj.fit_follower(pull, observations(16), every=0, **how)
