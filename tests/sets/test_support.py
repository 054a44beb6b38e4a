"""The maximiser of a linear utility over each set, against its corners and a grid of directions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

SLOPE = jnp.array([0.5, -1.0, 0.25])


def test_of_a_box_it_is_the_best_corner():
    low, high = jnp.array([-1.0, 0.5, 2.0]), jnp.array([1.0, 0.75, 5.0])
    found = sj.Box(low, high).support_point(SLOPE)
    corners = np.array(list(itertools.product(*zip(low.tolist(), high.tolist()))))
    np.testing.assert_array_equal(found, corners[np.argmax(corners @ np.asarray(SLOPE))])
    np.testing.assert_array_equal(sj.Box(low, high).support_point(0 * SLOPE), (low + high) / 2)
    assert sj.Box(0.0).support_point(SLOPE).tolist() == [np.inf, 0.0, np.inf]


def test_of_a_simplex_it_is_the_whole_total_at_the_largest_slope():
    slopes = {"a": jnp.stack([SLOPE, -SLOPE]), "b": SLOPE[:2]}
    found = sj.Simplex({"a": jnp.array([1.0, 2.0]), "b": 3.0}).support_point(slopes)
    np.testing.assert_array_equal(found["a"], [[1.0, 0, 0], [0, 2.0, 0]])
    np.testing.assert_array_equal(found["b"], [3.0, 0])


@pytest.mark.parametrize("size", [1.0, 1e30, 1e-30])
def test_of_a_ball_it_is_on_the_sphere(size):
    ball = sj.Ball(jnp.array([1.0, 2.0, 3.0]), 2.0)
    found = ball.support_point(size * SLOPE)
    right = np.array([1.0, 2.0, 3.0]) + 2 * np.asarray(SLOPE) / np.linalg.norm(SLOPE)
    np.testing.assert_allclose(found, right, rtol=1e-6)
    assert ball.support_point(jnp.zeros(3)).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("feasible", [sj.Box(-1.0, 2.0), sj.Simplex(2.0), sj.Ball(0.5, 2.0)])
def test_it_is_feasible_and_best_of_many(feasible):
    """Better than 300 projected points, at 20 slopes, in a batch."""
    slopes, others = (jax.random.normal(jax.random.key(i), (n, 3)) for i, n in ((0, 20), (1, 300)))
    found = jax.jit(jax.vmap(feasible.support_point))(slopes)
    assert jax.vmap(lambda r: feasible.contains(r, tol=1e-5))(found).all()
    inside = jax.vmap(feasible.project)(5 * others)
    assert (slopes @ inside.T <= jnp.sum(slopes * found, -1)[:, None] + 1e-5).all()


def test_what_has_none_says_so():
    class Half(sj.Box):
        def residuals(self, point, action, response, context):
            return jnp.atleast_1d(point.sum() - 1), jnp.zeros(0, point.dtype)

    class Named(sj.Box):
        pass

    assert Named.has_support and not Half.has_support and not sj.Polyhedron.has_support
    with pytest.raises(NotImplementedError, match="Polyhedron has no closed form"):
        sj.Polyhedron(jnp.ones((1, 3)), jnp.ones(1)).support_point(SLOPE)
