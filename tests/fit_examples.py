"""Followers and leaders to fit, with known answers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import stackjax as sj

known = sj.games.duopoly()


DEMAND = jnp.linspace(5.0, 20.0, 512)


KEY = jax.random.key(0)


class Line(nnx.Module):
    def __init__(self):
        self.slope, self.offset = nnx.Param(jnp.array(0.1)), nnx.Param(jnp.array(1.0))

    def __call__(self, demand):
        return self.slope * demand + self.offset


class Pull(nnx.Module):
    """A follower drawn to a linear function of action and context."""

    def __init__(self):
        self.weights = nnx.Param(jnp.zeros(2))
        self.scale = nnx.data(jnp.array(2.0))  # an array, not a parameter

    def __call__(self, action, response, context):
        pull = self.weights[0] * action + self.weights[1] * context
        return -self.scale * (response - pull) ** 2


def leader(
    key: Any = KEY,
    policy: Any = None,
    game: Any = known.game,
    contexts: Any = DEMAND,
    response: Any = known.response,
    **o,
):
    options = {"steps": 300, "optimizer": ADAM} | o
    policy = Line() if policy is None else policy
    return sj.fit_leader(policy, game, contexts, response=response, key=key, **options)


ADAM = optax.adam(0.03)


def observations(n=512, noise=0.0, bound=jnp.inf):
    keys = jax.random.split(KEY, 3)
    action, context, error = (jax.random.normal(k, (n,)) for k in keys)
    response = jnp.clip(0.7 * action - 0.3 * context + noise * error, -bound, bound)
    return sj.Observations(context, action, response)
