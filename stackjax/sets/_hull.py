"""The point of a convex hull nearest to another, by Wolfe's method.

    minimise |x|^2 / 2,   x = sum_j w_j p_j - a,   w >= 0,   sum_j w_j = 1.

The method keeps a corral: at most d + 1 affinely independent points whose nearest point `x` lies
strictly inside of their own hull. `x` is optimal iff no point of the set lies before the plane
through it, `x . p_j >= x . (x + a)` for all j. Otherwise the point furthest before the plane joins
the corral, and points whose weight in the nearest point of the new corral's affine hull is not
positive leave it. `|x|` falls at every step and corrals are finitely many, so the method ends, with
the exact projection. One step costs one product of the points with a vector and a few QR
factorisations of `d + 1` columns; no weight outside of the corral is ever stored.

On the last corral the weights are the solution of a least-squares problem, which is written as one
QR factorisation, so that derivatives of every order are those of the projection on that face.

Source: Wolfe, Mathematical Programming 11, 1976.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.scipy.linalg import solve_triangular

from stackjax.sets._nearest import length, nearest, smallest

_Weighed = tuple[jax.Array, jax.Array, jax.Array]  # points in use, their weights, the end


class HullPoint(struct.PyTreeNode):
    """The projection onto a hull of points in d dimensions.

    Attributes:
      rows: `[d + 1]` integers, the corral's points; entries of weight 0 have no meaning.
      weights: `[d + 1]`, theirs; they sum to 1.
      distance: `[]`, from the query; 0 where it is lost in rounding.
      converged: `[]` bool.
    """

    rows: jax.Array
    weights: jax.Array
    distance: jax.Array
    converged: jax.Array


class _State(struct.PyTreeNode):
    rows: jax.Array  # [m] which points are in the corral
    used: jax.Array  # [m] bool
    weights: jax.Array  # [m]
    entering: jax.Array  # the point furthest before the plane
    gap: jax.Array  # how far; >= the squared distance to the projection
    size: jax.Array  # |x|


class _Search(struct.PyTreeNode):
    now: _State
    best: _State  # by its gap
    idle: jax.Array  # steps without visible progress
    done: jax.Array
    steps: jax.Array


def nearest_in_hull(query: jax.Array, points: jax.Array) -> HullPoint:
    """Projects `query: [d]` onto the convex hull of `points: [K, d]`; both finite."""
    slots = points.shape[1] + 1
    eps = float(jnp.finfo(points.dtype).eps)
    strict, loose = 16 * slots * eps, eps ** (2 / 3)
    # The problem is the same in any units and from any origin: one in which the hull is O(1).
    origin = lax.stop_gradient(points[0])
    far = jnp.max(jnp.sum((lax.stop_gradient(points) - origin[None]) ** 2, axis=1))
    unit = jnp.where(far > 0, jnp.sqrt(jnp.where(far > 0, far, 1)), 1)
    target, rows = (query - origin) / unit, (points - origin[None]) / unit
    goal, known = lax.stop_gradient((target, rows))
    index = jnp.arange(slots)

    def judged(chosen: jax.Array, used: jax.Array, weights: jax.Array) -> _State:
        """Looks for a point before the plane."""
        place = _combine(weights, known[chosen])
        x = place - goal
        entering, _ = smallest(lambda chunk: jnp.matmul(chunk, x, precision="highest"), known)
        gap = jnp.sum(x * (place - known[entering]))
        return _State(chosen, used, weights, entering, gap, length(x))

    def ends(state: _State, tol: float) -> jax.Array:
        # Inside of the hull x is nothing but rounding, and so is its direction.
        return (state.gap <= tol * state.size) | (state.size <= tol)

    def body(search: _Search) -> _Search:
        """Takes a point into the corral."""
        old = search.now
        here = index == jnp.argmin(old.used)
        chosen = jnp.where(here, old.entering, old.rows)
        new = judged(chosen, *_shrink(known[chosen], old.used | here, old.weights, goal))
        better = new.gap < search.best.gap  # False for NaN
        # Near the end |x|^2 falls by the square of the gap, which rounding hides.
        progress = better | (new.size < (1 - 2 * eps) * old.size)
        idle = jnp.where(progress, 0, search.idle + 1)
        full = jnp.all(new.used)
        return _Search(
            now=new,
            best=jax.tree.map(lambda x, y: jnp.where(better, x, y), new, search.best),
            idle=idle,
            done=ends(new, strict) | full | (idle > slots),
            steps=search.steps + 1,
        )

    first = index == 0
    start = judged(jnp.full(slots, nearest(goal, known)[0]), first, first.astype(known.dtype))
    none = jnp.zeros((), jnp.int32)
    search = _Search(start, start, none, ends(start, strict), none)
    cap = 50 + 10 * slots
    # The flag is computed in the body and only read here: see _newton.py.
    search = lax.while_loop(lambda s: ~s.done & (s.steps < cap), body, search)
    state = search.best
    corral = rows[state.rows]
    weights = _affine_weights(corral, state.used, target)
    x = _combine(weights, corral) - target
    distance = jnp.where(lax.stop_gradient(length(x)) <= strict, 0.0, length(x) * unit)
    return HullPoint(state.rows, jnp.maximum(weights, 0), distance, ends(state, loose))


def _shrink(
    corral: jax.Array, used: jax.Array, weights: jax.Array, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Drops points until the nearest point of the others' affine hull is inside of their hull.

    Args:
      corral: `[m, d]` points.
      used: `[m]` bool, which of them count.
      weights: `[m]` of a point of their hull to start from.
      target: `[d]`.

    Returns:
      Which points are left, `[m]` bool, and the nearest point's weights, `[m]`.
    """
    none = float(jnp.finfo(weights.dtype).eps)
    index = jnp.arange(len(used))

    def body(carry: _Weighed) -> _Weighed:
        used, weights, _ = carry
        wanted = _affine_weights(corral, used, target)
        inside = ~jnp.any(used & (wanted <= none))
        falling = used & (wanted <= none)
        drop = weights - wanted
        ratio = jnp.where(
            falling, jnp.where(drop > 0, weights / jnp.where(drop > 0, drop, 1), 0), 2
        )
        part = jnp.clip(jnp.min(ratio), 0, 1)
        moved = weights + part * (wanted - weights)
        left = used & (moved > none) & (index != jnp.argmin(ratio))
        moved = jnp.where(left, moved, 0)
        moved = moved / jnp.sum(moved)
        return jnp.where(inside, used, left), jnp.where(inside, wanted, moved), inside

    # Each round drops at least one point; the last one left has weight 1.
    used, weights, _ = lax.while_loop(
        lambda carry: ~carry[2], body, (used, weights, jnp.zeros((), bool))
    )
    return used, weights


def _affine_weights(corral: jax.Array, used: jax.Array, target: jax.Array) -> jax.Array:
    """`[m]`, the point of the affine hull of the used points nearest to the target."""
    first = jnp.arange(len(used)) == jnp.argmax(used)
    base = _combine(first.astype(corral.dtype), corral)
    moving = used & ~first
    edges = jnp.where(moving[:, None], corral - base[None], 0)
    # A column of its own for every point that does not count, to hold its weight at 0.
    system = jnp.concatenate([edges.T, jnp.diag(jnp.where(moving, 0, 1).astype(corral.dtype))])
    right = jnp.concatenate([target - base, jnp.zeros_like(base, shape=len(used))])
    q, r = jnp.linalg.qr(system)
    along = solve_triangular(r, jnp.sum(q * right[:, None], axis=0))
    along = jnp.where(moving, along, 0)
    return jnp.where(first, 1 - jnp.sum(along), along)


def _combine(weights: jax.Array, points: jax.Array) -> jax.Array:
    """`[d]`, the sum of `points: [m, d]` with `weights: [m]`; elementwise, in full precision."""
    return jnp.sum(weights[:, None] * points, axis=0)
