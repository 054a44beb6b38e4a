"""Policies for a running session: state in, signal and executed response out."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._follower.best_response import best_response
from stackjax._game import Game
from stackjax.agents.game._payoffs import ResourceContext, resource_context, smooth_subsidy
from stackjax.agents.game._state import State
from stackjax.agents.repair._cells import stratum
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.sets._empirical import ActionSet, project


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

    Example:
      >>> controller, state = known_world.controller(), known_world.state()
      >>> made = controller(state, jnp.array([0.8, 0.5]))
      >>> print(np.asarray(made.answer).round(2), made.response, made.converged)
      [1.   0.92 1.  ] [1. 1. 1.] True
      >>> print(round(float(made.utility_before - made.utility), 3))  # the price of projection
      0.016
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

    Source: arXiv 2606.23026, eq. (1), (12) and section 8.

    Example:
      >>> controller, before = known_world.controller((0.6, 0.0)), jnp.array([0.8, 0.5])
      >>> first, second = (known_world.state(turn) for turn in (0, 1))
      >>> print(controller(first, before).action, controller(second, before).action)  # smoothed
      [0.6 0. ] [0.6  0.35]
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
    """Run the predictors once and complete the game's context; `previous: [2]`.

    Args:
      surrogate: predictors of quality and tokens.
      reference: `[3]`, the reference response, which sets `T_0` and `tau_Q`.
      state: one state; leaves are scalars.
      previous: `[2]`, the signal of the turn before.

    Example:
      >>> surrogate, state = known_world.surrogate(), known_world.state()
      >>> context = sj.agents.control.context_of(surrogate, jnp.ones(3), state, jnp.full(2, 0.7))
      >>> print(context.features.shape, context.reference_tokens, context.budget)
      (14,) 330.0 1.0
    """
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
    """`context_of` for N states and previous signals `[N, 2]`.

    Example:
      >>> surrogate, before = known_world.surrogate(), jnp.full((2, 2), 0.7)
      >>> states = sj.agents.log.turn_arrays(known_world.records(1, 2, design="random")).state
      >>> contexts = sj.agents.control.contexts_of(surrogate, jnp.ones(3), states, before)
      >>> print(contexts.features.shape)
      (2, 14)
    """
    one = lambda state, before: context_of(surrogate, reference, state, before)
    return jax.vmap(one)(states, previous)


@jax.jit
def decisions_of(controller: Controller, states: State, previous: jax.Array) -> Decision:
    """A controller's decisions at N states and previous signals `[N, 2]`; leaves are `[N, ...]`."""
    return jax.vmap(lambda state, before: controller(state, before))(states, previous)


def greedy_cell(controller: Controller, state: State, previous: jax.Array) -> jax.Array:
    """The allowed cell `[3]` with the highest predicted leader's utility.

    The ablation 'direct control': no incentives, no follower; the signal stays `previous: [2]`.

    Example:
      >>> controller, previous = known_world.controller(), jnp.array([0.8, 0.5])
      >>> print(sj.agents.control.greedy_cell(controller, known_world.state(), previous))
      [1. 1. 1.]
    """
    context = controller.context(state, previous)
    cells = controller.allowed(state).actions
    utility = lambda cell: controller.game.leader_utility(previous, cell, context)
    return cells[jnp.argmax(jax.vmap(utility)(cells))]
