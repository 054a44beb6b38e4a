"""The trainers that leaders and followers are compared with, on problems with a known answer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from quick import quick, quick_jit

import stackjax as sj
from experiments.learning import evolution as _evolution
from experiments.learning import gail as _gail
from experiments.learning import ppo as _ppo
from experiments.learning import unrolled as _unrolled
from experiments.learning.problems import Policy, Problem, snapshot_steps
from experiments.learning.report import first_reach, median_interval

TIMES = np.array([0, 10, 100])


@pytest.fixture(scope="module")
def tiny():
    """The follower answers a / 2 + x, and the leader's best action is (1 + x) / 2.5."""
    game = sj.Game(
        lambda a, r, x: -((a - x) ** 2) - (r - 1) ** 2,
        lambda a, r, x: r * (a / 2 + x) - r**2 / 2,
        action_set=sj.Box(-2.0, 2.0),
        response_set=sj.Box(-4.0, 4.0),
    )
    answer = lambda a, x: a / 2 + x
    contexts = jnp.linspace(-1.0, 1.0, 64)
    best = (1 + contexts) / 2.5
    squash = lambda logits: 4 * jax.nn.sigmoid(logits)[0] - 2
    features = lambda x: x[None]
    return Problem(
        "tiny",
        game,
        contexts,
        contexts,
        jnp.zeros(()),
        policy=lambda rngs: Policy(features, squash, 1, 1, rngs),
        logits=lambda policy, x: policy.logits(x),
        squash=squash,
        features=features,
        answer=answer,
        optimum=float(jnp.mean(game.leader_utility(best, answer(best, contexts), contexts))),
        source="closed form",
    )


def trained(problem, module, settings, seed=0):
    """Share of the gain to the optimum at each of three times, and the last policy's action."""
    policy, key = problem.policy(nnx.Rngs(seed)), jax.random.key(seed)
    if module is _ppo:
        policy = _ppo.new_agent(problem, policy, settings, nnx.Rngs(seed + 1))
        train = _ppo.make_train(_ppo.stage_game(problem), problem.logits, settings, TIMES)
    else:
        train = module.make_train(problem, settings, TIMES)
    policies, _ = quick(train, policy, key)
    values = problem.evaluate(policies)
    return (values - problem.middle) / (problem.optimum - problem.middle), policies


CASES = {
    "PPO": (_ppo, _ppo.Settings(updates=100, environments=128, learning_rate=1e-2)),
    "ES": (_evolution, _evolution.Settings(generations=100, learning_rate=0.05)),
    "unrolled": (_unrolled, _unrolled.Settings(steps=100, learning_rate=0.02, rate=0.5)),
}


@pytest.mark.parametrize("name", CASES)
def test_leaders_come_near_the_optimum(tiny, name):
    gain, _ = trained(tiny, *CASES[name])
    assert gain[0] < 0.2 and gain[1] < gain[2]
    assert 0.98 < gain[2] < 1.0 + 1e-6


def test_a_key_gives_the_same_policy_and_another_key_another(tiny):
    settings = dataclasses.replace(CASES["PPO"][1], updates=10)
    times = np.array([0, 10])
    train = quick_jit(_ppo.make_train(_ppo.stage_game(tiny), tiny.logits, settings, times))
    agent = _ppo.new_agent(tiny, tiny.policy(nnx.Rngs(0)), settings, nnx.Rngs(1))
    one, again, other = (jax.tree.leaves(train(agent, jax.random.key(k))) for k in (0, 0, 1))
    assert all((x == y).all() for x, y in zip(one, again))
    assert any((x != y).any() for x, y in zip(one, other))


def test_unrolled_follower_comes_near_its_best_response(tiny):
    action, context = jnp.array(0.7), jnp.array(-0.3)
    settings = _unrolled.Settings(rate=0.5)
    answer = lambda action: _unrolled.ascend(tiny, action, context, settings)
    np.testing.assert_allclose(answer(action), 0.05, atol=1e-6)
    np.testing.assert_allclose(jax.grad(answer)(action), 0.5, atol=1e-6)


def test_ppo_learns_over_several_turns():
    """Three moves of at most 1/2 from 0; only where the last one ends, 1 at best, counts."""

    def reset(key):
        state = jnp.zeros(2)  # place, turn
        return state, state

    def step(key, state, u):
        place, turn = state[0] + jnp.tanh(u[0]) / 2, state[1] + 1
        done = (turn == 3).astype(float)
        state = jnp.where(done > 0, reset(key)[0], jnp.stack([place, turn]))
        return state, state, -done * (place - 1) ** 2, done

    settings = _ppo.Settings(
        updates=100, environments=32, turns=6, learning_rate=1e-2, log_std=-1.0
    )
    policy = Policy(lambda x: x, lambda u: u, 2, 1, nnx.Rngs(0))
    value = _ppo.Value(lambda x: x, 2, nnx.Rngs(1))
    agent = _ppo.Agent(policy, jnp.full(1, settings.log_std), value)
    environment = _ppo.Environment(reset, step)
    logits = lambda policy, x: policy.logits(x)
    train = _ppo.make_train(environment, logits, settings, TIMES)
    _, rewards = quick(train, agent, jax.random.key(0))
    assert rewards[:3].mean() < -0.2 and rewards[-10:].mean() > -0.02


def test_advantages_are_sums_of_surprises_within_an_episode():
    settings = _ppo.Settings(discount=0.9, trace=0.8)
    rng = np.random.default_rng(0)
    value, reward = rng.normal(size=(2, 5, 1)).astype(np.float32)
    done = np.array([0, 0, 1, 0, 0], np.float32)[:, None]
    last = np.array([0.3], np.float32)
    sample = _ppo.Sample(None, *(jnp.zeros((5, 1)),) * 2, *map(jnp.asarray, (value, reward, done)))
    found = _ppo.advantages(sample, jnp.asarray(last), settings)
    after = np.concatenate([value[1:], last[None]])
    surprise = reward + 0.9 * (1 - done) * after - value
    wanted = [sum(0.72**k * surprise[t + k, 0] for k in range((3 if t < 3 else 5) - t))
              for t in range(5)]  # fmt: skip
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)


def test_ranks_do_not_mind_the_scale():
    values = jnp.array([3.0, -1e6, 4.0, 3.5, 1e9])
    assert _evolution.centered_ranks(values).tolist() == [-0.25, -0.5, 0.25, 0.0, 0.5]


@pytest.mark.parametrize("fit", [_gail.fit_adversary, _gail.fit_clone])
def test_imitators_learn_a_simple_response(fit):
    """The response rises with the first number seen, falls with the second, within noise."""
    keys = jax.random.split(jax.random.key(0), 3)
    seen = jax.random.uniform(keys[0], (1000, 2), minval=-1.0)
    clean = lambda seen: 0.5 + seen @ jnp.array([[0.2, 0.0], [-0.2, 0.1]])
    noise = 0.05 * jax.random.normal(keys[1], (1000, 2))
    played = _gail.Played(seen, clean(seen) + noise)
    settings = _gail.Settings(steps=1500, batch=128, learning_rate=2e-3, penalty=0.1, hidden=32)
    model = fit(played, key=keys[2], settings=settings)
    error = jax.vmap(model)(seen) - clean(seen)
    assert jnp.sqrt(jnp.mean(error**2)) < 0.05  # a constant has 0.12
    slope = jnp.mean(jax.vmap(jax.jacobian(model))(seen), axis=0)
    np.testing.assert_allclose(slope, [[0.2, -0.2], [0.0, 0.1]], atol=0.06)


def test_snapshots_are_dense_at_first_and_hold_both_ends():
    times = snapshot_steps(400)
    assert times[0] == 0 and times[-1] == 400 and 30 <= len(times) <= 42
    assert (np.diff(times) > 0).all() and (np.diff(times)[:5] == 1).all()


def test_times_to_a_target():
    at = np.tile(np.arange(1.0, 5.0), (3, 1))
    values = np.array([[0, 1, 2, 3], [3, 0, 0, 0], [0, 0, 0, 1.0]])
    reached = first_reach(at, values, 2.0)
    assert reached.tolist() == [3, 1, np.inf]
    assert median_interval(reached).estimate == 3
    assert median_interval(reached, over=np.full(3, 6.0)).estimate == 2
