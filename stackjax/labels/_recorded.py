"""Streams over recorded questions, and look-aheads that see their contexts only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import (
    check_all_within,
    check_key,
    check_shape,
    check_type,
    check_within,
)
from stackjax.labels._streams import Round


class RecordedStream(struct.PyTreeNode):
    """N recorded questions in an order; rewards are known and count as their own means.

    Attributes:
      features: `[N, K, d]`.
      rewards: `[N, K]`.
      order: `[T]` integer, the row of each round; what comes later repeats the last one.

    Example:
      >>> rewards = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> stream = sj.labels.recorded_stream(jnp.ones((2, 2, 3)), rewards, order=[1, 0])
      >>> print(stream(0).rewards, stream(1).rewards)
      [1. 0.] [0. 1.]
    """

    features: jax.Array
    rewards: jax.Array
    order: jax.Array

    def __call__(self, t: jax.Array) -> Round:
        """The round t."""
        row = self.order[jnp.minimum(t, self.order.shape[0] - 1)]
        return Round(self.features[row], self.rewards[row], self.rewards[row])


def recorded_stream(features: Any, rewards: Any, order: Any = None) -> RecordedStream:
    """A stream over recorded questions.

    Args:
      features: `[N, K, d]`, floating point, N >= 1, K >= 2.
      rewards: `[N, K]`.
      order: `[T]` integer rows; by default 0 to N - 1.

    Raises:
      ValueError: shapes do not fit, numbers are not finite, or a row is out of range.

    Example:
      >>> stream = sj.labels.recorded_stream(jnp.ones((3, 2, 1)), jnp.zeros((3, 2)), [2, 0])
      >>> stream.order
      Array([2, 0], dtype=int32)
    """
    features, rewards = jnp.asarray(features, float), jnp.asarray(rewards, float)
    check_shape("features", features, (None, None, None))
    check_shape("rewards", rewards, features.shape[:2])
    if features.shape[0] < 1 or features.shape[1] < 2 or features.shape[2] < 1:
        raise ValueError(
            "`features` must have a question, two alternatives and a feature; got shape "
            f"{features.shape}."
        )
    order = jnp.arange(features.shape[0]) if order is None else jnp.asarray(order)
    check_shape("order", order, (None,))
    if order.shape[0] == 0 or not jnp.issubdtype(order.dtype, jnp.integer):
        raise ValueError(
            f"`order` must be integer rows, at least 1; got {order.dtype}{order.shape}."
        )
    for name, values in (("features", features), ("rewards", rewards)):
        check_all_within(name, values, "(-inf, inf)")
    check_all_within("order", order, f"[0, {features.shape[0]})")
    return RecordedStream(features, rewards, order.astype(jnp.int32))


class ImaginedStream(struct.PyTreeNode):
    """The contexts of a stream with rewards that are made up; see `imagine`.

    Attributes:
      stream: where the contexts are from. Its rewards are never read.
      theta: `[d]`, the made-up theta*.
      other: `[d]`, what it turns to.
      turn: `[]`, radians a round.
      noise: `[]`, standard deviation of the rewards' noise.
      key: random key.

    Example:
      >>> questions = sj.labels.recorded_stream(jnp.ones((3, 2, 1)), jnp.zeros((3, 2)))
      >>> dream = sj.labels.imagine(questions, key=jax.random.key(0), spread=1.0, noise=0.0)
      >>> print(dream.theta.shape, dream(1).rewards == dream.theta)
      (1,) [ True  True]
    """

    stream: Any
    theta: jax.Array
    other: jax.Array
    turn: jax.Array
    noise: jax.Array
    key: jax.Array

    def __call__(self, t: jax.Array) -> Round:
        """The round t."""
        features = self.stream(t).features
        angle = self.turn * t
        theta = jnp.cos(angle) * self.theta + jnp.sin(angle) * self.other
        means = features @ theta
        noise = jax.random.normal(jax.random.fold_in(self.key, t), means.shape, means.dtype)
        return Round(features, means, means + self.noise * noise, theta)


def imagine(
    stream: Any,
    *,
    key: jax.Array,
    spread: Any,
    noise: Any,
    prior_mean: Any = None,
    turn: Any = 0.0,
) -> ImaginedStream:
    """A look-ahead: the contexts of a stream, without its labels.

    What a label does to V, and so to every width, depends on its features alone and is exact
    here. Actions, challengers and gaps need theta too, and rewards need theta*: it is drawn from
    the prior `N(prior_mean, spread^2 I)`. Run learners on many such draws (`tune_threshold`).

    Args:
      stream: contexts; only `stream(t).features` is used.
      key: random key of theta* and of the noise.
      spread: standard deviation of each coordinate of theta*, >= 0.
      noise: standard deviation of the rewards' noise, >= 0.
      prior_mean: `[d]`; zero by default.
      turn: radians a round, if theta* is thought to drift.

    Raises:
      TypeError: `stream` is not callable or its rounds are no `Round`, `key` is not a key, or a
        number of the wrong kind.
      ValueError: a number is out of its range.

    Example:
      >>> stream = sj.labels.recorded_stream(jnp.ones((3, 2, 1)), jnp.zeros((3, 2)))
      >>> sj.labels.imagine(stream, key=jax.random.key(0), spread=1.0, noise=0.1)(1).features.shape
      (2, 1)
    """
    check_type("stream", stream, Callable, "a callable t -> Round")
    check_key(key)
    for name, value in (("spread", spread), ("noise", noise)):
        check_within(name, value, "[0, inf)")
    check_within("turn", turn, "(-inf, inf)")
    first = jax.eval_shape(stream, jnp.zeros((), jnp.int32))
    if not isinstance(first, Round):
        raise TypeError(f"`stream` must return a Round; got {type(first).__name__}.")
    example = first.features
    dim, dtype = example.shape[1], example.dtype
    draws, chance = jax.random.split(key)
    mean = jnp.zeros(dim, dtype) if prior_mean is None else jnp.asarray(prior_mean, dtype)
    check_shape("prior_mean", mean, (dim,))
    theta, other = mean[None] + spread * jax.random.normal(draws, (2, dim), dtype)
    cast = lambda x: jnp.asarray(x, dtype)
    return ImaginedStream(stream, theta, other, cast(turn), cast(noise), chance)
