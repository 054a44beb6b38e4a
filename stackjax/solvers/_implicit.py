"""The one derivative rule of the library: the optimality conditions, differentiated implicitly.

A solver leaves a point `w`: the variables and, where there are constraints besides bounds, their
multipliers. Split its coordinates into the free ones, F, and those held at a target: a variable at
its active bound, a multiplier of an inactive constraint at 0. With `L(w; theta)` the Lagrangian,

    grad_F L(w*; theta) = 0,      w* = target  elsewhere,

and, differentiating both,

    H_FF dw_F = -(d/dtheta) grad_F L . dtheta - H_FA dw_A,      dw_A = dtarget,

where H is the Hessian of L in w: the KKT matrix, or simply the objective's Hessian for a box. One
solve with a factorisation that the solver leaves behind gives the derivative, whatever the number
of steps. `theta` is everything that the problem closes over. The rule is built from
`lax.custom_root` and `lax.custom_linear_solve`, so forward and reverse mode and derivatives of any
order follow; within `lax.scan` and `lax.map`, which forget custom rules in repeated reverse mode,
of order two.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.typing import PyTree


def detached(search: Callable[[jax.Array], tuple[jax.Array, PyTree]], start: jax.Array) -> Any:
    """`search(start) -> (w, report)`, with no derivative entering, not by closure either.

    Arrays must be floating point: `custom_root` wants that. Flags are, too, and are multiplied
    with numbers: the user's strict promotion of dtypes is for the user's functions, which were
    traced under it before.
    """
    with jax.numpy_dtype_promotion("standard"):
        # The identity as residual, whose root search returns.
        found = lax.custom_root(
            lambda w: w, start, lambda _, guess: search(guess), lambda _, b: b, has_aux=True
        )
        return lax.stop_gradient(found)


def differentiate(
    value: Callable[[jax.Array], jax.Array],
    w: jax.Array,
    *,
    free: jax.Array,
    target: jax.Array,
    hessian_product: Callable[[jax.Array], jax.Array],
    solve_free: Callable[[jax.Array], jax.Array],
    finite: jax.Array,
) -> jax.Array:
    """Gives `w`, a number so far, the derivatives of the stationary point that it is.

    Args:
      value: `[n] -> scalar`, the Lagrangian; what it closes over is differentiated.
      w: `[n]` the point.
      free: `[n]` bool.
      target: `[n]`, where the others are held; differentiated.
      hessian_product: `[n] -> [n]`, the Hessian of `value` at `w` times a vector; a number, and
        not to be differentiated.
      solve_free: `[n] -> [n]`, solves with the Hessian restricted to the free coordinates;
        symmetric, and to be differentiated in its argument only.
      finite: scalar bool; if not, derivatives are zero instead of NaN.
    """
    return differentiate_system(
        jax.grad(value),
        w,
        free=free,
        target=target,
        product=hessian_product,
        transpose_product=hessian_product,
        solve_free=solve_free,
        transpose_solve_free=solve_free,
        finite=finite,
    )


def differentiate_system(
    conditions: Callable[[jax.Array], jax.Array],
    w: jax.Array,
    *,
    free: jax.Array,
    target: jax.Array,
    product: Callable[[jax.Array], jax.Array],
    transpose_product: Callable[[jax.Array], jax.Array],
    solve_free: Callable[[jax.Array], jax.Array],
    transpose_solve_free: Callable[[jax.Array], jax.Array],
    finite: jax.Array,
) -> jax.Array:
    """As `differentiate`, for conditions that are no gradient: their Jacobian is not symmetric.

    Args:
      conditions: `[n] -> [n]`, 0 in the free coordinates; what it closes over is differentiated.
      w: `[n]` the point.
      free: `[n]` bool.
      target: `[n]`, where the others are held; differentiated.
      product: `[n] -> [n]`, the Jacobian of `conditions` at `w` times a vector; a number.
      transpose_product: likewise, of its transpose.
      solve_free: `[n] -> [n]`, solves with the Jacobian restricted to the free coordinates.
      transpose_solve_free: likewise, with its transpose.
      finite: scalar bool; if not, derivatives are zero instead of NaN.
    """
    free = free & finite

    def residual(w: jax.Array) -> jax.Array:
        held = jnp.where(finite, w - target, w - lax.stop_gradient(w))
        return jnp.where(free, conditions(w), held)

    def solve(_: Callable, b: jax.Array) -> jax.Array:
        held = jnp.where(free, 0, b)
        b = jnp.where(free, b - product(held), 0)
        return jnp.where(free, solve_free(b), held)

    def transpose_solve(_: Callable, b: jax.Array) -> jax.Array:
        x = jnp.where(free, transpose_solve_free(jnp.where(free, b, 0)), 0)
        return jnp.where(free, x, b - transpose_product(x))

    return _at_root(residual, w, solve, transpose_solve)


def differentiate_projected(
    gradient: Callable[[jax.Array], jax.Array],
    project: Callable[[jax.Array], jax.Array],
    w: jax.Array,
    *,
    rate: jax.Array,
    solve: Callable[[jax.Array], jax.Array],
    transpose_solve: Callable[[jax.Array], jax.Array],
    finite: jax.Array,
) -> jax.Array:
    """Gives `w` the derivatives of the fixed point `w = project(w - rate * gradient(w))`.

    Args:
      gradient: `[n] -> [n]` of the objective; what it closes over is differentiated.
      project: `[n] -> [n]` onto the set; likewise.
      w: `[n]` the point.
      rate: scalar, positive.
      solve: `[n] -> [n]`, solves with the Jacobian of `w - project(w - rate * gradient(w))`; to be
        differentiated in its argument only.
      transpose_solve: likewise, with its transpose.
      finite: scalar bool; if not, derivatives are zero instead of NaN.
    """

    def residual(w: jax.Array) -> jax.Array:
        return jnp.where(finite, w - project(w - rate * gradient(w)), w - lax.stop_gradient(w))

    return _at_root(residual, w, lambda _, b: solve(b), lambda _, b: transpose_solve(b))


def _at_root(
    residual: Callable[[jax.Array], jax.Array],
    w: jax.Array,
    solve: Callable[[Callable, jax.Array], jax.Array],
    transpose_solve: Callable[[Callable, jax.Array], jax.Array],
) -> jax.Array:
    def tangent_solve(matvec: Callable, b: jax.Array) -> jax.Array:
        return lax.custom_linear_solve(matvec, b, solve, transpose_solve)

    def polish(residual: Callable, w: jax.Array) -> jax.Array:
        # JAX drops custom rules when it differentiates a scan a second time, and then
        # differentiates this instead: right to first order.
        return _step_to_first_order(w, solve(residual, residual(w)))

    return lax.custom_root(residual, w, polish, tangent_solve)


def _step_to_first_order(w: jax.Array, step: jax.Array) -> jax.Array:
    """`w`, with the derivative of `w - step`: a Newton step at the root, where its length is 0."""
    if _primitive is None:
        # the zero is then computed; one that is not a number must not be
        zero = step - lax.stop_gradient(step)
        return w - jnp.where(jnp.isfinite(step), zero, 0)
    return _primitive.bind(w, step)


def _registered() -> Any:
    """The same as an operation that costs nothing; None where this JAX has other names for it."""
    try:
        from jax.extend.core import Primitive
        from jax.interpreters import ad, batching, mlir

        primitive = Primitive("step_to_first_order")
        primitive.def_impl(lambda w, step: w)
        primitive.def_abstract_eval(lambda w, step: w)

        def derive(primals: tuple, tangents: tuple) -> tuple[jax.Array, Any]:
            dw, dstep = (ad.instantiate_zeros(tangent) for tangent in tangents)
            return primitive.bind(*primals), lax.sub(dw, dstep)

        def over_a_batch(values: tuple, axes: tuple) -> tuple[jax.Array, int]:
            size = next(x.shape[axis] for x, axis in zip(values, axes) if axis is not None)
            moved = (batching.bdim_at_front(x, axis, size) for x, axis in zip(values, axes))
            return primitive.bind(*moved), 0

        ad.primitive_jvps[primitive] = derive
        batching.primitive_batchers[primitive] = over_a_batch
        mlir.register_lowering(primitive, mlir.lower_fun(lambda w, step: w, False))
        _ = ad.instantiate_zeros, batching.bdim_at_front  # used later, missed now
        return primitive
    except (ImportError, AttributeError, TypeError):
        return None


_primitive = _registered()
