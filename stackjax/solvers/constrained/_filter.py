"""The filter of an interior-point method: which trial points it accepts.

A point is judged by its infeasibility theta and its barrier function phi. It must improve one of
them against the point left and against every pair in the filter, which holds points left for the
sake of feasibility. Source: Fletcher and Leyffer, Mathematical Programming 91, 2002. Names and
numbers are those of Waechter and Biegler, Mathematical Programming 106, 2006, section 2.3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_PAIRS = 12  # (theta, phi) pairs remembered
_MARGIN = 1e-5  # gamma_theta and gamma_phi in (18)
# s_phi and s_theta in the switching condition (19), and 1 - s_phi.
_SLOPE_POWER, _THETA_POWER, _STEP_POWER = 2.3, 1.1, -1.3
_ARMIJO = 1e-4  # eta_phi in (20)
# The switching condition is asked for below this infeasibility only: theta_min.
_NEARLY_FEASIBLE = 1e-4
# A step cut below this part is taken whatever it brings, and the filter forgotten.
_STUCK = 1e-4
# Differences of phi below this many units of rounding count as none.
_NOISE = 10


class Merit(NamedTuple):
    """What a point is judged by.

    Attributes:
      theta: scalar infeasibility.
      phi: scalar barrier function.
    """

    theta: jax.Array
    phi: jax.Array


def forgotten(dtype: jnp.dtype) -> jax.Array:
    """The filter of nothing, `[pairs, 2]`."""
    return jnp.full((_PAIRS, 2), jnp.inf, dtype)


def judge(
    pairs: jax.Array,
    old: Merit,
    new: Merit,
    slope_along: jax.Array,
    shrink: jax.Array,
    *,
    first: jax.Array,
    finite: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Whether to accept a trial point, and the filter from then on.

    Args:
      pairs: `[pairs, 2]` the filter.
      old: of the point to be left.
      new: of the trial point.
      slope_along: scalar, the derivative of phi along the step.
      shrink: scalar, the part of the step that was taken.
      first: scalar bool; there is no point yet to be left.
      finite: scalar bool; the trial point is one, with derivatives that are numbers.
    """
    (theta, phi), (theta_new, phi_new) = old, new
    eps = float(jnp.finfo(phi.dtype).eps)
    noise = _NOISE * eps * (jnp.abs(phi) + 1)
    outside = jnp.all(
        (theta_new <= (1 - _MARGIN) * pairs[:, 0])
        | (phi_new <= pairs[:, 1] - _MARGIN * pairs[:, 0] + noise)
    )
    # (19), whose slope is that of the whole step; this one is of the part taken.
    falling = (slope_along < 0) & (
        (-slope_along) ** _SLOPE_POWER
        > theta**_THETA_POWER * jnp.maximum(shrink, eps) ** _STEP_POWER
    )
    armijo = phi_new <= phi + _ARMIJO * slope_along + noise
    better = (theta_new <= (1 - _MARGIN) * theta) | (phi_new <= phi - _MARGIN * theta + noise)
    descent = falling & (theta <= _NEARLY_FEASIBLE * jnp.maximum(1, theta))
    stuck = shrink < _STUCK
    accept = finite & (first | stuck | (outside & jnp.where(descent, armijo, better)))

    # Steps that make phi fall need no memory, (22).
    entry = jnp.stack([(1 - _MARGIN) * theta, phi - _MARGIN * theta])
    remember = accept & ~first & ~(descent & armijo)
    pairs = jnp.where(remember, jnp.concatenate([entry[None], pairs[:-1]]), pairs)
    return accept, jnp.where(accept & stuck, jnp.inf, pairs)
