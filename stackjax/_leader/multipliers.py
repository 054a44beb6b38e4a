"""Shadow prices of the leader's own constraints."""

import jax
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.typing import PyTree, Vector
from stackjax._follower.multipliers import held, of_bounds
from stackjax._follower.response import Multipliers
from stackjax._follower.vectors import at_least_float32, filled_bounds, flat
from stackjax._game import Game


def of_projectable(game: Game, action: PyTree, slope: PyTree, response: PyTree) -> Multipliers:
    """The multipliers of a Box, Simplex or Ball of actions at the leader's optimum.

    Args:
      game: the game, whose action set has a projection.
      action: the optimum.
      slope: of the leader's utility through the response, shaped as `action`.
      response: the follower's.
    """
    feasible, wide = game.action_set, at_least_float32(action)
    bounds = filled_bounds(feasible, wide)
    found = held(feasible, wide, slope, bounds)

    def rows(point: PyTree) -> tuple[Vector, Vector]:
        return feasible.residuals(point, point, lax.stop_gradient(response), None)

    _, pull = jax.vjp(rows, wide)
    dtype = flat(wide).dtype
    inequality, equality = (part.astype(dtype) for part in (found.inequality, found.equality))
    through = pull((-inequality, -equality))[0]
    pushed = flat(slope) + flat(through)
    sides = of_bounds(pushed, found.lower, found.upper, bounds)
    unravel = ravel_pytree(wide)[1]
    return Multipliers(unravel(sides[0]), unravel(sides[1]), inequality, equality)
