import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stackjax._actions import ActionSet, project


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.uniform(size=(50, 3)), jnp.float32)


@pytest.mark.parametrize("count", [1, 27, 1024, 1025, 5000])
def test_against_brute_force_eager_jit_vmap(count, points):
    rows = jnp.asarray(np.random.default_rng(count).uniform(size=(count, 3)), jnp.float32)
    actions = ActionSet(rows)
    squares = ((np.asarray(points)[:, None] - np.asarray(rows)) ** 2).sum(-1)
    batch = jax.jit(jax.vmap(lambda a: project(a, actions)))(points)
    np.testing.assert_array_equal(batch.index, squares.argmin(1))
    np.testing.assert_allclose(batch.distance, np.sqrt(squares.min(1)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(batch.action, rows[batch.index])
    eager = project(points[3], actions)
    np.testing.assert_array_equal(eager.index, batch.index[3])
    np.testing.assert_allclose(eager.distance, batch.distance[3], rtol=1e-6)


@pytest.mark.parametrize("count", [9, 3000])
def test_idempotent_and_ties_to_the_first(count, points):
    draws = np.random.default_rng(2).uniform(size=(count, 3))
    rows = (np.round(4 * draws) / 4).astype(np.float32)
    actions = ActionSet(jnp.asarray(rows))
    once = jax.vmap(lambda a: project(a, actions))(points)
    twice = jax.vmap(lambda a: project(a, actions))(once.action)
    np.testing.assert_array_equal(twice.action, once.action)
    assert (twice.distance == 0).all()
    first = [np.flatnonzero((rows == a).all(1))[0] for a in np.asarray(once.action)]
    np.testing.assert_array_equal(twice.index, first)


def test_tie_between_different_rows():
    actions = ActionSet(jnp.array([[1.0], [0.0]]))
    assert project(jnp.array([0.5]), actions).index == 0


def test_scale_changes_what_is_near():
    rows = jnp.array([[1.0, 0.0], [0.0, 0.4]])
    query = jnp.zeros(2)
    assert project(query, ActionSet(rows)).index == 1
    scaled = project(query, ActionSet(rows, scale=jnp.array([10.0, 0.1])))
    assert scaled.index == 0
    np.testing.assert_allclose(scaled.distance, 0.1, rtol=1e-6)


def test_pytree_of_actions():
    actions = ActionSet({"q": jnp.array([0.0, 1.0]), "r": jnp.array([[0.0, 0.0], [1.0, 1.0]])})
    found = project({"q": jnp.array(0.9), "r": jnp.array([0.8, 0.1])}, actions)
    assert found.index == 1
    assert found.action["r"].shape == (2,)


def test_distance_has_a_finite_gradient_at_a_recorded_action():
    actions = ActionSet(jnp.array([[0.0, 0.0], [1.0, 1.0]]))
    slope = jax.grad(lambda a: project(a, actions).distance)
    assert jnp.isfinite(slope(jnp.zeros(2))).all()
    np.testing.assert_allclose(slope(jnp.array([0.3, 0.0])), [1.0, 0.0], atol=1e-6)


def test_no_batch_by_set_array_for_large_sets():
    """With 4,096 rows and 512 queries the program's largest array is a chunk of the set."""
    rows = ActionSet(jnp.zeros((4096, 3)))
    lowered = jax.jit(jax.vmap(lambda a: project(a, rows))).lower(jnp.zeros((512, 3)))
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 512 * 4096 * 4 / 1.5


def test_a_traced_set_and_a_nan_inside_jit():
    rows = jnp.array([[0.0, 0.0], [1.0, 1.0]])
    run = jax.jit(lambda a, rows: project(a, ActionSet(rows)))
    assert run(jnp.array([0.9, 0.9]), rows).index == 1
    lost = run(jnp.array([jnp.nan, 0.9]), rows)
    assert jnp.isinf(lost.distance)
    assert jnp.isfinite(lost.action).all()


@pytest.mark.parametrize(
    ("rows", "scale", "message"),
    [
        (np.zeros((0, 3)), None, "empty"),
        (np.array([[0.0, np.nan]]), None, "1 numbers are not finite"),
        (np.zeros((2, 2)), np.array([1.0, 0.0]), "positive"),
        (np.float32(3.0) * np.ones(()), None, "leading axis"),
        ({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, None, "common leading axis"),
    ],
)
def test_a_bad_set_is_refused(rows, scale, message):
    with pytest.raises(ValueError, match=message):
        ActionSet(jax.tree.map(jnp.asarray, rows), scale)


def test_a_bad_action_is_refused():
    actions = ActionSet(jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"shape \(2,\), a row of the action set has \(3,\)"):
        project(jnp.zeros(2), actions)
    with pytest.raises(ValueError, match="not finite"):
        project(jnp.array([0.0, jnp.inf, 0.0]), actions)
    with pytest.raises(ValueError, match=r"shape \(50, 3\)"):
        project(jnp.zeros((50, 3)), actions)
