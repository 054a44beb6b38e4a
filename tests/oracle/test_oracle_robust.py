"""Followers known roughly: values by enumeration of the members, or of the worst answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import stackjax as sj

X = np.linspace(-1.0, 3.0, 17)
# Member m answers r = (p_m a + q_m x) held in [-2, 4]; the leader gets
# -(a - 2)^2 + 1.5 r - 0.1 r^2 x.
P = np.array([0.9, -0.4, 0.2, 1.7, -1.1])
Q = np.array([0.3, 1.2, -0.8, 0.1, 0.6])
LOW, HIGH = -2.0, 4.0


def leader(a, r, x):
    return -((a - 2) ** 2) + 1.5 * r - 0.1 * r**2 * x


def line(start):
    return jax.tree_util.Partial(lambda w, x: w[0] + w[1] * x, jnp.asarray(start))


def several(unit=1.0):
    utility = jax.tree_util.Partial(
        lambda p, a, r, x: -((r / unit - p[0] * a - p[1] * x) ** 2), jnp.stack([P, Q], 1)
    )
    return sj.Game(
        lambda a, r, x: unit * leader(a, r / unit, x),
        utility,
        response_set=sj.Box(LOW * unit, HIGH * unit),
    )


def by_member(w):
    """`[M]` the leader's mean utility."""
    a = w[0] + w[1] * X
    return np.array([leader(a, np.clip(p * a + q * X, LOW, HIGH), X).mean() for p, q in zip(P, Q)])


def tail_mean(values, tail):
    """The mean of the worst `max(tail M, 1)`, a fraction in part, by laying out the weights."""
    left, total = max(tail * len(values), 1.0), 0.0
    size = left
    for value in np.sort(values):
        part = min(1.0, left)
        total, left = total + part * value, left - part
    return total / size


@pytest.mark.parametrize(
    "tail,unit",
    [
        (0.5, 1e3),
        pytest.param(1.0, 1.0, marks=pytest.mark.slow),
        pytest.param(0.0, 1e-3, marks=pytest.mark.slow),
        pytest.param(0.3, 1.0, marks=pytest.mark.slow),
    ],
)
def test_value_and_slope_are_those_of_the_worst_members(x64, tail, unit):
    """The first step's utility and gradient; the latter moves the policy at rate 1."""
    w = np.array([0.7, 0.4])
    found, history = sj.fit_leader(
        line(w),
        several(unit),
        jnp.asarray(X),
        response=jnp.array(0.5 * unit),
        key=jax.random.key(0),
        follower=sj.fit.Ensemble(tail=tail),
        steps=1,
        optimizer=optax.sgd(1 / unit),
    )
    value = lambda w: tail_mean(by_member(w), tail)
    assert len({round(v, 6) for v in by_member(w)}) == 5  # no ties, which would have two slopes
    np.testing.assert_allclose(history.utility[0] / unit, value(w), rtol=1e-9)
    slope = np.array([(value(w + h) - value(w - h)) / 2e-6 for h in 1e-6 * np.eye(2)])
    np.testing.assert_allclose(np.asarray(found.args[0]) - w, slope, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(history.gradient_norm[0] / unit, np.linalg.norm(slope), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("tail", [0.0, 0.4, 1.0])
def test_optimum_is_that_of_a_search(x64, tail):
    """The best line against the worst share of the members, by a search without slopes."""
    runs = [
        optimize.minimize(
            lambda w: -tail_mean(by_member(w), tail), s, method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 5000},
        )
        for s in ([2.0, 0.0], [1.0, 0.5], [3.0, -0.5])
    ]  # fmt: skip
    best = -min(run.fun for run in runs)
    found, _ = sj.fit_leader(
        line([2.0, 0.0]), several(), jnp.asarray(X), response=jnp.array(0.5),
        key=jax.random.key(0), follower=sj.fit.Ensemble(tail=tail), steps=1500,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 1500)),
    )  # fmt: skip
    reached = tail_mean(by_member(np.asarray(found.args[0])), tail)
    assert best - 2e-3 < reached < best + 1e-9


def test_a_member_that_fails_leaves_its_rows_out(x64):
    """Member 1 has no utility above x = 1: its mean is over the others, and they are counted."""
    game = several()
    utility = jax.tree_util.Partial(
        lambda p, a, r, x: -((r - p[0] * a - p[1] * x) ** 2) + 0 * jnp.log(p[2] - x),
        jnp.stack([P, Q, np.array([9.0, 1.1, 9.0, 9.0, 9.0])], 1),
    )
    game = sj.Game(leader, utility, response_set=game.response_set)
    w = np.array([0.7, 0.4])
    _, history = sj.fit_leader(
        line(w), game, jnp.asarray(X), response=jnp.array(0.5), key=jax.random.key(0),
        follower=sj.fit.Ensemble(tail=0.5), steps=1,
    )  # fmt: skip
    a = w[0] + w[1] * X
    means = by_member(w)
    there = X < 1.1
    means[1] = leader(a, np.clip(P[1] * a + Q[1] * X, LOW, HIGH), X)[there].mean()
    np.testing.assert_allclose(history.utility[0], tail_mean(means, 0.5), rtol=1e-9)
    np.testing.assert_allclose(history.converged[0], 1 - (~there).sum() / (5 * len(X)), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("delta,unit", [(0.03, 1.0), (3e-4, 1e3)])
def test_nearly_best_answers_are_the_far_side_of_the_ellipsoid(x64, delta, unit):
    """U_F = -(r - m)'H (r - m) / 2, U_L = c.r + ...: the worst loss is sqrt(2 delta c'H^-1 c)."""
    H, c = np.array([[2.0, 0.6], [0.6, 1.5]]), np.array([0.8, -1.3])
    best = lambda a, x: jnp.stack([0.5 * a + x, a - 0.3 * x])

    def follower(a, r, x):
        off = r / unit - best(a, x)
        return -off @ jnp.asarray(H) @ off / 2

    game = sj.Game(lambda a, r, x: c @ (r / unit) - (a - 1) ** 2, follower)
    w = np.array([0.7, 0.4])
    a = w[0] + w[1] * X
    loss = np.sqrt(2 * delta * c @ np.linalg.solve(H, c))
    value = lambda a: c[0] * (0.5 * a + X) + c[1] * (a - 0.3 * X) - (a - 1) ** 2
    found, history = sj.fit_leader(
        line(w), game, jnp.asarray(X), response=jnp.zeros(2), key=jax.random.key(0),
        follower=sj.fit.Suboptimal(delta), steps=1, optimizer=optax.sgd(1.0),
    )  # fmt: skip
    assert history.converged[0] == 1
    np.testing.assert_allclose(history.utility[0], value(a).mean() - loss, rtol=1e-5)
    # the loss does not depend on a: the slope is that of the value at the best response
    each = c[0] * 0.5 + c[1] - 2 * (a - 1)
    np.testing.assert_allclose(
        np.asarray(found.args[0]) - w, [each.mean(), (each * X).mean()], rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_nearly_best_answers_end_at_a_bound(x64):
    """In one dimension: r down by sqrt(2 delta / mu), or as far as the box goes."""
    low, mu, delta = 0.25, 3.0, 0.06
    game = sj.Game(
        lambda a, r, x: 2 * r + a, lambda a, r, x: -mu * (r - 0.5 * a - x) ** 2 / 2,
        response_set=sj.Box(low, 9.0),
    )  # fmt: skip
    x = np.linspace(0.0, 1.0, 9)
    best = np.clip(0.4 + x, low, 9.0)
    worst = np.maximum(best - np.sqrt(2 * delta / mu), low)
    assert (worst == low).any() and (worst > low).any()
    _, history = sj.fit_leader(
        line([0.8, 0.0]), game, jnp.asarray(x), response=jnp.array(0.5), key=jax.random.key(0),
        follower=sj.fit.Suboptimal(delta), steps=1,
    )  # fmt: skip
    assert history.converged[0] == 1
    np.testing.assert_allclose(history.utility[0], (2 * worst + 0.8).mean(), rtol=1e-5)
