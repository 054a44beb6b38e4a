"""Quadratic followers in boxes of every size, with bounds of every sort and awkward starts."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.boxes_by_enumeration import enumerate_box, report_box
from experiments.oracle.concave import ascend, polish
from experiments.oracle.kind import Answer, Kind, Params


def positive_definite(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """`[n, d, d]`, eigenvalues between about 1/3 and 4, strongly coupled."""
    M = rng.normal(size=(n, d, d)) / np.sqrt(d)
    return M @ M.transpose(0, 2, 1) + np.eye(d) / 3


def starts(rng: np.random.Generator, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Inside, at a corner, or outside of the bounds, a third of the games each."""
    low = np.where(np.isfinite(lower), lower, np.where(np.isfinite(upper), upper - 2, -2.0))
    high = np.where(np.isfinite(upper), upper, low + 4)
    share = rng.uniform(size=lower.shape)
    sort = rng.integers(3, size=(len(lower), 1))
    share = np.where(sort == 1, np.round(share), np.where(sort == 2, 6 * share - 2.5, share))
    return low + share * (high - low)


def bounds(rng: np.random.Generator, n: int, d: int, sort: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds around 0: `random`, `decimals`, `one-sided`, `pinned`, or a `mixed` lot."""
    lower, upper = -rng.exponential(size=(n, d)), rng.exponential(size=(n, d))
    if sort in ("decimals", "mixed"):
        short = rng.uniform(size=(n, 1)) < (0.5 if sort == "mixed" else 1.1)
        lower = np.where(short, np.round(lower - 0.05, 1), lower)
        upper = np.where(short, np.round(upper + 0.05, 1), upper)
    if sort in ("one-sided", "mixed"):
        which = rng.integers(3 if sort == "one-sided" else 8, size=(n, d))
        lower = np.where(which == 0, -np.inf, lower)
        upper = np.where(which == 1, np.inf, upper)
    if sort in ("pinned", "mixed"):
        pinned = rng.uniform(size=(n, d)) < (0.4 if sort == "pinned" else 0.1)
        upper = np.where(pinned & np.isfinite(lower), lower, upper)
    return lower, upper


def _draw(d: int, sort: str) -> Any:
    def draw(rng: np.random.Generator, n: int) -> Params:
        lower, upper = bounds(rng, n, d, sort)
        Q = positive_definite(rng, n, d)
        # The unconstrained maximum lies anywhere from inside to far outside.
        far = rng.choice([0.3, 1.0, 4.0], size=(n, 1))
        c = np.einsum("nij,nj->ni", Q, far * rng.normal(size=(n, d)))
        shift = rng.choice([0.0, 0.0, 3.0], size=(n, 1)) * rng.normal(size=(n, d))
        lower, upper = lower + shift, upper + shift
        return {
            "Q": Q,
            "c": c + np.einsum("nij,nj->ni", Q, shift),
            "lower": lower,
            "upper": upper,
            "start": starts(rng, lower, upper),
        }

    return draw


def _oracle(p: Params) -> Answer:
    Q, c, lower, upper = p["Q"], p["c"], p["lower"], p["upper"]
    gradient = lambda y: c - np.einsum("nij,nj->ni", Q, y)
    if c.shape[1] <= 5:
        y = enumerate_box(Q, c, lower, upper)
    else:
        y = ascend(gradient, np.linalg.norm(Q, 2, axis=(1, 2)), lower, upper)
        y = polish(gradient, lambda _: -Q, lower, upper, y)
    return report_box(y, gradient(y), np.einsum("nii->ni", Q), lower, upper)


def quadratic(p: dict[str, Any], r: Any) -> Any:
    """The utility, in the library's units of response and utility."""
    y = r * p["scale"]
    return p["unit"] * (p["c"] @ y - y @ p["Q"] @ y / 2)


def _closed_over(p: dict[str, Any]) -> Any:
    """Everything is traced and closed over, the bounds too."""
    u = lambda a, r, x: quadratic(p, r)
    box = sj.Box(p["lower"] / p["scale"], p["upper"] / p["scale"])
    return sj.Game(u, u, response_set=box), jnp.zeros(()), None


def _as_arguments(p: dict[str, Any]) -> Any:
    """The linear term is the action, the rest is the context."""
    u = lambda a, r, x: quadratic(x | {"c": a}, r)
    box = sj.Box(p["lower"] / p["scale"], p["upper"] / p["scale"])
    context = {k: p[k] for k in ("Q", "scale", "unit")}
    return sj.Game(u, u, response_set=box), p["c"], context


def _bounds_as_rows(p: dict[str, Any]) -> Any:
    """The bounds are rows of a polyhedron that depends on the action."""
    u = lambda a, r, x: quadratic(p, r)
    d = p["c"].shape[0]
    rows = jnp.concatenate([jnp.eye(d), -jnp.eye(d)]).astype(p["c"].dtype)
    ends = lambda a, x: jnp.concatenate([a[1], -a[0]])
    action = (p["lower"] / p["scale"], p["upper"] / p["scale"])
    return sj.Game(u, u, response_set=sj.Polyhedron(rows, ends)), action, None


MOVING = ("Q", "c", "lower", "upper")

_SIZES = (
    (1, "mixed", _closed_over, True),
    (2, "decimals", _closed_over, True),
    (2, "random", _as_arguments, False),
    (3, "mixed", _as_arguments, True),
    (3, "pinned", _closed_over, False),
    (3, "one-sided", _as_arguments, False),
    (5, "random", _closed_over, False),
    (8, "mixed", _closed_over, False),
    (12, "random", _as_arguments, False),
    (64, "random", _closed_over, False),
)

BOXES = (
    *(
        Kind(f"box, d = {d}, {sort} bounds", _draw(d, sort), _oracle, game, MOVING, second=second)
        for d, sort, game, second in _SIZES
    ),
    Kind(
        "box as rows that move with the action, d = 2",
        _draw(2, "random"),
        _oracle,
        _bounds_as_rows,
        MOVING,
        unconverged=(0.02, 0.02),
    ),
)
