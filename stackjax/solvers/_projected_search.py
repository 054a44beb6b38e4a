"""Accelerated projected gradients on a convex set, finished by Newton steps on a face of it.

Minimise `f` over a set with a Euclidean projection. Gradient steps look for the face of the set
that the minimum lies on; they need not get close. They pause where they are short, Newton steps on
the face (`_face.py`) try to finish, and where these do not shrink to a minimum the search goes on
until its steps are shorter by a factor.

Source: Beck and Teboulle, SIAM Journal on Imaging Sciences 2(1), 2009 (the momentum); O'Donoghue
and Candes, Foundations of Computational Mathematics 15, 2015 (its restart).
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from stackjax.solvers._conjugate import least_ritz, signs
from stackjax.solvers._face import Function, face_at
from stackjax.solvers._judge import SHRINK
from stackjax.solvers._settings import tolerance
from stackjax.solvers._solver import Quality

if TYPE_CHECKING:
    from stackjax.solvers._projected_gradient import ProjectedGradient

# A rate above this many times what curvature suggests was not learned from it.
_FAR_TOO_LONG = 100
# By how much f may bend along a step, relative to the rate that the step was made for: beyond the
# first number the rate is too long; up to the second it is raised by the third.
_TOO_BENT, _STRAIGHT, _LONGER = 1.001, 0.8, 1.05
# A rate that is too long becomes this part of the longest that would have done.
_FITTING = 0.9
# But it is divided by no more than the first number and no less than the second; by the third
# where nothing is known.
_SHORTEST, _SHORTER, _UNKNOWN = 10, 2, 4
# Differences below these many units of rounding count as none: of slopes, of f and of y.
_SLOPE_NOISE, _NOISE = 16, 8
# The first step, where f is linear, in parts of the point's or the set's size.
_LINEAR = 0.1
# Gradient steps pause where they are short; the next time, where they are this much shorter.
_CLOSER = 10
# Newton steps at most, each shorter than this part of the one before.
_NEWTON_STEPS, _SHRINKING = 7, 0.9


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


class _Problem(NamedTuple):
    """What is minimised, over what.

    Attributes:
      objective: `[d] -> scalar`.
      project: `[d] -> [d]`.
      width: `[d]` of the set, in each coordinate; may be inf.
      tol: the Newton step at which to stop.
    """

    objective: Function
    project: Function
    width: jax.Array
    tol: float

    def expand(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """F and its gradient."""
        return jax.value_and_grad(self.objective)(y)

    def gradient(self, y: jax.Array) -> jax.Array:
        """`[d]`."""
        return jax.grad(self.objective)(y)

    def length(self, y: jax.Array, step: jax.Array, natural: jax.Array) -> jax.Array:
        """Of a step from `y`, relative to the point, or to `natural` if that is larger."""
        # All coordinates have one unit here; at the origin it is how far f has its own size.
        unit = jnp.maximum(jnp.max(jnp.abs(y)), natural)
        unit = jnp.maximum(jnp.minimum(unit, self.width), float(jnp.finfo(y.dtype).tiny))
        return jnp.max(jnp.abs(step) / unit)


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
    problem = _Problem(objective, project, width, tolerance(s, y.dtype))
    y = project(jnp.where(jnp.isfinite(y), y, 0))
    search, finite = _begin(problem, y)
    end = lax.while_loop(
        lambda s_: ~s_.done,
        lambda s_: _round(problem, s.max_steps, s_),
        _Round(search, _unpolished(y), ~finite),
    )
    return _report(problem, y, finite, end)


def _begin(problem: _Problem, y: jax.Array) -> tuple[_Search, jax.Array]:
    """The first state, and whether the derivatives are numbers there."""
    tiny = float(jnp.finfo(y.dtype).tiny)
    value, slope = problem.expand(y)
    bend = _norm(jax.jvp(problem.gradient, (y,), (slope,))[1]) / jnp.maximum(_norm(slope), tiny)
    # Where f is linear the first step is as long as the point itself.
    width = problem.width
    size = jnp.maximum(jnp.max(jnp.abs(y)), jnp.max(jnp.where(jnp.isfinite(width), width, 0)))
    bend = jnp.maximum(bend, _LINEAR * jnp.max(jnp.abs(slope)) / jnp.where(size > 0, size, 1))
    finite = _number(value, slope) & jnp.isfinite(bend)
    rate = jnp.where(finite, 1 / jnp.maximum(bend, 1e6 * tiny), 1)
    search = _Search(
        y=y, value=value, ahead=y, momentum=jnp.ones((), y.dtype), rate=rate,
        steps=jnp.zeros((), jnp.int32), goal=jnp.full((), problem.tol**0.5, y.dtype),
        done=jnp.zeros((), bool),
    )  # fmt: skip
    return search, finite


def _round(problem: _Problem, max_steps: int, state: _Round) -> _Round:
    """Gradient steps until they are as short as the goal, then Newton steps."""
    search = lax.while_loop(
        lambda s: ~s.done & (s.steps < max_steps), lambda s: _advance(problem, s), state.search
    )
    eps = float(jnp.finfo(search.y.dtype).eps)
    last = _polish(problem, search.y, search.rate)
    # Newton's method also likes saddles: only a point that is no worse counts.
    value = problem.objective(last.y)
    change = value - search.value
    good = last.convex & (change <= eps**0.5 * (jnp.abs(value) + jnp.abs(search.value)))
    last = last.replace(small=last.small & good)
    goal = search.goal / _CLOSER
    return _Round(
        search=search.replace(goal=goal, done=jnp.zeros((), bool)),
        last=last,
        done=last.small | (goal <= eps) | (search.steps >= max_steps),
    )


class _Step(NamedTuple):
    """A gradient step from a point `ahead`."""

    y: jax.Array  # [d] where it ends
    value: jax.Array
    slope: jax.Array  # [d]
    slope_ahead: jax.Array  # [d] where it begins
    squared: jax.Array  # its length
    bend: jax.Array  # what the slope along it changes by, times its length
    sound: jax.Array  # whether f and its gradient are numbers where it begins
    steep: jax.Array  # whether the rate is too long


def _gradient_step(problem: _Problem, ahead: jax.Array, rate: jax.Array) -> _Step:
    value_ahead, slope_ahead = problem.expand(ahead)
    sound = _number(value_ahead, slope_ahead)
    new = problem.project(ahead - rate * jnp.where(sound, slope_ahead, 0))
    value, slope = problem.expand(new)
    moved, turned = new - ahead, slope - slope_ahead
    bend, squared = jnp.sum(moved * turned), jnp.sum(moved**2)
    eps = float(jnp.finfo(ahead.dtype).eps)
    noise = _SLOPE_NOISE * eps * (_norm(slope) + _norm(slope_ahead)) * jnp.sqrt(squared)
    # Differences of f drown in rounding near the optimum, those of its gradient do not.
    steep = ~_number(value, slope) | (rate * (bend - noise) > _TOO_BENT * squared)
    return _Step(new, value, slope, slope_ahead, squared, bend, sound, steep)


def _advance(problem: _Problem, state: _Search) -> _Search:
    """One gradient step with momentum, which is lost where it led uphill."""
    y, ahead, rate = state.y, state.ahead, state.rate
    info = jnp.finfo(y.dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    step = _gradient_step(problem, ahead, rate)
    new, value = step.y, step.value
    worse = value - state.value > _NOISE * eps * (jnp.abs(value) + jnp.abs(state.value))
    plain = state.momentum == 1
    accept = step.sound & ~step.steep & ~worse
    shrink = step.sound & (step.steep | (worse & plain))
    restart = ~accept & ~(step.sound & step.steep)
    shorter, longer = _next_rates(step, rate)
    momentum, onward = _momentum(problem, state, new)
    natural = jnp.sqrt(jnp.abs(value) * rate)
    further = problem.project(new - rate * step.slope) - new
    pause = problem.length(new, further, natural) <= state.goal
    return _Search(
        y=jnp.where(accept, new, y),
        value=jnp.where(accept, value, state.value),
        ahead=jnp.where(accept, onward, jnp.where(restart, y, ahead)),
        momentum=jnp.where(accept, momentum, jnp.where(restart, 1, state.momentum)),
        rate=jnp.where(shrink, shorter, jnp.where(accept, longer, rate)),
        steps=state.steps + 1,
        goal=state.goal,
        # A rate this small no longer moves the point.
        done=(accept & pause) | (rate * _norm(step.slope_ahead) <= eps * tiny),
    )


def _next_rates(step: _Step, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rate after a step that was too long, and after one that was not."""
    bend, squared = step.bend, step.squared
    fits = _FITTING * squared / jnp.maximum(bend, float(jnp.finfo(bend.dtype).tiny))
    fits = jnp.clip(fits, rate / _SHORTEST, rate / _SHORTER)
    shorter = jnp.where(bend > 0, fits, rate / _UNKNOWN)
    shorter = jnp.where(jnp.isfinite(shorter), shorter, rate / _UNKNOWN)
    return shorter, jnp.where(rate * bend <= _STRAIGHT * squared, _LONGER * rate, rate)


def _momentum(problem: _Problem, state: _Search, new: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next momentum, a scalar, and where it leads from `new`: Beck and Teboulle, section 4.

    It is lost where the step turned against it: the gradient scheme of O'Donoghue and Candes.
    """
    turning = jnp.sum((state.ahead - new) * (new - state.y)) > 0
    momentum = jnp.where(turning, 1, (1 + jnp.sqrt(1 + 4 * state.momentum**2)) / 2)
    further = jnp.where(turning, 0, (state.momentum - 1) / momentum)
    # Projected, because the utility need not be defined outside of the set.
    return momentum, problem.project(new + further * (new - state.y))


def _polish(problem: _Problem, y: jax.Array, rate: jax.Array) -> _Polish:
    """Newton steps, as long as they shrink; the first trial is `y` itself."""
    eps, tol = float(jnp.finfo(y.dtype).eps), problem.tol

    def body(state: _Polish) -> _Polish:
        trial = problem.project(state.y + state.step)
        step, length, convex, exact = _face_step(problem, trial, rate)
        accept = length < _SHRINKING * state.length
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

    go_on = lambda s: ~s.done & (s.steps < _NEWTON_STEPS)
    return lax.while_loop(go_on, body, _unpolished(y))


def _unpolished(y: jax.Array) -> _Polish:
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


def _face_step(problem: _Problem, y: jax.Array, rate: jax.Array) -> tuple[jax.Array, ...]:
    """The Newton step on the face, its length, whether f is convex there, and exact there."""
    face = face_at(problem.gradient, problem.project, y, rate, True)
    step, convex = face.newton(y)
    length = problem.length(y, step, jnp.sqrt(jnp.abs(problem.objective(y)) * rate))
    size = jnp.max(jnp.abs(y)) + rate * jnp.max(jnp.abs(face.slope))
    rounding = _NOISE * float(jnp.finfo(y.dtype).eps)
    exact = jnp.max(jnp.abs(face.image - y)) <= rounding * size
    return step, jnp.where(jnp.isfinite(length), length, jnp.inf), convex, exact


def _report(problem: _Problem, start: jax.Array, finite: jax.Array, end: _Round) -> Descent:
    """The judgement of the last point; of the start, unless all is `finite`."""
    found, search, dtype = end.last, end.search, start.dtype
    eps = float(jnp.finfo(dtype).eps)
    last = jnp.where(found.small, problem.project(found.y + found.step), search.y)
    rate = _bent_rate(problem, last, search.rate)
    face = face_at(problem.gradient, problem.project, last, rate, True)
    finite = finite & jnp.all(jnp.isfinite(face.slope)) & jnp.all(jnp.isfinite(last))
    probe = face.tangent(signs(1, start)[0])
    # By how much P shrinks: 1 on a flat face.
    shrink = _norm(face.tangent(probe)) / jnp.where(_norm(probe) > 0, _norm(probe), 1)
    shrink = jnp.where(shrink > 0, shrink, 1)
    curvature = least_ritz(lambda v: face.reduced(v) / shrink, probe, face.tangent)
    number = lambda x: x.astype(dtype)
    quality = Quality(
        residual=jnp.where(finite, found.length, jnp.inf),
        steps=number(search.steps),
        converged=number(found.small & finite & (curvature >= -(eps**0.5))),
        degeneracy=jnp.full((), jnp.inf, dtype),
        curvature=jnp.where(finite, curvature, 0),
    )
    # One gradient step more changes nothing but rounding: what the face holds is held exactly.
    last = jnp.where(found.small, face.image, last)
    return Descent(jnp.where(finite, last, start), rate, number(finite), quality)


def _bent_rate(problem: _Problem, y: jax.Array, rate: jax.Array) -> jax.Array:
    """The search's rate, or what the curvature at `y` says of it where that is far shorter.

    A search that began where the gradient is 0 has learned none.
    """
    probe = signs(1, y)[0]
    bent = _norm(jax.jvp(problem.gradient, (y,), (probe,))[1])
    known = (bent > 0) & jnp.isfinite(bent)
    natural = _norm(probe) / jnp.where(known, bent, 1)
    return jnp.where(known & (rate > _FAR_TOO_LONG * natural), natural, rate)


def _number(value: jax.Array, slope: jax.Array) -> jax.Array:
    return jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))


def _norm(v: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(v**2))
