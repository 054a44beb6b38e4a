"""The interval of a function of an estimate, to first order."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm

from stackjax._arrays.arguments import check_shape, check_within
from stackjax._arrays.typing import PyTree
from stackjax.stats._interval import Interval


def delta_interval(
    function: Callable[[Any], PyTree], estimate: PyTree, covariance: Any, *, alpha: float = 0.05
) -> Interval:
    """The interval of `function(estimate)` that the estimate's covariance implies.

    With the Jacobian J of `function` at the estimate, its covariance is `J covariance J^T` to first
    order. `function` may call `solve` or `best_response`: their Jacobians are those of the implicit
    function theorem. To first order means: where a constraint is about to change
    (`Response.degeneracy`), the interval is that of one side; and where J is 0 the interval has no
    width, whatever the curvature. Can be jitted and vmapped.

    Args:
      function: from a pytree like `estimate` to a pytree of floating-point arrays.
      estimate: a pytree of floating-point arrays of P numbers in all.
      covariance: `[P, P]` of the estimate, in the order of `jax.flatten_util.ravel_pytree`.
      alpha: probability that an interval, by itself, misses, in (0, 1).

    Returns:
      An `Interval` of pytrees like the function's value.

    Raises:
      TypeError: `covariance` holds no numbers, or `alpha` is not a number.
      ValueError: `covariance` is not `[P, P]`, or `alpha` is outside of (0, 1).

    Source: Casella and Berger, Statistical Inference (2002), Section 5.5.4.

    Example:
      >>> duopoly = sj.games.duopoly()  # the leader sells (demand - 1) / 2
      >>> optimum = lambda demand: sj.solve(
      ...     duopoly.game, action=duopoly.action, response=duopoly.response, context=demand
      ... ).action
      >>> found = sj.stats.delta_interval(optimum, jnp.array(13.0), jnp.array([[0.16]]))
      >>> print(f"{found.estimate:.2f} {found.low:.2f} {found.high:.2f}")
      6.00 5.61 6.39
    """
    check_within("alpha", alpha, "(0, 1)")
    at, unravel = ravel_pytree(estimate)
    covariance = jnp.asarray(covariance, at.dtype)
    check_shape("covariance", covariance, (at.size, at.size))
    blank = jax.eval_shape(function, estimate)
    shaped = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank))[1]
    value, pull = jax.vjp(lambda y: ravel_pytree(function(unravel(y)))[0], at)
    rows = jax.vmap(lambda e: pull(e)[0])(jnp.eye(value.size, dtype=value.dtype))
    variance = jnp.sum((rows @ covariance) * rows, axis=1)
    width = norm.ppf(1 - alpha / 2) * jnp.sqrt(jnp.maximum(variance, 0))
    width = width.astype(value.dtype)
    return Interval(*(shaped(part) for part in (value, value - width, value + width)))
