"""The learner on the last layer of a network that is trained again at intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_count, check_key, check_type
from stackjax.labels._learner import Learner, LearnerState
from stackjax.labels._ridge import new_ridge, refresh
from stackjax.labels._run import Curves, example_round, tally
from stackjax.labels._streams import Round

_LEARNING_RATE = 1e-2  # of Adam, the default optimiser


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
      TypeError: the head or the stream is not callable, `key` is not a key, or a
        number of the wrong kind.
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
    counts = {
        "rounds": rounds, "capacity": capacity, "interval": interval, "steps": steps,
        "batch_size": batch_size,
    }  # fmt: skip
    _check(head, learner, counts, key)
    example = example_round(stream).features
    embedded = jax.eval_shape(head, example)
    start, train_key = jax.random.split(key)
    state = learner.init(embedded, start)
    if learner.delayed or jax.tree.leaves(state.memory):
        raise ValueError(
            "`learner` must have a gate without memory, which a new embedding would invalidate; "
            "got one with memory."
        )
    optimizer = optax.adam(_LEARNING_RATE) if optimizer is None else optimizer
    alternatives, dim = example.shape
    interval = min(interval, rounds)
    plan = _Plan(
        learner, stream, optimizer, rounds, capacity, interval, steps, batch_size, embedded.dtype
    )
    zero, none = jnp.zeros((), plan.dtype), jnp.zeros((), jnp.int32)
    last = LastLayer(
        head,
        state,
        jnp.zeros((capacity, alternatives, dim), example.dtype),
        jnp.zeros((capacity, alternatives), example.dtype),
    )
    keys = jax.random.split(train_key, -(-rounds // interval))
    (last, _), curves = jax.lax.scan(
        lambda carry, key: _advance(plan, *carry, key), (last, (zero, none) * 2), keys
    )
    return last, curves


class _Plan(NamedTuple):
    """What does not change in a run: see `run_last_layer`."""

    learner: Learner
    stream: Any
    optimizer: optax.GradientTransformation
    rounds: int
    capacity: int
    interval: int
    steps: int
    batch_size: int
    dtype: Any  # of embeddings


def _check(head: Any, learner: Any, counts: dict[str, int], key: Any) -> None:
    check_type("head", head, Callable, "a callable pytree")
    check_type("learner", learner, Learner, "a Learner")
    for name, count in counts.items():
        check_count(name, count)
    check_key(key)


def _advance(
    plan: _Plan, last: LastLayer, totals: tuple, key: jax.Array
) -> tuple[tuple[LastLayer, tuple], Curves]:
    """One interval: its rounds, then a training and the ridge of the new embeddings."""
    zero, none = jnp.zeros((), plan.dtype), jnp.zeros((), jnp.int32)
    (last, sums), _ = jax.lax.scan(
        lambda carry, _: (_play(plan, *carry), None),
        (last, (zero, none) * 2),
        None,
        length=plan.interval,
    )
    last = last.replace(head=_trained(plan, last, key))
    last = last.replace(state=_rebuilt(plan, last))
    totals = jax.tree.map(jnp.add, totals, sums)
    regret, mistakes, gaps, broken = totals
    state = last.state
    features = plan.stream(state.round - 1).features
    radius = plan.learner.propose(state, last.head(features)).radius
    nan = jnp.full((), jnp.nan, plan.dtype)
    record = Curves(state.round, regret, mistakes, state.labels, gaps, broken, nan, radius)
    return (last, totals), record


def _play(plan: _Plan, last: LastLayer, sums: tuple) -> tuple[LastLayer, tuple]:
    """One round, which changes nothing after the last one, and its label among the kept items."""
    state, live = last.state, last.state.round < plan.rounds
    now: Round = plan.stream(state.round)
    proposal = plan.learner.propose(state, last.head(now.features))
    proposal = proposal.replace(query=proposal.query & live)
    new = plan.learner.update(state, proposal, now.rewards)
    # A row past the end is dropped: that is where an item without a label goes.
    row = jnp.where(proposal.query, state.labels, plan.capacity)
    last = last.replace(
        state=new.replace(round=jnp.where(live, new.round, state.round)),
        features=last.features.at[row].set(now.features, mode="drop"),
        rewards=last.rewards.at[row].set(now.rewards.astype(last.rewards.dtype), mode="drop"),
    )
    return last, tally(sums, proposal, now, live)


def _trained(plan: _Plan, last: LastLayer, key: jax.Array) -> Any:
    """The head, trained together with a linear readout on the kept items, if there are any."""
    kept = jnp.minimum(last.state.labels, plan.capacity)
    readout = last.state.ridge.theta

    def loss(model: tuple, rows: jax.Array) -> jax.Array:
        head, readout = model
        apart = head(last.features[rows]) @ readout - last.rewards[rows]
        return jnp.mean(apart**2)

    def descend(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        model, inner = carry
        rows = jax.random.randint(key, (plan.batch_size,), 0, jnp.maximum(kept, 1))
        slope = jax.grad(loss)(model, rows)
        updates, inner = plan.optimizer.update(slope, inner, model)
        return (optax.apply_updates(model, updates), inner), None

    model = last.head, readout
    keys = jax.random.split(key, plan.steps)
    ((trained, _), _), _ = jax.lax.scan(descend, (model, plan.optimizer.init(model)), keys)
    return jax.tree.map(lambda new, old: jnp.where(kept > 0, new, old), trained, last.head)


def _rebuilt(plan: _Plan, last: LastLayer) -> LearnerState:
    """The learner's state with the ridge estimate of the kept items' embeddings by the head."""
    old, dtype = last.state.ridge, plan.dtype
    kept = jnp.arange(plan.capacity) < last.state.labels
    dim = old.theta.shape[0]
    # Chosen, not multiplied by zero: the head of an empty row may be NaN, by a norm of zero.
    features = jnp.where(kept[:, None, None], last.head(last.features), 0.0)
    mean = old.prior_mean
    ridge = new_ridge(dim, regularisation=old.regularisation, prior_mean=mean, dtype=dtype)
    flat = features.reshape(-1, dim)
    surprise = (last.rewards - features @ mean).reshape(-1).astype(dtype)
    ridge = refresh(ridge.replace(gram=flat.T @ flat, moment=flat.T @ surprise))
    return last.state.replace(ridge=ridge, refreshed=last.state.round)
