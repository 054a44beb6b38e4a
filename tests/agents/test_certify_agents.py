import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from synthetic_turns import GRID, synthetic_log

from stackjax.agents.control._controller import Controller, contexts_of
from stackjax.agents.evaluation._policies import (
    constant_cell,
    constant_signal,
    deployed_controller,
    governed,
)
from stackjax.agents.evaluation._real_turns import (
    executed_turns,
    logged_turns,
    score_bounds,
    turn_score,
)
from stackjax.agents.evaluation._replay import constant, factorial, replay
from stackjax.agents.game._networks import LearnedFollower
from stackjax.agents.game._payoffs import DEFAULT, resource_game, smooth_hinge
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.repair._cells import STRATA
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.certificates import Deployed
from stackjax.certificates._deployed import as_contexts, as_deployed
from stackjax.certificates._repair import repaired
from stackjax.sets._empirical import ActionSet

REFERENCE = (1.0, 0.5, 0.5)


class Steady(nnx.Module):
    """A leader that says the same in every context."""

    def __init__(self, action):
        self.action = nnx.Param(jnp.asarray(action, jnp.float32))

    def __call__(self, context):
        return self.action[...]


@pytest.fixture(scope="module")
def log():
    return synthetic_log(0, random=20, heuristic=0, factorial=6)


@pytest.fixture(scope="module")
def controller():
    surrogate = Surrogate(
        QualityModel(14, members=2, hidden=4, rngs=nnx.Rngs(0)),
        TokenModel(14, members=2, hidden=4, rngs=nnx.Rngs(1)),
    )
    grid = np.asarray(GRID, np.float32)
    # Every stratum has its own cells, so that a wrong stratum shows.
    sets = np.stack([np.roll(grid, 3 * i, axis=0)[:9] for i in range(STRATA)])
    return Controller(
        surrogate, Steady((0.8, 0.3)), resource_game(), ActionSet(jnp.asarray(sets)),
        jnp.asarray(REFERENCE),
    )  # fmt: skip


@pytest.fixture(scope="module")
def class_of_policies(controller):
    return {
        "deployed": governed(controller),
        "Conservative": constant_cell(REFERENCE),
        "signal": constant_signal(controller, (0.95, 1.0)),
    }


def test_a_controller_is_read_as_it_plays(controller, log):
    subject = as_deployed(controller)
    assert isinstance(subject, Deployed)
    states = turn_arrays(log[:8]).state
    contexts = as_contexts(states, controller)
    previous = contexts.previous
    played = repaired(subject, contexts, response=jnp.full(3, 0.5))
    signal = jax.vmap(subject.policy)(contexts)
    made = jax.vmap(controller)(states, previous)
    np.testing.assert_allclose(signal, made.action, rtol=1e-6)
    np.testing.assert_allclose(played.response, made.response, atol=1e-6)
    np.testing.assert_allclose(played.distance, made.distance, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(played.after, made.utility, rtol=1e-4, atol=1e-5)
    assert callable(subject.concavity)
    learned = controller.replace(game=resource_game(LearnedFollower(rngs=nnx.Rngs(0))))
    assert deployed_controller(learned).concavity is None  # it has a bound of its own


def test_executed_turns_are_the_replay(controller, class_of_policies, log):
    table = factorial(log)
    turns = executed_turns(
        class_of_policies, table, controller.surrogate, REFERENCE,
        proposed=governed(controller, repaired=False), deployed="deployed",
        baseline="Conservative",
    )  # fmt: skip
    assert turns.bounded and turns.episodes == 6 and turns.design == "executed"
    assert turns.labels == ("deployed", "Conservative", "signal") and turns.baseline == 1
    # The constant cell by hand, from the exact replay's outcomes.
    seen = replay(table, constant(table, REFERENCE), first_action=(0.775, 0.5))
    rows = np.nonzero(table.present)
    states = turn_arrays(
        [r for r in log if r.design == "factorial" and r.executed == REFERENCE]
    ).state
    previous = jnp.tile(jnp.array([0.775, 0.5]), (len(rows[0]), 1))
    contexts = contexts_of(controller.surrogate, jnp.asarray(REFERENCE), states, previous)
    tokens, correct = seen.tokens[rows], seen.correct[rows]
    share = tokens / np.asarray(contexts.reference_tokens)
    spent = np.cumsum(seen.tokens, 1) - seen.tokens
    budget = 1 - spent[rows] / (400.0 * table.present.sum(1)[rows[0]])
    hinge = lambda z: np.asarray(smooth_hinge(jnp.asarray(z), DEFAULT.softness))
    by_hand = (
        np.clip(1 - share, -1, 1)
        - 3 * hinge(np.asarray(contexts.target_quality) - correct)
        - hinge(0.2 - budget) * hinge(share - 0.5)
    )
    np.testing.assert_allclose(turns.utility[1], np.clip(by_hand, -4, 1), atol=2e-3)


def test_logged_turns_match_cells_and_predict(controller, class_of_policies, log):
    random = [r for r in log if r.design == "random"]
    turns = turn_arrays(random)
    propensity = np.array([r.propensity for r in random])
    found = logged_turns(
        class_of_policies, turns, propensity, controller.surrogate, REFERENCE,
        deployed="deployed", least_propensity=1 / 27,
    )  # fmt: skip
    same = np.array([r.executed == REFERENCE for r in random])
    assert found.target is not None
    np.testing.assert_array_equal(found.target[1], same)
    np.testing.assert_allclose(found.most_weight, 27)
    # Where the log took the policy's own cell, the prediction is the policy's value.
    assert found.predicted is not None
    np.testing.assert_allclose(found.predicted[same], found.value[1][same], rtol=1e-5)
    assert found.design == "doubly robust" and found.bounded


def test_scores_under_transformations(controller, log):
    states = turn_arrays(log[:4]).state
    contexts = as_contexts(states, controller)
    signal, tokens = jnp.tile(jnp.array([0.9, 0.2]), (4, 1)), jnp.array([50.0, 100, 200, 1e6])
    for player in ("leader", "follower"):
        low, high = score_bounds(player)
        score = lambda x, s, t, y, player=player: turn_score(x, s, t, y, player=player)
        right = jax.vmap(score)(contexts, signal, tokens, jnp.ones(4))
        wrong = jax.jit(jax.vmap(score))(contexts, signal, tokens, jnp.zeros(4))
        assert bool((right >= wrong).all()) and bool((wrong >= low).all() & (right <= high).all())
        assert float(right[3]) < float(right[0])  # tokens cost


def test_wrong_arguments_are_refused(controller, class_of_policies, log):
    table = factorial(log)
    with pytest.raises(ValueError, match="`deployed` must be one of .*; got 'nobody'"):
        executed_turns(class_of_policies, table, controller.surrogate, REFERENCE, deployed="nobody")
    with pytest.raises(ValueError, match="`player` must be one of .*; got 'chief'"):
        score_bounds("chief")
    off = {"off": constant_cell((0.1, 0.2, 0.3))}
    with pytest.raises(ValueError, match="`response` must be one of the"):
        executed_turns(off, table, controller.surrogate, REFERENCE, deployed="off")
    with pytest.raises(TypeError, match="game_or_policy"):
        as_deployed("controller")
