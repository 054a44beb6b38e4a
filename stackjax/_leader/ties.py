"""Whether a follower has best responses far from the one it is expected to give."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from stackjax._arrays.typing import Vector
from stackjax.solvers._newton import Newton
from stackjax.solvers._solver import Problem
from stackjax.solvers.proof._global import Global

# Responses that are closer in each number, as a share of the box, are of one peak.
ONE_PEAK = 0.05
# The tolerance of the bounds: below what one response must be better by.
_GAP = 1e-7

Utility = Callable[[Vector], Vector]


class Rivals(NamedTuple):
    """The best responses on each of `2 d` sides of a response, outside of its own peak.

    Attributes:
      points: `[2 d, d]`.
      values: `[2 d]` what they are worth; -inf where there is nothing on that side.
      uppers: `[2 d]` what any response on that side is worth at most.
    """

    points: Vector
    values: Vector
    uppers: Vector


def climbed(utility: Utility, response: Vector, low: Vector, high: Vector) -> Vector:
    """Where Newton's method ends from a response `[d]`, if that is better."""
    none = jnp.zeros(0, response.dtype)
    problem = Problem(utility, low, high, lambda _: (none, none))
    moved = Newton().maximise(problem, response).value
    return jnp.where(utility(moved) >= utility(response), moved, response)


def rivals_of(
    utility: Utility, response: Vector, low: Vector, high: Vector, proof: Global
) -> Rivals:
    """Branch and bound on the boxes that the others leave of the follower's.

    Args:
      utility: `[d] -> scalar`.
      response: `[d]`.
      low: `[d]`, finite.
      high: `[d]`, finite.
      proof: its settings.
    """
    d, away = len(response), ONE_PEAK * (high - low)
    finer = dataclasses.replace(proof, gap=min(proof.gap, _GAP))
    one = jnp.eye(d, dtype=bool)
    below = jnp.where(one, jnp.maximum(response - away, low)[None], high[None])
    above = jnp.where(one, jnp.minimum(response + away, high)[None], low[None])
    every = lambda side: jnp.broadcast_to(side, (d, d))
    lows, highs = jnp.concatenate([every(low), above]), jnp.concatenate([below, every(high)])
    there = jnp.concatenate([response - away > low, response + away < high])

    def side(box: tuple[Vector, Vector]) -> tuple[Vector, Vector, Vector]:
        found = finer.prove(utility, 0.5 * box[0] + 0.5 * box[1], *box)
        moved = climbed(utility, found.value, low, high)
        # Next to the response's own peak the best of a side is at its edge.
        own = jnp.all(jnp.abs(moved - response) <= away)
        point = jnp.where(own, found.value, moved)
        return point, utility(point), found.upper

    points, values, uppers = lax.map(side, (lows, highs))
    none = -jnp.inf
    return Rivals(points, jnp.where(there, values, none), jnp.where(there, uppers, none))
