"""Inputs that once gave a wrong answer beside `converged`, each with the right answer by hand.

Every test tries to falsify one sentence: *what stands beside `converged` is the answer*. The right
answers are closed forms, written beside the inputs. Where a right answer cannot be asked for
(kinks, flat optima), not converged will do; where it can, it must be found.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

DTYPES = ("float32", "float64")
SLOW_DOUBLE = pytest.param("float64", marks=pytest.mark.slow)


@pytest.fixture(params=DTYPES)
def dtype(request):
    """Runs a test in both precisions."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def answers(answer, *batches):
    """One compiled program for all inputs of a test: value, derivative in the first, and report."""

    def both(*inputs):
        found = answer(*inputs)
        return found, jax.jacfwd(lambda first: answer(first, *inputs[1:]).value)(inputs[0])

    found, derivative = jax.jit(jax.vmap(both))(*batches)
    assert np.isfinite(found.value).all() and np.isfinite(derivative).all()
    return found, derivative


def follower_game(utility, response_set, **sets):
    """The leader does not matter here."""
    return sj.Game(utility, utility, response_set=response_set, **sets)


def tolerance(dtype):
    """Of a coordinate's unit: what rounding leaves of a well-conditioned problem, with room."""
    return 2e-3 if dtype == "float32" else 1e-6


def assert_right(found, right, dtype, unit: Any = 1.0):
    """Converged, and right to the dtype's tolerance of `unit`."""
    right = np.broadcast_to(right, found.value.shape)
    np.testing.assert_allclose(found.value / unit, right / unit, rtol=0, atol=tolerance(dtype))
    assert np.all(found.converged)


def assert_right_or_flagged(found, right, atol):
    """A flag will do instead of an answer."""
    wrong = np.asarray(found.converged) & (np.abs(np.asarray(found.value) - right) > atol)
    assert not wrong.any(), f"{found.value[wrong]} converged, right is {right}"


# S1. A coordinate that stops one rounding error short of its bound.


def test_a_step_to_a_bound_of_short_decimals_arrives(dtype):
    coupled = lambda a, r, x: a @ r - 0.5 * (r @ r) - 0.8 * r[0] * r[1]
    box = sj.Box(jnp.array([-0.5, -0.4]), jnp.array([0.7, 1.0]))
    game = follower_game(coupled, box)
    answer = lambda a, start: sj.best_response(game, a, None, response=start)
    starts = jnp.array([(0.05, -0.05), (-0.5, 1.0), (0.7, -0.4), (0.7, 1.0), (3.0, -7.0)])
    found, jacobian = answers(answer, jnp.tile(jnp.array([1.8, 4.4]), (5, 1)), starts)
    assert_right(found, np.array([0.7, 1.0]), dtype)
    np.testing.assert_array_equal(jacobian, 0.0)  # held by both bounds


# S2. One small step is no proof.


def test_a_logarithm_is_not_solved_by_one_small_step(dtype):
    game = follower_game(lambda a, r, x: jnp.log(r) - a * r, sj.Box(1e-6, 10.0))  # r = 1 / a
    answer = lambda a, start: sj.best_response(game, a, None, response=start)
    found, slope = answers(answer, jnp.ones(5), jnp.array([0.0, 1e-6, 1e-3, 1.0, 10.0]))
    assert_right(found, 1.0, dtype)
    np.testing.assert_allclose(slope, -1.0, rtol=10 * tolerance(dtype))


def test_a_leader_before_a_logarithm(dtype):
    game = sj.Game(
        lambda a, r, x: -((r - 0.5) ** 2),
        lambda a, r, x: jnp.log(r) - a * r,
        action_set=sj.Box(0.5, 4.0),
        response_set=sj.Box(1e-6, 10.0),
    )
    found = sj.solve(game, action=jnp.array(1.0), response=jnp.array(0.0), context=None)
    np.testing.assert_allclose([found.action, found.response], [2.0, 0.5], atol=5e-3)
    assert found.converged


def test_an_inflection_is_no_maximum(dtype):
    game = follower_game(lambda a, r, x: (r - a) ** 3, sj.Box(-1.0, 1.0))
    answer = lambda a, start: sj.best_response(game, a, None, response=start)
    found, slope = answers(answer, jnp.full(5, 0.25), jnp.array([-1.0, 0.0, 0.25, 0.5, 1.0]))
    assert_right_or_flagged(found, 1.0, 1e-6)
    np.testing.assert_array_equal(slope[found.converged], 0.0)


def test_a_kink_is_right_or_flagged(dtype):
    # The slopes 1 and -1 of |r - a| outweigh 2e5 |a - 1| <= 0.6: the answer is the kink, r = a.
    kinked = lambda a, r, x: -jnp.abs(r - a) - 1e5 * (r - 1.0) ** 2
    game = follower_game(kinked, sj.Box(0.0, 2.0))
    answer = lambda a, start: sj.best_response(game, a, None, response=start)
    a, start = np.meshgrid([1.000002, 1.0, 0.999997], [0.0, 1.0, 2.0])
    a = jnp.asarray(a.ravel(), float)
    found, slope = answers(answer, a, jnp.asarray(start.ravel(), float))
    assert_right_or_flagged(found, np.asarray(a), 1e-6)
    np.testing.assert_allclose(slope[found.converged], 1.0, rtol=1e-3)


@pytest.mark.parametrize("box", [(0.0, 10.0), (None, None)])
def test_a_quartic_is_right_to_a_ten_thousandth_or_flagged(dtype, box):
    game = follower_game(lambda a, r, x: -((r - a) ** 4), sj.Box(*box))
    answer = lambda a, start: sj.best_response(game, a, None, response=start)
    found, _ = answers(answer, jnp.ones(5), jnp.array([0.0, 0.9, 1.0, 2.0, 10.0]))
    assert_right_or_flagged(found, 1.0, 1e-4)


# S3. A positive multiple of a utility is the same game.


@pytest.mark.parametrize("dtype", ["float32", SLOW_DOUBLE], indirect=True)
def test_the_unit_of_a_linear_follower(dtype):
    game = sj.Game(
        lambda a, r, x: -r,
        lambda a, r, x: x * r,
        action_set=sj.Box(0.0, 5.0),
        response_set=sj.Box(0.0, 1.0),
    )
    half = jnp.array(0.5)
    answer = lambda x: sj.solve(
        game, action=half, response=half, context=x, solver=sj.Complementarity()
    )
    units = jnp.array([1e-4, 1e-3, 1e-2, 1.0, 1e4]) ** (2 if dtype == "float64" else 1)
    found = jax.jit(jax.vmap(answer))(units)
    np.testing.assert_allclose(found.response, 1.0, atol=tolerance(dtype))
    assert found.converged.all()


@pytest.mark.parametrize("dtype", ["float32", SLOW_DOUBLE], indirect=True)
def test_the_unit_of_a_leader_with_many_hills(dtype):
    # sin(3 l) + l / 10 on [0, 10]: cos(3 l) = -1 / 30, the last hill at 8.9121, the end is lower.
    game = sj.Game(
        lambda a, r, x: x * (jnp.sin(3 * r) + 0.1 * r),
        lambda a, r, x: -((r - a) ** 2),
        action_set=sj.Box(0.0, 10.0),
        response_set=sj.Box(0.0, 10.0),
    )
    one = jnp.array(1.0)
    answer = lambda x: sj.solve(
        game, action=one, response=one, context=x, starts=8, solver=sj.Newton()
    )
    found = jax.jit(jax.vmap(answer))(jnp.array([1e-4, 1e-3, 1e-2, 1.0, 1e4]))
    np.testing.assert_allclose(found.response, (np.arccos(-1 / 30) + 8 * np.pi) / 3, atol=1e-2)
    assert found.converged.all()


# S4. The unit of the response.


def micro(a, r, x):
    return a @ r - 0.5e6 * r @ r


@pytest.mark.parametrize("dtype", ["float32", SLOW_DOUBLE], indirect=True)
def test_a_simplex_of_a_millionth(dtype):
    game = follower_game(micro, sj.Simplex(total=1e-6))
    answer = lambda a: sj.best_response(game, a, None, response=jnp.zeros(2))
    found, jacobian = answers(answer, jnp.array([[1.0, 1.5], [1.0, 1.0], [5.0, 1.0]]))
    assert_right(found, np.array([[0.25e-6, 0.75e-6], [0.5e-6, 0.5e-6], [1e-6, 0.0]]), dtype, 1e-6)
    inside = np.array([[0.5e-6, -0.5e-6], [-0.5e-6, 0.5e-6]])
    np.testing.assert_allclose(jacobian, [inside, inside, 0 * inside], rtol=1e-3, atol=1e-12)


def test_a_small_ball_from_its_centre(dtype):
    """At the centre the sphere has no normal: a search must not end where it began."""
    Q, c = (
        jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 2.0]]),
        jnp.array([-0.4, 0.4, 0.4]),
    )
    u = lambda a, r, x: a @ r - r @ Q @ r / 2
    size = 1e-3
    game = follower_game(u, sj.Ball(radius=0.7 * size))
    answer = jax.jit(lambda a: sj.best_response(game, a, None, response=jnp.zeros(3)))
    assert_right(answer(c * size), np.array([-0.4, 0.4, 0.4]) * size, dtype, size)


@pytest.mark.parametrize("dtype", ["float32", SLOW_DOUBLE], indirect=True)
def test_a_budget_of_a_millionth(dtype):
    box = sj.Box(0.0, 2e-6)
    budget = sj.Polyhedron(jnp.ones((1, 2)), jnp.array([1e-6]), box=box)
    game = follower_game(micro, budget)
    found = jax.jit(lambda a: sj.best_response(game, a, None, response=jnp.zeros(2)))(jnp.ones(2))
    assert_right(found, np.array([0.5e-6, 0.5e-6]), dtype, 1e-6)
    np.testing.assert_allclose(found.multipliers.inequality, [0.5], rtol=5e-3)


def test_a_logarithm_of_tiny_units(dtype):
    utility = lambda a, r, x: a * jnp.log(1e-7 + r) - 1e6 * r  # r = a / 1e6 - 1e-7
    game = follower_game(utility, sj.Box(0.0, None))
    answer = lambda a: sj.best_response(game, a, None, response=jnp.array(0.0))
    found, slope = answers(answer, a := jnp.array([0.5, 1.0, 20.0]))
    right = np.asarray(a) * 1e-6 - 1e-7
    assert_right(found, right, dtype, right)
    np.testing.assert_allclose(slope, 1e-6, rtol=10 * tolerance(dtype))


# S5. An empty set has no answer.


@pytest.mark.parametrize("dtype", ["float32", SLOW_DOUBLE], indirect=True)
def test_two_rows_that_contradict_are_never_solved(dtype):
    def answer(gap, start):
        rows = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
        ends = jnp.stack([1.0 - gap, -1.0 - gap])
        game = follower_game(lambda a, r, x: -0.5 * r @ r, sj.Polyhedron(rows, ends))
        return sj.best_response(game, 0.0, None, response=start)

    gaps = jnp.array([5e-4, 1e-3, 1e-2, 0.1, 1.0])
    starts = jnp.stack([jnp.zeros(2), jnp.full(2, 0.5), jnp.array([5.0, -5.0])])
    found = jax.jit(jax.vmap(jax.vmap(answer, (0, None)), (None, 0)))(gaps, starts)
    assert not found.converged.any(), found.converged
    assert np.isfinite(found.value).all()


@pytest.mark.slow
def test_a_box_that_contradicts_a_row_is_never_solved(dtype):
    def answer(gap):
        one = sj.Polyhedron(jnp.ones((1, 2)), -gap[None], box=sj.Box(0.0, 1.0))
        game = follower_game(lambda a, r, x: jnp.ones(2) @ r - 0.5 * r @ r, one)
        return sj.best_response(game, 0.0, None, response=jnp.zeros(2))

    found = jax.jit(jax.vmap(answer))(jnp.array([1e-3, 1e-2, 0.1]))
    assert not found.converged.any(), found.converged


# S6. A utility that changes.


class Environment:
    price = 1.0

    def utility(self, action, response, context):
        return -((response - self.price) ** 2)


def test_an_attribute_that_changes_is_noticed_or_refused():
    env = Environment()
    answer = lambda: (
        sj.best_response(
            sj.Game(env.utility, env.utility), 0.0, None, response=jnp.array(0.0)
        ).value
    )
    try:
        first = answer()
        env.price = 2.0
        second = answer()
    except (TypeError, ValueError):
        return  # refused, with a sentence
    np.testing.assert_allclose([first, second], [1.0, 2.0], atol=1e-3)
