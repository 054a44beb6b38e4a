"""Playing a learner on a stream: one scan, in memory that does not grow with the rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_count, check_key, check_shape, check_type
from stackjax.labels._arguments import check_features
from stackjax.labels._learner import Learner, LearnerState, Proposal
from stackjax.labels._ridge import parameter_error
from stackjax.labels._streams import Round


class Curves(struct.PyTreeNode):
    """A run, recorded at the end of each of C blocks of rounds. All are sums from round 0 on.

    Attributes:
      round: `[C]` integer, rounds so far.
      regret: `[C]`, sum of max(means) less the mean of the action.
      mistakes: `[C]`, rounds whose action was not a best one.
      labels: `[C]` integer.
      gaps: `[C]`, sum of the gaps, a bound on the regret while the confidence set holds.
      broken: `[C]` integer, rounds whose regret was greater than their gap.
      error: `[C]`, `||theta - theta*||_V`; NaN for a stream without a theta*.
      radius: `[C]`, rho, which `error` exceeds where the confidence set fails.

    Example:
      >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=2)
      >>> learner = sj.labels.stacksl(budget=2)
      >>> _, curves = sj.labels.run(learner, stream, 4, key=jax.random.key(0), block=2)
      >>> print(curves.round, curves.labels, curves.regret.shape)
      [2 4] [2 2] (2,)
    """

    round: jax.Array
    regret: jax.Array
    mistakes: jax.Array
    labels: jax.Array
    gaps: jax.Array
    broken: jax.Array
    error: jax.Array
    radius: jax.Array


def run(
    learner: Learner,
    stream: Any,
    rounds: int,
    *,
    key: jax.Array,
    state: LearnerState | None = None,
    block: int = 256,
) -> tuple[LearnerState, Curves]:
    """Plays T rounds.

    Pure JAX: jit it, and `vmap` it over keys, streams and the options of learners. Memory is that
    of the learner plus ceil(T / block) records.

    Args:
      learner: who plays.
      stream: `t -> Round`, a callable pytree (`linear_stream`, `recorded_stream`, your own).
      rounds: T.
      key: random key of the learner's initial state; a `state` carries its own.
      state: where to go on; by default the initial state. The next round is `state.round`.
      block: rounds between two refreshes of the estimate, and two records.

    Returns:
      The last state and the `Curves`, counted from the start of this call; `round` and `labels`
      are the state's.

    Raises:
      TypeError: the stream is not callable, its rounds are no `Round`, `key` is not a key, or a
        number of the wrong kind.
      ValueError: a count is out of its range, or the stream's shapes do not fit.

    Example:
      >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=2)
      >>> learner = sj.labels.llf_stacksl(budget=50, noise=0.5, scale=0.1)
      >>> state, curves = sj.labels.run(learner, stream, 1000, key=jax.random.key(1), block=500)
      >>> curves.round, int(state.labels)
      (Array([ 500, 1000], dtype=int32), 50)
    """
    check_type("learner", learner, Learner, "a Learner")
    check_count("rounds", rounds)
    check_count("block", block)
    check_key(key)
    example = example_round(stream)
    if state is None:
        state = learner.init(example.features, key)
    block = min(block, rounds)
    ragged = rounds % block != 0
    end = state.round + rounds
    dtype = example.features.dtype

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        state, sums = carry
        live = state.round < end
        proposal, now, new = play(learner, stream, state, live)
        # The last block may be longer than what is left: idle rounds change nothing.
        keep = lambda new, old: jnp.where(live, new, old)
        if ragged:
            memory = jax.tree.map(keep, new.memory, state.memory)
            new = new.replace(round=keep(new.round, state.round), memory=memory)
        state = new
        return (state, tally(sums, proposal, now, live)), None

    def advance(carry: tuple, _: None) -> tuple[tuple, Curves]:
        state, totals = carry
        zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        start = (zero, none, zero, none)
        (state, sums), _ = jax.lax.scan(step, (state, start), None, length=block)
        state = learner.refresh(state)
        # Sums of a block are added up first: a long sum in float32 would swallow small terms.
        totals = jax.tree.map(jnp.add, totals, sums)
        regret, mistakes, gaps, broken = totals
        last = stream(jnp.maximum(state.round - 1, 0))
        proposal = learner.propose(state, last.features)
        if last.theta is None:
            error = jnp.full((), jnp.nan, dtype)
        else:
            error = parameter_error(state.ridge, last.theta)
        record = Curves(
            state.round, regret, mistakes, state.labels, gaps, broken, error, proposal.radius
        )
        return (state, totals), record

    zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    start = (state, (zero, none, zero, none))
    (state, _), curves = jax.lax.scan(advance, start, None, length=-(-rounds // block))
    return state, curves


def play(
    learner: Learner, stream: Any, state: LearnerState, live: Any = True
) -> tuple[Proposal, Round, LearnerState]:
    """One round: the proposal, the round, and the state after the label, if one was asked for.

    Args:
      learner: who plays.
      stream: `t -> Round`.
      state: of the learner.
      live: `[]` bool; False plays without asking for a label.

    Example:
      >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=2)
      >>> learner = sj.labels.stacksl()
      >>> state = learner.init(stream(0).features, jax.random.key(1))
      >>> sj.labels.play(learner, stream, state)[2].labels
      Array(1, dtype=int32)
    """
    now = stream(state.round)
    proposal = learner.propose(state, now.features)
    proposal = proposal.replace(query=proposal.query & live)
    asked = stream(proposal.round) if learner.delayed else now
    return proposal, now, learner.update(state, proposal, asked.rewards)


def tally(sums: tuple, proposal: Proposal, now: Round, live: jax.Array) -> tuple:
    """Sums of regret, mistakes, gaps and broken bounds, with one more round if `live`."""
    regret, mistakes, gaps, broken = sums
    gap = proposal.challenge.gap
    means = now.means.astype(gap.dtype)
    loss = jnp.max(means) - means[proposal.action]
    # Rounding of the scores is no failure of the confidence set.
    slack = 16 * jnp.finfo(loss.dtype).eps * (1 + jnp.max(jnp.abs(means)))
    return (
        regret + jnp.where(live, loss, 0.0),
        mistakes + (live & (loss > 0)),
        gaps + jnp.where(live, gap, 0.0),
        broken + (live & (loss > gap + slack)),
    )


def accuracy(theta: jax.Array, features: jax.Array, means: jax.Array) -> jax.Array:
    """Share of held-out questions whose best score is of a best alternative, `[]`.

    A question with a score that is not a number counts as wrong.

    Args:
      theta: `[d]`, an estimate.
      features: `[N, K, d]`.
      means: `[N, K]`, expected rewards, or rewards.

    Raises:
      ValueError: shapes do not fit, or there is no question.

    Example:
      >>> features, means = jnp.array([[[0.0], [1.0]]]), jnp.array([[0.0, 1.0]])
      >>> float(sj.labels.accuracy(jnp.array([1.0]), features, means))
      1.0
    """
    check_shape("theta", theta, (None,))
    check_shape("features", features, (None, None, theta.shape[0]))
    check_shape("means", means, features.shape[:2])
    if features.shape[0] == 0:
        raise ValueError("`features` must hold at least one question; got none.")
    scores = features @ theta
    chosen = jnp.argmax(scores, axis=-1)
    won = jnp.take_along_axis(means, chosen[:, None], axis=1)[:, 0]
    right = (won == jnp.max(means, axis=-1)) & ~jnp.isnan(scores).any(-1)
    return jnp.mean(right, dtype=theta.dtype)


def example_round(stream: Any) -> Round:
    """Shapes of a stream's rounds.

    Raises:
      TypeError: it is not callable, or does not return a `Round`.
      ValueError: the shapes do not fit.
    """
    check_type("stream", stream, Callable, "a callable t -> Round")
    example = jax.eval_shape(stream, jnp.zeros((), jnp.int32))
    if not isinstance(example, Round):
        raise TypeError(f"`stream` must return a Round; got {type(example).__name__}.")
    check_features(example.features)
    for name in ("means", "rewards"):
        check_shape(name, getattr(example, name), example.features.shape[:1])
    return example
