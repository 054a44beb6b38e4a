"""A small world with a known truth: how often what `certify` states is wrong.

A shop meets customers of four kinds. A policy quotes a price for each kind; the customer buys
`r = clip(taste - price, 0, 3)`, its best response; the shop earns `price r` in units of 700, less
40, with luck of its own in every turn and a good or bad day for a whole session. The model that the
policies were made with is off by a known amount for each policy. So the real value of a policy, its
discrepancy, its regret and its gain over the baseline are sums of four terms, written down below.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stackjax as sj

UNIT = 700.0
TASTE = np.array([2.0, 3.0, 3.6, 4.4])
PRICES = np.array([  # [P, kinds]
    [1.0, 1.5, 1.8, 2.2],  # deployed: the best price of each kind
    [2.0, 2.0, 2.0, 2.0],  # the baseline
    [1.0, 1.0, 1.0, 1.0],
    [0.5, 1.9, 2.4, 3.1],
])  # fmt: skip
BOUGHT = np.clip(TASTE - PRICES, 0, 3)
REAL = UNIT * PRICES * BOUGHT - 40.0  # [P, kinds]
WRONG = UNIT * np.array([0.20, -0.35, 0.10, 0.05])  # of the model's, by policy
LUCK, DAY = 600.0, 150.0
LOW, HIGH = -1500.0, 6000.0

VALUES = REAL.mean(1)
DELTA = np.abs(WRONG).max()
REGRET = VALUES.max() - VALUES[0]
GAIN = VALUES[0] - VALUES[1]


def game():
    return sj.Game(
        lambda a, r, x: UNIT * a * r - 40.0, lambda a, r, x: (x - a) * r - r**2 / 2,
        action_set=sj.Box(0.5, 3.5), response_set=sj.Box(0.0, 3.0),
    )  # fmt: skip


GAME = game()


def turns(
    rng, episodes, real=REAL, prices=PRICES, logged=None, **roles
) -> sj.certificates.RealTurns:
    """One log: every policy on the same turns, or one policy of each turn drawn by `logged`."""
    lengths = rng.integers(1, 6, episodes)
    episode = np.repeat(np.arange(episodes), lengths)
    count = len(episode)
    # Sessions count alike however long they are, and kinds do not depend on the length.
    kind = rng.integers(4, size=count)
    day = (DAY * rng.choice([-1.0, 1.0], episodes))[episode]
    # Skewed luck of mean 0: usually a little worse, seldom much better.
    luck = np.where(rng.uniform(size=(len(prices), count)) < 0.2, LUCK, -LUCK / 4)
    utility = real[:, kind] + day + luck
    value = (REAL + WRONG[:, None])[: len(prices), kind]
    given: dict[str, Any] = {
        "episode": episode,
        "low": LOW,
        "high": HIGH,
        "deployed": 0,
        "baseline": 1,
    }
    given |= roles
    if logged is None:
        return sj.certificates.RealTurns(utility, value, **given)
    drawn = rng.choice(len(prices), size=count, p=logged)
    return sj.certificates.RealTurns(
        utility[drawn, np.arange(count)],
        value,
        propensity=logged[drawn],
        least_propensity=float(logged.min()),
        target=(np.arange(len(prices))[:, None] == drawn) * 1.0,
        predicted=value[drawn, np.arange(count)],
        **given,
    )


def certified(log, **options):
    options = {"level": 0.95, "samples": 8, "steps": 0, "pairs": 2} | options
    return sj.certify(GAME, jnp.asarray(TASTE), log, key=jax.random.key(0), **options)


def wrong_in(found) -> dict[str, bool]:
    """Which of the limits the truth contradicts."""
    delta = found["Transfer"].constants["delta"]
    gain = found["Better than the baseline"].constants.get("gain")
    better = found["Better than the baseline"].verdict
    return {
        "delta": DELTA > found["Transfer"].bound or DELTA < delta.low,
        "regret": REGRET > found["Real regret"].bound,
        "paired": REGRET > found["Real regret, paired"].bound,
        "gain": gain is not None and not gain.low <= GAIN <= gain.high,
        "better": (better == "holds" and GAIN <= 0) or (better == "fails" and GAIN > 0),
    }


def count_wrong(logs, level, episodes, logged=None, method="betting"):
    rng = np.random.default_rng(11)
    found = [
        wrong_in(certified(turns(rng, episodes, logged=logged), level=level, method=method))
        for _ in range(logs)
    ]
    return sum(any(each.values()) for each in found)


def test_the_world_is_as_the_followers_make_it():
    """The library's followers buy what the formula says: the truth belongs to its game."""
    answer = jax.jit(
        jax.vmap(lambda a, x: sj.best_response(GAME, a, x, response=jnp.array(1.0)).value)
    )
    bought = answer(jnp.asarray(PRICES.ravel()), jnp.asarray(np.tile(TASTE, 4)))
    np.testing.assert_allclose(bought, BOUGHT.ravel(), atol=1e-5)
    assert GAIN > 0 and REGRET == 0 and 0 < DELTA < HIGH - LOW


@pytest.mark.parametrize(
    "logs,level,method,logged",
    [
        (10, 0.8, "betting", None),
        pytest.param(200, 0.5, "betting", None, marks=pytest.mark.slow),
        pytest.param(200, 0.95, "bernstein", None, marks=pytest.mark.slow),
        pytest.param(200, 0.95, "hoeffding", None, marks=pytest.mark.slow),
        pytest.param(200, 0.8, "betting", (0.4, 0.3, 0.2, 0.1), marks=pytest.mark.slow),
    ],
)
def test_statements_hold_together_at_their_level(logs, level, method, logged):
    logged = None if logged is None else np.array(logged)
    wrong = count_wrong(logs, level, 60, logged, method)
    assert wrong <= stats.binom.ppf(0.999, logs, 1 - level)


@pytest.mark.parametrize("episodes", [2, 6, 40, 400])
def test_vacuous_statements_are_called_so(episodes):
    """Exactly where a bound is no smaller than the range; and few turns say nothing."""
    found = certified(turns(np.random.default_rng(5), episodes))
    width = HIGH - LOW
    for name in ("Transfer", "Real regret", "Real regret, paired"):
        assert (found[name].verdict == "vacuous") == (found[name].bound >= width), name
        assert (found[name].verdict == "vacuous") == np.isfinite(found[name].turns_needed), name
    if episodes == 2:
        assert found["Transfer"].verdict == found["Real regret"].verdict == "vacuous"
    if episodes == 400:
        assert found["Transfer"].verdict == found["Better than the baseline"].verdict == "holds"


def test_a_policy_that_does_nothing_saves_nothing():
    """The baseline deployed; its twin on the same turns; its twin on turns of its own."""
    rng = np.random.default_rng(7)
    itself = certified(turns(rng, 60, deployed=1, baseline=1))["Better than the baseline"]
    assert itself.verdict == "not checked" and np.isnan(itself.bound)
    twin = np.concatenate([REAL[1:2], REAL[1:2], REAL[2:]])
    better = 0
    for _ in range(10):
        found = certified(turns(rng, 60, real=twin), level=0.8)["Better than the baseline"]
        better += found.verdict == "holds"
    assert better <= stats.binom.ppf(0.999, 10, 0.2)
    log = turns(rng, 60, real=twin)
    same = np.stack([log.utility[0], log.utility[0], *log.utility[2:]])
    alike = sj.certificates.RealTurns(
        same, log.value, log.episode, LOW, HIGH, deployed=0, baseline=1
    )
    found = certified(alike)["Better than the baseline"]
    assert found.verdict != "holds" and found.measured == 0 and found.bound <= 0


def test_a_log_of_another_environment_is_not_certified():
    """Really everybody buys a third, and the baseline is the better one."""
    rng = np.random.default_rng(9)
    elsewhere = UNIT * PRICES * BOUGHT / 3 - 40.0
    elsewhere[0] -= 500
    for _ in range(5):
        log = turns(rng, 300, real=elsewhere)
        found = certified(log, tolerance=1.05 * DELTA)
        assert found["Transfer"].verdict == "fails"
        assert found["Better than the baseline"].verdict == "fails"
        gap = np.abs((REAL + WRONG[:, None] - elsewhere).mean(1)).max()
        assert found["Transfer"].constants["delta"].low <= gap <= found["Transfer"].bound
        right = certified(turns(rng, 300), tolerance=1.05 * DELTA)
        assert right["Transfer"].verdict == "holds"


def test_bounds_that_do_not_hold_and_actions_that_were_not_tried_fail():
    rng = np.random.default_rng(13)
    outside = certified(turns(rng, 60, low=0.0))
    assert outside["Transfer"].verdict == "fails"
    assert (
        outside["Real regret"].verdict
        == outside["Better than the baseline"].verdict
        == "not checked"
    )
    log = turns(rng, 400, logged=np.array([0.4, 0.3, 0.2, 0.1]))
    assert certified(log)["Transfer"].verdict != "fails"
    assert log.target is not None
    lost = log.target * (np.arange(4) != 0)[:, None]
    missing = sj.certificates.RealTurns(
        log.utility, log.value, log.episode, LOW, HIGH, propensity=log.propensity, target=lost,
        least_propensity=0.1, predicted=log.predicted, deployed=0, baseline=1,
    )  # fmt: skip
    found = certified(missing)
    assert found["Transfer"].verdict == "fails" and "policy 0" in found["Transfer"].note
    assert found["Better than the baseline"].verdict == "not checked"


def test_stability_and_gap_are_exact_for_this_follower():
    """dr/da is -1 or 0 and mu = 1; giving up eps moves r by sqrt(2 eps), worth UNIT price each."""
    found = certified(None, samples=64, steps=10, pairs=8, suboptimality=0.02)
    assert found["Stability"].verdict == "holds"
    np.testing.assert_allclose(found["Stability"].bound, 1.0, rtol=1e-4)
    assert 0.99 < found["Stability"].measured < 1.0001
    gap = found["Implementation gap"]
    np.testing.assert_allclose(gap.bound, UNIT * 3.5 * np.sqrt(0.04), rtol=2e-3)
    assert gap.measured <= gap.bound


@pytest.mark.slow
def test_regret_in_the_surrogate_counts_the_policies_that_it_says(x64):
    """Deployed: 1.2 for all. eps_L is at least what the best constant price gains, by hand."""
    taste = np.repeat(TASTE, 8)
    policy = lambda x: jnp.full((), 1.2)
    subject = sj.certificates.Deployed(GAME, policy, alternatives={"best": lambda x: x / 2})
    found = sj.certify(
        subject, jnp.asarray(taste), key=jax.random.key(0), samples=8, steps=0, pairs=2
    )["Regret in the surrogate"]
    profit = lambda a: (UNIT * a * np.clip(taste - a, 0, 3)).mean()
    best = profit(taste / 2) - profit(1.2)
    assert all(profit(a) - profit(1.2) < best for a in np.linspace(0.5, 3.5, 301))
    np.testing.assert_allclose(found.constants["eps_L"].value, best, rtol=1e-5)
    assert found.constants["eps_L"].low <= best <= found.bound


@pytest.mark.parametrize("method", ["hoeffding", "bernstein", "betting"])
@pytest.mark.parametrize("low,high,chance", [(-2e3, 5e3, 0.02), (1e-3, 3e-3, 0.5)])
def test_intervals_cover_skewed_means(method, low, high, chance):
    """2,000 samples of 30 coins of two sides: misses at most alpha, and each side at most half."""
    rng = np.random.default_rng(17)
    draws = np.where(rng.uniform(size=(2000, 30)) < chance, high, low)
    truth = low + chance * (high - low)
    found = sj.stats.mean_interval(draws, low=low, high=high, alpha=0.1, method=method)
    allowed = stats.binom.ppf(0.999, 2000, 0.05)
    slack = 1e-9 * (high - low)
    assert (found.low > truth + slack).sum() <= allowed
    assert (found.high < truth - slack).sum() <= allowed
    assert (found.low >= low).all() and (found.high <= high).all()
