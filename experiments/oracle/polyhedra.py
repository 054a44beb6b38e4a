"""Followers in polyhedra: plain, redundant, badly scaled, thin, equalities said twice.

The oracle is always given the irredundant rows of the drawn game, the library what the kind makes
of them: the answer and its derivatives must not depend on how a set is written down.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.boxes import positive_definite, quadratic, starts
from experiments.oracle.kind import Answer, Kind, Params
from experiments.oracle.polyhedra_by_enumeration import enumerate_polyhedron, report_polyhedron


def _draw(d: int, m: int, p: int, thin: bool = False) -> Any:
    """Boxes cut by `m` rows and `p` equalities through a point inside; `thin` closes two rows."""

    def draw(rng: np.random.Generator, n: int) -> Params:
        inside = rng.normal(size=(n, d))
        lower = inside - rng.uniform(0.2, 2.0, (n, d))
        upper = inside + rng.uniform(0.2, 2.0, (n, d))
        A = rng.normal(size=(n, m, d))
        b = np.einsum("nmi,ni->nm", A, inside) + rng.uniform(0.05, 1.0, (n, m))
        E = rng.normal(size=(n, p, d))
        if thin:  # a slab, from a hundredth to a thousandth of a unit wide
            A[:, 1] = -A[:, 0]
            width = 10.0 ** rng.uniform(-3, -2, n)
            b[:, 0] = np.einsum("ni,ni->n", A[:, 0], inside) + width / 2
            b[:, 1] = width - b[:, 0]
        Q = positive_definite(rng, n, d)
        far = rng.choice([0.5, 2.0, 5.0], size=(n, 1))
        middle = inside + far * rng.normal(size=(n, d))
        c = np.einsum("nij,nj->ni", Q, middle)
        found = {"Q": Q, "c": c, "A": A, "b": b, "lower": lower, "upper": upper}
        if p:
            found |= {"E": E, "d": np.einsum("npi,ni->np", E, inside)}
        rows = 10.0 ** rng.uniform(-3, 3, (n, m))
        twice = 2.0 ** rng.integers(-10, 10, (n, max(p, 1)))
        return found | {"rows": rows, "twice": twice, "start": starts(rng, lower, upper)}

    return draw


def _oracle(p: Params) -> Answer:
    n, d = p["c"].shape
    eye = np.broadcast_to(np.eye(d), (n, d, d))
    A = np.concatenate([p["A"], eye, -eye], 1)
    b = np.concatenate([p["b"], p["upper"], -p["lower"]], 1)
    E, right = p.get("E"), p.get("d")
    y, multipliers = enumerate_polyhedron(p["Q"], p["c"], A, b, E, right)
    gradient = p["c"] - np.einsum("nij,nj->ni", p["Q"], y)
    stiff = np.einsum("nii->n", p["Q"]) / d
    size = np.minimum((p["upper"] - p["lower"]).max(-1), np.abs(p["upper"]).max(-1) + 1)
    return report_polyhedron(y, multipliers, gradient, stiff, A, b, E, right, size)


def _game(terms: Any) -> Any:
    """A game whose polyhedron is `terms(p, A, b)`, with columns in the library's units."""

    def game(p: dict[str, Any]) -> Any:
        u = lambda a, r, x: quadratic(p, r)
        box = sj.Box(p["lower"] / p["scale"], p["upper"] / p["scale"])
        A, b, E, d, action = terms(p, p["A"] * p["scale"][None])
        return sj.Game(u, u, response_set=sj.Polyhedron(A, b, E, d, box=box)), action, None

    return game


def _plain(p: Any, A: Any) -> Any:
    return A, p["b"], None, None, jnp.zeros(())


def _moving(p: Any, A: Any) -> Any:
    """Rows of any length that are functions of the action."""
    rows = p["rows"][:, None]
    return lambda a, x: a[0] * rows, lambda a, x: a[1] * p["rows"], None, None, (A, p["b"])


def _repeated(p: Any, A: Any) -> Any:
    """Every row three times, in different lengths."""
    rows = p["rows"][:, None]
    return (
        jnp.concatenate([A, A * rows, 3.0 * A]),
        jnp.concatenate([p["b"], p["b"] * p["rows"], 3.0 * p["b"]]),
        None,
        None,
        jnp.zeros(()),
    )


def _equality(p: Any, A: Any) -> Any:
    return A, p["b"], p["E"] * p["scale"][None], p["d"], jnp.zeros(())


def _equality_again(p: Any, A: Any) -> Any:
    """The equality, and again as two inequalities."""
    E, twice = p["E"] * p["scale"][None], p["twice"]
    A = jnp.concatenate([A, E * twice[:, None], -E * twice[:, None]])
    b = jnp.concatenate([p["b"], p["d"] * twice, -p["d"] * twice])
    return A, b, E, p["d"], jnp.zeros(())


def _equality_as_pair(p: Any, A: Any) -> Any:
    """The equality as two inequalities only."""
    A, b, _, _, action = _equality_again(p, A)
    return A, b, None, None, action


_ROWS, _EQUAL = ("Q", "c", "A", "b", "lower", "upper"), ("E", "d")
_HARD = (0.05, 0.02)

POLYHEDRA = (
    Kind("polyhedron, d = 3", _draw(3, 4, 0), _oracle, _game(_plain), _ROWS, second=True),
    Kind("polyhedron that moves, d = 2", _draw(2, 3, 0), _oracle, _game(_moving), _ROWS),
    Kind("rows repeated, d = 3", _draw(3, 2, 0), _oracle, _game(_repeated), _ROWS, _HARD),
    Kind("slab, d = 3", _draw(3, 3, 0, True), _oracle, _game(_plain), _ROWS, _HARD),
    *(
        Kind(name, _draw(3, 2, 1), _oracle, _game(terms), _ROWS + _EQUAL, limit)
        for name, terms, limit in (
            ("equality, d = 3", _equality, (0.005, 0.005)),
            ("equality, and as two inequalities, d = 3", _equality_again, _HARD),
            ("equality as two inequalities, d = 3", _equality_as_pair, _HARD),
        )
    ),
    Kind("two equalities, d = 5", _draw(5, 2, 2), _oracle, _game(_equality), _ROWS + _EQUAL),
)
