"""Proofs of a global maximum, against dense grids in float64 and functions made to mislead them.

One point of the box whose utility exceeds `upper` would falsify a proof.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stackjax.solvers.proof._branch_and_bound import BEATEN, PROVEN, UNDECIDED, prove
from stackjax.solvers.proof._intervals import enclose_and_judge
from stackjax.solvers.proof._shifts import is_free_of
from stackjax.solvers.proof._values import values_of

N = 64  # contexts
W = np.round(np.random.default_rng(0).normal(size=(3, 16)) * 64) / 64
B = np.round(np.random.default_rng(1).normal(size=16) * 64) / 64


def waves(p, r, a):
    return p.sum(p.sin(3 * r) - 0.125 * (r - a) ** 2)  # [d], [d] -> scalar


def quartic(p, r, a):
    return p.sum(2 * r**2 - r**4 + a * r) + 0.25 * r[0] * r[-1]


def network(p, r, a):
    layer = p.tanh(r @ p.asarray(W[: len(r)], r.dtype) + p.asarray(B, r.dtype))
    return layer @ p.asarray(B[::-1], r.dtype) / 4 - 0.125 * p.sum((r - a) ** 2)


def contexts(d, count=N):
    return np.random.default_rng(d).uniform(-1, 1, (count, d)).astype(np.float32)


def proofs(utility, d, end, dtype: Any = np.float32, **options: Any):
    """Of one utility, given candidates and contexts."""
    box = jnp.full(d, -end, dtype), jnp.full(d, end, dtype)
    one = lambda c, a: prove(lambda r: utility(jnp, r, a), c, *box, **options)
    return jax.jit(jax.vmap(one))


def on_grid(utility, a, end, count):
    """The largest values `[N]` on a grid, in float64."""
    d = a.shape[1]
    axes = [np.linspace(-end, end, count)] * d
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, d)
    found = []
    with jax.enable_x64(True):
        run = jax.jit(jax.vmap(partial(utility, jnp), (0, None)))
        for context in a.astype(np.float64):
            found.append(run(jnp.asarray(points), jnp.asarray(context)).max())
    return np.array(found)


def exact(utility, points, a):
    return np.array([utility(np, *row) for row in zip(*map(np.float64, (points, a)))])


@pytest.mark.parametrize(
    ("utility", "end", "d"),
    [
        (waves, 3.0, 1),
        (waves, 3.0, 2),
        (waves, 3.0, 3),
        pytest.param(quartic, 2.0, 1, marks=pytest.mark.slow),
        (quartic, 2.0, 2),
        pytest.param(quartic, 2.0, 3, marks=pytest.mark.slow),
        (network, 3.0, 1),
        pytest.param(network, 3.0, 2, marks=pytest.mark.slow),
        pytest.param(network, 3.0, 3, marks=pytest.mark.slow),
    ],
)
def test_against_dense_grids(utility, end, d):
    a = contexts(d, 12 if d == 3 else N)
    most = on_grid(utility, a, end, {1: 4001, 2: 241, 3: 61}[d])
    run = proofs(utility, d, end, max_steps=400)
    result = run(jnp.zeros_like(a), a)
    value, upper, lower = (np.float64(x) for x in (result.value, result.upper, result.lower))
    assert (upper >= most).all()
    assert (lower <= exact(utility, value, a)).all() and (np.abs(value) <= end).all()
    assert (result.status != PROVEN).any()  # zero is no good candidate
    decided = upper - lower <= 1e-3 * (1 + np.abs(most))
    assert decided.mean() == 1 if utility is not network or d < 3 else decided.any()
    # what it found is proven when it is the candidate, and the better of the grid is not better
    again = run(result.value, a)
    assert (again.status[decided] == PROVEN).all()
    assert (np.float64(again.upper) >= most).all()
    assert (again.boxes <= result.boxes + 64).all()


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_a_local_maximum_is_beaten(dtype, x64):
    # maxima of sin(3 r) at pi / 6 + 2 pi k / 3, the parabola chooses the one near a
    a = np.linspace(-2, 2, 16, dtype=dtype)[:, None]
    tops = np.pi / 6 + 2 * np.pi / 3 * np.arange(-2, 2)
    # exactly: 3 cos(3 r) = 0.25 (r - a)
    climb = lambda r: r + (3 * np.cos(3 * r) - 0.25 * (r - a)) / (9 * abs(np.sin(3 * r)) + 0.25)
    local = np.broadcast_to(tops, (16, 4)).astype(np.float64)
    for _ in range(50):
        local = climb(local)
    height = np.sin(3 * local) - 0.125 * (local - a) ** 2
    order = np.argsort(-height, 1)
    best, second = (np.take_along_axis(local, order[:, [k]], 1) for k in (0, 1))
    ranked: Any = np.sort(height, 1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-2
    run = proofs(waves, 1, 4.0, dtype)
    result = run(jnp.asarray(second, dtype), jnp.asarray(a))
    assert (result.status[clear] == BEATEN).all() and clear.sum() > 10
    np.testing.assert_allclose(result.lower[clear], height.max(1)[clear], atol=2e-3)
    np.testing.assert_allclose(result.value[clear], best[clear], atol=0.03)
    assert (np.float64(result.upper) >= height.max(1)).all()
    result = run(jnp.asarray(best, dtype), jnp.asarray(a))
    assert (result.status == PROVEN).all()
    np.testing.assert_array_equal(result.value, best.astype(dtype))


def test_eager_and_batch_agree():
    a = contexts(1)
    batch = proofs(waves, 1, 3.0)(jnp.zeros_like(a), a)
    low, high = jnp.full(1, -3.0), jnp.full(1, 3.0)
    one = lambda a: prove(lambda r: waves(jnp, r, a), jnp.zeros(1), low, high)
    alone = one(jnp.asarray(a[-1]))
    assert alone.status == batch.status[-1]
    np.testing.assert_allclose(alone.lower, batch.lower[-1], rtol=1e-5)
    np.testing.assert_allclose(alone.upper, batch.upper[-1], rtol=1e-4)


def _at(f, low, high, candidate=None, **options):
    low, high = (jnp.atleast_1d(jnp.asarray(x, jnp.float32)) for x in (low, high))
    start = low if candidate is None else jnp.atleast_1d(jnp.asarray(candidate, jnp.float32))
    return jax.jit(lambda c: prove(f, c, low, high, **options))(start)


MISLEADING = {  # utility, box, supremum
    # its derivative is 1, wherever there is one
    "jump down": (lambda r: jnp.where(r[0] < 0, r[0], r[0] - 5), -1, 1, 0),
    # the maximum is on the first number that takes the other branch
    "jump up": (lambda r: jnp.where(r[0] < 0, r[0], 3 - r[0]), -1, 1, 3),
    "jump by cond": (lambda r: jax.lax.cond(r[0] <= 0.5, lambda: 2.0, lambda: r[0]), -1, 1, 2),
    "steps": (lambda r: jnp.floor(r[0]) - r[0], -1.5, 1.25, 0),
    "sign": (lambda r: -jnp.sign(r[0]) - r[0], -1, 1, 2),
    "kink": (lambda r: -jnp.abs(r[0]), -1, 1, 0),
    "kink in the middle of a smooth top": (lambda r: 1 - r[0] ** 2 + jnp.abs(r[0]), -1, 1, 1.25),
    "kink by a branch": (lambda r: jnp.where(r[0] < 0, r[0], -r[0]), -1, 1, 0),
    "relu": (lambda r: r[0] - 2 * jax.nn.relu(r[0]), -1, 1, 0),
    # JAX's derivatives of these at the kink are 0 and 1 / 2, and 0 everywhere
    "half a slope": (lambda r: jnp.maximum(r[0], 2 * r[0]) - 3 * jnp.abs(r[0]), -1, 1, 0),
    "stopped": (lambda r: jax.lax.stop_gradient(jnp.sin(3 * r[0])) + 0.25 * r[0], -1, 1, None),
    "straight through": (
        lambda r: r[0] + jax.lax.stop_gradient(jnp.round(2 * r[0]) - r[0]),
        -1,
        1,
        2,
    ),
    "infinite slope": (lambda r: jnp.sqrt(r[0]) - r[0], 0, 1, 0.25),
    "not defined everywhere": (lambda r: jnp.sqrt(r[0] ** 2 - 1) - r[0], -2, 2, 2 + 3**0.5),
    "logarithm": (lambda r: jnp.log(r[0]) - r[0], 0, 3, -1),
    "constant": (lambda r: 0 * r[0] + 0.1, -1, 1, 0.1),
    "one point": (lambda r: jnp.sin(r[0]), 0.5, 0.5, np.sin(0.5)),
    "at a corner": (lambda r: jnp.sum(r**3), (-1, -1), (1, 1), 2),
    "on a ridge": (
        lambda r: 0.125 * (r[0] - r[0] ** 2) - (r[0] - r[1]) ** 2,
        (-1, -1),
        (1, 1),
        0.03125,
    ),
    "flat side": (lambda r: jnp.sin(3 * r[0]) + 0 * r[1], (-1, 0.25), (1, 0.25), 1),
    "valley": (lambda r: -16 * (r[1] - r[0] ** 2) ** 2 - (1 - r[0]) ** 2, (-2, -2), (2, 2), 0),
    "softplus": (lambda r: jnp.log(2 + r[0]) - jax.nn.softplus(r[0]), -1, 3, None),
    "softmax": (lambda r: jax.nn.softmax(jnp.stack([-r[0], 0, 1]))[0] * r[0], 0, 5, None),
    "logsumexp": (lambda r: r[0] - jax.nn.logsumexp(jnp.append(2 * r, 0.0)), -3, 3, -np.log(2)),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_misleading_utilities(name):
    f, low, high, most = MISLEADING[name]
    result = _at(f, low, high, max_steps=400)
    points = np.random.default_rng(2).uniform(low, high, (20000, np.size(low)))
    points = np.concatenate([points, [np.atleast_1d(low), np.atleast_1d(high)]])
    seen = np.asarray(jax.jit(jax.vmap(f))(points.astype(np.float32)))
    best = np.nanmax(seen)
    most = best if most is None else most
    assert result.upper >= most - 1e-6 * (1 + abs(most)), result
    assert result.lower <= most + 1e-6 * (1 + abs(most)), result
    # and it is decided, for all but the flat top of what never gets narrow
    assert result.upper - result.lower < 2e-3 * (1 + abs(most)), result


@pytest.mark.parametrize("count", [2, pytest.param(24, marks=pytest.mark.slow)])
def test_random_compositions(count):
    """Trees of operations, with kinks and jumps, against grids in float64."""
    rng = np.random.default_rng(count)
    unary = ["sin", "cos", "tanh", "exp", "square", "abs", "negative", "sqrt", "log", "sign"]
    binary = ["add", "subtract", "multiply", "divide", "maximum", "minimum", "where"]

    def tree(depth):
        kind = rng.uniform()
        if depth == 0 or kind < 0.1:
            i, c = int(rng.integers(2)), float(rng.integers(-8, 9)) / 4
            return (lambda p, x: x[i]) if rng.uniform() < 0.8 else (lambda p, x: c + 0 * x[i])
        if kind < 0.45:
            name, a = unary[rng.integers(len(unary))], tree(depth - 1)
            return lambda p, x: getattr(p, name)(a(p, x))
        name, a, b = binary[rng.integers(len(binary))], tree(depth - 1), tree(depth - 1)
        if name == "where":
            c, half = tree(depth - 1), float(rng.integers(-2, 3)) / 2
            return lambda p, x: p.where(c(p, x) < half, a(p, x), b(p, x))
        return lambda p, x: getattr(p, name)(a(p, x), b(p, x))

    side = np.linspace(0, 1, 101)
    share = np.stack(np.meshgrid(side, side), -1).reshape(-1, 1, 2)
    for k in range(count):
        f = tree(3)
        low = np.round(rng.uniform(-2, 1, (16, 2)) * 2) / 2
        high = low + 2.0 ** rng.integers(-3, 2, (16, 2))
        points = np.moveaxis(low + share * (high - low), -1, 0)
        with np.errstate(all="ignore"):
            seen = np.broadcast_to(f(np, points), points.shape[1:])
        most = np.max(np.where(np.isnan(seen), -np.inf, seen), 0)
        run = lambda f, low, high: prove(partial(f, jnp), low, low, high, max_steps=30)
        result = jax.jit(jax.vmap(partial(run, f)))(jnp.float32(low), jnp.float32(high))
        known = most < np.inf
        assert (np.float64(result.upper) >= most)[known].all(), k


def test_a_full_list_keeps_the_bound():
    a = contexts(2, 8)
    most = on_grid(waves, a, 3.0, 241)
    for options in (dict(boxes=6, at_once=3), dict(max_steps=2)):
        result = proofs(waves, 2, 3.0, gap=1e-7, **options)(jnp.zeros_like(a), a)
        assert (np.float64(result.upper) >= most).all()
        assert (result.status != PROVEN).all()
        assert ((result.status == UNDECIDED) | (result.status == BEATEN)).all()


def test_softmax_has_no_kink_and_what_is_stopped_is_not_believed():
    x = jnp.array([0.5, 2.0, -1.0])
    for f in (
        lambda x: jax.nn.softmax(x)[0],
        lambda x: jax.nn.logsumexp(3 * x),
        lambda x: jax.nn.log_softmax(x)[1] ** 2,
    ):
        values = values_of(f, x)
        assert values(x + 0.5) == pytest.approx(float(f(x + 0.5)), rel=1e-5)
        np.testing.assert_allclose(jax.grad(values)(x - 1), jax.grad(f)(x - 1), atol=1e-6)
        found, smoothness = enclose_and_judge(jax.grad(values), x - 1, x + 1)
        assert not smoothness.jump and not enclose_and_judge(values, x - 1, x + 1)[1].kink
        assert np.isfinite(found).all()
    stopped = lambda x: jnp.exp(x[0] - jax.lax.stop_gradient(x[1]))
    assert jax.grad(values_of(stopped, x))(x)[1] == pytest.approx(-float(stopped(x)))
    jaxpr = jax.make_jaxpr(stopped)(x).jaxpr
    stops = [e.outvars[0] for e in jaxpr.eqns if e.primitive.name == "stop_gradient"]
    assert len(stops) == 1 and not is_free_of(jaxpr, stops[0])


def test_arguments():
    one, f = jnp.zeros(1), lambda r: r[0]
    with pytest.raises(ValueError, match="one length"):
        prove(f, jnp.zeros(2), one, one)
    with pytest.raises(ValueError, match="1 to 6"):
        prove(f, *[jnp.zeros(7)] * 3)
    with pytest.raises(ValueError, match="floating"):
        prove(f, *[jnp.zeros(1, int)] * 3)
    with pytest.raises(ValueError, match="at_once"):
        prove(f, one, one, one, boxes=8, at_once=8)
    with pytest.raises(NotImplementedError, match="sort"):
        prove(lambda r: jnp.sort(r)[0], *[jnp.zeros(2)] * 3)
