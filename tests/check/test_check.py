"""`check`: what a good solution shows, and which measurement gives a bad one away."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj
from stackjax._check.check import check
from stackjax._check.measure import probe


class Played(NamedTuple):
    action: Any
    response: Any


duopoly = sj.games.duopoly().game
toll = sj.games.toll()
full = {"free": np.array([0.1, 2.4], "f"), "slope": np.array([0.3, 1.2], "f")}  # a full road


def verdicts(*arguments, **options):
    found = check(*arguments, **options).verdicts
    return {name: verdict.verdict for name, verdict in found.items()}


def notable(*arguments, **options):
    """The verdicts that are not 'ok'."""
    return {k: v for k, v in verdicts(*arguments, **options).items() if v != "ok"}


def at(action, response, demand=13.0):
    """A play of the duopoly, whose equilibrium is (6, 3)."""
    return duopoly, Played(jnp.array(action), jnp.array(response)), jnp.array(demand)


def test_a_good_solution_passes():
    start, demand = jnp.array(1.0), jnp.array(13.0)
    solution = sj.solve(duopoly, action=start, response=start, context=demand)
    found = check(duopoly, solution, demand)
    assert found.ok and found.unique
    assert {v.verdict for v in found.verdicts.values()} == {"ok"}
    assert found.verdicts["regret"].threshold > 1e-4
    np.testing.assert_allclose((found.curvature, found.concavity), 1.0, rtol=1e-5)
    np.testing.assert_allclose(found.degeneracy, 3.0, rtol=1e-5)  # the response, from its bound 0


def test_measures_what_is_wrong():
    """Closed forms: at 6 the follower earns 9; the leader earns (12 - q) q / 2."""
    assert notable(*at(6.0, 2.0)) == {"distance": "fails", "regret": "fails"}
    # U_F changes by 2 * 6 over a unit of the action; the power of two next to that is 16
    np.testing.assert_allclose(check(*at(6.0, 2.0)).regret, 1 / 16, rtol=1e-3)
    np.testing.assert_allclose(check(*at(6.0, 2.0)).distance, 1 / 2, rtol=1e-4)

    assert notable(*at(5.0, 3.5)) == {"gain": "fails"}
    # one step of 1% of the action, less what rounding may feign; U_L is counted in units of 64
    gained = ((12 - 5.05) * 5.05 - 7 * 5) / 2 - 64 * np.finfo("f").eps * 17.5
    np.testing.assert_allclose(check(*at(5.0, 3.5)).gain, gained / 64, rtol=1e-3)

    assert notable(*at(-1.0, 6.5)) == {"leader_violation": "fails", "gain": "not checked"}
    np.testing.assert_allclose(check(*at(-1.0, 6.5)).leader_violation, 1)
    found = verdicts(*at(6.0, -1.0))
    assert found["follower_violation"] == found["regret"] == "fails"
    assert (
        notable(*at(jnp.nan, 3.0)).items() >= dict.fromkeys(("residual", "regret"), "fails").items()
    )
    assert found["gain"] == found["gradient_error"] == "ok"  # of the follower's own answer


def test_one_compilation():
    before = probe._cache_size()  # pyright: ignore
    for demand in (13.0, 9.0):
        check(*at(6.0, 2.0, demand))
    assert probe._cache_size() <= before + 1  # pyright: ignore


def test_float64_is_judged_more_strictly(x64):
    assert notable(*at(6.0, 3.0)) == {}
    found = check(*at(6.0 + 1e-3, 3.0 - 5e-4))
    assert found.verdicts["gain"].verdict == "fails"  # unseen in float32
    assert found.verdicts["gradient_error"].measured < 1e-8
    assert notable(*at(6.0, 3.0 + 1e-6)) == {"distance": "fails"}
    assert found.verdicts["regret"].threshold < 1e-7


@pytest.mark.slow
def test_optimum_on_a_kink():
    """The tolled road is just full: no derivative, and still no better toll nearby."""
    roads = jax.tree.map(jnp.asarray, full)
    action, response = toll.equilibrium(roads)
    np.testing.assert_allclose((action, response), (2.0, 1.0), rtol=1e-6)
    solution = sj.solve(
        toll.game,
        action=toll.action,
        response=toll.response,
        context=roads,
        solver=sj.Complementarity(),
        starts=1,
    )
    found = check(toll.game, solution, roads)
    assert found.ok and bool(found.straddles)
    assert found.verdicts["gradient_error"].verdict == "not checked"
    assert found.verdicts["degeneracy"].verdict == "kink"
    assert found.verdicts["gain"].verdict == "ok" and int(found.trials) == 9
    beside = Played(action - 0.1, jnp.array(1.0))
    assert notable(toll.game, beside, roads) == {"gain": "fails"}


@pytest.mark.slow
def test_flat_follower():
    """The second coordinate does not matter to the follower; 1 is the leader's favourite."""
    game = sj.Game(
        lambda a, r, x: -((a - x) ** 2) + r[1],
        lambda a, r, x: -((r[0] - a) ** 2),
        response_set=sj.Box(0.0, 2.0),
    )
    solution, x = Played(jnp.array(1.0), jnp.array([1.0, 2.0])), jnp.array(1.0)
    found = check(game, solution, x)
    assert found.ok and not found.unique
    several = {"curvature": "several", "gradient_error": "not checked"}
    assert several.items() <= notable(game, solution, x).items()
    # The interior-point method answers with the middle, which is no better.
    inner = notable(game, solution, x, solver=sj.InteriorPoint())
    assert (several | {"distance": "several"}).items() <= inner.items()
    assert "fails" not in inner.values()


def test_better_response_far_away():
    """Two hills, at -1 and at 1, the one at 1 higher; the leader would like -1."""

    def follower(a, r, x):
        return -((r**2 - 1) ** 2) + 0.2 * r - 0.01 * (r - a) ** 2

    game = sj.Game(lambda a, r, x: -((a + 1) ** 2) - r, follower, response_set=sj.Box(-2.0, 2.0))
    near = sj.best_response(game, jnp.array(-1.0), None, response=jnp.array(-1.0)).value
    found = notable(game, Played(jnp.array(-1.0), near), None)
    assert found["regret"] == "fails" and found["concavity"] == "local"
    assert "distance" not in found  # asked again from there, it stays
    far = sj.best_response(game, jnp.array(-1.0), None, response=jnp.array(1.0)).value
    assert "regret" not in notable(game, Played(jnp.array(-1.0), far), None)


def test_wrong_derivative_rule():
    """The follower aims at `square(a)`, whose rule returns the derivative of `2 square`."""

    @jax.custom_jvp
    def square(a):
        return a**2

    square.defjvp(lambda at, along: (square(*at), 4 * at[0] * along[0]))
    game = sj.Game(lambda a, r, x: -((a - r) ** 2), lambda a, r, x: -((r - square(a)) ** 2))
    found = check(game, Played(jnp.array(0.6), jnp.array(0.36)), None)
    assert found.verdicts["gradient_error"].verdict == "fails" and not found.ok
    # Truly 2 (r - a) (2a - 1); the rule puts 4a for 2a. Relative to the absolute terms.
    np.testing.assert_allclose(found.gradient_error, 1.2 / (1 + 2.4), rtol=0.05)


def test_coupled_action_set(x64):
    """On `|l|^2 + r <= 2` with r = l_1: the best of sum(l), found by moving along the boundary."""
    budget = sj.Constrained(lambda a, r, x: jnp.sum(a**2) + r - 2)
    game = sj.Game(
        lambda a, r, x: jnp.sum(a), lambda a, r, x: -((r - a[0]) ** 2), action_set=budget
    )
    # (l_1 + 1/2)^2 + l_2^2 = 9/4: the best is at 45 degrees from the centre.
    leg = 1.5 / jnp.sqrt(2.0)
    best = jnp.array([leg - 0.5, leg])
    found = check(game, Played(best, best[0]), None, starts=2)
    assert found.ok and int(found.trials) > 6
    turned = 1.5 * jnp.array([jnp.cos(0.8), jnp.sin(0.8)]) - jnp.array([0.5, 0.0])
    assert notable(game, Played(turned, turned[0]), None, starts=2) == {"gain": "fails"}


def test_prints_a_table():
    for play in (at(6.0, 3.0), at(5.0, -1.0), at(-1.0, 2.0)):
        found = check(*play)
        lines = str(found).splitlines()
        assert max(map(len, lines)) <= 100
        assert lines[0].split() == ["measured", "threshold", "verdict", "meaning"]
        for name, verdict in found.verdicts.items():
            (line,) = [line for line in lines if line.startswith(name)]
            assert line[lines[0].index("verdict") :].startswith(verdict.verdict)
            assert f"{verdict.threshold:.1e}" in line and f"{verdict.measured:.1e}" in line


def test_host_only():
    with pytest.raises(TypeError, match=r"`check` is for the host: call it outside of jax\.jit"):
        jax.jit(lambda demand: check(*at(6.0, 3.0)[:2], demand).regret)(13.0)


one = jnp.array(1.0)


@pytest.mark.parametrize(
    ("game", "solution", "options", "error", "message"),
    [
        (None, Played(one, one), {}, TypeError, "`game` must be a stackjax.Game; got NoneType"),
        (duopoly, one, {}, TypeError, "`solution` must have an `action` and a `response`.*has no"),
        (duopoly, Played(one, jnp.array(1)), {}, TypeError, "`solution.response` must be floating"),
        (duopoly, Played({"q": one}, one), {}, ValueError, "`solution` does not fit the game"),
        (duopoly, Played(jnp.ones(3), jnp.ones(3)), {}, ValueError, r"scalar.*one member at a"),
        (duopoly, Played(one, one), {"starts": 0}, ValueError, "`starts` must be at least 1"),
        (duopoly, Played(one, one), {"starts": 2.0}, TypeError, "`starts` must be an integer"),
        (duopoly, Played(one, one), {"solver": 3}, TypeError, "`solver` must be stackjax.Newton"),
    ],
)  # fmt: skip
def test_wrong_input(game, solution, options, error, message):
    with pytest.raises(error, match=message):
        check(game, solution, jnp.array(13.0), **options)
