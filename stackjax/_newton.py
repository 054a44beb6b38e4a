"""Projected Newton on a box, one loop that every transform can batch.

Notation: minimise `f = -utility` over `lower <= y <= upper`, `y` a vector of `d` numbers.

Each iteration takes a Newton step on the free coordinates (Bertsekas 1982, 'Projected Newton
methods for optimization problems with simple constraints') and is accepted if it decreases `f`
(Armijo along the projection arc), or halves the smallest optimality residual yet at next to no
cost in `f`; otherwise a quarter of the step is tried from the same point. The second test is there
for float32, where differences of `f` drown in rounding near the optimum; it passes finitely often,
so it does not cost convergence. Where the Hessian is not positive definite its pivots are made
positive, which keeps the step a descent.

What is done with the Hessian is a `Model`: `dense` here, or matrix-free in `_newton_cg`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._linear import UNROLLED, Factor, factorise, restrict
from stackjax._quality import Quality
from stackjax._settings import Newton, tolerance

PyTree = Any


class Point(struct.PyTreeNode):
    """`f` to second order at one point.

    Attributes:
      value: scalar `f`.
      gradient: `[d]`.
      hessian: `[d, d]`; in a matrix-free model `[d]`, the sizes of its rows.
      aux: what the objective hands on to its next evaluation (a warm start).
    """

    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    aux: PyTree

    @property
    def finite(self) -> jax.Array:
        """Whether all derivatives are numbers; a scalar bool."""
        every = [jnp.all(jnp.isfinite(x)) for x in (self.value, self.gradient, self.hessian)]
        return every[0] & every[1] & every[2]


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


class _State(struct.PyTreeNode):
    y: jax.Array
    point: Point
    step: jax.Array  # the Newton step from y
    shrink: jax.Array  # the part of it to try next
    best: jax.Array  # smallest optimality residual yet
    residual: jax.Array
    steps: jax.Array
    done: jax.Array
    converged: jax.Array


class Model(NamedTuple):
    """How a Hessian is held and used. All functions are pure; `free` is `[d]` bool.

    Attributes:
      expand: `(y, aux) -> Point`.
      sizes: `Point.hessian -> [d]`, how strongly each coordinate is curved.
      step: `(y, point, free, last, error, fresh) -> (step, convex)`, the Newton step on the free
        coordinates and whether the curvature is that of a minimum. `last` is the step before,
        `error` its length, and unless `fresh` it started from the same point.
      product: `(y, hessian, aux) -> (v -> H v)`.
      finish: `(hessian, free, product) -> (factor, curvature)`, for the report.
    """

    expand: Callable
    sizes: Callable
    step: Callable
    product: Callable
    finish: Callable


def linearise(objective: Callable, y: jax.Array, aux: PyTree) -> tuple[jax.Array, Callable, tuple]:
    """The gradient of `objective(y, aux) -> (value, aux)`, `v -> H v`, and what it returned."""

    def gradient(y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
        (value, new_aux), slope = jax.value_and_grad(objective, has_aux=True)(y, aux)
        return slope, (value, new_aux)

    return jax.linearize(gradient, y, has_aux=True)


def dense(objective: Callable) -> Model:
    """The `Model` that forms the Hessian and factorises it."""

    def expand(y: jax.Array, aux: PyTree) -> Point:
        # One linearisation, then d pushforwards: the gradient is evaluated once.
        slope, push, (value, new_aux) = linearise(objective, y, aux)
        units = jnp.eye(len(y), dtype=y.dtype)
        small = len(y) <= UNROLLED
        hessian = jnp.stack([push(e) for e in units]) if small else jax.vmap(push)(units)
        return Point(value, slope, (hessian + hessian.T) / 2, new_aux)

    def step(y: jax.Array, point: Point, free: jax.Array, *_: Any) -> tuple[jax.Array, jax.Array]:
        factor = factorise(restrict(point.hessian, free))
        return -factor.descend(jnp.where(free, point.gradient, 0)), factor.semidefinite

    def product(y: jax.Array, hessian: jax.Array, aux: PyTree) -> Callable:
        return lambda v: hessian @ v

    def finish(hessian: jax.Array, free: jax.Array, product: Callable) -> tuple[Factor, jax.Array]:
        factor = factorise(restrict(hessian, free))
        return factor, jnp.min(jnp.where(free, factor.pivots, 1))

    return Model(expand, lambda hessian: jnp.abs(jnp.diagonal(hessian)), step, product, finish)


def minimise(
    model: Model, y: jax.Array, lower: jax.Array, upper: jax.Array, aux: PyTree, s: Newton
) -> Minimum:
    """Minimises what `model` expands over a box, from `y` clipped into it."""
    info = jnp.finfo(y.dtype)
    tol = tolerance(s, y.dtype)
    noise_tol, tiny = max(tol, float(info.eps) ** 0.5), float(info.tiny)
    y = jnp.clip(jnp.where(jnp.isfinite(y), y, 0), lower, upper)

    def projected(y: jax.Array, step: jax.Array) -> jax.Array:
        """What is left of a step inside the box; exact for steps far below the spacing of y."""
        return jnp.clip(step, lower - y, upper - y)

    def length_of(y: jax.Array, step: jax.Array) -> jax.Array:
        unit = jnp.maximum(jnp.minimum(1 + jnp.abs(y), upper - lower), tiny)
        return jnp.max(jnp.abs(projected(y, step)) / unit)

    def optimality_of(y: jax.Array, gradient: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(projected(y, -gradient)))

    def plan(
        y: jax.Array, point: Point, last: jax.Array, error: jax.Array, fresh: jax.Array | bool
    ) -> tuple[jax.Array, jax.Array]:
        """The Newton step from `y`, and whether the curvature is that of a minimum."""
        alone = -point.gradient / jnp.maximum(model.sizes(point.hessian), 1e6 * tiny)
        # Coordinates about to hit their bound move on their own, which keeps the step a descent.
        near = jnp.minimum(jnp.max(jnp.abs(projected(y, alone))), 1e-3)
        free = ~blocked(y, point.gradient, lower, upper, near)
        together, convex = model.step(y, point, free, last, error, fresh)
        return jnp.where(free, together, alone), convex

    def body(state: _State) -> _State:
        y, point = state.y, state.point
        # Without curvature a Newton step knows no length: no further than the box is wide, or,
        # where it is open, than ten times the way from the origin.
        width = jnp.where(jnp.isfinite(upper - lower), upper - lower, 0)
        reach = jnp.maximum(width, 10 * (1 + jnp.abs(y)))
        trial_y = jnp.clip(y + state.shrink * jnp.clip(state.step, -reach, reach), lower, upper)
        trial = model.expand(trial_y, point.aux)
        slope = jnp.dot(point.gradient, trial_y - y)
        change, size = trial.value - point.value, jnp.abs(point.value) + jnp.abs(trial.value)
        decreased = (slope <= 0) & (change <= 1e-4 * slope + 8 * info.eps * size)
        optimality = optimality_of(trial_y, trial.gradient)
        halved = (optimality <= 0.5 * state.best) & (change <= info.eps**0.5 * size)
        accept = trial.finite & (decreased | halved)

        y = jnp.where(accept, trial_y, y)
        point = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, point)
        step, convex = plan(y, point, state.step, state.residual, accept)
        length = length_of(y, step)
        # At the rounding floor full steps stop shrinking: small enough is all there is to get.
        stalled = accept & (state.shrink == 1) & (length >= 0.9 * state.residual)
        done = (length <= tol) | (stalled & (length <= noise_tol))
        return _State(
            y=y,
            point=point,
            step=step,
            shrink=jnp.where(accept, 1, state.shrink / 4),
            best=jnp.where(accept, jnp.minimum(optimality, state.best), state.best),
            residual=length,
            steps=state.steps + 1,
            done=done,
            converged=done & convex & point.finite,
        )

    point = model.expand(y, aux)
    step, convex = plan(y, point, jnp.zeros_like(y), jnp.ones((), y.dtype), True)
    length = length_of(y, step)
    done = length <= tol
    state = _State(
        y=y,
        point=point,
        step=step,
        shrink=jnp.ones((), y.dtype),
        best=optimality_of(y, point.gradient),
        residual=length,
        steps=jnp.zeros((), jnp.int32),
        done=done | ~point.finite,
        converged=done & convex & point.finite,
    )
    # The flag is computed in the body and only read here. A floating-point comparison in the
    # condition would be compiled twice under vmap, may round differently, and can then loop
    # for ever.
    state = jax.lax.while_loop(lambda s_: ~s_.done & (s_.steps < s.max_steps), body, state)

    last = jnp.where(state.converged, jnp.clip(state.y + state.step, lower, upper), state.y)
    point, finite = state.point, state.point.finite
    hessian = jnp.where(finite, point.hessian, 0)
    product = model.product(state.y, hessian, point.aux)
    slope = point.gradient + product(last - state.y)
    free = ~blocked(last, slope, lower, upper, 0.0) & finite
    factor, curvature = model.finish(hessian, free, product)
    margin = jnp.where(free, jnp.minimum(last - lower, upper - last), jnp.abs(slope))
    quality = Quality(
        residual=jnp.where(finite, state.residual, jnp.inf),
        steps=state.steps.astype(y.dtype),
        converged=(state.converged & (curvature >= -(info.eps**0.5))).astype(y.dtype),
        degeneracy=jnp.min(jnp.where((lower == upper) | ~finite, jnp.inf, margin)),
        curvature=curvature,
    )
    return Minimum(
        y=last,
        aux=point.aux,
        free=free.astype(y.dtype),
        hessian=hessian,
        factor=factor,
        quality=quality,
        finite=finite.astype(y.dtype),
    )


def blocked(
    y: jax.Array,
    gradient: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    near: jax.Array | float,
) -> jax.Array:
    """`[d]` whether a coordinate lies at (within `near` of) a bound and is pushed against it."""
    against = ((y <= lower + near) & (gradient > 0)) | ((y >= upper - near) & (gradient < 0))
    return against | (lower == upper)
