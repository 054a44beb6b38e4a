"""What a projection costs: both players' utilities before it, and after it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import as_start
from stackjax._arrays.typing import PyTree
from stackjax._follower.arguments import check_game, check_one_follower
from stackjax._follower.best_response import best_response
from stackjax._game import Game, evaluate
from stackjax.solvers._solver import Solver


class Price(struct.PyTreeNode):
    """Both players' utilities around a projection; scalars, -inf where one is not finite.

    Attributes:
      leader_before: the leader's, at the proposed action and the answer to it.
      leader_held: at the projected action, with the old answer held.
      leader_after: at the projected action, with the new answer.
      follower_before: the follower's, likewise.
      follower_held: likewise.
      follower_after: likewise.
      response_before: the old answer.
      response_after: the new answer.
      converged_before: `[]` bool, whether the old answer is known to be the follower's best.
      converged_after: `[]` bool, the same of the new answer.

    Source: arXiv 2606.23026, Prop. 5.3.

    Example:
      >>> game = sj.Game(lambda a, r, x: a * (10.0 - a - r), lambda a, r, x: r * (10.0 - a - r))
      >>> price = sj.repair.price_of_projection(game, 5.0, 4.0, None, response=jnp.array(1.0))
      >>> print(price.response_before, price.response_after, price.leader, price.converged_after)
      2.5 3.0 0.5 True
    """

    leader_before: jax.Array
    leader_held: jax.Array
    leader_after: jax.Array
    follower_before: jax.Array
    follower_held: jax.Array
    follower_after: jax.Array
    response_before: PyTree
    response_after: PyTree
    converged_before: jax.Array
    converged_after: jax.Array

    @property
    def leader(self) -> jax.Array:
        """What the leader loses, `before - after`; negative for a gain, NaN if both are -inf."""
        return self.leader_before - self.leader_after

    @property
    def follower(self) -> jax.Array:
        """What the follower loses, `before - after`."""
        return self.follower_before - self.follower_after

    @property
    def converged(self) -> jax.Array:
        """Whether both answers are known to be best responses; a scalar bool."""
        return self.converged_before & self.converged_after


def price_of_projection(
    game: Game,
    action: PyTree,
    projected: PyTree,
    context: PyTree,
    *,
    response: PyTree,
    solver: Solver | None = None,
) -> Price:
    """The price of replacing the leader's action, after which the follower answers anew.

        before  U(a, r*(a)),      held  U(R(a), r*(a)),      after  U(R(a), r*(R(a))).

    The leader's price `before - after` may be negative: an action that was not optimal can gain by
    the move. `held - after` is the part of it that is due to the follower's new answer. Unbatched;
    `vmap` over plays. Differentiable in both actions, the context and the game, as `best_response`
    is.

    Args:
      game: the game.
      action: the leader's proposed action.
      projected: the action that is played instead, such as `project(action, tried).action`.
      context: the context.
      response: starting point of both searches for an answer.
      solver: the follower's settings, as in `best_response`.

    Raises:
      TypeError: `game` is not a Game, or see `best_response`.
      ValueError: `projected` is not shaped as `action`, or see `best_response`.

    Source: arXiv 2606.23026, eq. (29-30) and Prop. 5.3.

    Example:
      >>> game = sj.Game(lambda a, r, x: a * (10.0 - a - r), lambda a, r, x: r * (10.0 - a - r))
      >>> price = sj.repair.price_of_projection(game, 5.0, 4.0, None, response=jnp.array(1.0))
      >>> print(price.leader_before, price.leader_held, price.leader_after, price.leader)
      12.5 14.0 12.0 0.5
    """
    check_game(game)
    check_one_follower(game, "price_of_projection")
    action, projected = _same_shape("projected", projected, "action", action)
    before = best_response(game, action, context, response=response, solver=solver)
    after = best_response(game, projected, context, response=response, solver=solver)
    plays = [(action, before.value), (projected, before.value), (projected, after.value)]
    return _price(game, plays, context, before.converged, after.converged)


def price_of_response_projection(
    game: Game,
    action: PyTree,
    response: PyTree,
    projected: PyTree,
    context: PyTree,
) -> Price:
    """The price of replacing the follower's executed response, with the leader's action fixed.

        before  U(a, r),      held  U(a, r),      after  U(a, R(r)).

    The leader's signal went out and stays; the new answer is the projected one, and nobody answers
    again. No search is run, so `r` may come from any follower (a learned one, rules, a best
    response), and both flags only say whether the utilities are finite. Unbatched; `vmap` over
    plays.

    Args:
      game: the game.
      action: the leader's action.
      response: the follower's proposed response.
      projected: the response that is executed, such as `project(response, tried).action`.
      context: the context.

    Raises:
      TypeError: `game` is not a Game, or a response is not floating point.
      ValueError: `projected` is not shaped as `response`.

    Source: arXiv 2606.23026, eq. (29-30): the repair of the executed action.

    Example:
      >>> game = sj.Game(lambda a, r, x: a * (10.0 - a - r), lambda a, r, x: r * (10.0 - a - r))
      >>> response, projected = jnp.array(2.5), jnp.array(3.0)
      >>> price = sj.repair.price_of_response_projection(game, 5.0, response, projected, None)
      >>> print(price.leader, price.follower)
      2.5 0.25
    """
    check_game(game)
    check_one_follower(game, "price_of_response_projection")
    action = jax.tree.map(jnp.asarray, action)
    response, projected = as_start(response, "response"), as_start(projected, "projected")
    response, projected = _same_shape("projected", projected, "response", response)
    price = _price(
        game,
        [(action, response), (action, response), (action, projected)],
        context,
        jnp.ones((), bool),
        jnp.ones((), bool),
    )
    return price.replace(
        converged_before=jnp.isfinite(price.leader_before) & jnp.isfinite(price.follower_before),
        converged_after=jnp.isfinite(price.leader_after) & jnp.isfinite(price.follower_after),
    )


def _price(
    game: Game,
    plays: list[tuple[PyTree, PyTree]],
    context: PyTree,
    converged_before: jax.Array,
    converged_after: jax.Array,
) -> Price:
    """The utilities of three plays (action, response): before, held, after."""
    context = jax.tree.map(jnp.asarray, context)
    leader = [evaluate(game.leader_utility, "leader_utility", *play, context) for play in plays]
    follower = [
        evaluate(game.follower_utility, "follower_utility", *play, context) for play in plays
    ]
    return Price(
        *leader,
        *follower,
        response_before=plays[0][1],
        response_after=plays[2][1],
        converged_before=converged_before,
        converged_after=converged_after,
    )


def _same_shape(name: str, value: PyTree, other: str, like: PyTree) -> tuple[PyTree, PyTree]:
    """Both as pytrees of arrays, the other one first."""
    value, like = jax.tree.map(jnp.asarray, value), jax.tree.map(jnp.asarray, like)
    got, wanted = (
        (jax.tree.structure(tree), jax.tree.map(jnp.shape, tree)) for tree in (value, like)
    )
    if got != wanted:
        raise ValueError(f"`{name}` must be shaped as `{other}`, {wanted[1]}; got {got[1]}.")
    return like, value
