"""Followers with two peaks: value-function cuts and the pessimistic convention, against grids.

One family of games, so that each convention compiles once: polynomials in an action and a response
on [-1, 1], in any units, with their coefficients as context.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bilevel import PROBLEMS
from quick import quick_jit

import stackjax as sj
from experiments.classical.__main__ import as_game

PROOF = sj.solvers.Global(gap=1e-6)
NAMES = "a r ar aa rr _r _rr _rrr _rrrr _ar _arr".split()
UNITS = (0.0, 1.0, 0.0, 1.0, 1.0, 1.0)


def leader(u, v, x):
    return x[0] * u + x[1] * v + x[2] * u * v + x[3] * u**2 + x[4] * v**2


def follower(u, v, x):
    return x[5] * v + x[6] * v**2 + x[7] * v**3 + x[8] * v**4 + x[9] * u * v + x[10] * u * v**2


def polynomial(**coefficients):
    """The context: of the leader by the monomial, of the follower likewise after an underscore."""
    return np.array([coefficients.get(name, 0.0) for name in NAMES])


def in_units(utility, scale):
    def played(action, response, context):
        x, m = context
        return m[scale] * utility((action - m[0]) / m[1], (response - m[2]) / m[3], x)

    return played


LEADER, FOLLOWER = in_units(leader, 4), in_units(follower, 5)


@functools.cache
def solver(convention):
    def solve(x, m, start):
        box = lambda middle, half: sj.Box(middle - half, middle + half)
        game = sj.Game(
            LEADER, FOLLOWER, action_set=box(m[0], m[1]), response_set=box(m[2], m[3])
        )  # fmt: skip
        return sj.solve(
            game, action=m[0] + m[1] * start[0], response=m[2] + m[3] * start[1],
            context=(x, m), starts=8, proof=PROOF, convention=convention,
        )  # fmt: skip

    return quick_jit(solve)


def play(convention, x, m=UNITS, start=(0.3, 0.2)):
    """What was found, with the action, the response and the leader's utility in units of 1."""
    found = solver(convention)(*map(jnp.asarray, (x, np.array(m), np.array(start))))
    action, response = (found.action - m[0]) / m[1], (found.response - m[2]) / m[3]
    return found, float(action), float(response), float(found.leader_utility) / m[4]


def on_grid(x, points=1001):
    """The leader's best by enumeration, ties for it and against it; its range; the responses."""
    v = np.linspace(-1, 1, points)
    mesh = np.meshgrid(v, v, indexing="ij")
    gain, wish = leader(*mesh, x), follower(*mesh, x)
    best = wish >= wish.max(1, keepdims=True) - 1e-12 * np.ptp(wish)
    favoured, wronged = np.where(best, gain, -np.inf), np.where(best, gain, np.inf)
    return favoured.max(1).max(), wronged.min(1).max(), np.ptp(gain), v


def drawn(rng, number):
    """Two peaks, in units from 1e-3 to 1e3; now and then always of one height, or none."""
    x = rng.normal(size=11)
    x[[6, 8]] = rng.uniform(1, 4, 2) * [1, -1]
    x[[5, 7]] *= [0.3, 0.5]
    if number % 10 == 9:
        x[[5, 7, 9]] = 0
    if number % 10 == 8:
        x[[6, 7, 8, 10]] = 0
    size = 10.0 ** rng.uniform(-3, 3, 5)
    return x, (rng.normal() * size[0], size[0], rng.normal() * size[1], *size[1:2], *size[3:])


# The follower's peaks are at -1/sqrt(2) and 1/sqrt(2) and of one height at the action 0 alone.
TILTED = polynomial(r=1, a=-1, _rr=1, _rrrr=-1, _ar=0.2)
FLAT = polynomial(r=1, a=-0.2, _ar=1, _arr=-1)  # indifferent at 0; above at 1/2, below at -1
PRICE = polynomial(ar=1, r=0.5, a=0.5, _r=0.5, _ar=-1)  # takes 1 below the price 1/2, else -1
PEAK = 0.5**0.5


def test_the_leader_stops_where_the_follower_is_indifferent(x64):
    found, action, response, value = play("optimistic", TILTED)
    assert found.converged and found.proof.proven and found.attained is None
    np.testing.assert_allclose([action, response, value], [0, PEAK, PEAK], atol=1e-7)
    found, action, response, value = play("optimistic", FLAT)
    assert found.proof.proven and abs(action) < 1e-7 and abs(value - 1) < 1e-6


def attack(convention, number, seed):
    """No grid beats a converged answer for the follower, or undercuts what it promises the leader.

    The leader's optimum may be local: a better one was missed by less than lies between actions
    that are looked at.
    """
    rng, converged = np.random.default_rng(seed), 0
    for k in range(number):
        x, m = drawn(rng, k)
        found, action, response, value = play(convention, x, m, rng.uniform(-1, 1, 2))
        favoured, wronged, span, v = on_grid(x)
        converged += bool(found.converged)
        if not found.converged:
            continue
        wish = follower(action, v, x)
        assert follower(action, response, x) >= wish.max() - 1e-5 * np.ptp(wish)
        best = favoured if convention == "optimistic" else wronged
        assert -4e-3 * span <= best - value <= 1e-2 * span
    return converged / number


def test_no_grid_beats_a_converged_answer(x64):
    assert attack("optimistic", 12, 0) >= 0.7


@pytest.mark.slow
def test_no_grid_beats_or_falls_short_of_a_supremum(x64):
    assert attack("pessimistic", 20, 1) >= 0.5


@pytest.mark.slow
def test_a_supremum_is_told_from_a_maximum(x64):
    found, action, response, value = play("pessimistic", TILTED)
    assert found.converged and not found.attained and found.status == "supremum"
    np.testing.assert_allclose([action, response, value], [0, PEAK, PEAK], atol=1e-6)
    # At an action nearby there is one best response, and it leaves almost as much.
    near, v = float(found.nearby), np.linspace(-1, 1, 4001)
    wish = follower(near, v, TILTED)
    assert wish[v > 0].max() > wish[v < 0].max() and 0 < near < 0.01
    assert leader(near, v[wish.argmax()], TILTED) >= value - 0.01

    found, action, response, value = play("pessimistic", PRICE)
    assert found.converged and not found.attained
    np.testing.assert_allclose([action, response, value], [0.5, 1, 1.25], atol=1e-6)
    assert float(found.nearby) < 0.5

    found, _, _, value = play("pessimistic", polynomial(r=1, aa=-1, _rr=-1, _ar=1))
    assert found.converged and found.attained and found.status == "converged"
    np.testing.assert_allclose(value, 1 / 16, atol=1e-9)


@pytest.mark.slow
def test_what_is_not_exact_is_not_called_converged(x64):
    both = polynomial(r=1, a=1, aa=-1, _rr=1, _rrrr=-1)  # both peaks are best at every action
    found, action, _, value = play("pessimistic", both)
    assert not found.converged and found.status == "several"
    np.testing.assert_allclose(value, action - action**2 - PEAK, atol=1e-6)  # what is sure there
    found, *_, value = play("pessimistic", FLAT)  # the leader may not count on the indifference
    assert value <= 0.5 + (1e-6 if found.converged else 1e-3)


def test_arguments_are_checked():
    game = sj.Game(lambda a, r, x: r, lambda a, r, x: -((r - a) ** 2), response_set=sj.Box(0, 1.0))
    solve = lambda **options: sj.solve(
        game, action=jnp.array(0.5), response=jnp.array(0.5), context=None, **options
    )
    with pytest.raises(ValueError, match="`convention` must be 'optimistic' or 'pessimistic'"):
        solve(convention="worst")
    with pytest.raises(TypeError, match="`proof` must be .* pessimistic convention"):
        solve(convention="pessimistic")
    with pytest.raises(TypeError, match="`solver` must be .*Complementarity"):
        solve(convention="pessimistic", proof=PROOF, solver=sj.Newton())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "Mirrlees1999", "MitsosBarton2006Ex311", "MitsosBarton2006Ex313", "MitsosBarton2006Ex314",
        "MitsosBarton2006Ex320", "PaulaviciusAdjiman2017a",
    ],
)  # fmt: skip
def test_published_optima_at_indifference_are_found_and_proven(name, x64):
    problem = {p.name: p for p in PROBLEMS}[name]
    game, solver = as_game(problem), sj.Complementarity()
    solve = quick_jit(
        lambda x, y: sj.solve(
            game, action=x, response=y, context=None, solver=solver, proof=sj.solvers.Global()
        )
    )
    found = solve(jnp.asarray(problem.x, float), jnp.asarray(problem.y, float))
    assert abs(-found.leader_utility - problem.value) <= 1e-6 and found.proof.proven
    assert found.regret < 1e-9 and not found.local


@pytest.mark.slow
def test_an_optimum_at_indifference_is_differentiable_in_the_context(x64):
    # Peaks of one height at the action -5 c: the leader's utility there is 5 c + its peak.
    moved = lambda c: jnp.asarray(TILTED).at[5].set(c)

    def value(c):
        box = sj.Box(-1.0, 1.0)
        game = sj.Game(LEADER, FOLLOWER, action_set=box, response_set=box)
        context = moved(c), jnp.asarray(UNITS)
        return sj.solve(
            game, action=jnp.array(0.3), response=jnp.array(0.2), context=context, starts=8,
            proof=PROOF,
        ).leader_utility  # fmt: skip

    found, slope = quick_jit(jax.value_and_grad(value))(jnp.array(0.02))
    np.testing.assert_allclose(found, 0.1 + PEAK, atol=1e-6)
    np.testing.assert_allclose(slope, 5, rtol=1e-5)
