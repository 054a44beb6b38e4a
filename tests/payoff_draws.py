"""Random contexts and signals of the resource game."""

import jax
import jax.numpy as jnp
import numpy as np

from stackjax.agents.game import _payoffs as payoffs
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface


def make_context(raw_quality, raw_tokens, previous, budget):
    return payoffs.resource_context(
        jnp.zeros(14, raw_quality.dtype),
        QualitySurface.from_raw(raw_quality),
        TokenSurface.from_raw(raw_tokens, 300.0),
        previous=previous,
        budget=budget,
        reference=jnp.ones(3, raw_quality.dtype),
    )


def draw(count, dtype):
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(2, count, 16)) * 0.7 - np.r_[np.zeros(4), np.full(12, 2.0)]
    raw[0, :, 0] = 0.6
    raw[1] -= 1.0
    arrays = raw[0], raw[1], rng.uniform(size=(count, 2)), rng.uniform(-0.2, 1, size=count)
    return jax.vmap(make_context)(*(jnp.asarray(x, dtype) for x in arrays))


def signals(count, dtype):
    rng = np.random.default_rng(4)
    lower, upper = np.array(payoffs.ACTION_LOWER), np.array(payoffs.ACTION_UPPER)
    return jnp.asarray(lower + (upper - lower) * rng.uniform(size=(count, 2)), dtype)


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)
