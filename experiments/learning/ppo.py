"""Proximal policy optimisation in one file: environments in a batch, the whole run one `scan`.

For a policy of continuous actions: `u ~ N(logits(policy, x), exp(log_std)^2)`, unbounded, which the
environment squashes into its action set. The squashing's Jacobian does not depend on the policy and
cancels in the likelihood ratio.

Source: Schulman et al., Proximal policy optimization algorithms, arXiv 1707.06347, 2017; Schulman
et al., High-dimensional continuous control using generalized advantage estimation, ICLR 2016.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, struct

from experiments.learning.problems import Problem, empty_snapshots, take_snapshot

PyTree = Any


class Environment(NamedTuple):
    """A decision process for one agent; unbatched, functions of arrays.

    Attributes:
      reset: `key -> (state, observation)`.
      step: `(key, state, u) -> (state, observation, reward, done)`; where `done`, the state and
        the observation returned are those of a new episode.
    """

    reset: Callable[[jax.Array], tuple[PyTree, PyTree]]
    step: Callable[[jax.Array, PyTree, jax.Array], tuple[PyTree, PyTree, jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run; `environments * turns` samples an update.

    Attributes:
      updates: rounds of playing and learning.
      environments: how many are played side by side.
      turns: turns played in each a round.
      epochs: passes over a round's samples.
      minibatches: gradient steps a pass.
      learning_rate: Adam's; falls linearly to 0.
      log_std: of the policy's exploration, to begin with.
      clip: range of the likelihood ratio.
      discount: of rewards.
      trace: GAE's lambda.
      entropy: weight of the entropy bonus.
      value: weight of the value's squared error.
      max_norm: gradients are clipped to this norm.
    """

    updates: int = 200
    environments: int = 256
    turns: int = 1
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 3e-3
    log_std: float = -0.5
    clip: float = 0.2
    discount: float = 0.99
    trace: float = 0.95
    entropy: float = 0.0
    value: float = 0.5
    max_norm: float = 0.5

    def __post_init__(self) -> None:
        if self.environments * self.turns % self.minibatches:
            raise ValueError("minibatches must divide environments * turns")

    @property
    def samples(self) -> int:
        """Samples an update."""
        return self.environments * self.turns


class Value(nnx.Module):
    """What an observation is worth: two hidden layers of 32, tanh."""

    def __init__(self, features: Callable, inputs: int, rngs: nnx.Rngs) -> None:
        self.features = features
        self.first, self.second = nnx.Linear(inputs, 32, rngs=rngs), nnx.Linear(32, 32, rngs=rngs)
        self.last = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, observation: PyTree) -> jax.Array:
        hidden = jnp.tanh(self.first(self.features(observation)))
        return self.last(jnp.tanh(self.second(hidden)))[0]


class Agent(struct.PyTreeNode):
    """What is trained: the policy, the log of its noise `[a]`, the value network."""

    policy: PyTree
    log_std: jax.Array
    value: Value


class Sample(NamedTuple):
    """One turn: what was seen, done and got, and what the agent thought of it."""

    observation: PyTree
    u: jax.Array
    log_probability: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


def make_train(
    environment: Environment,
    logits: Callable[[PyTree, PyTree], jax.Array],
    settings: Settings,
    times: np.ndarray,
) -> Callable[[Agent, jax.Array], tuple[PyTree, jax.Array]]:
    """One run, to be jitted.

    Args:
      environment: to play in.
      logits: `(policy, observation) -> [a]`, the mean of u.
      settings: of the run.
      times: `[S]`, the numbers of updates after which the policy is kept.

    Returns:
      `(agent, key) -> (policies [S, ...], mean reward of each update [updates])`.
    """
    gradient_steps = settings.updates * settings.epochs * settings.minibatches
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.max_norm),
        optax.adam(optax.linear_schedule(settings.learning_rate, 0.0, gradient_steps), eps=1e-5),
    )

    def play(agent: Agent, states: PyTree, seen: PyTree, key: jax.Array) -> tuple:
        """One turn in every environment."""
        noise_key, step_key = jax.random.split(key)
        mean = jax.vmap(logits, in_axes=(None, 0))(agent.policy, seen)
        u = mean + jnp.exp(agent.log_std)[None] * jax.random.normal(noise_key, mean.shape)
        log_probability = jax.vmap(log_density, in_axes=(0, 0, None))(u, mean, agent.log_std)
        value = jax.vmap(agent.value)(seen)
        keys = jax.random.split(step_key, settings.environments)
        states, after, reward, done = jax.vmap(environment.step)(keys, states, u)
        return (states, after), Sample(seen, u, log_probability, value, reward, done)

    def loss(agent: Agent, batch: tuple[Sample, jax.Array, jax.Array]) -> jax.Array:
        sample, advantage, target = batch
        mean = jax.vmap(logits, in_axes=(None, 0))(agent.policy, sample.observation)
        new = jax.vmap(log_density, in_axes=(0, 0, None))(sample.u, mean, agent.log_std)
        ratio = jnp.exp(new - sample.log_probability)
        advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
        clipped = jnp.clip(ratio, 1 - settings.clip, 1 + settings.clip)
        gain = jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
        error = jnp.mean((jax.vmap(agent.value)(sample.observation) - target) ** 2) / 2
        # Up to a constant, the entropy of the normal distribution.
        return -gain + settings.value * error - settings.entropy * jnp.sum(agent.log_std)

    def learn(carry: tuple, batch: tuple) -> tuple[tuple, None]:
        agent, state = carry
        slope = jax.grad(loss)(agent, batch)
        change, state = optimizer.update(slope, state, agent)
        return (optax.apply_updates(agent, change), state), None

    def update(carry: tuple, number: jax.Array) -> tuple[tuple, jax.Array]:
        agent, state, states, seen, snapshots, key = carry
        key, play_key, shuffle_key = jax.random.split(key, 3)
        (states, seen), round_ = jax.lax.scan(
            lambda at, key: play(agent, *at, key),
            (states, seen),
            jax.random.split(play_key, settings.turns),
        )
        advantage = advantages(round_, jax.vmap(agent.value)(seen), settings)
        batch = round_, advantage, advantage + round_.value
        batch = jax.tree.map(lambda x: x.reshape(settings.samples, *x.shape[2:]), batch)

        def epoch(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
            order = jax.random.permutation(key, settings.samples)
            order = order.reshape(settings.minibatches, -1)
            parts = jax.tree.map(lambda x: x[order], batch)
            return jax.lax.scan(learn, carry, parts)

        keys = jax.random.split(shuffle_key, settings.epochs)
        (agent, state), _ = jax.lax.scan(epoch, (agent, state), keys)
        snapshots = take_snapshot(snapshots, agent.policy, times, number + 1)
        return (agent, state, states, seen, snapshots, key), jnp.mean(round_.reward)

    def train(agent: PyTree, key: jax.Array) -> tuple[PyTree, jax.Array]:
        key, reset_key = jax.random.split(key)
        states, seen = jax.vmap(environment.reset)(
            jax.random.split(reset_key, settings.environments)
        )
        begin = (
            agent,
            optimizer.init(agent),
            states,
            seen,
            empty_snapshots(agent.policy, times),
            key,
        )
        end, rewards = jax.lax.scan(update, begin, jnp.arange(settings.updates))
        return end[4], rewards

    return train


def advantages(round_: Sample, last: jax.Array, settings: Settings) -> jax.Array:
    """Generalised advantage estimates, `[turns, environments]`; `last` is the value after them."""

    def back(carry: tuple, sample: Sample) -> tuple[tuple, jax.Array]:
        following, value = carry
        goes_on = settings.discount * (1 - sample.done)
        surprise = sample.reward + goes_on * value - sample.value
        advantage = surprise + goes_on * settings.trace * following
        return (advantage, sample.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last), last), round_, reverse=True)[1]


def log_density(u: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Of independent normals at `u: [a]`, up to a constant, `[]`."""
    return -jnp.sum(((u - mean) * jnp.exp(-log_std)) ** 2 / 2 + log_std)


def new_agent(problem: Problem, policy: PyTree, settings: Settings, rngs: nnx.Rngs) -> Agent:
    """An agent with a given policy and a fresh value network."""
    context = jax.tree.map(lambda x: x[0], problem.contexts)
    size, inputs = len(problem.logits(policy, context)), len(problem.features(context))
    noise = jnp.full(size, settings.log_std)
    return Agent(policy, noise, Value(problem.features, inputs, rngs))


def stage_game(problem: Problem) -> Environment:
    """Episodes of one turn: a context, the leader's action, its utility at the best response."""

    def reset(key: jax.Array) -> tuple[PyTree, PyTree]:
        row = jax.random.randint(key, (), 0, problem.size)
        context = jax.tree.map(lambda x: x[row], problem.contexts)
        return context, context

    def step(key: jax.Array, context: PyTree, u: jax.Array) -> tuple:
        reward = problem.utility(problem.squash(u), context)
        return *reset(key), reward, jnp.ones(())

    return Environment(reset, step)
