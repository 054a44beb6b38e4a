"""Streams of rounds: what a stream is, and synthetic ones made from a key as they are needed.

A stream is any callable pytree `t -> Round`, the same for the same t: random access lets a learner
ask for the label of an earlier round, and 10^6 rounds take no memory.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_count, check_key, check_within


class Round(struct.PyTreeNode):
    """One round.

    Attributes:
      features: phi(x_t, .), `[K, d]`.
      means: `[K]`, expected rewards: what regret is counted in.
      rewards: `[K]`, what a label reveals.
      theta: `[d]`, theta* of the round, where there is one.

    Example:
      >>> now = sj.labels.linear_stream(jax.random.key(0), dim=2, alternatives=3)(7)
      >>> print(now.features.shape, now.rewards.shape)
      (3, 2) (3,)
      >>> print(jnp.allclose(now.features @ now.theta, now.means))
      True
    """

    features: jax.Array
    means: jax.Array
    rewards: jax.Array
    theta: jax.Array | None = None


class LinearStream(struct.PyTreeNode):
    """Independent Gaussian features `N(0, I / d)`, linear rewards, theta* that may turn.

        theta*_t = cos(turn t) theta + sin(turn t) other

    Attributes:
      key: random key.
      theta: `[d]`, theta* of round 0.
      other: `[d]`, what it turns to after a quarter of a turn.
      turn: `[]`, radians a round; 0 for a fixed theta*.
      noise: `[]`, standard deviation of the rewards' Gaussian noise.
      mask: `[G, d]`, which coordinates the features of a group use.
      ends: `[G]`, ascending to 1: a uniform number below `ends[0]` draws group 0, below `ends[1]`
        group 1, and so on.
      segment: `[]` integer, rounds of a group if groups follow one another; 0 if each round draws
        its group.
      alternatives: K.

    Example:
      >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=2, turn=0.01)
      >>> print(stream.alternatives, stream.theta.shape, stream(10**6).means.shape)
      4 (2,) (4,)
    """

    key: jax.Array
    theta: jax.Array
    other: jax.Array
    turn: jax.Array
    noise: jax.Array
    mask: jax.Array
    ends: jax.Array
    segment: jax.Array
    alternatives: int = struct.field(pytree_node=False)

    def __call__(self, t: jax.Array) -> Round:
        """The round t."""
        kind, seen, chance = jax.random.split(jax.random.fold_in(self.key, t), 3)
        groups, dim = self.mask.shape
        drawn = jnp.sum(jax.random.uniform(kind, (), self.theta.dtype) >= self.ends)
        group = jnp.where(self.segment > 0, t // jnp.maximum(self.segment, 1), drawn)
        mask = self.mask[jnp.minimum(group, groups - 1)]
        draws = jax.random.normal(seen, (self.alternatives, dim), self.theta.dtype)
        features = draws * (mask / jnp.sqrt(jnp.sum(mask)))[None]
        angle = self.turn * t
        theta = jnp.cos(angle) * self.theta + jnp.sin(angle) * self.other
        means = features @ theta
        noise = jax.random.normal(chance, means.shape, means.dtype)
        return Round(features, means, means + self.noise * noise, theta)


def linear_stream(
    key: jax.Array, *, dim: int, alternatives: int = 4, noise: Any = 0.5, turn: Any = 0.0
) -> LinearStream:
    """An i.i.d. stream, or a drifting one if `turn` is not zero.

    theta* is uniform on the unit sphere; it turns in a random plane.

    Args:
      key: random key, of theta* and of the rounds.
      dim: d.
      alternatives: K, at least 2.
      noise: standard deviation of the rewards' noise, >= 0.
      turn: radians a round.

    Returns:
      A `LinearStream`; features have an expected square norm of 1.

    Raises:
      TypeError: `key` is not a typed key, or another argument of the wrong kind.
      ValueError: a size or the noise is out of its range.

    Example:
      >>> sj.labels.linear_stream(jax.random.key(0), dim=3)(jnp.array(7)).features.shape
      (4, 3)
    """
    return _stream(key, dim, alternatives, noise, turn, _everything(dim), [1.0])


def rare_stream(
    key: jax.Array, *, dim: int, rare: int, rate: float, alternatives: int = 4, noise: Any = 0.5
) -> LinearStream:
    """Two classes of contexts that share no direction; one of them is rare.

    Args:
      key: random key.
      dim: d.
      rare: the last `rare` coordinates describe the rare class, 1 <= rare < d.
      rate: its share of the rounds, in (0, 1).
      alternatives: K, at least 2.
      noise: standard deviation of the rewards' noise, >= 0.

    Raises:
      TypeError: `key` is not a typed key, or another argument of the wrong kind.
      ValueError: a number is out of its range.

    Example:
      >>> stream = sj.labels.rare_stream(jax.random.key(0), dim=4, rare=3, rate=0.01)
      >>> stream.mask[1]
      Array([0., 1., 1., 1.], dtype=float32)
    """
    check_count("dim", dim, least=2)
    check_count("rare", rare)
    if rare >= dim:
        raise ValueError(f"`rare` must be less than `dim`, {dim}; got {rare}.")
    check_within("rate", rate, "(0, 1)")
    last = np.arange(dim) >= dim - rare
    return _stream(key, dim, alternatives, noise, 0.0, np.stack([~last, last]), [1.0 - rate, 1.0])


def ordered_stream(
    key: jax.Array,
    *,
    dim: int,
    groups: int,
    rounds: int,
    alternatives: int = 4,
    noise: Any = 0.5,
) -> LinearStream:
    """Directions one after the other: what is learned in one segment is of no use in the next.

    The order that is worst for a learner who spends its labels early.

    Args:
      key: random key.
      dim: d.
      groups: G, segments of floor(T / G) rounds, each with its own d / G coordinates.
      rounds: T, of all segments; what is left over or comes later belongs to the last one.
      alternatives: K, at least 2.
      noise: standard deviation of the rewards' noise, >= 0.

    Raises:
      TypeError: `key` is not a typed key, or another argument of the wrong kind.
      ValueError: a number is out of its range, or `groups` does not divide `dim`.

    Example:
      >>> sj.labels.ordered_stream(jax.random.key(0), dim=4, groups=2, rounds=100).segment
      Array(50, dtype=int32)
    """
    check_count("dim", dim)
    check_count("groups", groups)
    check_count("rounds", rounds, least=groups)
    if dim % groups:
        raise ValueError(f"`groups` must divide `dim`, {dim}; got {groups}.")
    mask = np.kron(np.eye(groups), np.ones(dim // groups))
    ends = np.arange(1, groups + 1) / groups
    return _stream(key, dim, alternatives, noise, 0.0, mask, ends, rounds // groups)


def _everything(dim: Any) -> np.ndarray:
    check_count("dim", dim)
    return np.ones((1, dim))


def _stream(
    key: Any, dim: Any, alternatives: Any, noise: Any, turn: Any, mask: Any, ends: Any,
    segment: int = 0,
) -> LinearStream:  # fmt: skip
    check_key(key)
    check_count("dim", dim)
    check_count("alternatives", alternatives, least=2)
    check_within("noise", noise, "[0, inf)")
    check_within("turn", turn, "(-inf, inf)")
    rounds, plane = jax.random.split(key)
    first, second = jax.random.normal(plane, (2, dim))
    theta = first / jnp.linalg.norm(first)
    # In one dimension there is no plane: theta* then shrinks and grows.
    second = second - (second @ theta) * theta if dim > 1 else jnp.zeros_like(theta)
    other = second / jnp.maximum(jnp.linalg.norm(second), jnp.finfo(theta.dtype).tiny)
    cast = lambda x: jnp.asarray(x, theta.dtype)
    return LinearStream(
        key=rounds,
        theta=theta,
        other=other,
        turn=cast(turn),
        noise=cast(noise),
        mask=cast(mask),
        ends=cast(ends),
        segment=jnp.asarray(segment, jnp.int32),
        alternatives=alternatives,
    )
