"""Predictors of a turn's quality and tokens: networks that give surfaces.

A small network reads the encoded state and gives the coefficients of a surface
(`agents.game.QualitySurface`, `TokenSurface`); the surface predicts the turn. Each predictor is an
ensemble; because surfaces are linear in their coefficients, the ensemble's prediction is one
surface with the mean coefficients.

Of the encoding the predictors read the fields that a turn's outcome can depend on once the response
is given: task type, complexity, length of the history and condition of the model. The session's
accounts (budget, mean tokens, trend, recent quality) are for the players; in the fitting turns they
echo the cells that were drawn before, and cost accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct

from stackjax.agents.game._state import State, encode_scalar, encode_task
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface
from stackjax.agents.surrogate._shapes import Warp, outcome_inputs

ENCODINGS: dict[int, Callable[[State], jax.Array]] = {9: encode_scalar, 14: encode_task}
"""The two encodings of the paper by their size."""


class _Networks(nnx.Module):
    """`M` two-layer networks side by side: `[F] -> [M, outputs]`, reading `OUTCOME_FIELDS`."""

    def __init__(
        self, inputs: int, hidden: int, bias: jax.Array, members: int, rngs: nnx.Rngs
    ) -> None:
        def normal(*shape: int, fan: int) -> nnx.Param:
            return nnx.Param(jax.random.normal(rngs.params(), (members, *shape)) / fan**0.5)

        self.reads = outcome_inputs(inputs)
        inputs = len(self.reads)
        self.inner = normal(inputs, hidden, fan=inputs)
        self.offset = nnx.Param(jnp.zeros((members, hidden)))
        self.outer = nnx.Param(0.3 * normal(hidden, bias.size, fan=hidden)[...])
        self.direct = nnx.Param(jnp.zeros((members, inputs, bias.size)))
        self.bias = nnx.Param(jnp.tile(bias, (members, 1)))

    def __call__(self, features: jax.Array) -> jax.Array:
        features = features[np.asarray(self.reads)]
        hidden = jnp.tanh(jnp.einsum("f,mfh->mh", features, self.inner[...]) + self.offset[...])
        outputs = jnp.einsum("mh,mho->mo", hidden, self.outer[...])
        return outputs + jnp.einsum("f,mfo->mo", features, self.direct[...]) + self.bias[...]


class QualityModel(nnx.Module):
    """Encoded state `[F]` -> `QualitySurface`.

    Args:
      inputs: F, 14 for the task-aware encoding, 9 for the scalar one.
      hidden: width of each network.
      members: networks in the ensemble.
      rngs: initialisation.

    Example:
      >>> surface = sj.agents.surrogate.QualityModel(members=2, rngs=nnx.Rngs(0))(jnp.zeros(14))
      >>> surface.slope.shape, bool(surface.curvature_floor >= surface.FLOOR)
      ((3,), True)
    """

    def __init__(
        self, inputs: int = 14, *, hidden: int = 32, members: int = 8, rngs: nnx.Rngs
    ) -> None:
        level = jnp.full(1, 0.5)
        bias = jnp.concatenate([level, jnp.zeros(3), jnp.full(QualitySurface.SIZE - 4, -3.0)])
        self.networks = _Networks(inputs, hidden, bias, members, rngs)

    def members(self, features: jax.Array) -> QualitySurface:
        """One surface a member; leaves have a leading `[M]`."""
        return jax.vmap(QualitySurface.from_raw)(self.networks(features))

    def __call__(self, features: jax.Array) -> QualitySurface:
        """The ensemble's surface at `features: [F]`."""
        return jax.tree.map(lambda leaf: leaf.mean(0), self.members(features))


class TokenModel(nnx.Module):
    """Encoded state `[F]` -> `TokenSurface`, in tokens.

    Args:
      inputs: F, 14 for the task-aware encoding, 9 for the scalar one.
      scale: tokens that count as 1 inside the network; the mean of the recorded turns.
      hidden: width of each network.
      members: networks in the ensemble.
      rngs: initialisation.

    Example:
      >>> model = sj.agents.surrogate.TokenModel(members=2, scale=200.0, rngs=nnx.Rngs(0))
      >>> surface = model(jnp.zeros(14))
      >>> bool(surface(jnp.zeros(3)) > 0)
      True
    """

    def __init__(
        self,
        inputs: int = 14,
        *,
        scale: float = 300.0,
        hidden: int = 32,
        members: int = 8,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = float(scale)
        bias = jnp.concatenate([jnp.full(1, -0.5), jnp.full(TokenSurface.SIZE - 1, -2.5)])
        self.networks = _Networks(inputs, hidden, bias, members, rngs)

    def members(self, features: jax.Array) -> TokenSurface:
        """One surface a member; leaves have a leading `[M]`."""
        return jax.vmap(lambda raw: TokenSurface.from_raw(raw, self.scale))(self.networks(features))

    def __call__(self, features: jax.Array) -> TokenSurface:
        """The ensemble's surface at `features: [F]`."""
        return jax.tree.map(lambda leaf: leaf.mean(0), self.members(features))


class Surrogate(struct.PyTreeNode):
    """Both predictors.

    Attributes:
      quality: encoded state -> quality surface; a `QualityModel`, or a `FreeModel`.
      tokens: encoded state -> token surface; a `TokenModel`, or a `FreeModel`.
      size: 9 or 14, which of the encodings they read.
      warp: the coordinates `s = w(r)` in which the surfaces are concave and convex; `s = r` if
        None. Surfaces, and games on them, take `s`: map the cells that may be played by `warp`,
        play, and map the answer back by `warp.inverse`. `predict` takes `r`.

    Example:
      >>> predictors = sj.agents.surrogate.Surrogate(  # as they begin; `fit_surrogate` fits them
      ...     sj.agents.surrogate.QualityModel(rngs=nnx.Rngs(0)),
      ...     sj.agents.surrogate.TokenModel(rngs=nnx.Rngs(1)),
      ... )
      >>> quality, tokens = predictors.predict(known_world.state(), jnp.full(3, 0.5))
      >>> bool((quality >= 0) & (quality <= 1) & (tokens > 0))
      True
    """

    quality: Any
    tokens: Any
    size: int = struct.field(pytree_node=False, default=14)
    warp: Warp | None = None

    def encode(self, state: State) -> jax.Array:
        """The encoding that both networks read, `[size]`."""
        return ENCODINGS[self.size](state)

    def predict(self, state: State, response: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Probability of a right answer (clipped to [0, 1]) and tokens, two scalars."""
        features = self.encode(state)
        response = response if self.warp is None else self.warp(response)
        quality = jnp.clip(self.quality(features)(response), 0.0, 1.0)
        return quality, self.tokens(features)(response)
