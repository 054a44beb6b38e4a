"""What a kind of game consists of, and what its oracle answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Params = dict[str, np.ndarray]
"""Arrays with a leading axis of `N` games, float64, by name."""


class Answer(NamedTuple):
    """The oracle's answers to `N` games.

    Attributes:
      value: `[N, d]`, the best responses.
      unit: `[N, d]`, what an error of 1 in each coordinate is: the least of the width of its bounds
        and of the size of the answer and the bounds.
      margin: `[N]`, the least of all constraints' `max(slack, multiplier)`, each relative to its
        own size; `inf` without constraints. Below `DEGENERATE` derivatives are not compared.
      proof: `[N]`, how much the optimality conditions are violated, relative likewise.
    """

    value: np.ndarray
    unit: np.ndarray
    margin: np.ndarray
    proof: np.ndarray


DEGENERATE = 1e-3
PROVED = 1e-9
"""An answer whose conditions are violated by more is none, and its game is left out."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Games of one form and one shape, so that all of them share one compilation.

    Attributes:
      name: what it is called in tables.
      draw: `(rng, N)` to `N` games. `start` is where the library starts; whatever else is in it
        goes to `oracle` and, cast, to `game`.
      oracle: the answers.
      game: one game's arrays to `(Game, action, context)`, traced by JAX. `unit` multiplies the
        utility, and the library's response is `r / scale`.
      moving: names of the arrays along which derivatives are taken.
      unconverged: the largest share that may end without `converged`, by dtype.
      tolerance: of `unit`, the largest error of a converged value, by dtype.
      second: whether second derivatives are compared too.
      scales: `free`, `common` or `none`: the units of the response that the set allows.
      steep: by how much more than in a well-conditioned problem derivatives may be off.
      shape: of the library's response, if it is not a vector.
      solver: `sj.best_response`'s; a function, so that no JAX array is made at import.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Params]
    oracle: Callable[[Params], Answer]
    game: Callable[[dict[str, Any]], tuple[Any, Any, Any]]
    moving: tuple[str, ...]
    unconverged: tuple[float, float] = (0.005, 0.005)
    tolerance: tuple[float, float] = (2e-3, 1e-6)
    second: bool = False
    scales: str = "free"
    steep: float = 1.0
    shape: tuple[int, ...] = (-1,)
    solver: Callable[[], Any] = lambda: None


def unit_of(value: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The least of the bounds' width and of the size of the answer and of finite bounds.

    A coordinate that comes out near 0 by cancellation is no smaller than a tenth of its game's
    largest: rounding in the others moves it by as much.
    """
    finite = lambda bound: np.where(np.isfinite(bound), np.abs(bound), 0.0)
    size = np.maximum(np.abs(value), np.maximum(finite(lower), finite(upper)))
    size = np.maximum(size, 0.1 * size.max(-1, keepdims=True) + 1e-300)
    width = upper - lower
    return np.where(width > 0, np.minimum(width, size), size)
