"""Multipliers in closed form, for the sets that have a projection."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax.sets import Ball, FeasibleSet, Simplex
from stackjax.solvers._bounds import Bounds
from stackjax.solvers._solver import Held

PyTree = Any


def held(
    feasible: FeasibleSet, point: PyTree, slope: PyTree, bounds: tuple[jax.Array, jax.Array]
) -> Held:
    """The multipliers of a Box, a Simplex or a Ball at a maximiser; differentiable.

    Args:
      feasible: the set.
      point: the maximiser.
      slope: the utility's gradient there, with the structure of `point`.
      bounds: `[d]` lower and upper.
    """
    methods = (method for kind, method in _METHODS if isinstance(feasible, kind))
    return next(methods, _box)(feasible, point, slope, *bounds)


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


_METHODS = (Simplex, _simplex), (Ball, _ball)
