"""Policies for a running session: state in, signal and executed response out."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._actions import ActionSet, project
from stackjax._game import Game
from stackjax._response import best_response
from stackjax.agents.payoffs import ResourceContext, resource_context, smooth_subsidy
from stackjax.agents.predictors import Surrogate
from stackjax.agents.repair import stratum
from stackjax.agents.state import State


class Decision(struct.PyTreeNode):
    """What was decided for one turn.

    Attributes:
      action: `[2]`, the signal (q, alpha) after smoothing.
      answer: `[3]`, the follower's best response to it.
      response: `[3]`, the recorded cell nearest to the answer: what is executed.
      distance: `[]`, from the answer to the cell.
      converged: `[]`, whether the follower's solver did; the reference is played if not.
      utility_before: `[]`, leader's utility at the answer.
      utility: `[]`, leader's utility at the cell; the price of projection is the difference.
      follower_utility: `[]`, follower's utility at the cell.
    """

    action: jax.Array
    answer: jax.Array
    response: jax.Array
    distance: jax.Array
    converged: jax.Array
    utility_before: jax.Array
    utility: jax.Array
    follower_utility: jax.Array


class Controller(struct.PyTreeNode):
    """A leader, the follower that plays, and the cells that may be executed.

    Attributes:
      surrogate: predictors of quality and tokens.
      leader: policy, context -> (q, alpha).
      game: the resource game with the follower that plays in this runtime.
      actions: the cells that may be executed, one set for each stratum: `[S, K, 3]`.
      reference: `[3]`, the reference policy's cell, which sets `T_0` and `tau_Q`.
      smooth: whether the subsidy is smoothed and rate-limited (12) after a session's first turn.
    """

    surrogate: Surrogate
    leader: Callable[[ResourceContext], jax.Array]
    game: Game
    actions: ActionSet
    reference: jax.Array
    smooth: bool = struct.field(pytree_node=False, default=True)

    def context(self, state: State, previous: jax.Array) -> ResourceContext:
        """The game's context at a state; `previous: [2]` is the last signal."""
        return context_of(self.surrogate, self.reference, state, previous)

    def allowed(self, state: State) -> ActionSet:
        """The cells `[K, 3]` that may be executed at a state."""
        return jax.tree.map(lambda leaf: leaf[stratum(state)], self.actions)

    def __call__(self, state: State, previous: jax.Array) -> Decision:
        """Decide one turn. Unbatched: `vmap` over states."""
        context = self.context(state, previous)
        action = self.leader(context)
        if self.smooth:
            subsidy = smooth_subsidy(action[1], previous[1])
            subsidy = jnp.where(state.turn_index == 0, action[1], subsidy)
            action = jnp.stack([action[0], subsidy])
        start = jnp.full(3, 0.5, action.dtype)
        found = best_response(self.game, action, context, response=start)
        answer = jnp.where(found.converged, found.value, self.reference)
        played = project(answer, self.allowed(state))
        return Decision(
            action=action,
            answer=answer,
            response=played.action,
            distance=played.distance,
            converged=found.converged,
            utility_before=self.game.leader_utility(action, answer, context),
            utility=self.game.leader_utility(action, played.action, context),
            follower_utility=self.game.follower_utility(action, played.action, context),
        )


def context_of(
    surrogate: Surrogate, reference: jax.Array, state: State, previous: jax.Array
) -> ResourceContext:
    """Run the predictors once and complete the game's context; `previous: [2]`."""
    features = surrogate.encode(state)
    return resource_context(
        features,
        surrogate.quality(features),
        surrogate.tokens(features),
        previous=previous,
        budget=state.budget,
        reference=reference,
    )


@jax.jit
def contexts_of(
    surrogate: Surrogate, reference: jax.Array, states: State, previous: jax.Array
) -> ResourceContext:
    """`context_of` for N states and previous signals `[N, 2]`."""
    one = lambda state, before: context_of(surrogate, reference, state, before)
    return jax.vmap(one)(states, previous)


def greedy_cell(controller: Controller, state: State, previous: jax.Array) -> jax.Array:
    """The allowed cell `[3]` with the highest predicted leader's utility.

    The ablation 'direct control': no incentives, no follower; the signal stays `previous: [2]`.
    """
    context = controller.context(state, previous)
    cells = controller.allowed(state).actions
    utility = lambda cell: controller.game.leader_utility(previous, cell, context)
    return cells[jnp.argmax(jax.vmap(utility)(cells))]
