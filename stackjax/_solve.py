"""One game: the leader's action optimised directly, through the follower's best response."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._game import Game, evaluate
from stackjax._implicit import argmax
from stackjax._response import (
    as_settings,
    as_start,
    at_least_float32,
    check_finite_utility,
    check_game,
    concrete,
    like,
    respond,
)
from stackjax._solvers import Newton

PyTree = Any


class Solution(struct.PyTreeNode):
    """A Stackelberg equilibrium, local in the leader's action.

    Attributes:
      action: the leader's action.
      response: the follower's best response to it.
      leader_utility: scalar; -inf where it is not finite.
      follower_utility: scalar; -inf where it is not finite.
      converged: scalar bool: the leader's action is stationary with no upward curvature, and the
        follower's response to it is optimal. If False, the rest is the best point found.
    """

    action: PyTree
    response: PyTree
    leader_utility: jax.Array
    follower_utility: jax.Array
    converged: jax.Array


def solve(
    game: Game,
    *,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    solver: Newton | None = None,
    follower_solver: Newton | None = None,
) -> Solution:
    """Maximises `U_L(l, response*(l, x), x)` over the leader's action set.

    A projected Newton method on the leader's utility as a function of the action alone, with
    exact first and second derivatives through the best response, which is solved again, from
    where it was, at every action tried. Finds a local optimum near the starting point.

    Unbatched: use `jax.vmap` over contexts. The solution is differentiable in `context`, the
    arrays of the game and what the utilities close over, by the implicit function theorem.

    Args:
      game: the game.
      action: the leader's starting point, a pytree of floating-point arrays; projected.
      response: the follower's starting point, likewise.
      context: the context, a pytree of arrays.
      solver: settings for the leader; `Newton()` if None.
      follower_solver: settings for the follower; `Newton()` if None.

    Returns:
      The `Solution`; non-convergence is reported there, not raised.

    Raises:
      TypeError: `game` is not a Game; a starting point is not floating point; a utility does not
        return a floating-point number.
      ValueError: a utility does not return a scalar, or, outside of transforms, is not a number
        at the starting point.

    Source: arXiv 2606.23026, Section 4.
    """
    check_game(game)
    settings = as_settings(solver, "solver"), as_settings(follower_solver, "follower_solver")
    action, response = as_start(action, "action"), as_start(response, "response")
    context = jax.tree.map(jnp.asarray, context)
    game.action_set.bounds(action)
    game.response_set.bounds(response)
    solution = _solve(game, action, response, context, *settings)
    if concrete(solution) and not solution.converged:
        start = game.action_set.project(action)
        for name in ("follower_utility", "leader_utility"):
            check_finite_utility(getattr(game, name), name, game, start, response, context)
        if not np.isfinite(solution.leader_utility):
            raise ValueError(
                f"`leader_utility` returned {float(solution.leader_utility)} at the follower's "
                "best response to the starting action; start elsewhere."
            )
    return solution


@partial(jax.jit, static_argnums=(4, 5))
def _solve(
    game: Game, action: PyTree, response: PyTree, context: PyTree, leader: Newton, follower: Newton
) -> Solution:
    start, unravel = ravel_pytree(at_least_float32(action))
    start_response, unravel_response = ravel_pytree(at_least_float32(response))
    bounds = game.action_set.bounds(unravel(start))

    def utility(y: jax.Array, warm: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, found = respond(game, unravel(y), context, unravel_response(warm), follower)
        gain = evaluate(game.leader_utility, "leader_utility", unravel(y), value, context)
        # An action whose follower has no answer is worth nothing: the search turns back.
        gain = jnp.where(found.converged > 0, gain.astype(y.dtype), -jnp.inf)
        return gain, lax.stop_gradient(ravel_pytree(value)[0])

    bounds = (ravel_pytree(bound)[0] for bound in bounds)
    y, found = argmax(utility, start, *bounds, settings=leader, aux=start_response)
    best = unravel(y)
    answer, report = respond(game, best, context, unravel_response(found.aux), follower)
    return Solution(
        action=like(best, action),
        response=like(answer, response),
        leader_utility=evaluate(game.leader_utility, "leader_utility", best, answer, context),
        follower_utility=evaluate(game.follower_utility, "follower_utility", best, answer, context),
        converged=(found.converged > 0) & (report.converged > 0),
    )
