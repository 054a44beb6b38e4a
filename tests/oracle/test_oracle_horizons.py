"""Sessions of several turns against dynamic programming, scenario trees and simulation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import stackjax as sj

# A stock s; the leader sets a in [-1, 2.5], the follower harvests r = (s - a) / 2 within [0, 1.5]
# and the leader gets a r - 0.2 s^2; the stock grows to 1.1 s - 0.5 r + shock.
LOW, HIGH, TOP = -1.0, 2.5, 1.5


def answer(s, a):
    return np.clip((s - a) / 2, 0, TOP)


def reward(s, a, r):
    return a * r - 0.2 * s**2


def grown(s, r, shock=0.0):
    return 1.1 * s - 0.5 * r + shock


def game():
    return sj.Game(
        lambda a, r, s: a * r - 0.2 * s["s"] ** 2,
        lambda a, r, s: (s["s"] - a) * r - r**2,
        action_set=sj.Box(LOW, HIGH),
        response_set=sj.Box(0.0, TOP),
    )


def one_a_turn(values):
    """A policy that knows the turn only: an action each."""
    return jax.tree_util.Partial(lambda w, x: w[x["t"]], jnp.asarray(values))


def moved(state, action, response, key):
    return {"s": 1.1 * state["s"] - 0.5 * response, "t": state["t"] + 1}


def first(stock, count=1):
    return {"s": jnp.full(count, stock), "t": jnp.zeros(count, jnp.int32)}


def by_programming(stock, turns, discount, points=3001):
    """The value of the best closed-loop policy: backward induction on a fine grid of stocks."""
    grid, actions = np.linspace(-6, 8, points), np.linspace(LOW, HIGH, 701)
    after = np.zeros(points)
    for _ in range(turns):
        s, a = grid[:, None], actions[None]
        r = answer(s, a)
        worth = reward(s, a, r) + discount * np.interp(grown(s, r), grid, after)
        after = worth.max(1)
    return np.interp(stock, grid, after)


def simulated(stock, actions, discount):
    total, s = 0.0, stock
    for t, a in enumerate(actions):
        r = answer(s, a)
        total, s = total + discount**t * reward(s, a, r), grown(s, r)
    return total, s


@pytest.mark.parametrize("stock,discount", [(2.0, 0.9), (3.5, 1.0)])
def test_fitted_session_is_worth_what_dynamic_programming_says(x64, stock, discount):
    """Without shocks the best plan from one stock is the best policy there."""
    horizon = sj.fit.Horizon(sj.fit.Dynamics(lambda s: s, moved), turns=3, discount=discount)
    found, history = sj.fit_leader(
        one_a_turn([0.5, 0.5, 0.5]), game(), first(stock), response=jnp.array(0.5),
        key=jax.random.key(0), horizon=horizon, steps=500,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 500)),
    )  # fmt: skip
    best = by_programming(stock, 3, discount)
    reached, _ = simulated(stock, np.asarray(found.args[0]), discount)
    np.testing.assert_allclose(history.utility[-1], reached, rtol=1e-6)
    np.testing.assert_allclose(reached, best, atol=2e-4)
    # a leader that looks one turn ahead gets less, so that the comparison says something
    greedy = simulated(stock, _greedy(stock), discount)[0]
    assert greedy < best - 5e-3


def _greedy(stock, turns=3):
    actions, chosen, s = np.linspace(LOW, HIGH, 20001), [], stock
    for _ in range(turns):
        a = actions[np.argmax(reward(s, actions, answer(s, actions)))]
        chosen.append(a)
        s = grown(s, answer(s, a))
    return chosen


@pytest.mark.parametrize("hold", [1, 2])
def test_rollout_is_the_simulation(x64, hold):
    """State, action, response, utility of every turn; an action is held, a proposal clipped."""
    stock, discount, plan = 3.0, 0.8, [9.0, 0.7, -0.3, 0.4, 1.1]
    played = sj.fit.rollout(
        one_a_turn(plan),
        game(),
        sj.fit.Dynamics(lambda s: s, moved),
        jax.tree.map(lambda x: x[0], first(stock)),
        turns=5,
        response=jnp.array(0.2),
        key=jax.random.key(3),
        discount=discount,
        hold=hold,
    )
    actions = np.clip([plan[t - t % hold] for t in range(5)], LOW, HIGH)
    s, total = stock, 0.0
    for t, a in enumerate(actions):
        r = answer(s, a)
        np.testing.assert_allclose(
            [played.state["s"][t], played.action[t], played.response[t], played.leader_utility[t]],
            [s, a, r, reward(s, a, r)], atol=1e-9,
        )  # fmt: skip
        total, s = total + discount**t * reward(s, a, r), grown(s, r)
    np.testing.assert_allclose([played.value, played.last["s"]], [total, s], atol=1e-9)
    assert played.converged.all()


def test_gradient_of_a_session_is_the_difference(x64):
    """Through responses, states, a rate limit and a bound that is active in one turn."""
    limit = lambda state, a: state["a"] + jnp.clip(a - state["a"], -0.6, 0.6)
    step = lambda state, a, r, key: {"s": 1.1 * state["s"] - 0.5 * r, "t": state["t"] + 1, "a": a}
    habit = sj.fit.Dynamics(lambda state: {"s": state["s"], "t": state["t"]}, step, commit=limit)
    start = {"s": jnp.array(4.1), "t": jnp.array(0), "a": jnp.array(0.3)}

    def value(plan):
        return sj.fit.rollout(
            one_a_turn(plan), game(), habit, start, turns=4, response=jnp.array(0.2),
            key=jax.random.key(3), discount=0.9,
        ).value  # fmt: skip

    def by_hand(plan):
        s, before, total = 4.1, 0.3, 0.0
        for t, a in enumerate(plan):
            before = before + np.clip(np.clip(a, LOW, HIGH) - before, -0.6, 0.6)
            r = answer(s, before)
            total, s = total + 0.9**t * reward(s, before, r), grown(s, r)
        return total

    plan = np.array([0.55, 2.0, 1.2, 1.0])  # the second is held back by the limit
    np.testing.assert_allclose(value(jnp.asarray(plan)), by_hand(plan), atol=1e-9)
    slope = jax.jit(jax.grad(value))(jnp.asarray(plan))
    each = [(by_hand(plan + h) - by_hand(plan - h)) / 2e-5 for h in 1e-5 * np.eye(4)]
    np.testing.assert_allclose(slope, each, atol=1e-6)
    assert slope[1] == 0 and (np.abs(np.delete(np.asarray(slope), 1)) > 1e-3).all()


@pytest.mark.slow
def test_shocks_are_met_as_the_scenario_tree_says(x64):
    """Two shocks of +-0.8, a policy with an action for each history: 1 + 2 + 4 numbers."""
    shock = 0.8

    def step(state, action, response, key):
        up = jax.random.bernoulli(key).astype(jnp.int32)
        grown = 1.1 * state["s"] - 0.5 * response + shock * (2 * up - 1)
        return {"s": grown, "t": 2 * state["t"] + 1 + up}  # nodes of a binary tree

    def expected(plan):
        total = 0.0
        for path in itertools.product((0, 1), repeat=2):
            s, node = 2.0, 0
            for t in range(3):
                a = np.clip(plan[node], LOW, HIGH)
                r = answer(s, a)
                total += 0.9**t * reward(s, a, r) / 4
                if t < 2:
                    s, node = grown(s, r, shock * (2 * path[t] - 1)), 2 * node + 1 + path[t]
        return total

    tree = max(
        -optimize.minimize(lambda w: -expected(w), start, method="Powell").fun
        for start in (np.zeros(7), np.full(7, 0.8), np.full(7, 1.5))
    )
    found, _ = sj.fit_leader(
        one_a_turn(np.full(7, 0.5)),
        game(),
        first(2.0, 256),
        response=jnp.array(0.5),
        key=jax.random.key(0),
        horizon=sj.fit.Horizon(sj.fit.Dynamics(lambda s: s, step), turns=3, discount=0.9),
        steps=800,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 800)),
    )
    reached = expected(np.asarray(found.args[0]))
    assert tree - 5e-3 < reached < tree + 1e-6
    blind = max(  # one action a turn, whatever the history
        -optimize.minimize(lambda w: -expected(np.repeat(w, [1, 2, 4])), s, method="Powell").fun
        for s in (np.zeros(3), np.ones(3))
    )
    assert reached > blind + 1e-3


@pytest.mark.slow
def test_an_average_over_turns_is_undiscounted(x64):
    """At most 0.35 harvested on average of three turns: SciPy's constrained optimum."""
    horizon = sj.fit.Horizon(sj.fit.Dynamics(lambda s: s, moved), turns=3, discount=0.7)

    def play(plan):
        s, total, taken = 2.0, 0.0, 0.0
        for t, a in enumerate(plan):
            r = (s - a) / 2
            total, taken, s = total + 0.7**t * reward(s, a, r), taken + r / 3, grown(s, r)
        return total, taken

    level = 0.35
    best = optimize.minimize(
        lambda w: -play(w)[0], [0.5, 0.5, 0.5], method="SLSQP", tol=1e-12,
        constraints={"type": "ineq", "fun": lambda w: level - play(w)[1]},
    )  # fmt: skip
    assert play(optimize.minimize(lambda w: -play(w)[0], np.ones(3)).x)[1] > level + 0.05
    found, history = sj.fit_leader(
        one_a_turn([0.5, 0.5, 0.5]), game(), first(2.0), response=jnp.array(0.5),
        key=jax.random.key(0), horizon=horizon, steps=1500,
        constraints=[sj.fit.Average(lambda a, r, x: r, at_most=level)],
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 1500)),
    )  # fmt: skip
    np.testing.assert_allclose(found.args[0], best.x, atol=5e-3)
    values = [
        optimize.minimize(
            lambda w: -play(w)[0], best.x, method="SLSQP", tol=1e-14,
            constraints={"type": "ineq", "fun": lambda w, at=at: at - play(w)[1]},
        ).fun
        for at in (level - 1e-3, level + 1e-3)
    ]  # fmt: skip
    np.testing.assert_allclose(
        history.multipliers[-1, 0], (values[0] - values[1]) / 2e-3, rtol=0.03
    )
