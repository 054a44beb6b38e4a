"""Followers with constraints of their own: values, multipliers, derivatives, failures."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick, quick_jit

import stackjax as sj

D, M, P = 4, 6, 1  # response, inequalities, equalities
N = 64


def draw(key):
    """A random QP whose solution, multipliers and active set are known by construction.

    minimise r'Hr/2 + c'r  s.t.  A r <= b, E r = d: choose r, which rows are active and with what
    multipliers; then c, b and d follow from the optimality conditions.
    """
    keys = jax.random.split(key, 8)
    normal = lambda i, *shape: jax.random.normal(keys[i], shape, jnp.float64)
    root = normal(0, D, D)
    H, A, E, r = root @ root.T + jnp.eye(D), normal(1, M, D), normal(2, P, D), normal(3, D)
    active = jnp.arange(M) < jax.random.randint(keys[4], (), 0, D)
    price = jnp.where(active, 0.3 + jnp.abs(normal(5, M)), 0)
    slack = jnp.where(active, 0, 0.3 + jnp.abs(normal(6, M)))
    other = normal(7, P)
    data = {"H": H, "A": A, "E": E, "b": A @ r + slack, "d": E @ r}
    return data | {"c": -H @ r - A.T @ price - E.T @ other}, (r, price, other)


def utility(action, response, data):
    return -response @ data["H"] @ response / 2 - (data["c"] + action) @ response


def respond(data, action=0.0, solver=None):
    polyhedron = sj.Polyhedron(data["A"], data["b"], data["E"], data["d"])
    game = sj.Game(utility, utility, response_set=polyhedron)
    start = jnp.zeros(D, data["c"].dtype)
    return sj.best_response(game, action, data, response=start, solver=solver)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_known_active_sets(dtype, x64):
    data, (value, price, other) = jax.vmap(draw)(jax.random.split(jax.random.key(0), N))
    cast = jax.tree.map(lambda x: x.astype(dtype), data)
    answer = quick(jax.vmap(respond), cast)
    tol = 1e-8 if dtype == jnp.float64 else 2e-3
    assert answer.converged.all() and answer.value.dtype == dtype
    chex.assert_trees_all_close(answer.value, value.astype(dtype), atol=tol)
    scale = 1 + jnp.abs(price).max(axis=1, keepdims=True)
    assert np.max(np.abs(answer.multipliers.inequality - price) / scale) < 10 * tol
    assert np.max(np.abs(answer.multipliers.equality - other) / scale) < 10 * tol
    assert np.all(answer.degeneracy > 0.1)  # by construction it is at least 0.3
    assert answer.unique.all()


def test_derivatives_of_value_and_multipliers(x64):
    """In every array of the problem, first and second order, against central differences."""
    data, _ = jax.vmap(draw)(jax.random.split(jax.random.key(1), 8))
    direction = jax.tree.map(lambda x: jax.random.normal(jax.random.key(2), x.shape, x.dtype), data)

    def along(t, data, direction):
        moved = jax.tree.map(lambda x, v: x + t * v, data, direction)
        moved["H"] = (moved["H"] + moved["H"].T) / 2
        answer = respond(moved, solver=sj.InteriorPoint(tol=1e-12))
        prices = answer.multipliers
        return jnp.concatenate([answer.value, prices.inequality, prices.equality])

    def first(t, *problem):
        slope, value = jax.jacrev(lambda t: (along(t, *problem),) * 2, has_aux=True)(t)
        return slope, (slope, value)

    h = 1e-5
    run = quick_jit(jax.vmap(jax.jacfwd(first, has_aux=True), in_axes=(None, 0, 0)))
    twice, (once, _) = run(0.0, data, direction)
    (_, above), (_, below) = (run(s * h, data, direction) for s in (1, -1))
    for slope, up, down, tol in (
        (once, above[1], below[1], 1e-5),
        (twice, above[0], below[0], 1e-4),
    ):
        measured = (up - down) / (2 * h)
        assert np.max(np.abs(slope - measured)) < tol * np.max(np.abs(measured))


def disc(action, response, context):
    return [jnp.sum(response**2) - action, response[0] + response[1] - context]


def linear(action, response, context):
    return response @ jnp.array([1.0, 2.0])


coupled = sj.Game(linear, linear, response_set=sj.Constrained(disc))
on_disc = lambda a, x: sj.best_response(coupled, a, x, response=jnp.zeros(2))


def test_smooth_constraints_that_move_with_the_action(x64):
    """A linear utility on a disc of radius sqrt(a): r = sqrt(a / 5) (1, 2), price sqrt(5/4a)."""
    answer = on_disc(jnp.array(2.0), jnp.array(9.0))
    chex.assert_trees_all_close(answer.value, jnp.sqrt(0.4) * jnp.array([1.0, 2.0]), atol=1e-8)
    price = lambda a: jnp.sqrt(5 / (4 * a))
    chex.assert_trees_all_close(answer.multipliers.inequality[0], price(2.0), atol=1e-8)
    for jacobian in (jax.jacfwd, jax.jacrev):
        both = lambda a: (on_disc(a, 9.0).value, on_disc(a, 9.0).multipliers.inequality[0])
        slope = jacobian(both)(jnp.array(2.0))
        chex.assert_trees_all_close(slope, (answer.value / 4, jax.grad(price)(2.0)), atol=1e-7)
    second = jax.grad(jax.grad(lambda a: on_disc(a, 9.0).value[0]))(jnp.array(2.0))
    chex.assert_trees_all_close(second, -jnp.sqrt(0.4) / 16, atol=1e-6)


def test_eager_jit_vmap_and_a_failing_lane(x64):
    """An empty set (negative radius) fails alone: the others' values and gradients are theirs."""
    actions = jnp.array([2.0, -1.0, 0.5, jnp.nan])
    run = quick_jit(jax.vmap(jax.value_and_grad(lambda a: on_disc(a, 1.2).value[1])))
    values, slopes = run(actions)
    answers = quick(jax.vmap(lambda a: on_disc(a, 1.2)), actions)
    assert answers.converged.tolist() == [True, False, True, False]
    for i in (0, 2):
        alone = on_disc(actions[i], 1.2)
        chex.assert_trees_all_close(alone.value[1], values[i], rtol=1e-9)
        slope = jax.grad(lambda a: on_disc(a, 1.2).value[1])(actions[i])
        chex.assert_trees_all_close(slope, slopes[i], rtol=1e-7)
    assert not any(np.isnan(x).any() for x in jax.tree.leaves((values, slopes, answers.value)))


def test_distance_to_degeneracy_and_flat_directions(x64):
    """A constraint just touched; a face of best responses."""
    touched = sj.Game(
        linear,
        lambda a, r, x: -jnp.sum((r - a) ** 2),
        response_set=sj.Polyhedron(jnp.eye(2), jnp.ones(2)),
    )
    near = lambda a: sj.best_response(touched, jnp.array([a, 0.0]), None, response=jnp.zeros(2))
    chex.assert_trees_all_close(near(0.9).degeneracy, 0.1, atol=1e-7)  # slack
    chex.assert_trees_all_close(near(1.2).degeneracy, 0.4, atol=1e-7)  # price, 2 (1.2 - 1)
    assert near(1.0).degeneracy < 1e-4 and near(1.0).converged

    face = sj.Game(linear, lambda a, r, x: r[0] + r[1], response_set=sj.Constrained(
        lambda a, r, x: r[0] + r[1] - a, box=sj.Box(0.0, 3.0)))  # fmt: skip
    answer = sj.best_response(face, jnp.array(2.0), None, response=jnp.zeros(2))
    assert answer.converged and not answer.unique
    chex.assert_trees_all_close(jnp.sum(answer.value), 2.0, atol=1e-7)
    slope = jax.grad(
        lambda a: jnp.sum(sj.best_response(face, a, None, response=jnp.zeros(2)).value)
    )
    chex.assert_trees_all_close(slope(2.0), 1.0, atol=1e-6)


def test_ties_are_broken_as_told(x64):
    """On that face the leader prefers (0, 2); against it the follower takes (2, 0)."""
    face = sj.Game(linear, lambda a, r, x: r[0] + r[1], response_set=sj.Constrained(
        lambda a, r, x: r[0] + r[1] - a, box=sj.Box(0.0, 3.0)))  # fmt: skip
    for convention, wanted in (("optimistic", [0.0, 2.0]), ("pessimistic", [2.0, 0.0])):
        game = face.break_ties(convention)
        answer = sj.best_response(game, jnp.array(2.0), None, response=jnp.zeros(2))
        chex.assert_trees_all_close(answer.value, jnp.array(wanted), atol=1e-6)
        assert answer.converged and answer.unique
    with pytest.raises(ValueError, match="'optimistic' or 'pessimistic'; got 'hopeful'"):
        face.break_ties("hopeful")
    with pytest.raises(ValueError, match="`epsilon` must be a positive Python number; got 0"):
        face.break_ties("optimistic", epsilon=0)


@pytest.mark.parametrize("feasible", [sj.Simplex(2.0), sj.Ball(0.0, 2.0)], ids=["simplex", "ball"])
def test_projections_agree_with_the_solver(feasible, x64):
    """The nearest point, once by `project` and once as a best response, with its Jacobian."""
    nearest = sj.Game(linear, lambda a, r, x: -jnp.sum((r - a) ** 2) / 2, response_set=feasible)
    solve = lambda a: sj.best_response(nearest, a, None, response=jnp.zeros(3)).value
    points = 2 * jax.random.normal(jax.random.key(0), (16, 3))
    both = quick(jax.vmap(lambda a: (solve(a), jax.jacrev(solve)(a))), points)
    wanted = jax.vmap(lambda a: (feasible.project(a), jax.jacrev(feasible.project)(a)))(points)
    chex.assert_trees_all_close(both, wanted, atol=1e-6)


def test_one_trace_per_shape():
    calls = []

    def counted(action, response, context):
        calls.append(None)
        return linear(action, response, context) - jnp.sum(response**2)

    once = sj.Game(linear, counted, response_set=sj.Constrained(disc))
    traced = []
    for a in (1.0, 2.0, 3.0):
        sj.best_response(once, jnp.array(a), jnp.array(1.0), response=jnp.zeros(2))
        traced.append(len(calls))
    assert 0 < traced[0] == traced[1] == traced[2]


def test_errors():
    with pytest.raises(
        TypeError, match="Newton needs a Box for the response set; for a Constrained"
    ):
        sj.best_response(coupled, 1.0, 1.0, response=jnp.zeros(2), solver=sj.Newton())
    moving = sj.Polyhedron(jnp.array([[1.0], [-1.0]]), lambda a, x: jnp.stack([a, -a - x]))
    game = sj.Game(utility, lambda a, r, x: -jnp.sum(r**2), response_set=moving)
    sj.best_response(game, jnp.array(1.0), jnp.array(-1.0), response=jnp.zeros(1))
    with pytest.raises(
        ValueError, match="`game.response_set` is empty for this action and context"
    ):
        sj.best_response(game, jnp.array(1.0), jnp.array(1.0), response=jnp.zeros(1))
    with pytest.raises(ValueError, match="InteriorPoint: `max_steps` must be at least 1; got 0"):
        sj.InteriorPoint(max_steps=0)
    with pytest.raises(
        TypeError, match="InteriorPoint: `barrier` must be a Python number; got '1'"
    ):
        sj.InteriorPoint(barrier="1")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_empty_sets_are_never_converged_and_thin_ones_never_wrong(dtype, x64):
    """`a <= r0 + r1 <= b`: empty for a > b, without an interior for a = b."""
    band = sj.Constrained(lambda a, r, x: [x[0] - r[0] - r[1], r[0] + r[1] - x[1]])
    game = sj.Game(linear, lambda a, r, x: -jnp.sum((r - 1.0) ** 2), response_set=band)
    run = lambda x: sj.best_response(game, 0.0, x, response=jnp.zeros(2, dtype))
    ends = jnp.array([[0.5, 0.0], [7.0, -7.0], [1.0, 1.0], [0.0, 1.0], [3.0, 9.0]], dtype)
    answer = quick(jax.vmap(run), ends)
    assert answer.converged.tolist()[:2] == [False, False] and answer.converged[3:].all()
    assert np.isfinite(answer.value).all()
    wanted = jnp.array([[0.5, 0.5], [0.5, 0.5], [1.5, 1.5]], dtype)
    proven = np.asarray(answer.converged)
    assert np.abs(answer.value[2:] - wanted)[proven[2:]].max() < 1e-3


def test_units_of_the_utility_do_not_matter():
    """A linear utility on a simplex, float32: its best vertex, at any scale."""
    share = sj.Game(linear, lambda a, r, x: a * linear(a, r, x), response_set=sj.Simplex())
    run = quick_jit(lambda a: sj.best_response(share, a, None, response=jnp.full(2, 0.5)))
    for scale in (1e-6, 1e-3, 1e6):
        answer = run(jnp.float32(scale))
        assert answer.converged, scale
        chex.assert_trees_all_close(answer.value, jnp.array([0.0, 1.0]), atol=1e-4)


def test_a_pinned_coordinate_has_multipliers_of_the_right_sign(x64):
    pinned = sj.Game(linear, linear, response_set=sj.Box(jnp.array([1.0, 0.0]), jnp.ones(2)))
    prices = sj.best_response(pinned, 0.0, None, response=jnp.zeros(2)).multipliers
    chex.assert_trees_all_close(prices.upper, jnp.array([1.0, 2.0]))
    chex.assert_trees_all_close(prices.lower, jnp.zeros(2))
