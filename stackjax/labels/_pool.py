"""Reading (b) of 'largest latency first': a pool of unresolved items that wait for a label."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_count
from stackjax.labels._challenge import challenge
from stackjax.labels._gates import Gate, GateCandidate, View


class Pool(struct.PyTreeNode):
    """P unresolved items.

    Attributes:
      features: `[P, K, d]`.
      round: `[P]` integer, when each arrived; -1 where there is none.
    """

    features: jax.Array
    round: jax.Array


class Slot(struct.PyTreeNode):
    """Where the candidate is, and how long all items have waited times their width.

    Attributes:
      index: `[]` integer, row of the candidate; P for the item of the round.
      latencies: `[P + 1]`, the pool's and the round's; minus infinity for an empty row.
    """

    index: jax.Array
    latencies: jax.Array


def waiting_pool(*, size: int = 32) -> Gate:
    """The item of a pool with the largest product of waiting time and width.

    Every round, the item that has arrived joins the pool if its gap is positive. Gaps and widths
    of all items are computed anew, and the latency of an item is

        (t - round of arrival + 1) * ||phi(challenger) - phi(action)||_{V^-1}

    or zero where its gap has become zero. The candidate is the item with the largest latency; at
    most one is labelled a round. A full pool drops the item with the smallest latency. The action
    of a round is played when the item arrives: a late label helps later rounds only.

    Memory O(P K d), time O(P K d^2) a round.

    Args:
      size: P, how many items may wait.

    Raises:
      TypeError: `size` is not an integer.
      ValueError: it is not positive.

    Example:
      >>> sj.labels.waiting_pool(size=8).delayed
      True
    """
    check_count("size", size)

    def init(features: Any) -> Pool:
        return Pool(
            jnp.zeros((size, *features.shape), features.dtype), jnp.full(size, -1, jnp.int32)
        )

    def select(pool: Pool, view: View) -> GateCandidate:
        features = jnp.concatenate([pool.features, view.features[None]])
        rounds = jnp.concatenate([pool.round, view.round[None]])
        plays = jax.vmap(
            lambda item: challenge(item, view.ridge.theta, view.ridge.inverse, view.radius)
        )(features)
        waited = (view.round - rounds + 1).astype(features.dtype)
        latencies = jnp.where(plays.gap > 0, waited * plays.width, 0.0)
        latencies = jnp.where(rounds < 0, -jnp.inf, latencies)
        # Last of the ties: a new item before an old one that is as good as resolved.
        index = (size - jnp.argmax(latencies[::-1])).astype(jnp.int32)
        return GateCandidate(
            latencies[index], rounds[index], features[index], Slot(index, latencies)
        )

    def update(pool: Pool, view: View, candidate: GateCandidate, query: Any) -> Pool:
        slot = candidate.slot
        query = jnp.asarray(query, bool)
        taken = query & (jnp.arange(size) == slot.index)
        rounds = jnp.where(taken, -1, pool.round)
        latencies = jnp.where(taken, -jnp.inf, slot.latencies[:size])
        worst = jnp.argmin(latencies)
        # An item that has just been labelled, or is resolved, or would be dropped, does not join.
        own = slot.latencies[size]
        joins = (own > 0) & (own > latencies[worst]) & ~(query & (slot.index == size))
        here = joins & (jnp.arange(size) == worst)
        return Pool(
            jnp.where(here[:, None, None], view.features[None], pool.features),
            jnp.where(here, view.round, rounds),
        )

    return Gate(init, select, update, lambda pool, forget: pool, delayed=True)
