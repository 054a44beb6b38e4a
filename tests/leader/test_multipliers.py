"""Shadow prices of the leader's constraints: against the values of relaxed problems (envelope)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import quick, quick_jit

import stackjax as sj

SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def _precision(request):
    wide = "dtype" not in request.fixturenames or request.getfixturevalue("dtype") == "float64"
    with jax.enable_x64(wide):
        yield


def profit(own, other, demand):
    return own * (demand - own - other - 1)


SETS = {
    "upper bound": (lambda cap: sj.Box(0.0, cap), 4.0, 2.0),
    "lower bound": (lambda cap: sj.Box(cap, 9.0), 7.0, -1.0),
    "inequality": (lambda cap: sj.Constrained(lambda a, r, x: a - cap), 4.0, 2.0),
    "with the response": (lambda cap: sj.Constrained(lambda a, r, x: a + r - cap), 8.0, 4.0),
    "equality": (lambda cap: sj.Constrained(equality=lambda a, r, x: a - cap), 4.0, 2.0),
}


def solve(name, cap, solver=None, scale=1.0):
    """The duopoly: without a constraint the leader sells 6, and its value is `a (12 - a) / 2`."""
    game = sj.Game(
        lambda a, r, x: scale * profit(a, r, x),
        lambda a, r, x: profit(r, a, x),
        action_set=SETS[name][0](cap),
    )
    one = jnp.array(1.0)
    return sj.solve(game, action=one, response=one, context=13.0 * one, solver=solver)


def price(multipliers):
    """What one more unit of the constant in the set is worth."""
    rows = jnp.sum(multipliers.inequality) + jnp.sum(multipliers.equality)
    return multipliers.upper - multipliers.lower + rows


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[SLOW] * (name not in quickly))
        for dtype, quickly in (
            ("float32", ("upper bound", "with the response")),
            ("float64", ("lower bound", "equality")),
        )
        for name in SETS
    ],
)
def test_price_is_the_closed_form(name, dtype):
    _, cap, worth = SETS[name]
    found = quick(lambda cap: solve(name, cap), jnp.array(cap))
    assert found.converged
    np.testing.assert_allclose(price(found.multipliers), worth, rtol=1e-4)
    # in the leader's own unit
    scaled = quick(lambda cap: solve(name, cap, scale=1e3), jnp.array(cap))
    np.testing.assert_allclose(price(scaled.multipliers), 1e3 * worth, rtol=1e-3)


@pytest.mark.parametrize("solver", [sj.Newton(), sj.Complementarity()])
@pytest.mark.parametrize("name", ["upper bound", pytest.param("lower bound", marks=SLOW)])
def test_price_and_its_derivative_are_those_of_relaxed_problems(name, solver):
    value = quick_jit(lambda cap: solve(name, cap, solver).leader_utility)
    worth = quick_jit(lambda cap: price(solve(name, cap, solver).multipliers))
    cap, step = jnp.array(SETS[name][1]), 1e-4
    slope = (value(cap + step) - value(cap - step)) / (2 * step)
    np.testing.assert_allclose(worth(cap), slope, rtol=1e-6)
    bend = (worth(cap + step) - worth(cap - step)) / (2 * step)
    derivative = quick(jax.grad(lambda c: price(solve(name, c, solver).multipliers)), cap)
    np.testing.assert_allclose(derivative, bend, rtol=1e-5)


def test_nothing_costs_where_nothing_binds():
    found = quick(lambda cap: solve("upper bound", cap), jnp.array(8.0))
    assert price(found.multipliers) == 0


def test_a_simplex_has_a_price_of_its_total():
    aim = jnp.array([2.0, 0.5, -1.0])
    game = sj.Game(
        lambda a, r, x: -jnp.sum((a - aim) ** 2) + r,
        lambda a, r, x: -((r - a[0]) ** 2),
        action_set=sj.Simplex(),
    )
    for solver in (sj.FirstOrder(optax.sgd(0.1)), sj.Complementarity()):
        found = sj.solve(
            game, action=jnp.ones(3) / 3, response=jnp.array(0.0), context=None, solver=solver
        )
        # at (1, 0, 0): slopes 3, 1, -2
        np.testing.assert_allclose(found.multipliers.equality, [3.0], rtol=1e-5)
        np.testing.assert_allclose(found.multipliers.lower, [0.0, 2.0, 5.0], atol=1e-5)


def test_a_batch_and_several_followers():
    firm = lambda i: lambda tax, r, x: r[i] * (x - r[0] - r[1] - 1.0 - tax)
    game = sj.Game(
        lambda tax, r, x: tax * (r[0] + r[1]), (firm(0), firm(1)), action_set=sj.Box(0.0, 2.0)
    )
    solve = lambda x: sj.solve(
        game, action=jnp.array(1.0), response=(jnp.array(1.0), jnp.array(1.0)), context=x
    )
    found = jax.jit(jax.vmap(solve))(jnp.array([4.0, 10.0]))
    # revenue 2/3 tax (x - 1 - tax): free at 1.5, and at the bound worth 2/3 (9 - 4)
    np.testing.assert_allclose(found.action, [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found.multipliers.upper, [0.0, 10 / 3], atol=1e-6)
