"""A session as an environment: `reset` and `step` over fitted predictors, in pure JAX.

The user's side is taken from recorded sessions: which tasks come, how complex they are, and how
much each turn adds to the history. The executor's side is the response, which decides what a turn
costs, whether its answer is right, and, where compaction is permanent, how long the history stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from stackjax._arrays.arguments import check_all_within, check_choice, check_shape, check_within
from stackjax.agents.control._dynamics import Script, Session, begin_session
from stackjax.agents.executor._session import TURN_BUDGET
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER
from stackjax.agents.game._state import State
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._tasks import TASK_TYPES


class Predictor(Protocol):
    """What predicts a turn: a `Surrogate`, or one with calibrated predictions."""

    def predict(self, state: State, response: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Probability of a right answer and tokens, two scalars."""
        ...


class Scripts(struct.PyTreeNode):
    """The user's side of S recorded sessions of at most L turns.

    Attributes:
      script: leaves `[S, L]`; after a session's last turn the last one is repeated.
      turns: `[S]`, how many turns each session has.

    Example:
      >>> scripts = sj.agents.control.scripts_of(known_world.records(3, 2))
      >>> print(scripts.turns, scripts.script.context_tokens[0])
      [2. 2. 2.] [40. 80.]
    """

    script: Script
    turns: jax.Array


def scripts_of(records: Iterable[TurnRecord]) -> Scripts:
    """The scripts of all complete episodes among the records, each once.

    Raises:
      ValueError: no episode has its turns 0, 1, ... without a gap; a task type is unknown; or a
        state's complexity or history is missing or not finite.

    Example:
      >>> sj.agents.control.scripts_of(known_world.records(3, 2)).script.task.shape
      (3, 2)
    """
    found: dict[str, dict[int, TurnRecord]] = {}
    for number, record in enumerate(records):
        check_choice(f"records[{number}].task", record.task, TASK_TYPES)
        for name in ("task_complexity", "context_tokens"):
            value = record.state.get(name, np.nan)
            check_within(f"records[{number}].state[{name!r}]", value, "(-inf, inf)")
        found.setdefault(record.episode, {})[record.turn] = record
    whole = [turns for turns in found.values() if sorted(turns) == list(range(len(turns)))]
    if not whole:
        raise ValueError("`records` must hold an episode with all of its turns; got none.")
    length = max(map(len, whole))

    def column(pick: Any, dtype: type) -> jax.Array:
        rows = [[pick(turns[min(t, len(turns) - 1)]) for t in range(length)] for turns in whole]
        return jnp.asarray(np.array(rows, dtype))

    return Scripts(
        Script(
            task=column(lambda record: TASK_TYPES.index(record.task), np.int32),
            task_complexity=column(lambda record: record.state["task_complexity"], np.float32),
            context_tokens=column(lambda record: record.state["context_tokens"], np.float32),
        ),
        turns=jnp.asarray([len(turns) for turns in whole], jnp.float32),
    )


class SessionNow(struct.PyTreeNode):
    """A session between turns.

    Attributes:
      session: accounts and script.
      context_tokens: `[]`, tokens of the history that could be sent now.
      turns: `[]`, how many turns the session has.

    Example:
      >>> scripts = sj.agents.control.scripts_of(known_world.records(3, 2))
      >>> _, now = sj.agents.control.SurrogateSession(known_world.surrogate(), scripts).start(0)
      >>> print(now.turns, now.context_tokens, now.done)
      2.0 40.0 False
    """

    session: Session
    context_tokens: jax.Array
    turns: jax.Array

    @property
    def done(self) -> jax.Array:
        """Whether all turns are taken, `[]`."""
        return self.session.turn_index >= self.turns


class TurnResult(struct.PyTreeNode):
    """What one turn gave. Scalars; all 0 after the session's end.

    Attributes:
      tokens: prompt and completion tokens.
      correct: 1 or 0; the probability of 1 where outcomes are expectations.
      fallback: 1 if the executor fell back; or the probability.
      taken: whether there was a turn to take.
      done: whether the session is over now.

    Example:
      >>> from stackjax.agents import control
      >>> scripts = control.scripts_of(known_world.records(3, 2))
      >>> env = control.SurrogateSession(known_world.surrogate(), scripts, stochastic=False)
      >>> _, now, gave = env.step(jax.random.key(0), env.start(0)[1], jnp.full(3, 0.5))
      >>> print(gave.tokens, gave.correct, gave.taken, gave.done)
      207.5 0.5 True False
    """

    tokens: jax.Array
    correct: jax.Array
    fallback: jax.Array
    taken: jax.Array
    done: jax.Array


class SurrogateSession(struct.PyTreeNode):
    """Sessions on fitted predictors. `scan` over turns, `vmap` over keys.

    Attributes:
      predictor: what a turn gives: a `Surrogate`, or a calibrated one.
      scripts: the sessions to draw from.
      turn_budget: tokens that a session may use, for each of its turns.
      fallback: probability that the executor falls back; a number or `[]`.
      token_spread: standard deviation of the log of tokens around the prediction.
      stochastic: whether outcomes are drawn; else expectations, differentiable in the response.
      forget: whether what the context channel leaves out is lost for later turns (compaction), or
        only not sent now (what the adapter does).

    Example:
      >>> scripts = sj.agents.control.scripts_of(known_world.records(3, 2))
      >>> env = sj.agents.control.SurrogateSession(known_world.surrogate(), scripts)
      >>> step = lambda now, key: env.step(key, now, jnp.full(3, 0.5))[1:]
      >>> _, now = env.reset(jax.random.key(0))
      >>> print(jax.lax.scan(step, now, jax.random.split(jax.random.key(1), 3))[1].tokens)
      [207.5 207.5   0. ]
    """

    predictor: Predictor
    scripts: Scripts
    turn_budget: jax.Array | float = TURN_BUDGET
    fallback: jax.Array | float = 0.0
    token_spread: jax.Array | float = 0.0
    stochastic: bool = struct.field(pytree_node=False, default=True)
    forget: bool = struct.field(pytree_node=False, default=False)

    def reset(self, key: jax.Array) -> tuple[State, SessionNow]:
        """Draw a session: its first state, and itself."""
        row = jax.random.randint(key, (), 0, self.scripts.turns.shape[0])
        return self.start(row)

    def start(self, row: jax.Array | int) -> tuple[State, SessionNow]:
        """Begin the session of script `row`.

        Raises:
          ValueError: there is no such script, or the budget is not positive. Traced numbers pass.
        """
        count = self.scripts.turns.shape[0]
        if not isinstance(row, Tracer) and not 0 <= int(row) < count:
            raise ValueError(f"`row` must lie in 0..{count - 1}; got {int(row)}.")
        check_all_within("turn_budget", self.turn_budget, "(0, inf]")
        script = jax.tree.map(lambda leaf: leaf[row], self.scripts.script)
        turns = self.scripts.turns[row]
        middle = (jnp.asarray(ACTION_LOWER) + jnp.asarray(ACTION_UPPER)) / 2
        session = begin_session(script, signal=middle, token_budget=self.turn_budget * turns)
        now = SessionNow(session, script.context_tokens[0], turns)
        return self.observe(now), now

    def observe(self, now: SessionNow) -> State:
        """The state in which the next turn is decided."""
        return now.session.state.replace(context_tokens=now.context_tokens)

    def step(
        self,
        key: jax.Array,
        now: SessionNow,
        response: jax.Array,
        signal: jax.Array | None = None,
    ) -> tuple[State, SessionNow, TurnResult]:
        """Take one turn under a response.

        Args:
          key: the turn's luck.
          now: the session.
          response: `[3]`, (c, p, u) in [0, 1].
          signal: `[2]`, what the leader said, for its next decision; unchanged if None.

        Returns:
          The next state, the session after the turn, and what the turn gave. After the last turn
          nothing changes any more.

        Raises:
          ValueError: the response is not of shape `[3]`, the signal not of `[2]`, or the response
            is not in [0, 1]. Under a transformation its numbers cannot be read, and pass: clip them
            there, as the predictors extrapolate.
        """
        response = jnp.asarray(response)
        check_shape("response", response, (3,), ", (c, p, u)")
        check_all_within("response", response, "[0, 1]")
        if signal is not None:
            check_shape("signal", signal, (2,), ", (q, alpha)")
        state, session = self.observe(now), now.session
        correct, tokens = self.predictor.predict(state, response)
        fallback = jnp.asarray(self.fallback, correct.dtype)
        if self.stochastic:
            luck, answer, health = jax.random.split(key, 3)
            noise = jax.random.normal(luck, (), correct.dtype)
            spread = jnp.asarray(self.token_spread, correct.dtype)
            tokens = tokens * jnp.exp(spread * noise - 0.5 * spread**2)
            # A fallback is never right, so the other turns are right more often than the average.
            right = jax.random.uniform(answer, (), correct.dtype) * (1 - fallback) < correct
            fallback = jax.random.bernoulli(health, fallback).astype(correct.dtype)
            correct = right.astype(correct.dtype) * (1 - fallback)
        taken = ~now.done
        signal = session.previous if signal is None else signal
        after = session.update(signal, tokens, correct, fallback)
        index = session.turn_index.astype(jnp.int32)
        length = session.script.context_tokens
        last = length.shape[0] - 1
        added = length[jnp.minimum(index + 1, last)] - length[jnp.minimum(index, last)]
        kept = now.context_tokens * (response[0] if self.forget else 1.0)
        moved = SessionNow(after, kept + added, now.turns)
        # in the session's own dtype, so that it can be the carry of a scan under any response's
        now = jax.tree.map(
            lambda new, old: jnp.where(taken, new, old).astype(jnp.result_type(old)), moved, now
        )
        zero = lambda value: jnp.where(taken, value, 0.0)
        result = TurnResult(zero(tokens), zero(correct), zero(fallback), taken, now.done)
        return self.observe(now), now, result
