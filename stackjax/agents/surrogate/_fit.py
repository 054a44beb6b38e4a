"""Fitting the predictors on recorded turns.

The networks of an ensemble are fitted side by side, each on its own bootstrap sample of the
episodes, and each is taken from the step at which it was best on the episodes that it did not see.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from stackjax._arrays.arguments import check_choice
from stackjax.agents.log._turns import Turns
from stackjax.agents.surrogate._predictors import ENCODINGS, QualityModel, Surrogate, TokenModel
from stackjax.agents.surrogate._shapes import FreeModel, Warp

SHAPES = ("concave", "warped", "free")

_SHIFT_RATE = 5.0  # the warp's shift, of size 2, must not wait for steps of the weights' size


class SurrogateHistory(struct.PyTreeNode):
    """How both fits went, by step and member.

    Attributes:
      quality: `[steps, M]`, Brier score on the episodes that a member did not see.
      tokens: `[steps, M]`, the same of the squared error in units of the mean tokens.
      quality_step: `[M]`, the step that each quality network was taken from.
      token_step: `[M]`, the same for the token networks.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, 2, design="random"))
      >>> how = {"key": jax.random.key(0), "steps": 20, "members": 2, "hidden": 4}
      >>> history = sj.agents.surrogate.fit_surrogate(turns, **how)[1]
      >>> history.tokens.shape, bool((history.tokens[-1] < history.tokens[0]).all())
      ((20, 2), True)
    """

    quality: jax.Array
    tokens: jax.Array
    quality_step: jax.Array
    token_step: jax.Array


def fit_surrogate(
    turns: Turns,
    *,
    key: jax.Array,
    size: int = 14,
    members: int = 8,
    hidden: int = 32,
    steps: int = 800,
    learning_rate: float = 0.005,
    weight_decay: float = 0.3,
    shape: str = "concave",
) -> tuple[Surrogate, SurrogateHistory]:
    """Fit quality and token predictors: adamw on the full batch, one jitted scan each.

    Quality: squared error of the unclipped prediction, whose gradient does not die outside of
    [0, 1] (the Brier score, a proper score), plus the squared excess over [0, 1] at the corners.
    Tokens: squared error in units of the mean tokens, so that predicted totals are unbiased.

    Args:
      turns: N recorded turns of at least 4 episodes.
      key: randomness of initialisation and of the bootstrap samples.
      size: 14 for the task-aware encoding, 9 for the scalar one.
      members: networks in each ensemble.
      hidden: width of each network.
      steps: optimiser steps.
      learning_rate: peak of a cosine schedule.
      weight_decay: adamw's; the biases, which describe the average surface, are spared.
      shape: 'concave' quality and convex tokens; 'warped', the same in coordinates
        `s = w(r)` that are fitted first, by both predictors together (`Surrogate.warp`; surfaces
        and games then take `s`); or 'free', networks without a shape, for comparison.

    Raises:
      ValueError: `size` is neither 9 nor 14, `shape` is not one of the three, or there are fewer
        than 4 episodes.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, 2, design="random"))
      >>> how = {"key": jax.random.key(0), "steps": 20, "members": 2, "hidden": 4}
      >>> surrogate, history = sj.agents.surrogate.fit_surrogate(turns, **how)
      >>> quality, tokens = surrogate.predict(known_world.state(), jnp.ones(3))
      >>> bool(100 < tokens < 400), history.quality_step.shape
      (True, (2,))
    """
    check_choice("shape", shape, SHAPES)
    check_choice("size", size, ENCODINGS)
    labels, episode = jnp.unique(turns.episode, return_inverse=True)
    if labels.size < 4:
        raise ValueError(
            f"`turns` must have at least 4 episodes to hold some out; got {labels.size}."
        )
    quality_key, token_key, quality_bag, token_bag = jax.random.split(key, 4)
    scale = float(jnp.mean(turns.tokens))
    rngs = nnx.Rngs(quality_key), nnx.Rngs(token_key)
    sizes: dict[str, Any] = {"hidden": hidden, "members": members}
    if shape == "free":
        quality = FreeModel(size, level=0.5, rngs=rngs[0], **sizes)
        tokens = FreeModel(size, level=1.0, scale=scale, rngs=rngs[1], **sizes)
    else:
        quality = QualityModel(size, rngs=rngs[0], **sizes)
        tokens = TokenModel(size, scale=scale, rngs=rngs[1], **sizes)
    features = jax.vmap(ENCODINGS[size])(turns.state)
    executed, warp = turns.executed, None

    def fit(model: Any, loss: Any, target: jax.Array, bag_key: jax.Array) -> tuple:
        bags = _bags(bag_key, members, labels.size)[:, episode]
        data = features, executed, target, *_shares(bags)
        graph, initial = nnx.split(model)
        rates = learning_rate, weight_decay
        best, errors, step = _train(graph, loss, steps, rates, initial, data)
        return nnx.merge(graph, best), errors, step

    if shape == "warped":
        bags = _bags(jax.random.fold_in(quality_bag, 1), members, labels.size)[:, episode]
        both = jnp.concatenate([turns.correct.astype(features.dtype), turns.tokens / scale])
        rows = jnp.tile(features, (2, 1)), jnp.repeat(jnp.arange(2), len(features))
        data = rows, jnp.tile(executed, (2, 1)), both, *_shares(jnp.tile(bags, (1, 2)))
        graph, initial = nnx.split(_Warped(quality, tokens, members))
        rates = learning_rate, weight_decay
        best, _, _ = _train(graph, _warped_loss, (steps + 1) // 2, rates, initial, data)
        warp = Warp(jnp.mean(nnx.merge(graph, best).shifts, axis=0))
        executed = jax.vmap(warp)(executed)

    quality, quality_errors, quality_step = fit(
        quality, _quality_loss, turns.correct.astype(features.dtype), quality_bag
    )
    tokens, token_errors, token_step = fit(tokens, _token_loss, turns.tokens / scale, token_bag)
    history = SurrogateHistory(quality_errors, token_errors, quality_step, token_step)
    return Surrogate(quality, tokens, size, warp), history


class _Warped(nnx.Module):
    """Both predictors in coordinates of their own, one warp a member."""

    def __init__(self, quality: Any, tokens: Any, members: int) -> None:
        self.quality, self.tokens = quality, tokens
        # by this name spared from weight decay
        self.bias = nnx.Param(jnp.zeros((members, 3)))

    @property
    def shifts(self) -> jax.Array:
        """`[M, 3]`."""
        return _SHIFT_RATE * self.bias[...]


def _warped_loss(model: Any, features: tuple, response: jax.Array) -> tuple:
    """Quality, or tokens where the row says so; predictions and penalties `[M]`."""
    features, kind = features
    at = jax.vmap(lambda shift: Warp(shift)(response))(model.shifts)
    quality, tokens = model.quality.members(features), model.tokens.members(features)
    each = jax.vmap(lambda surface, s: surface(s))
    predicted = jnp.where(kind == 0, each(quality, at), each(tokens, at) / model.tokens.scale)
    return predicted, jnp.zeros_like(predicted)


def _bags(key: jax.Array, members: int, episodes: int) -> jax.Array:
    """How often each member's bootstrap sample holds each episode, `[M, E]`."""
    draws = jax.random.randint(key, (members, episodes), 0, episodes)
    return jax.vmap(lambda draw: jnp.bincount(draw, length=episodes))(draws)


def _quality_loss(model: Any, features: jax.Array, response: jax.Array) -> tuple:
    surface = model.members(features)
    corners = jnp.stack(jnp.meshgrid(*[jnp.array([0.0, 1.0])] * 3), axis=-1).reshape(-1, 3)
    at_corners = jax.vmap(lambda one: jax.vmap(one)(corners))(surface)
    excess = jnp.maximum(at_corners - 1.0, 0.0) + jnp.maximum(-at_corners, 0.0)
    return jax.vmap(lambda one: one(response))(surface), jnp.mean(excess**2, axis=-1)


def _token_loss(model: Any, features: jax.Array, response: jax.Array) -> tuple:
    predicted = jax.vmap(lambda one: one(response))(model.members(features)) / model.scale
    return predicted, jnp.zeros_like(predicted)


def _shares(bags: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights of the turns, `[M, N]` each: inside each member's sample, and outside of it.

    A member whose sample holds every episode (likely only with a handful) is judged inside.
    """
    inside = bags / jnp.sum(bags, axis=1, keepdims=True)
    unseen = jnp.sum(bags == 0, axis=1, keepdims=True)
    outside = jnp.where(unseen > 0, (bags == 0) / jnp.maximum(unseen, 1), inside)
    return inside, outside


@partial(jax.jit, static_argnames=("graph", "predict", "steps", "rates"))
def _train(
    graph: Any, predict: Any, steps: int, rates: tuple[float, float], state: Any, data: tuple
) -> tuple[Any, jax.Array, jax.Array]:
    """Train all members at once; the best state of each, the errors `[steps, M]`, the steps `[M]`.

    Args:
      graph: structure of the model.
      predict: `(model, features, response) -> (prediction [M], penalty [M])`.
      steps: optimiser steps.
      rates: learning rate and weight decay.
      state: initial parameters.
      data: features, responses, targets, weights inside, weights outside.
    """
    features, executed, target, inside, outside = data
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(rates[0], steps),
        weight_decay=rates[1],
        mask=lambda state: jax.tree.map_with_path(lambda path, _: "bias" not in str(path), state),
    )

    def loss(state: Any) -> tuple[jax.Array, jax.Array]:
        one = lambda x, r: predict(nnx.merge(graph, state), x, r)
        predicted, penalty = jax.vmap(one, out_axes=1)(features, executed)
        errors = (predicted - target[None]) ** 2
        return jnp.sum(inside * (errors + penalty)), jnp.sum(outside * errors, axis=1)

    def step(carry: tuple, index: jax.Array) -> tuple[tuple, jax.Array]:
        state, moments, best, best_errors, best_step = carry
        (_, errors), gradient = jax.value_and_grad(loss, has_aux=True)(state)
        better = errors < best_errors
        best = jax.tree.map(
            lambda old, new: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            best,
            state,
        )
        updates, moments = optimizer.update(gradient, moments, state)
        return (
            optax.apply_updates(state, updates),
            moments,
            best,
            jnp.minimum(errors, best_errors),
            jnp.where(better, index, best_step),
        ), errors

    members = inside.shape[0]
    worst, never = jnp.full(members, jnp.inf, target.dtype), jnp.zeros(members, jnp.int32)
    carry = (state, optimizer.init(state), state, worst, never)
    carry, errors = jax.lax.scan(step, carry, jnp.arange(steps, dtype=jnp.int32))
    return carry[2], errors, carry[4]
