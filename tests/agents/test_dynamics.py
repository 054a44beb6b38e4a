"""The session of arrays does what one of real turns does, and a leader can be trained on it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from quick import quick, quick_jit

import stackjax as sj
from stackjax.agents.control._dynamics import Script, SessionDynamics, begin_session
from stackjax.agents.executor._session import SessionState
from stackjax.agents.game._networks import Leader
from stackjax.agents.game._payoffs import Weights, resource_game, smooth_subsidy
from stackjax.agents.game._state import FIELDS, stack_states
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.agents.tasks._tasks import TASK_TYPES, Turn

TURNS = 5
SIGNAL: Any = np.array([0.7, 0.4])
RESPONSE: Any = np.full(3, 0.5)
KEY = jax.random.key(0)


def surrogate(size=14, seed=3):
    rngs = nnx.Rngs(seed)
    quality = QualityModel(size, members=1, hidden=8, rngs=rngs)
    tokens = TokenModel(size, members=1, hidden=8, rngs=rngs)
    # Every channel costs 200 tokens and is worth 0.2 of quality: there is something to weigh.
    quality.networks.bias[...] = quality.networks.bias[...].at[:, 1:4].set(0.2)
    tokens.networks.bias[...] = tokens.networks.bias[...].at[:, 1:4].set(0.0)
    return Surrogate(quality, tokens, size)


def dynamics(size=14, **options):
    return SessionDynamics(surrogate(size), jnp.ones(3), **options)


def scripts(count, turns=TURNS):
    rng = np.random.default_rng(1)
    grown = np.cumsum(rng.uniform(10, 60, size=(count, turns)), axis=1)
    return Script(
        jnp.asarray(rng.integers(0, 6, size=(count, turns))),
        jnp.asarray(rng.uniform(0.1, 0.9, size=(count, turns))),
        jnp.asarray(grown),
    )


def sessions(count, budget=None, turns=TURNS):
    begin = lambda script: begin_session(script, signal=SIGNAL, token_budget=budget)
    return jax.vmap(begin)(scripts(count, turns))


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def play(policy, session, key=KEY, *, game=None, how=None, **options):
    game = resource_game() if game is None else game
    asked: Any = {"turns": TURNS} | options
    return sj.fit.rollout(
        policy, game, dynamics() if how is None else how, session,
        response=RESPONSE, key=key, **asked,
    )  # fmt: skip


def test_states_are_those_of_a_recorded_session():
    """Tokens, outcomes and a fallback of a session of real turns, state by state."""
    rng = np.random.default_rng(2)
    real, states, kinds = SessionState(1500.0), [], []
    turns = [
        Turn(
            task=str(rng.choice(TASK_TYPES)), family="", notes=(f"note {i} of some words",),
            question="how many words", gold="", check="word", complexity=0.1 * i + 0.2,
            reference="four",
        )
        for i in range(TURNS)
    ]  # fmt: skip
    tokens, correct = rng.integers(50, 400, size=TURNS), rng.integers(0, 2, size=TURNS)
    fallback = np.array([0, 0, 1, 0, 0])
    for i, turn in enumerate(turns):
        real.hear(turn)
        states.append(real.features(turn))
        kinds.append(turn.task)
        real.update(turn, int(tokens[i]), bool(correct[i]), bool(fallback[i]), turn.reference)
    recorded = stack_states(states, kinds)
    script = Script(recorded.task, recorded.task_complexity, recorded.context_tokens)
    session = begin_session(script, signal=SIGNAL, token_budget=1500.0)
    for i in range(TURNS):
        state = session.state
        assert int(state.task) == int(recorded.task[i])
        for name in FIELDS:  # a log is rounded: tokens to 3 digits, the rest to 6
            np.testing.assert_allclose(
                getattr(state, name), getattr(recorded, name)[i], rtol=1e-5, atol=1e-3, err_msg=name
            )
        session = session.update(SIGNAL, tokens[i], correct[i], fallback[i])
    assert session.state.task == recorded.task[-1]  # the last turn comes again
    np.testing.assert_allclose(session.model_condition, real.model_condition, rtol=1e-6)


@pytest.mark.parametrize("size", [9, 14])
def test_a_rollout_follows_the_surrogate(size):
    """Each turn costs the tokens and brings the quality that are predicted for it."""
    how, session = dynamics(size), pick(sessions(2), 1)
    leader = Leader(size, hidden=8, rngs=nnx.Rngs(0))
    played = quick(lambda s: play(leader, s, how=how), session)
    assert played.converged.all()
    np.testing.assert_array_equal(played.state.turn_index, np.arange(TURNS))
    for i in range(TURNS - 1):
        before, after = pick(played.state, i), pick(played.state, i + 1)
        quality, tokens = how.surrogate.predict(before.state, played.response[i])
        np.testing.assert_allclose(after.last_tokens, tokens, rtol=1e-4)
        mean = 0.6 * before.recent_quality + 0.4 * quality
        np.testing.assert_allclose(after.recent_quality, mean, rtol=1e-4)
        np.testing.assert_allclose(after.previous, played.action[i], rtol=1e-6)
    raw = jax.vmap(lambda s: leader(how.context(s)))(played.state)
    np.testing.assert_allclose(played.action[:, 0], raw[:, 0], rtol=1e-4)
    np.testing.assert_allclose(played.action[0], raw[0], rtol=1e-4)  # the first as proposed
    limited = smooth_subsidy(raw[1:, 1], played.action[:-1, 1])
    np.testing.assert_allclose(played.action[1:, 1], limited, rtol=1e-4)
    loose = how.replace(smooth=False)
    np.testing.assert_array_equal(loose.commit(pick(played.state, 2), raw[0]), raw[0])


def test_coins_have_the_predicted_odds():
    how, session = dynamics(stochastic=True, fallback=0.1), pick(sessions(1), 0)
    keys = jax.random.split(KEY, 4000)
    after = jax.jit(jax.vmap(lambda key: how.step(session, SIGNAL, RESPONSE, key)))(keys)
    quality, _ = how.surrogate.predict(session.state, jnp.asarray(RESPONSE))
    outcome = (after.recent_quality - 0.6 * 0.5) / 0.4
    fell = np.isclose(after.model_condition, 0.5)
    assert np.isin(np.round(outcome, 4), (0.0, 1.0)).all()
    assert abs(outcome.mean() - quality) < 0.03 and abs(fell.mean() - 0.1) < 0.03
    assert not outcome[fell].any()


def test_gradient_against_differences(x64):
    """Of a session's value in the policy's numbers and the budget, under jit and vmap."""
    how, start = dynamics(), sessions(2, 700.0, 3)
    leader = Leader(hidden=4, rngs=nnx.Rngs(0))
    graph, initial = nnx.split(leader)
    initial = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initial)
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), initial)

    def value(step, budget, session):
        policy = nnx.merge(graph, jax.tree.map(lambda leaf, d: leaf + step * d, initial, way))
        session = session.replace(token_budget=budget)
        return play(policy, session, how=how, turns=3).value

    both = quick_jit(jax.vmap(jax.value_and_grad(value, (0, 1)), in_axes=(None, None, 0)))
    alone = lambda *moved: both(*moved)[0]
    zero, budget = jnp.array(0.0), jnp.array(700.0)
    _, slope = both(zero, budget, start)
    up, down = alone(jnp.array(1e-4), budget, start), alone(jnp.array(-1e-4), budget, start)
    np.testing.assert_allclose(slope[0], (up - down) / 2e-4, rtol=1e-5)
    up, down = alone(zero, budget + 0.01, start), alone(zero, budget - 0.01, start)
    np.testing.assert_allclose(slope[1], (up - down) / 0.02, rtol=1e-5)


@pytest.mark.slow
def test_training_over_the_horizon_pays_when_the_budget_is_tight():
    """Against a leader that was trained stage-wise on the very states that it meets."""
    weights = dataclasses.replace(Weights(), cost=1.0, degradation=6.0, budget=20.0, drift=0.0)
    game, how = resource_game(weights=weights), dynamics()
    start = sessions(8, 1750.0, 4)
    options: Any = {
        "response": RESPONSE.astype(np.float32), "key": KEY, "steps": 60, "batch_size": None,
        "optimizer": optax.adam(0.05),
    }  # fmt: skip
    new = lambda: Leader(hidden=8, rngs=nnx.Rngs(0))

    @jax.jit
    def sweep(policy):
        return jax.vmap(lambda s: play(policy, s, game=game, how=how, discount=1.0, turns=4))(start)

    met = sweep(new())
    contexts = jax.vmap(jax.vmap(how.context))(met.state)
    contexts = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), contexts)
    stage, _ = sj.fit_leader(new(), game, contexts, **options)
    horizon = sj.fit.Horizon(how, turns=4, discount=1.0)
    ahead, history = sj.fit_leader(new(), game, start, horizon=horizon, **options)
    assert (history.converged == 1).all()
    played = [sweep(policy) for policy in (stage, ahead)]
    values = [p.value.mean() for p in played]
    assert values[1] > values[0] + 0.01
    left = [p.last.state.budget.mean() for p in played]
    assert left[1] > left[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: begin_session(pick(scripts(1), 0), signal=jnp.ones(3)),
            ValueError,
            r"`signal` .*; got shape \(3,\)",
        ),
    ],
)
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
