"""The search for a constrained follower's solution: a quick attempt, and a robust one after it.

Most followers are strictly concave and not degenerate. A few steps of sequential quadratic
programming solve them (`_sqp.py`) and prove it. Only where the proof fails an interior-point method
(`_interior_point.py`) and Newton's method on the active set that it finds (`_newton_kkt.py`) search
again, from the same start: they need neither concavity nor an interior nor independent constraints,
and take ten times as long.

The second search is the body of a loop that runs once where it is needed and never elsewhere, so
that a batch pays for it only if some member needs it (of a conditional, a batch runs both
branches). In it, members that do not need it stop at once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._optimality import Active, Linearised, exactly
from stackjax.solvers._settings import tolerance
from stackjax.solvers._solver import Held, Quality
from stackjax.solvers.constrained._interior_point import inside, interior
from stackjax.solvers.constrained._newton_kkt import polish
from stackjax.solvers.constrained._scales import Scales, scales_at
from stackjax.solvers.constrained._sqp import Attempt, attempt

if TYPE_CHECKING:
    from stackjax.solvers._interior_point import InteriorPoint

Program = Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


class KktReport(struct.PyTreeNode):
    """Where a constrained search ended. All arrays are floating point, flags too.

    Attributes:
      linearised: the optimality conditions there.
      gradient: `[d + p + m]` of the Lagrangian.
      finite: scalar, 1 if the derivatives are numbers, else 0.
      quality: how good it is.
    """

    linearised: Linearised
    gradient: jax.Array
    finite: jax.Array
    quality: Quality


def find(
    program: Program,
    theta: Any,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    settings: "InteriorPoint",
    warm: Held | None = None,
) -> tuple[jax.Array, KktReport]:
    """Minimises `f` subject to `c = 0`, `g <= 0` and bounds, `(f, c [p], g [m]) = program(y)`.

    Args:
      program: `(y [d], *theta) -> (f, c, g)`.
      theta: what it depends on, a tuple of arrays.
      start: `[d]` starting point, which need not be feasible.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.
      warm: multipliers and active bounds to start from.

    Returns:
      `[d + p + m]` the solution and the multipliers of c and g, and the report.
    """
    scales = scales_at(lambda y: program(y, *theta), start, lower, upper)
    own, low, high = scales.inside(start, lower, upper)
    w, report = _find(
        lambda y, scales, *theta: scales.program(lambda z: program(z, *theta))(y),
        (scales, *theta),
        own,
        low,
        high,
        settings,
        None if warm is None else _in_search_units(warm, start, scales),
    )
    w = w * scales.point
    w = w.at[: len(start)].set(jnp.clip(w[: len(start)], lower, upper))
    return w, _in_own_units(report, w, scales, lower, upper)


def _in_search_units(warm: Held, start: jax.Array, scales: Scales) -> Held:
    number = lambda x: jnp.asarray(x, start.dtype)
    parts = [start, number(warm.equality), number(warm.inequality)]
    scaled = jnp.concatenate(parts) / scales.point
    d, p = len(start), len(warm.equality)
    return warm.replace(equality=scaled[d : d + p], inequality=scaled[d + p :])


def _in_own_units(
    report: KktReport, w: jax.Array, scales: Scales, lower: jax.Array, upper: jax.Array
) -> KktReport:
    """The report on a problem in other units, where they matter."""
    at, unit = report.linearised, scales.point
    scaled = (1 / unit / scales.value)[:, None] / unit[None]
    hessian = at.hessian * scaled
    inverse = at.inverse * (unit * scales.value)[:, None] * unit[None]
    own = Linearised(at.at_lower, at.at_upper, at.rows, hessian, inverse)
    active = Active(at.at_lower > 0, at.at_upper > 0, at.rows > 0)
    margin = degeneracy(w, active, report.gradient / scales.value / unit, lower, upper)
    return report.replace(linearised=own, quality=report.quality.replace(degeneracy=margin))


def _find(
    program: Program,
    theta: Any,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    settings: "InteriorPoint",
    warm: Held | None,
) -> tuple[jax.Array, KktReport]:
    """As `find`, in the units that `Scales` chooses."""
    _, c, g = jax.eval_shape(program, start, *theta)
    active = None
    if warm is None:
        begin = [inside(start, lower, upper), jnp.zeros_like(c), jnp.ones_like(g)]
    else:
        begin = [jnp.clip(start, lower, upper), warm.equality, warm.inequality]
        active = Active(warm.lower, warm.upper, warm.inequality > 0)
    tried = attempt(
        lambda y: program(y, *theta),
        jnp.concatenate(begin),
        lower,
        upper,
        equalities=len(c),
        tol=tolerance(settings, start.dtype),
        max_steps=settings.max_steps,
        active=active,
    )
    found = _proven(tried, lower, upper)

    def again(carry: tuple) -> tuple:
        _, steps, needed = carry
        # Compilers move what does not change out of a loop, to where everyone pays for it. All of
        # this seems to change.
        here, data, needed = jax.lax.optimization_barrier((start, theta, needed))
        found, further = _robust(lambda y: program(y, *data), here, lower, upper, settings, needed)
        return found, steps + further, jnp.zeros((), bool)

    # The flag is only read here: see _newton.py.
    (w, report), steps, _ = jax.lax.while_loop(
        lambda carry: carry[2], again, (found, tried.steps, ~tried.verified)
    )
    steps = steps.astype(start.dtype)
    return w, report.replace(quality=report.quality.replace(steps=steps))


def _proven(tried: Attempt, lower: jax.Array, upper: jax.Array) -> tuple[jax.Array, KktReport]:
    """The report on an attempt that was verified."""
    program, solved, d = tried.program, tried.solved, len(lower)
    number = lambda x: x.astype(lower.dtype)
    w = program.w + solved.step
    w = w.at[:d].set(jnp.clip(w[:d], lower, upper))
    inverse = solved.tableau.inverse
    linearised = Linearised(
        number(solved.active.lower),
        number(solved.active.upper),
        number(solved.active.rows),
        program.hessian,
        inverse,
    )
    largest = jnp.max(jnp.abs(program.hessian[:d, :d]), initial=0)
    steepest = _largest_eigenvalue(inverse[:d, :d])
    flat = steepest * largest
    quality = Quality(
        residual=tried.length,
        steps=number(tried.steps),
        converged=number(tried.verified),
        degeneracy=jnp.zeros((), lower.dtype),  # see `_in_own_units`
        curvature=jnp.where(flat > 1, 1 / jnp.where(flat > 1, flat, 1), 1),
    )
    return w, KktReport(linearised, solved.slope, jnp.ones((), lower.dtype), quality)


def _robust(
    program: Program,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    settings: "InteriorPoint",
    needed: jax.Array,
) -> tuple[tuple[jax.Array, KktReport], jax.Array]:
    """The search that needs no assumption, where it is needed, and its number of steps."""
    d, dtype = len(start), start.dtype
    eps, tol = float(jnp.finfo(dtype).eps), tolerance(settings, dtype)
    found = interior(
        lambda y, _: program(y),
        start,
        lower,
        upper,
        barrier=settings.barrier,
        last_barrier=min(0.1 * tol, eps**0.6),
        max_steps=jnp.where(needed, settings.max_steps, 0),
    )
    at, equalities = found.point, len(found.point.equality)
    rows, at_lower, at_upper = found.active
    active = Active(at_lower, at_upper, rows)
    # Without an interior multipliers diverge; Newton's method finds its own.
    calm = lambda multiplier: jnp.clip(multiplier, -1 / eps, 1 / eps)
    w = jnp.concatenate([at.z, calm(at.equality), calm(at.inequality)])
    best, step, length = polish(
        program, w, active, lower, upper,
        equalities=equalities, tol=tol, rounds=jnp.where(needed, 10, 0),
    )  # fmt: skip
    finite = jnp.isfinite(best.error)
    bent = best.curvature(d)
    converged = best.solved(step, lower, upper, tol) & (bent >= -(eps**0.5))
    w = jnp.where(converged, best.w + step, w)
    w = w.at[:d].set(jnp.clip(w[:d], lower, upper))
    number = lambda x: x.astype(dtype)
    quality = Quality(
        residual=jnp.where(
            finite, jnp.maximum(length, jnp.where(converged, 0, best.error)), jnp.inf
        ),
        steps=number(found.steps),
        converged=number(converged),
        degeneracy=jnp.zeros((), dtype),
        curvature=bent,
    )
    report = KktReport(best.linearised(), best.gradient, number(finite), quality)
    return (w, report), found.steps


def degeneracy(
    w: jax.Array, active: Active, gradient: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """The smallest of all constraints' slack, or multiplier where they are active; a scalar.

    Args:
      w: `[d + p + m]` the solution and its multipliers.
      active: the active set.
      gradient: `[d + p + m]` of the Lagrangian.
      lower: `[d]`.
      upper: `[d]`.
    """
    d, m = len(lower), len(active.rows)
    first = len(w) - m
    slack = jnp.minimum(w[:d] - lower, upper - w[:d])
    bounds = jnp.where(active.lower | active.upper, jnp.abs(gradient[:d]), slack)
    margins = jnp.concatenate([
        bounds + jnp.where(lower >= upper, jnp.inf, 0),
        jnp.where(active.rows, w[first:], -gradient[first:]),
    ])  # fmt: skip
    return jnp.min(margins, initial=jnp.inf)


def _largest_eigenvalue(matrix: jax.Array) -> jax.Array:
    """Of a positive semidefinite `[d, d]` matrix, from below, by less than log(d) / 32 of it."""
    size = jnp.max(jnp.abs(matrix), initial=0)
    power = matrix / jnp.where(size > 0, size, 1)
    first, product = power, lambda a, b: jnp.sum(a * b)
    for _ in range(4):
        power = exactly(power, power)
        power = power / jnp.maximum(jnp.max(jnp.abs(power), initial=0), jnp.finfo(power.dtype).tiny)
    # The Rayleigh quotient of the power's columns, a weighted mean that the largest dominates.
    onto = exactly(first, power)
    squares = product(power, power)
    return size * product(power, onto) / jnp.where(squares > 0, squares, 1)
