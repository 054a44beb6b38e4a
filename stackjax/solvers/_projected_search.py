"""Accelerated projected gradients on a convex set, finished by Newton steps on a face of it.

Minimise `f` over a set with a Euclidean projection. `y` is a minimum (of a convex `f`) if and only
if, at any rate `t > 0`,

    y = project(z),     z = y - t grad f(y).

Gradient steps look for the face of the set that the minimum lies on; they need not get close. With
`P` the derivative of the projection at `z`, symmetric with eigenvalues in [0, 1], and `H` that of
the gradient, the fixed point's Jacobian is `J = I - P (I - t H)`. On a flat face `P` projects onto
its directions; on a sphere it also shrinks them, which is the sphere's curvature. Both

    J x = b:       x = b + P w,                S w = P (b - t H b),
    J' x = b:      x = b + P w - t H P w,      S w = P b,          S = P - P^2 + t P H P,

take one solve with the symmetric `S`, positive definite on the face at a strict minimum:
conjugate gradients. Newton steps and derivatives are made of these.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from stackjax.solvers._conjugate import Product, conjugate, least_ritz, signs, solver
from stackjax.solvers._judge import SHRINK
from stackjax.solvers._quality import Quality
from stackjax.solvers._settings import tolerance

if TYPE_CHECKING:
    from stackjax.solvers._projected_gradient import ProjectedGradient

Function = Callable[[jax.Array], jax.Array]


class Face(NamedTuple):
    """The fixed point to first order, at one point. All are numbers, linear in their argument.

    Attributes:
      image: `[d]` project(z).
      slope: `[d]` grad f.
      bend: `v -> H v`.
      tangent: `v -> P v`.
      reduced: `v -> S v`.
      rate: scalar t.
    """

    image: jax.Array
    slope: jax.Array
    bend: Product
    tangent: Product
    reduced: Product
    rate: jax.Array

    def solve(self, b: jax.Array) -> jax.Array:
        """`J^-1 b`, to be differentiated in `b` only."""
        w = solver(self.reduced, jnp.ones_like(b))(self._right(b))
        return b + self.tangent(w)

    def transpose_solve(self, b: jax.Array) -> jax.Array:
        """`J'^-1 b`, likewise."""
        w = self.tangent(solver(self.reduced, jnp.ones_like(b))(self.tangent(b)))
        return b + w - self.rate * self.bend(w)

    def newton(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The step from `y` to where the fixed point is by first order, and whether S is convex."""
        b = self.image - y
        eps = float(jnp.finfo(y.dtype).eps)
        w, convex = conjugate(self.reduced, self._right(b), jnp.ones_like(b), forcing=eps**0.75)
        return b + self.tangent(w), convex

    def _right(self, b: jax.Array) -> jax.Array:
        return self.tangent(b - self.rate * self.bend(b))


def face_at(
    gradient: Function, project: Function, y: jax.Array, rate: jax.Array, valid: jax.Array | bool
) -> Face:
    """The `Face` at `y`; unless `valid`, its operators are 0."""
    slope, bend = jax.linearize(gradient, y)
    image, tangent = jax.linearize(project, y - rate * slope)
    bend_ = lambda v: jnp.where(valid, bend(v), 0)
    tangent_ = lambda v: jnp.where(valid, tangent(v), 0)

    def reduced(v: jax.Array) -> jax.Array:
        u = tangent_(v)
        return tangent_(v - u + rate * bend_(u))

    return Face(image, slope, bend_, tangent_, reduced, rate)


class Descent(struct.PyTreeNode):
    """Where the search ended. All arrays are floating point, flags too.

    Attributes:
      y: `[d]` the last point.
      rate: scalar, the rate of the last gradient step.
      finite: scalar, 1 if the derivatives of `f` are numbers at `y`, else 0.
      quality: how good it is. Its curvature is an estimate from above, the least Ritz value of
        `S`, relative to the largest of `P`; its degeneracy is left at `inf`.
    """

    y: jax.Array
    rate: jax.Array
    finite: jax.Array
    quality: Quality


class _Search(struct.PyTreeNode):
    y: jax.Array
    value: jax.Array
    ahead: jax.Array  # y and what is left of its momentum
    momentum: jax.Array
    rate: jax.Array
    steps: jax.Array
    goal: jax.Array  # the length of a gradient step at which the search pauses
    done: jax.Array


class _Polish(struct.PyTreeNode):
    y: jax.Array
    step: jax.Array
    length: jax.Array
    steps: jax.Array
    convex: jax.Array
    done: jax.Array
    small: jax.Array


class _Round(struct.PyTreeNode):
    search: _Search
    last: _Polish
    done: jax.Array


def descend(
    objective: Function,
    project: Function,
    y: jax.Array,
    width: jax.Array,
    s: "ProjectedGradient",
) -> Descent:
    """Minimises `objective` over the set that `project` projects onto, from `y`, projected.

    Args:
      objective: `[d] -> scalar`.
      project: `[d] -> [d]`.
      y: `[d]` the start.
      width: `[d]` of the set, in each coordinate; may be inf.
      s: settings.
    """
    info = jnp.finfo(y.dtype)
    eps, tiny, tol = float(info.eps), float(info.tiny), tolerance(s, y.dtype)
    expand, gradient = jax.value_and_grad(objective), jax.grad(objective)
    norm = lambda v: jnp.sqrt(jnp.sum(v**2))

    def length_of(y: jax.Array, step: jax.Array, natural: jax.Array) -> jax.Array:
        # All coordinates have one unit here; at the origin it is how far f has its own size.
        unit = jnp.maximum(jnp.max(jnp.abs(y)), natural)
        return jnp.max(jnp.abs(step) / jnp.maximum(jnp.minimum(unit, width), tiny))

    def number(value: jax.Array, slope: jax.Array) -> jax.Array:
        return jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))

    def advance(state: _Search) -> _Search:
        y, ahead, rate = state.y, state.ahead, state.rate
        value_ahead, slope_ahead = expand(ahead)
        sound = number(value_ahead, slope_ahead)
        new = project(ahead - rate * jnp.where(sound, slope_ahead, 0))
        value, slope = expand(new)
        moved, turned = new - ahead, slope - slope_ahead
        bend, squared = jnp.sum(moved * turned), jnp.sum(moved**2)
        noise = 16 * eps * (norm(slope) + norm(slope_ahead)) * jnp.sqrt(squared)
        # Differences of f drown in rounding near the optimum, those of its gradient do not.
        steep = ~number(value, slope) | (rate * (bend - noise) > 1.001 * squared)
        worse = value - state.value > 8 * eps * (jnp.abs(value) + jnp.abs(state.value))
        plain = state.momentum == 1
        accept = sound & ~steep & ~worse
        fits = 0.9 * squared / jnp.maximum(bend, tiny)
        shorter = jnp.where(bend > 0, jnp.clip(fits, rate / 10, rate / 2), rate / 4)
        shorter = jnp.where(jnp.isfinite(shorter), shorter, rate / 4)
        turning = jnp.sum((ahead - new) * (new - y)) > 0
        momentum = jnp.where(turning, 1, (1 + jnp.sqrt(1 + 4 * state.momentum**2)) / 2)
        further = jnp.where(turning, 0, (state.momentum - 1) / momentum)
        shrink = sound & (steep | (worse & plain))
        restart = ~accept & ~(sound & steep)
        longer = jnp.where(rate * bend <= 0.8 * squared, 1.05 * rate, rate)
        # Projected, because the utility need not be defined outside of the set.
        onward = project(new + further * (new - y))
        natural = jnp.sqrt(jnp.abs(value) * rate)
        pause = length_of(new, project(new - rate * slope) - new, natural) <= state.goal
        return _Search(
            y=jnp.where(accept, new, y),
            value=jnp.where(accept, value, state.value),
            ahead=jnp.where(accept, onward, jnp.where(restart, y, ahead)),
            momentum=jnp.where(accept, momentum, jnp.where(restart, 1, state.momentum)),
            rate=jnp.where(shrink, shorter, jnp.where(accept, longer, rate)),
            steps=state.steps + 1,
            goal=state.goal,
            # A rate this small no longer moves the point.
            done=(accept & pause) | (rate * norm(slope_ahead) <= eps * tiny),
        )

    def face_step(y: jax.Array, rate: jax.Array) -> tuple[jax.Array, ...]:
        """The Newton step on the face, its length, whether f is convex there, and exact there."""
        face = face_at(gradient, project, y, rate, True)
        step, convex = face.newton(y)
        length = length_of(y, step, jnp.sqrt(jnp.abs(objective(y)) * rate))
        size = jnp.max(jnp.abs(y)) + rate * jnp.max(jnp.abs(face.slope))
        exact = jnp.max(jnp.abs(face.image - y)) <= 8 * eps * size
        return step, jnp.where(jnp.isfinite(length), length, jnp.inf), convex, exact

    def unpolished(y: jax.Array) -> _Polish:
        none = jnp.zeros((), bool)
        return _Polish(
            y=y,
            step=jnp.zeros_like(y),
            length=jnp.full((), jnp.inf, y.dtype),
            steps=jnp.zeros((), jnp.int32),
            convex=none,
            done=none,
            small=none,
        )

    def polish(y: jax.Array, rate: jax.Array) -> _Polish:
        """Newton steps, as long as they shrink; the first trial is `y` itself."""

        def body(state: _Polish) -> _Polish:
            trial = project(state.y + state.step)
            step, length, convex, exact = face_step(trial, rate)
            accept = length < 0.9 * state.length
            # One small step proves nothing (see _judge.py), unless it is all rounding.
            small = (length <= tol) & (length <= SHRINK * state.length)
            small |= exact & (length <= eps**0.5)
            small &= jnp.isfinite(state.length) | exact
            accept |= small
            length = jnp.where(accept, length, state.length)
            return _Polish(
                y=jnp.where(accept, trial, state.y),
                step=jnp.where(accept, step, state.step),
                length=length,
                steps=state.steps + 1,
                convex=jnp.where(accept, convex, state.convex),
                done=~accept | small,
                small=small,
            )

        return lax.while_loop(lambda s_: ~s_.done & (s_.steps < 7), body, unpolished(y))

    def round_(state: _Round) -> _Round:
        search = lax.while_loop(
            lambda s_: ~s_.done & (s_.steps < s.max_steps), advance, state.search
        )
        last = polish(search.y, search.rate)
        # Newton's method also likes saddles: only a point that is no worse counts.
        value = objective(last.y)
        change = value - search.value
        good = last.convex & (change <= eps**0.5 * (jnp.abs(value) + jnp.abs(search.value)))
        last = last.replace(small=last.small & good)
        goal = search.goal / 10
        return _Round(
            search=search.replace(goal=goal, done=jnp.zeros((), bool)),
            last=last,
            done=last.small | (goal <= eps) | (search.steps >= s.max_steps),
        )

    y = project(jnp.where(jnp.isfinite(y), y, 0))
    value, slope = expand(y)
    bend = norm(jax.jvp(gradient, (y,), (slope,))[1]) / jnp.maximum(norm(slope), tiny)
    # Where f is linear the first step is as long as the point itself.
    size = jnp.maximum(jnp.max(jnp.abs(y)), jnp.max(jnp.where(jnp.isfinite(width), width, 0)))
    bend = jnp.maximum(bend, 0.1 * jnp.max(jnp.abs(slope)) / jnp.where(size > 0, size, 1))
    finite = number(value, slope) & jnp.isfinite(bend)
    rate = jnp.where(finite, 1 / jnp.maximum(bend, 1e6 * tiny), 1)
    search = _Search(
        y=y, value=value, ahead=y, momentum=jnp.ones((), y.dtype), rate=rate,
        steps=jnp.zeros((), jnp.int32), goal=jnp.full((), tol**0.5, y.dtype),
        done=jnp.zeros((), bool),
    )  # fmt: skip
    end = lax.while_loop(lambda s_: ~s_.done, round_, _Round(search, unpolished(y), ~finite))

    found, search = end.last, end.search
    last = jnp.where(found.small, project(found.y + found.step), search.y)
    face = face_at(gradient, project, last, search.rate, True)
    finite = finite & jnp.all(jnp.isfinite(face.slope)) & jnp.all(jnp.isfinite(last))
    start = face.tangent(signs(1, y)[0])
    # By how much P shrinks: 1 on a flat face.
    shrink = norm(face.tangent(start)) / jnp.where(norm(start) > 0, norm(start), 1)
    shrink = jnp.where(shrink > 0, shrink, 1)
    curvature = least_ritz(lambda v: face.reduced(v) / shrink, start, face.tangent)
    number_ = lambda x: x.astype(y.dtype)
    quality = Quality(
        residual=jnp.where(finite, found.length, jnp.inf),
        steps=number_(search.steps),
        converged=number_(found.small & finite & (curvature >= -(eps**0.5))),
        degeneracy=jnp.full((), jnp.inf, y.dtype),
        curvature=jnp.where(finite, curvature, 0),
    )
    # One gradient step more changes nothing but rounding: what the face holds is held exactly.
    last = jnp.where(found.small, face.image, last)
    return Descent(jnp.where(finite, last, y), search.rate, number_(finite), quality)
