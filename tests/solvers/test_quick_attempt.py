"""The quick search for constrained followers: it agrees with the robust one or leaves it to it."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick, quick_jit

import stackjax as sj
from stackjax.solvers._settings import tolerance
from stackjax.solvers.constrained._interior_point import inside
from stackjax.solvers.constrained._search import _proven, _robust
from stackjax.solvers.constrained._sqp import attempt

SLOW = pytest.mark.slow

D, M, N = 4, 6, 48
INF = jnp.inf


def draw(key, kind="plain"):
    """A quadratic program around a known feasible point: concave utility, rows, one equality."""
    keys = jax.random.split(key, 7)
    normal = lambda i, *shape: jax.random.normal(keys[i], shape, jnp.float32)
    root, A, E, r = normal(0, D, D), normal(1, M, D), normal(2, 1, D), normal(3, D)
    slack = jax.random.uniform(keys[4], (M,), jnp.float32) * (normal(5, M) > -0.5)
    b = A @ r + slack
    if kind != "plain":  # two rows that face each other: without an interior, or a gap apart
        A = A.at[1].set(-A[0])
        b = b.at[1].set(-b[0] - (0.01 + jnp.abs(slack[0]) if kind == "empty" else 0))
    return {
        "H": root @ root.T + 0.2 * jnp.eye(D, dtype=jnp.float32),
        "c": 2 * normal(6, D), "A": A, "b": b, "E": E, "d": E @ r,
    }  # fmt: skip


def quadratic(y, x):
    return y @ x["H"] @ y / 2 + x["c"] @ y, x["E"] @ y - x["d"], x["A"] @ y - x["b"]


def kinked(y, x):
    """A sum of softened kinks, which full Newton steps do not solve."""
    f = jnp.sum(jax.nn.softplus(4 * (x["A"] @ y))) / 4 + 0.05 * y @ y + x["c"] @ y
    return f, x["E"] @ y - x["d"], x["A"] @ y - x["b"]


def curved(y, x):
    g = jnp.stack([y @ y - 1 - jnp.abs(x["b"][0]), jnp.sum(jnp.exp(y)) - 8])
    return quadratic(y, x)[0] + jnp.sum(y**4) / 10, x["E"] @ y - 0.2, g


def entropic(y, x):
    return 0.5 * y @ jnp.log(y) + x["c"] @ y, jnp.sum(y, keepdims=True) - 1, jnp.zeros(0, y.dtype)


FAMILIES = {
    "quadratic": (quadratic, -INF, INF, 1.0),
    "in a box": (quadratic, -1.0, 1.0, 0.3),  # the box may be empty
    "kinked": (kinked, -INF, INF, 0.85),
    "curved": (curved, -INF, INF, 0.95),
    "entropic": (entropic, 0.0, INF, 0.85),  # some shares are tiny
}
SETTINGS = sj.InteriorPoint()


def bounds(family, dtype):
    _, lower, upper, _ = FAMILIES[family]
    return jnp.full(D, lower, dtype), jnp.full(D, upper, dtype)


def attempted(program, x, lower, upper):
    """The quick search alone: `w`, its report, whether it is verified."""
    start = inside(jnp.full(D, 0.25, lower.dtype), lower, upper)
    _, c, g = program(start, x)
    tried = attempt(
        lambda y: program(y, x),
        jnp.concatenate([start, jnp.zeros_like(c), jnp.ones_like(g)]),
        lower,
        upper,
        equalities=len(c),
        tol=tolerance(SETTINGS, lower.dtype),
        max_steps=SETTINGS.max_steps,
    )
    return *_proven(tried, lower, upper), tried.verified


@cache
def searched(family):
    """The robust search alone, on a batch in float64."""
    program, (lower, upper) = FAMILIES[family][0], bounds(family, jnp.float64)

    def one(x):
        start, needed = jnp.full(D, 0.25, lower.dtype), jnp.ones((), bool)
        (w, report), _ = _robust(lambda y: program(y, x), start, lower, upper, SETTINGS, needed)
        return w, report

    return quick(jax.vmap(one), batch(dtype=jnp.float64))


def batch(kind="plain", count=N, dtype=jnp.float32):
    drawn = jax.vmap(lambda key: draw(key, kind))(jax.random.split(jax.random.key(0), count))
    return jax.tree.map(lambda x: x.astype(dtype), drawn)


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float64, marks=SLOW), jnp.float32])
@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_the_robust_search(family, dtype, x64):
    """Where it is verified, a float64 search that never saw it finds the same, to the letter."""
    program, *_, share = FAMILIES[family]
    run = lambda x: attempted(program, x, *bounds(family, dtype))
    w, report, verified = quick(jax.vmap(run), batch(dtype=dtype))
    exact, known = searched(family)
    both = np.asarray(verified & (known.quality.converged > 0))
    assert both.mean() >= share and w.dtype == dtype
    assert both.sum() >= np.sum(known.quality.converged > 0) - (1 - share) * N
    tol = 1e-6 if dtype == jnp.float64 else 2e-3
    of = lambda x: np.asarray(x)[both].astype(float)
    size = 1 + np.abs(of(exact)).max(axis=1, keepdims=True)
    assert np.max(np.abs(of(w) - of(exact)) / size) < tol
    np.testing.assert_allclose(
        of(report.quality.degeneracy), of(known.quality.degeneracy), atol=20 * tol
    )
    if family == "entropic":  # a share of 1e-12 is zero to one and a number to the other
        return
    for name in ("at_lower", "at_upper", "rows"):
        assert (of(getattr(report.linearised, name)) == of(getattr(known.linearised, name))).all()
    bent, wanted = of(report.quality.curvature), of(known.quality.curvature)
    # Of a vertex whose rows are almost parallel the robust search says that a direction is free.
    assert np.mean(np.isclose(bent, wanted, rtol=0.05, atol=tol) | (bent == 1)) == 1


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("kind", ["empty", "thin"])
def test_never_verifies_what_is_not_a_solution(kind, dtype, x64):
    run = lambda x: attempted(quadratic, x, *bounds("quadratic", dtype))
    w, _, verified = quick(jax.vmap(run), batch(kind, dtype=dtype))
    if kind == "empty":
        assert not verified.any()
    else:  # of rows that repeat each other it takes as many as determine the point
        _, c, g = jax.vmap(quadratic)(w[:, :D], batch(kind, dtype=dtype))
        assert verified.mean() > 0.9
        assert np.max(np.abs(c), where=np.asarray(verified)[:, None], initial=0) < 1e-3
        assert np.max(g, where=np.asarray(verified)[:, None], initial=0) < 1e-3


def concave(action, response, x):
    return -quadratic(response, x)[0] - (action + x["bonus"]) * jnp.sum(response)


def best(x, action=0.1, solver=None, utility=concave):
    rows = lambda action, x: x["b"] + 0.1 * action
    game = sj.Game(utility, utility, response_set=sj.Polyhedron(x["A"], rows, x["E"], x["d"]))
    start = jnp.zeros(D, x["c"].dtype)
    return sj.best_response(game, action, x, response=start, solver=solver)


def valued(x):
    return jax.value_and_grad(lambda a: jnp.sum(jnp.sin(best(x, a).value)))(0.1)


@pytest.mark.slow
def test_hard_members_of_a_batch_leave_the_others_alone():
    """An empty set, a thin one, a linear and a convex utility, repeated rows, NaN."""
    easy = batch(count=8) | {"bonus": jnp.zeros(8, jnp.float32)}
    hard = jax.tree.map(lambda x: jnp.concatenate([x[:6], x]), easy)
    other = lambda kind: jax.vmap(lambda key: draw(key, kind))(
        jax.random.split(jax.random.key(0), 8)
    )
    for i, kind in ((0, "empty"), (1, "thin")):
        for name, x in other(kind).items():
            hard[name] = hard[name].at[i].set(x[i])
    hard["H"] = hard["H"].at[2].set(0.0).at[3].multiply(-1.0)
    hard["A"] = hard["A"].at[4, 1].set(hard["A"][4, 0])
    hard["b"] = hard["b"].at[4, 1].set(hard["b"][4, 0])
    hard["bonus"] = hard["bonus"].at[5].set(jnp.nan)
    run = partial(quick, jax.vmap(lambda x: (best(x), *valued(x))))
    answer, value, slope = run(hard)
    alone, *numbers = run(easy)
    assert alone.converged.all() and not answer.converged[0] and not answer.converged[5]
    assert all(np.isfinite(x).all() for x in (answer.value, value, slope))
    np.testing.assert_allclose(answer.value[6:], alone.value, atol=1e-6)
    np.testing.assert_allclose(np.stack([value, slope])[:, 6:], numbers, rtol=1e-4, atol=1e-5)
    # Members that did not need the robust search took the steps that they take alone.
    assert (answer.steps[6:] == alone.steps).all() and alone.steps.max() == 2
    assert (answer.steps[np.array([0, 2, 3])] > 2).all()


def test_batch_is_loop():
    data = batch(count=6) | {"bonus": jnp.zeros(6)}
    together = quick(jax.vmap(valued), data)
    alone = quick_jit(valued)
    for i in range(6):
        one = alone(jax.tree.map(lambda x, i=i: x[i], data))
        np.testing.assert_allclose([one[0], one[1]], [together[0][i], together[1][i]], rtol=1e-4)


@pytest.mark.parametrize("utility", ["kinked", "quartic"])
def test_derivatives(utility, x64):
    """Of value and multipliers, first and second order, against central differences."""
    data = batch(count=6, dtype=jnp.float64)
    losses = {
        "kinked": lambda r, x: kinked(r, x)[0],
        "quartic": lambda r, x: quadratic(r, x)[0] + jnp.sum(r**4),
    }
    follower = lambda a, r, x: -losses[utility](r, x) - a * jnp.sum(r**2 + r)

    def along(a, x):
        answer = best(x, a, sj.InteriorPoint(tol=1e-12), follower)
        return jnp.concatenate(
            [answer.value, answer.multipliers.inequality, answer.degeneracy[None]]
        )

    def first(a, x):
        slope, value = jax.jacrev(lambda a: (along(a, x),) * 2, has_aux=True)(a)
        return slope, (slope, value)

    h = 1e-5
    run = quick_jit(jax.vmap(jax.jacfwd(first, has_aux=True), in_axes=(None, 0)))
    twice, (once, value) = run(0.1, data)
    (_, above), (_, below) = (run(0.1 + s * h, data) for s in (1, -1))
    regular = value[:, -1] > 1e-3  # a difference across a kink is none
    assert regular.sum() >= 4
    for slope, up, down, tol in (
        (once, above[1], below[1], 1e-5),
        (twice, above[0], below[0], 1e-4),
    ):
        measured = (up - down)[:, :-1] / (2 * h)
        error = jnp.abs(slope[:, :-1] - measured)[regular]
        assert error.max() < tol * (1 + jnp.abs(measured).max())


def test_simplex_in_float32():
    """Half of the shares at zero: values and total derivatives against the float64 ones."""
    game = sj.Game(
        concave, lambda a, r, x: -r @ x["H"] @ r / 2 - a * x["c"] @ r, response_set=sj.Simplex()
    )

    def total(a, x):
        answer = sj.best_response(game, a, x, response=jnp.full(D, 1 / D, x["c"].dtype))
        return jnp.sum(jnp.cos(answer.value) * x["c"]), answer

    run = lambda x: jax.vmap(jax.value_and_grad(total, has_aux=True), (None, 0))(0.5, x)
    (_, answer), slope = quick(run, batch(count=32))
    with jax.enable_x64(True):
        (_, exact), wanted = quick(run, batch(count=32, dtype=jnp.float64))
    assert answer.converged.all() and answer.steps.max() <= 3
    regular = np.asarray(exact.degeneracy) > 1e-4
    np.testing.assert_allclose(answer.value, exact.value, atol=1e-5)
    np.testing.assert_allclose(slope[regular], wanted[regular], rtol=1e-3, atol=1e-4)
    assert 0.2 < np.mean(np.asarray(exact.value) < 1e-6) < 0.8
