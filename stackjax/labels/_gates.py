"""Who asks for a label: the gates of LLF-StackSL, and those of its baselines.

A gate gives each round a latency; the learner asks for a label where the latency exceeds the
threshold of the round and labels are left. All gates share this interface, so that they differ in
nothing but the latency.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_type, check_within
from stackjax.labels._challenge import Challenge
from stackjax.labels._ridge import Ridge


class View(struct.PyTreeNode):
    """What a gate may look at: everything that is known before the label of round t.

    Attributes:
      round: `[]` integer, t.
      features: `[K, d]`, the round's alternatives.
      challenge: the round's game.
      ridge: the estimate.
      radius: `[]`, rho.
      key: a random key of the round.

    Example:
      >>> learner = sj.labels.stacksl()
      >>> state = learner.init(jnp.eye(2), jax.random.key(0))
      >>> view = learner.propose(state, jnp.eye(2)).view
      >>> print(view.round, view.features.shape, view.challenge.scores, view.radius > 0)
      0 (2, 2) [0. 0.] True
    """

    round: jax.Array
    features: jax.Array
    challenge: Challenge
    ridge: Ridge
    radius: jax.Array
    key: jax.Array


class GateCandidate(struct.PyTreeNode):
    """The item that would be labelled, if the gate opens.

    Attributes:
      latency: `[]`, to be compared with the threshold.
      round: `[]` integer, when the item arrived.
      features: `[K, d]`, its alternatives.
      slot: what the gate wants to remember about it; None for a gate without memory.

    Example:
      >>> learner = sj.labels.llf_stacksl(budget=9, threshold=0.5)
      >>> state = learner.init(jnp.eye(2), jax.random.key(0))
      >>> candidate = learner.propose(state, jnp.eye(2)).candidate
      >>> print(candidate.features.shape, candidate.round, candidate.latency > 0.5)
      (2, 2) 0 True
    """

    latency: jax.Array
    round: jax.Array
    features: jax.Array
    slot: Any = None


class Gate(NamedTuple):
    """Four pure functions.

    Attributes:
      init: `features [K, d] -> memory`, from an example of the features.
      select: `(memory, view) -> GateCandidate`.
      update: `(memory, view, candidate, query) -> memory`, after the decision `query`, `[]` bool.
      refresh: `(memory, forget) -> memory`, whenever the estimate is refreshed.
      delayed: whether it may ask for the label of an earlier round.

    Example:
      >>> gate = sj.labels.gate_of(lambda view: -view.round)  # the earlier the better
      >>> learner = sj.labels.budgeted_learner(gate, budget=9, threshold=-5)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(gate.delayed, proposal.query)
      False True
    """

    init: Callable[[Any], Any]
    select: Callable[[Any, View], GateCandidate]
    update: Callable[[Any, View, GateCandidate, Any], Any]
    refresh: Callable[[Any, Any], Any]
    delayed: bool = False


def gate_of(latency: Callable[[View], jax.Array]) -> Gate:
    """A gate without memory from a function `View -> latency []`.

    Args:
      latency: a pure function; a label is asked for where it exceeds the threshold.

    Raises:
      TypeError: `latency` is not a function.

    Example:
      >>> gate = sj.labels.gate_of(lambda view: view.challenge.width)
      >>> learner = sj.labels.budgeted_learner(gate, budget=9, threshold=0.5)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(f"{proposal.candidate.latency:.2f} {proposal.query}")
      1.41 True
    """
    check_type("latency", latency, Callable, "a function of a View")
    return Gate(
        init=lambda features: (),
        select=lambda memory, view: GateCandidate(latency(view), view.round, view.features),
        update=lambda memory, view, candidate, query: memory,
        refresh=lambda memory, forget: memory,
    )


def every_round() -> Gate:
    """Always asks: StackSL with full feedback; with a budget of B, the first B rounds.

    Example:
      >>> gate = sj.labels.every_round()
      >>> learner = sj.labels.budgeted_learner(gate, budget=9, threshold=1e9)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(f"{proposal.candidate.latency:.2f} {proposal.query}")
      inf True
    """
    return gate_of(lambda view: jnp.full_like(view.radius, jnp.inf))


def at_random() -> Gate:
    """A uniform number in [0, 1): threshold 1 - p asks with probability p.

    Example:
      >>> learner = sj.labels.budgeted_learner(sj.labels.at_random(), budget=9, threshold=0.9)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(proposal.query == (proposal.candidate.latency > 0.9))  # one round in ten
      True
    """
    return gate_of(lambda view: jax.random.uniform(view.key, (), view.radius.dtype))


def margin() -> Gate:
    """Smallest margin first (uncertainty sampling): minus the lead of the best score.

    Thresholds are <= 0: `-m` asks where the lead is less than m. Source: Lewis and Gale, A
    sequential algorithm for training text classifiers, SIGIR 1994.

    Example:
      >>> gate = sj.labels.margin()
      >>> learner = sj.labels.budgeted_learner(gate, budget=9, threshold=-0.2)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(f"{proposal.candidate.latency:.2f} {proposal.query}")  # nothing is known yet
      0.00 True
    """

    def latency(view: View) -> jax.Array:
        best, second = jax.lax.top_k(view.challenge.scores, 2)[0]
        return second - best

    return gate_of(latency)


def entropy(*, temperature: Any = 1.0) -> Gate:
    """Largest entropy first: that of softmax(scores / temperature), in nats, at most log K.

    Args:
      temperature: > 0, in units of rewards.

    Raises:
      TypeError: `temperature` is not a number.
      ValueError: it is not positive.

    Example:
      >>> gate = sj.labels.entropy(temperature=0.1)
      >>> learner = sj.labels.budgeted_learner(gate, budget=9, threshold=0.5)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(f"{proposal.candidate.latency:.2f} {proposal.query}")  # log 2
      0.69 True
    """
    check_within("temperature", temperature, "(0, inf)")

    def latency(view: View) -> jax.Array:
        logs = jax.nn.log_softmax(view.challenge.scores / temperature)
        return -jnp.sum(jnp.exp(logs) * logs)

    return gate_of(latency)


def width() -> Gate:
    """Squared width of the two best scores' difference: the BBQ rule.

    With the threshold `decaying(1.0, power)` it asks where z'V^-1 z > t^-power, z the difference
    of features. It looks at no score but to find the pair. Source: Cesa-Bianchi, Gentile and
    Orabona, Robust bounds for classification via selective sampling, ICML 2009 (the bound on bias
    query, with K = 2).

    Example:
      >>> schedule = sj.labels.decaying(1.0, 0.5)
      >>> learner = sj.labels.budgeted_learner(sj.labels.width(), budget=9, threshold=schedule)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(f"{proposal.candidate.latency:.2f} {proposal.query}")
      2.00 True
    """

    def latency(view: View) -> jax.Array:
        first, second = jax.lax.top_k(view.challenge.scores, 2)[1]
        apart = view.features[first] - view.features[second]
        return apart @ view.ridge.inverse @ apart

    return gate_of(latency)


def largest_gap() -> Gate:
    """Reading (a) of 'largest latency first', the default: the gap of the round.

    A threshold >= 0 asks only for rounds that the confidence set does not resolve.

    Example:
      >>> learner = sj.labels.budgeted_learner(sj.labels.largest_gap(), budget=9, threshold=0.5)
      >>> state = learner.init(jnp.eye(2), jax.random.key(0))
      >>> proposal = learner.propose(state, jnp.eye(2))
      >>> print(proposal.candidate.latency == proposal.challenge.gap, proposal.query)
      True True
    """
    return gate_of(lambda view: view.challenge.gap)


def oldest_direction(*, horizon: Any) -> Gate:
    """Reading (c): rounds since the direction of the challenge was last labelled.

    A direction is never labelled exactly again, so the age is a mean: with y = V^-1 z and z the
    challenger's features less the action's, a label of round s with features phi moves the
    estimate of theta'z by phi'y, and the time of the last label is

        sum_s s (phi_s'y)^2 / sum_s (phi_s'y)^2 = y'C y / z'V^-1 z,    C = sum_s s phi_s phi_s',

    in which the prior takes part as a label of round `-horizon`: a direction never labelled is
    older than any other. The latency is t less this time where the gap is positive, and minus
    infinity where the round is resolved.

    Args:
      horizon: > 0, age of the prior at round 0; the number of rounds is a natural choice.

    Raises:
      TypeError: `horizon` is not a number.
      ValueError: it is not positive.

    Example:
      >>> gate = sj.labels.oldest_direction(horizon=1000)
      >>> learner = sj.labels.budgeted_learner(gate, budget=9, threshold=500.0)
      >>> proposal = learner.propose(learner.init(jnp.eye(2), jax.random.key(0)), jnp.eye(2))
      >>> print(f"{proposal.candidate.latency:.2f} {proposal.query}")
      1000.00 True
    """
    check_within("horizon", horizon, "(0, inf)")

    def select(memory: jax.Array, view: View) -> GateCandidate:
        play = view.challenge
        apart = view.features[play.challenger] - view.features[play.action]
        pull = view.ridge.inverse @ apart
        total = jnp.maximum(apart @ pull, jnp.finfo(pull.dtype).tiny)
        stamped = pull @ memory @ pull - horizon * view.ridge.regularisation * (pull @ pull)
        age = view.round - stamped / total
        age = jnp.where(play.gap > 0, age, -jnp.inf)
        return GateCandidate(age, view.round, view.features)

    def update(memory: jax.Array, view: View, candidate: GateCandidate, query: Any) -> jax.Array:
        stamp = jnp.asarray(query, memory.dtype) * view.round
        return memory + stamp * (view.features.T @ view.features)

    return Gate(
        init=lambda features: jnp.zeros((features.shape[1],) * 2, features.dtype),
        select=select,
        update=update,
        refresh=lambda memory, forget: forget * memory,
    )


def decaying(start: Any, power: Any) -> Callable[[Any], jax.Array]:
    """The threshold schedule `start * (t + 1)^-power`, t the round.

    Args:
      start: threshold of round 0, in units of the latency.
      power: 1/2 follows the rate at which gaps shrink when every round is labelled; a negative
        power gives a rising threshold.

    Raises:
      TypeError: `start` or `power` is not a number.
      ValueError: `start` is NaN, or `power` not finite.

    Example:
      >>> float(sj.labels.decaying(4.0, 0.5)(15))
      1.0
    """
    check_within("start", start, "[-inf, inf]")
    check_within("power", power, "(-inf, inf)")
    return lambda t: start * (jnp.asarray(t, jnp.result_type(float)) + 1.0) ** (-power)
