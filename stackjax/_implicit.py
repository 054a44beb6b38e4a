"""The one derivative rule of the library: the argmax over a box, differentiated implicitly.

At a maximiser y*(theta) of `utility(y; theta)` over `lower <= y <= upper`, split the coordinates
into those held by an active bound and the free ones, F. Then

    grad_F utility(y*; theta) = 0,      y* = bound  elsewhere,

and, differentiating both,

    H_FF dy_F = -(d/dtheta) grad_F utility . dtheta - H_FA dy_A,      dy_A = dbound,

where H is the Hessian of the utility in y. One solve with the factorisation that the solver's
last step left behind gives the derivative, whatever the number of steps. `theta` is everything
that the utility closes over. The rule is built from `lax.custom_root` and
`lax.custom_linear_solve`, so forward and reverse mode and derivatives of any order follow; within
`lax.scan` and `lax.map`, which forget custom rules in repeated reverse mode, of order two.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._game import shield
from stackjax._solvers import Minimum, Newton, minimise

PyTree = Any


def argmax(
    utility: Callable[[jax.Array, PyTree], tuple[jax.Array, PyTree]],
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    settings: Newton,
    aux: PyTree = None,
) -> tuple[jax.Array, Minimum]:
    """Maximises `utility(y, aux) -> (scalar, aux)` over a box.

    Args:
      utility: the objective; it may close over traced values, in which the maximiser is
        differentiable. Where the solution is not a number those derivatives are zero instead of
        NaN, in reverse mode too.
      start: `[d]` starting point, clipped into the box.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.
      aux: floating-point pytree handed from one evaluation to the next, such as a warm start.

    Returns:
      `[d]` the maximiser, differentiable; and the solver's report, which is not.
    """
    # The user's function is traced here, once; what it closes over becomes explicit.
    utility, theta = jax.closure_convert(utility, start, aux)

    def objective(y: jax.Array, aux: PyTree) -> tuple[jax.Array, PyTree]:
        value, new_aux = utility(y, aux, *theta)
        return -value, lax.stop_gradient(new_aux)

    def search(_: Callable, guess: jax.Array) -> tuple[jax.Array, Minimum]:
        found = minimise(objective, guess, lower, upper, aux, settings)
        return found.y, found

    # The identity as residual: a solve that no derivative enters, closures included.
    y, found = lax.custom_root(lambda y: y, start, search, lambda _, b: b, has_aux=True)
    y, found = lax.stop_gradient((y, found))
    free, finite = found.free > 0, found.finite > 0
    at_lower = jnp.abs(y - lower) <= jnp.abs(y - upper)

    def residual(y: jax.Array) -> jax.Array:
        slope = jax.grad(lambda y: -utility(y, found.aux, *shield(theta, finite))[0])(y)
        bound = jnp.where(at_lower, lower, upper)
        held = jnp.where(finite, y - bound, y - lax.stop_gradient(y))
        return jnp.where(free, slope, held)

    def solve(_: Callable, b: jax.Array) -> jax.Array:
        held = jnp.where(free, 0, b)
        b = jnp.where(free, b - found.hessian @ held, 0)
        return jnp.where(free, found.factor.solve(b), held)

    def transpose_solve(_: Callable, b: jax.Array) -> jax.Array:
        x = jnp.where(free, found.factor.solve(jnp.where(free, b, 0)), 0)
        return jnp.where(free, x, b - found.hessian @ x)

    def tangent_solve(matvec: Callable, b: jax.Array) -> jax.Array:
        return lax.custom_linear_solve(matvec, b, solve, transpose_solve)

    def polish(residual: Callable, y: jax.Array) -> jax.Array:
        # A Newton step of size zero. JAX drops custom rules when it differentiates a scan a
        # second time, and then differentiates this instead: right to first order.
        step = solve(residual, residual(y))
        return y - (step - lax.stop_gradient(step))

    return lax.custom_root(residual, y, polish, tangent_solve), found
