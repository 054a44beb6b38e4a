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
passes finitely often, so it does not cost convergence. Where the Hessian is not positive definite
its pivots are made positive, which keeps the step a descent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._components import kept
from stackjax._linear import Factor
from stackjax._quality import Quality
from stackjax._second_order import Model, Point
from stackjax._settings import Newton, tolerance

PyTree = Any

# Full steps tried before safeguards: twice what concave utilities usually need.
FULL_STEPS = 15


class Bounds(NamedTuple):
    """The box, and lengths in it.

    Attributes:
      lower: `[d]`.
      upper: `[d]`.
    """

    lower: jax.Array
    upper: jax.Array

    def clip(self, y: jax.Array) -> jax.Array:
        """The nearest point of the box."""
        return jnp.clip(y, self.lower, self.upper)

    def within(self, y: jax.Array, step: jax.Array) -> jax.Array:
        """What is left of a step inside the box; exact for steps far below the spacing of y."""
        return jnp.clip(step, self.lower - y, self.upper - y)

    def length(self, y: jax.Array, step: jax.Array) -> jax.Array:
        """The largest coordinate of a step from `y`, as `Quality.residual` measures it."""
        return jnp.max(jnp.abs(self.within(y, step)) / self.unit(y))

    def unit(self, y: jax.Array) -> jax.Array:
        """`[d]` what each coordinate of a step from `y` is measured in."""
        tiny = float(jnp.finfo(y.dtype).tiny)
        return jnp.maximum(jnp.minimum(1 + jnp.abs(y), self.upper - self.lower), tiny)

    def blocked(
        self, y: jax.Array, gradient: jax.Array, near: jax.Array | float = 0.0
    ) -> jax.Array:
        """`[d]` whether a coordinate is at (or `near`) a bound and is pushed against it."""
        at_lower = (y <= self.lower + near) & (gradient > 0)
        at_upper = (y >= self.upper - near) & (gradient < 0)
        return at_lower | at_upper | (self.lower == self.upper)

    def newton(
        self,
        model: Model,
        y: jax.Array,
        point: Point,
        last: jax.Array,
        error: jax.Array,
        fresh: jax.Array | bool = True,
    ) -> tuple[jax.Array, jax.Array]:
        """The Newton step from `y`, and whether the curvature is that of a minimum."""
        tiny = float(jnp.finfo(y.dtype).tiny)
        alone = -point.gradient / jnp.maximum(model.sizes(point.hessian), 1e6 * tiny)
        # Coordinates about to hit their bound move on their own, which keeps the step a descent.
        near = jnp.minimum(jnp.max(jnp.abs(self.within(y, alone))), 1e-3)
        free = ~self.blocked(y, point.gradient, near)
        together, convex = model.step(y, point, free, last, error, fresh)
        return jnp.where(free, together, alone), convex


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
    """Where a search ended: the step to `y` was small enough, if `converged`."""

    y: jax.Array
    aux: PyTree
    error: jax.Array
    steps: jax.Array
    converged: jax.Array


def minimise(
    model: Model,
    y: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    aux: PyTree,
    s: Newton,
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
        steps = jnp.zeros((), jnp.int32)
        return _report(model, box, _safeguarded(model, box, y, aux, tol, s.max_steps, steps))
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
    return _report(model, box, found)


def _full_steps(
    model: Model, box: Bounds, y: jax.Array, aux: PyTree, tol: float, cap: int
) -> tuple[_Found, jax.Array]:
    """Newton steps without any test but that each is one towards a minimum.

    Returns where they ended, and whether a search may go on from there. As little as possible is
    computed and carried: in a batch each number is a kernel.
    """
    sizes = None if model.exact else model.expand(y, aux).hessian

    def body(state: tuple) -> tuple:
        y, aux, error, steps, _ = state
        step, convex, aux = model.full_step(y, aux, box.blocked, sizes, error)
        step = box.within(y, step)
        size, unit = jnp.abs(step), box.unit(y)
        error = error if model.exact else jnp.max(size / unit)
        # not a number: not smaller either
        lost = ~convex | ~(jnp.sum(size) < jnp.inf)
        small = jnp.all(size <= tol * unit)
        done = jnp.where(lost, 2, small.astype(jnp.int32))
        return y + step, aux, error, steps + 1, done

    zero = jnp.zeros((), jnp.int32)
    # The flag is computed in the body and only read here. A floating-point comparison in the
    # condition would be compiled twice under vmap, may round differently, and can then loop
    # for ever.
    end = jax.lax.while_loop(
        lambda state: (state[4] == 0) & (state[3] < cap),
        body,
        (y, aux, jnp.ones((), y.dtype), zero, zero),
    )
    begun, ended = model.value(y, aux), model.value(*end[:2])
    slack = 8 * float(jnp.finfo(y.dtype).eps) * (jnp.abs(begun) + jnp.abs(ended))
    no_worse = (ended - begun <= slack) & jnp.isfinite(ended)
    return _Found(*end[:4], no_worse & (end[4] == 1)), no_worse & (end[4] != 2)


def _report(model: Model, box: Bounds, found: _Found) -> Minimum:
    (lower, upper), y = box, found.y
    point = model.expand(y, found.aux)
    finite, eps = point.finite, float(jnp.finfo(y.dtype).eps)
    hessian = jnp.where(finite, point.hessian, 0)
    free = ~box.blocked(y, point.gradient) & finite
    product = model.product(y, hessian, point.aux)
    factor, curvature = model.finish(hessian, free, product)
    error = found.error
    if factor is not None:
        step = -factor.descend(jnp.where(free, point.gradient, 0))
        error = box.length(y, jnp.where(free, step, 0))
    margin = jnp.where(free, jnp.minimum(y - lower, upper - y), jnp.abs(point.gradient))
    quality = Quality(
        residual=jnp.where(finite, error, jnp.inf),
        steps=found.steps.astype(y.dtype),
        converged=(found.converged & finite & (curvature >= -(eps**0.5))).astype(y.dtype),
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
    shrink: jax.Array  # the part of it to try next
    best: jax.Array  # smallest optimality residual yet
    residual: jax.Array
    steps: jax.Array
    first: jax.Array
    done: jax.Array
    converged: jax.Array


def _safeguarded(
    model: Model, box: Bounds, y: jax.Array, aux: PyTree, tol: float, cap: int, before: jax.Array
) -> _Found:
    """Newton steps, each accepted or shortened; `before` are steps to be counted too."""
    info, (lower, upper) = jnp.finfo(y.dtype), box
    noise_tol = max(tol, float(info.eps) ** 0.5)
    optimality_of = lambda y, gradient: jnp.max(jnp.abs(box.within(y, -gradient)))

    def body(state: _State) -> _State:
        y, point, first = state.y, state.point, state.first
        # Without curvature a Newton step knows no length: no further than the box is wide, or,
        # where it is open, than ten times the way from the origin.
        width = jnp.where(jnp.isfinite(upper - lower), upper - lower, 0)
        reach = jnp.maximum(width, 10 * (1 + jnp.abs(y)))
        trial_y = box.clip(y + state.shrink * jnp.clip(state.step, -reach, reach))
        trial = model.expand(trial_y, point.aux)
        slope = jnp.dot(point.gradient, trial_y - y)
        change, size = trial.value - point.value, jnp.abs(point.value) + jnp.abs(trial.value)
        decreased = (slope <= 0) & (change <= 1e-4 * slope + 8 * info.eps * size)
        optimality = optimality_of(trial_y, trial.gradient)
        halved = (optimality <= 0.5 * state.best) & (change <= info.eps**0.5 * size)
        accept = first | (trial.finite & (decreased | halved))

        y = jnp.where(accept, trial_y, y)
        point = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, point)
        error = jnp.where(first, 1, state.residual)
        step, convex = box.newton(model, y, point, state.step, error, accept)
        length = box.length(y, step)
        # At the rounding floor full steps stop shrinking: small enough is all there is to get.
        stalled = accept & (state.shrink == 1) & (length >= 0.9 * state.residual)
        small = (length <= tol) | (stalled & (length <= noise_tol))
        shrink = jnp.where(accept, 1, state.shrink / 4)
        # A trial that rounds to the point itself, or a point that is not a number: no way on.
        stuck = (shrink * length <= info.eps) | ~point.finite
        return _State(
            y=y,
            point=point,
            step=step,
            shrink=shrink,
            best=jnp.where(accept, jnp.minimum(optimality, state.best), state.best),
            residual=length,
            steps=state.steps + jnp.where(first, 0, 1),
            first=jnp.zeros((), bool),
            done=small | stuck,
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
        shrink=jnp.ones((), y.dtype),
        best=infinite,
        residual=infinite,
        steps=before,
        first=jnp.ones((), bool),
        done=jnp.zeros((), bool),
        converged=jnp.zeros((), bool),
    )
    go_on = lambda s: ~s.done & (s.first | (s.steps < cap))
    state = jax.lax.while_loop(go_on, body, state)
    y = jnp.where(state.converged, box.clip(state.y + state.step), state.y)
    return _Found(y, state.point.aux, state.residual, state.steps, state.converged)
