"""Recorded turns as arrays."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax.agents.game._state import State, stack_states
from stackjax.agents.log._log import TurnRecord


class Turns(struct.PyTreeNode):
    """Recorded turns, one a row.

    Attributes:
      state: `[N]` leaves, the state at decision time.
      signal: `[N, 2]`, the leader's action (q, alpha); NaN where there was none.
      intended: `[N, 3]`, the response that the executor chose.
      executed: `[N, 3]`, the response as the adapter carried it out, on its grid.
      tokens: `[N]`, prompt and completion tokens.
      correct: `[N]`, 1 where the checked answer was right, else 0.
      episode: `[N]` integers, equal for turns of one episode.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(2, 2, design="random"))
      >>> print(turns.tokens, turns.episode, turns.executed.shape)
      [100. 160. 160. 220.] [0 0 1 1] (4, 3)
    """

    state: State
    signal: jax.Array
    intended: jax.Array
    executed: jax.Array
    tokens: jax.Array
    correct: jax.Array
    episode: jax.Array


def turn_arrays(records: Iterable[TurnRecord]) -> Turns:
    """Turn N records of the turn log into arrays; the order is kept.

    Raises:
      ValueError: no record, or a record's state or task type is not as `stack_states` needs it.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(2, 2, design="random"))
      >>> print(turns.correct, turns.signal[0])
      [0. 1. 0. 1.] [nan nan]
    """
    rows = list(records)
    if not rows:
        raise ValueError("`records` must hold at least one record; got none.")
    names = sorted({row.episode for row in rows})
    number = {name: index for index, name in enumerate(names)}

    def column(values: list) -> jax.Array:
        return jnp.asarray(np.asarray(values, dtype=np.float32))

    return Turns(
        state=stack_states([row.state for row in rows], [row.task for row in rows]),
        signal=column([row.signal or (np.nan, np.nan) for row in rows]),
        intended=column([row.intended for row in rows]),
        executed=column([row.executed for row in rows]),
        tokens=column([row.prompt_tokens + row.completion_tokens for row in rows]),
        correct=column([row.correct for row in rows]),
        episode=jnp.asarray([number[row.episode] for row in rows], dtype=jnp.int32),
    )


def take(turns: Turns, index: np.ndarray | jax.Array | int) -> Turns:
    """The rows `index` (integers, a mask, or one row) of `turns`."""
    return jax.tree.map(lambda leaf: leaf[index], turns)
