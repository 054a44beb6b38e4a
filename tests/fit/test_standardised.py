"""A network with standardised inputs: the same game in any units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import stackjax as sj

UNITS = (1e3, 0.02, 300.0)  # of actions, responses and contexts


def table(units, missing=False):
    """Play of a follower who answers 1.5 - a / 2 + .4 tanh(2 x_0) + .2 x_1, in other units."""
    rng = np.random.default_rng(0)
    a, x = rng.uniform(0, 2, 200), rng.uniform(-1, 1, (200, 2))
    r = 1.5 - 0.5 * a + 0.4 * np.tanh(2 * x[:, 0]) + 0.2 * x[:, 1]
    if missing:
        r[::7] = np.nan
    columns = (x + 3) * units[2], a * units[0], r * units[1]
    return sj.Observations(*(jnp.asarray(column, jnp.float32) for column in columns))


def network():
    return sj.fit.ConcaveUtility(1, 1, 2, hidden=8, layers=1, rngs=nnx.Rngs(0))


@pytest.mark.filterwarnings("ignore:The fit did not converge")
def test_units_change_neither_the_fit_nor_the_answers():
    fitted = {}
    for units in ((1.0, 1.0, 1.0), UNITS):
        seen = table(units, missing=True)
        utility = sj.fit.standardised(network(), seen)
        utility, history = sj.fit_follower(utility, seen, key=jax.random.key(0), steps=60)
        fitted[units] = utility
        error = float(jnp.sqrt(-history.utility[-1])) / units[1]
        assert error < 0.05  # of responses with a standard deviation of .45
    plain, scaled = fitted[1.0, 1.0, 1.0], fitted[UNITS]
    game = sj.Game(lambda a, r, x: r, plain), sj.Game(lambda a, r, x: r, scaled)
    action, context = jnp.array(1.2), jnp.array([3.4, 2.5])

    def answer(which, action):
        unit = UNITS if which else (1.0, 1.0, 1.0)
        found = sj.best_response(
            game[which], action * unit[0], context * unit[2], response=jnp.array(unit[1])
        )
        return found.value / unit[1]

    values = [answer(which, action) for which in (0, 1)]
    np.testing.assert_allclose(values[0], values[1], rtol=0.05)
    truth = 1.5 - 0.6 + 0.4 * np.tanh(0.8) + 0.2 * -0.5
    np.testing.assert_allclose(values[1], truth, atol=0.1)
    # the slope in the action, by finite differences of the truth: -1/2
    slope = jax.jit(jax.grad(lambda a: answer(1, a)))(action)
    np.testing.assert_allclose(slope, -0.5, atol=0.1)


def test_what_the_utility_reads():
    seen = table(UNITS)
    reads = sj.fit.standardised(lambda a, r, x: jnp.stack([a, r, *x]), seen)
    play = seen.action, seen.response, seen.context
    read = jax.jit(jax.vmap(reads))(*play)
    np.testing.assert_allclose(read.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(read.std(0), 1, rtol=1e-4)


def test_numbers_that_do_not_vary_and_integers_stay_numbers():
    kind = jnp.arange(6) % 2
    seen = sj.Observations(
        {"kind": kind, "fixed": jnp.full((6, 2), 7.0)},
        jnp.ones(6),
        jnp.array([1.0, 2.0, 3.0, jnp.nan, 5.0, 9.0]),
    )
    reads = sj.fit.standardised(lambda a, r, x: (a, r, x["kind"], x["fixed"]), seen)
    a, r, chosen, fixed = reads(
        jnp.array(1.0), jnp.array(4.0), jax.tree.map(lambda x: x[1], seen.context)
    )
    assert a == 0 and r == 0 and jnp.array_equal(chosen, kind[1])
    assert jnp.asarray(chosen).dtype == kind.dtype
    assert np.all(np.asarray(fixed) == 0)


def test_the_concavity_bound_is_in_the_responses_own_units():
    seen, inner = table(UNITS), network()
    utility = sj.fit.standardised(inner, seen)
    at = (seen.action[0], seen.response[0], seen.context[0])
    curvature = jax.hessian(lambda r: utility(at[0], r, at[2]))(at[1])
    assert utility.concavity_bound <= -curvature * (1 + 1e-5)
    unit = float(jnp.std(seen.response))
    np.testing.assert_allclose(utility.concavity_bound, inner.concavity_bound / unit**2, rtol=1e-4)


def test_only_the_utility_is_trained():
    seen = table(UNITS)
    utility = sj.fit.standardised(network(), seen)
    slope = jax.grad(
        lambda u: u(seen.action[0], seen.response[0], seen.context[0]), allow_int=True
    )(utility)
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves((slope.centre, slope.unit)))


@pytest.mark.parametrize(
    ("utility", "seen", "said"),
    [
        (3.0, table(UNITS), "`utility` must be callable; got"),
        (network(), jnp.ones(3), "`observations` must be"),
    ],
)
def test_wrong_arguments(utility, seen, said):
    with pytest.raises(TypeError, match=said):
        sj.fit.standardised(utility, seen)
