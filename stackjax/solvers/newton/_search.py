"""Projected Newton on a box, one loop that every transform can batch.

Notation: minimise `f = -utility` over `lower <= y <= upper`, `y` a vector of `d` numbers.

Each iteration takes a Newton step on the free coordinates (Bertsekas 1982, 'Projected Newton
methods for optimization problems with simple constraints'). Full steps are tried first: near a
strict minimum they are all that is needed, and nothing is cheaper. What they find counts if every
Hessian on the way was that of a minimum and `f` is no larger than at the start. Otherwise the
search goes on, from there if that holds and from the start if not, safeguarded
(`_safeguarded.py`).
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.components import kept
from stackjax._arrays.factor import Factor
from stackjax._arrays.search_history import UNWATCHED, SearchHistory, Watch
from stackjax._arrays.typing import PyTree
from stackjax.solvers._bounds import Bounds
from stackjax.solvers._judge import SHRINK, natural, resolution, solved
from stackjax.solvers._settings import tolerance
from stackjax.solvers._solver import Quality
from stackjax.solvers.newton._safeguarded import Found, safeguarded
from stackjax.solvers.newton._second_order import Model

if TYPE_CHECKING:
    from stackjax.solvers._newton import Newton


# Full steps tried before safeguards: twice what concave utilities usually need.
FULL_STEPS = 15


class Minimum(struct.PyTreeNode):
    """Where the solver ended. All arrays are floating point, flags too: `custom_root` wants that.

    Attributes:
      y: `[d]` the last point.
      aux: the objective's auxiliary output there.
      free: `[d]` 1 where no bound is active, else 0.
      hessian: as in `Point`; 0 where it is not a number.
      factor: the factorisation of `hessian` on the free coordinates, shared with the derivative;
        None in a matrix-free model.
      quality: how good it is.
      finite: scalar, 1 if the derivatives of `f` are numbers at `y`, else 0.
      others: scalar, 1 if other minima were seen, else 0.
      history: of the search, where it was asked for.
    """

    y: jax.Array
    aux: PyTree
    free: jax.Array
    hessian: jax.Array
    factor: Factor | None
    quality: Quality
    finite: jax.Array
    others: jax.Array
    history: SearchHistory | None = None


def minimise(
    model: Model,
    y: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    aux: PyTree,
    s: "Newton",
    *,
    guarded: bool = False,
    watch: Watch = UNWATCHED,
) -> Minimum:
    """Minimises what `model` expands over a box, from `y` clipped into it.

    Args:
      model: the objective.
      y: `[d]` the start.
      lower: `[d]`.
      upper: `[d]`.
      aux: the model's first.
      s: settings.
      guarded: do without full steps.
      watch: who looks at each step, if it is guarded.
    """
    box, tol = Bounds(lower, upper), tolerance(s, y.dtype)
    y = box.clip(jnp.where(jnp.isfinite(y), y, 0))
    if guarded:
        zero = jnp.zeros((), jnp.int32)
        found = safeguarded(model, box, y, aux, tol, s.max_steps, zero, watch)
        return _report(model, box, found, tol).replace(history=found.history)
    cap = min(FULL_STEPS, s.max_steps)
    found, safe = _full_steps(model, box, y, aux, tol, cap)

    def again(state: tuple[Found, jax.Array, jax.Array]) -> tuple[Found, jax.Array, jax.Array]:
        found, begin, _ = state
        search = lambda y, steps: safeguarded(model, box, y, aux, tol, s.max_steps, steps)
        found = kept(search)(begin, found.steps)
        return found, found.y, jnp.zeros((), bool)

    # A loop of at most one turn: a batch in which nobody needs it does not pay for it. The start
    # is part of the state, or else XLA would take all that depends on it out of the loop.
    begin = jnp.where(safe, found.y, y)
    found, *_ = jax.lax.while_loop(lambda state: state[2], again, (found, begin, ~found.converged))
    return _report(model, box, found, tol)


def _full_steps(
    model: Model, box: Bounds, y: jax.Array, aux: PyTree, tol: float, cap: int
) -> tuple[Found, jax.Array]:
    """Newton steps without any test but that each is one towards a minimum.

    Returns where they ended, and whether a search may go on from there. As little as possible is
    computed and carried: in a batch each number is a kernel.
    """
    sizes = None if model.exact else model.expand(y, aux).hessian
    eps, width = float(jnp.finfo(y.dtype).eps), box.upper - box.lower
    unit = jnp.where((width > 0) & (width < jnp.inf), 1 / width, 1)
    spacing = jnp.where(width < jnp.inf, 8 * eps * width, 0)

    def body(state: tuple) -> tuple:
        y, aux, last, error, steps, _ = state
        turn = model.full_step(y, aux, box.blocked, sizes, error)
        step, last = turn.step, jnp.max(jnp.abs(last) * unit)
        error = error if model.exact else jnp.max(jnp.abs(step) / box.unit(y, step))
        size = jnp.abs(step)
        length = jnp.max(size * unit)
        # Not yet a judgement, which follows: steps are small and shrink, or are rounding.
        small = jnp.all(size <= tol * resolution(y, *box) + 8 * eps * jnp.abs(y) + spacing)
        small &= (length <= SHRINK * last) | (length <= jnp.minimum(0.9 * last, 8 * eps))
        # not a number: not smaller either
        lost = ~turn.convex | ~(length < jnp.inf)
        # Where curvature is missing, the other search looks around.
        done = jnp.where(lost, 2, jnp.where(small, jnp.where(turn.strict, 1, 3), 0))
        done = done.astype(jnp.int32)
        # Clipped as a whole: `y + (bound - y)` may round to a point next to the bound.
        return box.clip(y + step), turn.aux, step, error, steps + 1, done

    zero = jnp.zeros((), jnp.int32)
    # The flag is computed in the body and only read here. A floating-point comparison in the
    # condition would be compiled twice under vmap, may round differently, and can then loop
    # for ever.
    end = jax.lax.while_loop(
        lambda state: (state[5] == 0) & (state[4] < cap),
        body,
        (y, aux, jnp.zeros_like(y), jnp.ones((), y.dtype), zero, zero),
    )
    begun, ended = model.value(y, aux), model.value(*end[:2])
    slack = 8 * float(jnp.finfo(y.dtype).eps) * (jnp.abs(begun) + jnp.abs(ended))
    no_worse = (ended - begun <= slack) & jnp.isfinite(ended)
    found = Found(*end[:3], end[4], no_worse & (end[5] == 1))
    return found, no_worse & (end[5] != 2)


def _report(model: Model, box: Bounds, found: Found, tol: float) -> Minimum:
    """The judgement of the last point."""
    (lower, upper), y = box, found.y
    point = model.expand(y, found.aux)
    finite, eps = point.finite, float(jnp.finfo(y.dtype).eps)
    hessian, slope = jnp.where(finite, point.hessian, 0), jnp.where(finite, point.gradient, 0)
    free = ~box.blocked(y, point.gradient) & finite
    product = model.product(y, hessian, point.aux)
    factor, curvature = model.finish(hessian, free, product)
    last, curved, unit = found.last, model.sizes(hessian), resolution(y, lower, upper)
    noise = model.rounding(y, jnp.where(finite, point.value, 0), hessian)
    if factor is not None:
        step = -factor.descend(jnp.where(free, slope, 0))
    else:
        step, _ = model.step(y, point, free, last, jnp.zeros((), y.dtype), True)
    step = jnp.where(free, step, 0)
    exact = jnp.all(solved(y, step, last, slope, noise, curved, unit, tol))
    if factor is None:
        # Conjugate gradients may have stopped short of the Newton step.
        left = jnp.abs(jnp.where(free, slope + product(step), 0))
        exact &= jnp.all(left <= 0.25 * jnp.abs(slope) + noise)
    # Steps that are short but do not shrink lead along a flat direction or around a kink.
    length = box.length(y, step, natural(noise, curved))
    flat = ~exact & (curvature > 0) & (length <= eps**0.5)
    curvature = jnp.where(flat, 0, curvature)
    margin = jnp.where(free, jnp.minimum(y - lower, upper - y), jnp.abs(point.gradient))
    quality = Quality(
        residual=jnp.where(finite, length, jnp.inf),
        steps=found.steps.astype(y.dtype),
        converged=(exact & finite & (curvature >= -(eps**0.5))).astype(y.dtype),
        degeneracy=jnp.min(jnp.where((lower == upper) | ~finite, jnp.inf, margin)),
        curvature=curvature,
    )
    return Minimum(
        y=y,
        aux=point.aux,
        free=free.astype(y.dtype),
        hessian=hessian,
        factor=factor,
        quality=quality,
        finite=finite.astype(y.dtype),
        others=jnp.zeros((), y.dtype),
    )
