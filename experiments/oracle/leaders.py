"""Bilevel games of up to 3 + 3 numbers, in units of both players' utilities.

A converged play is wrong if the response is not the follower's best, or if a nearby action is
better for the leader; it is `missed` if it is a local optimum and the global one is better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.boxes import positive_definite
from experiments.oracle.boxes_by_enumeration import enumerate_box
from experiments.oracle.draws import cast
from experiments.oracle.judge import programs
from experiments.oracle.kind import Params
from experiments.oracle.leaders_by_enumeration import (
    linear_optimum,
    linear_regret,
    quadratic_optimum,
)
from experiments.oracle.tally import Tally


@dataclasses.dataclass(frozen=True)
class LeaderKind:
    """Bilevel games of one form.

    Attributes:
      name: what it is called in tables.
      draw: `(rng, N)` to `N` games.
      optimum: the leader's best value, `[N]`, `nan` where there is none.
      regret: `(games, action, response)` to `[N]`, how far the response is from a best one.
      value: `(games, action, response)` to `[N]`, the leader's utility.
      near: `(games, action, rng)` to `[N]`, the best value of actions nearby, or None.
      game: one game's arrays to a `Game`; `unit_l` and `unit_f` multiply the utilities.
      solver: `sj.solve`'s.
      starts: `sj.solve`'s.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Params]
    optimum: Callable[[Params], np.ndarray]
    regret: Callable[[Params, np.ndarray, np.ndarray], np.ndarray]
    value: Callable[[Params, np.ndarray, np.ndarray], np.ndarray]
    near: Callable[[Params, np.ndarray, np.random.Generator], np.ndarray] | None
    game: Callable[[dict[str, Any]], sj.Game]
    solver: Callable[[], Any] = sj.Complementarity
    starts: int | None = None
    unconverged: tuple[float, float] = (0.1, 0.05)
    missed: float = 0.05


NEAR = 0.002
"""How close an action is that must not be better: further away another optimum may be."""


def judge_leader(
    kind: LeaderKind, dtype: str, games: int, seed: int = 0, *, units: bool = False
) -> Tally:
    """Draws games, asks both sides, and counts; as `judge`."""
    rng = np.random.default_rng([seed, len(kind.name)])
    params = cast(kind.draw(rng, games), dtype)
    best = kind.optimum(params)
    decades = 4 if dtype == "float32" else 6
    one = np.ones(games)
    asked = params | {"unit_l": one, "unit_f": one}
    if units:
        power = rng.uniform(-decades, decades, (2, games))
        asked |= cast({"unit_l": 10.0 ** power[0], "unit_f": 10.0 ** power[1]}, dtype)
    k, d = params["l"].shape[1], params["r"].shape[1]

    def play(p: dict[str, Any]) -> Any:
        found = sj.solve(
            kind.game(p),
            action=p["l"],
            response=p["r"],
            context=None,
            solver=kind.solver(),
            starts=kind.starts,
        )
        return found.action, found.response, found.converged, found.unique

    with jax.enable_x64(dtype == "float64"):
        given = {name: jnp.asarray(v, dtype) for name, v in asked.items()}
        key = (kind.name, dtype, games)
        if key not in programs:
            programs[key] = jax.jit(jax.vmap(play)).lower(given).compile()
        action, response, sure, unique = map(np.asarray, programs[key](given))
    action, response = action.astype(float).reshape(-1, k), response.astype(float).reshape(-1, d)
    finite = np.isfinite(action).all(-1) & np.isfinite(response).all(-1)
    action, response = np.nan_to_num(action), np.nan_to_num(response)
    tolerance = 2e-3 if dtype == "float32" else 1e-5
    # Values are of size 1 by construction.
    known = np.isfinite(best)
    value = kind.value(params, action, response)
    below = known & sure & (best - value > tolerance)
    wrong = known & sure & (kind.regret(params, action, response) > tolerance)
    wrong |= known & sure & (value - best > tolerance)
    if kind.near is not None and below.any():
        # Of a local optimum no action as close as this is better by more than a slope of 0.02.
        wrong |= below & (kind.near(params, action, rng) - value > 0.02 * NEAR)
    missed = below & ~wrong
    example = None
    if (wrong | missed).any():
        lane = int(np.flatnonzero(wrong if wrong.any() else missed)[0])
        example = {"game": {name: v[lane].tolist() for name, v in asked.items()}}
        example |= {"action": action[lane].tolist(), "response": response[lane].tolist()}
        example |= {"value": float(value[lane]), "right": float(best[lane])}
    return Tally(
        kind.name,
        dtype,
        games=games,
        converged=int(sure.sum()),
        wrong=int(wrong.sum()),
        missed=int(missed.sum()),
        unproved=int((~known).sum()),
        not_finite=int((~finite).sum()),
        not_unique=int((sure & ~unique).sum()),
        smallest=example,
    )


def _quadratic(k: int, d: int) -> Any:
    def draw(rng: np.random.Generator, n: int) -> Params:
        H = positive_definite(rng, n, k + d)
        best = rng.uniform(-0.3, 1.3, (n, k + d))
        p = {
            "Q": positive_definite(rng, n, d),
            "B": rng.normal(size=(n, d, k)),
            "c": rng.normal(size=(n, d)),
            "low": rng.uniform(-1.0, 0.0, (n, d)),
            "high": rng.uniform(0.2, 1.0, (n, d)),
            "H": H,
            "h": np.einsum("nij,nj->ni", H, best),
            "l": rng.uniform(size=(n, k)),
        }
        return p | {"r": rng.uniform(p["low"], p["high"])}

    return draw


def _answer(p: Params, action: np.ndarray) -> np.ndarray:
    c = p["c"] + np.einsum("nij,nj->ni", p["B"], action)
    return enumerate_box(p["Q"], c, p["low"], p["high"])


def _quadratic_value(p: Params, action: np.ndarray, response: np.ndarray) -> np.ndarray:
    z = np.concatenate([action, response], 1)
    return (p["h"] * z).sum(-1) - np.einsum("ni,nij,nj->n", z, p["H"], z) / 2


def _quadratic_near(p: Params, action: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The best of 60 actions within `NEAR`, the follower answering each."""
    best = np.full(len(action), -np.inf)
    for _ in range(60):
        other = np.clip(action + NEAR * rng.uniform(-1, 1, action.shape), 0, 1)
        best = np.maximum(best, _quadratic_value(p, other, _answer(p, other)))
    return best


def _quadratic_game(p: dict[str, Any]) -> sj.Game:
    def leader(a: Any, r: Any, x: Any) -> Any:
        z = jnp.concatenate([a, r])
        return p["unit_l"] * (p["h"] @ z - z @ p["H"] @ z / 2)

    def follower(a: Any, r: Any, x: Any) -> Any:
        return p["unit_f"] * ((p["c"] + p["B"] @ a) @ r - r @ p["Q"] @ r / 2)

    inside = sj.Box(p["low"], p["high"])
    return sj.Game(leader, follower, action_set=sj.Box(0.0, 1.0), response_set=inside)


def _linear(k: int, d: int, m: int) -> Any:
    def draw(rng: np.random.Generator, n: int) -> Params:
        f = rng.normal(size=(n, d))
        A, B = rng.normal(size=(n, m, d)), rng.normal(size=(n, m, k))
        tied = rng.integers(3, size=n)  # a third of the followers is indifferent along a row
        f = np.where((tied == 1)[:, None], A[:, 0], f)
        f[:, 0] = np.where(tied == 2, 0.0, f[:, 0])
        inside = rng.uniform(0.2, 0.8, (n, k + d))
        whole = np.concatenate([B, A], 2)
        b = np.einsum("nmi,ni->nm", whole, inside) + rng.uniform(0.1, 0.6, (n, m))
        h = rng.normal(size=(n, k + d))
        start = rng.uniform(size=(n, k + d))
        return {"f": f, "A": A, "B": B, "b": b, "h": h, "l": start[:, :k], "r": start[:, k:]}

    return draw


def _linear_value(p: Params, action: np.ndarray, response: np.ndarray) -> np.ndarray:
    return (p["h"] * np.concatenate([action, response], 1)).sum(-1)


def _linear_game(p: dict[str, Any]) -> sj.Game:
    leader = lambda a, r, x: p["unit_l"] * (p["h"] @ jnp.concatenate([a, r]))
    follower = lambda a, r, x: p["unit_f"] * (p["f"] @ r)
    rows = sj.Polyhedron(p["A"], lambda a, x: p["b"] - p["B"] @ a, box=sj.Box(0.0, 1.0))
    return sj.Game(leader, follower, action_set=sj.Box(0.0, 1.0), response_set=rows)


def _quadratic_regret(p: Params, action: np.ndarray, response: np.ndarray) -> np.ndarray:
    return np.abs(response - _answer(p, action)).max(-1)


quadratic_optimum_value = lambda p: quadratic_optimum(p)[0]

LEADERS = (
    LeaderKind(
        "linear bilevel, 1 + 2",
        _linear(1, 2, 2),
        linear_optimum,
        linear_regret,
        _linear_value,
        None,
        _linear_game,
    ),
    LeaderKind(
        "linear bilevel, 3 + 3",
        _linear(3, 3, 3),
        linear_optimum,
        linear_regret,
        _linear_value,
        None,
        _linear_game,
    ),
    *(
        LeaderKind(
            f"quadratic bilevel, {k} + {d}, {name}",
            _quadratic(k, d),
            quadratic_optimum_value,
            _quadratic_regret,
            _quadratic_value,
            _quadratic_near,
            _quadratic_game,
            solver,
            starts,
        )
        for k, d, name, solver, starts in (
            (1, 2, "complementarity", sj.Complementarity, None),
            (1, 2, "Newton", sj.Newton, 8),
            (2, 3, "complementarity", sj.Complementarity, None),
        )
    ),
)
