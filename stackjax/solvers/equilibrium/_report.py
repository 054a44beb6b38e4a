"""What is known of an equilibrium from its linearised conditions."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from stackjax._arrays.factor import factorise
from stackjax.solvers._optimality import exactly
from stackjax.solvers._solver import Quality
from stackjax.solvers.equilibrium._joint import Joint
from stackjax.solvers.equilibrium._search import Found

# Rounds of balancing, each of which brings rows and columns closer to the same size.
_ROUNDS = 24
# A constraint that holds is made this much stiffer than all other curvature.
_STIFF = 1e3


class JointQuality(struct.PyTreeNode):
    """How good an equilibrium is. Floating point, flags too, for `detached`.

    Attributes:
      residual: `[N]`, each follower's last Newton step, relative to the size of its response.
      steps: scalar.
      converged: scalar, 1 or 0.
      degeneracy: `[N]`, each follower's smallest `max(slack, multiplier)`; `inf` without
        constraints.
      curvature: `[N]`, the least of each follower's own utility (the Lagrangian's) along its own
        free directions, without a unit: at most 1, negative where its response is no maximum.
      monotonicity: scalar, see `monotonicity`.
    """

    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    degeneracy: jax.Array
    curvature: jax.Array
    monotonicity: jax.Array

    @property
    def worst(self) -> Quality:
        """The report as of one follower: the one for whom each number is worst."""
        return Quality(
            residual=jnp.max(self.residual),
            steps=self.steps,
            converged=self.converged,
            degeneracy=jnp.min(self.degeneracy),
            curvature=jnp.min(self.curvature),
        )


def quality_of(problem: Joint, w: jax.Array, found: Found, degeneracy: jax.Array) -> JointQuality:
    """The report on the point `w + found.step`, of a problem in its own units.

    Args:
      problem: the followers'.
      w: `[d + p + m]` where the search ended.
      found: by the search.
      degeneracy: `[N]`.
    """
    d, count = len(problem.lower), len(problem.sizes)
    step, y = found.step[:d], w[:d]
    reached = jnp.minimum(jnp.abs(y) + jnp.abs(step), problem.upper - problem.lower)
    relative = jnp.abs(step) / jnp.maximum(reached, jnp.finfo(w.dtype).tiny)
    residual = jax.ops.segment_max(relative, problem.owner, count)
    residual = jnp.where(found.at.finite > 0, residual, jnp.inf)
    active = jax.tree.map(lambda x: x > 0, found.active)
    held = active.lower | active.upper
    hessian = found.at.hessian
    normals = None
    if len(w) > d:
        binding = jnp.concatenate([jnp.ones(len(w) - d - len(active.rows), bool), active.rows])
        normals = jnp.where(binding[:, None], hessian[d:, :d], 0)
    curvature, semidefinite = own_curvature(hessian[:d, :d], held, normals, problem.sizes)
    converged = (found.solved > 0) & jnp.all(semidefinite)
    return JointQuality(
        residual=residual,
        steps=found.steps,
        converged=converged.astype(w.dtype),
        degeneracy=degeneracy,
        curvature=curvature,
        monotonicity=monotonicity(hessian[:d, :d], held, normals),
    )


def own_curvature(
    bent: jax.Array, held: jax.Array, normals: jax.Array | None, sizes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """`[N]` the least curvature of each follower's own problem, and whether it is one of a maximum.

    That of the Lagrangian in its own entries, along the constraints that hold. Arguments as in
    `monotonicity`; `sizes`, how many entries each follower has.
    """
    widest, d = max(sizes), len(held)
    # Each follower's block, filled up with the identity.
    starts = np.cumsum([0, *sizes[:-1]])
    index = np.minimum(starts[:, None] + np.arange(widest), d - 1)
    there = np.arange(widest) < np.asarray(sizes)[:, None]
    open_ = ~held[index] & there
    pair = open_[:, :, None] & open_[:, None, :]
    block = bent[index[:, :, None], index[:, None, :]]
    block = jnp.where(pair, (block + block.transpose(0, 2, 1)) / 2, 0)
    largest = jnp.max(jnp.abs(block), axis=(1, 2))
    if normals is not None:
        own = jnp.where(open_[None], normals[:, index], 0)
        across = jnp.einsum("kni,knj->nij", own, own)
        size = jnp.max(jnp.abs(across), axis=(1, 2))
        stiff = _STIFF * largest / jnp.where(size > 0, size, 1)
        block = block + stiff[:, None, None] * across
    filling = (
        jnp.where(largest > 0, largest, 1)[:, None, None] * jnp.eye(widest, dtype=bent.dtype)[None]
    )
    factor = jax.vmap(factorise)(jnp.where(pair, block, filling))
    least = jax.vmap(lambda f: jnp.min(f.relative))(factor)
    return least, jax.vmap(lambda f: f.semidefinite)(factor)


def monotonicity(bent: jax.Array, held: jax.Array, normals: jax.Array | None) -> jax.Array:
    """How monotone the followers' joint conditions are at a point, a scalar without a unit.

    The least eigenvalue of the symmetric part of F's Jacobian, its rows divided by its diagonal and
    then balanced (Osborne, Journal of the ACM 7, 1960), so that neither a multiple of a utility
    nor another unit of a variable changes it; along the constraints that hold. Where it is positive
    for all responses there is one equilibrium: balancing finds weights for Rosen's diagonally
    strict concavity (Econometrica 33, 1965). At most 1; 0 or less proves nothing.

    Args:
      bent: `[d, d]` the Jacobian.
      held: `[d]` bool, entries held by a bound.
      normals: `[k, d]` gradients of the constraints that hold, or zeros; None without constraints.
    """
    identity = jnp.eye(len(held), dtype=bent.dtype)
    pair = ~held[:, None] & ~held[None]
    diagonal = jnp.abs(jnp.diagonal(bent))
    size = jnp.where(diagonal > 0, diagonal, 1)
    bent = jnp.where(pair, bent / size[:, None], identity)
    scale = jnp.ones_like(diagonal)
    off = jnp.abs(bent) * (1 - identity)

    def balance(_: int, scale: jax.Array) -> jax.Array:
        now = off * scale[None] / scale[:, None]
        row, column = jnp.linalg.norm(now, axis=1), jnp.linalg.norm(now, axis=0)
        both = (row > 0) & (column > 0)
        return scale * jnp.sqrt(jnp.sqrt(jnp.where(both, row / jnp.where(both, column, 1), 1)))

    scale = lax.fori_loop(0, _ROUNDS, balance, scale)
    bent = bent * scale[None] / scale[:, None]
    symmetric = (bent + bent.T) / 2
    if normals is not None:
        rows = jnp.where(held[None], 0, normals) * scale[None]
        length = jnp.linalg.norm(rows, axis=1)
        rows = rows / jnp.where(length > 0, length, 1)[:, None]
        stiff = _STIFF * jnp.maximum(jnp.max(jnp.abs(symmetric)), 1)
        symmetric = symmetric + stiff * exactly(rows.T, rows)
    return jnp.linalg.eigvalsh(symmetric)[0]
