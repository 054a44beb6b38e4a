"""Games without an answer, which must never come back converged.

Empty sets contradict themselves by 1e-3 and 5e-4 of their size, in random directions, units and
numbers of rows. Unbounded followers gain for ever along some ray: linearly, logarithmically, or
towards a supremum that no response attains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.kind import Params


@dataclasses.dataclass(frozen=True)
class Trap:
    """Games without an answer.

    Attributes:
      name: what it is called in tables.
      draw: `(rng, N)` to `N` games with a `start`.
      game: one game's arrays to a `Game`, traced by JAX.
      flat: the supremum is attained by rounding alone, far out, where every response is as good;
        converged will then do, unless it is called unique.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Params]
    game: Callable[[dict[str, Any]], sj.Game]
    flat: bool = False


def caught(trap: Trap, dtype: str, games: int, seed: int = 0) -> tuple[np.ndarray, Params]:
    """`[N]`, which came back converged, or with a value that is not finite; and the games."""
    params = trap.draw(np.random.default_rng(seed), games)

    def answer(p: dict[str, Any]) -> Any:
        found = sj.best_response(trap.game(p), 0.0, None, response=p["start"])
        return found.converged & (found.unique | (not trap.flat)), found.value

    with jax.enable_x64(dtype == "float64"):
        given = {k: jnp.asarray(v, dtype) for k, v in params.items()}
        converged, value = jax.jit(jax.vmap(answer))(given)
    return np.asarray(converged) | ~np.isfinite(np.asarray(value)).all(-1), params


def _contradiction(rng: np.random.Generator, n: int) -> Params:
    """Two rows `a'r <= b - gap` and `a'r >= b + gap`, and two harmless ones."""
    d = 3
    row = rng.normal(size=(n, d))
    b = rng.choice([0.0, 1.0, -2.0], size=n)
    size = np.maximum(np.abs(b), np.linalg.norm(row, axis=-1))
    gap = size * rng.choice([1e-3, 5e-4, 1e-2, 0.1], size=n)
    other = rng.normal(size=(n, 2, d))
    A = np.concatenate([row[:, None], -row[:, None], other], 1)
    ends = np.stack([b - gap, -b - gap, 1 + 0 * b, 1 + 0 * b], 1)
    scale = 10.0 ** rng.choice([0.0, 0.0, 2.0, -2.0], size=(n, 4))
    middle = rng.choice([0.0, 1.0, 5.0], size=(n, 1)) * rng.normal(size=(n, d))
    start = rng.normal(size=(n, d))
    return {"A": A * scale[..., None], "b": ends * scale, "m": middle, "start": start}


def _toward(p: dict[str, Any]) -> Any:
    return lambda a, r, x: -((r - p["m"]) ** 2).sum()


def _rows(p: dict[str, Any]) -> sj.Game:
    u = _toward(p)
    return sj.Game(u, u, response_set=sj.Polyhedron(p["A"], p["b"]))


def _rows_in_a_box(p: dict[str, Any]) -> sj.Game:
    u = _toward(p)
    return sj.Game(u, u, response_set=sj.Polyhedron(p["A"], p["b"], box=sj.Box(-10.0, 10.0)))


def _equalities(rng: np.random.Generator, n: int) -> Params:
    """The same equality twice, with right sides that differ by the gap."""
    row, d = rng.normal(size=(n, 3)), rng.uniform(0.5, 2.0, n)
    gap = d * rng.choice([1e-3, 5e-4, 1e-2], size=n)
    E, right = np.stack([row, 2 * row], 1), np.stack([d, 2 * d + 2 * gap], 1)
    return {"E": E, "d": right, "m": rng.normal(size=(n, 3)), "start": rng.normal(size=(n, 3))}


def _two_equalities(p: dict[str, Any]) -> sj.Game:
    u = _toward(p)
    return sj.Game(u, u, response_set=sj.Polyhedron(E=p["E"], d=p["d"]))


def _balls_apart(rng: np.random.Generator, n: int) -> Params:
    """Two discs whose distance is 1e-3 or more of their radius."""
    way = rng.normal(size=(n, 2))
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    gap = rng.choice([1e-3, 1e-2, 0.3], size=(n, 1))
    return {"c": way * (2 + gap), "m": rng.normal(size=(n, 2)), "start": rng.normal(size=(n, 2))}


def _two_discs(p: dict[str, Any]) -> sj.Game:
    u = _toward(p)
    both = lambda a, r, x: jnp.stack([r @ r - 1, ((r - p["c"]) ** 2).sum() - 1])
    return sj.Game(u, u, response_set=sj.Constrained(both))


def _ray(rng: np.random.Generator, n: int) -> Params:
    slope = rng.uniform(0.1, 3.0, (n, 2)) * 10.0 ** rng.uniform(-2, 2, (n, 1))
    return {"c": slope, "start": rng.normal(size=(n, 2)) * rng.choice([0.0, 1.0], size=(n, 1))}


def _open_above(utility: Any, feasible: Any) -> Any:
    def game(p: dict[str, Any]) -> sj.Game:
        u = lambda a, r, x: utility(p, r)
        return sj.Game(u, u, response_set=feasible(p))

    return game


_half = lambda p: sj.Box(0.0)
_all = lambda p: sj.Box()
_cone = lambda p: sj.Polyhedron(
    jnp.array([[1.0, -2.0]]).astype(p["c"].dtype), jnp.ones_like(p["c"][:1])
)

TRAPS = (
    Trap("rows that contradict", _contradiction, _rows),
    Trap("rows that contradict in a box", _contradiction, _rows_in_a_box),
    Trap("equalities that contradict", _equalities, _two_equalities),
    Trap("discs apart", _balls_apart, _two_discs),
    Trap("linear, half open", _ray, _open_above(lambda p, r: p["c"] @ r, _half)),
    Trap("linear in one, strongly concave in the other", _ray,
         _open_above(lambda p, r: p["c"][0] * r[0] - (r[1] - p["c"][1]) ** 2, _all)),
    Trap("logarithm, half open", _ray, _open_above(lambda p, r: p["c"] @ jnp.log1p(r), _half)),
    Trap("saturating, half open", _ray,
         _open_above(lambda p, r: -jnp.exp(-p["c"] * r / p["c"].max()).sum(), _half), flat=True),
    Trap("convex", _ray, _open_above(lambda p, r: (p["c"] * r * r + r).sum(), _all)),
    Trap("linear in a cone", _ray, _open_above(lambda p, r: p["c"] @ r, _cone)),
)  # fmt: skip
