"""Factorisation of one small symmetric matrix, guarded against lost curvature.

Up to `UNROLLED` rows the factorisation is unrolled into scalar operations: a batch of them fuses
into elementwise kernels, with no library call per member, and lowers alike on every device. Above
that it is a Cholesky factorisation.
"""

import jax
import jax.numpy as jnp
from flax import struct

UNROLLED = 4


class Factor(struct.PyTreeNode):
    """`S M S = L diag(pivots) L^T`, with `L` unit lower triangular and `S` diagonal.

    `S` gives the matrix a unit diagonal: neither the units of a coordinate nor the scale of the
    whole decide what counts as zero.

    Attributes:
      lower: `[d, d]` L.
      pivots: `[d]` positive wherever the matrix curves upwards.
      scale: `[d]` the diagonal of S.
    """

    lower: jax.Array
    pivots: jax.Array
    scale: jax.Array

    @property
    def floor(self) -> float:
        """A pivot at or below it is not distinguishable from zero."""
        return 4 * len(self.pivots) * float(jnp.finfo(self.pivots.dtype).eps)

    @property
    def semidefinite(self) -> jax.Array:
        """Whether no direction curves downwards beyond rounding; a scalar bool."""
        return jnp.all(self.pivots >= -self.floor)

    def descend(self, b: jax.Array) -> jax.Array:
        """Solves with every pivot made positive, so that `-descend(gradient)` descends."""
        return self._solve(1 / jnp.maximum(jnp.abs(self.pivots), self.floor), b)

    def solve(self, b: jax.Array) -> jax.Array:
        """Solves `[d] -> [d]`; directions without curvature are left out instead of exploding."""
        bent = self.pivots > self.floor
        return self._solve(jnp.where(bent, 1 / jnp.where(bent, self.pivots, 1), 0), b)

    def _solve(self, inverse: jax.Array, b: jax.Array) -> jax.Array:
        return self.scale * _substitute(self.lower, inverse, self.scale * b)


def factorise(matrix: jax.Array) -> Factor:
    """Factorises a symmetric `[d, d]` matrix; never returns NaN for a finite one."""
    smallest = 1e6 * float(jnp.finfo(matrix.dtype).tiny)
    scale = jax.lax.rsqrt(jnp.maximum(jnp.abs(jnp.diagonal(matrix)), smallest))
    scaled = matrix * scale[:, None] * scale[None, :]
    floor = 4 * len(scale) * float(jnp.finfo(matrix.dtype).eps)
    lower, pivots = (_unrolled if len(scale) <= UNROLLED else _cholesky)(scaled, floor)
    return Factor(lower, pivots, scale)


def restrict(matrix: jax.Array, free: jax.Array) -> jax.Array:
    """The matrix on the free coordinates, `[d]` bool, and the identity on the others."""
    pair = free[:, None] & free[None, :]
    return jnp.where(pair, matrix, jnp.eye(len(free), dtype=matrix.dtype))


def _unrolled(matrix: jax.Array, floor: float) -> tuple[jax.Array, jax.Array]:
    size = matrix.shape[0]
    identity = jnp.eye(size, dtype=matrix.dtype)
    lower = [[identity[i, j] for j in range(size)] for i in range(size)]
    pivots: list[jax.Array] = []
    for j in range(size):
        pivot = matrix[j, j] - sum(lower[j][k] ** 2 * pivots[k] for k in range(j))
        divisor = jnp.where(jnp.abs(pivot) > floor, pivot, floor)
        for i in range(j + 1, size):
            off = matrix[i, j] - sum(lower[i][k] * lower[j][k] * pivots[k] for k in range(j))
            # a vanished pivot leaves nothing to eliminate but rounding
            lower[i][j] = jnp.where(jnp.abs(pivot) > floor, off / divisor, 0)
        pivots.append(pivot)
    return jnp.stack([jnp.stack(row) for row in lower]), jnp.stack(pivots)


def _cholesky(matrix: jax.Array, floor: float) -> tuple[jax.Array, jax.Array]:
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    root = jnp.linalg.cholesky(matrix + floor / 2 * identity)
    diagonal = jnp.diagonal(root)
    good = jnp.all(jnp.isfinite(root)) & jnp.all(diagonal > 0)
    lower = jnp.where(good, root / jnp.where(good, diagonal, 1)[None], identity)
    # Not positive definite: Gershgorin's bound on every diagonal entry still gives descent.
    gershgorin = jnp.max(jnp.sum(jnp.abs(matrix), axis=1))
    return lower, jnp.where(good, diagonal**2, -(gershgorin + floor))


def _substitute(lower: jax.Array, inverse: jax.Array, b: jax.Array) -> jax.Array:
    size = len(b)
    if size > UNROLLED:
        substitute = jax.scipy.linalg.solve_triangular
        half = substitute(lower, b, lower=True, unit_diagonal=True) * inverse
        return substitute(lower.T, half, lower=False, unit_diagonal=True)
    x = [b[i] for i in range(size)]
    for i in range(size):
        x[i] = x[i] - sum(lower[i, k] * x[k] for k in range(i))
    x = [x[i] * inverse[i] for i in range(size)]
    for i in reversed(range(size)):
        x[i] = x[i] - sum(lower[k, i] * x[k] for k in range(i + 1, size))
    return jnp.stack(x)
