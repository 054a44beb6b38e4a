"""The feasible sets: projections, residuals, membership, structure, wrong input."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import stackjax as sj
from stackjax.sets import Box, FeasibleSet
from stackjax.sets._arguments import ravel
from stackjax.sets._linear_program import satisfiable

SHAPES = {"a": (2, 3), "b": (2,)}  # three simplices, eight numbers
PROJECTABLE = ["box", "simplex", "ball"]


def derivatives(f):
    """`f`'s first and second derivatives along a direction, beside central differences."""
    step = 1e-5

    @jax.jit
    def compare(x, key):
        x, unravel = ravel_pytree(x)
        flat = lambda x: f(*unravel(x))
        slope = jax.grad(flat)
        along = jax.random.normal(key, x.shape)
        central = lambda f: (f(x + step * along) - f(x - step * along)) / (2 * step)
        push = lambda f: jax.jvp(f, (x,), (along,))[1]
        first = jnp.stack([push(flat), slope(x) @ along])
        return (first, push(slope)), (jnp.broadcast_to(central(flat), 2), central(slope))

    def check(x, seed=0):
        exact, differences = compare(x, jax.random.key(seed))
        chex.assert_trees_all_close(exact, differences, rtol=1e-6, atol=1e-7)

    return check


project = jax.jit(lambda feasible, y: feasible.project(y))
project_each = jax.jit(jax.vmap(lambda feasible, y: feasible.project(y), in_axes=(None, 0)))
contains = jax.jit(lambda feasible, y, tol: feasible.contains(y, tol=tol))


def tree_of(numbers, dtype=None):
    """Eight numbers along the last axis as a point."""
    numbers = jnp.asarray(numbers, dtype)
    lead = numbers.shape[:-1]
    return {
        "a": numbers[..., :6].reshape(*lead, 2, 3),
        "b": numbers[..., 6:].reshape(*lead, 2),
    }


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float)


def make(kind, rng, dtype=None) -> tuple[Any, np.ndarray]:
    """A set whose every array is a leaf, and eight numbers in it."""
    array = lambda x: jnp.asarray(x, dtype)
    u, v = rng.uniform(-3, 3, size=(2, 8))
    if kind == "box":
        lower, upper = np.minimum(u, v), np.maximum(u, v)
        sets = sj.Box(tree_of(lower, dtype), tree_of(upper, dtype))
        return sets, lower + rng.uniform(size=8) * (upper - lower)
    if kind == "simplex":
        totals = np.abs(u[:3]) + 0.1
        shares = [t * rng.dirichlet(np.ones(k)) for t, k in zip(totals, (3, 3, 2))]
        return sj.Simplex({"a": array(totals[:2]), "b": array(totals[2])}), np.concatenate(shares)
    radius = abs(v[0]) + 0.1
    inside = u + radius * rng.uniform() * v / np.linalg.norm(v)
    return sj.Ball(tree_of(u, dtype), array(radius)), inside


eight = st.lists(st.floats(-10, 10, width=32), min_size=8, max_size=8)


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", PROJECTABLE)
@settings(derandomize=True, deadline=None, max_examples=40)
@given(eight, eight, st.integers(0, 2**31))
def test_projection(kind, double, y, other, seed):
    """Feasible, idempotent, non-expansive, and closest: no feasible point lies beyond it."""
    with jax.enable_x64(double):
        eps = 1e-12 if double else 1e-5
        dtype = jnp.float64 if double else jnp.float32
        feasible, sample = make(kind, np.random.default_rng(seed), dtype)
        assert contains(feasible, tree_of(sample, dtype), 10 * eps)
        y, other = tree_of(y, dtype), tree_of(other, dtype)
        at, at_other = project(feasible, y), project(feasible, other)
        chex.assert_trees_all_equal_shapes_and_dtypes(at, y)
        assert contains(feasible, at, 10 * eps)
        chex.assert_trees_all_close(project(feasible, at), at, atol=10 * eps)
        distance = lambda one, two: np.linalg.norm(flat(one) - flat(two))
        assert distance(at, at_other) <= distance(y, other) + 10 * eps
        assert distance(at, y) <= np.linalg.norm(sample - flat(y)) + 10 * eps
        assert (flat(y) - flat(at)) @ (sample - flat(at)) <= 300 * eps


@pytest.mark.parametrize("kind", PROJECTABLE)
def test_batch_equals_loop_equals_eager(kind):
    rng = np.random.default_rng(0)
    feasible, _ = make(kind, rng)
    points = tree_of(rng.normal(size=(5, 8)) * 4)
    batch = project_each(feasible, points)
    for i in range(5):
        one = jax.tree.map(lambda x, i=i: x[i], (batch, points))
        chex.assert_trees_all_close(one[0], project(feasible, one[1]), rtol=1e-6, atol=1e-6)
        chex.assert_trees_all_close(one[0], feasible.project(one[1]), rtol=1e-6, atol=1e-6)


check_projection = derivatives(lambda s, y: jnp.sin(jnp.arange(8)) @ ravel(s.project(y)) ** 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", PROJECTABLE)
def test_derivatives_of_the_projection(kind, seed, x64):
    """In the point and in the set's own arrays, to second order, away from kinks."""
    rng = np.random.default_rng(seed)
    feasible, _ = make(kind, rng)
    y = tree_of(rng.normal(size=8) * 4)
    at = feasible.project(y)
    if kind == "box":
        gaps = np.concatenate([flat(y) - flat(feasible.lower), flat(y) - flat(feasible.upper)])
    elif kind == "simplex":
        threshold = jax.tree.map(lambda y, p: jnp.max(y - p, -1, keepdims=True), y, at)
        gaps = flat(jax.tree.map(jnp.subtract, y, threshold))
    else:
        gaps = np.linalg.norm(flat(y) - flat(feasible.center)) - feasible.radius
    assert np.abs(gaps).min() > 1e-3
    check_projection((feasible, y), seed)


def test_derivative_in_a_set_has_no_need_to_be_a_set():
    """A gradient's numbers may be zero, negative, or a lower above an upper."""
    y = jnp.array([-1.0, -2.0, 0.5])
    slope = jax.grad(lambda feasible: jnp.sum(feasible.project(y)))
    found = slope(sj.Box(0.0, 1.0))
    assert (found.lower, found.upper) == (2.0, 0.0)
    found = jax.grad(lambda feasible: -jnp.sum(feasible.project(y)))(sj.Simplex(1.0))
    np.testing.assert_allclose(found.total, -1.0)


def test_projections_far_out_and_at_the_centre():
    far = jnp.array([1e25, 0.0, -1e25])
    chex.assert_trees_all_close(
        sj.Ball(radius=2.0).project(far), jnp.array([2**0.5, 0.0, -(2**0.5)]), rtol=1e-6
    )
    far = jnp.array([1e6, 1e6 - 0.5, 0.0])
    chex.assert_trees_all_close(sj.Simplex().project(far), jnp.array([0.75, 0.25, 0.0]))
    centre = jnp.ones(3)
    chex.assert_trees_all_equal(jax.jacobian(sj.Ball(1.0, 2.0).project)(centre), jnp.eye(3))
    masked = jnp.array([0.0, -jnp.inf, 0.5])
    chex.assert_trees_all_close(sj.Simplex().project(masked), jnp.array([0.25, 0.0, 0.75]))
    for feasible in (sj.Box(0.0, 1.0), sj.Simplex(), sj.Ball()):
        lost = feasible.project(jnp.array([jnp.nan, 0.0]))
        assert np.isnan(lost).any() and not feasible.contains(lost)


def test_simplex_of_several_leading_axes():
    totals = jnp.array([[1.0], [2.0]])
    simplex = sj.Simplex(totals)
    y = jax.random.normal(jax.random.key(0), (2, 3, 4))
    at = simplex.project(y)
    chex.assert_trees_all_close(at.sum(-1), jnp.broadcast_to(totals, (2, 3)), rtol=1e-6)
    assert simplex.contains(at, tol=1e-6) and not simplex.contains(1.1 * at, tol=1e-6)
    inequality, equality = simplex.residuals(y, None, y, None)
    assert inequality.shape == (0,) and equality.shape == (6,)
    lower, upper = simplex.bounds(y)
    assert (lower == 0).all() and (upper == totals[..., None]).all()
    batch = jax.vmap(lambda s, y: s.project(y))(sj.Simplex(totals[:, 0]), y)
    chex.assert_trees_all_close(batch, at)


def test_batch_of_balls():
    balls = sj.Ball(jnp.zeros((2, 3)), jnp.array([1.0, 2.0]))
    at = jax.vmap(lambda ball, y: ball.project(y))(balls, jnp.full((2, 3), 9.0))
    chex.assert_trees_all_close(jnp.linalg.norm(at, axis=1), balls.radius, rtol=1e-6)
    chex.assert_trees_all_equal(balls, jax.vmap(sj.Ball)(balls.center, balls.radius))


def cap(action, response, context):
    return [jnp.sum(response) + action - context, -response]


def within(action, response, context):
    return {"norm": jnp.sum(response**2) - action}


A, b = jnp.array([[1.0, 1.0], [-1.0, 2.0]]), jnp.array([1.0, 1.0])
limit = lambda action, context: jnp.stack([action, context])
BOX = sj.Box(0.0, 1.0)
R = jnp.array([0.25, 0.5])


@pytest.mark.parametrize(
    ("feasible", "inside", "outside", "play"),
    [
        (sj.Box(0.0, 1.0), [0.0, 1.0], [0.0, 1.1], {}),
        (sj.Simplex(0.75), R, [0.5, 0.5], {}),
        (sj.Simplex(0.75), R, [-0.25, 1.0], {}),
        (sj.Ball(0.25, 0.5), R, [0.6, 0.7], {}),
        (sj.Polyhedron(A, b), R, [0.6, 0.5], {}),
        (sj.Polyhedron(E=A[:1], d=[0.75], box=BOX), R, [-0.25, 1.0], {}),
        (sj.Polyhedron(E=A[:1], d=[0.75], box=BOX), R, [0.25, 0.25], {}),
        (sj.Polyhedron(A, limit), R, [0.25, 0.75], {"action": 0.8, "context": 1.0}),
        (sj.Polyhedron(lambda a, x: a * A, b), R, [0.25, 0.75], {"action": 1.1}),
        (sj.Constrained(cap), R, [0.5, 0.5], {"action": 0.2, "context": 1.0}),
        (sj.Constrained(equality=within), R, [0.5, 0.5], {"action": 0.3125}),
        (sj.Constrained(within, box=BOX), R, [-0.1, 0.0], {"action": 1.0}),
    ],
)  # fmt: skip
def test_responses_that_are_in_and_out(feasible, inside, outside, play):
    play = jax.tree.map(jnp.asarray, play)
    inside, outside = jnp.asarray(inside), jnp.asarray(outside)
    ask = jax.jit(lambda feasible, r, play: feasible.contains(r, **play, tol=1e-6))
    assert ask(feasible, inside, play) and not ask(feasible, outside, play)
    assert feasible.contains(inside, **play, tol=1e-6)
    both = jax.vmap(ask, in_axes=(None, 0, None))(feasible, jnp.stack([inside, outside]), play)
    assert both.tolist() == [True, False]
    assert not feasible.contains(jnp.full(2, jnp.nan), **play, tol=1e-6)


def test_actions_that_are_in_and_out():
    """In an action set the point is the action; with tolerance 0, bounds are met exactly."""
    leader = sj.Constrained(cap)
    action = jnp.array(0.25)
    assert leader.contains(action, response=R, context=1.0)
    assert not leader.contains(action, response=R, context=0.99)
    leader = sj.Polyhedron(jnp.ones((1, 1)), lambda action, context: context[None])
    assert leader.contains(action, response=R, context=jnp.array(0.25))
    assert not leader.contains(action, response=R, context=jnp.array(0.2))
    assert not sj.Constrained(cap).contains(R, action=0.5, response=2 * R, context=1.0)


def test_residuals_are_vectors_in_the_dtype_of_the_point():
    point = {"a": jnp.ones(2), "b": jnp.full((), 2.0)}
    sets = {
        (0, 0): sj.Box(),
        (1, 0): sj.Ball(),
        (2, 1): sj.Polyhedron(np.ones((2, 3)), np.full(2, 5), jnp.ones((1, 3)), jnp.full(1, 4)),
        (5, 1): sj.Constrained(
            lambda a, r, x: (r["a"], {"s": 1.0, "m": jnp.ones((1, 2))}), lambda a, r, x: r["b"]
        ),
    }
    for dtype in (jnp.float32, jnp.bfloat16):
        y = jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), point)
        for sizes, feasible in sets.items():
            found = feasible.residuals(y, None, y, None)
            assert tuple(x.shape for x in found) == tuple((n,) for n in sizes)
            assert all(x.dtype == dtype for x in found)
            chex.assert_trees_all_equal_shapes_and_dtypes(y, *feasible.bounds(y))
    np.testing.assert_allclose(sets[1, 0].residuals(point, None, point, None)[0], [2.5])
    np.testing.assert_allclose(sets[2, 1].residuals(point, None, point, None)[0], [-1, -1])


def test_residuals_can_be_differentiated(x64):
    """In the point and in the sets' arrays."""
    y = jnp.array([0.3, 0.9])
    check = derivatives(
        lambda feasible, y: sum(jnp.sum(jnp.sin(x)) for x in feasible.residuals(y, y[0], y, y[1]))
    )
    sets = (
        sj.Simplex(2.0),
        sj.Ball(jnp.array([0.1, 0.2]), 0.7),
        sj.Polyhedron(A, limit, jnp.ones((1, 2)), jnp.array([0.1])),
        sj.Constrained(cap, within),
    )
    for feasible in sets:
        check((jax.tree.map(lambda x: jnp.asarray(x, float), feasible), y))


class Threshold(nnx.Module):
    def __init__(self):
        self.level = nnx.Param(jnp.array(1.0))

    def __call__(self, action, response, context):
        return jnp.sum(response) - self.level


class Normalised(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))

    def __call__(self, *play):
        return jnp.zeros(1)


@pytest.mark.parametrize(
    ("feasible", "leaves"),
    [
        (sj.Box(0.0, jnp.ones(2)), 2),
        (sj.Simplex(), 1),
        (sj.Ball(), 2),
        (sj.Polyhedron(A, limit, box=BOX), 3),
        (sj.Constrained(cap, within, box=BOX), 2),
        (sj.Constrained(Threshold()), 1),
    ],
)
def test_a_set_is_a_pytree_of_its_arrays(feasible, leaves):
    assert isinstance(feasible, FeasibleSet)
    found, structure = jax.tree.flatten(feasible)
    assert len(found) == leaves
    again = jax.tree.map(lambda x: x, feasible)
    assert jax.tree.structure(again) == structure and type(again) is type(feasible)
    placeholders = jax.tree.unflatten(structure, [object()] * leaves)  # as jax.vmap does
    assert jax.tree.structure(placeholders) == structure
    doubled = jax.jit(lambda feasible: jax.tree.map(lambda x: 2 * x, feasible))(feasible)
    chex.assert_trees_all_close(jax.tree.leaves(doubled), [2 * x for x in found])
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(again)]
    assert all(hasattr(feasible, path.split(".")[1].split("[")[0]) for path in paths)
    game = sj.Game(within, within, response_set=feasible)
    assert len(jax.tree.leaves(game)) == leaves


def test_functions_are_static_and_modules_are_not():
    traced = []

    @jax.jit
    def ask(feasible, r):
        traced.append(feasible)
        return feasible.residuals(r, jnp.ones(()), r, jnp.ones(()))[0]

    for scale in (1.0, 2.0):
        ask(sj.Constrained(cap), scale * R)
        ask(sj.Polyhedron(scale * A, limit), R)
    assert len(traced) == 2
    assert sj.Polyhedron(A, limit).b is limit and traced[0].inequality is cap
    module = Threshold()
    slope = jax.grad(lambda feasible: ask(feasible, R)[0])(sj.Constrained(module))
    assert slope.inequality.level[...] == -1.0
    assert sj.Box(0.0, 1.0).replace(upper=2.0) == sj.Box(0.0, 2.0)


def test_sets_built_under_a_trace():
    """Nothing is checked there, and nothing breaks."""
    y = jnp.array([2.0, 3.0])
    build = {
        "box": lambda t: sj.Box(-t, t).project(y),
        "simplex": lambda t: sj.Simplex(t).project(y),
        "ball": lambda t: sj.Ball(t - 1, t).project(y),
        "polyhedron": lambda t: sj.Polyhedron(t * A, [t, 1.0]).residuals(y, t, y, t)[0],
    }
    for name, at in build.items():
        batch = jax.jit(jax.vmap(at))(jnp.array([1.0, 2.0]))
        chex.assert_trees_all_close(batch[1], at(2.0), rtol=1e-6, custom_message=name)
    many = jax.vmap(sj.Polyhedron)(jnp.stack([A, A]), jnp.stack([b, 2 * b]))
    rest = jax.vmap(lambda feasible: feasible.residuals(y, None, y, None)[0])(many)
    chex.assert_trees_all_close(rest, jnp.stack([A @ y - b, A @ y - 2 * b]))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0.05, 10), st.sampled_from([1e-3, 1.0, 1e3]))
def test_emptiness(seed, gap, unit):
    """A polyhedron around a known point has one; two half spaces turned apart have none."""
    rng = np.random.default_rng(seed)
    A, r = rng.normal(size=(5, 3)), rng.normal(size=3) * unit
    E = rng.normal(size=(2, 3))
    low, high = r - unit, r + unit
    assert satisfiable(A, A @ r, E, E @ r, low, high)
    single = lambda *arrays: [np.asarray(x, np.float32) for x in arrays]
    A, b, E, d = single(A, A @ r + rng.exponential(size=5) * unit, E, E @ r)
    assert satisfiable(A, b, E, d, low, high)
    turned = np.vstack([A, -A[0]]), np.append(b, -b[0] - gap * unit)
    assert not satisfiable(*turned, E[:0], d[:0], low, high)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    beyond = direction @ r + (3**0.5 + gap) * unit
    assert not satisfiable(A[:0], b[:0], direction[None], np.array([beyond]), low, high)


def test_thin_polyhedra_are_not_called_empty():
    """Where rows repeat each other, rounding to float32 makes equalities contradict."""
    sj.Polyhedron(E=jnp.array([[0.1, 0.2], [0.3, 0.6]]), d=jnp.array([300.1, 900.3]))
    sj.Polyhedron(jnp.array([[0.1, 0.7], [-0.3, -2.1]]), jnp.array([1e4, -3e4]))
    sj.Polyhedron([[1e-9, 0.0]], [-1.0])
    sj.Polyhedron([[0.0, 0.0]], [0.0])


def test_nonempty_given_the_play():
    feasible = sj.Polyhedron([[1.0, 1.0]], lambda action, context: action + context, box=BOX)
    play = lambda a, x: (R, jnp.array([a]), jnp.array([x]))
    assert feasible.nonempty(*play(0.5, 0.0)) is True
    assert feasible.nonempty(*play(0.5, -1.0)) is False
    tree = {"a": jnp.zeros(1), "b": jnp.zeros(())}
    narrow = feasible.replace(box=sj.Box({"a": 0.5, "b": 1.0}, 2.0))
    assert narrow.nonempty(tree, *play(1.0, 0.5)[1:])
    assert not narrow.nonempty(tree, *play(1.0, 0.0)[1:])


nan, inf = float("nan"), float("inf")
two = jnp.ones(2)
wrong: Any = sj  # what follows is ill-typed on purpose


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: wrong.Simplex(0.0), ValueError, r"Simplex: `total` must be positive.*got 0\.0"),
        (lambda: wrong.Simplex(jnp.array([1.0, -2.0])), ValueError, r"Simplex: .*got -2\.0"),
        (lambda: wrong.Simplex(nan), ValueError, "Simplex: .*got nan"),
        (lambda: wrong.Simplex(inf), ValueError, "Simplex: .*got inf"),
        (lambda: wrong.Simplex("1"), TypeError, "Simplex: `total` must hold numbers; got '1'"),
        (lambda: wrong.Simplex(True), TypeError, "Simplex: `total` must hold numbers; got True"),
        (lambda: wrong.Simplex(None), TypeError, "Simplex: `total` must hold numbers; got None"),
        (lambda: wrong.Ball(radius=0.0), ValueError, r"Ball: `radius` must be positive; got 0\.0"),
        (lambda: wrong.Ball(radius=inf), ValueError, "Ball: `radius` must be finite; got inf"),
        (lambda: wrong.Ball(nan), ValueError, "Ball: `center` must be finite; got nan"),
        (lambda: wrong.Ball(1j), TypeError, "Ball: `center` must hold numbers; got 1j"),
        (lambda: wrong.Ball(radius=None), TypeError, "Ball: `radius` must hold numbers; got None"),
        (lambda: wrong.Box(np.array(["a"])), TypeError, "Box: `lower` must hold numbers"),
        (lambda: wrong.Polyhedron(), ValueError, "Polyhedron: give `A` and `b`, or.*use Box"),
        (lambda: wrong.Polyhedron(A), ValueError, "Polyhedron: `A` was given without `b`"),
        (lambda: wrong.Polyhedron(b=b), ValueError, "Polyhedron: `b` was given without `A`"),
        (lambda: wrong.Polyhedron(E=A), ValueError, "Polyhedron: `E` was given without `d`"),
        (lambda: wrong.Polyhedron(A, b, d=b), ValueError, "Polyhedron: `d` was given without `E`"),
        (lambda: wrong.Polyhedron("A", b), TypeError, "Polyhedron: `A` must hold numbers; got 'A'"),
        (lambda: wrong.Polyhedron([[1.0], [1.0, 2.0]], b), TypeError,
         "Polyhedron: `A` must be one array"),
        (lambda: wrong.Polyhedron(b, b), ValueError,
         r"Polyhedron: `A` must have shape \[m, n\] with n the size of the point; got \(2,\)"),
        (lambda: wrong.Polyhedron(A, jnp.ones(3)), ValueError,
         r"Polyhedron: `b` must have shape \[2\], one number for each row of `A`; got \(3,\)"),
        (lambda: wrong.Polyhedron(limit, A), ValueError, r"`b` must have shape \[m\].*\(2, 2\)"),
        (lambda: wrong.Polyhedron(A, b, jnp.ones((1, 3)), two[:1]), ValueError,
         r"Polyhedron: `E` must have shape \[p, n\] with n = 2 the size of.*got \(1, 3\)"),
        (lambda: wrong.Polyhedron(E=A, d=1.0), ValueError, r"`d` must have shape \[2\].*got \(\)"),
        (lambda: wrong.Polyhedron(nan * A, b), ValueError, "Polyhedron: `A` must be finite"),
        (lambda: wrong.Polyhedron(A, inf * b), ValueError, "Polyhedron: `b` must be finite"),
        (lambda: wrong.Polyhedron(A, b, box=3), TypeError, "Polyhedron: `box` must be a .*got int"),
        (lambda: wrong.Polyhedron(Normalised(), b), ValueError, "`Polyhedron.A` holds state"),
        (lambda: wrong.Polyhedron([[1.0], [-1.0]], [0.5, -0.6]), ValueError,
         "Polyhedron: it is empty, no point satisfies"),
        (lambda: wrong.Polyhedron([[-1.0, -1.0]], [-2.1], box=BOX), ValueError, "it is empty"),
        (lambda: wrong.Polyhedron(E=[[1.0, 1.0]], d=[3.5], box=sj.Box(None, jnp.array([1.0, 2.0]))),
         ValueError, "it is empty"),
        (lambda: wrong.Constrained(), ValueError, "Constrained: give `inequality` or.*use Box"),
        (lambda: wrong.Constrained(3.0), TypeError,
         "Constrained: `inequality` must be callable as inequality.action.*got float"),
        (lambda: wrong.Constrained(equality=[cap]), TypeError, "`equality` must be.*got list"),
        (lambda: wrong.Constrained(cap, box=None), TypeError, "Constrained: `box`.*got NoneType"),
        (lambda: wrong.Constrained(Normalised()), ValueError,
         "`Constrained.inequality` holds state that is not a parameter"),
    ],
)  # fmt: skip
def test_wrong_sets(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("feasible", "point", "error", "message"),
    [
        (sj.Simplex(), jnp.array(1.0), ValueError, r"Simplex: .*last axis.*leaf of shape \(\)"),
        (sj.Simplex(), jnp.zeros((2, 0)), ValueError, r"Simplex: .*last axis.*\(2, 0\)"),
        (sj.Simplex(two), jnp.zeros((3, 2)), ValueError,
         r"Simplex: `total` of shape \(2,\) does not broadcast to the leading axes of.*\(3, 2\)"),
        (sj.Simplex({"a": 1.0}), two, ValueError, "Simplex: the structure of `total`.*prefix"),
        (sj.Ball(jnp.zeros(3)), two, ValueError,
         r"Ball: `center` of shape \(3,\) does not broadcast to a point of shape \(2,\)"),
        (sj.Ball(radius=two), two, ValueError, r"Ball: `radius` must be one number.*\(2,\)"),
        (sj.Polyhedron(A, b), jnp.zeros(3), ValueError,
         r"Polyhedron: `A` must have shape \[m, n\] with n = 3 the size of the po.*got \(2, 2\)"),
        (sj.Polyhedron(lambda a, x: A[0], b), two, ValueError, r"Polyhedron: `A` .*got \(2,\)"),
        (sj.Polyhedron(A, lambda a, x: A[0, 0]), two, ValueError, r"Polyhedron: `b` .*got \(\)"),
        (sj.Polyhedron(A, lambda a, x: None), two, TypeError, "Polyhedron: `b` must be one array"),
        (sj.Polyhedron(A, lambda a, x: 1j * b), two, TypeError, "Polyhedron: `b` must hold num"),
        (sj.Constrained(lambda a, r, x: jnp.arange(2)), two, TypeError,
         "Constrained: `inequality` must return floating-point numbers; it returned dtype int32"),
        (sj.Constrained(cap, lambda a, r, x: r[0] <= 1), two, TypeError,
         "Constrained: `equality` must return.*dtype bool"),
        (sj.Constrained(lambda a, r, x: None), two, TypeError,
         "Constrained: `inequality` must return numbers; it returned None"),
    ],
)  # fmt: skip
def test_sets_that_do_not_fit_their_point_or_play(feasible, point, error, message):
    with pytest.raises(error, match=message):
        feasible.contains(point, action=1.0, context=1.0)


def test_what_has_no_projection():
    for feasible in (sj.Polyhedron(A, b), sj.Constrained(cap)):
        name = type(feasible).__name__
        assert not feasible.projectable
        with pytest.raises(NotImplementedError, match=f"{name} has no cheap Euclidean projection"):
            feasible.project(two)
    assert all(s.projectable for s in (Box, sj.Simplex, sj.Ball))
