"""Whether a utility is linear, and a claimed maximiser of it one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from stackjax.solvers._solver import Problem


def is_linear(
    utility: Callable[[jax.Array], jax.Array], slope: jax.Array, points: jax.Array
) -> jax.Array:
    """Whether the utility's gradient is `slope` at all `points [k, d]` too; a scalar bool."""
    there = jax.vmap(jax.grad(utility))(points)
    size = jnp.maximum(jnp.max(jnp.abs(there)), jnp.max(jnp.abs(slope)))
    return jnp.max(jnp.abs(there - slope[None])) <= _close(slope) * size


def is_best(slopes: jax.Array, points: jax.Array, others: jax.Array) -> jax.Array:
    """Whether no other point is better than the one claimed, for each slope; a scalar bool.

    Args:
      slopes: `[k, d]`.
      points: `[k, d]` the maximisers that are claimed.
      others: `[k, d]` what each is compared with.
    """
    gain = jnp.sum(slopes * (others - points), -1)
    size = jnp.sum(jnp.abs(slopes) * (jnp.abs(points) + jnp.abs(others)), -1)
    return jnp.all(gain <= _close(slopes) * size)


def is_feasible(problem: Problem, y: jax.Array) -> jax.Array:
    """Whether `y [d]` is in the set, up to rounding; a scalar bool."""
    largest = jnp.max(jnp.abs(y))
    slack = _close(y) * largest
    inside = jnp.all((y >= problem.lower - slack) & (y <= problem.upper + slack))
    equality, inequality = problem.constraints(y)
    rows = jax.jacrev(problem.constraints)(y)
    sizes = [_close(y) * jnp.sum(jnp.abs(part), -1) * largest for part in rows]
    met = jnp.all(jnp.abs(equality) <= sizes[0]) & jnp.all(inequality <= sizes[1])
    return inside & met


def _close(like: jax.Array) -> float:
    return float(jnp.finfo(like.dtype).eps) ** 0.5
