import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from stackjax.certificates import (
    Certificate,
    Constant,
    RealTurns,
    Statement,
    Verdict,
    discrepancies,
)
from stackjax.certificates._real_regret import (
    baseline_statement,
    paired_statement,
    regret_statement,
)
from stackjax.certificates._transfer import transfer_statement, unsupported
from stackjax.stats import draws_needed, mean_interval
from stackjax.stats._mean import half_width

METHODS = ("hoeffding", "bernstein", "betting")


def turns_of(seed=0, episodes=40, policies=3, bias=0.1, **changes: Any) -> RealTurns:
    """Executed turns of coins; the surrogate is `bias` too hopeful about every policy."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), rng.integers(1, 6, episodes))
    chance = np.linspace(0.7, 0.3, policies)[:, None]
    utility = (rng.uniform(size=len(episode))[None] < chance).astype(float)
    value = np.broadcast_to(chance + bias, utility.shape)
    given: dict[str, Any] = {
        "episode": episode,
        "low": 0.0,
        "high": 1.0,
        "baseline": policies - 1,
    } | changes
    return RealTurns(utility, value, **given)


def logged_of(seed=0, episodes=60, actions=3, **changes: Any) -> tuple[RealTurns, np.ndarray]:
    """Turns logged uniformly at random; policy a always plays action a."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), 4)
    action = rng.integers(actions, size=len(episode))
    chance = np.linspace(0.8, 0.2, actions)
    utility = (rng.uniform(size=len(episode)) < chance[action]).astype(float)
    given: dict[str, Any] = {
        "value": np.broadcast_to(chance[:, None], (actions, len(episode))),
        "propensity": np.full(len(episode), 1 / actions),
        "least_propensity": 1 / actions,
        "target": (np.arange(actions)[:, None] == action[None]).astype(float),
        "predicted": chance[action],
    }
    return RealTurns(utility, episode=episode, low=0.0, high=1.0, **(given | changes)), chance


def test_draws_of_an_unknown_method_are_refused():
    with pytest.raises(ValueError, match="`method` must be one of 'hoeffding', .*; got 'student'"):
        draws_needed(0.1, width=1.0, deviation=0.5, alpha=0.05, method="student")


@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_at_least_as_often_as_stated(method):
    rng = np.random.default_rng(0)
    for draws, mean in (
        (rng.uniform(size=(400, 30)) < 0.9, 0.9),  # coins, skewed
        (rng.beta(0.3, 0.6, size=(400, 30)), 1 / 3),  # mass at both ends
    ):
        found = mean_interval(draws, low=0.0, high=1.0, alpha=0.1, method=method)
        assert ((found.low > mean) | (found.high < mean)).mean() <= 0.1
        assert (found.low <= found.estimate).all() and (found.estimate <= found.high).all()


def test_hoeffding_and_bernstein_are_their_formulas():
    x = np.random.default_rng(1).uniform(2, 4, 200)
    found = mean_interval(x, low=1.0, high=5.0, alpha=0.05, method="hoeffding")
    half = 4 * np.sqrt(np.log(2 / 0.05) / 400)
    np.testing.assert_allclose([found.low, found.high], [x.mean() - half, x.mean() + half])
    found = mean_interval(x, low=1.0, high=5.0, alpha=0.05, method="bernstein")
    log = np.log(4 / 0.05)
    half = np.sqrt(2 * x.var(ddof=1) * log / 200) + 7 * 4 * log / (3 * 199)
    np.testing.assert_allclose(found.high, x.mean() + half)


def test_betting_adapts_and_respects_affine_maps():
    rng = np.random.default_rng(2)
    x = np.clip(0.5 + 0.02 * rng.normal(size=100), 0, 1)
    widths = [np.ptp(mean_interval(x, low=0, high=1, alpha=0.05, method=m)[1:]) for m in METHODS]
    assert widths[2] < 0.3 * widths[0] and widths[2] < widths[1]
    one = mean_interval(x, low=0, high=1, alpha=0.05)
    other = mean_interval(3 - 2 * x, low=1, high=3, alpha=0.05)
    np.testing.assert_allclose(other.low, 3 - 2 * one.high, atol=1e-5)
    rows = mean_interval(np.stack([x, 1 - x]), low=0, high=1, alpha=0.05)
    np.testing.assert_allclose(rows.low[0], one.low, atol=1e-12)


def test_betting_excludes_what_its_wealth_excludes():
    """The limits of the bisection are where the capital, computed round by round, reaches it."""
    x, alpha = np.random.default_rng(3).uniform(size=20) ** 2, 0.1
    found = mean_interval(x, low=0, high=1, alpha=alpha)

    def capital(m):
        mean, square, wealth, top = 0.5, 0.25, 1.0, 0.0
        for t, value in enumerate(x, 1):
            bet = np.sqrt(2 * np.log(2 / alpha) / (len(x) * square / t))
            wealth *= 1 + min(bet, 0.5 / m) * (value - m)
            mean = (0.5 + x[:t].sum()) / (t + 1)
            square += (value - mean) ** 2
            top = max(top, wealth)
        return top

    assert capital(found.low - 1e-4) >= 2 / alpha > capital(found.low + 1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_draw_and_constant_draws(method):
    one = mean_interval(np.array([0.3]), low=0, high=1, alpha=0.05, method=method)
    assert one.low == 0 and one.high == 1
    same = mean_interval(np.zeros(50), low=0, high=1, alpha=0.05, method=method)
    assert same.low == 0 and 0 < same.high < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(0)}, "at least 1"),
        (
            {"values": np.array([0.5, np.nan])},
            r"`values` must lie in \[0.0, 1.0\]; got nan at index 1",
        ),
        ({"values": np.array([1.5])}, "must lie in .*; got 1.5 at index 0"),
        ({"alpha": 1.0}, r"`alpha` must lie in \(0, 1\); got 1.0"),
        ({"low": 1.0, "high": 1.0}, "in order"),
        ({"method": "guess"}, "`method` must be one of"),
    ],
)
def test_wrong_intervals_are_refused(change, message):
    given = {"values": np.array([0.5, 0.6]), "low": 0.0, "high": 1.0, "alpha": 0.05} | change
    with pytest.raises(ValueError, match=message):
        mean_interval(given.pop("values"), **given)


def test_true_is_no_level():
    with pytest.raises(TypeError, match="`alpha` must be a number; got True"):
        mean_interval(np.array([0.5, 0.6]), low=0.0, high=1.0, alpha=True)


@pytest.mark.parametrize("method", ("hoeffding", "bernstein"))
def test_draws_needed_is_the_smallest(method):
    given = {"width": 2.0, "deviation": 0.4, "alpha": 0.01, "method": method}
    count = draws_needed(0.1, **given)
    assert half_width(count, 2.0, 0.4, 0.01, method) <= 0.1
    assert half_width(count - 1, 2.0, 0.4, 0.01, method) > 0.1
    assert draws_needed(0.0, **given) == np.inf
    assert draws_needed(np.inf, **given) == 1


def test_episodes_count_once_whatever_their_length():
    turns = RealTurns(
        np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 4)), np.array([7, 7, 7, 2]), 0.0, 1.0
    )
    assert turns.episodes == 2
    np.testing.assert_allclose(turns.per_episode(turns.utility), [[0.0, 1.0]])


def test_off_policy_estimates_are_unbiased_and_clipping_is_paid_for():
    # Every policy's mean over many episodes, with a predictor that is wrong.
    wrong = np.full(9600, 0.35)
    turns, chance = logged_of(episodes=2400, predicted=wrong, value=np.tile(wrong, (3, 1)))
    np.testing.assert_allclose(turns.estimates.mean(1), chance, atol=0.03)
    plain, _ = logged_of(episodes=2400, predicted=None)
    np.testing.assert_allclose(plain.estimates.mean(1), chance, atol=0.03)
    clipped = dataclasses.replace(turns, clip=1.5)
    shift = np.abs(clipped.estimates.mean(1) - chance)
    assert shift.max() > 0.1
    assert (shift <= discrepancies(clipped, alpha=0.05).bias).all()


@pytest.mark.parametrize("name", ("executed", "weighted", "doubly robust", "clipped"))
def test_bounds_of_units_hold_for_the_worst_turns(name):
    """No estimate, discrepancy or difference of policies can leave its stated bounds."""
    rng, count = np.random.default_rng(4), 400
    ends = lambda *shape: rng.choice([-2.0, 1.0], shape)
    given: dict[str, Any] = {"episode": np.arange(count), "low": -2.0, "high": 1.0}
    if name == "executed":
        turns = RealTurns(ends(2, count), ends(2, count), **given)
    else:
        given |= {
            "propensity": rng.choice([0.25, 0.75], count),
            "least_propensity": 0.25,
            "target": rng.choice([0.0, 1.0], (2, count)),
            "predicted": None if name == "weighted" else ends(count),
            "clip": 2.0 if name == "clipped" else None,
        }
        turns = RealTurns(ends(count), ends(2, count), **given)
    estimates = turns.estimates
    for values, (low, high) in (
        (estimates, turns.estimate_bounds),
        (turns.value - estimates, turns.discrepancy_bounds),
        (estimates[0] - estimates[1], turns.difference_bounds),
    ):
        assert values.min() >= low - 1e-9 and values.max() <= high + 1e-9


def test_delta_is_simultaneous_and_shrinks():
    few, many = (discrepancies(turns_of(episodes=n), alpha=0.05) for n in (20, 2000))
    assert many.delta < few.delta and few.delta >= np.abs(few.mean).max()
    assert many.least_delta > 0.05  # the bias of 0.1 is seen
    alone = discrepancies(turns_of(policies=3), alpha=0.05, policies=30)
    assert alone.delta > discrepancies(turns_of(policies=3), alpha=0.05).delta


def transfer(turns, tolerance=None):
    return transfer_statement(
        [turns], alpha=0.03, support_alpha=0.01, method="betting", tolerance=tolerance,
        player="leader",
    )  # fmt: skip


def test_transfer_verdicts():
    assert transfer(turns_of(episodes=200))[0].verdict == "holds"
    assert transfer(turns_of(episodes=2000), tolerance=0.05)[0].verdict == "fails"
    assert transfer(turns_of(episodes=2000), tolerance=0.2)[0].verdict == "holds"
    short, *_ = transfer(turns_of(episodes=3))
    assert short.verdict == "vacuous" and np.isfinite(short.turns_needed)
    # With the turns it asks for, the bound is not vacuous.
    enough, *_ = transfer(turns_of(episodes=int(short.turns_needed / 2)))
    assert enough.verdict == "holds"
    assert transfer(turns_of(episodes=2000), tolerance=0.05)[2]  # large, but rightly measured
    beyond = dataclasses.replace(turns_of(), high=0.9)
    assert transfer(beyond)[0].verdict == "fails" and "bounds" in transfer(beyond)[0].note
    assert not transfer(beyond)[2]


def test_missing_actions_are_named():
    turns, _ = logged_of(episodes=200)
    assert unsupported(turns, alpha=0.01) == []
    lost = dataclasses.replace(turns, target=turns.target * np.array([[0.0], [1], [1]]))
    assert unsupported(lost, alpha=0.01) == ["policy 0"]
    assert transfer(lost)[0].verdict == "fails"


def rare_log(seed, **changes: Any) -> RealTurns:
    """Actions A, B and C with probabilities .8999, .1 and 1e-4; a policy that plays B or C.

    Only C earns anything, 1, so that the policy earns .05; the surrogate says 0.
    """
    rng, count = np.random.default_rng(seed), 5000
    chance, policy = np.array([0.8999, 0.1, 1e-4]), np.array([0.0, 0.95, 0.05])
    action = rng.choice(3, size=count, p=chance)
    given: dict[str, Any] = {"propensity": chance[action], "target": policy[action][None]}
    earned, none = (action == 2).astype(float), np.zeros((1, count))
    return RealTurns(earned, none, np.arange(count), 0.0, 1.0, **(given | changes))


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize(
    "bound", [{"least_propensity": 1e-4}, {"clip": 20.0}, {"least_propensity": 1e-4, "clip": 9.6}]
)
def test_what_the_log_is_too_short_to_hold_is_covered(bound, predicted):
    """Most logs have no C: the largest weight in the log is 9.5, that of the design 500."""
    if predicted:
        bound = bound | {"predicted": np.zeros(5000)}
    found = [discrepancies(rare_log(seed, **bound), alpha=0.05) for seed in range(100)]
    missed = sum(bool(one.low[0] > -0.05 or one.high[0] < -0.05) for one in found)
    assert missed <= 5 + 2 * np.sqrt(100 * 0.05 * 0.95)
    assert all(np.isfinite(one.delta) for one in found)


def test_nothing_is_certified_without_a_bound_of_the_weights():
    turns = rare_log(0)
    found = discrepancies(turns, alpha=0.05)
    assert found.delta == np.inf and found.least_delta == 0 and np.isfinite(found.mean).all()
    statement, _, sound = transfer(turns)
    assert statement.verdict == "not checked" and not sound
    assert "state the logging policy's `least_propensity`" in statement.note
    two = {"value": np.zeros((2, 5000)), "target": np.full((2, 5000), 0.5)}
    turns = dataclasses.replace(turns, names=None, baseline=1, **two)
    found, given = discrepancies(turns, alpha=0.05), {"method": "betting", "sound": sound}
    for statement in (
        regret_statement(turns, found, delta=np.inf, alpha={}, **given),
        paired_statement(turns, found, alpha=0.03, **given),
        baseline_statement(turns, found, alpha=0.03, margin=-1.0, **given),
    ):
        assert statement.verdict == "not checked"


def test_the_net_pays_for_what_lies_between():
    plain, *_ = transfer(turns_of(episodes=300))
    net, *_ = transfer(turns_of(episodes=300, lipschitz=0.5, radius=0.2))
    np.testing.assert_allclose(net.bound - plain.bound, 0.1, atol=1e-9)


def test_the_sum_is_eps_plus_projection_plus_twice_delta():
    turns = turns_of(episodes=4000, deployed=1)
    turns = dataclasses.replace(turns, proposed=turns.value[1] + 0.05)
    found = discrepancies(turns, alpha=0.03)
    alpha = {"surrogate regret": 0.01, "projection": 0.01, "transfer": 0.03}
    given = {"method": "betting", "sound": True}
    regret = regret_statement(turns, found, delta=found.delta, alpha=alpha, **given)
    eps, price = regret.constants["eps"], regret.constants["projection"]
    np.testing.assert_allclose(regret.bound, eps.high + price.high + 2 * found.delta)
    np.testing.assert_allclose([eps.value, price.value], [0.15, 0.05], atol=1e-9)
    assert regret.bound >= 0.2 and regret.verdict == "holds"
    paired = paired_statement(turns, found, alpha=0.03, **given)
    assert 0.2 - 0.03 < paired.bound < regret.bound
    better = baseline_statement(turns, found, alpha=0.03, margin=0.0, **given)
    assert better.verdict == "holds" and 0.1 < better.bound < 0.2
    worse = dataclasses.replace(turns, deployed=2, baseline=0)
    assert baseline_statement(worse, found, alpha=0.03, margin=0.0, **given).verdict == "fails"
    few = turns_of(episodes=8, deployed=1)
    seen = discrepancies(few, alpha=0.03)
    unsure = baseline_statement(few, seen, alpha=0.03, margin=0.0, **given)
    assert unsure.verdict == "vacuous" and unsure.turns_needed > len(few.episode)
    vague = regret_statement(few, seen, delta=seen.delta, alpha=alpha, **given)
    assert vague.verdict == "vacuous" and vague.turns_needed > len(few.episode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episode": np.zeros(3)}, "`episode` must .*; got shape"),
        ({"value": np.zeros((0, 4))}, "`value` must be"),
        ({"value": np.full((2, 4), np.nan)}, "`value` must be finite; got nan"),
        ({"low": 1.0}, "in order"),
        ({"deployed": 5}, "`deployed` must .*; got row 5"),
        ({"names": ("a",)}, "`names` must .*; got 1"),
        ({"target": np.zeros((2, 4))}, "propensity"),
        ({"propensity": np.full(4, 0.5), "utility": np.zeros(4)}, "target"),
        ({"lipschitz": 1.0}, "must be given together"),
    ],
)
def test_wrong_turns_are_refused(change, message):
    given = {
        "utility": np.zeros((2, 4)), "value": np.zeros((2, 4)), "episode": np.zeros(4),
        "low": 0.0, "high": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        RealTurns(**(given | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"propensity": np.zeros(240)},
            r"`propensity` must lie in \(0, 1\]; got 0 at index 0, 240 of 240",
        ),
        (
            {"target": np.full((3, 240), 2.0)},
            r"`target` must lie in \[0, 1\]; got 2 at index \(0, 0\)",
        ),
        ({"clip": 0.0}, "`clip` must be positive"),
        ({"least_propensity": 0.9}, "least_propensity"),
    ],
)
def test_wrong_probabilities_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        logged_of(**change)


def test_certificates_print_and_serialise():
    one = Statement(
        "Stability", "Prop. 5.2", "a", "by sampling", {"mu": Constant(1.0, 0.5, 2.0)},
        np.inf, np.nan, "ratio", Verdict.HOLDS, "note", 12.0,
    )  # fmt: skip
    two = Statement("Transfer", "Thm 5.4", "b", note="no turns")
    found = Certificate((one, two), 0.9, {"transfer": 1.0})
    text = str(found)
    assert "HOLDS (ESTIMATE)" in text and "NOT CHECKED, no turns" in text
    assert "mu 1 [0.5, 2]" in text and "transfer 0.1" in text
    body = json.loads(found.to_json())
    assert body["statements"][0]["bound"] == "inf"
    assert body["statements"][0]["measured"] is None
    assert found.verdicts == {"Stability": "holds", "Transfer": "not checked"}
    with pytest.raises(KeyError, match="`name` must be one of"):
        found["Regret"]
    with pytest.raises(ValueError, match="`verdict` must be one of 'holds', .*; got 'maybe'"):
        Statement("x", "y", "z", verdict="maybe")  # pyright: ignore[reportArgumentType]
