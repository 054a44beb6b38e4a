"""The safeguarded search of the projected Newton method, for all that full steps do not solve.

Notation: minimise `f = -utility` over `lower <= y <= upper`, `y` a vector of `d` numbers.

A step is accepted if it decreases `f` (Armijo along the projection arc), or quarters the smallest
optimality residual yet at next to no cost in `f`; else a quarter of it is tried from the same
point. The second test is there for float32, where differences of `f` drown in rounding near the
optimum; it passes finitely often, so it does not cost convergence. A step to where `f` rises
steeply crossed a kink; bisection of the slope finds the kink, along which the next step leads.
Where the Hessian is not positive definite its pivots are made positive, which keeps the step a
descent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.search_history import UNWATCHED, SearchHistory, Watch
from stackjax._arrays.typing import PyTree
from stackjax.solvers._bounds import Bounds
from stackjax.solvers._judge import resolution, solved
from stackjax.solvers.newton._second_order import Model, Point

# Of a decrease to first order, the part that is asked for (Armijo).
_ARMIJO = 1e-4
# The optimality residual counts as smaller below this part of the smallest yet.
_SMALLER = 0.25
# Differences of f below these many units of rounding count as none, or not for sure as some.
_NOISE, _SURE = 8, 16
# Beyond a part of a step f still falls if its slope there is this part of that at the beginning,
# and rises steeply if it is this part of it with the other sign.
_STILL_FALLS, _RISES = 0.75, 0.25
# Parts of one step that are tried while that is so, each by bisection; else the step is cut.
_TRIES, _BISECTED, _CUT = 12, 0.5, 0.25
# Steps that keep this part of their length do not shrink; they are prolonged by the second number,
# up to the third.
_SLOW, _PROLONGED, _LONGEST = 0.4, 4, 1e9
# Where f ends at its bound, the part of the way there that a step goes.
_SHORT_OF_BOUND = 0.9
# How far the start is moved into the box at first, and by how much further each time.
_INWARDS, _FURTHER_INWARDS = 1e-3, 10
# How far to look to each side of a point without curvature, in parts of the reach.
_LOOK = 0.1


class Found(struct.PyTreeNode):
    """Where a search ended, and whether it takes that for a solution."""

    y: jax.Array
    aux: PyTree
    last: jax.Array  # the Newton step that led to y
    steps: jax.Array
    converged: jax.Array
    history: SearchHistory | None = None


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
    history: SearchHistory | None

    def scaled(self, reach: jax.Array) -> jax.Array:
        """The step to try: prolonged no further than `reach`, or shortened from there."""
        longest = jnp.clip(jnp.maximum(self.shrink, 1) * self.step, -reach, reach)
        return jnp.minimum(self.shrink, 1) * longest


class _Search(NamedTuple):
    """What does not change in a search.

    Attributes:
      model: the objective.
      box: the bounds.
      begin: `[d]` the start.
      inner: `[d]` a point well inside of the box.
      tol: as in `Newton`.
      watch: who looks at it.
    """

    model: Model
    box: Bounds
    begin: jax.Array
    inner: jax.Array
    tol: float
    watch: Watch

    def optimality(self, point: Point, y: jax.Array) -> jax.Array:
        """What each coordinate alone would gain: in the unit of f, whatever that of y."""
        tiny = jnp.finfo(y.dtype).tiny
        curved = jnp.maximum(self.model.sizes(point.hessian), 1e6 * tiny)
        alone = self.box.clip(y - point.gradient / curved) - y
        return jnp.max(jnp.abs(point.gradient * alone))

    def small(self, y: jax.Array, point: Point, step: jax.Array, last: jax.Array) -> jax.Array:
        """Whether the Newton step from `y` is that of a solution, a scalar bool."""
        model = self.model
        return jnp.all(
            solved(
                y, step, last, point.gradient,
                model.rounding(y, point.value, point.hessian), model.sizes(point.hessian),
                resolution(y, *self.box), self.tol,
            )
        )  # fmt: skip


def safeguarded(
    model: Model,
    box: Bounds,
    y: jax.Array,
    aux: PyTree,
    tol: float,
    cap: int | jax.Array,
    before: jax.Array,
    watch: Watch = UNWATCHED,
) -> Found:
    """Newton steps, each accepted, shortened or prolonged.

    Args:
      model: the objective.
      box: the bounds.
      y: `[d]` the start.
      aux: the model's first.
      tol: as in `Newton`.
      cap: on steps.
      before: scalar int, steps to be counted too.
      watch: who looks at each step.
    """
    search = _Search(model, box, y, box.inner(y), tol, watch)
    history = watch.begin(y, cap) if isinstance(cap, int) else None  # a table has a size
    state = jax.lax.while_loop(
        lambda s: ~s.done & (s.first | (s.steps < cap)),
        lambda s: _turn(search, s),
        _begin(model, y, aux, before, history),
    )
    y = jnp.where(state.converged, box.clip(state.y + state.step), state.y)
    last = jnp.where(state.converged, state.step, state.last)
    return Found(y, state.point.aux, last, state.steps, state.converged, state.history)


def _begin(
    model: Model, y: jax.Array, aux: PyTree, before: jax.Array, history: SearchHistory | None
) -> _State:
    """The first turn looks at the start: the model is then compiled once, not twice."""
    infinite = jnp.full((), jnp.inf, y.dtype)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model.expand, y, aux)
    )
    return _State(
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
        history=history,
    )


class _Verdict(NamedTuple):
    """On a trial point. All are scalars, bool but for `optimality`."""

    accept: jax.Array
    between: jax.Array  # a kink may lie within the step
    falls: jax.Array  # beyond the trial point
    again: jax.Array  # the start is not a number, and further inwards there may be one
    optimality: jax.Array


class _Next(NamedTuple):
    """Which part of the Newton step to try next: see `_State`."""

    shrink: jax.Array
    short: jax.Array
    long: jax.Array


def _turn(search: _Search, state: _State) -> _State:
    """Tries one point, accepts it or not, and prepares the next trial."""
    model, box, first = search.model, search.box, state.first
    looking = (state.looks == 1) | (state.looks == 2)
    trial_y = _trial_point(search, state, looking)
    trial = model.expand(trial_y, state.point.aux)
    verdict = _judge(search, state, trial, trial_y, looking)
    accept = verdict.accept

    y = jnp.where(accept, trial_y, state.y)
    point = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, state.point)
    error = jnp.where(first, 1, state.length)
    step, convex = box.newton(model, y, point, state.step, error, accept)
    last = jnp.where(accept, state.step, state.last)
    length = box.length(y, step)
    blocked = box.blocked(y, point.gradient)
    small = search.small(y, point, jnp.where(blocked, 0, step), last)
    flat = model.flat(point.hessian, ~blocked)
    unsure = small & jnp.any(flat) & point.finite
    looks = jnp.where(looking & ~accept, state.looks + 1, unsure.astype(jnp.int32))
    small &= ~unsure | (looks > 2)
    part = _next_part(state, verdict, step, last)
    # A trial that rounds to the point itself, or a point that is not a number: no way on.
    ahead = state.replace(step=step, shrink=part.shrink)
    still = jnp.all(box.clip(y + ahead.scaled(box.reach(y))) == y)
    stuck = (still & ~small) | ~point.finite
    stuck = stuck & ~verdict.again & ~((looks == 1) | (looks == 2))
    best = jnp.minimum(verdict.optimality, state.best)
    steps = state.steps + jnp.where(first, 0, 1)
    return _State(
        y=y,
        point=point,
        step=step,
        last=last,
        shrink=part.shrink,
        short=jnp.where(accept, 0, part.short),
        long=jnp.where(accept, 0, part.long),
        tries=jnp.where(accept, 0, state.tries + 1),
        best=jnp.where(accept, best, state.best),
        length=length,
        steps=steps,
        first=verdict.again,
        looks=looks,
        flat=flat.astype(y.dtype),
        open=jnp.where(trial.finite, state.open, 1),
        inwards=jnp.where(state.inwards > 0, _FURTHER_INWARDS * state.inwards, _INWARDS),
        done=(small & point.finite) | stuck,
        converged=small & convex & point.finite,
        history=search.watch.see(state.history, steps, y, -point.value, length),
    )


def _trial_point(search: _Search, state: _State, looking: jax.Array) -> jax.Array:
    """`[d]`: along the step; at the start, further inwards; `looking`, to one side."""
    box, begin, y = search.box, search.begin, state.y
    reach = box.reach(y)
    ahead = box.clip(y + state.scaled(reach))
    # Where f ends at its bound, steps end just short of it.
    touched = ((ahead == box.lower) | (ahead == box.upper)) & (state.open > 0)
    ahead = jnp.where(touched, y + _SHORT_OF_BOUND * (ahead - y), ahead)
    # At a start on the pole of a logarithm or a root: inwards, ever further.
    inwards = begin + state.inwards * (search.inner - begin)
    trial_y = jnp.where(state.first, inwards, ahead)
    # At a stationary point without curvature: is it a saddle? One look to each side.
    side = jnp.where(state.looks == 1, _LOOK, -_LOOK) * jnp.where(state.flat > 0, reach, 0)
    return jnp.where(looking, box.clip(y + side), trial_y)


def _judge(
    search: _Search, state: _State, trial: Point, trial_y: jax.Array, looking: jax.Array
) -> _Verdict:
    """Whether a trial point is better than the one before, or lies beyond a kink."""
    point, first, moved = state.point, state.first, trial_y - state.y
    eps = jnp.finfo(moved.dtype).eps
    slope = jnp.dot(point.gradient, moved)
    change, size = trial.value - point.value, jnp.abs(point.value) + jnp.abs(trial.value)
    decreased = (slope <= 0) & (change <= _ARMIJO * slope + _NOISE * eps * size)
    optimality = search.optimality(trial, trial_y)
    smaller = (optimality <= _SMALLER * state.best) & (change <= eps**0.5 * size)
    # Across a kink steps swing from side to side. What is on it lies between a part of the step
    # beyond which f still falls and one beyond which it rises: halve what is between them.
    beyond = jnp.dot(trial.gradient, moved)
    falls = (beyond < _STILL_FALLS * slope) & (state.tries > 0) & decreased
    rises = beyond > -_RISES * slope
    # A slope that is rounding, of f or of its gradient, tells nothing.
    noise = search.model.rounding(trial_y, trial.value, trial.hessian)
    unsure = jnp.maximum(_SURE * eps * size, 4 * jnp.sum(noise * jnp.abs(moved)))
    between = (slope < -unsure) & (falls | rises) & trial.finite
    between &= (state.tries < _TRIES) & (state.shrink <= 1)
    accept = first | (trial.finite & (decreased | smaller) & ~between)
    lower = trial.finite & (change < -_SURE * eps * size)
    accept = jnp.where(looking, lower, accept)
    again = first & ~trial.finite & (state.inwards < 1)
    return _Verdict(accept, between, falls, again, optimality)


def _next_part(state: _State, verdict: _Verdict, step: jax.Array, last: jax.Array) -> _Next:
    """The part of `step` to try after a trial, and what is known of those too short or too long."""
    accept, between = verdict.accept, verdict.between
    # Whole steps that do not shrink come from a pole, a flat piece or a root of higher order:
    # they are too short.
    slow = accept & ~state.first & (state.shrink >= 1)
    slow &= jnp.all(jnp.abs(step) >= _SLOW * jnp.abs(last))
    prolonged = jnp.minimum(_PROLONGED * jnp.maximum(state.shrink, 1), _LONGEST)
    shrink = jnp.where(slow, prolonged, 1)
    tried = jnp.minimum(state.shrink, _PROLONGED)
    short = jnp.where(between & verdict.falls, tried, state.short)
    long = jnp.where(between & verdict.falls, state.long, tried)
    share = jnp.where(between, _BISECTED, _CUT)
    return _Next(jnp.where(accept, shrink, short + share * (long - short)), short, long)
