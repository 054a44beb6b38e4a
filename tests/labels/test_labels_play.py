"""Learners, gates and streams: who asks for labels, and what a run records."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick, quick_jit

from stackjax import labels

KEY = jax.random.key(0)
T = 130
WORD: Any = "me"


@pytest.fixture(scope="module")
def stream():
    return labels.linear_stream(jax.random.key(3), dim=3, noise=0.3)


def looped(learner, stream, rounds, key, block):
    """`run`, written out."""
    state = learner.init(stream(0).features, key)
    regret, gaps, asked = 0.0, 0.0, []
    propose, update = jax.jit(learner.propose), jax.jit(learner.update)
    read, refresh = jax.jit(stream.__call__), jax.jit(learner.refresh)
    for t in range(rounds):
        now = read(jnp.array(t))
        proposal = propose(state, now.features)
        if proposal.query:
            asked.append(int(proposal.round))
        rewards = read(proposal.round).rewards
        # Rewards that were not asked for are not looked at.
        state = update(state, proposal, rewards if proposal.query else rewards * jnp.nan)
        regret += float(now.means.max() - now.means[proposal.action])
        gaps += float(proposal.challenge.gap)
        if (t + 1) % block == 0 or t + 1 == rounds:
            state = refresh(state)
    return state, regret, gaps, asked


@pytest.mark.parametrize("latency", ["gap", "pool", "age"])
def test_run_is_the_loop_and_keeps_the_budget(latency, stream):
    options = {"gap": 0.2, "pool": 0.8, "age": 60.0}
    learner = labels.llf_stacksl(
        budget=20, latency=latency, threshold=options[latency], horizon=T, pool=4,
        noise=0.3, scale=0.2, forget=0.999,
    )  # fmt: skip
    state, curves = quick(lambda s, k: labels.run(learner, s, T, key=k, block=50), stream, KEY)
    same, regret, gaps, asked = looped(learner, stream, T, KEY, 50)
    assert curves.round.tolist() == [50, 100, 130]
    assert state.round == T and state.labels == len(asked) == curves.labels[-1]
    assert 5 < len(asked) <= 20
    np.testing.assert_allclose(state.ridge.theta, same.ridge.theta, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(curves.regret[-1], regret, rtol=1e-4)
    np.testing.assert_allclose(curves.gaps[-1], gaps, rtol=1e-3)
    if latency == "pool":
        assert len(set(asked)) == len(asked), "an item was labelled twice"
        assert asked != sorted(asked), "nothing waited"


def test_runs_side_by_side_are_the_runs(stream):
    """Thresholds, budgets and streams under vmap; one of them never asks."""

    def play(threshold, budget, key):
        learner = labels.llf_stacksl(budget=budget, threshold=threshold, noise=0.3, scale=0.2)
        stream = labels.linear_stream(key, dim=3, noise=0.3)
        state, curves = labels.run(learner, stream, 100, key=key, block=40)
        return state.ridge.theta, curves

    thresholds, budgets = jnp.array([0.0, 0.3, 99.0]), jnp.array([5, 50, 50])
    keys = jax.random.split(KEY, 3)
    one, many = quick_jit(play), quick_jit(jax.vmap(play))
    theta, curves = many(thresholds, budgets, keys)
    for i in range(3):
        single, curve = one(thresholds[i], budgets[i], keys[i])
        np.testing.assert_allclose(theta[i], single, rtol=2e-4, atol=1e-5)
        np.testing.assert_array_equal(curves.labels[i], curve.labels)
    assert curves.labels[:, -1].tolist()[::2] == [5, 0]
    assert (theta[2] == 0).all()


def test_full_feedback_learns_and_its_gaps_bound_the_regret(stream):
    learner = labels.stacksl(noise=0.3)
    _, curves = quick(lambda s, k: labels.run(learner, s, 600, key=k, block=100), stream, KEY)
    assert curves.labels[-1] == 600
    gain = np.diff(curves.regret)
    assert gain[-1] < 0.2 * curves.regret[0]
    assert (curves.error <= curves.radius).all()
    assert (curves.broken == 0).all()
    assert (curves.regret <= curves.gaps).all()
    assert (curves.mistakes[1:] >= curves.mistakes[:-1]).all()


def test_a_radius_of_zero_breaks_the_bound(stream):
    """`broken` counts: without a radius every gap is zero, and each mistake is beyond it."""
    learner = labels.stacksl(scale=0.0)
    _, curves = quick(lambda s, k: labels.run(learner, s, 60, key=k, block=60), stream, KEY)
    assert curves.gaps[-1] == 0
    assert curves.broken[-1] == curves.mistakes[-1] > 0


def test_a_run_can_go_on_where_it_stopped(stream):
    learner = labels.llf_stacksl(budget=30, threshold=0.1, noise=0.3, scale=0.2)
    play = quick_jit(lambda state: labels.run(learner, stream, 60, key=KEY, state=state, block=30))
    state, first = play(learner.init(stream(0).features, KEY))
    state, second = play(state)
    whole, curves = quick(lambda k: labels.run(learner, stream, 120, key=k, block=30), KEY)
    assert second.round.tolist() == [90, 120]
    np.testing.assert_allclose(state.ridge.theta, whole.ridge.theta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.regret[-1] + second.regret[-1], curves.regret[-1], rtol=1e-5)


def test_idle_rounds_of_the_last_block_do_not_fill_the_pool(stream):
    """13 rounds in blocks of 10: nothing of the rounds that are not played may wait."""
    learner = labels.llf_stacksl(budget=0, latency="pool", pool=20, noise=0.3)
    state = quick(lambda s, k: labels.run(learner, s, 13, key=k, block=10)[0], stream, KEY)
    assert state.memory.round.max() == 12
    assert np.unique(state.memory.round[state.memory.round >= 0]).size == 13


def test_means_of_another_dtype_than_the_features(stream):
    def counted(t):
        return labels.Round(stream(t).features, jnp.arange(4), jnp.arange(4) == 3)

    _, curves = quick(lambda k: labels.run(labels.stacksl(), counted, 20, key=k), KEY)
    assert curves.regret.dtype == jnp.float32 and curves.regret[-1] > 0


@pytest.fixture(scope="module")
def view():
    """What gates see after ten labels."""
    rng = np.random.default_rng(4)
    ridge = labels.new_ridge(3)
    stamps = np.zeros((3, 3))
    for t in range(10):
        phi = rng.normal(size=(4, 3)).astype(np.float32)
        ridge = labels.label(ridge, jnp.asarray(phi), jnp.asarray(rng.normal(size=4), jnp.float32))
        stamps += t * phi.T @ phi
    phi = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    play = labels.challenge(phi, ridge.theta, ridge.inverse, 3.0)
    view = labels.View(jnp.array(10), phi, play, ridge, jnp.array(3.0), KEY)
    return view, stamps


def test_latencies_are_what_they_are_called(view):
    view, stamps = view
    latency = lambda gate, memory=(): float(gate.select(memory, view).latency)
    scores = np.asarray(view.challenge.scores)
    top = np.sort(scores)[::-1]
    assert latency(labels.every_round()) == np.inf
    assert 0 <= latency(labels.at_random()) < 1
    np.testing.assert_allclose(latency(labels.margin()), top[1] - top[0], rtol=1e-6)
    chance = np.exp(scores / 0.5) / np.exp(scores / 0.5).sum()
    entropy = -(chance * np.log(chance)).sum()
    np.testing.assert_allclose(latency(labels.entropy(temperature=0.5)), entropy, rtol=1e-5)
    first, second = np.argsort(-scores)[:2]
    z = np.asarray(view.features[first] - view.features[second])
    inverse = np.asarray(view.ridge.inverse)
    np.testing.assert_allclose(latency(labels.width()), z @ inverse @ z, rtol=1e-5)
    assert latency(labels.largest_gap()) == view.challenge.gap > 0
    # Age: a mean of the rounds, weighted by what each label moves along the challenge.
    z = np.asarray(view.features[view.challenge.challenger] - view.features[view.challenge.action])
    y = inverse @ z
    gram = np.asarray(view.ridge.gram + view.ridge.recent)
    when = (y @ stamps @ y - 50.0 * y @ y) / (y @ gram @ y + y @ y)
    age = labels.oldest_direction(horizon=50.0)
    np.testing.assert_allclose(latency(age, jnp.asarray(stamps, jnp.float32)), 10 - when, rtol=1e-4)
    resolved = view.replace(challenge=view.challenge.replace(gap=jnp.array(0.0)))
    assert age.select(jnp.zeros((3, 3)), resolved).latency == -jnp.inf


def test_a_full_pool_drops_the_least_and_labels_the_longest(view):
    view, _ = view
    gate = labels.waiting_pool(size=2)
    memory = gate.init(view.features)
    asked = []
    for t, factor in enumerate([1.0, 0.1, 1.9, 0.01, 3.0]):
        now = view.features * factor
        play = labels.challenge(now, view.ridge.theta, view.ridge.inverse, view.radius)
        seen = view.replace(round=jnp.array(t), features=now, challenge=play)
        candidate = gate.select(memory, seen)
        query = jnp.array(t == 4)
        asked.append(int(candidate.round))
        memory = gate.update(memory, seen, candidate, query)
    # Round 2 took the place of round 1, round 3 of none; at last they wait 5 x 1, 3 x 1.9, 1 x 3.
    assert asked == [0, 0, 0, 0, 2]
    assert sorted(memory.round.tolist()) == [0, 4]


def test_the_first_b_rounds_and_linucb_choose_as_named(stream):
    learner = labels.budgeted_learner(labels.every_round(), budget=3, optimistic=True, noise=0.3)
    state = learner.init(stream(0).features, KEY)
    for t in range(5):
        now = stream(jnp.array(t))
        proposal = learner.propose(state, now.features)
        assert bool(proposal.query) == (t < 3)
        inverse = np.asarray(state.ridge.inverse)
        phi = np.asarray(now.features)
        upper = phi @ np.asarray(state.ridge.theta) + float(proposal.radius) * np.sqrt(
            np.einsum("kd,de,ke->k", phi, inverse, phi)
        )
        assert proposal.action == upper.argmax()
        state = learner.update(state, proposal, now.rewards)


def test_schedules_of_optax_are_thresholds(stream):
    import optax

    gate = labels.gate_of(lambda view: jnp.ones_like(view.radius))
    falling = labels.budgeted_learner(gate, threshold=optax.linear_schedule(2.0, 0.0, 10))
    state = falling.init(stream(0).features, KEY)
    features = stream(0).features
    open_at = [bool(falling.propose(state.replace(round=t), features).query) for t in range(10)]
    assert open_at == [False] * 6 + [True] * 4


def test_streams_are_random_access_and_as_described():
    drifting = labels.linear_stream(KEY, dim=4, turn=np.pi / 100)
    many = quick(jax.vmap(drifting), jnp.arange(200))
    np.testing.assert_array_equal(many.features[17], drifting(jnp.array(17)).features)
    np.testing.assert_allclose(many.theta[100], -many.theta[0], atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(many.theta, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose((many.features**2).sum(-1).mean(), 1.0, atol=0.1)
    np.testing.assert_allclose(
        many.means, jnp.einsum("tkd,td->tk", many.features, many.theta), atol=1e-6
    )
    np.testing.assert_allclose((many.rewards - many.means).std(), 0.5, atol=0.05)
    rare = labels.rare_stream(KEY, dim=4, rare=1, rate=0.2)
    seen = np.asarray(quick(jax.vmap(rare), jnp.arange(2000)).features)
    is_rare = (seen[..., 3] != 0).all(1)
    assert 0.16 < is_rare.mean() < 0.24
    assert (seen[is_rare][..., :3] == 0).all() and (seen[~is_rare][..., :3] != 0).all()
    ordered = labels.ordered_stream(KEY, dim=4, groups=2, rounds=100)
    seen = np.asarray(quick(jax.vmap(ordered), jnp.arange(150)).features)
    assert (seen[:50][..., 2:] == 0).all() and (seen[50:][..., :2] == 0).all()
    uneven = labels.ordered_stream(KEY, dim=4, groups=4, rounds=5)
    assert uneven.segment == 1, "the last group must have a round"


def test_recorded_rounds_and_a_look_ahead_that_sees_no_reward():
    rng = np.random.default_rng(5)
    features, rewards = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 3))
    stream = labels.recorded_stream(features, rewards, [4, 1])
    np.testing.assert_allclose(stream(jnp.array(0)).rewards, rewards[4], rtol=1e-6)
    np.testing.assert_allclose(stream(jnp.array(9)).features, features[1], rtol=1e-6)
    blind = stream.replace(rewards=stream.rewards * jnp.nan)
    look = labels.imagine(blind, key=KEY, spread=0.0, noise=0.0, prior_mean=[1.0, -1.0])
    np.testing.assert_allclose(look(jnp.array(0)).rewards, features[4] @ [1.0, -1.0], rtol=1e-5)
    thetas = jax.vmap(lambda key: labels.imagine(blind, key=key, spread=2.0, noise=0.0).theta)(
        jax.random.split(KEY, 500)
    )
    np.testing.assert_allclose(thetas.std(), 2.0, rtol=0.1)


def test_accuracy_counts_ties_of_the_means_as_right():
    features = jnp.array([[[1.0], [0.0]], [[1.0], [0.0]], [[1.0], [0.0]]])
    means = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    share = jax.jit(labels.accuracy)(jnp.array([1.0]), features, means)
    np.testing.assert_allclose(share, 2 / 3)
    assert labels.accuracy(jnp.array([jnp.nan]), features, means) == 0


def test_memory_does_not_grow_with_the_rounds(stream):
    def size(rounds):
        learner = labels.llf_stacksl(budget=10, threshold=0.1)
        play = lambda s, k: labels.run(learner, s, rounds, key=k, block=max(rounds // 4, 1))[1]
        memory = jax.jit(play).lower(stream, KEY).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    assert size(1_000_000) <= size(1000) + 1024


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda s: labels.llf_stacksl(budget=-1),
            ValueError,
            "`budget` must not be negative; got -1",
        ),
        (
            lambda s: labels.llf_stacksl(budget=1, latency="slow"),
            ValueError,
            "`latency` must be one of 'gap', 'pool'",
        ),
        (lambda s: labels.llf_stacksl(budget=1, latency="age"), ValueError, "horizon"),
        (
            lambda s: labels.stacksl(confidence=1.5),
            ValueError,
            r"`confidence` must lie in \(0, 1\]; got 1.5",
        ),
        (
            lambda s: labels.stacksl(forget=0.0),
            ValueError,
            r"`forget` must lie in \(0, 1\]; got 0.0",
        ),
        (
            lambda s: labels.stacksl(threshold=float("nan")),
            ValueError,
            "`threshold` must not be NaN; got nan",
        ),
        (
            lambda s: labels.stacksl(noise="a lot"),
            TypeError,
            "`noise` must be a number; got 'a lot'",
        ),
        (
            lambda s: labels.stacksl(norm=np.inf),
            ValueError,
            "`norm` must be finite and not negative; got inf",
        ),
        (
            lambda s: labels.stacksl(threshold=[0.1, 0.2]),
            ValueError,
            r"`threshold` must be one number; got shape \(2,\)",
        ),
        (
            lambda s: labels.rare_stream(KEY, dim=3, rare=1, rate=WORD),
            TypeError,
            "`rate` must be a number; got 'me'",
        ),
        (
            lambda s: labels.run(
                labels.budgeted_learner(labels.gate_of(lambda v: v.challenge.scores)), s, 5, key=KEY
            ),
            ValueError,
            r"`latency` must be one number; got shape \(4,\)",
        ),
        (
            lambda s: labels.run(
                labels.stacksl(), s, 5, key=KEY, state=labels.stacksl().init(jnp.eye(2), KEY)
            ),
            ValueError,
            r"`features` must have shape \(any, 2\); got shape \(4, 3\)",
        ),
        (
            lambda s: labels.imagine(lambda t: s(t).features, key=KEY, spread=1, noise=0),
            TypeError,
            "`stream` must return a Round; got",
        ),
        (lambda s: labels.budgeted_learner(WORD), TypeError, "`gate` must be a Gate; got 'me'"),
        (
            lambda s: labels.gate_of(WORD),
            TypeError,
            "`latency` must be a function of a View; got 'me'",
        ),
        (
            lambda s: labels.entropy(temperature=0),
            ValueError,
            "`temperature` must be positive and finite; got 0",
        ),
        (lambda s: labels.waiting_pool(size=0), ValueError, "`size` must be at least 1; got 0"),
        (
            lambda s: labels.run(WORD, s, 5, key=KEY),
            TypeError,
            "`learner` must be a Learner; got 'me'",
        ),
        (
            lambda s: labels.run(labels.stacksl(), 7, 5, key=KEY),
            TypeError,
            "`stream` must be a callable",
        ),
        (
            lambda s: labels.run(labels.stacksl(), s, 0, key=KEY),
            ValueError,
            "`rounds` must be at least 1; got 0",
        ),
        (lambda s: labels.run(labels.stacksl(), s, 5, key=WORD), TypeError, "key"),
        (lambda s: labels.run(labels.stacksl(), lambda t: t, 5, key=KEY), TypeError, "Round"),
        (lambda s: labels.linear_stream(KEY, dim=0), ValueError, "`dim` must be at least 1; got 0"),
        (
            lambda s: labels.linear_stream(KEY, dim=2, alternatives=1),
            ValueError,
            "`alternatives` must be at least 2; got 1",
        ),
        (
            lambda s: labels.linear_stream(KEY, dim=2, noise=-1),
            ValueError,
            "`noise` must be finite and not negative; got -1",
        ),
        (
            lambda s: labels.rare_stream(KEY, dim=3, rare=3, rate=0.1),
            ValueError,
            "`rare` must be less than `dim`, 3; got 3",
        ),
        (
            lambda s: labels.rare_stream(KEY, dim=3, rare=1, rate=1.0),
            ValueError,
            r"`rate` must lie in \(0, 1\); got 1.0",
        ),
        (
            lambda s: labels.ordered_stream(KEY, dim=3, groups=2, rounds=9),
            ValueError,
            "`groups` must divide `dim`, 3; got 2",
        ),
        (
            lambda s: labels.recorded_stream(np.ones((2, 2, 1)), np.ones((2, 3))),
            ValueError,
            r"`rewards` must have shape \(2, 2\); got shape",
        ),
        (
            lambda s: labels.recorded_stream(np.ones((2, 2, 1)) * np.nan, np.ones((2, 2))),
            ValueError,
            "`features` must be finite; got nan at index",
        ),
        (
            lambda s: labels.recorded_stream(np.ones((2, 2, 1)), np.ones((2, 2)), [2]),
            ValueError,
            r"`order` must lie in \[0, 2\); got 2 at index 0",
        ),
        (
            lambda s: labels.recorded_stream(np.ones((0, 2, 1)), np.ones((0, 2))),
            ValueError,
            "must have a question",
        ),
        (
            lambda s: labels.imagine(s, key=KEY, spread=-1, noise=0),
            ValueError,
            "`spread` must be finite and not negative; got -1",
        ),
        (
            lambda s: labels.imagine(3, key=KEY, spread=1, noise=0),
            TypeError,
            "`stream` must be a callable",
        ),
        (
            lambda s: labels.accuracy(jnp.ones(1), jnp.ones((0, 2, 1)), jnp.ones((0, 2))),
            ValueError,
            "at least one question",
        ),
    ],
)
def test_wrong_input_is_named(call, error, message, stream):
    with pytest.raises(error, match=message):
        call(stream)
