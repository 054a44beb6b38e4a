"""Sessions as arrays: the resource game's next state (arXiv 2606.23026, equation 7).

What `agents.executor.SessionState` does with real turns, on the fitted surrogate, so that a leader
can be trained over a session's turns (`fit_leader(..., horizon=...)`). A turn costs the predicted
tokens. Its outcome is the predicted quality, an expectation that is differentiable; or a coin that
falls with that probability.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_shape
from stackjax.agents.control._controller import context_of
from stackjax.agents.executor._session import TURN_BUDGET
from stackjax.agents.game._payoffs import ResourceContext, smooth_subsidy
from stackjax.agents.game._state import State
from stackjax.agents.log._accounts import Accounts
from stackjax.agents.surrogate._predictors import Surrogate


class Script(struct.PyTreeNode):
    """What the user brings to each of a session's L turns, whatever is decided.

    After the last turn the last one comes again. A random sequence of tasks (a Markov chain, say)
    is drawn beforehand: one script a session.

    Attributes:
      task: `[L]` integers, index into `TASK_TYPES`.
      task_complexity: `[L]`, in [0, 1].
      context_tokens: `[L]`, tokens of the history that could be sent at each turn. With scripted
        replies (`run_episode(..., history="reference")`) no decision changes them.

    Example:
      >>> script = sj.agents.control.scripts_of(known_world.records(3, 2)).script  # three sessions
      >>> print(script.task[0], script.context_tokens[0])
      [1 5] [40. 80.]
    """

    task: jax.Array
    task_complexity: jax.Array
    context_tokens: jax.Array


class Session(struct.PyTreeNode):
    """A session between turns: `SessionState` as arrays. Leaves are scalars but for the script's.

    Attributes:
      script: what the user brings.
      previous: `[2]`, the signal (q, alpha) of the turn before.
      token_budget: tokens that the session may use in all.
      turn_index: turns finished.
      total_tokens: tokens used.
      last_tokens: tokens of the last turn, 0 before the first.
      previous_tokens: tokens of the turn before it.
      recent_quality: exponential mean of the outcomes.
      model_condition: 1 healthy; halved by a fallback, recovering by 0.3 of the gap a good turn.

    Source: arXiv 2606.23026, eq. (7).

    Example:
      >>> session = known_world.session(token_budget=400)
      >>> after = session.update(jnp.array([0.7, 0.2]), tokens=jnp.array(100.0), correct=1.0)
      >>> print(after.state.budget, after.state.mean_tokens, after.state.recent_quality)
      0.75 100.0 0.7
    """

    script: Script
    previous: jax.Array
    token_budget: jax.Array
    turn_index: jax.Array
    total_tokens: jax.Array
    last_tokens: jax.Array
    previous_tokens: jax.Array
    recent_quality: jax.Array
    model_condition: jax.Array

    @property
    def state(self) -> State:
        """The state in which the next turn is decided, unrounded."""
        index = jnp.minimum(self.turn_index, self.script.task.shape[0] - 1).astype(jnp.int32)
        return State(
            task=self.script.task[index],
            task_complexity=self.script.task_complexity[index],
            context_tokens=self.script.context_tokens[index],
            **self.accounts.measured(self.token_budget),
        )

    @property
    def accounts(self) -> Accounts:
        """The session's accounts."""
        return Accounts(*(getattr(self, name) for name in Accounts._fields))

    def update(
        self,
        signal: jax.Array,
        tokens: jax.Array,
        correct: jax.Array,
        fallback: jax.Array | float = 0.0,
    ) -> Session:
        """The session after one more turn.

        Args:
          signal: `[2]`, what the leader said.
          tokens: `[]`, what the turn cost.
          correct: `[]`, 1 or 0, or the probability of 1.
          fallback: `[]`, 1 if the executor fell back to another answer, or the probability.
        """
        after = self.accounts.after(tokens, correct=correct, failed=fallback)
        return self.replace(previous=signal, **after._asdict())


def begin_session(
    script: Script, *, signal: jax.Array, token_budget: jax.Array | float | None = None
) -> Session:
    """A session before its first turn. Unbatched: use `jax.vmap` over scripts.

    Args:
      script: L turns.
      signal: `[2]`, what counts as the signal (q, alpha) before the first turn.
      token_budget: tokens for the session; `TURN_BUDGET` for each of the L turns if None.

    Raises:
      ValueError: `signal` is not of shape `[2]`.

    Example:
      >>> scripts = sj.agents.control.scripts_of(known_world.records(1, 2)).script
      >>> script = jax.tree.map(lambda leaf: leaf[0], scripts)
      >>> print(sj.agents.control.begin_session(script, signal=jnp.array([0.8, 0.5])).token_budget)
      800.0
    """
    signal = jnp.asarray(signal)
    check_shape("signal", signal, (2,), ", (q, alpha)")
    if token_budget is None:
        token_budget = TURN_BUDGET * script.task.shape[0]
    number = lambda value: jnp.asarray(value, signal.dtype)
    first = {name: number(value) for name, value in Accounts()._asdict().items()}
    return Session(script=script, previous=signal, token_budget=number(token_budget), **first)


class SessionDynamics(struct.PyTreeNode):
    """Dynamics of the resource game for `rollout` and `fit_leader`; states are `Session`s.

    With the 9-number or the 14-number encoding, whichever the surrogate reads. The subsidy that is
    carried out is smoothed and rate-limited (12) after a session's first turn.

    Attributes:
      surrogate: predictors of quality and tokens.
      reference: `[3]`, the reference policy's response, which sets `T_0` and `tau_Q`.
      fallback: probability that the executor falls back to another answer; a number or `[]`.
      smooth: whether the subsidy is smoothed.
      stochastic: outcomes are coins (right or wrong, fallback or not) instead of probabilities.
        The gradient then leaves out that a response moves the coin's probability.

    Source: arXiv 2606.23026, eq. (7), (12).

    Example:
      >>> surrogate, signal = known_world.surrogate(), jnp.array([0.8, 0.5])
      >>> dynamics = sj.agents.control.SessionDynamics(surrogate, reference=jnp.ones(3))
      >>> after = dynamics.step(known_world.session(), signal, jnp.zeros(3), jax.random.key(0))
      >>> print(after.total_tokens, dynamics.commit(after, jnp.array([0.9, 1.0])))
      100.0 [0.9  0.65]
    """

    surrogate: Surrogate
    reference: jax.Array
    fallback: jax.Array | float = 0.0
    smooth: bool = struct.field(pytree_node=False, default=True)
    stochastic: bool = struct.field(pytree_node=False, default=False)

    def context(self, state: Session) -> ResourceContext:
        """The game's context at a session's next turn."""
        return context_of(self.surrogate, self.reference, state.state, state.previous)

    def commit(self, state: Session, action: jax.Array) -> jax.Array:
        """The signal `[2]` that is carried out where the policy proposes `action: [2]`."""
        if not self.smooth:
            return action
        subsidy = smooth_subsidy(action[1], state.previous[1])
        return jnp.stack([action[0], jnp.where(state.turn_index == 0, action[1], subsidy)])

    def step(
        self, state: Session, action: jax.Array, response: jax.Array, key: jax.Array
    ) -> Session:
        """The session after the follower's `response: [3]` to the signal `action: [2]`."""
        correct, tokens = self.surrogate.predict(state.state, response)
        fallback = jnp.asarray(self.fallback, correct.dtype)
        if self.stochastic:
            answer, health = jax.random.uniform(key, (2,), correct.dtype)
            # A fallback is never right, so the others are right more often than the average.
            right = answer * (1 - fallback) < correct
            fallback = (health < fallback).astype(correct.dtype)
            correct = right.astype(correct.dtype) * (1 - fallback)
        return state.update(action, tokens, correct, fallback)
