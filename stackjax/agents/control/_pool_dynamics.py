"""A window of a common pool: sessions open and close, and their turns come one by one."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_count, check_shape, check_within
from stackjax.agents.game._pool import PoolContext, tokens_used


class PoolWindow(struct.PyTreeNode):
    """A window between two turns. Leaves are scalars but for the script's.

    Attributes:
      script: the L turns in the order in which they come, leaves `[L, ...]`; whatever is decided,
        the load of each is how many sessions are open then. The budgets in it are not read.
      pool: tokens for the whole window, in units of `T_bar`.
      used: tokens used so far, in expectation.
      right: right answers so far, in expectation, each times its session's stake.
      turn: turns finished.

    Example:
      >>> one = jnp.ones(2)
      >>> state = sj.agents.game.PoolState(jnp.zeros(2, int), 250 * one, one, one, 8 * one, one)
      >>> turns = sj.agents.game.PoolContext(
      ...     state, jnp.array([[0.3, 0.8]] * 2), jnp.array([[0.4, 0.9]] * 2)
      ... )
      >>> window = sj.agents.control.open_window(turns, pool=1.4)
      >>> dynamics, second = sj.agents.control.PoolDynamics(), jnp.array([0.0, 1.0])
      >>> after = dynamics.step(window, jnp.zeros(2), second, jax.random.key(0))
      >>> print(after.used, after.right, f"{dynamics.context(after).state.budget:.2f}")
      0.9 0.8 0.36
    """

    script: PoolContext
    pool: jax.Array
    used: jax.Array
    right: jax.Array
    turn: jax.Array


class PoolDynamics(struct.PyTreeNode):
    """How a window goes on, for `rollout` and `fit_leader(..., horizon=...)`; differentiable.

    The load is the script's. What a decision moves is the pool: the leader sees the share of it
    that is left as its state's budget, and may let the price rise when the pool runs low. After the
    last turn the last one comes again.

    Example:
      >>> sessions = sj.fit.Horizon(sj.agents.control.PoolDynamics(), turns=16, discount=1.0)
      >>> sessions.turns
      16
    """

    def context(self, state: PoolWindow) -> PoolContext:
        """The game's context at the window's next turn."""
        last = state.script.state.task.shape[0] - 1
        index = jnp.minimum(state.turn, last).astype(jnp.int32)
        turn = jax.tree.map(lambda leaf: leaf[index], state.script)
        return turn.replace(state=turn.state.replace(budget=1.0 - state.used / state.pool))

    def step(
        self, state: PoolWindow, action: jax.Array, response: jax.Array, key: jax.Array
    ) -> PoolWindow:
        """The window after the executor's `response: [K]` to the signal `action: [2]`."""
        context = self.context(state)
        right = context.state.stake * jnp.sum(response * context.quality)
        return state.replace(
            used=state.used + tokens_used(action, response, context),
            right=state.right + right,
            turn=state.turn + 1,
        )


def open_window(script: PoolContext, *, pool: jax.Array | float) -> PoolWindow:
    """A window before its first turn. Unbatched: use `jax.vmap` over scripts and pools.

    Args:
      script: L turns, leaves `[L, ...]`.
      pool: tokens for all of them, in units of `T_bar`.

    Raises:
      ValueError: the script's leaves are not of `[L]` and `[L, K]`, or the pool is not positive.

    Example:
      >>> one = jnp.ones(3)
      >>> state = sj.agents.game.PoolState(jnp.zeros(3, int), 250 * one, one, one, 8 * one, one)
      >>> turns = sj.agents.game.PoolContext(state, jnp.ones((3, 2)), jnp.ones((3, 2)))
      >>> print(sj.agents.control.open_window(turns, pool=2.1).pool)
      2.1
    """
    count = np.shape(script.state.task)[0] if np.ndim(script.state.task) else None
    check_shape("script.quality", script.quality, (count, None), ", [L, K]")
    check_shape("script.tokens", script.tokens, np.shape(script.quality), ", as the quality")
    check_within("pool", pool, "(0, inf)")
    zero = jnp.zeros((), script.tokens.dtype)
    return PoolWindow(script, jnp.asarray(pool, zero.dtype), zero, zero, zero)


def interleave(opens: Sequence[int], turns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The order in which sessions' turns come, and how many sessions are open at each.

    At each tick all open sessions have one turn, in their order; a session is open from the tick
    at which it opens until its last turn.

    Args:
      opens: `[S]`, the tick at which each session opens, at least 0.
      turns: `[S]`, the turns of each session, at least 1.

    Returns:
      ``order``: `[L, 2]`, session and turn, L the sum of `turns`. ``load``: `[L]`.

    Raises:
      ValueError: the lengths differ, or a number is too small.

    Example:
      >>> order, load = sj.agents.control.interleave([0, 1], [2, 2])
      >>> print(order.tolist(), load)
      [[0, 0], [0, 1], [1, 0], [1, 1]] [1 2 2 1]
    """
    check_shape("turns", turns, (len(opens),), ", one number a session")
    for first, count in zip(opens, turns):
        check_count("opens", first, least=0)
        check_count("turns", count)
    order, load = [], []
    for tick in range(max(first + count for first, count in zip(opens, turns))):
        now = [s for s in range(len(opens)) if opens[s] <= tick < opens[s] + turns[s]]
        order += [(s, tick - opens[s]) for s in now]
        load += [len(now)] * len(now)
    return np.array(order), np.array(load)
