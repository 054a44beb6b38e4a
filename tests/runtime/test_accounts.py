"""One transition of a session: collected, trained on and served alike."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recording_upstream import StubPolicy

import stackjax as sj
from stackjax.agents.control._dynamics import Script, begin_session
from stackjax.agents.executor._session import SessionState
from stackjax.agents.game._payoffs import DEFAULT, resource_game
from stackjax.agents.game._state import FIELDS
from stackjax.agents.tasks._tasks import Turn
from stackjax.runtime import Governor, Limits, Rollout, Usage
from stackjax.runtime.gateway._identify import identify_session

BUDGET = 1000.0
SIGNAL: Any = np.array([0.775, 0.5])


class Session:
    """One session in all three places: with real turns, as arrays, and in a runtime."""

    def __init__(self, length, chats=False):
        self.real, self.chats, self.count = SessionState(BUDGET), chats, 0
        script = Script(jnp.ones(length, int), jnp.full(length, 0.3), jnp.zeros(length))
        self.arrays = begin_session(script, signal=SIGNAL, token_budget=BUDGET)
        limits = Limits(deadline=60.0, token_budget=BUDGET, budget_floor=-math.inf, slack=1e6)
        self.governor = Governor(StubPolicy(), rollout=Rollout("on"), limits=limits)
        self.turn = Turn("simple_qa", "", (), "", "", "word", 0.3, "")

    def numbers(self):
        """The six that are measured, in each of the three."""
        told: Any = {
            "identifier": "s", "task": "simple_qa", "task_complexity": 0.3, "context_tokens": 0,
        }  # fmt: skip
        if self.chats:  # a client sends what was answered so far, again
            said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
            messages = [*(said * self.count), {"role": "user", "content": "and now"}]
            told = identify_session({"messages": messages}, told)
        self.decision = self.governor.decide(told)
        features = self.real.features(self.turn), self.decision.features
        state = self.arrays.state
        served = [{name: one[name] for name in FIELDS[2:]} for one in features]
        return [*served, {name: float(getattr(state, name)) for name in FIELDS[2:]}]

    def take(self, tokens, correct, failed):
        self.real.update(self.turn, tokens, correct, failed, "")
        took: Any = tokens, float(correct), float(failed)
        self.arrays = self.arrays.update(jnp.asarray(SIGNAL), *took)
        usage = Usage(tokens, 0, failure="timeout" if failed else None)
        self.governor.observe(self.decision, usage)
        if not failed:
            self.count += 1
            self.governor.feedback("s", float(correct))


def test_the_accounts_of_a_turn_that_failed_in_the_middle():
    """200 tokens and right, 50 and failed, 100 and right: the cost of all was paid."""
    session = Session(4)
    for tokens, failed in ((200, False), (50, True), (100, False)):
        session.numbers()
        session.take(tokens, not failed, failed)
    for found in session.numbers():
        assert found["turn_index"] == 3 and found["budget"] == pytest.approx(0.65)
        assert found["mean_tokens"] == pytest.approx(350 / 3, abs=1e-3)
        assert found["token_trend"] == pytest.approx(50 / (350 / 3), abs=1e-4)
        assert found["recent_quality"] == pytest.approx(0.6 * 0.6 * 0.7 + 0.4)
        assert found["model_condition"] == pytest.approx(0.65)


@pytest.mark.parametrize("chats", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_random_turns_are_measured_alike(seed, chats):
    rng = np.random.default_rng(seed)
    session, length = Session(12, chats), 12
    for _ in range(length):
        failed = bool(rng.random() < 0.3)
        collected, served, trained = session.numbers()
        assert set(collected) == set(served) == set(trained) == set(FIELDS[2:])
        for name, value in collected.items():  # rounded in the log
            np.testing.assert_allclose(served[name], value, rtol=1e-6, atol=1e-3, err_msg=name)
            np.testing.assert_allclose(trained[name], value, rtol=1e-4, atol=1e-3, err_msg=name)
        # a failed turn may have cost nothing
        tokens = int(rng.integers(0, 200)) if failed else int(rng.integers(10, 400))
        session.take(tokens, bool(rng.integers(2)) and not failed, failed)


def test_derivatives_of_the_accounts():
    """Through the trend too, from turns without tokens on."""
    script = Script(jnp.ones(3, int), jnp.full(3, 0.3), jnp.zeros(3))

    def trend(tokens):
        session = begin_session(script, signal=jnp.asarray(SIGNAL, jnp.float32))
        for t in range(3):
            session = session.update(session.previous, tokens[t], jnp.ones(()))
        return session.state.token_trend + session.state.mean_tokens

    slope = jax.grad(trend)(jnp.array([200.0, 50.0, 100.0]))
    total = 350.0
    wanted = np.array([0, -3 / total, 3 / total]) - 3 * 50 / total**2 + 1 / 3
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)
    assert np.isfinite(jax.grad(trend)(jnp.zeros(3))).all()


def test_a_session_that_is_older_than_its_accounts():
    """A runtime that was started again knows from the request how many turns there were."""
    with Governor(StubPolicy(), rollout=Rollout("on")) as governor:
        said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
        chat = {"messages": [*(said * 3), {"role": "user", "content": "and now"}]}
        assert governor.judge(identify_session(chat, {})).features["turn_index"] == 3
        assert governor.judge(identify_session(chat, {"turn_index": 7})).features["turn_index"] == 7


def test_the_payoffs_are_one_function():
    """The game's utilities, the scores of turns and the learned follower, at the same numbers."""
    from flax import nnx

    from stackjax.agents.control import known_world

    context = sj.agents.game.resource_context(
        jnp.zeros(14), *known_world.surfaces(), previous=jnp.array([0.8, 0.5]),
        budget=jnp.array(0.1), reference=jnp.ones(3),
    )  # fmt: skip
    learned = sj.agents.game.LearnedFollower(rngs=nnx.Rngs(0))
    game = resource_game()
    for key in jax.random.split(jax.random.key(0), 5):
        response, signal = jax.random.uniform(key, (3,)), jnp.array([0.9, 0.3])
        quality, tokens = context.quality(response), context.tokens(response)
        score = lambda player, q=quality, t=tokens, s=signal: sj.agents.evaluation.turn_score(
            context, s, t, q, player=player
        )
        moved = DEFAULT.drift * jnp.sum((signal - context.previous) ** 2)
        wanted = game.leader_utility(signal, response, context) + moved
        np.testing.assert_allclose(score("leader"), wanted, rtol=1e-5)
        wanted = game.follower_utility(signal, response, context)
        np.testing.assert_allclose(score("follower"), wanted, rtol=1e-5)
        strain = learned.stiffness * (response - learned.habit(signal, context)) ** 2
        found = learned(signal, response, context) + jnp.sum(strain) / 2
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
