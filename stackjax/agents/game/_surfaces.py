"""Quality and tokens of one context as functions of the response, concave and convex by design.

A network runs once per context and gives the coefficients below; the game is then played on the
coefficients, with no network inside a Newton loop. Every surface is linear in its coefficients, so
the mean of several surfaces is the surface of the mean coefficients (used for ensembles).

With the response `r = (c, p, u)` in [0, 1]^3, `z = r - 1/2` and `phi(r) = (1 - exp(-k r)) /
(1 - exp(-k))`, k = 4, element by element,

    Q(r) = level + slope . z - 1/2 z' C z + rise . (phi(r) - r)
    T(r) = base + slope . r + 1/2 r' C r

`slope` has either sign, so a channel may hurt, or save tokens; `rise >= 0` bends quality towards
early saturation. The curvature is positive definite by construction:

    C = diag(bend) + sum_ij together_ij (e_i + e_j)(e_i + e_j)' + apart_ij (e_i - e_j)(e_i - e_j)'

with non-negative coefficients and `bend` bounded away from 0. In quality, `together` describes
channels that substitute for each other and `apart` channels that need each other.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

_RISE = 4.0  # k: nine tenths of the way up at r = 0.53
_TOGETHER = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
_APART = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])


def _curvature(positive: jax.Array, floor: jax.Array | float) -> jax.Array:
    """`C: [3, 3]` of nine non-negative numbers: bend, together, apart."""
    pairs = jnp.asarray(np.concatenate([_TOGETHER, _APART]), positive.dtype)
    outer = jnp.einsum("k,ki,kj->ij", positive[3:], pairs, pairs)
    return jnp.diag(floor + positive[:3]) + outer


def _least_eigenvalue(curvature: jax.Array) -> jax.Array:
    """A lower bound by Gershgorin's circles; at least the smallest `bend`."""
    diagonal = jnp.diagonal(curvature)
    return jnp.min(2 * diagonal - jnp.sum(jnp.abs(curvature), axis=1))


class QualitySurface(struct.PyTreeNode):
    """Expected quality of one context, strongly concave in the response.

    Not confined to [0, 1]: clipping would lose concavity and the gradient. Clip what is reported.

    Attributes:
      level: `[]`, quality at the middle of the box, up to the rises.
      slope: `[3]`. curvature: `[3, 3]`, positive definite. rise: `[3]`, non-negative.

    Example:
      >>> raw = jnp.zeros(16).at[:4].set(jnp.array([0.5, 0.2, 0.1, 0.3]))  # level, slope
      >>> surface = sj.agents.game.QualitySurface.from_raw(raw)
      >>> print(surface.level, surface(jnp.zeros(3)) < surface(jnp.ones(3)))
      0.5 True
      >>> bool(surface.curvature_floor >= surface.FLOOR)
      True
    """

    level: jax.Array
    slope: jax.Array
    curvature: jax.Array
    rise: jax.Array

    SIZE: ClassVar[int] = 16
    FLOOR: ClassVar[float] = 0.1
    """Least curvature of a surface made by `from_raw`; it bends a straight line in one channel by
    at most FLOOR / 8 = 0.0125, well below what a thousand turns can resolve."""

    @classmethod
    def from_raw(cls, raw: jax.Array) -> QualitySurface:
        """Make a surface of unconstrained numbers `raw: [16]`; the signs hold by construction."""
        positive = jax.nn.softplus(raw[4:])
        curvature = _curvature(positive[3:], cls.FLOOR)
        return cls(level=raw[0], slope=raw[1:4], curvature=curvature, rise=positive[:3])

    @property
    def curvature_floor(self) -> jax.Array:
        """`m_Q` with `-Hessian Q(r) >= m_Q I` for every r in [0, 1]^3 (`[]`), at least FLOOR."""
        return _least_eigenvalue(self.curvature)

    def __call__(self, response: jax.Array) -> jax.Array:
        """Quality at `response: [3]`, `[]`."""
        z = response - 0.5
        bent = jnp.expm1(-_RISE * response) / jnp.expm1(-_RISE) - response
        bowl = jnp.sum(z * jnp.sum(self.curvature * z[None, :], axis=1))
        return self.level + jnp.sum(self.slope * z + self.rise * bent) - 0.5 * bowl


class TokenSurface(struct.PyTreeNode):
    """Expected tokens of one context, positive and strongly convex in the response.

    Attributes:
      base: `[]`, tokens at r = 0.
      slope: `[3]`. curvature: `[3, 3]`, positive definite. All in tokens.

    Example:
      >>> surface = sj.agents.game.TokenSurface(
      ...     base=jnp.array(100.0), slope=jnp.array([100.0, 50.0, 50.0]),
      ...     curvature=20.0 * jnp.eye(3),
      ... )
      >>> print(surface(jnp.ones(3)), surface.curvature_floor)
      330.0 20.0
    """

    base: jax.Array
    slope: jax.Array
    curvature: jax.Array

    SIZE: ClassVar[int] = 16
    FLOOR: ClassVar[float] = 0.05
    """Least curvature of a surface made by `from_raw`, in units of its `scale`."""

    @classmethod
    def from_raw(cls, raw: jax.Array, scale: jax.Array | float) -> TokenSurface:
        """Make a surface of unconstrained numbers `raw: [16]`; `scale` is in tokens.

        A sum of non-negative pieces (a constant, rising and falling lines, squares) with a
        positive constant, so that tokens are positive.
        """
        positive = scale * jax.nn.softplus(raw)
        rising, falling = positive[1:4], positive[4:7]
        return cls(
            base=positive[0] + jnp.sum(falling),
            slope=rising - falling,
            curvature=_curvature(positive[7:], scale * cls.FLOOR),
        )

    @property
    def curvature_floor(self) -> jax.Array:
        """`m_T` with `Hessian T(r) >= m_T I` for every r (`[]`, tokens)."""
        return _least_eigenvalue(self.curvature)

    def __call__(self, response: jax.Array) -> jax.Array:
        """Tokens at `response: [3]`, `[]`."""
        bowl = jnp.sum(response * jnp.sum(self.curvature * response[None, :], axis=1))
        return self.base + jnp.sum(self.slope * response) + 0.5 * bowl
