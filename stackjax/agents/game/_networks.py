"""The learned parts of the resource game: the leader's policy and the follower's utility."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from stackjax.agents.game._payoffs import (
    ACTION_LOWER,
    ACTION_UPPER,
    DEFAULT,
    ResourceContext,
    follower_payoff,
    relative_tokens,
)


class _Network(nnx.Module):
    """Two layers, tanh; the last starts small, so that outputs start near 0."""

    def __init__(self, inputs: int, hidden: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.inner = nnx.Linear(inputs, hidden, rngs=rngs)
        self.outer = nnx.Linear(
            hidden, outputs, kernel_init=nnx.initializers.normal(0.1), rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(jnp.tanh(self.inner(x)))


def _bounds(dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(ACTION_LOWER, dtype), jnp.asarray(ACTION_UPPER, dtype)


class Leader(nnx.Module):
    """The leader's policy: context -> (q, alpha), inside its box by a sigmoid.

    Reads the encoded state, which holds the budget, and the previous action: the paper's augmented
    state (1).

    Args:
      inputs: F, size of the encoding.
      hidden: width of the one hidden layer.
      rngs: initialisation.

    Example:
      >>> action = sj.agents.game.Leader(rngs=nnx.Rngs(0))(known_world.context())
      >>> action.shape, bool((action[0] > 0.6) & (action[0] < 0.95))
      ((2,), True)
    """

    def __init__(self, inputs: int = 14, *, hidden: int = 32, rngs: nnx.Rngs) -> None:
        self.network = _Network(inputs + 2, hidden, 2, rngs)

    def __call__(self, context: ResourceContext) -> jax.Array:
        """The action `[2]` at one context."""
        features = jnp.concatenate([context.features, context.previous])
        lower, upper = _bounds(features.dtype)
        return lower + (upper - lower) * jax.nn.sigmoid(self.network(features))


class LearnedFollower(nnx.Module):
    """A utility for the follower that we watched: the rational one (8) plus a habit.

        U = w_Q Q(r) - w_C (1 - alpha) t(r) - w_G sp_k(q - Q(r)) - 1/2 sum_i h_i (r_i - b_i)^2

    The weights are learned and non-negative; `h_i >= STIFFNESS` makes the utility strongly concave
    in the response whatever is learned. The habit `b(q, alpha, features)` in [0, 1]^3 is a small
    network: an executor that follows rules is described by a stiff habit, a rational one by h near
    its floor.

    Args:
      inputs: F, size of the encoding.
      hidden: width of the habit's hidden layer.
      rngs: initialisation.

    Source: arXiv 2606.23026, eq. (8); the habit is ours.

    Example:
      >>> follower = sj.agents.game.LearnedFollower(rngs=nnx.Rngs(0))
      >>> [f"{weight:.2f}" for weight in follower.weights], f"{follower.stiffness[0]:.2f}"
      (['1.00', '0.30', '1.00'], '6.05')
      >>> game = sj.agents.game.resource_game(follower)  # what is played once it is fitted
    """

    STIFFNESS = 0.05

    def __init__(self, inputs: int = 14, *, hidden: int = 32, rngs: nnx.Rngs) -> None:
        self.habit_network = _Network(inputs + 2, hidden, 3, rngs)
        start = jnp.array([DEFAULT.quality, DEFAULT.cost, DEFAULT.gap], jnp.float32)
        self.log_weights = nnx.Param(jnp.log(start))
        self.log_stiffness = nnx.Param(jnp.full(3, jnp.log(6.0), jnp.float32))

    @property
    def weights(self) -> jax.Array:
        """`[3]`: learned `w_Q`, `w_C`, `w_G`, all positive."""
        return jnp.exp(self.log_weights[...])

    @property
    def stiffness(self) -> jax.Array:
        """`[3]`: `h`, at least `STIFFNESS`."""
        return self.STIFFNESS + jnp.exp(self.log_stiffness[...])

    def habit(self, action: jax.Array, context: ResourceContext) -> jax.Array:
        """`b`: the response `[3]` that the follower is used to give to this signal."""
        lower, upper = _bounds(context.features.dtype)
        signal = 2.0 * (action - lower) / (upper - lower) - 1.0
        return jax.nn.sigmoid(self.habit_network(jnp.concatenate([signal, context.features])))

    def concavity_bound(self, context: ResourceContext) -> jax.Array:
        """`mu > 0`: the utility is mu-strongly concave in the response for every action."""
        return jnp.min(self.stiffness) + self.weights[0] * context.quality.curvature_floor

    def __call__(
        self, action: jax.Array, response: jax.Array, context: ResourceContext
    ) -> jax.Array:
        """Utility `[]` of `response: [3]` to `action: [2]`."""
        quality = context.quality(response)
        learned = dict(zip(("quality", "cost", "gap"), self.weights))
        weights = dataclasses.replace(DEFAULT, **learned)
        gain = follower_payoff(action, quality, relative_tokens(response, context), weights)
        strain = self.stiffness * (response - self.habit(action, context)) ** 2
        return gain - 0.5 * jnp.sum(strain)
