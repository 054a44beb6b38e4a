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
    """`M = L diag(pivots) L^T`, with `L` unit lower triangular.

    Pivots are judged beside the matrix's own diagonal: neither the units of a coordinate nor the
    scale of the whole decide what counts as zero.

    Attributes:
      lower: `[d, d]` L.
      pivots: `[d]` positive wherever the matrix curves upwards.
      sizes: `[d]` positive, that of each diagonal entry of M.
      saddle: scalar, 1 if a pivot vanished in a row that did not: M curves both ways. Else 0.
    """

    lower: jax.Array
    pivots: jax.Array
    sizes: jax.Array
    saddle: jax.Array

    @property
    def floor(self) -> jax.Array:
        """`[d]` a pivot at or below it is not distinguishable from zero."""
        return self.sizes * _floor(self.pivots)

    @property
    def semidefinite(self) -> jax.Array:
        """Whether no direction curves downwards beyond rounding; a scalar bool."""
        return jnp.all(self.pivots >= -self.floor) & (self.saddle == 0)

    @property
    def relative(self) -> jax.Array:
        """`[d]` the pivots without a unit; -1 at a saddle."""
        return jnp.where(self.saddle > 0, -1, self.pivots / self.sizes)

    def descend(self, b: jax.Array) -> jax.Array:
        """Solves with every pivot made positive, so that `-descend(gradient)` descends."""
        return _substitute(self.lower, jnp.abs(_inverse(self.pivots, self.floor)), b)

    def solve(self, b: jax.Array) -> jax.Array:
        """Solves `[d] -> [d]`; directions without curvature are left out instead of exploding."""
        inverse = _inverse(self.pivots, self.floor)
        return _substitute(self.lower, jnp.where(self.pivots > self.floor, inverse, 0), b)


def _floor(array: jax.Array) -> float:
    return 4 * len(array) * float(jnp.finfo(array.dtype).eps)


def _inverse(pivot: jax.Array, floor: jax.Array) -> jax.Array:
    return 1 / jnp.where(jnp.abs(pivot) > floor, pivot, floor)


def factorise(matrix: jax.Array) -> Factor:
    """Factorises a symmetric `[d, d]` matrix; never returns NaN for a finite one."""
    # far above the smallest number, so that pivots can be inverted
    smallest = float(jnp.finfo(matrix.dtype).tiny) ** 0.6
    sizes = jnp.maximum(jnp.abs(diagonal(matrix)), smallest)
    method = _unrolled if len(sizes) <= UNROLLED else _cholesky
    lower, pivots, saddle = method(matrix, sizes)
    return Factor(lower, pivots, sizes, saddle.astype(matrix.dtype))


def diagonal(matrix: jax.Array) -> jax.Array:
    """`[d]` that of a `[d, d]` matrix; of a small one without a gather."""
    if len(matrix) > UNROLLED:
        return jnp.diagonal(matrix)
    return jnp.stack([matrix[i, i] for i in range(len(matrix))])


def restrict(matrix: jax.Array, free: jax.Array) -> jax.Array:
    """The matrix on the free coordinates, `[d]` bool, and the identity on the others."""
    pair = free[:, None] & free[None, :]
    return jnp.where(pair, matrix, jnp.eye(len(free), dtype=matrix.dtype))


def _unrolled(matrix: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    size, floor = len(sizes), sizes * _floor(sizes)
    identity = jnp.eye(size, dtype=matrix.dtype)
    lower = [[identity[i, j] for j in range(size)] for i in range(size)]
    pivots: list[jax.Array] = []
    saddles: list[jax.Array] = []
    for j in range(size):
        pivot = matrix[j, j] - sum(lower[j][k] ** 2 * pivots[k] for k in range(j))
        bent = jnp.abs(pivot) > floor[j]
        inverse = _inverse(pivot, floor[j])
        for i in range(j + 1, size):
            off = matrix[i, j] - sum(lower[i][k] * lower[j][k] * pivots[k] for k in range(j))
            # A vanished pivot leaves nothing to eliminate but rounding; or else it is a saddle.
            lower[i][j] = jnp.where(bent, off * inverse, 0)
            saddles.append(~bent & (off**2 > floor[j] * sizes[i]))
        pivots.append(pivot)
    saddle = jnp.any(jnp.stack(saddles)) if saddles else jnp.zeros((), bool)
    return jnp.stack([jnp.stack(row) for row in lower]), jnp.stack(pivots), saddle


def _cholesky(matrix: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    scale, floor = jnp.sqrt(sizes), _floor(sizes)
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    unit = matrix / scale[:, None] / scale[None, :]
    root = jnp.linalg.cholesky(unit + floor / 2 * identity)
    diagonal = jnp.diagonal(root)
    good = jnp.all(jnp.isfinite(root)) & jnp.all(diagonal > 0)
    lower = jnp.where(good, root / jnp.where(good, diagonal, 1)[None], identity)
    lower = lower * scale[:, None] / scale[None, :]
    # Not positive definite: Gershgorin's bound on every diagonal entry still gives descent.
    gershgorin = jnp.max(jnp.sum(jnp.abs(unit), axis=1))
    return lower, jnp.where(good, diagonal**2, -(gershgorin + floor)) * sizes, jnp.zeros((), bool)


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
