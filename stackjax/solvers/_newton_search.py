"""Projected Newton on a box, one loop that every transform can batch.

Notation: minimise `f = -utility` over `lower <= y <= upper`, `y` a vector of `d` numbers.

Each iteration takes a Newton step on the free coordinates (Bertsekas 1982, 'Projected Newton
methods for optimization problems with simple constraints'). Full steps are tried first: near a
strict minimum they are all that is needed, and nothing is cheaper. What they find counts if every
Hessian on the way was that of a minimum and `f` is no larger than at the start. Otherwise the
search goes on, from there if that holds and from the start if not, safeguarded: a step is
accepted if it decreases `f` (Armijo along the projection arc), or halves the smallest optimality
residual yet at next to no cost in `f`; else a quarter of it is tried from the same point. The
second test is there for float32, where differences of `f` drown in rounding near the optimum; it
passes finitely often, so it does not cost convergence. A step to where `f` rises steeply crossed a
kink; bisection of the slope finds the kink, along which the next step leads. Where the Hessian is
not positive definite its pivots are made positive, which keeps the step a descent.
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.components import kept
from stackjax._arrays.factor import Factor
from stackjax.solvers._bounds import Bounds
from stackjax.solvers._judge import SHRINK, natural, resolution, solved
from stackjax.solvers._quality import Quality
from stackjax.solvers._second_order import Model, Point
from stackjax.solvers._settings import tolerance

if TYPE_CHECKING:
    from stackjax.solvers._newton import Newton

PyTree = Any

# Full steps tried before safeguards: twice what concave utilities usually need.
FULL_STEPS = 15
# Parts of one step that are tried while f still falls, or rises, as steeply at its end.
TRIES = 12


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
    """

    y: jax.Array
    aux: PyTree
    free: jax.Array
    hessian: jax.Array
    factor: Factor | None
    quality: Quality
    finite: jax.Array


class _Found(struct.PyTreeNode):
    """Where a search ended, and whether it takes that for a solution."""

    y: jax.Array
    aux: PyTree
    last: jax.Array  # the Newton step that led to y
    steps: jax.Array
    converged: jax.Array


def minimise(
    model: Model,
    y: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    aux: PyTree,
    s: "Newton",
    *,
    guarded: bool = False,
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
    """
    box, tol = Bounds(lower, upper), tolerance(s, y.dtype)
    y = box.clip(jnp.where(jnp.isfinite(y), y, 0))
    if guarded:
        found = _safeguarded(model, box, y, aux, tol, s.max_steps, jnp.zeros((), jnp.int32))
        return _report(model, box, found, tol)
    cap = min(FULL_STEPS, s.max_steps)
    found, safe = _full_steps(model, box, y, aux, tol, cap)

    def again(state: tuple[_Found, jax.Array, jax.Array]) -> tuple[_Found, jax.Array, jax.Array]:
        found, begin, _ = state
        search = lambda y, steps: _safeguarded(model, box, y, aux, tol, s.max_steps, steps)
        found = kept(search)(begin, found.steps)
        return found, found.y, jnp.zeros((), bool)

    # A loop of at most one turn: a batch in which nobody needs it does not pay for it. The start
    # is part of the state, or else XLA would take all that depends on it out of the loop.
    begin = jnp.where(safe, found.y, y)
    found, *_ = jax.lax.while_loop(lambda state: state[2], again, (found, begin, ~found.converged))
    return _report(model, box, found, tol)


def _full_steps(
    model: Model, box: Bounds, y: jax.Array, aux: PyTree, tol: float, cap: int
) -> tuple[_Found, jax.Array]:
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
    found = _Found(*end[:3], end[4], no_worse & (end[5] == 1))
    return found, no_worse & (end[5] != 2)


def _report(model: Model, box: Bounds, found: _Found, tol: float) -> Minimum:
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
    )


class _State(struct.PyTreeNode):
    y: jax.Array
    point: Point
    step: jax.Array  # the Newton step from y
    last: jax.Array  # the one from the point before
    shrink: jax.Array  # the part of it to try next; above 1 where steps do not shrink
    short: jax.Array  # a part of it that is too short, 0 to begin with
    long: jax.Array  # one that is too long
    tries: jax.Array  # how often it has been tried
    best: jax.Array  # smallest optimality residual yet
    length: jax.Array
    steps: jax.Array
    first: jax.Array  # nothing is known yet
    looks: jax.Array  # how often it has been looked around from a point without curvature
    flat: jax.Array  # [d] 1 where that is missing
    open: jax.Array  # 1 once f was not a number somewhere
    inwards: jax.Array  # how far the start has been moved into the box
    done: jax.Array
    converged: jax.Array

    def scaled(self, reach: jax.Array) -> jax.Array:
        """The step to try: prolonged no further than `reach`, or shortened from there."""
        longest = jnp.clip(jnp.maximum(self.shrink, 1) * self.step, -reach, reach)
        return jnp.minimum(self.shrink, 1) * longest


def _safeguarded(
    model: Model, box: Bounds, y: jax.Array, aux: PyTree, tol: float, cap: int, before: jax.Array
) -> _Found:
    """Newton steps, each accepted, shortened or prolonged; `before` are steps to be counted too."""
    info, begin, inner = jnp.finfo(y.dtype), y, box.inner(y)

    def optimality_of(point: Point, y: jax.Array) -> jax.Array:
        """What each coordinate alone would gain: in the unit of f, whatever that of y."""
        curved = jnp.maximum(model.sizes(point.hessian), 1e6 * info.tiny)
        alone = box.clip(y - point.gradient / curved) - y
        return jnp.max(jnp.abs(point.gradient * alone))

    def body(state: _State) -> _State:
        y, point, first = state.y, state.point, state.first
        reach = box.reach(y)
        ahead = box.clip(y + state.scaled(reach))
        # Where f ends at its bound, steps end just short of it.
        touched = ((ahead == box.lower) | (ahead == box.upper)) & (state.open > 0)
        ahead = jnp.where(touched, y + 0.9 * (ahead - y), ahead)
        # At a start on the pole of a logarithm or a root: inwards, ever further.
        trial_y = jnp.where(first, begin + state.inwards * (inner - begin), ahead)
        # At a stationary point without curvature: is it a saddle? One look to each side.
        side = jnp.where(state.looks == 1, 0.1, -0.1) * jnp.where(state.flat > 0, reach, 0)
        looking = (state.looks == 1) | (state.looks == 2)
        trial_y = jnp.where(looking, box.clip(y + side), trial_y)
        trial = model.expand(trial_y, point.aux)
        slope = jnp.dot(point.gradient, trial_y - y)
        change, size = trial.value - point.value, jnp.abs(point.value) + jnp.abs(trial.value)
        decreased = (slope <= 0) & (change <= 1e-4 * slope + 8 * info.eps * size)
        optimality = optimality_of(trial, trial_y)
        quartered = (optimality <= 0.25 * state.best) & (change <= info.eps**0.5 * size)
        # Across a kink steps swing from side to side. What is on it lies between a part of the step
        # beyond which f still falls and one beyond which it rises: halve what is between them.
        beyond = jnp.dot(trial.gradient, trial_y - y)
        falls = (beyond < 0.75 * slope) & (state.tries > 0) & decreased
        rises = beyond > -0.25 * slope
        between = (slope < -16 * info.eps * size) & (falls | rises) & trial.finite
        between &= (state.tries < TRIES) & (state.shrink <= 1)
        accept = first | (trial.finite & (decreased | quartered) & ~between)
        lower = trial.finite & (change < -16 * info.eps * size)
        accept = jnp.where(looking, lower, accept)
        again = first & ~trial.finite & (state.inwards < 1)

        y = jnp.where(accept, trial_y, y)
        point = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, point)
        error = jnp.where(first, 1, state.length)
        step, convex = box.newton(model, y, point, state.step, error, accept)
        last = jnp.where(accept, state.step, state.last)
        length = box.length(y, step)
        blocked = box.blocked(y, point.gradient)
        small = jnp.all(
            solved(
                y, jnp.where(blocked, 0, step), last, point.gradient,
                model.rounding(y, point.value, point.hessian), model.sizes(point.hessian),
                resolution(y, *box), tol,
            )
        )  # fmt: skip
        flat = model.flat(point.hessian, ~blocked)
        unsure = small & jnp.any(flat) & point.finite
        looks = jnp.where(looking & ~accept, state.looks + 1, unsure.astype(jnp.int32))
        small &= ~unsure | (looks > 2)
        # Whole steps that do not shrink come from a pole, a flat piece or a root of higher order:
        # they are too short.
        slow = accept & ~first & (state.shrink >= 1)
        slow &= jnp.all(jnp.abs(step) >= 0.4 * jnp.abs(last))
        shrink = jnp.where(slow, jnp.minimum(4 * jnp.maximum(state.shrink, 1), 1e9), 1)
        tried = jnp.minimum(state.shrink, 4)
        short = jnp.where(between & falls, tried, state.short)
        long = jnp.where(between & falls, state.long, tried)
        share = jnp.where(between, 0.5, 0.25)
        shrink = jnp.where(accept, shrink, short + share * (long - short))
        # A trial that rounds to the point itself, or a point that is not a number: no way on.
        state = state.replace(step=step, shrink=shrink)
        still = jnp.all(box.clip(y + state.scaled(box.reach(y))) == y)
        stuck = ((still & ~small) | ~point.finite) & ~again & ~((looks == 1) | (looks == 2))
        return _State(
            y=y,
            point=point,
            step=step,
            last=last,
            shrink=shrink,
            short=jnp.where(accept, 0, short),
            long=jnp.where(accept, 0, long),
            tries=jnp.where(accept, 0, state.tries + 1),
            best=jnp.where(accept, jnp.minimum(optimality, state.best), state.best),
            length=length,
            steps=state.steps + jnp.where(first, 0, 1),
            first=again,
            looks=looks,
            flat=flat.astype(y.dtype),
            open=jnp.where(trial.finite, state.open, 1),
            inwards=jnp.where(state.inwards > 0, 10 * state.inwards, 1e-3),
            done=(small & point.finite) | stuck,
            converged=small & convex & point.finite,
        )

    infinite = jnp.full((), jnp.inf, y.dtype)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model.expand, y, aux)
    )
    # The first turn looks at the start: the model is then compiled once, not twice.
    state = _State(
        y=y,
        point=blank.replace(aux=aux),
        step=jnp.zeros_like(y),
        last=jnp.zeros_like(y),
        shrink=jnp.ones((), y.dtype),
        short=jnp.zeros((), y.dtype),
        long=jnp.zeros((), y.dtype),
        tries=jnp.zeros((), jnp.int32),
        best=infinite,
        length=infinite,
        steps=before,
        first=jnp.ones((), bool),
        looks=jnp.zeros((), jnp.int32),
        flat=jnp.zeros_like(y),
        open=jnp.zeros((), y.dtype),
        inwards=jnp.zeros((), y.dtype),
        done=jnp.zeros((), bool),
        converged=jnp.zeros((), bool),
    )
    go_on = lambda s: ~s.done & (s.first | (s.steps < cap))
    state = jax.lax.while_loop(go_on, body, state)
    y = jnp.where(state.converged, box.clip(state.y + state.step), state.y)
    last = jnp.where(state.converged, state.step, state.last)
    return _Found(y, state.point.aux, last, state.steps, state.converged)
