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
    """`L diag(pivots) L^T`, with `L` unit lower triangular.

    Attributes:
      lower: `[d, d]` L.
      pivots: `[d]` positive wherever the matrix curves upwards.
      floor: scalar; a pivot at or below it is not distinguishable from zero.
    """

    lower: jax.Array
    pivots: jax.Array
    floor: jax.Array

    @property
    def semidefinite(self) -> jax.Array:
        """Whether no direction curves downwards beyond rounding; a scalar bool."""
        return jnp.all(self.pivots >= -self.floor)

    def descend(self, b: jax.Array) -> jax.Array:
        """Solves with every pivot made positive, so that `-descend(gradient)` descends."""
        return _solve(self.lower, 1 / jnp.maximum(jnp.abs(self.pivots), self.floor), b)

    def solve(self, b: jax.Array) -> jax.Array:
        """Solves `[d] -> [d]`; directions without curvature are left out instead of exploding."""
        bent = self.pivots > self.floor
        inverse = jnp.where(bent, 1 / jnp.where(bent, self.pivots, 1), 0)
        return _solve(self.lower, inverse, b)


def factorise(matrix: jax.Array) -> Factor:
    """Factorises a symmetric `[d, d]` matrix; never returns NaN for a finite one."""
    size = matrix.shape[0]
    info = jnp.finfo(matrix.dtype)
    scale = jnp.max(jnp.abs(jnp.diagonal(matrix)))
    floor = 4 * size * info.eps * scale + 1e6 * info.tiny
    return (_unrolled if size <= UNROLLED else _cholesky)(matrix, floor)


def _unrolled(matrix: jax.Array, floor: jax.Array) -> Factor:
    size = matrix.shape[0]
    lower = [[jnp.ones_like(floor) if i == j else jnp.zeros_like(floor) for j in range(size)]
             for i in range(size)]  # fmt: skip
    pivots: list[jax.Array] = []
    for j in range(size):
        pivot = matrix[j, j] - sum(lower[j][k] ** 2 * pivots[k] for k in range(j))
        divisor = jnp.where(jnp.abs(pivot) > floor, pivot, floor)
        for i in range(j + 1, size):
            off = matrix[i, j] - sum(lower[i][k] * lower[j][k] * pivots[k] for k in range(j))
            # a vanished pivot leaves nothing to eliminate but rounding
            lower[i][j] = jnp.where(jnp.abs(pivot) > floor, off / divisor, 0)
        pivots.append(pivot)
    return Factor(jnp.stack([jnp.stack(row) for row in lower]), jnp.stack(pivots), floor)


def _cholesky(matrix: jax.Array, floor: jax.Array) -> Factor:
    root = jnp.linalg.cholesky(matrix + floor / 2 * jnp.eye(len(matrix), dtype=matrix.dtype))
    diagonal = jnp.diagonal(root)
    good = jnp.all(jnp.isfinite(root)) & jnp.all(diagonal > 0)
    # Not positive definite: Gershgorin's bound on every diagonal entry still gives descent.
    gershgorin = jnp.max(jnp.sum(jnp.abs(matrix), axis=1))
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    lower = jnp.where(good, root / jnp.where(good, diagonal, 1)[None], identity)
    return Factor(lower, jnp.where(good, diagonal**2, -(gershgorin + floor)), floor)


def _solve(lower: jax.Array, inverse: jax.Array, b: jax.Array) -> jax.Array:
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
