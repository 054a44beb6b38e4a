"""An evolution strategy for a leader's policy: antithetic pairs, ranks, Adam.

Source: Salimans et al., Evolution strategies as a scalable alternative to reinforcement learning,
arXiv 1703.03864, 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from experiments.learning.problems import Problem, empty_snapshots, take_snapshot

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run; `2 * pairs * batch` samples a generation.

    Attributes:
      generations: steps of Adam.
      pairs: the population's antithetic pairs.
      batch: contexts on which all of a generation are compared.
      learning_rate: Adam's; falls to 0 by a cosine.
      sigma: of the perturbations.
    """

    generations: int = 300
    pairs: int = 32
    batch: int = 32
    learning_rate: float = 0.02
    sigma: float = 0.05

    @property
    def samples(self) -> int:
        """Samples a generation."""
        return 2 * self.pairs * self.batch


def make_train(
    problem: Problem, settings: Settings, times: np.ndarray
) -> Callable[[PyTree, jax.Array], tuple[PyTree, jax.Array]]:
    """One run, to be jitted.

    Args:
      problem: the game.
      settings: of the run.
      times: `[S]`, the numbers of generations after which the policy is kept.

    Returns:
      `(policy, key) -> (policies [S, ...], mean utility of each generation [generations])`.
    """
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.generations)
    optimizer = optax.adam(schedule)

    def train(policy: PyTree, key: jax.Array) -> tuple[PyTree, jax.Array]:
        center, unravel = ravel_pytree(policy)

        def fitness(weights: jax.Array, contexts: PyTree) -> jax.Array:
            policy = unravel(weights)
            return jnp.mean(jax.vmap(lambda x: problem.utility(policy(x), x))(contexts))

        def generation(carry: tuple, number: jax.Array) -> tuple[tuple, jax.Array]:
            center, state, snapshots = carry
            row_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
            # The same contexts for all: their differences are then the policies' alone.
            rows = jax.random.randint(row_key, (settings.batch,), 0, problem.size)
            contexts = jax.tree.map(lambda x: x[rows], problem.contexts)
            noise = jax.random.normal(noise_key, (settings.pairs, center.size))
            moved = center[None] + settings.sigma * jnp.concatenate([noise, -noise])
            values = jax.vmap(fitness, in_axes=(0, None))(moved, contexts)
            weight = centered_ranks(values)
            weight = weight[: settings.pairs] - weight[settings.pairs :]
            slope = -weight @ noise / (2 * settings.pairs * settings.sigma)
            change, state = optimizer.update(slope, state)
            center = center + change
            snapshots = take_snapshot(snapshots, unravel(center), times, number + 1)
            return (center, state, snapshots), jnp.mean(values)

        begin = center, optimizer.init(center), empty_snapshots(policy, times)
        end, values = jax.lax.scan(generation, begin, jnp.arange(settings.generations))
        return end[2], values

    return train


def centered_ranks(values: jax.Array) -> jax.Array:
    """Ranks of `values [P]`, from -1/2 for the least to 1/2 for the largest."""
    ranks = jnp.argsort(jnp.argsort(values))
    return ranks / (len(values) - 1) - 0.5
