"""The state a decision is taken in, and its two encodings (arXiv 2606.23026, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_all_within, check_choice
from stackjax.agents.tasks._tasks import TASK_TYPES

FIELDS = (
    "task_complexity",
    "context_tokens",
    "turn_index",
    "mean_tokens",
    "recent_quality",
    "token_trend",
    "model_condition",
    "budget",
)
"""The numeric fields of a recorded state, in the order of the encodings.

>>> sj.agents.game.FIELDS[0]
'task_complexity'
"""

_TOKENS = 500.0  # tokens: a long history, or a dear turn, is O(1)
_TURNS = 8.0  # turns: the longest sessions we run


class State(struct.PyTreeNode):
    """What is known before a turn, in natural units. Leaves are scalars, or `[N]` for a batch.

    Attributes:
      task: index into `TASK_TYPES`.
      task_complexity: in [0, 1].
      context_tokens: tokens of the history that could be sent.
      turn_index: 0 at the session's first turn.
      mean_tokens: mean tokens a turn so far in the session, 0 at the first.
      recent_quality: exponential mean of checked correctness, in [0, 1].
      token_trend: change between the last two turns' tokens, over `mean_tokens`.
      model_condition: 1 healthy, lowered by recent fallbacks.
      budget: share of the session's token budget that is left; negative when overspent.

    Source: arXiv 2606.23026, eq. (1).

    Example:
      >>> states = sj.agents.log.turn_arrays(known_world.records(2, 2, design="random")).state
      >>> print(states.task, states.turn_index)
      [1 5 1 5] [0. 1. 0. 1.]
    """

    task: jax.Array
    task_complexity: jax.Array
    context_tokens: jax.Array
    turn_index: jax.Array
    mean_tokens: jax.Array
    recent_quality: jax.Array
    token_trend: jax.Array
    model_condition: jax.Array
    budget: jax.Array


def state_of(features: Mapping[str, Any], task: str) -> State:
    """Turn one recorded state (a mapping with the keys `FIELDS`) into a `State` of scalars.

    Raises:
      ValueError: a field is missing or not finite, or the task type is unknown.

    Example:
      >>> print(sj.agents.game.state_of(known_world.records()[0].state, "simple_qa").context_tokens)
      40.0
    """
    return jax.tree.map(lambda leaf: leaf[0], stack_states([features], [task]))


def stack_states(features: Iterable[Mapping[str, Any]], tasks: Iterable[str]) -> State:
    """Stack recorded states into one `State` whose leaves are `[N]` float32 (`task`: int32).

    Args:
      features: N mappings with the keys `FIELDS`.
      tasks: N task types out of `TASK_TYPES`.

    Raises:
      ValueError: no state, a field missing or not finite, lengths that differ, or an unknown
        task type.

    Example:
      >>> features = known_world.records()[0].state
      >>> states = sj.agents.game.stack_states([features, features], ["simple_qa", "casual_chat"])
      >>> print(states.budget, states.task)
      [1. 1.] [1 0]
    """
    rows, kinds = list(features), list(tasks)
    if not rows:
        raise ValueError("`features` must hold at least one state; got none.")
    if len(rows) != len(kinds):
        raise ValueError(
            f"`features` and `tasks` must be of one length; got {len(rows)} and {len(kinds)}."
        )
    for kind in kinds:
        check_choice("task", kind, TASK_TYPES)
    columns = {}
    for name in FIELDS:
        missing = [i for i, row in enumerate(rows) if name not in row]
        if missing:
            raise ValueError(f"`features[{missing[0]}]` must have a field {name!r}; got none.")
        column = np.asarray([row[name] for row in rows], dtype=np.float32)
        check_all_within(f"features[:][{name!r}]", column, "(-inf, inf)")
        columns[name] = jnp.asarray(column)
    task = jnp.asarray([TASK_TYPES.index(kind) for kind in kinds], dtype=jnp.int32)
    return State(task=task, **columns)


def encode_numbers(state: State) -> jax.Array:
    """The eight numeric fields scaled to O(1), `[8]`, in the order of `FIELDS`.

    Tokens are in units of 500, turns in units of 8; the trend is clipped to [-2, 2] and the
    budget to [-1, 1]; the rest is in [0, 1] already. Tokens stay linear, because the cost of a
    retained history is linear in its length.
    """
    return jnp.stack(
        [
            state.task_complexity,
            state.context_tokens / _TOKENS,
            state.turn_index / _TURNS,
            state.mean_tokens / _TOKENS,
            state.recent_quality,
            jnp.clip(state.token_trend, -2.0, 2.0),
            state.model_condition,
            jnp.clip(state.budget, -1.0, 1.0),
        ]
    )


def encode_scalar(state: State) -> jax.Array:
    """The paper's first encoding, `[9]`: the numbers, then the task type as one number in [0, 1].

    The order of `TASK_TYPES` carries no meaning beyond 'lighter to heavier', which is why the paper
    has a second encoding.

    Source: arXiv 2606.23026, eq. (1).

    Example:
      >>> print(sj.agents.game.encode_scalar(known_world.state(1)))
      [0.8   0.16  0.125 0.2   0.5   0.    1.    0.875 1.   ]
    """
    numbers = encode_numbers(state)
    scalar = jnp.asarray(state.task, numbers.dtype) / (len(TASK_TYPES) - 1)
    return jnp.concatenate([numbers, scalar[None]])


def encode_task(state: State) -> jax.Array:
    """The task-aware encoding, `[14]`: the numbers, then a one-hot over the six types.

    Source: arXiv 2606.23026, eq. (1).

    Example:
      >>> print(sj.agents.game.encode_task(known_world.state(1))[8:])
      [0. 0. 0. 0. 0. 1.]
    """
    numbers = encode_numbers(state)
    return jnp.concatenate(
        [numbers, jax.nn.one_hot(state.task, len(TASK_TYPES), dtype=numbers.dtype)]
    )
