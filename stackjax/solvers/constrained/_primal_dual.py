"""The step of an interior-point method: the condensed primal-dual system, and how far to go.

References are to Waechter and Biegler, Mathematical Programming 106, 2006.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stackjax.solvers.constrained._barrier import Barrier
from stackjax.solvers.constrained._program import Iterate, Local

# The Hessian must be convex where the constraints' linear terms vanish: with their squares added
# at this weight, relative to its size, it then is as a whole.
_PENALTY = 10
# A least curvature below the first number times the root of the rounding unit is lifted to the
# second, both relative to the Hessian's size; the shift plays the part of delta_w in section 3.1.
_CONVEX, _LIFTED = 1e-2, 1e-4
# At least this part of a distance may be used up in one step, and all as mu goes to 0: (8).
_TO_BOUNDARY = 0.99
# No coordinate moves further than this times its own size in one step.
_FURTHEST = 100
# Multipliers stay within this factor of mu / gap: kappa_Sigma in (16).
_FROM_CENTRE = 1e8


class _Weights(NamedTuple):
    """What eliminating slacks and bounds adds to the Hessian's diagonals: Sigma."""

    bounds: jax.Array  # [n]
    rows: jax.Array  # [m]


def primal_dual_step(
    barrier: Barrier, point: Iterate, local: Local, mu: jax.Array, proximal: jax.Array
) -> Iterate:
    """Newton's step on the primal-dual equations; 0 in (z, y) where it is not a number.

    Args:
      barrier: the bounds.
      point: where to start.
      local: the program there.
      mu: the barrier's weight.
      proximal: scalar, added to the Hessian's diagonal to shorten the step.
    """
    n, p, dtype = len(point.z), len(point.equality), point.z.dtype
    eps = float(jnp.finfo(dtype).eps)
    below, above = barrier.gaps(point)
    weight = point.inequality / point.slack
    sigma = point.lower / below + point.upper / above
    free = barrier.free
    hessian, jac_c, jac_g = _condensed(local, _Weights(sigma, weight), free)
    lift = _lift(hessian, jac_c, local, eps)
    hessian = hessian + jnp.diag((lift + proximal) * free)

    dual = barrier.slope(point, local, mu)
    rest = local.g + point.slack
    pushed = mu / point.slack + weight * rest
    right = -(dual + pushed @ local.jac_g) * free
    # The small block keeps dependent equalities solvable (delta_c in section 3.1).
    system = jnp.block([[hessian, jac_c.T], [jac_c, -(eps**0.75) * jnp.eye(p, dtype=dtype)]])
    both = jnp.linalg.solve(system, jnp.concatenate([right, -local.c])[:, None])[:, 0]
    both = jnp.where(jnp.all(jnp.isfinite(both)), both, 0)
    dz = both[:n]
    ds = -rest - jac_g @ dz
    return Iterate(
        dz,
        ds,
        mu / point.slack - point.inequality - weight * ds,
        both[n:] - point.equality,
        jnp.where(barrier.has_lower, mu / below - point.lower - point.lower / below * dz, 0),
        jnp.where(barrier.has_upper, mu / above - point.upper + point.upper / above * dz, 0),
    )


def _condensed(
    local: Local, weights: _Weights, free: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The Hessian without slacks and bounds, `[n, n]`, and both Jacobians on the free variables."""
    hessian = local.hessian + jnp.diag(weights.bounds)
    hessian = hessian + (local.jac_g.T * weights.rows[None]) @ local.jac_g
    hessian = hessian * free[:, None] * free[None, :] + jnp.diag(1 - free)
    return hessian, local.jac_c * free[None], local.jac_g * free[None]


def _lift(hessian: jax.Array, jac_c: jax.Array, local: Local, eps: float) -> jax.Array:
    """The shift that makes the Hessian positive definite where `jac_c` vanishes, a scalar."""
    size = jnp.max(jnp.abs(local.hessian)) + 1
    weighted = hessian + (_PENALTY * size) * (jac_c.T @ jac_c)
    eye = jnp.eye(len(hessian), dtype=hessian.dtype)
    weighted = jnp.where(jnp.all(jnp.isfinite(weighted)), weighted, eye)
    least = jnp.linalg.eigvalsh(weighted)[0]
    return jnp.maximum(0, _LIFTED * size - least) * (least < eps**0.5 * _CONVEX * size)


def move(
    barrier: Barrier, point: Iterate, step: Iterate, mu: jax.Array, shrink: jax.Array
) -> tuple[Iterate, jax.Array]:
    """Goes along the step, short of the boundary.

    Args:
      barrier: the bounds.
      point: where to start.
      step: the whole step.
      mu: the barrier's weight.
      shrink: scalar, the part to take of the longest primal step.

    Returns:
      The next point, its multipliers close to the central path, and the primal step's length.
    """
    primal, dual = _to_boundary(barrier, point, step, mu)
    primal = shrink * primal
    new = Iterate(
        point.z + primal * step.z,
        point.slack + primal * step.slack,
        point.inequality + dual * step.inequality,
        point.equality + primal * step.equality,
        point.lower + dual * step.lower,
        point.upper + dual * step.upper,
    )
    return _near_centre(barrier, new, mu), primal


def _to_boundary(
    barrier: Barrier, point: Iterate, step: Iterate, mu: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The longest steps, primal and dual, by the rule of the fraction to the boundary, (15)."""
    has_lower, has_upper = barrier.has_lower, barrier.has_upper
    tau = jnp.maximum(_TO_BOUNDARY, 1 - mu)
    below, above = barrier.gaps(point)
    primal = _longest(point.slack, step.slack, tau)
    primal = jnp.minimum(primal, _longest(below, jnp.where(has_lower, step.z, 0), tau))
    primal = jnp.minimum(primal, _longest(above, jnp.where(has_upper, -step.z, 0), tau))
    far = jnp.max(jnp.abs(step.z) / (1 + jnp.abs(point.z))) / _FURTHEST
    primal = jnp.minimum(primal, 1 / jnp.maximum(far, 1))
    dual = _longest(point.inequality, step.inequality, tau)
    dual = jnp.minimum(dual, _longest(jnp.where(has_lower, point.lower, 1), step.lower, tau))
    dual = jnp.minimum(dual, _longest(jnp.where(has_upper, point.upper, 1), step.upper, tau))
    return primal, dual


def _longest(value: jax.Array, change: jax.Array, tau: jax.Array) -> jax.Array:
    """The longest step that keeps `value + step * change` above `(1 - tau) value`."""
    falling = change < 0
    ratio = jnp.where(falling, tau * value / jnp.where(falling, -change, 1), 1)
    return jnp.min(ratio, initial=1.0)


def _near_centre(barrier: Barrier, point: Iterate, mu: jax.Array) -> Iterate:
    """Resets multipliers that have left the central path far behind, (16)."""
    below, above = barrier.gaps(point)
    keep = lambda dual, gap: jnp.clip(dual, mu / (_FROM_CENTRE * gap), _FROM_CENTRE * mu / gap)
    return point.replace(
        inequality=keep(point.inequality, point.slack),
        lower=jnp.where(barrier.has_lower, keep(point.lower, below), 0),
        upper=jnp.where(barrier.has_upper, keep(point.upper, above), 0),
    )
