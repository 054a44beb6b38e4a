"""The game of a common pool: closed forms, best responses, derivatives, prices of the pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import linprog

import stackjax as sj
from stackjax.agents import control, game


def contexts(count, cells, dtype=jnp.float32, seed=0, stake=1.0, load=8.0):
    """Turns with random qualities and tokens, batched."""
    rng = np.random.default_rng(seed)
    number = lambda value: jnp.full(count, value, dtype)
    state = game.PoolState(
        jnp.asarray(rng.integers(6, size=count)),
        jnp.asarray(rng.uniform(50, 900, count), dtype),
        jnp.asarray(rng.integers(14, size=count), dtype),
        number(1.0),
        number(load),
        number(stake),
    )
    quality = jnp.asarray(rng.uniform(size=(count, cells)), dtype)
    tokens = jnp.asarray(rng.uniform(0.2, 1.6, size=(count, cells)), dtype)
    return game.PoolContext(state, quality, tokens)


@pytest.mark.parametrize(("price", "stake"), [(0.2, 1.0), (1.1, 1.0), (0.9, 2.0), (2.0, 0.5)])
def test_the_rule_is_what_brute_force_finds(price, stake):
    """At alpha* an executor without a floor picks the leader's own best cell in every turn."""
    turns = contexts(300, 6, stake=stake)
    leaders = stake * turns.quality - price * turns.tokens
    alphas = np.linspace(0, 1, 1001)

    def regret(alpha):
        worth = turns.quality - 3.0 * (1 - alpha) * turns.tokens
        chosen = np.asarray(worth).argmax(1)
        return float(jnp.mean(leaders.max(1) - leaders[np.arange(300), chosen]))

    found = [regret(alpha) for alpha in alphas]
    rule = float(game.priced_subsidy(price, stake))
    best = alphas[np.flatnonzero(np.array(found) < min(found) + 1e-7)]
    if price < 3 * stake:
        assert regret(rule) < 1e-6 and best.min() - 1e-3 <= rule <= best.max() + 1e-3
    else:
        assert rule == 0.0 and regret(0.0) == min(found) > 0, "dearer than the executor can be"
    assert max(found) > 0.02, "the signal matters"


def test_the_rule_refuses_what_is_no_price():
    with pytest.raises(ValueError, match="`price` must be finite and not negative; got -1"):
        game.priced_subsidy(-1.0)
    with pytest.raises(ValueError, match="`stake` must be positive and finite"):
        game.priced_subsidy(1.0, 0.0)
    with pytest.raises(ValueError, match="PoolWeights: `temperature` must be positive"):
        game.PoolWeights(temperature=0.0)


def test_the_closed_response_is_the_best_response(x64):
    turns = contexts(40, 7, jnp.float64)
    signals = jnp.asarray(np.random.default_rng(1).uniform(size=(40, 2)))
    even = jnp.full(7, 1 / 7)
    answer = jax.jit(
        jax.vmap(lambda a, x: sj.best_response(game.pool_game(), a, x, response=even))
    )(signals, turns)
    closed = jax.vmap(game.quantal_cells)(signals, turns)
    assert bool(answer.converged.all())
    np.testing.assert_allclose(answer.value, closed, atol=1e-9)
    np.testing.assert_allclose(closed.sum(1), 1.0, atol=1e-12)
    worth = jax.vmap(game.cell_utilities)(signals, turns)
    np.testing.assert_allclose(closed, jax.nn.softmax(worth / 0.02), atol=1e-3)
    assert (closed == 0).any(), "rare cells are left out"
    value = jax.vmap(game.pool_follower_utility)
    for other in (jax.nn.one_hot(worth.argmax(1), 7), jnp.full((40, 7), 1 / 7)):
        assert bool((value(signals, closed, turns) >= value(signals, other, turns)).all())


def test_the_gradient_goes_through_the_response(x64):
    turns = contexts(5, 4, jnp.float64, seed=3)
    played = game.pool_game(weights=game.PoolWeights(price=0.5, temperature=0.2))
    weights, even = game.PoolWeights(price=0.5, temperature=0.2), jnp.full(4, 0.25)

    def utility(signal, turn):
        response = sj.best_response(played, signal, turn, response=even).value
        return game.pool_leader_utility(signal, response, turn, weights=weights)

    signals = jnp.tile(jnp.array([0.55, 0.8]), (5, 1))
    slopes = jax.jit(jax.vmap(jax.grad(utility)))(signals, turns)
    values = jax.jit(jax.vmap(utility))
    step = 1e-5
    for axis in range(2):
        nudge = step * jnp.eye(2)[axis][None]
        numeric = (values(signals + nudge, turns) - values(signals - nudge, turns)) / (2 * step)
        np.testing.assert_allclose(slopes[:, axis], numeric, atol=1e-6)
    assert float(jnp.abs(slopes).max()) > 0.05
    one = jax.tree.map(lambda leaf: leaf[2], turns)
    np.testing.assert_allclose(jax.grad(utility)(signals[2], one), slopes[2], atol=1e-7)


def test_the_multiplier_is_the_shadow_price(x64):
    """`fit_leader` under the pool against a linear program over all mixtures of cells."""
    turns = contexts(40, 3, jnp.float64, seed=5)
    quality, tokens = np.asarray(turns.quality), np.asarray(turns.tokens)
    pool, soft = 0.6, game.PoolWeights(temperature=0.05)
    rows = np.kron(np.eye(40), np.ones(3))
    optimum = linprog(
        -quality.ravel() / 40, tokens.ravel()[None] / 40, [pool], rows, np.ones(40), bounds=(0, 1)
    )
    shadow, best = -optimum.ineqlin.marginals[0], -optimum.fun

    price = jax.tree_util.Partial(
        lambda raw, x: jnp.stack([0 * raw, jax.nn.sigmoid(raw)]), jnp.array(1.0)
    )
    fitted, history = sj.fit_leader(
        price,
        game.pool_game(weights=soft),
        turns,
        response=jnp.full(3, 1 / 3),
        key=jax.random.key(0),
        constraints=[sj.fit.Average(game.tokens_used, at_most=pool)],
        steps=600,
        batch_size=None,
        learning_rate=0.05,
    )
    multiplier = float(history.multipliers[-1, 0])
    assert bool(history.fit_converged) and abs(float(history.constraints[-1, 0])) < 1e-4
    assert multiplier == pytest.approx(shadow, abs=0.03)
    assert float(history.utility[-1]) == pytest.approx(best, abs=0.02)
    alpha = float(jax.nn.sigmoid(fitted.args[0]))
    assert alpha == pytest.approx(float(game.priced_subsidy(multiplier)), abs=0.01)


def test_a_window_has_sessions_that_open_and_close(x64):
    order, load = control.interleave([0, 1, 1], [3, 2, 1])
    assert load.tolist() == [1, 3, 3, 3, 2, 2]
    assert order.tolist() == [[0, 0], [0, 1], [1, 0], [2, 0], [0, 2], [1, 1]]
    turns = contexts(6, 3, jnp.float64)
    turns = turns.replace(state=turns.state.replace(load=jnp.asarray(load, jnp.float64)))
    window, dynamics = control.open_window(turns, pool=4.0), control.PoolDynamics()

    def played(slope, state=window):
        for t in range(6):
            context = dynamics.context(state)
            signal = rising(slope, context)
            response = game.quantal_cells(signal, context, weights=SOFT)
            assert context.state.load.shape == ()
            state = dynamics.step(state, signal, response, jax.random.key(t))
        return state

    last = played(jnp.array(0.5))
    assert float(last.turn) == 6 and 0 < float(last.right) < 6
    everything = window
    for _ in range(6):
        first = jnp.array([1.0, 0.0, 0.0])
        everything = dynamics.step(everything, jnp.zeros(2), first, jax.random.key(0))
    np.testing.assert_allclose(everything.used, turns.tokens[:, 0].sum(), rtol=1e-12)
    np.testing.assert_allclose(everything.right, turns.quality[:, 0].sum(), rtol=1e-12)
    left = dynamics.context(everything).state.budget
    np.testing.assert_allclose(left, 1 - everything.used / 4.0, rtol=1e-12)
    slope = jax.grad(lambda s: played(s).right)(jnp.array(0.5))
    numeric = (played(jnp.array(0.5 + 1e-5)).right - played(jnp.array(0.5 - 1e-5)).right) / 2e-5
    np.testing.assert_allclose(slope, numeric, atol=1e-6)
    assert abs(float(slope)) > 1e-3
    with pytest.raises(ValueError, match="`pool` must be positive and finite; got 0"):
        control.open_window(turns, pool=0.0)


SOFT = game.PoolWeights(temperature=0.1)


def rising(slope, context):
    """No floor; a subsidy that rises with what is left of the pool."""
    alpha = jax.nn.sigmoid(1.0 + slope * context.state.budget)
    return jnp.stack([0.0 * alpha, alpha])


@pytest.mark.slow
def test_a_rollout_of_a_window_is_the_same(x64):
    turns = contexts(4, 3, jnp.float64)
    window, dynamics = control.open_window(turns, pool=3.0), control.PoolDynamics()
    played = sj.fit.rollout(
        jax.tree_util.Partial(rising, jnp.array(0.5)),
        game.pool_game(weights=SOFT),
        dynamics,
        window,
        turns=4,
        response=jnp.full(3, 1 / 3),
        key=jax.random.key(0),
        discount=1.0,
    )
    assert bool(played.converged.all())
    np.testing.assert_allclose(played.last.right, played.value, rtol=1e-9)
    np.testing.assert_allclose(played.last.used, (played.response * turns.tokens).sum(), rtol=1e-9)


def test_learned_demand_is_concave_and_does_not_read_what_executors_do_not():
    turns = contexts(1, 3)
    state = jax.tree.map(lambda leaf: leaf[0], turns.state)
    demand = game.LearnedDemand(rngs=nnx.Rngs(0))
    bend = jax.hessian(lambda t: demand(jnp.array([0.3, 0.7]), t, state))
    assert all(float(bend(jnp.array(t))) <= -demand.STIFFNESS for t in (0.0, 0.5, 2.0))
    other = state.replace(load=jnp.float32(2), stake=jnp.float32(4))
    signal, t = jnp.array([0.3, 0.7]), jnp.array(0.6)
    assert float(demand(signal, t, state)) == float(demand(signal, t, other))
    value = game.RevealedValue(demand, jnp.array([2.0] * 6))
    free = demand(jnp.array([0.0, 1.0]), t, state)
    assert float(value(t, state)) == pytest.approx(2 * float(free), rel=1e-6)
    with pytest.raises(ValueError, match="`factor` must have shape"):
        game.RevealedValue(demand, jnp.ones(5))
    policy = game.PoolLeader(rngs=nnx.Rngs(0))
    assert not np.allclose(policy(state), policy(other)), "the leader reads both"
