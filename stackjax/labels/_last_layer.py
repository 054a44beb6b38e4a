"""The learner on the last layer of a network that is trained again at intervals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_key
from stackjax.labels._arguments import check_count
from stackjax.labels._learner import Learner, LearnerState
from stackjax.labels._ridge import new_ridge, refresh
from stackjax.labels._run import Curves, example_round, tally
from stackjax.labels._streams import Round


class LastLayer(struct.PyTreeNode):
    """What a run of `run_last_layer` ends with.

    Attributes:
      head: the network `[..., d] -> [..., m]` as it was trained last.
      state: of the learner, on the head's m embeddings.
      features: `[B, K, d]`, the labelled items; rows from `state.labels` on are zero.
      rewards: `[B, K]`, theirs.

    Example:
      >>> stream = sj.labels.recorded_stream(jnp.tile(jnp.eye(2), (4, 1, 1)), jnp.eye(4, 2))
      >>> last, _ = sj.labels.run_last_layer(
      ...     nnx.Linear(2, 3, rngs=nnx.Rngs(0)), sj.labels.stacksl(budget=2), stream, 4,
      ...     capacity=2, interval=4, steps=1, key=jax.random.key(1),
      ... )
      >>> print(last.state.labels, last.rewards.shape, last.scores(jnp.eye(2)).shape)
      2 (2, 2) (2,)
    """

    head: Any
    state: LearnerState
    features: jax.Array
    rewards: jax.Array

    def scores(self, features: jax.Array) -> jax.Array:
        """Estimated rewards, `[..., K]`, of alternatives with raw features `[..., K, d]`."""
        return self.head(features) @ self.state.ridge.theta


def run_last_layer(
    head: Any,
    learner: Learner,
    stream: Any,
    rounds: int,
    *,
    capacity: int,
    key: jax.Array,
    interval: int = 500,
    steps: int = 100,
    batch_size: int = 64,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[LastLayer, Curves]:
    """Plays T rounds on frozen embeddings, and trains the embedding again after each interval.

    Within an interval the learner sees `head(features)` and nothing else changes. At its end the
    head and a linear readout are trained on all labelled items (squared error, minibatches drawn
    with replacement), and the ridge estimate is built anew from their new embeddings. The
    confidence set is that of the embedding at hand: it holds if rewards are linear in it, which
    nothing guarantees (`Curves.broken` counts its failures).

    Args:
      head: callable pytree `[..., d] -> [..., m]`, a Flax nnx module for instance, whose arrays
        are all parameters.
      learner: with a gate without memory and at most `capacity` labels; it must not forget.
      stream: `t -> Round`, with raw features.
      rounds: T.
      capacity: B, how many labelled items are kept. A label beyond it trains the ridge until the
        next interval and is then lost.
      key: random key.
      interval: rounds between two trainings.
      steps: optimiser steps of each.
      batch_size: labelled items in each step.
      optimizer: by default Adam with learning rate 1e-2.

    Returns:
      The `LastLayer`, and `Curves` with one record for each interval; their `error` is NaN.

    Raises:
      TypeError: the head or the stream is not callable, or `key` is not a key.
      ValueError: a count is out of its range, or the gate has a memory, whose embeddings would
        not survive a training.

    Source: Riquelme, Tucker and Snoek, Deep Bayesian bandits showdown, ICLR 2018 (NeuralLinear).

    Example:
      >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=2)
      >>> head = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> learner = sj.labels.stacksl(budget=20)
      >>> last, curves = sj.labels.run_last_layer(
      ...     head, learner, stream, 40, capacity=20, interval=20, steps=2, key=jax.random.key(1))
      >>> curves.labels
      Array([20, 20], dtype=int32)
    """
    if not callable(head):
        raise TypeError(f"head: got {type(head).__name__}, must be a callable pytree")
    if not isinstance(learner, Learner):
        raise TypeError(f"learner: got {type(learner).__name__}, must be a Learner")
    for name, count in {
        "rounds": rounds, "capacity": capacity, "interval": interval, "steps": steps,
        "batch_size": batch_size,
    }.items():  # fmt: skip
        check_count(name, count)
    check_key(key)
    example = example_round(stream).features
    embedded = jax.eval_shape(head, example)
    start, train_key = jax.random.split(key)
    state = learner.init(embedded, start)
    if learner.delayed or jax.tree.leaves(state.memory):
        raise ValueError("learner: its gate has a memory, which a new embedding would invalidate")
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    alternatives, dim = example.shape
    dtype = embedded.dtype
    interval = min(interval, rounds)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        last, sums = carry
        state, live = last.state, last.state.round < rounds
        now: Round = stream(state.round)
        proposal = learner.propose(state, last.head(now.features))
        proposal = proposal.replace(query=proposal.query & live)
        new = learner.update(state, proposal, now.rewards)
        # A row past the end is dropped: that is where an item without a label goes.
        row = jnp.where(proposal.query, state.labels, capacity)
        last = last.replace(
            state=new.replace(round=jnp.where(live, new.round, state.round)),
            features=last.features.at[row].set(now.features, mode="drop"),
            rewards=last.rewards.at[row].set(now.rewards.astype(last.rewards.dtype), mode="drop"),
        )
        return (last, tally(sums, proposal, now, live)), None

    def train(last: LastLayer, key: jax.Array) -> Any:
        kept = jnp.minimum(last.state.labels, capacity)
        readout = last.state.ridge.theta

        def loss(model: tuple, rows: jax.Array) -> jax.Array:
            head, readout = model
            apart = head(last.features[rows]) @ readout - last.rewards[rows]
            return jnp.mean(apart**2)

        def descend(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
            model, inner = carry
            rows = jax.random.randint(key, (batch_size,), 0, jnp.maximum(kept, 1))
            slope = jax.grad(loss)(model, rows)
            updates, inner = optimizer.update(slope, inner, model)
            return (optax.apply_updates(model, updates), inner), None

        model = last.head, readout
        keys = jax.random.split(key, steps)
        ((trained, _), _), _ = jax.lax.scan(descend, (model, optimizer.init(model)), keys)
        return jax.tree.map(lambda new, old: jnp.where(kept > 0, new, old), trained, last.head)

    def rebuild(last: LastLayer) -> LearnerState:
        old = last.state.ridge
        kept = jnp.arange(capacity) < last.state.labels
        dim = old.theta.shape[0]
        # Chosen, not multiplied by zero: the head of an empty row may be NaN, by a norm of zero.
        features = jnp.where(kept[:, None, None], last.head(last.features), 0.0)
        mean = old.prior_mean
        ridge = new_ridge(dim, regularisation=old.regularisation, prior_mean=mean, dtype=dtype)
        flat = features.reshape(-1, dim)
        surprise = (last.rewards - features @ mean).reshape(-1).astype(dtype)
        ridge = refresh(ridge.replace(gram=flat.T @ flat, moment=flat.T @ surprise))
        return last.state.replace(ridge=ridge, refreshed=last.state.round)

    def advance(carry: tuple, key: jax.Array) -> tuple[tuple, Curves]:
        last, totals = carry
        zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        (last, sums), _ = jax.lax.scan(step, (last, (zero, none) * 2), None, length=interval)
        last = last.replace(head=train(last, key))
        last = last.replace(state=rebuild(last))
        totals = jax.tree.map(jnp.add, totals, sums)
        regret, mistakes, gaps, broken = totals
        state = last.state
        radius = learner.propose(state, last.head(stream(state.round - 1).features)).radius
        nan = jnp.full((), jnp.nan, dtype)
        record = Curves(state.round, regret, mistakes, state.labels, gaps, broken, nan, radius)
        return (last, totals), record

    zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    last = LastLayer(
        head,
        state,
        jnp.zeros((capacity, alternatives, dim), example.dtype),
        jnp.zeros((capacity, alternatives), example.dtype),
    )
    keys = jax.random.split(train_key, -(-rounds // interval))
    (last, _), curves = jax.lax.scan(advance, (last, (zero, none) * 2), keys)
    return last, curves
