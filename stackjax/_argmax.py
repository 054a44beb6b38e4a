"""Differentiable maximisers: on a box, by projection, and with constraints of other kinds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from stackjax._game import shield
from stackjax._gradient import Descent, descend, face_at
from stackjax._implicit import detached, differentiate, differentiate_projected
from stackjax._interior import interior
from stackjax._kkt import Active, Linearised, polish
from stackjax._newton import Minimum, dense, minimise
from stackjax._newton_cg import matrix_free, on_face
from stackjax._quality import Quality
from stackjax._settings import DENSE, InteriorPoint, Newton, ProjectedGradient, tolerance

PyTree = Any


def on_box(
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

    formed = len(start) <= DENSE if settings.dense is None else settings.dense

    def search(guess: jax.Array) -> tuple[jax.Array, Minimum]:
        model = (dense if formed else matrix_free)(objective)
        found = minimise(model, guess, lower, upper, aux, settings)
        return found.y, found

    y, found = detached(search, start)
    finite, free = found.finite > 0, found.free > 0
    if found.factor is None:
        at, warm, constants = lax.stop_gradient((y, found.aux, theta))
        loss = lambda y: -utility(y, warm, *constants)[0]
        product, solve_free = on_face(loss, at, free, found.hessian)
    else:
        product, solve_free = lambda v: found.hessian @ v, found.factor.solve
    y = differentiate(
        lambda y: -utility(y, found.aux, *shield(theta, finite))[0],
        y,
        free=free,
        target=jnp.where(jnp.abs(y - lower) <= jnp.abs(y - upper), lower, upper),
        hessian_product=product,
        solve_free=solve_free,
        finite=finite,
    )
    return y, found


def on_projectable(
    utility: Callable[[jax.Array], jax.Array],
    project: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    width: jax.Array,
    *,
    settings: ProjectedGradient,
) -> tuple[jax.Array, Descent]:
    """Maximises `utility` over the set that `project` projects onto.

    Args:
      utility: `[d] -> scalar`; it may close over traced values, in which the maximiser is
        differentiable.
      project: `[d] -> [d]`; likewise.
      start: `[d]` starting point, projected.
      width: `[d]` of the set, in each coordinate; may be inf.
      settings: the solver's.

    Returns:
      `[d]` the maximiser, differentiable; and the solver's report, which is not.
    """
    utility, theta = jax.closure_convert(utility, start)
    project, shape = jax.closure_convert(project, start)
    loss = lambda y, *theta: -utility(y, *theta)

    def search(guess: jax.Array) -> tuple[jax.Array, Descent]:
        found = descend(
            lambda y: loss(y, *theta), lambda y: project(y, *shape), guess, width, settings
        )
        return found.y, found

    y, found = detached(search, start)
    finite = found.finite > 0

    def parts(theta: PyTree, shape: PyTree) -> tuple[Callable, Callable]:
        return jax.grad(lambda y: loss(y, *theta)), lambda y: project(y, *shape)

    numbers = parts(*lax.stop_gradient((theta, shape)))
    face = face_at(*numbers, lax.stop_gradient(y), found.rate, finite)
    y = differentiate_projected(
        *parts(*shield((theta, shape), finite)),
        y,
        rate=found.rate,
        solve=face.solve,
        transpose_solve=face.transpose_solve,
        finite=finite,
    )
    return y, found


class KktReport(struct.PyTreeNode):
    """Where a constrained search ended. All arrays are floating point, flags too.

    Attributes:
      linearised: the optimality conditions there.
      finite: scalar, 1 if the derivatives are numbers, else 0.
      quality: how good it is.
    """

    linearised: Linearised
    finite: jax.Array
    quality: Quality


def constrained(
    problem: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    settings: InteriorPoint,
) -> tuple[jax.Array, KktReport]:
    """Maximises `f` subject to `c = 0`, `g <= 0` and bounds, `problem(y) = (f, c [p], g [m])`.

    Args:
      problem: may close over traced values, in which the solution is differentiable.
      start: `[d]` starting point, which need not be feasible.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.

    Returns:
      `[d + p + m]` the maximiser and the multipliers of c and g (the utility's Lagrangian is
      `f - y'c - v'g`), differentiable; and the solver's report, which is not.
    """
    problem, theta = jax.closure_convert(problem, start)

    def program(y: jax.Array, *theta: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        f, c, g = problem(y, *theta)
        return -f, c, g

    def search(guess: jax.Array) -> tuple[jax.Array, KktReport]:
        return _search(lambda y: program(y, *theta), guess, lower, upper, settings)

    w, found = detached(search, start)
    finite = found.finite > 0
    evaluate = lambda y: program(y, *shield(theta, finite))
    w = found.linearised.differentiate(evaluate, w, lower, upper, finite=finite)
    return w, found


def _search(
    program: Callable,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    settings: InteriorPoint,
) -> tuple[jax.Array, KktReport]:
    d, dtype = len(start), start.dtype
    eps, tol = float(jnp.finfo(dtype).eps), tolerance(settings, dtype)
    found = interior(
        lambda y, _: program(y),
        start,
        lower,
        upper,
        barrier=settings.barrier,
        last_barrier=min(0.1 * tol, eps**0.6),
        max_steps=settings.max_steps,
    )
    at, fixed, equalities = found.point, lower >= upper, len(found.point.equality)
    rows, at_lower, at_upper = found.active
    active = Active(at_lower, at_upper, rows)
    # Without an interior multipliers diverge; Newton's method finds its own.
    calm = lambda multiplier: jnp.clip(multiplier, -1 / eps, 1 / eps)
    w = jnp.concatenate([at.z, calm(at.equality), calm(at.inequality)])
    best, step, length = polish(
        program, w, active, lower, upper, equalities=equalities, tol=tol, rounds=10
    )
    finite = jnp.isfinite(best.error)
    held, rows = best.active.lower | best.active.upper, best.gradient[d + equalities :]
    bent = best.curvature(d)
    # at the rounding floor steps stop shrinking: small enough is all there is to get
    small = (length <= tol) | (length <= eps**0.5)
    converged = finite & small & (best.error <= max(tol, eps**0.5)) & (bent >= -(eps**0.5))
    w = jnp.where(converged, best.w + step, w)
    w = w.at[:d].set(jnp.clip(w[:d], lower, upper))
    slack = jnp.minimum(w[:d] - lower, upper - w[:d])
    margins = jnp.concatenate([
        jnp.where(held, jnp.abs(best.gradient[:d]), slack) + jnp.where(fixed, jnp.inf, 0),
        jnp.where(best.active.rows, w[d + equalities :], -rows),
    ])  # fmt: skip
    number = lambda x: x.astype(dtype)
    quality = Quality(
        residual=jnp.where(
            finite, jnp.maximum(length, jnp.where(converged, 0, best.error)), jnp.inf
        ),
        steps=number(found.steps),
        converged=number(converged),
        degeneracy=jnp.min(margins, initial=jnp.inf),
        curvature=bent,
    )
    report = KktReport(best.linearised(), number(finite), quality)
    return w, report
