"""Other shapes than concave: a monotone change of coordinates, and networks without a shape.

Concave quality and convex tokens make the follower's best response unique, computable and smooth.
They may be wrong: a channel may do nothing at first and much later. Two ways to find out what the
shape costs in accuracy:

- **warped**: quality is concave and tokens are convex in `s = w(r)`, each channel bent by

      w_i(r_i) = r_i / (r_i + (1 - r_i) exp(-k_i)),        logit w_i = logit r_i + k_i,

  an increasing map of [0, 1] onto itself, the identity at `k = 0`, with the inverse at `-k`. One
  number a channel moves one inner level anywhere, so on a grid of three levels it is as general as
  any monotone map. The shift is shared by both predictors, all members and all states: only then
  is the follower's utility, which adds them, concave in one coordinate. The follower is then
  described as choosing `s`: the game is played in `s`, with everything that concavity gives there,
  and the answer is carried out as `w^-1(s)`. As `w` is increasing and onto, a best response in `s`
  is one in `r`; what strong concavity says of its size (stability, `concavity_bound`) holds for
  `s`, and for `r` up to the slope of `w^-1`, between `exp(-|k|)` and `exp(|k|)`.

- **free**: networks of features and response, with no shape at all. For comparison; a follower
  that maximises them may have several best responses, or jump.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct

from stackjax.agents.game._state import FIELDS

OUTCOME_FIELDS = ("task_complexity", "context_tokens", "model_condition")
"""The numeric fields that the predictors read, beside the task type."""


class Warp(struct.PyTreeNode):
    """A monotone change of coordinates of the response, channel by channel.

    Attributes:
      shift: `[3]`, k; 0 is the identity.

    Example:
      >>> warp = sj.agents.surrogate.Warp(jnp.array([1.0, 0.0, -1.0]))
      >>> bent = warp(jnp.full(3, 0.5))
      >>> print(np.asarray(bent).round(3), np.asarray(warp.inverse(bent)).round(3))
      [0.731 0.5   0.269] [0.5 0.5 0.5]
    """

    shift: jax.Array

    def __call__(self, response: jax.Array) -> jax.Array:
        """`s = w(r)` of `response: [3]` in [0, 1], `[3]`."""
        return _shifted(response, self.shift)

    def inverse(self, warped: jax.Array) -> jax.Array:
        """`r = w^-1(s)` of `warped: [3]` in [0, 1], `[3]`."""
        return _shifted(warped, -self.shift)


def _shifted(r: jax.Array, k: jax.Array) -> jax.Array:
    # the larger of the two weights is 1, and the other is not 0: at a bound it is the only one
    k = jnp.clip(k, -80.0, 80.0)
    up, down = jnp.exp(jnp.minimum(k, 0.0)), jnp.exp(jnp.minimum(-k, 0.0))
    return r * up / (r * up + (1.0 - r) * down)


class FreeSurface(struct.PyTreeNode):
    """Quality or tokens of one context by one network of two layers, of any shape in the response.

    Attributes:
      offset: `[H]`, what the context adds to the first layer; inward: `[H, 3]`, the response's
        weights in it. second: `[H, H]` and second_bias: `[H]`, the second layer. outer: `[H]` and
        level: `[]`, the output.

    Example:
      >>> model = sj.agents.surrogate.FreeModel(level=0.5, hidden=4, members=2, rngs=nnx.Rngs(0))
      >>> one = jax.tree.map(lambda leaf: leaf[0], model.members(jnp.zeros(14)))
      >>> type(one).__name__, one.inward.shape, one(jnp.zeros(3)).shape
      ('FreeSurface', (4, 3), ())
    """

    offset: jax.Array
    inward: jax.Array
    second: jax.Array
    second_bias: jax.Array
    outer: jax.Array
    level: jax.Array

    def __call__(self, response: jax.Array) -> jax.Array:
        """Value at `response: [3]`, `[]`."""
        first = jnp.tanh(self.offset + self.inward @ response)
        return self.outer @ jnp.tanh(self.second @ first + self.second_bias) + self.level


class FreeEnsemble(struct.PyTreeNode):
    """The mean of several free surfaces.

    Attributes:
      members: leaves `[M, ...]`.

    Example:
      >>> model = sj.agents.surrogate.FreeModel(level=0.5, hidden=4, members=2, rngs=nnx.Rngs(0))
      >>> print(model(jnp.zeros(14)).curvature_floor)
      -inf
    """

    members: FreeSurface

    @property
    def curvature_floor(self) -> jax.Array:
        """Minus infinity: nothing is known of the curvature."""
        return jnp.full((), -jnp.inf, self.members.level.dtype)

    def __call__(self, response: jax.Array) -> jax.Array:
        """Value at `response: [3]`, `[]`."""
        return jnp.mean(jax.vmap(lambda one: one(response))(self.members))


class FreeModel(nnx.Module):
    """Encoded state `[F]` -> `FreeEnsemble`; reads what the other predictors read.

    Args:
      inputs: F, 14 for the task-aware encoding, 9 for the scalar one.
      level: first output, in units of `scale`.
      scale: what counts as 1 inside the networks: 1 for quality, mean tokens for tokens.
      hidden: width of both layers.
      members: networks in the ensemble.
      rngs: initialisation.

    Example:
      >>> model = sj.agents.surrogate.FreeModel(level=0.5, hidden=4, members=2, rngs=nnx.Rngs(0))
      >>> model(jnp.zeros(14))(jnp.full(3, 0.5)).shape
      ()
    """

    def __init__(
        self,
        inputs: int = 14,
        *,
        level: float,
        scale: float = 1.0,
        hidden: int = 32,
        members: int = 8,
        rngs: nnx.Rngs,
    ) -> None:
        def normal(*shape: int, fan: int) -> nnx.Param:
            return nnx.Param(jax.random.normal(rngs.params(), (members, *shape)) / fan**0.5)

        self.scale = float(scale)
        self.reads = outcome_inputs(inputs)
        fan = len(self.reads) + 3
        self.context = normal(hidden, len(self.reads), fan=fan)
        self.inward = normal(hidden, 3, fan=fan)
        self.second = normal(hidden, hidden, fan=hidden)
        self.outer = nnx.Param(0.3 * normal(hidden, fan=hidden)[...])
        self.bias = nnx.Param(jnp.zeros((members, hidden)))
        self.second_bias = nnx.Param(jnp.zeros((members, hidden)))
        self.level_bias = nnx.Param(jnp.full(members, level))

    def members(self, features: jax.Array) -> FreeSurface:
        """One surface a member; leaves have a leading `[M]`."""
        read = features[np.asarray(self.reads)]
        return FreeSurface(
            offset=jnp.einsum("mhf,f->mh", self.context[...], read) + self.bias[...],
            inward=self.inward[...],
            second=self.second[...],
            second_bias=self.second_bias[...],
            outer=self.scale * self.outer[...],
            level=self.scale * self.level_bias[...],
        )

    def __call__(self, features: jax.Array) -> FreeEnsemble:
        """The ensemble's surface at `features: [F]`."""
        return FreeEnsemble(self.members(features))


def outcome_inputs(inputs: int) -> tuple[int, ...]:
    """Which of `inputs` features the predictors read: `OUTCOME_FIELDS` and the task type."""
    numeric = tuple(FIELDS.index(name) for name in OUTCOME_FIELDS)
    return numeric + tuple(range(len(FIELDS), inputs))
