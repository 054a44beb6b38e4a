"""What counts as solved: one judge for every solver, in the problem's own units.

An answer is judged from the answer. At a point `y`, of the problem `minimise f`, let `g` be the
(Lagrangian's) gradient and `n` the Newton step on the coordinates that no constraint holds.
Coordinate `i` is solved if

    |n_i| <= tol D_i    and    |n_i| <= |n_i'| / 4,          or
    |n_i|, |n_i'| <= eps^(3/4) D_i                           or
    |g_i| <= 8 eps (sum_j |H_ij y_j| + sqrt(|f H_ii|))       and its step is short.

`D_i` is the distance to the nearest bound, or from the origin if that is nearer or there is none,
and `n'` the step that led to `y`. One small step proves nothing: next to the pole of a logarithm,
in front of a saddle and around a kink steps are small too, but they do not shrink, and towards a
root of higher order they shrink by less than half (Deuflhard, Newton Methods for Nonlinear
Problems, 2004, Section 2). Where steps do not shrink because nothing but rounding is left, the
last line holds: the gradient is not distinguishable from zero beside the terms that it is made
of.

Every quantity is compared with others of its kind, so that neither a multiple of the utility nor
another unit of a variable changes a verdict.
"""

import jax
import jax.numpy as jnp

from stackjax.solvers._optimality import Active, exactly, row_sizes

# Steps of a Newton's method that converges shrink faster than this.
SHRINK = 0.25
_ULPS = 8


def resolution(y: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """`[d]` what each coordinate's error is measured in."""
    return jnp.minimum(jnp.abs(y), jnp.minimum(jnp.abs(y - lower), jnp.abs(upper - y)))


def rounding(value: jax.Array, terms: jax.Array, curved: jax.Array) -> jax.Array:
    """`[d]` a gradient that rounding alone may leave.

    Args:
      value: scalar f.
      terms: `[d]` the size of the terms that each entry of the gradient is made of.
      curved: `[d]` the diagonal of the Hessian, in absolute value.
    """
    eps = float(jnp.finfo(terms.dtype).eps)
    # sqrt(|f| / H) is how far y has to move for f to change by its own size.
    return _ULPS * eps * (terms + jnp.sqrt(jnp.abs(value)) * jnp.sqrt(curved))


def natural(noise: jax.Array, curved: jax.Array) -> jax.Array:
    """`[d]` the length that `rounding` takes for each coordinate's size."""
    eps, tiny = float(jnp.finfo(noise.dtype).eps), float(jnp.finfo(noise.dtype).tiny)
    return noise / (_ULPS * eps) / jnp.maximum(curved, tiny)


def solved(
    y: jax.Array,
    step: jax.Array,
    last: jax.Array,
    slope: jax.Array,
    noise: jax.Array,
    curved: jax.Array,
    unit: jax.Array,
    tol: float,
) -> jax.Array:
    """`[d]` bool, whether each coordinate is solved; see the module.

    Args:
      y: `[d]` the point.
      step: `[d]` the Newton step from there, not cut at bounds; 0 where a constraint holds y.
      last: `[d]` the one before; 0 if there is none.
      slope: `[d]` the gradient.
      noise: `[d]` what rounding may leave of it.
      curved: `[d]` the diagonal of the Hessian, in absolute value.
      unit: `[d]` the resolution.
      tol: the largest step that counts, relative to it.
    """
    size, eps = jnp.abs(step), float(jnp.finfo(y.dtype).eps)
    exact = (size <= tol * unit) & (size <= SHRINK * jnp.abs(last))
    # Where the problem is badly conditioned a small gradient leaves a long step.
    short = size * curved * (_ULPS * eps**0.5) <= noise
    # Two steps on end of a few units of rounding, the second no shorter: from the answer itself,
    # where the gradient is a difference of terms that are not seen here.
    still = (jnp.maximum(size, jnp.abs(last)) <= eps**0.75 * unit) & (jnp.abs(last) > 0)
    still &= jnp.abs(slope) <= 2 * size * curved + noise  # which a line that rises for ever is not
    return exact | still | ((jnp.abs(slope) <= noise) & short) | (size == 0)


def kkt_solved(
    w: jax.Array,
    step: jax.Array,
    last: jax.Array,
    value: jax.Array,
    gradient: jax.Array,
    hessian: jax.Array,
    active: Active,
    lower: jax.Array,
    upper: jax.Array,
    tol: float,
    signed: jax.Array | None = None,
) -> jax.Array:
    """Whether `w` solves the optimality conditions on an active set; a scalar bool.

    Feasibility, stationarity, complementarity and the signs of multipliers, each beside the terms
    that it is the sum of; curvature is left to the caller.

    Args:
      w: `[n + p + m]` variables and multipliers.
      step: `[n + p + m]` the Newton step from there.
      last: `[n]` the one before, of the variables; 0 if there is none.
      value: scalar, the Lagrangian.
      gradient: `[n + p + m]` of the Lagrangian.
      hessian: `[n + p + m, ...]` of it.
      active: the active set.
      lower: `[n]`.
      upper: `[n]`.
      tol: as in `solved`.
      signed: `[n]` bool, what must be pushed against its bound where it is held; all if None.
    """
    n, m, eps = len(lower), len(active.rows), float(jnp.finfo(w.dtype).eps)
    p = len(w) - n - m
    z, dz, after = w[:n], step[:n], w[n:] + step[n:]
    bent, normals = hessian[:n, :n], hessian[n:, :n]
    held, fixed = active.lower | active.upper, lower >= upper
    # (in the search's units: what is less than the square of their rounding is nothing)
    tiny = eps**2
    large = jnp.maximum(jnp.abs(z), tiny)
    tight = max(64 * eps, 0.1 * tol)

    # The gradient once multipliers are what the step makes them, and what it is the sum of.
    own = gradient[:n] - exactly(w[n:], normals)
    slope = own + exactly(after, normals) + exactly(bent, dz)
    terms = jnp.abs(own) + jnp.abs(after) @ jnp.abs(normals) + jnp.abs(bent) @ large
    curved = jnp.abs(jnp.diagonal(bent))
    noise = rounding(value - w[n:] @ gradient[n:], terms, curved)
    # Curvature is that of the old multipliers: they must have settled.
    moved, length = jnp.abs(step[n:]), jnp.max(jnp.abs(normals), axis=1, initial=0)
    settled = moved <= eps**0.5 * jnp.maximum(jnp.abs(w[n:]), jnp.abs(after))
    # (of a constant objective: all is about one)
    steep = jnp.max(jnp.abs(own) + curved * jnp.abs(z))
    nothing = 64 * eps * jnp.where(steep > 0, steep, 1)
    settled |= moved * jnp.where(length > 0, length, 1) <= nothing

    sizes = row_sizes(normals, gradient[n:], z) + tiny * jnp.sum(jnp.abs(normals), axis=1)
    binding = jnp.concatenate([jnp.ones(p, bool), active.rows])
    met = jnp.abs(gradient[n:]) <= 8 * eps * sizes
    exact = jnp.all(met | ~binding)
    ends = gradient[n:] + exactly(normals, dz)
    violated = jnp.where(binding, jnp.maximum(jnp.abs(gradient[n:]), jnp.abs(ends)), ends)
    feasible = jnp.all(violated <= tight * sizes)

    # Next to constraints that hold, a variable is as exact as the constraints are.
    spacing = 8 * eps * jnp.abs(z)
    unit = jnp.maximum(resolution(z, lower, upper), tiny)
    left = jnp.where(exact, jnp.abs(exactly(bent, dz)), jnp.inf)
    free = solved(z, dz, last, left, noise, curved, unit, tol)
    free |= exact & (jnp.abs(dz) <= spacing)
    bound = jnp.where(active.lower, lower, upper)
    kept = jnp.abs(z - bound) <= 8 * eps * jnp.abs(bound)
    there = jnp.all(fixed | jnp.where(held, kept, free))

    worst = (tight + tol) * terms + nothing
    pushed = jnp.where(active.lower, -slope, jnp.where(active.upper, slope, jnp.abs(slope)))
    loose = fixed if signed is None else fixed | (held & ~signed)
    stationary = jnp.all(loose | (pushed <= worst + noise))
    share = jnp.max(jnp.abs(normals) / jnp.where(terms > 0, terms, 1)[None], axis=1, initial=0)
    signs = after[p:] * share[p:] >= -(tight + tol)
    signs = jnp.all(signs | (after[p:] * length[p:] >= -nothing))
    off = jnp.all(active.rows | (after[p:] == 0))
    return there & feasible & stationary & signs & off & jnp.all(settled)
