"""The resource game's side of a certificate: controllers as policies in their game.

Importing this module teaches `stackjax.certify` to read a `Controller` and recorded states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax.agents.control._controller import Controller, contexts_of, decisions_of
from stackjax.agents.control._dynamics import Session, SessionDynamics
from stackjax.agents.control.known_world import Constant
from stackjax.agents.game._payoffs import (
    ACTION_LOWER,
    ACTION_UPPER,
    DEFAULT,
    ResourceContext,
    concavity_bound,
    follower_utility,
    smooth_subsidy,
)
from stackjax.agents.game._state import State
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.certificates._deployed import Deployed, as_contexts, as_deployed
from stackjax.fit._horizon import Horizon
from stackjax.sets._empirical import ActionSet

PolicyOfStates = Callable[[State, jax.Array], tuple[jax.Array, jax.Array]]
"""`(state with [E] leaves, previous signal [E, 2]) -> (response [E, 3], signal [E, 2])`; a signal
of NaN where there is none."""


def governed(controller: Controller, *, repaired: bool = True) -> PolicyOfStates:
    """The controller: its signal, and the cell that is executed (or, unrepaired, the answer).

    Args:
      controller: the controller.
      repaired: whether the response is the cell that is executed, or the follower's answer.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(2, 2, design="random"))
      >>> policy = sj.agents.evaluation.governed(known_world.controller())
      >>> response, signal = policy(turns.state, jnp.tile(jnp.array([0.8, 0.5]), (4, 1)))
      >>> print(response[0], signal[0])
      [1. 1. 1.] [0.8 0.5]
    """

    def policy(state: State, previous: jax.Array) -> tuple[jax.Array, jax.Array]:
        made = decisions_of(controller, state, previous)
        return made.response if repaired else made.answer, made.action

    return policy


def constant_cell(cell: Sequence[float], signals: PolicyOfStates | None = None) -> PolicyOfStates:
    """Always the same response `[3]`; without a signal, or under those of another policy.

    Example:
      >>> policy = sj.agents.evaluation.constant_cell((1.0, 0.5, 0.0))
      >>> response, signal = policy(None, jnp.zeros((2, 2)))  # it reads no state
      >>> print(response[1], signal[1])
      [1.  0.5 0. ] [nan nan]
    """

    def policy(state: State, previous: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = len(previous)
        response = jnp.tile(jnp.asarray(cell, jnp.float32), (count, 1))
        if signals is None:
            return response, jnp.full((count, 2), jnp.nan)
        return response, signals(state, previous)[1]

    return policy


def constant_signal(controller: Controller, signal: Sequence[float]) -> PolicyOfStates:
    """The controller's follower and repair, under a constant signal (q, alpha).

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(2, 2, design="random"))
      >>> policy = sj.agents.evaluation.constant_signal(known_world.controller(), (0.95, 1.0))
      >>> print(*policy(turns.state, jnp.tile(jnp.array([0.8, 0.5]), (4, 1)))[1][3])
      0.95 1.0
    """
    action = jnp.asarray(signal, jnp.float32)
    return governed(controller.replace(leader=Constant(action), smooth=False))


def deployed_controller(
    controller: Controller,
    *,
    alternatives: Mapping[str, Callable[..., Any]] | None = None,
    sessions: Session | None = None,
    turns: int = 6,
) -> Deployed:
    """The controller as `certify` reads it; `certify` does this by itself for the defaults.

    Args:
      controller: the controller.
      alternatives: other leaders, `context -> (q, alpha)`, for the regret in the surrogate.
      sessions: `[S]` first states (`begin_session`), to certify sessions too.
      turns: of each session.

    Example:
      >>> found = sj.agents.evaluation.deployed_controller(known_world.controller())
      >>> found.horizon is None, found.concavity is None  # no sessions; the rational follower
      (True, False)
    """
    utility = controller.game.follower_utility
    rational = getattr(utility, "func", utility) is follower_utility
    weights = (getattr(utility, "keywords", None) or {}).get("weights", DEFAULT)
    horizon = None
    if sessions is not None:
        # The leader smooths its own signal: what is committed is what the policy says.
        dynamics = SessionDynamics(controller.surrogate, controller.reference, smooth=False)
        horizon = Horizon(dynamics, turns=turns)
    return Deployed(
        controller.game,
        _Smoothed(controller.leader, controller.smooth),
        recorded=partial(_allowed, controller.actions),
        concavity=partial(concavity_bound, weights=weights) if rational else None,
        alternatives={} if alternatives is None else alternatives,
        horizon=horizon,
        states=sessions,
    )


class _Smoothed(struct.PyTreeNode):
    """A leader with the smoothing of its subsidy (12), as `Controller` does it."""

    leader: Any
    smooth: bool = struct.field(pytree_node=False)

    def __call__(self, context: ResourceContext) -> jax.Array:
        action = self.leader(context)
        if not self.smooth:
            return action
        subsidy = smooth_subsidy(action[1], context.previous[1])
        first = context.features[2] == 0  # the turn's index
        return jnp.stack([action[0], jnp.where(first, action[1], subsidy)])


def _allowed(actions: ActionSet, context: ResourceContext) -> ActionSet:
    """The cells of the context's stratum, read off its encoding."""
    tail = context.features[8:]
    last = len(TASK_TYPES) - 1
    task = jnp.argmax(tail) if len(tail) > 1 else jnp.round(tail[0] * last).astype(jnp.int32)
    row = 2 * task + (context.features[0] > 0.5)
    return jax.tree.map(lambda leaf: leaf[row], actions)


@as_deployed.register
def _(subject: Controller) -> Deployed:
    return deployed_controller(subject)


@as_contexts.register
def _(contexts: State, subject: Any) -> ResourceContext:
    middle = (np.asarray(ACTION_LOWER) + np.asarray(ACTION_UPPER)) / 2
    previous = jnp.tile(jnp.asarray(middle, jnp.float32), (len(contexts.task), 1))
    return contexts_of(subject.surrogate, subject.reference, contexts, previous)
