"""Inputs that outsiders reported as failing or odd, each with the answer that may be expected.

Falsifies the same sentence as `test_oracle_cases`: the answer, or no `converged`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stackjax as sj

DTYPES = ("float32", "float64")
SLOW_DOUBLE = pytest.param("float64", marks=pytest.mark.slow)


@pytest.fixture(params=DTYPES)
def dtype(request):
    """Runs a test in both precisions."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


# Sets without an interior: right or flagged.


@pytest.mark.parametrize(
    ("name", "constraint", "right"),
    [
        ("point", lambda a, r, x: r @ r, (0.0, 0.0)),
        ("flat point", lambda a, r, x: (r @ r) ** 2, (0.0, 0.0)),
        (
            "tangent circles",
            lambda a, r, x: jnp.stack([r @ r - 1, (r[0] - 2) ** 2 + r[1] ** 2 - 1]),
            (1.0, 0.0),
        ),
        (
            "circle and tangent line",
            lambda a, r, x: jnp.stack([r @ r - 1, 1 - r[1]]),
            (0.0, 1.0),
        ),
    ],
)
def test_a_set_of_one_point_is_right_or_flagged(dtype, name, constraint, right):
    toward = lambda a, r, x: -((r - a) ** 2).sum()
    game = sj.Game(toward, toward, response_set=sj.Constrained(constraint))
    answer = lambda a, start: sj.best_response(game, a, None, response=start)
    ends = jnp.array([[1.0, 1.0], [-2.0, 0.5], [0.0, 0.0], [0.0, 3.0]])
    starts = jnp.array([[0.5, 0.5], [0.0, 0.0], [3.0, -1.0], [1.0, 0.0]])
    found = jax.jit(jax.vmap(answer))(ends, starts)
    wrong = np.abs(np.asarray(found.value) - right).max(-1) > 1e-2
    assert not (wrong & np.asarray(found.converged)).any(), found.value


# The first game of every economist.


def profit(own, other, cost):
    """Of a firm that meets logit demand."""
    share = jnp.exp(2.0 - 1.5 * own)
    return (own - cost) * share / (1 + share + jnp.exp(2.0 - 1.5 * other))


def profit_by_hand(own, other, cost):
    share = np.exp(2.0 - 1.5 * own)
    return (own - cost) * share / (1 + share + np.exp(2.0 - 1.5 * other))


def answer_by_hand(other, cost):
    """Quasi-concave: one maximum, by golden section from a grid."""
    grid = np.linspace(cost, cost + 8, 2001)
    best = grid[profit_by_hand(grid, other, cost).argmax()]
    low, high = best - 0.01, best + 0.01
    for _ in range(60):
        left, right = high - 0.618 * (high - low), low + 0.618 * (high - low)
        if profit_by_hand(left, other, cost) < profit_by_hand(right, other, cost):
            low = left
        else:
            high = right
    return (low + high) / 2


def logit_duopoly():
    return sj.Game(
        lambda a, r, cost: profit(a, r, cost),
        lambda a, r, cost: profit(r, a, cost),
        action_set=sj.Box(0.0, 10.0),
        response_set=sj.Box(0.0, 10.0),
    )


@pytest.mark.parametrize("dtype", ["float32", SLOW_DOUBLE], indirect=True)
def test_a_quasi_concave_follower_is_right(dtype):
    answer = lambda a, cost, start: sj.best_response(
        logit_duopoly(), a, cost, response=start, starts=8
    )
    a, cost, start = np.meshgrid([0.8, 1.5, 3.0], [0.2, 1.0], [0.5, 2.0, 8.0])
    given = [jnp.asarray(v.ravel(), float) for v in (a, cost, start)]
    found = jax.jit(jax.vmap(answer))(*given)
    right = [answer_by_hand(*pair) for pair in zip(a.ravel(), cost.ravel())]
    np.testing.assert_allclose(found.value, right, atol=5e-3 if dtype == "float32" else 1e-5)


def test_the_logit_duopoly_is_right_and_converged():
    one = jnp.array(1.0)
    answer = lambda cost: sj.solve(
        logit_duopoly(), action=one, response=one, context=cost, solver=sj.Newton(), starts=8
    )
    costs = np.array([0.2, 1.0])
    found = jax.jit(jax.vmap(answer))(jnp.asarray(costs, float))
    for cost, action in zip(costs, np.asarray(found.action)):
        grid = np.arange(cost, cost + 3, 2e-3)
        worth = [profit_by_hand(a, answer_by_hand(a, cost), cost) for a in grid]
        assert abs(action - grid[np.argmax(worth)]) < 1e-2
    assert found.converged.all()


def test_a_higher_peak_is_seldom_missed():
    """Two peaks in six variables, the start on one: samples are no proof, but should mostly do."""
    rng, games, d = np.random.default_rng(0), 400, 6
    middle = rng.uniform(0.1, 0.9, (games, 2, d))
    width, height = rng.uniform(0.08, 0.4, (games, 2)), rng.uniform(-1, 1, (games, 2))

    def follower(a, r, x):
        far = jnp.sum((r[None] - x["middle"]) ** 2, -1) / x["width"] ** 2
        return jax.nn.logsumexp(x["height"] - far / 2) + 0 * a

    leader = lambda a, r, x: -((a - 0.3) ** 2) + 0.1 * r[0]
    unit = sj.Box(0.0, 1.0)
    game = sj.Game(leader, follower, action_set=unit, response_set=unit)
    given = {"middle": middle, "width": width, "height": height}
    found = jax.jit(
        jax.vmap(
            lambda x: sj.solve(
                game, action=jnp.array(0.5), response=x["middle"][0], context=x, solver=sj.Newton()
            )
        )
    )({name: jnp.asarray(value, "float32") for name, value in given.items()})
    # Peaks lie next to the middles: the utility there bounds the highest from below.
    squared = ((middle[:, :, None] - middle[:, None]) ** 2).sum(-1)
    peaks = np.exp(height[:, None] - squared / width[:, None] ** 2 / 2).sum(-1).max(-1)
    beaten = np.log(peaks) - np.asarray(found.follower_utility) > 1e-3
    assert beaten.sum() > 100
    assert (np.asarray(found.converged) & beaten).sum() <= 15


# A first-order method that stops where steps are short, not where it has arrived.


@pytest.mark.parametrize("rate", [0.5, 0.01])
def test_first_order_is_near_or_flagged(rate):
    flat = lambda a, r, x: -0.02 * (a - 1.0) ** 2 + 0 * r
    game = sj.Game(flat, lambda a, r, x: -((r - a) ** 2))
    zero = jnp.array(0.0)
    solver = sj.FirstOrder(optax.sgd(rate), max_steps=3000)
    found = sj.solve(game, action=zero, response=zero, context=None, solver=solver)
    assert abs(found.action - 1.0) < 3e-3 or not found.converged


# Contracts.


@pytest.mark.slow
def test_a_contract_is_right_or_flagged():
    # The agent's effort e has cost e^2 / 2 and wage l e; the principal keeps (1 - l) e: l = 1 / 2.
    game = sj.Game(
        lambda a, r, x: (1 - a) * r,
        lambda a, r, x: a * r - r * r / 2,
        action_set=sj.Box(0.0, 1.0),
        response_set=sj.Constrained(lambda a, r, x: r - 5.0, box=sj.Box(0.0)),
    )
    half = jnp.array(0.1)
    found = sj.solve(game, action=half, response=half, context=None)
    np.testing.assert_allclose([found.action, found.response], [0.5, 0.5], atol=5e-3)
    assert found.converged
