"""Derivatives of best responses and their multipliers, first and second, against closed forms.

Each case states its best response and multipliers as a formula worked out by hand, in parameters
that include bounds, totals, radii and right-hand sides. The formula is evaluated in NumPy and
differentiated by central differences with Richardson's extrapolation; nothing is shared with the
library. Where a case says `active`, the formula holds because of the constraints named there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj


class Case(NamedTuple):
    """A follower with a known answer.

    Attributes:
      found: `parameters [k] -> Response`, by the library.
      answer: `parameters [k] -> (value, multipliers)`, by hand; vectors.
      read: `Response -> multipliers`, in the order of `answer`.
      at: `[k]` where; no parameter is 0.
    """

    found: Any
    answer: Any
    read: Any
    at: np.ndarray


_START = np.array([0.31, 0.27])


def _solve(utility, feasible, action, start, **options):
    game = sj.Game(lambda a, r, x: jnp.sum(r), utility, response_set=feasible)
    return sj.best_response(game, action, None, response=jnp.asarray(start), **options)


def box_inside() -> Case:
    # r_i^3 = a_i - c r_i has no nice root, r^3 = a does: u = a r - r^4 / 4, away from both bounds
    def found(p):
        u = lambda a, r, x: jnp.sum(a * r - r**4 / 4)
        return _solve(u, sj.Box(p[2:4], p[4:6]), p[:2], [3.0, 3.0])

    answer = lambda p: (np.cbrt(p[:2]), np.zeros(4))
    read = lambda f: jnp.concatenate([f.multipliers.lower, f.multipliers.upper])
    return Case(found, answer, read, np.array([40.0, 70.0, -7.0, 0.3, 9.0, 5.0]))


def box_active(unit: float = 1.0, start=(0.3, 0.5)) -> Case:
    # u = a log(c + r0) - r0 (p + k r1^2) + m r1, r1 up at its bound b while m > 2 k b r0:
    # r0 = a / (p + k b^2) - c, and the bound is worth m - 2 k b r0
    def found(p):
        a, c, price, k, m, b = p

        def u(action, r, x):
            return a * jnp.log(c + r[0]) - r[0] * (price + k * r[1] ** 2) + m * r[1]

        bounds = sj.Box(jnp.array([0.0, -0.5 * unit]), jnp.stack([50.0 * jnp.ones(()), b]))
        return _solve(u, bounds, p, [start[0], start[1] * unit])

    def answer(p):
        a, c, price, k, m, b = p
        r0 = a / (price + k * b**2) - c
        return np.array([r0, b]), np.array([m - 2 * k * b * r0])

    read = lambda f: f.multipliers.upper[1:]
    return Case(found, answer, read, np.array([6.0, 0.7, 1.3, 0.4 / unit**2, 5 / unit, 1.7 * unit]))


def simplex_shares(unit: float = 1.0) -> Case:
    # u = sum a_i log r_i: r_i = total a_i / sum a, and a unit of the total is worth sum a / total
    def found(p):
        u = lambda a, r, x: jnp.sum(a * jnp.log(r))
        return _solve(u, sj.Simplex(p[3]), p[:3], np.array([0.2, 0.3, 0.5]) * 2.5 * unit)

    answer = lambda p: (p[3] * p[:3] / p[:3].sum(), np.array([p[:3].sum() / p[3]]))
    return Case(found, answer, lambda f: f.multipliers.equality, np.array([1, 0.5, 2, 2.5 * unit]))


def simplex_face(unit: float = 1.0) -> Case:
    # u = exp(a).r - c |r|^2 / 2, the third share at zero: r_i = (e_i - l) / c on the first two,
    # l = (e_0 + e_1 - c total) / 2, and the lower bound of the third is worth l - e_2
    def found(p):
        u = lambda a, r, x: jnp.exp(a) @ r - p[3] * (r @ r) / 2
        return _solve(u, sj.Simplex(p[4]), p[:3], np.array([0.2, 0.3, 0.5]) * 2.5 * unit)

    def answer(p):
        e = np.exp(p[:3])
        level = (e[0] + e[1] - p[3] * p[4]) / 2
        return np.append((e[:2] - level) / p[3], 0.0), np.array([level, level - e[2]])

    read = lambda f: jnp.stack([f.multipliers.equality[0], f.multipliers.lower[2]])
    return Case(found, answer, read, np.array([1.3, 0.9, -2.0, 0.6 / unit, 2.5 * unit]))


def ball(outside: bool) -> Case:
    # u = -|r - t|^2 / 2: r = c + R (t - c) / |t - c|, a unit of the radius worth |t - c| - R
    def found(p):
        u = lambda t, r, x: -jnp.sum((r - t) ** 2) / 2
        return _solve(u, sj.Ball(center=p[2:4], radius=p[4]), p[:2], [3.1, -2.2])

    def answer(p):
        away = p[:2] - p[2:4]
        far = np.sqrt(np.sum(away**2))
        if far > p[4]:
            return p[2:4] + p[4] * away / far, np.array([far - p[4]])
        return p[:2], np.zeros(1)

    at = [9.0, 4.0, 3.0, -2.0, 2.5] if outside else [3.5, -1.0, 3.0, -2.0, 2.5]
    return Case(found, answer, lambda f: f.multipliers.inequality, np.array(at))


def polyhedron(unit: float = 1.0) -> Case:
    # u = a.r - r'Dr / 2 under A r <= b (first row active, second not) and E r = d: the KKT system
    def terms(p, np):
        rows = np.stack([p[3:6], p[10:13]])
        return p[:3], np.exp(p[13:16]) / unit**2, rows, p[6], p[9]

    def found(p):
        a, D, rows, b, d = terms(p, jnp)
        u = lambda a, r, x: a @ r - jnp.sum(D * r**2) / 2
        slack = jnp.stack([rows[0], jnp.stack([p[7], p[8], p[7]])])
        feasible = sj.Polyhedron(slack, jnp.stack([b, 90 * unit + 0 * b]), rows[1][None], d[None])
        return _solve(u, feasible, a, np.zeros(3))

    def answer(p):
        a, D, rows, b, d = terms(p, np)
        system = np.block([[np.diag(D), rows.T], [rows, np.zeros((2, 2))]])
        y = np.linalg.solve(system, np.concatenate([a, [b, d]]))
        return y[:3], np.array([y[3], 0.0, y[4]])

    def read(f):
        return jnp.concatenate([f.multipliers.inequality, f.multipliers.equality])

    a = np.array([5.0, 2.0, -1.0]) / unit
    at = [*a, 1.0, 0.4, 0.3, 1.1 * unit, 0.2, 0.7, 0.6 * unit, 0.5, -1.0, 2.0, 0.2, -0.3, 0.1]
    return Case(found, answer, read, np.array(at))


def ellipsoid(unit: float = 1.0) -> Case:
    # u = a.r under sum (r / w)^2 <= B: r = w^2 a sqrt(B) / s, s = |w a|, multiplier s / (2 sqrt B)
    def found(p):
        within = sj.Constrained(lambda a, r, x: jnp.sum((r / p[2:4]) ** 2) - p[4])
        return _solve(lambda a, r, x: a @ r, within, p[:2], 0.1 * unit * np.ones(2))

    def answer(p):
        s, root = np.sqrt(np.sum((p[2:4] * p[:2]) ** 2)), np.sqrt(p[4])
        return p[2:4] ** 2 * p[:2] * root / s, np.array([s / (2 * root)])

    at = np.array([1.5, -0.8, 2.0 * unit, 0.7 * unit, 3.0])
    return Case(found, answer, lambda f: f.multipliers.inequality, at)


def budget(unit: float = 1.0) -> Case:
    # u = sum w log r under price . r = m: r_i = w_i m / (sum w  price_i); a unit of m: sum w / m
    def found(p):
        spent = sj.Constrained(equality=lambda a, r, x: a @ r - p[4], box=sj.Box(lower=1e-6 * unit))
        u = lambda a, r, x: jnp.sum(p[2:4] * jnp.log(r))
        return _solve(u, spent, p[:2], unit * np.array([1.0, 0.4]))

    def answer(p):
        return p[2:4] * p[4] / (p[2:4].sum() * p[:2]), np.array([p[2:4].sum() / p[4]])

    at = np.array([2 / unit, 5 / unit, 0.4, 1.1, 3.0])
    return Case(found, answer, lambda f: f.multipliers.equality, at)


CASES = {
    "box, inside": box_inside,
    "box, at a bound": box_active,
    "box, at a bound, start on it": lambda: box_active(start=(0.0, 1.7)),
    "box, at a bound, units of 1e3": lambda: box_active(1e3),
    "simplex, shares": simplex_shares,
    "simplex, shares of 2.5e-3": lambda: simplex_shares(1e-3),
    "simplex, on a face": simplex_face,
    "simplex, on a face, units of 1e3": lambda: simplex_face(1e3),
    "ball, on the sphere": lambda: ball(True),
    "ball, inside": lambda: ball(False),
    "polyhedron": polyhedron,
    "polyhedron, units of 1e-3": lambda: polyhedron(1e-3),
    "ellipsoid": ellipsoid,
    "ellipsoid, units of 1e3": lambda: ellipsoid(1e3),
    "budget": budget,
    "budget, units of 1e-3": lambda: budget(1e-3),
}


def some(*quick: str) -> list:
    """All cases; but for those named here they take long."""
    slow = lambda name: [] if name in quick else pytest.mark.slow
    return [pytest.param(name, marks=slow(name), id=name) for name in CASES]


def outputs(case: Case):
    """The library's answer as one function of the parameters, relative to their size."""

    def both(q):
        found = case.found(q * case.at)
        return jnp.concatenate([jnp.ravel(found.value), jnp.ravel(case.read(found))])

    return both


def by_hand(case: Case, q: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in case.answer(q * case.at)])


def differences(f, q: np.ndarray, step: float) -> np.ndarray:
    """`[..., k]` derivatives by central differences, extrapolated once."""
    columns = []
    for place in np.eye(len(q)):
        central = lambda h, e=place: (f(q + h * e) - f(q - h * e)) / (2 * h)
        columns.append((4 * central(step / 2) - central(step)) / 3)
    return np.stack(columns, axis=-1)


def assert_near(got, wanted, value, tol):
    """Each output's derivatives, relative to the largest of them and of the output itself."""
    got, wanted = np.asarray(got, float), np.asarray(wanted, float)
    assert np.isfinite(got).all()
    rows = wanted.reshape(len(wanted), -1)
    size = np.maximum(np.abs(rows).max(1), np.abs(value))
    off = np.abs(got.reshape(rows.shape) - rows).max(1)
    np.testing.assert_array_less(off, tol * np.maximum(size, tol * np.abs(value).max()))


@pytest.mark.parametrize("name", some("polyhedron, units of 1e-3"))
def test_values_and_derivatives_follow_the_closed_form(x64, name):
    case = CASES[name]()
    one, f = np.ones(len(case.at)), outputs(case)
    hand = lambda q: by_hand(case, q)
    first = differences(hand, one, 1e-3)
    second = differences(lambda q: differences(hand, q, 1e-2), one, 1e-2)
    everything = jax.jit(
        lambda q: (
            case.found(q * case.at).converged, f(q), jax.jacfwd(f)(q), jax.jacrev(f)(q),
            jax.jacfwd(jax.jacrev(f))(q), jax.jacrev(jax.jacrev(f))(q),
        )
    )  # fmt: skip
    converged, value, forward, reverse, mixed, twice = everything(jnp.ones(len(case.at)))
    assert converged
    assert_near(value[:, None], hand(one)[:, None], hand(one), 1e-6)
    assert_near(forward, first, hand(one), 1e-5)
    assert_near(reverse, first, hand(one), 1e-5)
    assert_near(mixed, second, hand(one), 1e-3)
    assert_near(twice, second, hand(one), 1e-3)


@pytest.mark.parametrize("name", some("ball, on the sphere"))
def test_leader_utility_has_the_hessian_of_the_closed_form(x64, name):
    """grad of grad, and a directional one, of `sin(w.z) + z.z / 2`, z values and multipliers."""
    case = CASES[name]()
    one, f = np.ones(len(case.at)), outputs(case)
    size = np.abs(by_hand(case, one))
    scale = 1 / np.maximum(size, 1e-3 * size.max())
    weights = np.cos(np.arange(len(scale)))

    def leader(y, np):
        z = y * scale
        return np.sin(weights @ z) + z @ z / 2

    hand = lambda q: np.asarray(leader(by_hand(case, q), np))
    first = differences(hand, one, 1e-3)
    second = differences(lambda q: differences(hand, q, 1e-2), one, 1e-2)
    theirs = lambda q: leader(f(q), jnp)
    direction = jnp.asarray(np.sin(1 + np.arange(len(one))))
    point = jnp.ones(len(one))
    slope, of_slope, along = jax.jit(
        lambda q: (
            jax.grad(theirs)(q),
            jax.jacrev(jax.grad(theirs))(q),
            jax.jvp(jax.grad(theirs), (q,), (direction,))[1],
        )
    )(point)
    size = np.abs(second).max()
    np.testing.assert_allclose(slope, first, rtol=1e-4, atol=1e-5 * np.abs(first).max())
    np.testing.assert_allclose(of_slope, second, rtol=1e-3, atol=1e-3 * size)
    np.testing.assert_allclose(of_slope, of_slope.T, rtol=1e-6, atol=1e-6 * size)
    np.testing.assert_allclose(along, second @ np.asarray(direction), rtol=1e-3, atol=2e-3 * size)
