"""`SurrogateSession`: reset and step over predictors that are known here in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from synthetic_turns import synthetic_log

import stackjax as sj

RECORDS = [r for r in synthetic_log(3, random=12, heuristic=0, factorial=0)]


class Known(struct.PyTreeNode):
    """Tokens grow with history and prompt; quality with context and tools."""

    def predict(self, state, response):
        c, p, u = response
        tokens = 30.0 + c * state.context_tokens + 100.0 * p
        return jnp.clip(0.2 + 0.5 * c + 0.3 * u * state.task_complexity, 0, 1), tokens


@pytest.fixture(scope="module")
def scripts():
    return sj.agents.control.scripts_of(RECORDS)


def rollout(env, key, response, length, row=None):
    first, rest = jax.random.split(key)
    _, now = env.reset(first) if row is None else env.start(row)

    def step(now, luck):
        seen, now, turn = env.step(luck, now, response)
        return now, (seen, turn)

    return jax.lax.scan(step, now, jax.random.split(rest, length))


def test_scripts_are_the_recorded_sessions(scripts):
    names = list(dict.fromkeys(r.episode for r in RECORDS))
    assert scripts.turns.tolist() == [sum(r.episode == n for r in RECORDS) for n in names]
    lengths = [r.state["context_tokens"] for r in RECORDS if r.episode == names[0]]
    np.testing.assert_allclose(scripts.script.context_tokens[0, : len(lengths)], lengths, rtol=1e-6)
    with pytest.raises(ValueError, match="an episode with all of its turns; got none"):
        sj.agents.control.scripts_of([r for r in RECORDS if r.turn > 0])


def test_expected_session_is_the_hand_made_one(scripts):
    env = sj.agents.control.SurrogateSession(Known(), scripts, stochastic=False)
    response = jnp.array([0.5, 0.0, 1.0])
    length = scripts.script.task.shape[1]
    end, (seen, turn) = jax.jit(lambda k: rollout(env, k, response, length + 2, row=0))(
        jax.random.key(0)
    )
    turns = int(scripts.turns[0])
    context = np.asarray(scripts.script.context_tokens[0, :turns])
    np.testing.assert_allclose(turn.tokens[:turns], 30 + 0.5 * context, rtol=1e-6)
    assert not turn.tokens[turns:].any() and not turn.taken[turns:].any()
    assert turn.done.tolist() == [t >= turns - 1 for t in range(length + 2)]
    spent = float(turn.tokens.sum())
    np.testing.assert_allclose(end.session.total_tokens, spent, rtol=1e-6)
    np.testing.assert_allclose(seen.budget[-1], 1 - spent / (400 * turns), rtol=1e-5)
    assert bool(end.done) and int(end.session.turn_index) == turns
    # `SessionState` is what a live session has: the same accounts, turn by turn.
    live = sj.agents.executor.SessionState(400.0 * turns)
    task = sj.agents.tasks.Turn("simple_qa", "", (), "", "", "word", 0.0, "")
    for t in range(turns):
        quality = float(turn.correct[t])
        live.previous_tokens = live.last_tokens if live.turn_index else None
        live.last_tokens, live.total_tokens = turn.tokens[t], live.total_tokens + turn.tokens[t]
        live.turn_index += 1
        live.recent_quality += 0.4 * (quality - live.recent_quality)
    for name in ("mean_tokens", "token_trend", "recent_quality", "budget"):
        assert float(getattr(seen, name)[turns - 1]) == pytest.approx(
            float(live.features(task)[name]), abs=2e-3
        )


def test_compaction_forgets(scripts):
    kept = sj.agents.control.SurrogateSession(Known(), scripts, stochastic=False)
    lost = kept.replace(forget=True)
    row = int(jnp.argmax(scripts.turns))
    length = int(scripts.turns[row])
    response = jnp.array([0.5, 0.0, 0.0])
    added = np.diff(np.asarray(scripts.script.context_tokens[row, :length]))
    context = [float(scripts.script.context_tokens[row, 0])]
    for more in added:
        context.append(0.5 * context[-1] + more)
    _, (_, turn) = rollout(lost, jax.random.key(0), response, length, row)
    np.testing.assert_allclose(turn.tokens, 30 + 0.5 * np.array(context), rtol=1e-5)
    _, (_, whole) = rollout(kept, jax.random.key(0), response, length, row)
    assert (whole.tokens[1:] > turn.tokens[1:]).all()


def test_luck_has_the_right_means_and_belongs_to_the_key(scripts):
    env = sj.agents.control.SurrogateSession(
        Known(), scripts, fallback=0.1, token_spread=0.3, stochastic=True
    )
    expected = env.replace(stochastic=False, fallback=0.0)
    response = jnp.array([0.6, 0.2, 0.4])
    length = scripts.script.task.shape[1]
    run = jax.jit(jax.vmap(lambda k: rollout(env, k, response, length)[1][1]))
    keys = jax.random.split(jax.random.key(1), 1500)
    drawn = run(keys)
    plan = jax.jit(jax.vmap(lambda k: rollout(expected, k, response, length)[1][1]))(keys)
    taken = np.asarray(drawn.taken)
    for name, tolerance in (("tokens", 0.02), ("correct", 0.03)):
        mine, theirs = (np.asarray(getattr(x, name))[taken].mean() for x in (drawn, plan))
        assert mine == pytest.approx(theirs, rel=tolerance), name
    assert np.asarray(drawn.fallback)[taken].mean() == pytest.approx(0.1, abs=0.02)
    assert set(np.unique(drawn.correct)) == {0.0, 1.0}
    assert not np.any(np.asarray(drawn.correct) * np.asarray(drawn.fallback))
    again = run(keys)
    np.testing.assert_array_equal(again.tokens, drawn.tokens)
    alone = rollout(env, keys[7], response, length)[1][1]
    np.testing.assert_allclose(alone.tokens, drawn.tokens[7], rtol=1e-5)


def test_gradient_through_a_session_against_differences(scripts):
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, tree
        )
        env = sj.agents.control.SurrogateSession(
            Known(), wide(scripts), stochastic=False, forget=True
        )
        row = int(jnp.argmax(scripts.turns))

        def value(response):
            end, (_, turn) = rollout(env, jax.random.key(0), response, 4, row)
            return turn.tokens.sum() + 100 * end.session.recent_quality

        at, step = jnp.array([0.4, 0.3, 0.6]), 1e-6 * jnp.eye(3)
        central = jax.jit(jax.vmap(lambda d: (value(at + d) - value(at - d)) / 2e-6))(step)
        np.testing.assert_allclose(jax.jit(jax.grad(value))(at), central, rtol=1e-6)


def test_wrong_response(scripts):
    env = sj.agents.control.SurrogateSession(Known(), scripts)
    _, now = env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"`response` must have shape \(3,\), \(c, p, u\); got"):
        env.step(jax.random.key(0), now, jnp.zeros(2))
    half = jnp.full(3, 0.5)
    for wrong in (half.at[0].set(5.0), half.at[1].set(jnp.nan)):
        with pytest.raises(ValueError, match=r"`response` must lie in \[0, 1\]"):
            env.step(jax.random.key(0), now, wrong)
    with pytest.raises(ValueError, match=r"`signal` must have shape \(2,\), \(q, alpha\)"):
        env.step(jax.random.key(0), now, half, jnp.zeros(3))
    with pytest.raises(ValueError, match="`row` must lie in 0..11; got 12"):
        env.start(12)
    with pytest.raises(ValueError, match="`turn_budget` must be positive; got 0.0"):
        env.replace(turn_budget=0.0).start(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "singing"}, r"`records\[0\].task` must be one of .*; got \'singing\'"),
        ({"state": {"task_complexity": 0.5}}, "'context_tokens'.` must be finite; got nan"),
    ],
)
def test_wrong_scripts(change, message):
    with pytest.raises(ValueError, match=message):
        sj.agents.control.scripts_of([dataclasses.replace(RECORDS[0], **change)])


def test_a_float64_response_to_a_float32_session(scripts, x64):
    env = sj.agents.control.SurrogateSession(Known(), scripts, stochastic=False, forget=True)
    response = jnp.array([0.5, 0.0, 1.0], jnp.float64)
    end, _ = rollout(env, jax.random.key(0), response, 3, row=0)
    assert end.context_tokens.dtype == jnp.float32
