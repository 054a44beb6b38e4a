"""The method of multipliers: closed forms, random programs, units, failures, transport plans."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import shapes
from quick import quick, quick_jit

import stackjax as sj
from experiments.transport.references import entropic as sinkhorn

SOLVER = sj.solvers.AugmentedLagrangian()


def near_peak(action, response, data):
    """Minus half the squared distance to a peak, in any unit of utility and response."""
    away = response / data["length"] - data["peak"] - action
    return -data["worth"] * away @ away / 2


ROWS = sj.Constrained(
    lambda a, r, x: x["rows"] * (x["A"] @ (r / x["length"]) - x["b"]),
    lambda a, r, x: x["rows"] * (x["E"] @ (r / x["length"]) - x["d"]),
)


def nearest(data, action=0.0):
    """The point of `A r <= b, E r = d, r >= lower` nearest to the peak; `[3]`, two rows each."""
    box = sj.Box(lower=data["lower"] * data["length"])
    feasible = sj.Constrained(ROWS.inequality, ROWS.equality, box=box)
    game = sj.Game(near_peak, near_peak, response_set=feasible)
    start = data["length"] * data["start"]
    return sj.best_response(game, action, data, response=start, solver=SOLVER)


def case(**given):
    """A problem without constraints, but for those given."""
    data = {
        "peak": [3.0, 1.0, -1.0], "start": [0.2, 0.3, 0.5], "lower": -1e3, "length": 1.0,
        "worth": 1.0, "rows": 1.0, "A": np.zeros((2, 3)), "b": [1.0, 1.0], "E": np.zeros((2, 3)),
        "d": [0.0, 0.0],
    }  # fmt: skip
    return jax.tree.map(np.asarray, {**data, **given}, is_leaf=lambda x: isinstance(x, list))


def one_row(*row):
    return np.stack([np.array(row, float), np.zeros(3)])


SIMPLEX = {"E": one_row(1, 1, 1), "d": [1.0, 0.0], "lower": 0.0}
# name: (problem, nearest point, multipliers of the inequalities and the equalities)
CLOSED = {
    "hyperplane": (case(E=one_row(1, 2, 2), d=[-6.0, 0.0]), [2, -1, -3], [0, 0], [1, 0]),
    "simplex": (case(**SIMPLEX), [1, 0, 0], [0, 0], [2, 0]),
    "face of it": (case(**SIMPLEX, peak=[0.6, 0.5, -2.0]), [0.55, 0.45, 0], [0, 0], [0.05, 0]),
    "active": (case(A=one_row(0, 1, 0), b=[-2.0, 1.0]), [3, -2, -1], [3, 0], [0, 0]),
    "inactive": (case(A=one_row(0, 1, 0), b=[2.0, 1.0]), [3, 1, -1], [0, 0], [0, 0]),
    "both": (
        case(A=np.array([[1.0, 0, 0], [0, 1, 0]]), b=[1.0, 5.0], E=one_row(0, 1, 1), d=[2.0, 0]),
        [1, 2, 0], [2, 0], [-1, 0],
    ),
}  # fmt: skip
UNITS = {"rows": {"rows": 1e3}, "worth": {"worth": 1e-3}, "length": {"length": 100.0}}
UNITS["all"] = {"rows": 1e-5, "worth": 1e6, "length": 1e-4}
TWICE = np.array([[1.0, 1, 1], [2, 2, 2]])
FAILING = {
    "empty": case(E=TWICE, d=[1.0, 5.0]),
    "empty beside a bound": case(A=one_row(1, 1, 1), b=[-1.0, 1.0], lower=0.0),
    "not a number": case(peak=[np.nan, 1.0, 1.0]),
}
REPEATED = {
    "equality": case(E=TWICE, d=[1.0, 2.0], lower=0.0),
    "inequality": case(A=TWICE, b=[1.0, 2.0], lower=0.0),
}


@functools.cache
def answers(dtype):
    """Everything above in one batch: its answers, and the derivatives of the nearest points."""
    cases = [problem for problem, *_ in CLOSED.values()]
    cases += [{**CLOSED["both"][0], **unit} for unit in UNITS.values()]
    cases += [*FAILING.values(), *REPEATED.values()]
    batch = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), dtype), *cases)
    loss = lambda data: (nearest(data).value @ jnp.arange(1, 4, dtype=dtype),) * 2
    one = lambda data: (nearest(data), jax.grad(lambda data: loss(data)[0])(data))
    run = quick_jit(jax.vmap(one))
    names = [*CLOSED, *UNITS, *FAILING, *REPEATED]
    return names, batch, run(batch)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_closed_forms(dtype, x64):
    _, _, (found, _) = answers(dtype)
    tol = 1e-9 if dtype == jnp.float64 else 1e-4
    for i, (_, point, inequality, equality) in enumerate(CLOSED.values()):
        assert found.converged[i]
        assert np.allclose(found.value[i], point, atol=tol)
        assert np.allclose(found.multipliers.inequality[i], inequality, atol=tol)
        assert np.allclose(found.multipliers.equality[i], equality, atol=tol)
        assert found.residual[i] < tol and found.curvature[i] > 0.99
    assert found.value.dtype == dtype
    simplex = jax.tree.map(lambda x: x[1], found)
    assert np.allclose(simplex.multipliers.lower, [0, 1, 3], atol=tol)
    assert np.isclose(simplex.degeneracy, 1, atol=tol)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_derivatives_of_closed_forms(dtype, x64):
    """A projection's derivative is that onto the face: `slope = P weights`, and so on."""
    names, _, (_, slopes) = answers(dtype)
    weights, at = np.array([1.0, 2, 3]), names.index
    tol = 1e-9 if dtype == jnp.float64 else 1e-3
    normal = np.array([1.0, 2, 2]) / 3
    peak = slopes["peak"]
    assert np.allclose(peak[at("hyperplane")], weights - normal * (normal @ weights), atol=tol)
    assert np.allclose(slopes["d"][at("hyperplane")][0], normal @ weights / 3, atol=tol)
    assert np.allclose(peak[at("face of it")], [-0.5, 0.5, 0], atol=tol)
    assert np.allclose(slopes["d"][at("face of it")][0], 1.5, atol=tol)
    assert np.allclose(peak[at("active")], [1, 0, 3], atol=tol)
    assert np.allclose(slopes["b"][at("active")], [2, 0], atol=tol)
    assert np.allclose(peak[at("inactive")], weights, atol=tol)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_units_change_neither_answer_nor_flag(dtype, x64):
    names, batch, (found, slopes) = answers(dtype)
    tol = 1e-9 if dtype == jnp.float64 else 2e-4
    plain = names.index("both")
    for name in UNITS:
        i = names.index(name)
        scale = {unit: batch[unit][i] for unit in ("rows", "worth", "length")}
        assert found.converged[i] and np.isclose(found.curvature[i], found.curvature[plain])
        assert np.allclose(found.value[i] / scale["length"], found.value[plain], atol=tol)
        price = found.multipliers.inequality[i] * scale["rows"] / scale["worth"]
        assert np.allclose(price, found.multipliers.inequality[plain], atol=tol)
        slope = slopes["peak"][i] / scale["length"]
        assert np.allclose(slope, slopes["peak"][plain], atol=tol)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_failures_are_flagged_and_stay_in_their_lane(dtype, x64):
    names, _, (found, slopes) = answers(dtype)
    chex.assert_tree_all_finite((found.value, found.multipliers, slopes))
    for name in FAILING:
        assert not found.converged[names.index(name)]
        assert found.residual[names.index(name)] > 1e-3
    lost = names.index("not a number")
    assert np.isposinf(found.residual[lost]) and not np.any(slopes["b"][lost])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_repeated_rows_are_right_where_they_are_not_flagged(dtype, x64):
    names, _, (found, slopes) = answers(dtype)
    tol = 1e-9 if dtype == jnp.float64 else 1e-4
    for name, total in (("equality", 2.0), ("inequality", 2.0)):
        i = names.index(name)
        assert found.converged[i]
        assert np.allclose(found.value[i], [1, 0, 0], atol=tol)
        # Which of them has the price is open; what they exert together is not.
        prices = getattr(found.multipliers, name)[i]
        assert np.isclose(prices @ np.array([1.0, 2]), total, atol=tol)
        assert np.allclose(slopes["peak"][i], 0, atol=tol)


def smooth(action, response, x):
    """Strongly concave and not quadratic."""
    away = response - x * jnp.array([1.0, -0.5, 0.3, 0.8]) - action
    return -away @ away / 2 - jnp.sum(jnp.exp(response * x)) - jnp.sum(response) ** 4 / 10


CURVED = sj.Constrained(
    lambda a, r, x: {"ball": r @ r - 0.4 * x, "far": r[0] - 9.0},
    lambda a, r, x: jnp.sin(r[0]) + r[1] - 0.1 * a,
    box=sj.Box(-0.5, 0.3),
)


def test_agrees_with_the_interior_point_method(x64):
    """Curved constraints: value, multipliers and degeneracy, first and second derivatives."""

    def run(solver, action, x):
        def parts(action, x):
            game = sj.Game(smooth, smooth, response_set=CURVED)
            found = sj.best_response(game, action, x, response=jnp.zeros(4), solver=solver)
            prices = found.multipliers
            rows = [
                prices.lower,
                prices.upper,
                *map(jnp.ravel, (prices.inequality, prices.equality)),
            ]
            return jnp.concatenate([found.value, *rows]), found

        def first(action, x):
            slopes, found = jax.jacrev(parts, (0, 1), has_aux=True)(action, x)
            return slopes, (slopes, found)

        return jax.jacfwd(first, has_aux=True)(action, x)

    point = jnp.array(0.9), jnp.array(0.6)
    mine, wanted = (quick(functools.partial(run, s), *point) for s in (SOLVER, sj.InteriorPoint()))
    (found, other), prices = (run[1][1] for run in (mine, wanted)), mine[1][1].multipliers
    assert found.converged and other.converged
    assert prices.inequality[0] > 0.1 and np.count_nonzero(prices.lower + prices.upper) == 1
    chex.assert_trees_all_close(found.value, other.value, atol=1e-9)
    chex.assert_trees_all_close(prices, other.multipliers, atol=1e-8)
    chex.assert_trees_all_close(found.degeneracy, other.degeneracy, atol=1e-8)
    chex.assert_trees_all_close(mine[1][0], wanted[1][0], atol=1e-7)
    chex.assert_trees_all_close(mine[0], wanted[0], atol=1e-5)
    assert np.abs(mine[0][0]).max() > 1e-2


D, M = 4, 6


def drawn(rng):
    """A quadratic program whose active rows and multipliers are known: see test_constrained."""
    root, A, E, r = (rng.normal(size=s) for s in ((D, D), (M, D), (1, D), (D,)))
    H, active = root @ root.T + np.eye(D), np.arange(M) < rng.integers(0, D)
    price = np.where(active, 0.3 + np.abs(rng.normal(size=M)), 0)
    other = rng.normal(size=1)
    b = A @ r + np.where(active, 0, 0.3 + np.abs(rng.normal(size=M)))
    c = -H @ r - A.T @ price - E.T @ other
    return {"H": H, "c": c, "A": A, "b": b, "E": E, "d": E @ r}, active


def on_active(data, active):
    """Solution and multipliers by numpy, the active rows known: one linear system."""
    rows = np.concatenate([data["E"], data["A"][active]])
    right = np.concatenate([-data["c"], data["d"], data["b"][active]])
    matrix = np.block([[data["H"], rows.T], [rows, np.zeros((len(rows),) * 2)]])
    w = np.linalg.solve(matrix, right)
    price = np.zeros(M)
    price[active] = w[D + 1 :]
    return np.concatenate([w[:D], price, w[D : D + 1]])


def test_random_quadratic_programs_and_their_derivatives(x64):
    """In every array of a Polyhedron, against numpy and its central differences."""
    rng = np.random.default_rng(0)
    problems, active = zip(*(drawn(rng) for _ in range(16)))
    ways = [jax.tree.map(lambda x: rng.normal(size=x.shape), p) for p in problems]
    for way in ways:
        way["H"] = way["H"] + way["H"].T

    def along(t, data, way):
        x = jax.tree.map(lambda x, v: x + t * v, data, way)
        quadratic = lambda a, r, _: -r @ x["H"] @ r / 2 - x["c"] @ r
        rows = sj.Polyhedron(x["A"], x["b"], x["E"], x["d"])
        game = sj.Game(quadratic, quadratic, response_set=rows)
        found = sj.best_response(game, None, None, response=jnp.zeros(D), solver=SOLVER)
        prices = found.multipliers
        return jnp.concatenate([found.value, prices.inequality, prices.equality]), found

    def first(t, *problem):
        slope, found = jax.jacrev(along, has_aux=True)(t, *problem)
        return slope, (slope, found)

    run = quick_jit(jax.vmap(jax.jacfwd(first, has_aux=True), in_axes=(None, 0, 0)))
    stack = lambda trees: jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *trees)
    twice, (once, found) = run(0.0, stack(problems), stack(ways))
    assert found.converged.all() and found.unique.all() and found.degeneracy.min() > 0.1
    for i, (data, way) in enumerate(zip(problems, ways)):
        h = 1e-4
        at = lambda t, data=data, way=way, i=i: on_active(
            {name: data[name] + t * way[name] for name in data}, active[i]
        )
        mine = np.concatenate([
            found.value[i], found.multipliers.inequality[i], found.multipliers.equality[i]
        ])  # fmt: skip
        scale = 1 + np.abs(at(0.0)).max()
        assert np.abs(mine - at(0.0)).max() < 1e-9 * scale
        slope = (at(h) - at(-h)) / (2 * h)
        assert np.abs(once[i] - slope).max() < 1e-4 * (1 + np.abs(slope).max())
        bend = (at(h) - 2 * at(0.0) + at(-h)) / h**2
        assert np.abs(twice[i] - bend).max() < 1e-3 * (1 + np.abs(bend).max())


def test_a_transport_plan_of_900_numbers(x64):
    """Entropic, 30 by 30, against Sinkhorn's iterations; its gradient against their differences."""
    n, heat, rng = 30, 0.1, np.random.default_rng(0)
    supply, demand = rng.uniform(0.5, 1.5, (2, n))
    demand *= supply.sum() / demand.sum()
    cost, weights, way = rng.uniform(0, 1, (n, n)), *rng.normal(size=(2, n, n))
    plans = sj.Constrained(
        equality=lambda a, r, x: {"out": r.sum(1) - x["supply"], "into": r.sum(0) - x["demand"]},
        box=sj.Box(lower=0.0),
    )
    worth = lambda a, r, x: -jnp.sum(a * r) - heat * jnp.sum(r * jnp.log(r))
    game = sj.Game(worth, worth, response_set=plans)
    start = jnp.asarray(np.outer(supply, demand) / supply.sum())

    def loss(cost, market):
        found = sj.best_response(game, cost, market, response=start, solver=SOLVER)
        return jnp.sum(weights * found.value), found

    run = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    (slope, by_market), found = run(cost, {"supply": supply, "demand": demand})
    assert found.converged and found.curvature > 0.99
    assert np.abs(found.value / sinkhorn(cost, supply, demand, heat) - 1).max() < 1e-9
    h = 1e-5
    at = lambda t: np.sum(weights * sinkhorn(cost + t * way, supply, demand, heat))
    measured = (at(h) - at(-h)) / (2 * h)
    assert np.isclose(np.sum(slope * way), measured, rtol=1e-6) and abs(measured) > 0.1
    # Totals must stay equal.
    more, other = way[:2] - way[:2].mean(1, keepdims=True)
    at = lambda t: np.sum(weights * sinkhorn(cost, supply + t * more, demand + t * other, heat))
    measured = (at(h) - at(-h)) / (2 * h)
    slope = by_market["supply"] @ more + by_market["demand"] @ other
    assert np.isclose(slope, measured, rtol=1e-6) and abs(measured) > 0.1


@pytest.mark.parametrize(("solver", "formed"), [(SOLVER, False), (sj.InteriorPoint(), True)])
def test_no_matrix_is_formed(solver, formed):
    """Neither a Hessian, nor a Jacobian of the constraints, nor their product; to second order."""
    size, rows = 97, 83
    far = sj.Constrained(
        lambda a, r, x: r[: rows - 1] - 2 * a, lambda a, r, x: r.sum() - a, box=sj.Box(lower=0.0)
    )
    worth = lambda a, r, x: -jnp.sum((r - a) ** 4) - jnp.sum(jnp.diff(r) ** 2)
    game = sj.Game(worth, worth, response_set=far)

    def slope(action):
        respond = lambda a: sj.best_response(game, a, 0.0, response=jnp.zeros(size), solver=solver)
        loss = lambda a: jnp.sum(respond(a).value ** 2)
        return jax.grad(loss)(action), jax.hessian(loss)(action)

    seen = shapes(jax.make_jaxpr(slope)(1.0).jaxpr)
    assert (size,) in seen
    large = [s for s in seen if sum(n >= rows - 1 for n in s) > 1]
    assert bool(large) == formed


def test_settings():
    made = sj.solvers.AugmentedLagrangian
    with pytest.raises(ValueError, match="AugmentedLagrangian: `penalty` must be positive; got 0"):
        made(penalty=0)
    with pytest.raises(TypeError, match="AugmentedLagrangian: `penalty` must be a Python number"):
        made(penalty=None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="AugmentedLagrangian: `tol` must be positive or None"):
        made(tol=-1.0)
    with pytest.raises(ValueError, match="AugmentedLagrangian: `max_steps` must be at least 1"):
        made(max_steps=0)
    assert hash(made(penalty=2.0)) != hash(made()) and made() == made(penalty=10.0)
    assert SOLVER.refuses(sj.Simplex()) is None
