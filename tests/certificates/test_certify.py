from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import stackjax as sj
from stackjax.certificates import (
    Deployed,
    RealTurns,
    certify,
    horizon_repair_bound,
    response_error,
)
from stackjax.certificates._samples import depends_on


class Bowl(struct.PyTreeNode):
    """`r'(B sin(l) + x) - |r|^2 bend / 2 - wave cos(9 r_0)`: mu = bend and L = ||B|| at wave 0."""

    pull: jax.Array
    bend: jax.Array
    wave: jax.Array

    def __call__(self, action, response, x):
        pull = response @ (self.pull @ jnp.sin(action) + x)
        return pull - self.bend * response @ response / 2 - self.wave * jnp.cos(9 * response[0])


def leader_utility(action, response, x):
    return -jnp.sum((response - 0.3) ** 2) - 0.1 * jnp.sum(action**2)


PULL = np.array([[1.0, -0.5], [0.2, 0.8]])
BOX = sj.Box(-jnp.ones(2), jnp.ones(2))
CONTEXTS = 0.2 * jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
RECORDED = sj.ActionSet(jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (12, 2)), jnp.float32))
QUICK: dict[str, Any] = {"samples": 32, "steps": 8, "pairs": 6, "key": jax.random.key(0)}


def game(bend=2.0, wave=0.0, follower=None, **sets):
    number = lambda value: jnp.asarray(value, jnp.float32)
    bowl = Bowl(number(PULL), number(bend), number(wave)) if follower is None else follower
    given = {"action_set": BOX, "response_set": BOX} | sets
    return sj.Game(leader_utility, bowl, **given)


@pytest.fixture(scope="module")
def sound():
    return certify(game(), CONTEXTS, None, **QUICK)


def test_constants_are_found(sound):
    stable = sound["Stability"]
    assert stable.verdict == "holds"
    np.testing.assert_allclose(stable.constants["mu"].value, 2.0, rtol=1e-4)
    np.testing.assert_allclose(stable.constants["L"].value, np.linalg.norm(PULL, 2), rtol=1e-3)
    assert 0.5 * stable.bound < stable.measured <= stable.bound
    assert stable.how == "mu by sampling, L by sampling"
    assert sound["Existence"].verdict == "holds" and "unique" in sound["Existence"].note


def test_the_implementation_gap_is_bounded(sound):
    gap = sound["Implementation gap"]
    radius = gap.constants["||r - r*|| at most"].value
    np.testing.assert_allclose(radius, np.sqrt(gap.constants["eps"].value), rtol=1e-4)  # mu is 2
    assert 0.9 * radius < gap.constants["seen"].value <= radius * 1.001
    assert 0 < gap.measured <= gap.bound


def test_what_is_not_given_is_not_checked(sound):
    for name in ("Repair", "Repair over a session", "Transfer", "Real regret"):
        assert sound[name].verdict == "not checked"
    assert sound.shares == {}
    assert len(str(sound).splitlines()) < 45


def test_broken_followers_fail():
    for found in (
        certify(game(bend=-1.0), CONTEXTS, None, **QUICK),
        certify(game(wave=0.05), CONTEXTS, None, **QUICK),  # 81 * 0.05 > 2
    ):
        assert found["Stability"].verdict == "fails"
        assert found["Stability"].bound == np.inf
        assert found["Implementation gap"].verdict == "not checked"
    # A bound that claims too much is contradicted by the sample.
    boast = certify(game(), CONTEXTS, None, concavity=3.0, **QUICK)
    assert boast["Stability"].verdict == "fails"
    modest = certify(game(), CONTEXTS, None, concavity=lambda x: 1.5 + 0 * x[0], **QUICK)
    np.testing.assert_allclose(modest["Stability"].constants["mu"].value, 1.5)
    assert modest["Stability"].verdict == "holds" and "construction" in modest["Stability"].how


def jump(action, response, x):
    return -jnp.sum((response - action) ** 2) + jnp.where(response[0] > 0.1, 1.0, 0.0)


def hole(action, response, x):
    return -jnp.sum((response - action) ** 2) + jnp.where(response[0] > 0.1, jnp.nan, 0.0)


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"follower": jump}, "jumps"),
        ({"follower": hole}, "not finite"),
        ({"action_set": sj.Box(-jnp.ones(2), jnp.array([1.0, jnp.inf]))}, "unbounded"),
    ],
)
def test_existence_fails_where_an_assumption_does(changed, note):
    from stackjax.certificates._existence import existence_statement
    from stackjax.certificates._samples import draw_plays
    from stackjax.certificates._stability import Curvature

    plays = draw_plays(
        game(**changed), CONTEXTS, jnp.zeros(2), jnp.zeros(2), jax.random.key(0), count=32
    )
    found = existence_statement(plays, Curvature(1.0, np.nan, ""))
    assert found.verdict == "fails" and note in found.note


def test_sets_that_the_proposition_does_not_cover():
    from stackjax.certificates._samples import draw_plays
    from stackjax.certificates._stability import Curvature, stability_statement

    def verdict(response_set):
        plays = draw_plays(
            game(response_set=response_set), CONTEXTS, jnp.zeros(2), jnp.zeros(2),
            jax.random.key(0), count=8,
        )  # fmt: skip
        found = stability_statement(plays, Curvature(1.0, np.nan, ""), steps=0, pairs=2)
        assert found.verdict == "not checked"
        return found.note

    shared = sj.Constrained(lambda action, response, x: action + response - 3.0, box=BOX)
    assert "depends on the action" in verdict(shared)
    fixed = sj.Constrained(lambda action, response, x: jnp.sum(response) - 3.0, box=BOX)
    assert "convex is not known" in verdict(fixed)


def deployed(**changes):
    given = {
        "recorded": RECORDED,
        "horizon": sj.fit.Horizon(
            sj.fit.Dynamics(lambda s: s, lambda s, a, r, key: 0.7 * s + 0.2 * r), turns=3
        ),
        "states": CONTEXTS[:3],
        "alternatives": {"steady": lambda x: 0 * x + 0.1},
    }
    return Deployed(game(), lambda x: jnp.tanh(2 * x), **(given | changes))


@pytest.mark.slow
@pytest.mark.parametrize("repairs", ("response", "action"))
def test_a_policy_with_everything_around_it(repairs):
    rng = np.random.default_rng(0)
    utility = rng.uniform(size=(8, 300))
    turns = RealTurns(utility, np.full((8, 300), 0.5), np.arange(300), 0.0, 1.0, baseline=1)
    subject = deployed(repairs=repairs)
    found = certify(subject, CONTEXTS, {"leader": turns, "follower": turns}, **QUICK)
    assert "not checked" not in found.verdicts.values()
    assert "fails" not in {found[n].verdict for n in ("Repair", "Repair over a session")}
    repair = found["Repair"]
    assert repair.measured <= repair.bound
    assert found["Repair over a session"].measured <= found["Repair over a session"].bound
    assert found["Transfer"].verdict == "holds"
    np.testing.assert_allclose(sum(found.shares.values()), 1.0)
    eps = found["Regret in the surrogate"].constants["eps_L"]
    assert eps.low <= eps.value <= eps.high


def test_repair_alone_and_a_leaky_set():
    plain = {"horizon": None, "states": None, "alternatives": {}}
    from stackjax.certificates._repair import repaired

    subject = deployed(**plain)
    played = repaired(subject, CONTEXTS, response=jnp.zeros(2))
    for i, x in enumerate(CONTEXTS):
        answer = sj.best_response(subject.game, jnp.tanh(2 * x), x, response=jnp.zeros(2)).value
        to = sj.project(answer, RECORDED)
        np.testing.assert_allclose(played.response[i], to.action, atol=1e-6)
        np.testing.assert_allclose(played.distance[i], to.distance, rtol=1e-4, atol=1e-6)
    assert bool(played.inside.all())
    outside = sj.ActionSet(jnp.array([[3.0, 3.0]]))
    leaky = repaired(deployed(**plain | {"recorded": outside}), CONTEXTS, response=jnp.zeros(2))
    assert not bool(leaky.inside.any())


def test_the_bounds_under_transformations():
    distance = jnp.array([[0.5, 0.0, 0.2], [0.1, 0.1, 0.1]])
    constants: dict[str, Any] = {
        "utility_in_repair": 2.0, "utility_in_state": 3.0, "state_in_repair": 0.5,
        "state_in_state": 0.8, "discount": 0.9,
    }  # fmt: skip
    bound = lambda d: horizon_repair_bound(d, **constants)

    def by_hand(d):
        apart, total = 0.0, 0.0
        for t, moved in enumerate(np.asarray(d)):
            total += 0.9**t * (3.0 * apart + 2.0 * moved)
            apart = 0.8 * apart + 0.5 * moved
        return total

    np.testing.assert_allclose(
        jax.jit(jax.vmap(bound))(distance), [by_hand(d) for d in distance], rtol=1e-6
    )
    with jax.enable_x64(True):
        d = jnp.asarray(distance[0], float)
        slope = jax.grad(bound)(d)
        step = [(by_hand(d + e) - by_hand(d - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
        np.testing.assert_allclose(slope, step, rtol=1e-6)
        error = jax.jit(jax.vmap(response_error))(
            jnp.array([0.02, 0.0, 1.0]), jnp.array([4.0, 1, -1])
        )
        np.testing.assert_allclose(error, [0.1, 0.0, np.inf], rtol=1e-6)
        slope = jax.grad(response_error)(jnp.array(0.02), jnp.array(4.0))
        rest = [response_error(jnp.array(0.02 + h), jnp.array(4.0)) for h in (1e-6, -1e-6)]
        np.testing.assert_allclose(slope, (rest[0] - rest[1]) / 2e-6, rtol=1e-5)
        assert jnp.isfinite(jax.grad(response_error)(jnp.array(0.0), jnp.array(1.0)))


def quadratic(action, response, x):
    return response @ (jnp.asarray(PULL, response.dtype) @ action + x) - response @ response


def test_constant_derivatives_are_exact():
    from stackjax.certificates._samples import draw_plays
    from stackjax.certificates._stability import cross_lipschitz, curvature

    both = game(follower=quadratic), CONTEXTS, jnp.zeros(2), jnp.zeros(2), jax.random.key(0)
    plays = draw_plays(*both, count=12)
    assert "exact" in curvature(plays, None, steps=2).how
    value, how = cross_lipschitz(plays, steps=2)
    assert "exact" in how
    np.testing.assert_allclose(value, np.linalg.norm(PULL, 2), rtol=1e-5)
    # Not every context was seen: no longer exact.
    assert "sampling" in curvature(draw_plays(*both, count=4), None, steps=2).how


def test_dependence_is_proved():
    f = lambda a, b: jax.jacfwd(lambda y: y @ y * 2 + a @ y)(b)
    assert depends_on(f, jnp.ones(2), jnp.ones(2)) == (True, True)
    g = lambda a, b: jax.hessian(lambda y: y @ y * 2 + a @ y)(b)
    assert depends_on(g, jnp.ones(2), jnp.ones(2)) == (False, False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"game_or_policy": 3}, TypeError, "game_or_policy"),
        ({"level": 1.0}, ValueError, "level"),
        ({"key": 0}, TypeError, "key"),
        ({"turns": [1]}, TypeError, "RealTurns"),
        ({"turns": {"chief": None}}, ValueError, "`turns` must be one of .*; got 'chief'"),
        ({"contexts": jnp.zeros((0, 2))}, ValueError, "contexts"),
        ({"contexts": jnp.zeros(())}, ValueError, "contexts"),
        ({"samples": 1}, ValueError, "samples"),
        ({"steps": 2.5}, TypeError, "`steps` must be an integer; got 2.5"),
        ({"method": "guess"}, ValueError, "method"),
        ({"tolerance": -1.0}, ValueError, "tolerance"),
        ({"margin": np.nan}, ValueError, "margin"),
        ({"game_or_policy": game(action_set=sj.Box())}, ValueError, "must be given, as an example"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    given = {"game_or_policy": game(), "contexts": CONTEXTS, "turns": None} | QUICK | change
    with pytest.raises(error, match=message):
        certify(**given)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"recorded": 3}, TypeError),
        ({"repairs": "both"}, ValueError),
        ({"states": None}, ValueError),
        ({"alternatives": {"a": 1}}, TypeError),
        ({"horizon": 3}, TypeError),
    ],
)
def test_wrong_policies_are_refused(change, error):
    with pytest.raises(error):
        deployed(**change)
