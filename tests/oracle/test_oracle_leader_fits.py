"""Fitted policies against known optima: linear-quadratic ones, clipped ones, averages kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import stackjax as sj


def policy(start):
    return jax.tree_util.Partial(lambda w, x: w[0] + w[1] * x, jnp.asarray(start))


def contexts(low=-2.0, high=5.0, count=41):
    return np.linspace(low, high, count)


# The follower's u = r (B a + C x) - D r^2 / 2 answers r = (B a + C x) / D; the leader gets
# -K (a - T)^2 / 2 + E a r - F r^2 / 2.
B, C, D, K, T, E, F = 0.7, -0.3, 2.0, 1.5, 4.0, 0.4, 0.9


def leader(a, r, x):
    return -K * (a - T) ** 2 / 2 + E * a * r - F * r**2 / 2


def follower(a, r, x):
    return r * (B * a + C * x) - D * r**2 / 2


@pytest.mark.parametrize("unit", [1.0, pytest.param(1e3, marks=pytest.mark.slow)])
def test_linear_quadratic_policy_is_the_optimum(x64, unit):
    """With r = b a + c x the leader's value is quadratic in a, and its optimum linear in x."""
    b, c = B / D, C / D
    curvature = K - 2 * E * b + F * b**2  # of minus the value in a
    wanted = np.array([K * T, (E - F * b) * c]) / curvature
    # `unit` of actions and responses, utilities in thousandths
    scaled = lambda u: lambda a, r, x: 1e-3 * u(a / unit, r / unit, x)
    game = sj.Game(scaled(leader), scaled(follower))
    found, history = sj.fit_leader(
        policy([unit, 0.0]), game, jnp.asarray(contexts()), response=jnp.array(0.5 * unit),
        key=jax.random.key(0), steps=25, optimizer=optax.lbfgs(),
    )  # fmt: skip
    assert history.converged.min() == 1 and history.fit_converged and not history.diverged
    np.testing.assert_allclose(np.asarray(found.args[0]) / unit, wanted, rtol=1e-6)
    a = wanted[0] + wanted[1] * contexts()
    values = leader(a, b * a + c * contexts(), contexts())
    np.testing.assert_allclose(history.utility[-1], 1e-3 * values.mean(), rtol=1e-9)


def clipped_mean(w, low, high, x):
    """The leader's mean utility against the follower held in [low, high]."""
    a = w[0] + w[1] * x
    return leader(a, np.clip((B * a + C * x) / D, low, high), x).mean()


def test_policy_with_followers_at_bounds_is_the_best_line(x64):
    """Some contexts' followers stand at either bound; the line's optimum by a search from afar."""
    low, high, x = 1.05, 1.6, contexts()
    starts = [(t, s) for t in (1.0, 3.0, 5.0) for s in (-0.5, 0.0, 0.5)]
    runs = [
        optimize.minimize(
            lambda w: -clipped_mean(w, low, high, x), start, method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000},
        )
        for start in starts
    ]  # fmt: skip
    best = min(runs, key=lambda run: run.fun)
    a = best.x[0] + best.x[1] * x
    answers = (B * a + C * x) / D
    assert (answers < low).any() and (answers > high).any() and (abs(answers - 1.3) < 0.2).any()
    game = sj.Game(leader, follower, response_set=sj.Box(low, high))
    found, history = sj.fit_leader(
        policy([3.0, 0.0]), game, jnp.asarray(x), response=jnp.array(high), key=jax.random.key(0),
        steps=400, optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 400)),
    )  # fmt: skip
    assert history.converged.min() == 1
    reached = clipped_mean(np.asarray(found.args[0]), low, high, x)
    assert -best.fun - 1e-6 <= reached <= -best.fun + 1e-9
    np.testing.assert_allclose(found.args[0], best.x, atol=3e-3)


def test_contexts_whose_follower_fails_are_left_out_and_counted(x64):
    """x > 3 makes the follower's utility a log of something negative: as if they were not there."""
    x = contexts()
    game = sj.Game(leader, lambda a, r, x: follower(a, r, x) + 0 * jnp.log(3.0 - x))
    whole = {"response": jnp.array(0.2), "key": jax.random.key(0), "steps": 25}
    found, history = sj.fit_leader(
        policy([1.0, 0.0]), game, jnp.asarray(x), optimizer=optax.lbfgs(), **whole
    )
    alone = sj.Game(leader, follower)
    there, other = sj.fit_leader(
        policy([1.0, 0.0]), alone, jnp.asarray(x[x < 3]), optimizer=optax.lbfgs(), **whole
    )
    np.testing.assert_allclose(history.converged, (x < 3).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.args[0], there.args[0], rtol=1e-9)
    np.testing.assert_allclose(history.utility, other.utility, rtol=1e-9)
    assert other.converged.min() == 1


@pytest.mark.parametrize(
    "size,side,start,tol",
    [(1e-3, "at_least", (1.0, 0.0), 2e-3),
     (1.0, "at_least", (0.0, 1.0), 0.02),  # the optimum without the bound: all utilities are 0
     pytest.param(1.0, "at_most", (1.0, 0.0), 2e-3, marks=pytest.mark.slow),
     pytest.param(1e3, "at_least", (-3.0, 2.0), 0.02, marks=pytest.mark.slow),
     pytest.param(1e3, "at_most", (0.01, 1.0), 0.15, marks=pytest.mark.slow)],
)  # fmt: skip
def test_multiplier_is_the_value_of_a_unit_of_the_bound(x64, size, side, start, tol):
    """`-U (a - x)^2 / 2` under a bound on mean r, r = b a + c x.

    The optimum is a = x + s with one shift s for all, so that V(level) = -U s^2 / 2 with
    s = (level - (b + c) mean x) / b, and |dV/dlevel| = U |s| / b. A second bound has room.
    """
    b, c, x, utility = 0.8, 0.5, contexts(), 3.0
    middle = (b + c) * x.mean()
    level = middle + (0.6 if side == "at_least" else -0.6)
    game = sj.Game(
        lambda a, r, x: -utility * (a - x) ** 2 / 2, lambda a, r, x: -((r - b * a - c * x) ** 2) / 2
    )
    mean = sj.fit.Average(lambda a, r, x: size * r, **{side: size * level})
    loose = sj.fit.Average(lambda a, r, x: a, at_most=20.0)
    found, history = sj.fit_leader(
        policy(start), game, jnp.asarray(x), response=jnp.array(0.0), key=jax.random.key(0),
        constraints=[mean, loose], steps=1500,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 1500)),
    )  # fmt: skip
    shift = (level - middle) / b
    np.testing.assert_allclose(found.args[0], [shift, 1.0], atol=tol)
    np.testing.assert_allclose(
        history.multipliers[-1, 0] * size, utility * abs(shift) / b, rtol=tol
    )
    assert history.multipliers[-1, 1] == 0
    kept = abs(history.constraints[-1, 0]) < 1e-3 * size
    assert kept or not history.fit_converged  # not if a bound is still broken
    # and the value itself falls at that price: two levels, by the formula
    value = lambda level: -utility * ((level - middle) / b) ** 2 / 2
    price = abs(value(level + 1e-4) - value(level - 1e-4)) / 2e-4
    np.testing.assert_allclose(history.multipliers[-1, 0] * size, price, rtol=tol)
    np.testing.assert_allclose(history.utility[-1], value(level), rtol=2 * tol)


@pytest.mark.slow
def test_multiplier_over_minibatches(x64):
    """The same price when a step sees 32 of 328 contexts."""
    b, c, x, utility = 0.8, 0.5, contexts(count=328), 3.0
    level = (b + c) * x.mean() + 0.6
    game = sj.Game(
        lambda a, r, x: -utility * (a - x) ** 2 / 2, lambda a, r, x: -((r - b * a - c * x) ** 2) / 2
    )
    found, history = sj.fit_leader(
        policy([0.0, 1.0]), game, jnp.asarray(x), response=jnp.array(0.0), key=jax.random.key(0),
        constraints=[sj.fit.Average(lambda a, r, x: r, at_least=level)], steps=4000, batch_size=32,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 4000)),
    )  # fmt: skip
    np.testing.assert_allclose(found.args[0], [0.75, 1.0], atol=0.02)
    late = np.asarray(history.multipliers[-500:, 0]).mean()
    np.testing.assert_allclose(late, utility * 0.75 / b, rtol=0.05)
