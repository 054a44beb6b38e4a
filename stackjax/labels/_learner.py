"""Online learners under a label budget: `init`, `propose`, `update`, in the manner of optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import (
    check_choice,
    check_key,
    check_shape,
    check_type,
    check_within,
)
from stackjax.labels._arguments import check_features
from stackjax.labels._challenge import Challenge, challenge
from stackjax.labels._gates import (
    Gate,
    GateCandidate,
    View,
    every_round,
    largest_gap,
    oldest_direction,
)
from stackjax.labels._pool import waiting_pool
from stackjax.labels._ridge import Ridge, confidence_radius, label, new_ridge, refresh

LATENCIES = ("gap", "pool", "age")


class LearnerState(struct.PyTreeNode):
    """All that a learner carries from round to round.

    Attributes:
      ridge: the estimate.
      round: `[]` integer, rounds so far.
      labels: `[]` integer, labels so far.
      refreshed: `[]` integer, the round of the last refresh.
      key: random key.
      memory: the gate's.

    Example:
      >>> state = sj.labels.stacksl().init(jnp.eye(2), jax.random.key(0))
      >>> print(state.round, state.labels, state.ridge.theta)
      0 0 [0. 0.]
    """

    ridge: Ridge
    round: jax.Array
    labels: jax.Array
    refreshed: jax.Array
    key: jax.Array
    memory: Any


class Proposal(struct.PyTreeNode):
    """What the learner does in a round.

    Attributes:
      challenge: the action, the challenger and their gap.
      candidate: the item whose label would be asked for.
      query: `[]` bool, whether it is.
      threshold: `[]`, what its latency was compared with.
      radius: `[]`, rho.
      view: what the gate saw.

    Example:
      >>> learner = sj.labels.llf_stacksl(budget=9, threshold=0.3)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(proposal.action, proposal.query, proposal.challenge.gap > proposal.threshold)
      0 True True
    """

    challenge: Challenge
    candidate: GateCandidate
    query: jax.Array
    threshold: jax.Array
    radius: jax.Array
    view: View

    @property
    def action(self) -> jax.Array:
        """`[]` integer, the alternative that is played."""
        return self.challenge.action

    @property
    def round(self) -> jax.Array:
        """`[]` integer, the round whose rewards `update` needs if `query`."""
        return self.candidate.round


class Learner(NamedTuple):
    """Four pure functions.

    Attributes:
      init: `(features, key) -> state`; `features` `[K, d]` is an example, of which only shape and
        dtype matter.
      propose: `(state, features) -> Proposal`.
      update: `(state, proposal, rewards) -> state`, with the rewards `[K]` of round
        `proposal.round`; they change nothing unless `proposal.query`.
      refresh: `state -> state`, every few hundred rounds: removes rounding errors and lets old
        labels fade. Apart, because a condition inside of `update` would cost a factorisation at
        every round of a `jax.vmap`.
      delayed: whether `proposal.round` may be an earlier round.

    Example:
      >>> learner = sj.labels.stacksl(budget=1)
      >>> state = learner.init(jnp.eye(2), jax.random.key(0))
      >>> for rewards in jnp.array([[0.0, 1.0], [0.0, 1.0]]):
      ...     proposal = learner.propose(state, jnp.eye(2))
      ...     state = learner.update(state, proposal, rewards)
      ...     print(proposal.action, proposal.query)
      0 True
      1 False
    """

    init: Callable[[Any, jax.Array], LearnerState]
    propose: Callable[[LearnerState, jax.Array], Proposal]
    update: Callable[[LearnerState, Proposal, jax.Array], LearnerState]
    refresh: Callable[[LearnerState], LearnerState]
    delayed: bool = False


def budgeted_learner(
    gate: Gate,
    *,
    budget: Any = None,
    threshold: Any = 0.0,
    regularisation: Any = 1.0,
    noise: Any = 1.0,
    norm: Any = 1.0,
    confidence: Any = 0.05,
    scale: Any = 1.0,
    forget: Any = 1.0,
    optimistic: bool = False,
    prior_mean: Any = None,
) -> Learner:
    """A ridge estimate, a choice and a gate, with at most `budget` labels.

    Options may be traced arrays: `jax.vmap` over a function that builds a learner and runs it
    covers a grid of them in one program.

    Args:
      gate: who asks for labels.
      budget: B >= 0, labels at most; None for no limit.
      threshold: number, or a schedule `round -> number` (`decaying`, or any of optax's); a label
        is asked for where the gate's latency is greater.
      regularisation: of the ridge estimate, > 0.
      noise: sub-Gaussian parameter of the rewards' noise, >= 0.
      norm: bound on `|theta* - prior_mean|`, >= 0.
      confidence: probability that the confidence set may fail, in (0, 1].
      scale: >= 0, factor on the radius of `confidence_radius`. The theorem needs 1; smaller ones
        are common in practice, and coverage has to be measured then.
      forget: in (0, 1], discount of a label's weight by round, applied at refreshes.
      optimistic: play the largest upper confidence bound (LinUCB) instead of the best score.
      prior_mean: `[d]`, the estimate before any label; zero by default.

    Raises:
      TypeError: `gate` is not a `Gate`, or an option is not a number.
      ValueError: an option is out of its range.

    Source: the interface of optax; LinUCB after Li, Chu, Langford and Schapire, WWW 2010.

    Example:
      >>> learner = sj.labels.budgeted_learner(sj.labels.every_round(), budget=1)
      >>> state = learner.init(jnp.eye(2), jax.random.key(0))
      >>> state = learner.update(state, learner.propose(state, jnp.eye(2)), jnp.array([0.0, 1.0]))
      >>> print(learner.propose(state, jnp.eye(2)).action, learner.propose(state, jnp.eye(2)).query)
      1 False
    """
    check_type("gate", gate, Gate, "a Gate")
    if budget is not None:
        check_within("budget", budget, "[0, inf]")
    if not callable(threshold):
        check_within("threshold", threshold, "[-inf, inf]")
    check_within("regularisation", regularisation, "(0, inf)")
    check_within("noise", noise, "[0, inf)")
    check_within("norm", norm, "[0, inf)")
    check_within("confidence", confidence, "(0, 1]")
    check_within("scale", scale, "[0, inf)")
    check_within("forget", forget, "(0, 1]")

    def init(features: Any, key: jax.Array) -> LearnerState:
        check_features(features)
        check_key(key)
        zero = jnp.zeros((), jnp.int32)
        dim, dtype = features.shape[1], features.dtype
        ridge = new_ridge(dim, regularisation=regularisation, prior_mean=prior_mean, dtype=dtype)
        return LearnerState(ridge, zero, zero, zero, key, gate.init(features))

    def propose(state: LearnerState, features: jax.Array) -> Proposal:
        ridge = state.ridge
        check_features(features)
        check_shape("features", features, (None, ridge.theta.shape[0]))
        rho = scale * confidence_radius(ridge, noise=noise, norm=norm, confidence=confidence)
        rho = jnp.asarray(rho, ridge.theta.dtype)
        action = None
        if optimistic:
            squares = jnp.sum((features @ ridge.inverse) * features, axis=-1)
            action = jnp.argmax(features @ ridge.theta + rho * jnp.sqrt(jnp.maximum(squares, 0.0)))
        play = challenge(features, ridge.theta, ridge.inverse, rho, action=action)
        key = jax.random.fold_in(state.key, state.round)
        view = View(state.round, features, play, ridge, rho, key)
        candidate = gate.select(state.memory, view)
        level = jnp.asarray(threshold(state.round) if callable(threshold) else threshold, rho.dtype)
        check_shape("threshold", level, ())
        check_shape("latency", candidate.latency, ())
        query = candidate.latency > level
        if budget is not None:
            query = query & (state.labels + 1 <= budget)
        return Proposal(play, candidate, query, level, rho, view)

    def update(state: LearnerState, proposal: Proposal, rewards: jax.Array) -> LearnerState:
        check_shape("rewards", rewards, proposal.view.features.shape[:1])
        rewards = jnp.asarray(rewards, state.ridge.theta.dtype)
        candidate = proposal.candidate
        return state.replace(
            # Rewards that were not asked for may be anything, NaN among them.
            ridge=jax.lax.cond(
                proposal.query,
                lambda: label(state.ridge, candidate.features, rewards),
                lambda: state.ridge,
            ),
            round=state.round + 1,
            labels=state.labels + proposal.query.astype(jnp.int32),
            memory=gate.update(state.memory, proposal.view, candidate, proposal.query),
        )

    def refresh_state(state: LearnerState) -> LearnerState:
        faded = forget ** (state.round - state.refreshed).astype(state.ridge.theta.dtype)
        return state.replace(
            ridge=refresh(state.ridge, faded),
            refreshed=state.round,
            memory=gate.refresh(state.memory, faded),
        )

    return Learner(init, propose, update, refresh_state, gate.delayed)


def stacksl(**options: Any) -> Learner:
    """StackSL: the label of every round (arXiv 2602.00952, as we read its abstract).

    Args:
      **options: of `budgeted_learner`.

    Example:
      >>> sj.labels.stacksl(noise=0.1).delayed
      False
    """
    return budgeted_learner(every_round(), **options)


def llf_stacksl(
    *, budget: Any, latency: str = "gap", horizon: Any = None, pool: int = 32, **options: Any
) -> Learner:
    """LLF-StackSL: labels where the latency is largest, at most `budget` of them.

    The abstract of arXiv 2602.00952 names a 'largest-latency-first confidence gate' and does not
    say what latency is. One switch covers three readings.

    With "gap", while labels are left and the confidence set holds, a round without a label costs
    at most its threshold, as its gap does (`challenge`). With B' <= B labels until then the
    regret is at most

        2 rho sqrt(B' O(d log B')) + sum of the thresholds of the other rounds.

    Once the budget is spent the gap still bounds each round, but nothing makes it shrink: the
    threshold has to be high enough to last, or low enough for the estimate to be good by then.
    `tune_threshold` weighs the two on streams that cost no label.

    Args:
      budget: B, labels at most.
      latency: "gap", the challenger's gap (`largest_gap`); "pool", waiting time times width in a
        pool of unresolved items (`waiting_pool`); "age", rounds since the direction was last
        labelled (`oldest_direction`).
      horizon: for "age": the age of a direction that was never labelled, in rounds.
      pool: for "pool": its size.
      **options: of `budgeted_learner`, `threshold` above all.

    Raises:
      ValueError: `latency` is another word, or "age" is asked for without a horizon.

    Example:
      >>> sj.labels.llf_stacksl(budget=100, latency="pool", threshold=0.5).delayed
      True
    """
    check_choice("latency", latency, LATENCIES)
    if latency == "age" and horizon is None:
        raise ValueError('`horizon` must be the number of rounds with latency="age"; got None.')
    if latency == "pool":
        gate = waiting_pool(size=pool)
    else:
        gate = largest_gap() if latency == "gap" else oldest_direction(horizon=horizon)
    return budgeted_learner(gate, budget=budget, **options)
