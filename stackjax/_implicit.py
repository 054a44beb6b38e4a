"""The one derivative rule of the library: the argmax over a box, differentiated implicitly.

At a maximiser y*(theta) of `utility(y; theta)` over `lower <= y <= upper`, split the coordinates
into those held by an active bound and the free ones, F. Then

    grad_F utility(y*; theta) = 0,      y* = bound  elsewhere,

and, differentiating both,

    H_FF dy_F = -(d/dtheta) grad_F utility . dtheta - H_FA dy_A,      dy_A = dbound,

where H is the Hessian of the utility in y. One solve with the factorisation that the solver's
last step left behind gives the derivative, whatever the number of steps. `theta` is everything
that the utility closes over. The rule is built from `lax.custom_root` and
`lax.custom_linear_solve`, so forward and reverse mode and derivatives of any order follow.
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
    utility: Callable,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    settings: Newton,
    aux: PyTree = None,
    parameters: PyTree = None,
) -> tuple[jax.Array, Minimum]:
    """Maximises `utility(y, aux, parameters) -> (scalar, aux)` over a box.

    Args:
      utility: the objective; it may close over traced values, which are differentiated too.
      start: `[d]` starting point, clipped into the box.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.
      aux: floating-point pytree handed from one evaluation to the next, such as a warm start.
      parameters: what the utility depends on, explicitly. Where the solution is not a number the
        derivative in these is zero instead of NaN, in reverse mode too.

    Returns:
      `[d]` the maximiser, differentiable; and the solver's report, which is not.
    """

    def objective(y: jax.Array, aux: PyTree) -> tuple[jax.Array, PyTree]:
        value, new_aux = utility(y, aux, parameters)
        return -value, jax.tree.map(lax.stop_gradient, new_aux)

    def search(_: Callable, guess: jax.Array) -> tuple[jax.Array, Minimum]:
        found = minimise(objective, guess, lower, upper, aux, settings)
        return found.y, found

    # The identity as residual: a solve that no derivative enters, closures included.
    y, found = lax.custom_root(lambda y: y, start, search, lambda _, b: b, has_aux=True)
    y, found = lax.stop_gradient((y, found))
    free, finite = found.free > 0, found.finite > 0
    at_lower = jnp.abs(y - lower) <= jnp.abs(y - upper)

    def residual(y: jax.Array) -> jax.Array:
        theta = shield(parameters, finite)
        slope = jax.grad(lambda y: -utility(y, found.aux, theta)[0])(y)
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

    return lax.custom_root(residual, y, lambda _, y: y, tangent_solve), found
