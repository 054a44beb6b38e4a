import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj
from stackjax.repair._scale import sensitivity_scale
from stackjax.sets._empirical import ActionSet, ConvexHull, project


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
    with pytest.raises(ValueError, match=r"`action` must .* row .*\(3,\); got shape \(2,\)"):
        project(jnp.zeros(2), actions)
    with pytest.raises(ValueError, match="not finite"):
        project(jnp.array([0.0, jnp.inf, 0.0]), actions)
    with pytest.raises(ValueError, match=r"shape \(50, 3\)"):
        project(jnp.zeros((50, 3)), actions)


FEASIBLE = [
    (sj.Box(0.0, jnp.array([1.0, 0.5])), [2.0, 0.25], [1.0, 0.25], 1.0),
    (sj.Simplex(1.0), [1.0, 1.0], [0.5, 0.5], 0.5**0.5),
    (sj.Ball(0.0, 1.0), [3.0, 4.0], [0.6, 0.8], 4.0),
]


@pytest.mark.parametrize(("feasible", "action", "wanted", "distance"), FEASIBLE)
def test_sets_with_a_projection_of_their_own(feasible, action, wanted, distance):
    action = jnp.array(action)
    batch = jax.jit(jax.vmap(project, in_axes=(0, None)))(jnp.stack([action, 2 * action]), feasible)
    once = jax.jit(project)
    one = once(action, feasible)
    np.testing.assert_allclose(one.action, wanted, rtol=1e-6)
    np.testing.assert_allclose(one.distance, distance, rtol=1e-6)
    np.testing.assert_allclose(batch.action[0], wanted, rtol=1e-6)
    np.testing.assert_array_equal(batch.action[1], once(2 * action, feasible).action)
    assert one.index == -1 and one.weights is None and one.converged
    assert once(one.action, feasible).distance < 1e-6
    slope = jax.jit(jax.grad(lambda a: project(a, feasible).distance))(action)
    np.testing.assert_allclose(slope, (action - one.action) / one.distance, atol=1e-6)
    lost = once(jnp.array([jnp.nan, 0.2]), feasible)
    assert jnp.isfinite(lost.action).all() and jnp.isinf(lost.distance) and not lost.converged
    with pytest.raises(ValueError, match="`action` must be finite; 1 numbers"):
        project(jnp.array([jnp.nan, 0.2]), feasible)


def test_a_box_of_a_pytree_and_whole_numbers():
    found = project({"q": 3, "r": jnp.array([-1.0, 0.5])}, sj.Box(0.0, 1.0))
    assert found.action["q"] == 1.0
    np.testing.assert_array_equal(found.action["r"], [0.0, 0.5])
    np.testing.assert_allclose(found.distance, 5**0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong", [sj.Polyhedron(np.ones((1, 2)), np.ones(1)), np.ones((3, 2)), None]
)
def test_a_set_without_a_projection_is_refused(wrong):
    with pytest.raises(TypeError, match="must be an ActionSet, ConvexHull, Box, Simplex or Ball"):
        project(jnp.zeros(2), wrong)
    with pytest.raises(ValueError, match="empty"):
        project({}, sj.Box())


def test_a_sensitivity_scale_equalises_losses(x64):
    """A distance of 1 costs the same in each coordinate, in the mean square over the plays."""
    rng = np.random.default_rng(0)
    slopes = jnp.asarray(rng.normal(size=(200, 3)) * np.array([1.0, 30.0, 0.2]))
    actions = {
        "q": jnp.asarray(rng.uniform(size=200)),
        "r": jnp.asarray(rng.uniform(size=(200, 2))),
    }

    def utility(action, slope):
        return slope[0] * action["q"] + slope[1:] @ action["r"]

    scale = jax.jit(lambda s: sensitivity_scale(utility, actions, s, loss=0.1))(slopes)
    change = jax.jit(
        jax.vmap(
            lambda a, slope, step: (
                utility(jax.tree.map(jnp.add, a, step), slope) - utility(a, slope)
            ),
            in_axes=(0, 0, None),
        )
    )
    for moved in ({"q": 1.0, "r": jnp.zeros(2)}, {"q": 0.0, "r": jnp.array([0.0, 1.0])}):
        lost = change(actions, slopes, jax.tree.map(jnp.multiply, moved, scale))
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(lost))), 0.1, rtol=1e-6)
    batch = jax.jit(jax.vmap(lambda s: sensitivity_scale(utility, actions, s, loss=0.1)))(
        jnp.stack([slopes, 2 * slopes])
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[0], y), batch, scale)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(2 * x[1], y), batch, scale)


def test_second_order_sensitivity_at_an_optimum(x64):
    bend = jnp.array([[4.0, 1.0], [1.0, 100.0]])
    loss = lambda a: -0.5 * a @ bend @ a
    actions = jnp.zeros((5, 2))
    with pytest.raises(ValueError, match="every derivative is 0"):
        sensitivity_scale(loss, actions)
    scale = jax.jit(lambda a: sensitivity_scale(loss, a, order=2, loss=0.5))(actions)
    np.testing.assert_allclose(np.diag(np.diag(scale) @ bend @ np.diag(scale)) / 2, 0.5)
    rows = jnp.array([[0.3, 0.0], [0.0, 0.2]])  # lose 0.18, and 2.0
    nearest = jax.jit(lambda scale: project(jnp.zeros(2), ActionSet(rows, scale)).index)
    assert nearest(scale) == 0
    assert nearest(jnp.ones(2)) == 1


def test_a_flat_coordinate_gets_the_floor_and_traced_failures_get_a_default():
    utility = lambda a: 2.0 * a[0] + 0.0 * a[1]
    np.testing.assert_allclose(
        sensitivity_scale(utility, jnp.zeros((3, 2)), floor=0.01), [0.5, 50.0], rtol=1e-6
    )
    flat = jax.jit(lambda a: sensitivity_scale(lambda a: 0.0 * a[0], a))(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(flat, [1.0, 1.0])
    some = jnp.array([[1.0, 1.0], [0.0, 1.0]])  # the slope of the root is infinite at 0
    root = lambda a: jnp.sqrt(a[0]) + a[1]
    np.testing.assert_allclose(jax.jit(lambda a: sensitivity_scale(root, a))(some), [2.0, 1.0])
    with pytest.raises(ValueError, match="finite derivatives; got others at 1 of the plays"):
        sensitivity_scale(root, some)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "`loss` must .*; got 0", {"loss": 0.0}),
        (ValueError, "`order` must .*; got 3", {"order": 3}),
        (ValueError, "`floor` must .*; got 2", {"floor": 2.0}),
        (ValueError, "`actions` must hold at least one", {"actions": jnp.zeros((0, 2))}),
        (ValueError, "must share their leading axis", {"more": (jnp.zeros(4),)}),
        (TypeError, "floating point", {"actions": jnp.zeros((3, 2), int)}),
    ],
)
def test_bad_arguments_of_a_sensitivity_scale(error, message, call):
    actions, more = call.pop("actions", jnp.ones((3, 2))), call.pop("more", ())
    with pytest.raises(error, match=message):
        sensitivity_scale(lambda a, *_: a[0], actions, *more, **call)


def test_a_hull_and_its_rows_agree_where_the_nearest_is_a_row():
    rows = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    row, mixed = (project(jnp.array([3.0, 0.5]), kind(rows)) for kind in (ActionSet, ConvexHull))
    assert row.index == mixed.index == 1
    np.testing.assert_allclose(mixed.distance, row.distance, rtol=1e-6)
    assert row.converged and row.weights is None


def test_lists_instead_of_arrays_are_refused():
    for kind in (ActionSet, ConvexHull):
        with pytest.raises(TypeError, match="must hold rows that are arrays; got bare numbers"):
            project(jnp.zeros(2), kind([[0.0, 0.0], [1.0, 1.0]]))
