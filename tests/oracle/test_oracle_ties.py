"""Followers with several best responses: what breaking ties picks, against all vertices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

CONVENTIONS = ("optimistic", "pessimistic")


def vertices(A, b):
    """All vertices of `A r <= b`, by solving every choice of n rows."""
    n, found = A.shape[1], []
    for rows in itertools.combinations(range(len(A)), n):
        part = A[list(rows)]
        if abs(np.linalg.det(part / np.abs(part).max(1)[:, None])) < 1e-9:
            continue
        r = np.linalg.solve(part, b[list(rows)])
        if (A @ r <= b + 1e-9 * np.abs(b).max()).all():
            found.append(r)
    return np.array(found)


def favourite(points, own, others, convention):
    """Of the follower's best points the one that the leader likes most, or least."""
    value = points @ own
    best = points[value >= value.max() - 1e-9 * np.abs(value).max() - 1e-300]
    liked = best @ others
    return best[liked.argmax() if convention == "optimistic" else liked.argmin()], len(best)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    "dtype,unit,money",
    [
        pytest.param(np.float32, 1.0, 1.0, marks=pytest.mark.slow),
        (np.float32, 1e3, 1.0),
        pytest.param(np.float64, 1e-3, 1e3, marks=pytest.mark.slow),
        pytest.param(np.float64, 1e3, 1e-3, marks=pytest.mark.slow),
    ],
)
def test_linear_follower_in_a_box(convention, dtype, unit, money):
    """Twelve random ones in four numbers, of which two leave it indifferent; starts at a corner."""
    rng = np.random.default_rng(0)
    low, high = unit * np.array([-0.5, 0.3, 2.0, -4.0]), unit * np.array([0.7, 0.9, 2.4, -1.0])
    own = rng.uniform(0.5, 2, (12, 4)) * rng.choice([-1, 1], (12, 4))
    own[np.arange(12), rng.integers(4, size=12)] = 0
    own[np.arange(12), rng.integers(4, size=12)] = 0
    others = rng.uniform(0.5, 2, (12, 4)) * rng.choice([-1, 1], (12, 4))
    corners = np.array(list(itertools.product(*zip(low, high))))
    with jax.enable_x64(dtype == np.float64):
        cast = lambda x: jnp.asarray(x, dtype)
        box = sj.Box(cast(low), cast(high))
        game = sj.Game(
            lambda a, r, x: money * (x @ r), lambda a, r, x: money * (a @ r), response_set=box
        ).break_ties(convention, epsilon=1e-3)
        answer = lambda a, x: sj.best_response(game, a, x, response=cast(low))
        found = jax.jit(jax.vmap(answer))(cast(own), cast(others))
        assert found.converged.all()
        for k in range(12):
            wanted, ties = favourite(corners, own[k], others[k], convention)
            assert ties >= 2
            np.testing.assert_allclose(found.value[k], wanted, rtol=1e-5, atol=1e-5 * unit)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(1.0, marks=pytest.mark.slow),
        1e3,
        pytest.param(1e-3, marks=pytest.mark.slow),
    ],
)
def test_linear_follower_on_a_face_of_a_polyhedron(x64, convention, unit):
    """The follower's slope is a row of A: the whole edge is best, and the leader has a say."""
    A = np.array([[1.0, 2.0], [3.0, -1.0], [-2.0, -1.0], [-0.5, 1.0]])
    b = unit * np.array([4.0, 5.0, 3.0, 1.5])
    points = vertices(A, b)
    slopes = A / np.linalg.norm(A, axis=1)[:, None]
    others = np.array([[0.7, 0.2], [-0.4, 0.9], [0.3, 1.1], [-1.0, -0.1]])
    game = sj.Game(
        lambda a, r, x: x @ r, lambda a, r, x: a @ r,
        response_set=sj.Polyhedron(jnp.asarray(A), jnp.asarray(b)),
    ).break_ties(convention, epsilon=1e-2)  # fmt: skip
    answer = lambda a, x: sj.best_response(game, a, x, response=jnp.zeros(2))
    found = jax.jit(jax.vmap(answer))(jnp.asarray(slopes), jnp.asarray(others))
    wanted = [favourite(points, slopes[k], others[k], convention) for k in range(4)]
    assert [ties for _, ties in wanted] == [2, 2, 2, 2]
    assert found.converged.all()
    np.testing.assert_allclose(found.value, [point for point, _ in wanted], atol=1e-4 * unit)


@pytest.mark.parametrize("unit", [1.0, 1e3])
def test_optimistic_follower_finds_the_best_point_inside_of_a_face(x64, unit):
    """One number does not matter to the follower; the leader wants it at 0.37 of the way."""
    low, high = np.array([-2.0, 1.0]) * unit, np.array([3.0, 5.0]) * unit
    goal = low[0] + 0.37 * (high[0] - low[0])
    game = sj.Game(
        lambda a, r, x: -(((r[0] - goal) / unit) ** 2) + r[1] / unit,
        lambda a, r, x: a * r[1] / unit,
        response_set=sj.Box(jnp.asarray(low), jnp.asarray(high)),
    ).break_ties("optimistic")
    for action, end in ((2.0, high[1]), (-2.0, low[1])):
        found = sj.best_response(game, action, None, response=jnp.asarray(low))
        assert found.converged and found.unique
        np.testing.assert_allclose(found.value, [goal, end], rtol=1e-6)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_unique_answer_moves_by_no_more_than_promised(x64, convention):
    """At most epsilon times the leader's slope over the follower's curvature: here exactly that."""
    epsilon, slope, curvature = 1e-3, 4.0, 0.5
    game = sj.Game(
        lambda a, r, x: slope * r, lambda a, r, x: -curvature * (r - a) ** 2 / 2
    ).break_ties(convention, epsilon=epsilon)
    found = sj.best_response(game, 7.0, None, response=jnp.array(0.0))
    sign = 1 if convention == "optimistic" else -1
    np.testing.assert_allclose(found.value - 7.0, sign * epsilon * slope / curvature, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_leader_at_the_edge_of_indifference(x64, convention):
    """The follower sells r in [0.5, 5] if the subsidy a >= 1.5; the leader gets 2 r - a.

    Optimistic: a = 1.5, all 5. Pessimistic: the supremum is the same, but a play must pay a little
    more than 1.5, by epsilon times the leader's slope 2; doing without gives 2 x 0.5 - 0 = 1.
    """
    epsilon = 1e-3
    game = sj.Game(
        lambda a, r, x: 2 * r - a, lambda a, r, x: (a - 1.5) * r,
        action_set=sj.Box(0.0, 4.0), response_set=sj.Box(0.5, 5.0),
    ).break_ties(convention, epsilon=epsilon)  # fmt: skip
    sign = 1 if convention == "optimistic" else -1
    edge = 1.5 - sign * 2 * epsilon
    below, above = (
        sj.best_response(game, edge + off, None, response=jnp.array(0.5)) for off in (-1e-4, 1e-4)
    )
    np.testing.assert_allclose([below.value, above.value], [0.5, 5.0], rtol=1e-9)
    found = sj.solve(game, action=jnp.array(3.0), response=jnp.array(1.0), context=None,
                     solver=sj.Complementarity())  # fmt: skip
    reached = 2 * found.response - found.action
    assert found.converged
    np.testing.assert_allclose(reached, 2 * 5.0 - edge, atol=1e-4)
