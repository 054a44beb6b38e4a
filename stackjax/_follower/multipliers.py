"""Multipliers in closed form, for the sets that have a projection."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.typing import PyTree
from stackjax.sets import Ball, Box, FeasibleSet, Simplex
from stackjax.solvers._bounds import Bounds
from stackjax.solvers._solver import Held


def of_bounds(
    pushed: jax.Array, at_lower: jax.Array, at_upper: jax.Array, bounds: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """`[d]` multipliers of lower and of upper bounds; differentiable.

    Args:
      pushed: `[d]` the slope of the Lagrangian (to be maximised) without the bounds.
      at_lower: `[d]` bool.
      at_upper: `[d]` bool.
      bounds: `[d]` each.
    """
    lower, upper = bounds
    pinned = lower == upper
    return (
        jnp.where(pinned, jnp.maximum(-pushed, 0), jnp.where(at_lower, -pushed, 0)),
        jnp.where(pinned, jnp.maximum(pushed, 0), jnp.where(at_upper, pushed, 0)),
    )


def held(
    feasible: FeasibleSet, point: PyTree, slope: PyTree, bounds: tuple[jax.Array, jax.Array]
) -> Held:
    """The multipliers of a set with a projection at a maximiser; differentiable.

    Args:
      feasible: the set.
      point: the maximiser.
      slope: the utility's gradient there, with the structure of `point`.
      bounds: `[d]` lower and upper.
    """
    known = lambda kind: (
        isinstance(feasible, kind)
        and all(
            getattr(type(feasible), part) is getattr(kind, part) for part in ("bounds", "residuals")
        )
    )
    methods = (method for kind, method in _METHODS if known(kind))
    return next(methods, _any)(feasible, point, slope, *bounds)


def _box(
    feasible: FeasibleSet, point: PyTree, slope: PyTree, lower: jax.Array, upper: jax.Array
) -> Held:
    y, u = (ravel_pytree(tree)[0] for tree in (point, slope))
    stuck = Bounds(lower, upper).blocked(y, -u)
    at_lower = stuck & (jnp.abs(y - lower) <= jnp.abs(y - upper))
    margin = jnp.where(stuck, jnp.abs(u), jnp.minimum(y - lower, upper - y))
    none = jnp.zeros(0, y.dtype)
    least = jnp.min(jnp.where(lower == upper, jnp.inf, margin))
    return Held(at_lower, stuck & ~at_lower, none, none, least)


def _simplex(
    feasible: FeasibleSet, point: PyTree, slope: PyTree, lower: jax.Array, upper: jax.Array
) -> Held:
    def price(y: jax.Array, u: jax.Array) -> jax.Array:
        """What one more unit of the total is worth: the mean gradient of what is chosen at all."""
        chosen = lax.stop_gradient(y) > 0
        count = jnp.maximum(jnp.sum(chosen, -1), 1).astype(u.dtype)
        return jnp.sum(jnp.where(chosen, u, 0), -1) / count

    prices = jax.tree.map(price, point, slope)
    excess = jax.tree.map(lambda u, p: p[..., None] - u, slope, prices)
    y, excess, equality = (ravel_pytree(tree)[0] for tree in (point, excess, prices))
    zero = y <= 0
    none = jnp.zeros(0, y.dtype)
    margin = jnp.where(zero, jnp.maximum(excess, 0), y)
    return Held(zero, jnp.zeros_like(zero), none, equality, jnp.min(margin))


def _ball(
    feasible: FeasibleSet, point: PyTree, slope: PyTree, lower: jax.Array, upper: jax.Array
) -> Held:
    y, u = (ravel_pytree(tree)[0] for tree in (point, slope))
    excess, pull = jax.vjp(
        lambda r: feasible.residuals(r, None, r, None)[0][0], point
    )  # the set asks for nothing but the point
    normal = ravel_pytree(pull(jnp.ones_like(excess))[0])[0]
    along = jnp.sum(u * normal) / jnp.maximum(jnp.sum(normal**2), jnp.finfo(y.dtype).tiny)
    # At the sphere, up to rounding, and pushed outwards.
    active = lax.stop_gradient((along > 0) & (excess >= -along))
    multiplier = jnp.where(active, along, 0)
    open_ = jnp.zeros(y.shape, bool)
    none = jnp.zeros(0, y.dtype)
    return Held(open_, open_, multiplier[None], none, jnp.maximum(-excess, multiplier))


def _any(
    feasible: FeasibleSet, point: PyTree, slope: PyTree, lower: jax.Array, upper: jax.Array
) -> Held:
    """Of a user's own set, that asks for nothing but the point: by least squares."""
    y, unravel = ravel_pytree(point)
    u = ravel_pytree(slope)[0]

    def residuals(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = unravel(y)
        g, h = feasible.residuals(r, None, r, None)
        return g.astype(y.dtype), h.astype(y.dtype)

    (g, _), (rows, equal) = residuals(y), jax.jacrev(residuals)(y)
    size = jnp.linalg.norm(rows, axis=1)
    reach = lax.stop_gradient(float(jnp.finfo(y.dtype).eps) ** 0.5 * jnp.max(jnp.abs(y)))
    near = lax.stop_gradient(g >= -reach * size)
    at_lower, at_upper = y - lower <= reach, upper - y <= reach
    free = lax.stop_gradient(~(at_lower | at_upper))
    # What the bounds do not hold is held by the rows: the least combination of them that does.
    active = jnp.where(near[:, None], rows, 0)
    every = jnp.where(free, jnp.concatenate([active, equal]), 0)
    found = jnp.linalg.pinv(every @ every.T, hermitian=True) @ (every @ jnp.where(free, u, 0))
    inequality, equality = jnp.maximum(found[: len(g)], 0), found[len(g) :]
    pushed = u - active.T @ inequality - equal.T @ equality
    margin = jnp.where(free, jnp.minimum(y - lower, upper - y), jnp.abs(pushed))
    slack = jnp.maximum(-g, inequality)
    least = jnp.min(jnp.concatenate([jnp.where(lower == upper, jnp.inf, margin), slack]))
    return Held(at_lower & (pushed < 0), at_upper & (pushed > 0), inequality, equality, least)


_METHODS = (Box, _box), (Simplex, _simplex), (Ball, _ball)
