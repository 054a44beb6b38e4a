"""A leader's policy trained through the follower's iterations instead of through its optimum.

The follower's best response is replaced by a fixed number of steps of projected gradient ascent,
which reverse-mode differentiation walks back, one by one.

Source: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through reversible
learning, ICML 2015.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.learning.problems import Problem, empty_snapshots, take_snapshot

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run; `batch` samples a step.

    Attributes:
      steps: of Adam.
      batch: contexts a step.
      learning_rate: Adam's; falls to 0 by a cosine, as in `stackjax.fit_leader`.
      iterations: the follower's, from the problem's starting point.
      rate: the follower's step size.
    """

    steps: int = 400
    batch: int = 64
    learning_rate: float = 0.01
    iterations: int = 50
    rate: float = 0.3

    @property
    def samples(self) -> int:
        """Samples a step."""
        return self.batch


def make_train(
    problem: Problem, settings: Settings, times: np.ndarray
) -> Callable[[PyTree, jax.Array], tuple[PyTree, jax.Array]]:
    """One run, to be jitted.

    Args:
      problem: the game.
      settings: of the run.
      times: `[S]`, the numbers of steps after which the policy is kept.

    Returns:
      `(policy, key) -> (policies [S, ...], mean utility of each minibatch [steps])`.
    """
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    optimizer = optax.adam(schedule)

    def loss(policy: PyTree, contexts: PyTree) -> jax.Array:
        def one(context: PyTree) -> jax.Array:
            action = policy(context)
            response = ascend(problem, action, context, settings)
            return problem.game.leader_utility(action, response, context)

        return -jnp.mean(jax.vmap(one)(contexts))

    def train(policy: PyTree, key: jax.Array) -> tuple[PyTree, jax.Array]:
        def step(carry: tuple, number: jax.Array) -> tuple[tuple, jax.Array]:
            policy, state, snapshots = carry
            rows = jax.random.fold_in(key, number)
            rows = jax.random.randint(rows, (settings.batch,), 0, problem.size)
            contexts = jax.tree.map(lambda x: x[rows], problem.contexts)
            value, slope = jax.value_and_grad(loss)(policy, contexts)
            change, state = optimizer.update(slope, state)
            policy = optax.apply_updates(policy, change)
            snapshots = take_snapshot(snapshots, policy, times, number + 1)
            return (policy, state, snapshots), -value

        begin = policy, optimizer.init(policy), empty_snapshots(policy, times)
        end, values = jax.lax.scan(step, begin, jnp.arange(settings.steps))
        return end[2], values

    return train


def ascend(problem: Problem, action: PyTree, context: PyTree, settings: Settings) -> PyTree:
    """The follower after its iterations, `response`; differentiable through all of them."""
    slope = jax.grad(problem.game.follower_utility, argnums=1)

    def iterate(response: PyTree, _: None) -> tuple[PyTree, None]:
        step = slope(action, response, context)
        moved = jax.tree.map(lambda y, g: y + settings.rate * g, response, step)
        return problem.game.response_set.project(moved), None

    return jax.lax.scan(iterate, problem.response, None, length=settings.iterations)[0]
