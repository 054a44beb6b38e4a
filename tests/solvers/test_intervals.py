"""Soundness of the intervals: one exact value outside of them would falsify it.

Exact means NumPy with more digits: float64 for float32, 80-bit numbers for float64. Constants are
multiples of powers of two.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import special

from stackjax.solvers.proof._bounds import negative_definite
from stackjax.solvers.proof._interval import Interval
from stackjax.solvers.proof._intervals import enclose, enclose_and_judge
from stackjax.solvers.proof._values import values_of

TYPES = (np.float32, np.float64)
BOXES, POINTS = 200, 64


def boxes(rng, d, dtype, least=-4.0, most=4.0, count=BOXES):
    """Random boxes `[count, d]`: wide, across zero, tiny, single points, and with whole ends."""
    middle = rng.uniform(least, most, (count, d))
    width = 10.0 ** rng.uniform(-8, 0.6, (count, 1)) * rng.uniform(0, 1, (count, d))
    width[::7] = 0
    low, high = middle - width, middle + width
    low[1::7], high[1::7] = np.round(low[1::7]), np.round(high[1::7])
    return tuple(np.clip(x, least, most).astype(dtype) for x in (low, high))


def members(rng, low, high, count=POINTS):
    """Points of boxes `[count, boxes, d]`, exactly representable, the ends among them."""
    share = rng.uniform(size=(count, *low.shape))
    share[0], share[1] = 0, 1
    share[2:6] = rng.integers(0, 2, (4, *low.shape))
    wide = low.astype(np.longdouble) + share * (high.astype(np.longdouble) - low)
    return np.clip(wide.astype(low.dtype), low, high)


def outside(found: Interval, exact: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Where `exact [points, boxes, ...]` is a number that `found [boxes, ...]` does not hold."""
    low, high = (np.asarray(end, np.longdouble) for end in found)
    assert not np.isnan(low).any() and not np.isnan(high).any()
    room = slack * (1 + np.abs(np.where(np.isfinite(exact), exact, 0)))
    with np.errstate(invalid="ignore"):
        return np.isfinite(exact) & ((exact < low - room) | (exact > high + room))


def wider(dtype):
    return np.float64 if dtype == np.float32 else np.longdouble


ONE = {  # operation: of JAX, of NumPy, from, to
    "square": (jnp.square, np.square, -4, 4),
    "cube": (lambda x: x**3, lambda x: x**3, -4, 4),
    "inverse": (lambda x: lax.integer_pow(x, -1), lambda x: 1 / x, -4, 4),
    "power 2.5": (lambda x: x**2.5, lambda x: x**2.5, 0, 9),
    "power of 2": (lambda x: jnp.power(2.0, x), lambda x: 2**x, -9, 9),
    "sqrt": (jnp.sqrt, np.sqrt, 0, 9),
    "sqrt below": (jnp.sqrt, np.sqrt, -4, 4),
    "rsqrt": (lax.rsqrt, lambda x: 1 / np.sqrt(x), 0, 9),
    "exp large": (jnp.exp, np.exp, -120, 120),
    "exp2": (jnp.exp2, np.exp2, -60, 60),
    "expm1": (jnp.expm1, np.expm1, -9, 9),
    "log": (jnp.log, np.log, 0, 9),
    "log below": (jnp.log, np.log, -4, 4),
    "log1p": (jnp.log1p, np.log1p, -1, 3),
    "log1p below": (jnp.log1p, np.log1p, -4, 3),
    "tanh": (jnp.tanh, np.tanh, -9, 9),
    "logistic large": (lax.logistic, lambda x: 1 / (1 + np.exp(-x)), -120, 80),
    "sin": (jnp.sin, np.sin, -9, 9),
    "sin large": (jnp.sin, np.sin, -5000, 5000),
    "cos": (jnp.cos, np.cos, -9, 9),
    "tan": (jnp.tan, np.tan, -4, 4),
    "asin": (jnp.arcsin, np.arcsin, -1, 1),
    "acos": (jnp.arccos, np.arccos, -1, 1),
    "atan": (jnp.arctan, np.arctan, -9, 9),
    "sinh": (jnp.sinh, np.sinh, -9, 9),
    "cosh": (jnp.cosh, np.cosh, -9, 9),
    "asinh": (jnp.arcsinh, np.arcsinh, -9, 9),
    "erf": (lax.erf, special.erf, -6, 6),
    "erfc": (lax.erfc, special.erfc, -6, 6),
    "abs": (jnp.abs, np.abs, -4, 4),
    "sign": (jnp.sign, np.sign, -4, 4),
    "floor": (jnp.floor, np.floor, -4, 4),
    "round": (jnp.round, np.round, -4, 4),
    "softplus": (jax.nn.softplus, lambda x: np.log1p(np.exp(x)), -20, 20),
    "clamp": (
        lambda x: lax.clamp(x * 0 - 1, x, x.dtype.type(2)),
        lambda x: np.clip(x, -1, 2),
        -4,
        4,
    ),
    "where": (lambda x: jnp.where(x < 0, -x, x), np.abs, -4, 4),
    "not": (lambda x: jnp.where(~(x < 1), x, 3.0), lambda x: np.where(x < 1, 3, x), -4, 4),
    "stop": (lax.stop_gradient, lambda x: x, -4, 4),
    "to bool": (lambda x: (x > 1).astype(x.dtype), lambda x: (x > 1) * 1.0, -4, 4),
}
TWO = {
    "add": (jnp.add, np.add),
    "sub": (jnp.subtract, np.subtract),
    "mul": (jnp.multiply, np.multiply),
    "div": (jnp.divide, np.divide),
    "max": (jnp.maximum, np.maximum),
    "min": (jnp.minimum, np.minimum),
    "pow": (lambda x, y: jnp.abs(x) ** y, lambda x, y: np.abs(x) ** y),
    "less": (lambda x, y: jnp.where(x < y, x, 2 * y), lambda x, y: np.where(x < y, x, 2 * y)),
    "equal": (lambda x, y: jnp.where(x == y, 5, x), lambda x, y: np.where(x == y, 5, x)),
    "and": (
        lambda x, y: jnp.where((x <= y) & (y >= 0) | (x != x), x, y),
        lambda x, y: np.where((x <= y) & (y >= 0), x, y),
    ),
    "logaddexp": (jnp.logaddexp, np.logaddexp),
    "arctan quotient": (lambda x, y: jnp.arctan(x / y), lambda x, y: np.arctan(x / y)),
}
SAME = (  # of more than one number, and written alike in both
    lambda p, x: p.sum(x),
    lambda p, x: p.prod(x),
    lambda p, x: p.max(x),
    lambda p, x: p.min(x),
    lambda p, x: p.cumsum(x),
    lambda p, x: p.concatenate([x[1:], x[:1] * 2]),
    lambda p, x: x[p.array([2, 0, 0])],
    lambda p, x: p.outer(x, x).T.reshape(-1)[1::2],
    lambda p, x: p.pad(x, 1),
    lambda p, x: p.stack([x, x]) @ x,
    lambda p, x: p.ones((2, 3), x.dtype) @ p.outer(x, x),
    lambda p, x: p.linalg.norm(x),
    lambda p, x: p.where(p.any(x > 1), x[0], x[1] + 1),
    lambda p, x: p.broadcast_to(x[:, None], (3, 2)) - x[1],
)


@pytest.mark.parametrize("dtype", TYPES)
def test_operations_of_one(dtype, x64):
    rng = np.random.default_rng(0)
    every = {name: boxes(rng, 1, dtype, a, b) for name, (_, _, a, b) in ONE.items()}

    @jax.jit
    def run(every):
        scalar = lambda f: lambda x: f(x[0])
        return {n: jax.vmap(partial(enclose, scalar(ONE[n][0])))(*b) for n, b in every.items()}

    found = run(every)
    for name, (_, exact, _, _) in ONE.items():
        low, high = every[name]
        points = members(rng, low, high)[..., 0].astype(wider(dtype))
        if exact in (special.erf, special.erfc):
            points = points.astype(np.float64)
        with np.errstate(all="ignore"):
            wrong = outside(found[name], exact(points))
        if exact in (special.erf, special.erfc) and dtype == np.float64:
            wrong &= outside(found[name], exact(points), 1e-15)  # SciPy rounds, too
        assert not wrong.any(), (name, np.argwhere(wrong)[0], points[wrong][0])


@pytest.mark.parametrize("dtype", TYPES)
def test_operations_of_two(dtype, x64):
    rng = np.random.default_rng(1)
    low, high = boxes(rng, 2, dtype)
    points = members(rng, low, high).astype(wider(dtype))
    found = jax.jit(
        lambda low, high: {
            n: jax.vmap(partial(enclose, lambda x, f=f: f(x[0], x[1])))(low, high)
            for n, (f, _) in TWO.items()
        }
    )(low, high)
    for name, (_, exact) in TWO.items():
        with np.errstate(all="ignore"):
            wrong = outside(found[name], exact(points[..., 0], points[..., 1]))
        assert not wrong.any(), name


@pytest.mark.parametrize("dtype", TYPES)
def test_operations_on_arrays(dtype, x64):
    rng = np.random.default_rng(2)
    low, high = boxes(rng, 3, dtype, count=40)
    points = members(rng, low, high, 16).astype(wider(dtype))
    found = jax.jit(
        lambda low, high: [jax.vmap(partial(enclose, partial(f, jnp)))(low, high) for f in SAME]
    )(low, high)
    for k, f in enumerate(SAME):
        exact = np.array([[f(np, x) for x in row] for row in points], wider(dtype))
        assert not outside(found[k], exact).any(), k


W = np.round(np.random.default_rng(3).normal(size=(3, 16)) * 64) / 64
V = np.round(np.random.default_rng(4).normal(size=16) * 64) / 64


def _network(p, x):
    return p.tanh(x @ p.asarray(W, x.dtype) + p.asarray(V[::-1], x.dtype)) @ p.asarray(V, x.dtype)


COMPOSED = (  # utilities [3] -> scalar, written alike for JAX and NumPy
    lambda p, x: p.sum(p.sin(3 * x) - 0.125 * (x - 0.5) ** 2),
    lambda p, x: p.sum(-(x**4) + 2 * x**2 + 0.25 * x),
    _network,
    lambda p, x: x[0] * x[1] * x[2] - x[0] ** 2,
    lambda p, x: p.exp(-(x[0] ** 2)) * p.cos(4 * x[1]) + x[2],
    lambda p, x: 1 / (1 + p.sum(x**2)),
    lambda p, x: p.log(1 + x[0] ** 2) - p.abs(x[1]) * x[2],
    lambda p, x: p.sqrt(1 + p.sum(x * x)),
    lambda p, x: p.maximum(x[0], x[1]) * x[2],
    lambda p, x: p.minimum(x[0] * x[1], x[2] ** 2),
    lambda p, x: p.where(x[0] < 0, -x[0], x[0]) * x[1],
    lambda p, x: p.where(x[0] > x[1], x[0] - x[1], 0.5 * (x[0] - x[1])) + x[2] ** 2,
    lambda p, x: p.sum(x) / (2 + p.cos(x[0])),
    lambda p, x: p.prod(x) - p.sum(x) ** 3,
    lambda p, x: p.exp(x[0]) / (p.exp(x[0]) + p.exp(x[1]) + 1) * x[2],
    lambda p, x: p.log(p.exp(x[0]) + p.exp(x[1]) + p.exp(x[2])),
    lambda p, x: p.tanh(x[0] * x[1]) - p.tanh(x[2]) ** 2,
    lambda p, x: x[0] / (1 + x[1] ** 2) - x[2] / (2 + p.sin(x[1])),
    lambda p, x: (x[0] - 1) ** 2 + 64 * (x[1] - x[0] ** 2) ** 2 + x[2],
    lambda p, x: p.sin(x[0]) * p.sin(x[0]) + p.cos(x[0]) * p.cos(x[0]) + x[1] * x[2],
    lambda p, x: p.linalg.norm(x - 0.25),
    lambda p, x: p.sum(p.cumsum(x) ** 2),
    lambda p, x: p.sum(p.outer(x, x) * p.asarray(W[:, :3], x.dtype)),
    lambda p, x: x @ p.asarray(W[:, :3], x.dtype) @ x,
    lambda p, x: p.log1p(p.exp(-p.abs(x[0]))) + p.expm1(x[1]) * x[2],
    lambda p, x: p.arctan(x[0] * 2) + p.sinh(x[1]) - p.cosh(x[2]),
    lambda p, x: p.clip(x[0], -1, 1) * x[1] + x[2],
    lambda p, x: p.max(x) - p.min(x),
    lambda p, x: (1 + x[0] ** 2) ** 1.5 - (2 + p.sin(x[1])) ** -0.5,
    lambda p, x: p.sum(p.exp2(x)) - x[0],
    lambda p, x: p.sum(p.where(x > 0, x * x, 0.0)),
    lambda p, x: p.sum(p.stack([x, x**2]) @ p.asarray(W[:, :2], x.dtype)),
    lambda p, x: (x[0] + 8) ** 0.5 * (x[1] + 8) ** 0.25 - x[2] / 4,
    lambda p, x: p.log((x[0] + 5) * (x[1] + 5)) + p.cbrt(x[2]),
    lambda p, x: p.sin(p.sin(p.sin(x[0] * x[1]))) + x[2],
    lambda p, x: p.sum(p.concatenate([x[:2], x[1:]]) ** 3),
    lambda p, x: -p.sum(p.abs(x) ** 3),
    lambda p, x: p.exp(-p.sqrt(1 + x[0] ** 2)) * (x[1] - x[2]) ** 2,
    lambda p, x: (x[0] * x[1]) ** 2 / (1 + (x[0] + x[2]) ** 2),
    lambda p, x: p.cos(x[0] - x[1]) * p.cos(x[1] - x[2]) * p.cos(x[2] - x[0]),
    lambda p, x: p.sqrt(p.abs(x[0]) + 1) + p.tan(x[1] / 8) - p.sign(x[2]) * x[2],
)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_composed_functions_and_their_derivatives(every, part, dtype, x64):
    """Values against NumPy, with more digits; derivatives against `jax.grad` in float64."""
    rng = np.random.default_rng(5)
    low, high = boxes(rng, 3, dtype, -3, 3, 60)
    points = members(rng, low, high, 24)
    functions = COMPOSED[part::4]

    def all_of(f, x, k):
        orders = 0 if k % every else 2 if dtype == np.float32 else 1
        return [derive(f)(x) for derive in (lambda f: f, jax.grad, jax.hessian)[: orders + 1]]

    found = jax.jit(
        lambda low, high: [
            jax.vmap(partial(enclose, partial(all_of, partial(f, jnp), k=k)))(low, high)
            for k, f in enumerate(functions)
        ]
    )(low, high)
    derived = jax.jit(
        lambda x: [
            jax.vmap(jax.vmap(partial(all_of, partial(f, jnp), k=k)))(x)
            for k, f in enumerate(functions)
        ]
    )(points.astype(np.float64))
    for k, f in enumerate(functions):
        exact = np.array([[f(np, x) for x in row] for row in points.astype(wider(dtype))])
        assert not outside(found[k][0], exact).any(), (part, k)
        for order in range(1, len(derived[k])):
            # for float64 the reference's own rounding is allowed
            slack = 0 if dtype == np.float32 else 1e-11
            wrong = outside(found[k][order], np.asarray(derived[k][order], np.longdouble), slack)
            assert not wrong.any(), (part, k, order)


def test_random_compositions():
    """Trees of operations, drawn at random, in float32 against float64."""
    rng = np.random.default_rng(6)
    unary = ["sin", "cos", "tanh", "exp", "square", "abs", "negative", "sqrt", "log", "arctan"]
    binary = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]

    def tree(depth):
        kind = rng.uniform()
        if depth == 0 or kind < 0.1:
            i, c = int(rng.integers(2)), float(rng.integers(-8, 9)) / 4
            return (lambda p, x: x[i]) if rng.uniform() < 0.8 else (lambda p, x: c + 0 * x[i])
        if kind < 0.5:
            name, a = unary[rng.integers(len(unary))], tree(depth - 1)
            return lambda p, x: getattr(p, name)(a(p, x))
        name, a, b = binary[rng.integers(len(binary))], tree(depth - 1), tree(depth - 1)
        return lambda p, x: getattr(p, name)(a(p, x), b(p, x))

    functions = [tree(4) for _ in range(30)]
    low, high = boxes(rng, 2, np.float32, -3, 3)
    points = np.moveaxis(members(rng, low, high).astype(np.float64), -1, 0)
    found = jax.jit(
        lambda low, high: [
            jax.vmap(partial(enclose, partial(f, jnp)))(low, high) for f in functions
        ]
    )(low, high)
    for k, f in enumerate(functions):
        with np.errstate(all="ignore"):
            exact = np.broadcast_to(f(np, points), points.shape[1:])
        assert not outside(found[k], exact).any(), k


def test_known_unsound_cases_of_others():
    """What immrax 0.3.8 gets wrong."""
    value = lambda f, low, high: enclose(
        lambda x: f(x[0]), jnp.array([low], jnp.float32), jnp.array([high], jnp.float32)
    )
    found = value(lambda x: jnp.where(x < 0, -x, x), -2, 1)
    assert found.low <= 0 and found.high >= 2
    assert value(jnp.sqrt, -1, 4).high >= 2
    assert value(jnp.log, -1, 4).low == -np.inf
    assert value(jnp.log, -1, 4).high >= np.log(4)
    assert value(lambda x: 1 / x, -1, 4) == (-np.inf, np.inf)
    assert value(jnp.log, -2, -1) == (-np.inf, np.inf)
    tenth = value(lambda x: x + x + x, 0.1, 0.1)  # rounded outwards
    assert tenth.low < 3 * np.float64(np.float32(0.1)) < tenth.high


def test_intervals_are_narrow_for_points():
    for f in COMPOSED[::6]:
        x = jnp.array([0.3, -0.7, 1.1], jnp.float32)
        found = enclose(partial(f, jnp), x, x)
        assert found.high - found.low < 2e-4 * (1 + abs(f(np, np.asarray(x)))), f


def test_smoothness():
    judge = lambda f, low, high: [
        bool(x)
        for x in vars(
            enclose_and_judge(
                lambda x: f(x[0]), jnp.array([low], jnp.float32), jnp.array([high], jnp.float32)
            )[1]
        ).values()
    ]
    smooth, kink, jump = [False, False], [True, False], [False, True]
    assert judge(jnp.abs, 0.5, 1) == judge(jnp.sin, -1, 1) == smooth
    assert judge(jnp.abs, 0, 1) == judge(jax.nn.relu, -1, 1) == kink
    assert judge(lambda x: jnp.where(x < 0, x, x + 1), -1, 1) == jump
    assert judge(lambda x: jnp.where(x < 0, x, x + 1), 0, 1) == jump  # which touches
    assert judge(lambda x: jnp.where(x < 0, x, x + 1), 0.5, 1) == smooth
    assert judge(jnp.sign, -1, 1) == judge(lambda x: 1 / x, -1, 1) == jump
    assert judge(jax.nn.softplus, -1, 1) == kink  # of its values; `values_of` knows better
    assert judge(values_of(jax.nn.softplus, jnp.float32(1)), -1, 1) == smooth


def test_control_flow_and_closures():
    a = jnp.array([0.5, 2.0])

    def f(x, a):
        total, _ = lax.scan(lambda c, y: (c * y + 1, c), x[0], x)
        other = lax.cond(a[0] > 0, lambda x: x[0], lambda x: x[1], x)
        both = lax.cond(x[0] > x[1], lambda x: x[0], lambda x: 2 * x[1], x)
        return total + other * both + jnp.exp(a) @ x

    low, high = jnp.array([-1.0, 0.5]), jnp.array([0.25, 1.5])
    found = jax.jit(lambda a: enclose(lambda x: f(x, a), low, high))(a)
    points = np.random.default_rng(7).uniform(low, high, (500, 2)).astype(np.float32)
    exact = jax.vmap(lambda x: f(x, a))(points)
    assert found.low <= exact.min() and exact.max() <= found.high


@pytest.mark.parametrize(
    ("utility", "name"),
    [
        (lambda x: jnp.sort(x)[0], "sort"),
        (lambda x: lax.while_loop(lambda c: c < 3, lambda c: c + x[0], x[1]), "while"),
        (lambda x: x[jnp.argmax(x)], "argmax"),
        (lambda x: lax.lgamma(x[0]), "lgamma"),
        (lambda x: x.astype(int)[0] + x[1], "convert_element_type"),
    ],
)
def test_unknown_operations_are_named(utility, name):
    with pytest.raises(NotImplementedError, match=name):
        enclose(utility, jnp.zeros(2), jnp.ones(2))


@pytest.mark.parametrize("d", (1, 2, 3, 4))
def test_negative_definite_has_no_false_positives(d):
    rng = np.random.default_rng(8)
    a = rng.normal(size=(300, d, d))
    middle = -np.einsum("nij,nkj->nik", a, a) + rng.uniform(-0.1, 0.5, (300, 1, 1)) * np.eye(d)
    radius = np.abs(rng.normal(size=(300, d, d))) * 10.0 ** rng.uniform(-6, -1, (300, 1, 1))
    radius = radius + radius.transpose(0, 2, 1)
    low, high = (middle - radius).astype(np.float32), (middle + radius).astype(np.float32)
    proven = np.asarray(jax.vmap(negative_definite)(Interval(low, high)))
    drawn = rng.uniform(size=(200, 300, d, d)) < 0.5
    drawn = np.where(np.tril(np.ones((d, d), bool)), drawn, drawn.transpose(0, 1, 3, 2))
    worst = np.linalg.eigvalsh(np.where(drawn, low, high).astype(np.float64))[..., -1].max(0)
    assert not (proven & (worst >= 0)).any()
    assert proven.sum() > 0.9 * (worst < -1e-3).sum() > 20
