from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from stackjax.agents.game._state import State
from stackjax.agents.surrogate._accuracy import prediction_accuracy
from stackjax.agents.surrogate._calibration import check_drift, fit_calibration
from stackjax.agents.surrogate._calibration_maps import (
    CalibratedSurrogate,
    LinearMap,
    LogOddsMap,
    MonotoneMap,
    fit_map,
)
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.agents.surrogate._shapes import FreeModel


def sessions(seed, episodes=60, turns=6, slope=1.3, intercept=-40.0, shared=15.0):
    """Predicted and observed tokens; every episode has an error of its own."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), turns)
    predicted = rng.uniform(100, 500, size=episodes * turns)
    noise = shared * rng.normal(size=episodes)[episode] + 20 * rng.normal(size=len(episode))
    return predicted, intercept + slope * predicted + noise, episode


def answers(seed, episodes=150, turns=8):
    """Overconfident probabilities, and whether the answer was right."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.1, 0.9, size=episodes * turns)
    odds = np.log(truth / (1 - truth))
    predicted = 1 / (1 + np.exp(-(2.5 * odds + 0.8)))
    right = rng.uniform(size=len(truth)) < truth
    return predicted, right.astype(float), np.repeat(np.arange(episodes), turns), truth


def test_a_linear_error_is_recovered_and_removed():
    predicted, observed, episode = sessions(0)
    found = fit_calibration(predicted, observed, episode)
    slope, intercept = np.polyfit(predicted, observed, 1)
    assert isinstance(found.map, LinearMap)
    assert float(found.map.slope) == pytest.approx(slope, rel=1e-5)
    assert float(found.map.intercept) == pytest.approx(intercept, rel=1e-4)
    assert found.before.bias.high < -40
    assert found.before.slope.estimate == pytest.approx(slope)
    assert found.before.correlation.estimate == pytest.approx(
        np.corrcoef(predicted, observed)[0, 1]
    )
    for ends, wanted in ((found.after.bias, 0), (found.after.slope, 1)):
        assert ends.low < wanted < ends.high
    assert found.mae_gain.low > 0 and found.mse_gain.low > 0
    difference = found.before.mae.estimate - found.after.mae.estimate
    assert found.mae_gain.estimate == pytest.approx(difference)
    # predictions that were right already do not get much worse
    same = fit_calibration(observed, observed + np.random.default_rng(0).normal(size=360), episode)
    assert same.mae_gain.low < 0 < same.mae_gain.high or abs(same.mae_gain.estimate) < 0.02


def test_no_turn_is_judged_by_a_map_that_saw_its_episode():
    """With outcomes that are noise, a map fitted on the turns it is judged on would look better."""
    rng = np.random.default_rng(0)
    predicted, episode = rng.uniform(size=300), np.repeat(np.arange(30), 10)
    observed = rng.normal(size=30)[episode] + 0.1 * rng.normal(size=300)
    seen = fit_map("isotonic", predicted, observed)
    found = fit_calibration(predicted, observed, episode, kind="isotonic")
    before = observed.var()
    inside = np.mean((np.asarray(seen(jnp.asarray(predicted))) - observed) ** 2)
    assert inside < before < found.after.mse.estimate
    other = fit_calibration(predicted, observed, episode, kind="isotonic", seed=1)
    assert other.after.mse != found.after.mse
    # the order of the turns and the names of the episodes do not matter
    order = rng.permutation(300)
    names = np.array([f"{e:03d}" for e in episode])
    again = fit_calibration(predicted[order], observed[order], names[order], kind="isotonic")
    assert again.after.mse.estimate == pytest.approx(found.after.mse.estimate)


def test_isotonic_maps_bend_where_lines_cannot():
    predicted, _, episode = sessions(0)
    rng = np.random.default_rng(1)
    observed = 300 * np.log(predicted / 50) + 5 * rng.normal(size=len(predicted))
    line, free = (
        fit_calibration(predicted, observed, episode, kind=k) for k in ("linear", "isotonic")
    )
    assert free.after.mse.estimate < 0.5 * line.after.mse.estimate
    found = free.map
    assert isinstance(found, MonotoneMap)
    assert (np.diff(found.knots) > 0).all() and (np.diff(found.values) >= 0).all()
    ends = np.asarray(found(jnp.array([-1e6, 1e6])))
    np.testing.assert_allclose(ends, [found.values[0], found.values[-1]])


def test_isotonic_by_hand_with_ties_and_a_violation():
    found = MonotoneMap.fit(
        np.array([1.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 5.0, 3.0, 9.0])
    )
    np.testing.assert_allclose(found.knots, [1, 2, 3, 4])
    np.testing.assert_allclose(found.values, [1, 4, 4, 9])
    level = MonotoneMap.fit(np.arange(5.0), np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    np.testing.assert_allclose(level.knots, [0, 4])
    np.testing.assert_allclose(level.values, 3)


@pytest.mark.parametrize("kind", ["logistic", "beta", "isotonic"])
def test_overconfident_probabilities(kind):
    predicted, right, episode, _ = answers(0)
    found = fit_calibration(predicted, right, episode, kind=kind)
    assert found.map.kind == kind
    assert found.mse_gain.low > 0.005
    fresh, _, _, chance = answers(1)
    before = np.sqrt(np.mean((fresh - chance) ** 2))
    after = np.sqrt(np.mean((np.asarray(found.map(jnp.asarray(fresh))) - chance) ** 2))
    assert after < (0.1 if kind == "isotonic" else 0.04) < before
    if kind == "logistic":
        # the log odds were multiplied by 2.5 and moved by 0.8
        assert isinstance(found.map, LogOddsMap) and found.map.rise == found.map.fall
        assert float(found.map.rise) == pytest.approx(0.4, abs=0.06)
        assert float(found.map.intercept) == pytest.approx(-0.32, abs=0.15)


def test_probability_maps_at_the_edges():
    """Separable outcomes, one outcome only, and probabilities of exactly 0 and 1."""
    predicted = np.repeat([0.0, 0.2, 0.8, 1.0], 5)
    for observed in (predicted > 0.5, np.ones(20), np.zeros(20)):
        for kind in ("logistic", "beta"):
            found = fit_map(kind, predicted, observed.astype(float))
            values = np.asarray(found(jnp.asarray(predicted)))
            assert ((values > 0) & (values < 1)).all()
            assert (np.diff(values) >= 0).all()
            assert abs(values.mean() - observed.mean()) < 0.1


@pytest.mark.parametrize("kind", ["linear", "isotonic", "beta"])
def test_maps_under_jit_vmap_and_grad(kind, x64):
    predicted, right, _, _ = answers(0)
    found = fit_map(kind, predicted, right)
    at = jnp.linspace(0.15, 0.85, 7) + 1e-3 * jnp.sqrt(2.0)
    wanted = jnp.stack([found(x) for x in at])
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(found, at), wanted, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(found)(at), wanted, rtol=1e-12)
    slope = jax.vmap(jax.grad(found))(at)
    np.testing.assert_allclose(slope, (found(at + 1e-7) - found(at - 1e-7)) / 2e-7, atol=1e-5)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), found, found)
    np.testing.assert_allclose(jax.vmap(lambda m: m(at))(stacked)[1], wanted, rtol=1e-12)


def test_intervals_cover_as_they_say_with_few_clustered_episodes():
    """Of bias, slope and correlation, at level 0.9 with 12 episodes; turns alone would not do."""
    truth, hits, naive = (0.0, 1.0), np.zeros(2), 0
    correlations, runs = [], 300
    for seed in range(runs):
        predicted, observed, episode = sessions(seed, 12, 6, 1.0, 0.0)
        found = prediction_accuracy(predicted, observed, episode, level=0.9)
        hits += [e.low <= t <= e.high for e, t in zip((found.bias, found.slope), truth)]
        alone = prediction_accuracy(predicted, observed, np.arange(72), level=0.9).bias
        naive += alone.low <= 0 <= alone.high
        correlations.append(found.correlation)
    population = prediction_accuracy(*sessions(0, 4000, 6, 1.0, 0.0)).correlation.estimate
    covered = np.mean([c.low <= population <= c.high for c in correlations])
    spread = 3 * np.sqrt(0.9 * 0.1 / runs)
    assert (np.abs(hits / runs - 0.9) < spread).all()
    assert abs(covered - 0.9) < spread + 0.03
    assert naive / runs < 0.9 - spread


def test_intervals_of_independent_turns_are_the_textbook_ones():
    predicted, observed, _ = sessions(0, shared=0.0)
    found = prediction_accuracy(predicted, observed, np.arange(360))
    wanted = stats.ttest_1samp(predicted - observed, 0).confidence_interval(0.95)
    np.testing.assert_allclose([found.bias.low, found.bias.high], wanted, rtol=1e-9)
    wanted = stats.pearsonr(predicted, observed).confidence_interval(0.95)
    np.testing.assert_allclose(
        [found.correlation.low, found.correlation.high],
        wanted,
        atol=0.01 * (wanted[1] - wanted[0]) + 2e-3,
    )


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        ({}, "holds"),
        ({"intercept": 20.0}, "fails"),
        ({"slope": 1.7}, "fails"),
        ({"episodes": 8, "shared": 60.0}, "undecided"),
    ],
)
def test_drift_on_later_turns(later, verdict):
    old = fit_calibration(*sessions(0))
    found = check_drift(old, *sessions(1, **later))
    assert found.verdict == verdict
    assert found.changed == (verdict == "fails")
    alone = check_drift(old.map, *sessions(1, **later))
    assert alone.changed is None and alone.bias == found.bias
    assert found.level == 0.95 == found.old.level
    if verdict == "fails":
        assert found.mae_gain.low > 0
        assert found.refitted.mae.estimate < found.old.mae.estimate


def test_drift_is_seldom_claimed_where_there_is_none():
    """At level 0.9 with margins of 0, in at most a tenth of the cases.

    A map fitted on as few episodes as it is tested on fails more often, though nothing changed;
    the intervals of the change know that.
    """
    wrong = np.zeros(3)
    strict = partial(check_drift, level=0.9, bias_margin=0.0, slope_margin=0.0)
    same = LinearMap(jnp.array(1.3), jnp.array(-40.0))
    for seed in range(150):
        data, earlier = sessions(seed, 15, 5), sessions(1000 + seed, 15, 5)
        known = strict(same, *data)
        fitted = strict(fit_calibration(*earlier, level=0.8), *data)
        assert known.verdict != "holds"
        wrong += [known.verdict == "fails", fitted.verdict == "fails", fitted.changed]
    limit = 0.1 + 2.5 * np.sqrt(0.1 * 0.9 / 150)
    assert wrong[0] / 150 < limit and wrong[2] / 150 < limit
    assert wrong[1] / 150 > limit


@pytest.fixture(scope="module")
def surrogate():
    return Surrogate(QualityModel(rngs=nnx.Rngs(0)), TokenModel(rngs=nnx.Rngs(1)))


def states(count):
    rng = np.random.default_rng(0)
    leaves = {name: jnp.asarray(rng.uniform(size=count), jnp.float32) for name in STATE_FIELDS}
    return State(**{**leaves, "task": jnp.asarray(rng.integers(6, size=count), jnp.int32)})


STATE_FIELDS = tuple(State.__dataclass_fields__)


def test_a_calibrated_surrogate_predicts_and_plays(surrogate):
    quality_map = LogOddsMap(jnp.array(0.5), jnp.array(0.5), jnp.array(0.1))
    mapped = CalibratedSurrogate(surrogate, LinearMap(jnp.array(1.5), jnp.array(20.0)), quality_map)
    state, responses = states(5), jnp.linspace(0, 1, 15).reshape(5, 3)
    predict = jax.jit(lambda s, state, r: jax.vmap(s.predict)(state, r))
    quality, tokens = predict(surrogate, state, responses)
    found = predict(mapped, state, responses)
    np.testing.assert_allclose(found[0], quality_map(quality), rtol=1e-5)
    np.testing.assert_allclose(found[1], 20 + 1.5 * tokens, rtol=1e-5)
    played = predict(mapped.for_game(), state, responses)
    np.testing.assert_allclose(played[1], found[1], rtol=1e-5)
    np.testing.assert_array_equal(played[0], quality)
    plain = CalibratedSurrogate(surrogate)
    np.testing.assert_array_equal(predict(plain, state, responses)[1], tokens)
    assert plain.for_game() is surrogate
    one = jax.tree.map(lambda x: x[0], state)
    features = mapped.encode(one)
    raw, surface = (
        jax.jit(lambda s, x: s.tokens(x))(s, features) for s in (surrogate, mapped.for_game())
    )
    np.testing.assert_allclose(surface.curvature_floor, 1.5 * raw.curvature_floor, rtol=1e-5)


def test_only_a_linear_map_goes_into_a_game(surrogate):
    knots = jnp.array([0.0, 1.0])
    with pytest.raises(TypeError, match="`token_map` must be a LinearMap.*; got MonotoneMap"):
        CalibratedSurrogate(surrogate, MonotoneMap(knots, knots)).for_game()
    free = surrogate.replace(tokens=FreeModel(level=1.0, rngs=nnx.Rngs(0)))
    line = LinearMap(jnp.array(1.5), jnp.array(20.0))
    with pytest.raises(TypeError, match="must return a TokenSurface; got FreeEnsemble"):
        CalibratedSurrogate(free, line).for_game().tokens(jnp.zeros(14))


def test_perfect_and_constant_columns():
    x, episode = np.arange(10.0), np.arange(10) // 2
    found = prediction_accuracy(x, x, episode)
    assert found.correlation == (1.0, 1.0, 1.0) and found.r2 == 1.0
    assert found.bias == (0.0, 0.0, 0.0)
    flat = prediction_accuracy(np.ones(10), x, episode)
    assert np.isnan(flat.slope.estimate) and np.isnan(flat.correlation.estimate)
    level = prediction_accuracy(x, np.ones(10), episode)
    assert level.slope.estimate == 0 and np.isnan(level.correlation.estimate) and np.isnan(level.r2)


GOOD = sessions(0, 10, 3)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {0: np.where(np.arange(30) == 3, np.nan, GOOD[0])},
            {},
            "`predicted` must be finite; got nan at index 3, 1 of 30",
        ),
        (
            {1: np.where(np.arange(30) == 3, np.inf, GOOD[1])},
            {},
            "`observed` must be finite; got inf at index 3, 1 of 30",
        ),
        ({0: np.full(30, 7.0)}, {}, "`predicted` must vary; got 7 for all 30"),
        ({1: -GOOD[1]}, {}, "`observed` must rise with `predicted`.*; got slope -1"),
        ({2: np.zeros(30)}, {}, "`episode` must have at least 2; got 1"),
        ({1: GOOD[1][:-1]}, {}, r"one shape, \[N\]; got \(30,\), \(29,\), \(30,\)"),
        (
            {0: np.zeros(0), 1: np.zeros(0), 2: np.zeros(0)},
            {},
            "`episode` must have at least 2; got 0",
        ),
        ({}, {"kind": "cubic"}, "`kind` must be one of 'linear', .*; got 'cubic'"),
        (
            {},
            {"kind": "beta"},
            r"`predicted` must lie in \[0, 1\]; got \d\d\d.* at index 0, 30 of 30",
        ),
        ({}, {"folds": 11}, "`folds` must lie in 2..10, the episodes; got 11"),
        ({}, {"folds": 1}, "`folds` must lie in 2..10, the episodes; got 1"),
        ({}, {"level": 1.0}, r"`level` must lie in \(0, 1\); got 1.0"),
    ],
)
def test_bad_input(change, options, message):
    data = [change.get(i, column) for i, column in enumerate(GOOD)]
    with pytest.raises(ValueError, match=message):
        fit_calibration(*data, **options)


def test_bad_input_of_the_drift_check():
    line, wrong = (
        LinearMap(jnp.array(1.0), jnp.array(0.0)),
        MonotoneMap(jnp.arange(2.0), jnp.ones(2)),
    )
    with pytest.raises(
        TypeError, match="must be a Calibration, LinearMap, MonotoneMap or LogOddsMap; got {}"
    ):
        check_drift({}, *GOOD)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match="must not take all 30 predictions to one value, .*; got 1"
    ):
        check_drift(wrong, *GOOD)
    with pytest.raises(ValueError, match="`slope_margin` must not be negative; got -1"):
        check_drift(line, *GOOD, slope_margin=-1)
    with pytest.raises(ValueError, match="`observed` must have a positive mean; got 0"):
        check_drift(line, GOOD[0], np.zeros(30), GOOD[2])
    with pytest.raises(ValueError, match="`observed` must be finite; got nan at index 0, 30 of 30"):
        check_drift(line, GOOD[0], np.full(30, np.nan), GOOD[2])


@pytest.mark.parametrize(
    ("kind", "predicted", "message"),
    [
        ("isotnic", [0.1, 0.9], "`kind` must be one of .*; got 'isotnic'"),
        ("isotonic", [0.1, np.nan], "`predicted` must be finite; got nan at index 1, 1 of 2"),
        ("logistic", [0.1, 9.0], r"`predicted` must lie in \[0, 1\]; got 9 at index 1"),
        ("linear", [0.1], "`predicted` and `observed` must have one shape"),
    ],
)
def test_a_map_alone_refuses_what_it_cannot_fit(kind, predicted, message):
    with pytest.raises(ValueError, match=message):
        fit_map(kind, np.array(predicted), np.array([0.0, 1.0]))
