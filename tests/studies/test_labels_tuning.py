"""Options chosen on look-aheads, the smoothed gate, the last layer, and the experiment's parts."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from quick import quick, quick_jit

from experiments.labels.__main__ import DATA, Args, main
from experiments.labels.methods import METHODS, paired
from experiments.labels.real import features_of, order_of, read_votes
from experiments.labels.report import verdict
from experiments.labels.synthetic import slope
from stackjax import labels

KEY = jax.random.key(0)


def streams_of(keys):
    return jax.vmap(lambda key: labels.linear_stream(key, dim=2, noise=0.3))(keys)


def test_calibration_is_the_best_of_the_runs():
    streams = streams_of(jax.random.split(KEY, 3))
    thresholds = jnp.array([50.0, 0.0, 0.5])

    def make(threshold):
        return labels.llf_stacksl(budget=None, threshold=threshold, noise=0.3, scale=0.3)

    best = quick(
        lambda s: labels.tune_threshold(make, thresholds, s, 60, key=KEY, block=60), streams
    )
    assert best.labels[0] == 0 and best.labels[1] > best.labels[2] > 0
    assert best.index == np.argmin(best.regret) and best.chosen == thresholds[best.index]
    assert best.regret[0] > 2 * best.regret[1]


def test_smoothed_run_slopes_and_limit(x64):
    stream = labels.linear_stream(jax.random.key(2), dim=2, noise=0.3)
    stream = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, stream)
    start = labels.GateSettings.create(threshold=0.3, power=0.2, scale=0.3)

    def play(numbers, temperature):
        settings = labels.GateSettings(*numbers)
        found = labels.smoothed_run(
            settings, stream, 20, budget=8.0, temperature=temperature, noise=0.3
        )
        return found.regret, found.labels

    # One program: seven points side by side, warm and cold.
    both = quick_jit(jax.vmap(jax.value_and_grad(play, has_aux=True), in_axes=(0, None)))
    numbers = jnp.stack(jax.tree.leaves(start))
    steps = jnp.concatenate([jnp.zeros((1, 3)), 1e-6 * jnp.eye(3), -1e-6 * jnp.eye(3)])
    (values, _), slopes = both(numbers[None] + steps, jnp.array(0.1))
    assert (jnp.abs(slopes[0]) > 1e-3).all()
    np.testing.assert_allclose(slopes[0], (values[1:4] - values[4:]) / 2e-6, rtol=1e-4)
    # Cold, it is the hard gate.
    (cold, used), _ = both(numbers[None] + steps, jnp.array(1e-7))
    learner = labels.llf_stacksl(budget=8, noise=0.3, **start.options)
    _, curves = quick(lambda s: labels.run(learner, s, 20, key=KEY), stream)
    assert 0 < curves.labels[-1] <= 8
    np.testing.assert_allclose(used[0], curves.labels[-1], atol=1e-3)
    # Before the first label all scores are equal: one takes the first, the other any.
    tied = stream(0).means
    tie = tied[0] - tied.mean()
    np.testing.assert_allclose(cold[0], curves.regret[-1] + tie, rtol=1e-3, atol=1e-6)


def test_tuning_lowers_the_smoothed_regret_and_keeps_the_budget():
    streams = streams_of(jax.random.split(KEY, 2))
    start = labels.GateSettings.create(threshold=2.0, scale=0.3)
    tune = lambda s: labels.tune_gate(start, s, 20, budget=4.0, steps=15, noise=0.3)
    found = quick(tune, streams)
    assert found.regret.min() < 0.97 * found.regret[0]
    assert (found.labels <= 4.0 + 1e-4).all()
    assert jnp.isfinite(found.gradient_norm).all()
    assert found.settings.log_threshold < start.log_threshold


class Square(nnx.Module):
    """Embeds x as (w x)^2."""

    def __init__(self):
        self.w = nnx.Param(jnp.array([0.3]))

    def __call__(self, features):
        return (features * self.w[...][0]) ** 2


def squares(t):
    seen = jax.random.normal(jax.random.fold_in(KEY, t), (3, 1))
    return labels.Round(seen, seen[:, 0] ** 2, seen[:, 0] ** 2)


def test_last_layer_learns_what_a_line_cannot_and_its_ridge_is_that_of_the_kept_items():
    learner = labels.budgeted_learner(labels.every_round(), budget=12, noise=0.1)

    def play():
        deep = labels.run_last_layer(
            Square(), learner, squares, 70, capacity=12, key=KEY, interval=20, steps=30,
            optimizer=None,
        )  # fmt: skip
        return *deep, labels.run(learner, squares, 70, key=KEY)[1]

    last, curves, plain = quick(play)
    assert curves.round.tolist() == [20, 40, 60, 70] and curves.labels.tolist() == [12] * 4
    assert curves.regret[-1] < 0.5 * plain.regret[-1]
    assert not np.allclose(last.head.w[...], 0.3, atol=1e-3)
    np.testing.assert_allclose(last.features[5], squares(5).features, rtol=1e-6)
    flat = np.asarray(last.head(last.features), float).reshape(-1, 1)
    theta = flat.T @ np.asarray(last.rewards, float).ravel() / (1 + flat.T @ flat)[0, 0]
    np.testing.assert_allclose(last.state.ridge.theta, theta, rtol=1e-4)
    np.testing.assert_allclose(
        last.scores(last.features)[0], flat[:3, 0] * theta[0], rtol=1e-4, atol=1e-6
    )


def unit(scale, features):
    scaled = features * scale
    return scaled / jnp.linalg.norm(scaled, axis=-1, keepdims=True)


def test_a_head_that_is_nan_at_zero_keeps_its_estimate():
    """Empty rows of the kept items are zero, where a normalised embedding is not defined."""
    stream = labels.linear_stream(jax.random.key(3), dim=3, noise=0.1)
    head = jax.tree_util.Partial(unit, jnp.ones(()))
    learner = labels.stacksl(budget=3, noise=0.1)
    play = lambda: (
        labels.run_last_layer(head, learner, stream, 10, capacity=8, key=KEY, interval=5, steps=2)[
            0
        ].state.ridge
    )
    ridge = quick(play)
    assert jnp.isfinite(ridge.gram).all() and (ridge.theta != 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s, c: c(labels.stacksl, [0.0], s, 5, key=KEY), ValueError, "`candidates` must"),
        (lambda s, c: c(3, jnp.ones(2), s, 5, key=KEY), TypeError, "`make` must be a function"),
        (lambda s, c: c(labels.stacksl, jnp.ones(0), s, 5, key=KEY), ValueError, "candidates"),
        (lambda s, c: labels.GateSettings.create(threshold=0.0), ValueError, "`threshold` must"),
        (
            lambda s, c: labels.smoothed_run(
                labels.GateSettings.create(threshold=1.0), squares, 5, budget=1.0, temperature=0.0
            ),
            ValueError,
            "`temperature` must be positive and finite; got 0",
        ),
        (
            lambda s, c: labels.smoothed_run(
                labels.GateSettings.create(threshold=1.0), squares, 5, budget=1.0, confidence=2.0
            ),
            ValueError,
            "`confidence` must lie in \\(0, 1\\]; got 2.0",
        ),
        (
            lambda s, c: labels.smoothed_run(0.3, squares, 5, budget=1.0),  # pyright: ignore
            TypeError,
            "`settings` must be a GateSettings; got 0.3",
        ),
        (
            lambda s, c: labels.tune_gate(
                labels.GateSettings.create(threshold=1.0), squares, 5, budget=1.0
            ),
            ValueError,
            "`streams` must hold arrays with one common leading axis, not empty",
        ),
        (
            lambda s, c: labels.tune_gate(
                labels.GateSettings.create(threshold=1.0), s, 5, budget=1.0, steps=0
            ),
            ValueError,
            "`steps` must be at least 1; got 0",
        ),
        (
            lambda s, c: labels.run_last_layer(
                Square(),
                labels.llf_stacksl(budget=3, latency="pool"),
                squares, 5, capacity=3, key=KEY,
            ),
            ValueError,
            "memory",
        ),
        (
            lambda s, c: labels.run_last_layer(
                Square(), labels.stacksl(), squares, 5, capacity=0, key=KEY
            ),
            ValueError,
            "`capacity` must be at least 1; got 0",
        ),
        (
            lambda s, c: labels.run_last_layer(
                3, labels.stacksl(), squares, 5, capacity=1, key=KEY
            ),
            TypeError,
            "`head` must be a callable pytree; got 3",
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(streams_of(jax.random.split(KEY, 2)), labels.tune_threshold)


@pytest.fixture(scope="module")
def votes():
    return read_votes(DATA)


def test_votes_are_read_as_the_card_says(votes):
    assert votes.votes.shape == (5700, 4, 14) and len(votes.subjects) == 57
    assert votes.votes.sum() == 79_800 - 207
    assert (votes.votes.sum(1) <= 1).all()
    right = votes.votes[np.arange(5700), votes.gold].mean(0)
    np.testing.assert_allclose([right.min(), right.max()], [0.798, 0.865], atol=5e-4)
    assert 0.27 < votes.held_out.mean() < 0.33


def test_crossed_features_keep_subjects_apart(votes):
    features = features_of(votes, crossed=True)
    assert features.shape == (5700, 4, 114)
    np.testing.assert_allclose(features.sum(1), 0.0, atol=1e-6)
    used = np.abs(features).sum((0, 1)) > 0
    assert used.all()
    one, other = np.flatnonzero(votes.subject == 0)[0], np.flatnonzero(votes.subject == 1)[0]
    np.testing.assert_array_equal(features[one] @ features[other].T, 0.0)


def test_orders_stream_every_question_once_and_no_held_out_one(votes):
    known = np.flatnonzero(~votes.held_out)
    for name in ("random", "by subject", "hardest first"):
        rows = order_of(votes, name, 0)
        np.testing.assert_array_equal(np.sort(rows), known)
        assert not np.array_equal(rows, order_of(votes, name, 1))
    subjects = votes.subject[order_of(votes, "by subject", 0)]
    assert (np.diff(subjects) != 0).sum() == 56
    rows = order_of(votes, "hardest first", 0)
    right = votes.votes[rows, votes.gold[rows]].sum(-1)
    assert (np.diff(right) >= 0).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "columns must begin"),
        ("item,subject,gold,error_type,m\n", "no question"),
        ("item,subject,gold,error_type,m\n0,s,4,ok,A\n", "gold must be"),
        ("item,subject,gold,error_type,m\n0,s,1,ok\n", "another length"),
    ],
)
def test_a_wrong_table_is_refused(text, message, tmp_path):
    path = tmp_path / "votes.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ValueError, match=message):
        read_votes(path)


def test_statistics_of_the_report():
    lengths = np.array([100, 1000, 10_000])
    regret = 3.0 * lengths[None] ** 0.4 * np.array([[0.9], [1.1]])
    found = slope(lengths, regret)
    np.testing.assert_allclose([found["slope"], *found["interval"]], 0.4, rtol=1e-9)
    one = paired(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(one["interval"], [2 - 2.484, 2 + 2.484], atol=1e-3)
    assert verdict(one) == "not distinguishable"
    assert verdict(paired(np.array([1.0, 1.1, 0.9]))) == "worse"
    with pytest.raises(ValueError, match="at least 2"):
        paired(np.ones(1))


def test_every_grid_but_that_of_no_labels_holds_a_budget():
    for name, method in METHODS.items():
        budgets = {c["budget"] for c in method.candidates(7, 1.0)}
        assert budgets == ({7} if name not in ("label all", "label none") else {np.inf})


@pytest.mark.parametrize(
    "wrong", [["--rounds", "5"], ["--seeds", "one"], ["--data", "no.csv.gz"], ["--nothing"]]
)
def test_a_wrong_option_ends_with_one_line(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(wrong)
    assert capsys.readouterr().err.count("\n") == 1


def test_defaults_are_valid():
    assert Args().data == DATA


@pytest.mark.slow
def test_quick_experiment_writes_results_and_a_figure(tmp_path):
    main(["--quick", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "labels.json").read_text())
    assert set(results["real"]["orders"]) == {"random", "by subject", "hardest first"}
    assert all(t["met"] in (True, False) for t in results["targets"])
    assert (tmp_path / "labels.png").stat().st_size > 10_000


def test_a_damaged_table_is_refused(tmp_path):
    path = tmp_path / "votes.csv.gz"
    path.write_bytes(DATA.read_bytes()[:2000])
    with pytest.raises(ValueError, match="damaged"):
        read_votes(path)
