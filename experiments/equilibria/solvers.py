"""stackjax and nashopt on a linear-quadratic game, each as its user would call it, in float64."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.equilibria.games import LinearQuadratic


class Answer(NamedTuple):
    """What a solver says.

    Attributes:
      value: `[d]`.
      converged: whether it calls that an equilibrium.
    """

    value: np.ndarray
    converged: bool


def utilities(cuts: tuple[tuple[int, int], ...]) -> tuple[Callable[..., jax.Array], ...]:
    """Of each follower, with the game's matrix and constant in the context."""

    def utility(number: int) -> Callable[..., jax.Array]:
        a, b = cuts[number]

        def of(action: Any, r: tuple[jax.Array, ...], game: Any) -> jax.Array:
            own, rest = r[number], jnp.concatenate(r).at[a:b].set(0.0)
            rows = game["matrix"][a:b]
            return -own @ (rows @ rest + rows[:, a:b] @ own / 2 + game["constant"][a:b])

        return of

    return tuple(map(utility, range(len(cuts))))


@cache
def _compiled(cuts: tuple[tuple[int, int], ...], shared: int) -> Callable[..., Any]:
    split = lambda y: tuple(y[a:b] for a, b in cuts)

    def solve(game: dict[str, jax.Array]) -> sj.Response:
        lower, upper = split(game["lower"]), split(game["upper"])
        rows = lambda action, r, x: x["normals"] @ jnp.concatenate(r) - x["limits"]
        sets: Any = tuple(map(sj.Box, lower, upper))
        if shared:
            sets = sj.Constrained(rows, box=sj.Box(lower, upper))
        play = sj.Game(lambda action, r, x: 0.0, utilities(cuts), response_set=sets)
        return sj.best_response(play, None, game, response=split(game["start"]))

    return jax.jit(solve)


def by_stackjax(game: LinearQuadratic) -> Answer:
    """`best_response`, compiled once for all games of one shape."""
    names = ("matrix", "constant", "lower", "upper", "normals", "limits", "start")
    arrays = {name: jnp.asarray(getattr(game, name)) for name in names}
    found = _compiled(tuple(game.cuts), len(game.limits))(arrays)
    return Answer(np.concatenate([np.asarray(r) for r in found.value]), bool(found.converged))


def by_nashopt(game: LinearQuadratic) -> Answer:
    """`GNEP(...).solve()`, with equal multipliers of what is shared; a residual of 1e-6 counts."""
    from nashopt import GNEP  # pyright: ignore[reportMissingImports]

    def cost(a: int, b: int) -> Callable[[jax.Array], jax.Array]:
        rows, own = jnp.asarray(game.matrix[a:b]), jnp.asarray(game.constant[a:b])
        rest = lambda y: jnp.asarray(y).at[a:b].set(0.0)
        return lambda y: y[a:b] @ (rows @ rest(y) + rows[:, a:b] @ y[a:b] / 2 + own)

    options: dict[str, Any] = {}
    if len(game.limits):
        normals, limits = jnp.asarray(game.normals), jnp.asarray(game.limits)
        options = {"g": lambda y: normals @ y - limits, "ng": len(limits), "variational": True}
    problem = GNEP(
        list(game.sizes),
        [cost(a, b) for a, b in game.cuts],
        lb=game.lower,
        ub=game.upper,
        **options,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        found = problem.solve(np.array(game.start), verbose=0)
    return Answer(np.asarray(found.x), float(np.linalg.norm(found.res)) <= 1e-6)
