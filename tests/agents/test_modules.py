import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from payoff_draws import draw, pick, signals

import stackjax as sj
from stackjax.agents.control._controller import Controller, greedy_cell
from stackjax.agents.game._networks import Leader, LearnedFollower
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER, resource_game
from stackjax.agents.game._state import state_of
from stackjax.agents.repair._cells import STRATA
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel

COUNT = 300


@pytest.fixture(scope="module")
def contexts():
    """Contexts whose features are coefficients of their surfaces, so that there is a policy."""
    drawn = draw(COUNT, jnp.float32)
    quality, tokens = drawn.quality, drawn.tokens
    diagonal = jnp.diagonal(quality.curvature, axis1=1, axis2=2)
    columns = quality.slope, diagonal, quality.rise, tokens.slope / 300.0, quality.level[:, None]
    features = jnp.concatenate([*columns, tokens.base[:, None] / 300.0], axis=1)
    return drawn.replace(features=features)


def answers(game, actions, contexts):
    one = lambda a, x: sj.best_response(game, a, x, response=jnp.full(3, 0.5))
    return jax.jit(jax.vmap(one))(actions, contexts)


def test_leader_stays_in_its_box_whatever_the_weights(contexts):
    leader = Leader(rngs=nnx.Rngs(0))
    actions = jax.jit(jax.vmap(leader))(contexts)
    assert actions.shape == (COUNT, 2)
    np.testing.assert_allclose(actions[3], leader(pick(contexts, 3)), rtol=1e-5)
    graph, state = nnx.split(leader)
    extreme = nnx.merge(graph, jax.tree.map(lambda leaf: 100 * leaf + 50, state))
    pushed = jax.vmap(extreme)(contexts)
    assert (pushed >= jnp.array([ACTION_LOWER])).all()
    assert (pushed <= jnp.array([ACTION_UPPER])).all()


def test_learned_follower_is_strongly_concave_whatever_the_weights():
    with jax.enable_x64(True):
        contexts, actions = draw(20, jnp.float64), signals(20, jnp.float64)
        graph, state = nnx.split(LearnedFollower(rngs=nnx.Rngs(1)))
        rng = np.random.default_rng(2)
        wild = jax.tree.map(lambda leaf: leaf + 3 * rng.normal(size=leaf.shape), state)
        follower = nnx.merge(graph, wild)
        points = jnp.asarray(rng.uniform(size=(20, 3)))

        def least(action, response, context):
            hessian = jax.hessian(lambda r: follower(action, r, context))(response)
            return -jnp.linalg.eigvalsh(hessian)[-1], follower.concavity_bound(context)

        curvature, bound = jax.jit(jax.vmap(least))(actions, points, contexts)
        assert (bound >= 0.05).all()
        assert (curvature >= bound - 1e-9).all()


def test_follower_learns_an_executor_that_follows_rules(contexts):
    """Demonstrations by a rule on the signal and the complexity, with noise of 0.05."""
    rng = np.random.default_rng(1)
    actions = signals(COUNT, jnp.float32)
    drive = (np.asarray(actions) - 0.6) / 0.35
    base = 0.2 + 0.3 * np.asarray(contexts.features[:, :1]) + 0.3 * drive[:, :1] * [[1.0, 0.5, 1.5]]
    rule = np.clip(base + 0.2 * np.asarray(actions[:, 1:]) * [[0.0, 1.0, 0.5]], 0, 1)
    shown = jnp.asarray(np.clip(rule + 0.05 * rng.normal(size=rule.shape), 0, 1), jnp.float32)
    seen = sj.Observations(context=contexts, action=actions, response=shown)
    train, test = (
        jax.tree.map(lambda leaf, s=s: leaf[s], seen) for s in (slice(200), slice(200, None))
    )
    box = resource_game().response_set
    follower, history = sj.fit_follower(
        LearnedFollower(rngs=nnx.Rngs(0)),
        train,
        key=jax.random.key(0),
        response_set=box,
        steps=300,
        batch_size=256,
    )
    found = answers(resource_game(follower), test.action, test.context)
    assert found.converged.all()
    error = np.sqrt(np.mean((np.asarray(found.value) - rule[200:]) ** 2))
    assert error < 0.05 < 0.5 * rule.std()
    assert history.utility[-1] > history.utility[0]


def test_leader_learns_through_the_rational_follower(contexts):
    """The trained policy beats the best of 99 constant signals on the contexts it saw."""
    game, start = resource_game(), jnp.full(3, 0.5)
    leader, history = sj.fit_leader(
        Leader(rngs=nnx.Rngs(0)), game, contexts, response=start, key=jax.random.key(0), steps=300
    )

    @jax.jit
    def value(actions):
        found = jax.vmap(lambda a, x: sj.best_response(game, a, x, response=start))(
            actions, contexts
        )
        return jax.vmap(game.leader_utility)(actions, found.value, contexts).mean()

    constants = [(q, a) for q in np.linspace(0.6, 0.95, 9) for a in np.linspace(0, 1, 11)]
    best = max(float(value(jnp.tile(jnp.array([c]), (COUNT, 1)))) for c in constants)
    assert float(value(jax.vmap(leader)(contexts))) > best + 0.003
    assert history.converged.min() == 1.0


@pytest.fixture(scope="module")
def controller():
    rngs = nnx.Rngs(3)
    surrogate = Surrogate(QualityModel(members=2, rngs=rngs), TokenModel(members=2, rngs=rngs))
    rng = np.random.default_rng(4)
    cells = jnp.asarray(rng.integers(0, 3, size=(STRATA, 5, 3)) / 2, jnp.float32)
    leader = Leader(rngs=rngs)
    return Controller(surrogate, leader, resource_game(), sj.ActionSet(cells), jnp.ones(3))


def make_state(turn, task):
    numbers = dict.fromkeys(
        ("task_complexity", "mean_tokens", "recent_quality", "token_trend", "model_condition"), 0.5
    )
    return state_of({**numbers, "context_tokens": 80, "turn_index": turn, "budget": 0.7}, task)


@pytest.fixture(scope="module")
def decide(controller):
    return jax.jit(jax.vmap(controller))


@pytest.fixture(scope="module")
def see(controller):
    """Context, allowed cells, their leader's utilities, the cell of direct control, the signal."""

    @jax.jit
    def seen(state, previous):
        context, cells = controller.context(state, previous), controller.allowed(state).actions
        utility = lambda action, cell: controller.game.leader_utility(action, cell, context)
        values = jax.vmap(utility, in_axes=(None, 0))(previous, cells)
        signal = controller.leader(context)
        return context, cells, values, greedy_cell(controller, state, previous), signal

    return seen


def stack(states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def test_controller_executes_allowed_cells_and_reports_the_price(controller, decide, see):
    states = [make_state(1, t) for t in ("simple_qa", "data_analysis", "complex_reasoning")]
    previous = jnp.full((3, 2), 0.7, jnp.float32)
    made = decide(stack(states), previous)
    assert made.converged.all()
    for i, state in enumerate(states):
        context, allowed, values, direct, _ = see(state, previous[i])
        allowed = np.asarray(allowed)
        distances = np.linalg.norm(allowed - np.asarray(made.answer[i]), axis=1)
        np.testing.assert_array_equal(made.response[i], allowed[distances.argmin()])
        np.testing.assert_allclose(made.distance[i], distances.min(), rtol=1e-5)
        after = controller.game.leader_utility(made.action[i], made.response[i], context)
        np.testing.assert_allclose(made.utility[i], after, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(direct, allowed[int(np.argmax(values))])


def test_subsidy_is_smoothed_after_the_first_turn_only(decide, see):
    states = [make_state(turn, "simple_qa") for turn in (0, 3, 3)]
    made = decide(stack(states), jnp.array([[0.7, 1.0], [0.7, 1.0], [0.7, 0.5]]))
    raw = [
        float(see(state, jnp.array([0.7, before]))[-1][1])
        for state, before in zip(states, (1.0, 1.0, 0.5))
    ]
    assert raw[1] < 0.7
    assert made.action[0, 1] == pytest.approx(raw[0], rel=1e-4)
    assert made.action[1, 1] == pytest.approx(0.85)
    assert made.action[2, 1] == pytest.approx(np.clip(0.25 + raw[2] / 2, 0.35, 0.65), rel=1e-4)
