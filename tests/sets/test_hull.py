import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import nnls

from stackjax.sets._empirical import ConvexHull, project

GRID = np.array(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
RNG = np.random.default_rng(0)
ACTIONS = RNG.uniform(-1, 2, size=(60, 3))
onto = jax.jit(jax.vmap(project, in_axes=(0, None)))


def reference(action, points):
    """The nearest mixture by non-negative least squares, one row for the sum of the weights."""
    offset = points - action
    matrix = np.vstack([offset.T, np.ones(len(points))])
    weights, _ = nnls(matrix, np.append(np.zeros(len(action)), 1.0), maxiter=10_000)
    return weights / weights.sum() @ points


def check(found, hull, points, tol, scale: np.ndarray | float = 1.0):
    """The conditions of optimality, and that the parts agree with each other."""
    actions = np.asarray(found.action, float)
    assert found.converged.all()
    assert (found.weights >= 0).all()
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-6)
    mixed = (np.asarray(found.weights)[..., None] * np.asarray(hull)[found.rows]).sum(1)
    np.testing.assert_allclose(mixed, actions, atol=tol, rtol=tol)
    largest = found.rows[np.arange(len(actions)), found.weights.argmax(1)]
    np.testing.assert_array_equal(found.index, largest)
    moved = np.linalg.norm((actions - points) / scale, axis=1)
    np.testing.assert_allclose(found.distance, moved, rtol=tol, atol=tol)


SHAPES = {
    "grid": GRID,
    "cloud": RNG.uniform(size=(40, 3)),
    "duplicates": np.repeat(GRID, 3, axis=0),
    "one": np.array([[0.3, 0.2, 0.1]]),
    "equal": np.full((7, 3), 0.1),
    "two": GRID[[0, -1]],
    "line": RNG.uniform(size=(20, 1)) * np.array([1.0, 2.0, 3.0]),
    "nearly a line": RNG.uniform(size=(20, 1)) * np.array([1.0, 2.0, 3.0])
    + 1e-5 * RNG.normal(size=(20, 3)),
    "plane": RNG.uniform(size=(30, 2)) @ RNG.normal(size=(2, 3)),
    "clusters": np.concatenate([GRID, GRID + 1e-6 * RNG.normal(size=GRID.shape)]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_nearest_mixture_of_any_points(name):
    """The same points, repeated up to 120, so that all shapes share one program."""
    points = SHAPES[name]
    points = points[np.arange(120) % len(points)]
    wanted = np.stack([reference(a, points) for a in ACTIONS])
    with jax.enable_x64(True):
        found = onto(jnp.asarray(ACTIONS), ConvexHull(jnp.asarray(points)))
        np.testing.assert_allclose(found.action, wanted, atol=1e-9)
        check(found, points, ACTIONS, 1e-9)
    single = onto(jnp.asarray(ACTIONS, jnp.float32), ConvexHull(jnp.asarray(points, jnp.float32)))
    # A float32 cannot hold how far nearly equal points lie from a line or from each other.
    tol = {"nearly a line": 1e-2, "clusters": 1e-4}.get(name, 2e-6)
    np.testing.assert_allclose(single.action, wanted, atol=tol)
    check(single, points, ACTIONS, 1e-4)


def test_other_units_and_origins():
    """Far from the origin, far from the hull, tiny and huge."""
    hull, actions = GRID[np.arange(120) % 27], jnp.asarray(ACTIONS, jnp.float32)
    plain = onto(actions, ConvexHull(jnp.asarray(hull, jnp.float32)))
    for unit in (2.0**-40, 2.0**40):
        moved = onto(unit * actions, ConvexHull(jnp.asarray(unit * hull, jnp.float32)))
        np.testing.assert_array_equal(moved.action, unit * plain.action)
        np.testing.assert_array_equal(moved.distance, unit * plain.distance)
    found = onto(actions + 1024, ConvexHull(jnp.asarray(hull + 1024, jnp.float32)))
    assert found.converged.all()
    np.testing.assert_allclose(found.action - 1024, plain.action, atol=2e-4)
    far = onto(1e5 * (actions - 0.5), ConvexHull(jnp.asarray(hull, jnp.float32)))
    assert far.converged.all()
    corner = np.asarray(far.action)[(np.abs(ACTIONS - 0.5) > 1e-4).all(1)]
    np.testing.assert_allclose(corner, np.round(corner), atol=1e-6)


def test_in_many_dimensions_against_non_negative_least_squares():
    points, actions = RNG.uniform(size=(60, 9)), RNG.uniform(-0.5, 1.5, size=(10, 9))
    with jax.enable_x64(True):
        found = onto(jnp.asarray(actions), ConvexHull(jnp.asarray(points)))
        np.testing.assert_allclose(found.action, [reference(a, points) for a in actions], atol=1e-9)
        check(found, points, actions, 1e-9)


def test_inside_nothing_moves_and_projecting_twice_is_projecting_once():
    with jax.enable_x64(True):
        hull = ConvexHull(jnp.asarray(GRID[np.arange(120) % 27]))
        inside = jnp.asarray(RNG.uniform(size=(60, 3)))
        found = onto(inside, hull)
        assert (found.distance == 0).all()
        np.testing.assert_allclose(found.action, inside, atol=1e-15)
        once = onto(jnp.asarray(ACTIONS), hull)
        twice = onto(once.action, hull)
        np.testing.assert_allclose(twice.action, once.action, atol=1e-14)
        # of a box it is the clip
        np.testing.assert_allclose(once.action, np.clip(ACTIONS, 0, 1), atol=1e-14)


def test_a_scale_says_what_is_near(x64):
    scale = np.array([0.1, 1.0, 5.0])
    points = SHAPES["cloud"][np.arange(120) % 40]
    found = onto(jnp.asarray(ACTIONS), ConvexHull(jnp.asarray(points), jnp.asarray(scale)))
    unscaled = np.stack([reference(a, points / scale) for a in ACTIONS / scale])
    np.testing.assert_allclose(found.action, unscaled * scale, atol=1e-9)
    check(found, points, ACTIONS, 1e-9, scale)


def test_derivatives_against_finite_differences(x64):
    """In action, points and scale, on a vertex, an edge, a face and inside; of second order too."""
    points = jnp.array([[0.0, 0.0, 0.0], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.2, 0.2, 0.1]])
    places = jnp.array([[2.0, -1, -1], [0.4, -1, -1], [0.8, 2.3, 0.645], [0.2, 0.2, 0.2]])
    kept = [1, 2, 3, 4]
    scale = jnp.array([1.0, 2.0, 0.7])

    @jax.jit
    def value(theta, place):
        found = project(place + theta["a"], ConvexHull(points + theta["p"], scale * theta["s"]))
        return jnp.sin(jnp.arange(1, 4)) @ found.action**2 + found.distance**2

    theta = {"a": jnp.zeros(3), "p": jnp.zeros((5, 3)), "s": jnp.ones(3)}
    flat, unravel = ravel_pytree(theta)
    at = lambda x, place: value(unravel(x), place)
    first = jax.jit(jax.grad(at))
    along = jax.jit(lambda x, place, d: jax.jvp(lambda x: jax.grad(at)(x, place), (x,), (d,))[1])
    found = jax.jit(jax.vmap(project, in_axes=(0, None)))(places, ConvexHull(points, scale))
    assert found.weights is not None
    np.testing.assert_array_equal((found.weights > 0).sum(1), kept)
    for place, direction in zip(places, np.random.default_rng(0).normal(size=(4, len(flat)))):
        step = 1e-5 * direction
        slope = (at(flat + step, place) - at(flat - step, place)) / 2e-5
        np.testing.assert_allclose(first(flat, place) @ direction, slope, rtol=1e-6, atol=1e-8)
        bend = (first(flat + step, place) - first(flat - step, place)) / 2e-5
        found = along(flat, place, jnp.asarray(direction))
        np.testing.assert_allclose(found, bend, rtol=1e-5, atol=1e-6)


def test_one_and_a_batch_agree_on_pytrees():
    points = {"q": jnp.asarray(GRID[:9, 1]), "r": jnp.asarray(GRID[:9, 1:])}
    hull = ConvexHull(points, {"q": 2.0, "r": jnp.ones(2)})
    actions = {"q": jnp.array([0.3, 2.0]), "r": jnp.array([[0.2, -1.0], [0.5, 0.5]])}
    batch = onto(actions, hull)
    alone = jax.jit(project)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], actions)
        found = alone(one, hull)
        assert found.action["r"].shape == (2,)
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x, y[i], atol=1e-6),
            (found.action, found.distance),
            (batch.action, batch.distance),
        )


def test_no_batch_by_set_array_for_large_hulls():
    """With 4,096 points and 512 queries no array holds a number for each pair."""
    hull = ConvexHull(jnp.zeros((4096, 3)))
    lowered = jax.jit(jax.vmap(lambda a: project(a, hull))).lower(jnp.zeros((512, 3)))
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 512 * 4096 * 4 / 1.5


def test_what_is_not_finite_inside_jit():
    hull = jnp.asarray(GRID, jnp.float32)
    run = jax.jit(lambda a, points: project(a, ConvexHull(points)))
    for bad in (jnp.nan, jnp.inf):
        lost = run(jnp.array([bad, 0.9, 0.1]), hull)
        assert jnp.isinf(lost.distance)
        assert not lost.converged
        np.testing.assert_array_equal(lost.action, hull[0])
    assert not run(jnp.array([2.0, 0.9, 0.1]), hull.at[3, 1].set(jnp.nan)).converged


@pytest.mark.parametrize(
    ("points", "scale", "message"),
    [
        (np.zeros((0, 3)), None, "empty"),
        (np.array([[0.0, np.inf]]), None, "`points` must be finite; 1 numbers"),
        (np.zeros((2, 2)), np.array([1.0, -1.0]), "positive"),
        (np.zeros(()), None, "leading axis"),
    ],
)
def test_a_bad_hull_is_refused(points, scale, message):
    with pytest.raises(ValueError, match=message):
        ConvexHull(jnp.asarray(points), scale)


def test_a_bad_action_is_refused():
    hull = ConvexHull(jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"`action` must .* row .*\(3,\); got shape \(2,\)"):
        project(jnp.zeros(2), hull)
    with pytest.raises(ValueError, match="not finite"):
        project(jnp.array([0.0, jnp.nan, 0.0]), hull)
    with pytest.raises(ValueError, match="got shape"):
        project({"a": jnp.zeros(3)}, hull)
