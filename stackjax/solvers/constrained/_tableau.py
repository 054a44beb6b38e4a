"""Principal pivots: a symmetric matrix, swept on some of its coordinates.

Source: Keller, Mathematical Programming Study 1, 1973.
"""

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._optimality import exactly


class Tableau(struct.PyTreeNode):
    """A symmetric matrix K, swept on a set S of coordinates.

    With U the others, the blocks are `-inv(K_SS)`, `K_US inv(K_SS)` and
    `K_UU - K_US inv(K_SS) K_SU`.

    Attributes:
      matrix: `[n, n]`.
      diagonal: `[n]` its own.
      swept: `[n]` bool, S.
    """

    matrix: jax.Array
    diagonal: jax.Array
    swept: jax.Array

    @property
    def inverse(self) -> jax.Array:
        """`[n, n]`: `inv(K_SS)`, and 0 elsewhere."""
        return jnp.where(self.swept[:, None] & self.swept[None, :], -self.matrix, 0)

    def column(self, here: jax.Array) -> jax.Array:
        """`[n]`, the one where `here`, `[n]` bool, is True."""
        return exactly(self.matrix, here.astype(self.matrix.dtype))

    def exchange(self, here: jax.Array, column: jax.Array) -> "Tableau":
        """Sweeps the one coordinate where `here` is True, or takes it out if it was swept."""
        pivot = pick(here, self.diagonal)
        inverse = 1 / jnp.where(pivot == 0, 1, pivot)
        edge = pick(here, jnp.where(self.swept, -1, 1).astype(column.dtype)) * inverse * column
        matrix = self.matrix - (column[:, None] * column[None, :]) * inverse
        matrix = jnp.where(here[None, :], edge[:, None], matrix)
        matrix = jnp.where(here[:, None], jnp.where(here, -inverse, edge)[None, :], matrix)
        diagonal = jnp.where(here, -inverse, self.diagonal - column * column * inverse)
        return Tableau(matrix, diagonal, self.swept ^ here)


def sweep_saddle(
    tableau: Tableau, wanted: jax.Array, least: jax.Array, *, n: int, p: int
) -> tuple[Tableau, jax.Array]:
    """Sweeps the KKT matrix of a convex quadratic program on more coordinates.

    Args:
      tableau: of `[n + p + m, ...]` the matrix.
      wanted: `[n + p + m]` bool, coordinates to be swept too.
      least: `[n + p + m]` a pivot no larger is not distinguishable from zero.
      n: number of variables, whose pivots are positive.
      p: number of equalities; theirs and the inequalities' are negative.

    Returns:
      The tableau, and whether all pivots of variables and equalities were sound, a scalar bool.
      Without that no inequality is swept, and none that depends on others is.
    """
    row = jnp.arange(len(wanted)) >= n + p
    matrix, definite = _eliminated(tableau.matrix, wanted, least, n, p)
    tableau = Tableau(matrix, diagonal_of(matrix), tableau.swept | (wanted & ~row))
    return _exchanged(tableau, wanted & row & definite, least), definite


def _eliminated(
    matrix: jax.Array, wanted: jax.Array, least: jax.Array, n: int, p: int
) -> tuple[jax.Array, jax.Array]:
    """Variables and equalities, in an order that a batch shares."""
    index = jnp.arange(len(wanted))

    def eliminate(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple:
        matrix, definite = carry
        here = index == k
        column = exactly(matrix, here.astype(matrix.dtype))
        pivot = jnp.where(k < n, column[k], -column[k])
        go, sound = wanted[k], pivot > least[k]
        inverse = jnp.where(go & sound, 1 / jnp.where(sound, column[k], 1), 0)
        edge = jnp.where(here, -inverse, inverse * column)
        updated = matrix - inverse * (column[:, None] * column[None, :])
        touched = (here[:, None] | here[None, :]) & go
        edges = jnp.where(here[:, None], edge[None, :], edge[:, None])
        return jnp.where(touched, edges, updated), definite & (sound | ~go)

    return jax.lax.fori_loop(0, n + p, eliminate, (matrix, jnp.ones((), bool)))


def _exchanged(tableau: Tableau, pending: jax.Array, least: jax.Array) -> Tableau:
    """Inequalities, each member of a batch its own."""
    size = len(pending)
    index = jnp.arange(size)

    def gain(carry: tuple[Tableau, jax.Array, jax.Array]) -> tuple:
        tableau, pending, _ = carry
        here = index == jnp.min(jnp.where(pending, index, size))
        swept = tableau.exchange(here, tableau.column(here))
        go = pick(here, -tableau.diagonal - least) > 0  # or it depends on the others
        tableau = jax.tree.map(lambda a, b: jnp.where(go, a, b), swept, tableau)
        pending &= ~here
        return tableau, pending, jnp.any(pending)

    tableau, _, _ = jax.lax.while_loop(lambda c: c[2], gain, (tableau, pending, jnp.any(pending)))
    return tableau


def pick(here: jax.Array, x: jax.Array) -> jax.Array:
    """The number in `x`, `[n]`, where `here` is True."""
    return jnp.sum(jnp.where(here, x, 0))


def diagonal_of(matrix: jax.Array) -> jax.Array:
    """`[n]`, of an `[n, n]` matrix."""
    return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool), matrix, 0), axis=0)
