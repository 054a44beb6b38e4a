"""A smoothing Newton method for the equilibrium conditions.

The conditions, in `w = (y, mu, lambda)`, are a mixed complementarity problem: a map M of w, and for
each number bounds `lo <= w <= up` of which M is 0 between, `>= 0` at the lower and `<= 0` at the
upper one. Two equations have its solutions as roots. That of the natural residual,
`w = clip(w - M)`, gives Newton steps on an active set: exact for affine games with the right one,
but they can cycle. That of the Fischer-Burmeister function, smoothed by a width that is reduced
from one to nothing, has a path of roots towards the solution where M is monotone, which Newton
steps with a line search follow (Burke and Xu, Mathematics of Operations Research 23, 1998; Billups,
1995, for two bounds). A step of the first kind is tried at the start and whenever the width is
reduced, and taken if it decreases the unsmoothed residual's square to a quarter.

Neither sees whether a stationary point is a maximum of each follower's utility, and far away a
utility that is not concave leads both astray. If the search fails, or ends where a follower's
utility curves upwards, it starts once more from where steps of each follower alone lead, uphill.

An answer is judged from the answer, as everywhere (`solvers/_judge.py`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from stackjax.solvers._judge import kkt_solved
from stackjax.solvers._optimality import Active, exactly
from stackjax.solvers.equilibrium._joint import Joint, inwards

# Kinds of steps, in the order in which they are tried.
_ACTIVE_SET, _SMOOTHED, _GRADIENT, _ALONE = 0, 1, 2, 3
_QUARTER, _ARMIJO, _CUT = 0.25, 1e-4, 0.25
# The shortest part of a step of either kind that is worth a trial.
_SHORTEST = (1.0, 2e-3, 1e-7, 1e-3)
# Steps of each follower alone, before the search starts once more.
_RESPONSES = 40
# The width is reduced to this part once the smoothed residual is below this part of it.
_NARROWER, _CENTRED = 0.3, 0.2
# How far, beside one and themselves, multipliers may go in a step on the active set.
_FAR = 1e4
# Steps next to a solution, where the square is nothing but rounding, that are taken all the same.
_CLOSE = 6


class Expanded(struct.PyTreeNode):
    """The conditions to first order at one point.

    Attributes:
      values: `[N]` utilities.
      gradient: `[d + p + m]`: F plus the constraints' part; c; g.
      hessian: `[d + p + m, ...]` its Jacobian.
      finite: scalar bool.
    """

    values: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    finite: jax.Array


class Mixed(NamedTuple):
    """The complementarity problem.

    Attributes:
      problem: in its own units.
      lo: `[d + p + m]`.
      up: `[d + p + m]`.
      sign: `[d + p + m]` by which the conditions are M, with entries of about one.
      p: number of equalities.
    """

    problem: Joint
    lo: jax.Array
    up: jax.Array
    sign: jax.Array
    p: int

    def expand(self, w: jax.Array) -> Expanded:
        """The conditions at `w`; zeros where they are not numbers."""
        d = len(self.problem.lower)
        y, prices = w[:d], w[d:]
        values, slopes, bent = self.problem.rows(y)
        gradient, hessian = -slopes, -bent
        if len(prices):
            both = lambda y: jnp.concatenate(self.problem.constraints(y))
            rows, pull = jax.vjp(both, y)
            normals = jax.vmap(lambda e: pull(e)[0])(jnp.eye(len(prices), dtype=w.dtype))
            gradient = gradient + exactly(prices, normals)
            hessian = hessian + jax.hessian(lambda y: prices @ both(y))(y)
            none = jnp.zeros((len(prices),) * 2, w.dtype)
            hessian = jnp.block([[hessian, normals.T], [normals, none]])
            gradient = jnp.concatenate([gradient, rows])
        finite = jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(hessian))
        finite &= jnp.all(jnp.isfinite(values))
        number = lambda x: jnp.where(finite, x, 0)
        return Expanded(number(values), number(gradient), number(hessian), finite)

    def active(self, w: jax.Array, gradient: jax.Array) -> Active:
        """Which constraints hold with equality, as the natural residual has it."""
        d = len(self.problem.lower)
        slope = self.sign * gradient
        low = (w - self.lo < slope) | (self.lo >= self.up)
        high = (self.up - w < -slope) & ~low
        return Active(low[:d], high[:d], ~low[d + self.p :])

    def residual(self, w: jax.Array, at: Expanded, width: jax.Array | float) -> "Residual":
        """The smoothed equation at `w`."""
        width = jnp.asarray(width, w.dtype)
        return fischer(w, self.sign * at.gradient, self.lo, self.up, width)

    def uphill(self, here: "Residual", at: Expanded) -> jax.Array:
        """`[n]` the gradient of half the residual's square."""
        through = here.by_slope * self.sign * here.value
        return here.by_w * here.value + exactly(through, at.hessian)

    def steepest(self, here: "Residual", at: Expanded) -> jax.Array:
        """`[n]` down that gradient, by about the residual's own size."""
        uphill = self.uphill(here, at)
        tiny = float(jnp.finfo(uphill.dtype).tiny)
        return -uphill * jnp.max(jnp.abs(here.value)) / jnp.maximum(jnp.max(jnp.abs(uphill)), tiny)

    def alone(self, at: Expanded) -> jax.Array:
        """`[n]` a step of each follower's, uphill whatever its curvature; multipliers stay.

        Its slope over the row of the Jacobian: followers who react to each other do not overshoot.
        At most a unit long.
        """
        d = len(self.problem.lower)
        slope = at.gradient[:d]
        size = jnp.sum(jnp.abs(at.hessian[:d, :d]), axis=1)
        step = -slope / jnp.maximum(size, jnp.maximum(jnp.abs(slope), 1e-30))
        return jnp.concatenate([step, jnp.zeros(len(self.lo) - d, step.dtype)])

    def step(self, w: jax.Array, at: Expanded, here: "Residual", natural: jax.Array) -> jax.Array:
        """`[n]` a Newton step, on the active set or of the smoothed equation, or not finite."""
        d, n = len(self.problem.lower), len(w)
        identity = jnp.eye(n, dtype=w.dtype)
        active = self.active(w, at.gradient)
        free = active.free(self.p)
        held = active.target(self.problem.lower, self.problem.upper, self.p) - w
        held = jnp.where(free, 0, held)
        right = jnp.where(free, -at.gradient - exactly(at.hessian, held), held)
        matrix = jnp.where(free[:, None] & free[None], at.hessian, identity)
        smooth = here.by_w[:, None] * identity + (here.by_slope * self.sign)[:, None] * at.hessian
        matrix = jnp.where(natural, matrix, smooth)
        right = jnp.where(natural, right, -here.value)
        if n == d:
            return jnp.linalg.solve(matrix, right)
        # Dependent constraints leave it singular, this much of a diagonal does not; what that
        # changes is taken back.
        lift = jnp.where(jnp.arange(n) < d, 0, lifted(w.dtype))
        lift = jnp.where(natural, jnp.where(free, -lift, 0), lift)
        factors = jax.scipy.linalg.lu_factor(matrix + lift[:, None] * identity)
        step = jax.scipy.linalg.lu_solve(factors, right)
        for _ in range(2):
            step = step + jax.scipy.linalg.lu_solve(factors, right - exactly(matrix, step))
        return step


def mixed(problem: Joint, slopes: jax.Array) -> Mixed:
    """The complementarity problem of `problem`, with `JointScales.slopes`, `[d]`."""
    start = problem.lower
    c, g = jax.eval_shape(problem.constraints, start)
    p, m, dtype = c.shape[0], g.shape[0], start.dtype
    infinite = jnp.full(p, jnp.inf, dtype)
    return Mixed(
        problem,
        jnp.concatenate([problem.lower, -infinite, jnp.zeros(m, dtype)]),
        jnp.concatenate([problem.upper, infinite, jnp.full(m, jnp.inf, dtype)]),
        jnp.concatenate([slopes, -jnp.ones(p + m, dtype)]),
        p,
    )


def lifted(dtype: jnp.dtype) -> float:
    """What is put on the diagonal of multipliers where constraints may depend on each other."""
    return float(jnp.finfo(dtype).eps) ** 0.5


class Residual(NamedTuple):
    """The Fischer-Burmeister residual of each number, `[n]`, and its derivatives in w and M."""

    value: jax.Array
    by_w: jax.Array
    by_slope: jax.Array

    @property
    def square(self) -> jax.Array:
        """Half of it, summed."""
        return self.value @ self.value / 2


def fischer(
    w: jax.Array, slope: jax.Array, lo: jax.Array, up: jax.Array, width: jax.Array
) -> Residual:
    """`a + b - sqrt(a^2 + b^2 + 2 width^2)` with the distance a from a lower bound and b = M.

    Where there is an upper bound, b is what the same function makes of that and M.
    """

    def pair(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        size = jnp.sqrt(a**2 + b**2 + 2 * width**2)
        safe, both = jnp.where(size > 0, size, 1), (a > 0) & (b > 0)
        # (where both are positive nothing cancels)
        total = jnp.where(both, a + b + size, 1)
        value = jnp.where(both, 2 * (a * b - width**2) / total, a + b - size)
        share = lambda x: 1 - jnp.where(size > 0, x / safe, 0.5**0.5)
        return value, share(a), share(b)

    above, below = jnp.isfinite(up), jnp.isfinite(lo)
    value, room, push = pair(jnp.where(above, up - w, 1), -slope)
    value = jnp.where(above, -value, slope)
    by_w, by_slope = jnp.where(above, room, 0), jnp.where(above, push, 1)
    outer, room, push = pair(jnp.where(below, w - lo, 1), value)
    return Residual(
        jnp.where(below, outer, value),
        jnp.where(below, room + push * by_w, by_w),
        jnp.where(below, push * by_slope, by_slope),
    )


class Found(struct.PyTreeNode):
    """Where the search ended. Floating point, flags too, for `detached`.

    Attributes:
      step: `[n]` the Newton step from there, which is still to be taken.
      at: the conditions there.
      active: the active set.
      free: `[n]` 1 where a number is not held, else 0.
      steps: iterations.
      solved: 1 if the judge says so, but for curvature.
    """

    step: jax.Array
    at: Expanded
    active: Active
    free: jax.Array
    steps: jax.Array
    solved: jax.Array


class _State(struct.PyTreeNode):
    w: jax.Array
    at: Expanded
    width: jax.Array
    kind: jax.Array
    part: jax.Array  # of the direction, to be tried next
    direction: jax.Array
    newton: jax.Array  # the step on the active set; inf where there is none
    last: jax.Array  # what led to w
    close: jax.Array
    origin: jax.Array  # the first point at which the utilities are numbers
    alone: jax.Array  # steps of each follower alone so far
    steps: jax.Array
    began: jax.Array  # 0 and 1 until the start is looked at, or a point inwards of it
    done: jax.Array
    solved: jax.Array


def search(model: Mixed, start: jax.Array, tol: float, cap: int) -> tuple[jax.Array, Found]:
    """`[d + p + m]` where the search ended, from `start [d]`, and what is known of it."""
    problem, lo, up, d = model.problem, model.lo, model.up, len(start)
    eps = float(jnp.finfo(start.dtype).eps)
    prices = jnp.zeros(len(lo) - d, start.dtype)
    begin = jnp.clip(jnp.where(jnp.isfinite(start), start, 0), problem.lower, problem.upper)
    moved = inwards(begin, problem.lower, problem.upper, jnp.ones_like(start))
    begin, moved = (jnp.concatenate([y, prices]) for y in (begin, moved))

    def turn(state: _State) -> _State:
        """Tries one point, accepts it or not, and prepares the next trial."""
        first, natural = state.began < 2, state.kind == _ACTIVE_SET
        alone = state.kind == _ALONE
        ahead = state.w + state.part * state.direction
        ahead = jnp.where(natural | alone, jnp.clip(ahead, lo, up), ahead)
        trial_w = jnp.where(state.began == 1, moved, jnp.where(first, state.w, ahead))
        trial = model.expand(trial_w)
        before = model.residual(state.w, state.at, state.width)
        descent = model.uphill(before, state.at) @ (trial_w - state.w)
        after = model.residual(trial_w, trial, state.width).square
        armijo = (after <= before.square + _ARMIJO * descent) & (descent < 0)
        plain = model.residual(trial_w, trial, 0.0).square
        plain_before = model.residual(state.w, state.at, 0.0).square
        quarter = plain <= _QUARTER * plain_before
        # Next to a solution a short step is worth it, though the square may be rounding.
        unit = jnp.maximum(jnp.abs(state.w), jnp.abs(trial_w))
        short = jnp.all(jnp.abs(state.newton[:d]) <= tol**0.5 * unit[:d]) & (state.close < _CLOSE)
        short &= plain <= jnp.maximum(4 * plain_before, (64 * eps) ** 2)
        accept = jnp.where(natural, quarter | short, armijo)
        accept = trial.finite & (accept | first | alone)
        origin = jnp.where(first & accept, trial_w, state.origin)

        w = jnp.where(accept, trial_w, state.w)
        at = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, state.at)
        here = model.residual(w, at, state.width)
        largest = jnp.max(jnp.abs(here.value))
        # The path begins at a width of the residual's own size.
        counted = state.alone + (accept & alone)
        again_from_there = accept & alone & (counted >= _RESPONSES)
        fresh = first | again_from_there
        width = jnp.where(fresh, jnp.clip(largest, eps, 1.0), state.width)
        centred = accept & ~fresh & ~natural & ~alone & (largest <= _CENTRED * width)
        width = jnp.where(centred, _NARROWER * width, width)
        shorter = _CUT * state.part
        over = ~accept & (shorter < jnp.asarray(_SHORTEST, w.dtype)[state.kind])
        # A line search goes on along the direction that it has.
        again = ~accept & ~over
        restart = accept & (fresh | centred | natural)
        onwards = jnp.where(alone, _ALONE, jnp.where(accept, _SMOOTHED, state.kind + over))
        kind = jnp.where(restart, _ACTIVE_SET, onwards)
        here = model.residual(w, at, width)
        step = model.step(w, at, here, kind == _ACTIVE_SET)
        # Constraints that cannot all hold send multipliers off: there is no such point.
        near = jnp.all(jnp.abs(step[d:]) <= _FAR * (1 + jnp.abs(w[d:])))
        known = jnp.all(jnp.isfinite(step)) & (near | (kind != _ACTIVE_SET))
        # (no step on the active set: none is tried, which ends this kind)
        kind = jnp.where(~again & ~known & (kind == _SMOOTHED), _GRADIENT, kind)
        chosen = jnp.where(known, step, 0)
        chosen = jnp.where(kind == _GRADIENT, model.steepest(here, at), chosen)
        newton = jnp.where((kind == _ACTIVE_SET) & known, step, jnp.inf)
        newton = jnp.where(accept, newton, state.newton)
        last = jnp.where(accept, jnp.where(first, 0, trial_w - state.w), state.last)
        active = model.active(w, at.gradient)
        there = jnp.all(jnp.isfinite(newton)) & at.finite & accept
        solved = there & kkt_solved(
            w, jnp.where(there, newton, 0), last[:d],
            -at.values[problem.owner], at.gradient, at.hessian, active,
            problem.lower, problem.upper, tol,
        )  # fmt: skip
        # Where the utilities are no numbers inwards either, and where steps alone lead nowhere.
        lost = (~trial.finite & (state.began == 1)) | (alone & over)
        free = ~(active.lower | active.upper)
        upwards = jnp.any(free & (jnp.diagonal(at.hessian)[:d] < 0))
        failed = ((kind == _ALONE) & ~alone) | (state.steps >= cap // 2) | (solved & upwards)
        rescue = failed & (state.alone == 0) & ~alone & ~lost & (~solved | upwards)
        stuck = lost | ((kind == _ALONE) & ~alone & ~rescue)
        kind = jnp.where(rescue, _ALONE, jnp.minimum(kind, _ALONE))
        chosen = jnp.where(kind == _ALONE, model.alone(at), chosen)
        chosen = jnp.where(rescue, origin - w, chosen)
        again &= ~rescue
        solved &= ~rescue
        return _State(
            w=w,
            at=at,
            width=width,
            kind=kind,
            part=jnp.where(again, shorter, 1),
            direction=jnp.where(again, state.direction, chosen),
            newton=newton,
            last=last,
            close=state.close + (accept & natural & ~quarter & ~first),
            origin=origin,
            alone=counted + rescue,
            steps=state.steps + 1,
            began=jnp.where(first, jnp.where(trial.finite, 2, state.began + 1), state.began),
            done=solved | stuck,
            solved=solved,
        )

    zero, none = jnp.zeros((), start.dtype), jnp.zeros_like(begin)
    count, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model.expand, begin)
    )
    state = _State(
        w=begin, at=blank, width=zero + 1, kind=count, part=zero + 1, direction=none,
        newton=none + jnp.inf, last=none, close=count, origin=begin, alone=count, steps=count,
        began=count, done=no, solved=no,
    )  # fmt: skip
    state = lax.while_loop(lambda s: ~s.done & (s.steps <= cap), turn, state)
    active = model.active(state.w, state.at.gradient)
    number = lambda x: x.astype(start.dtype)
    return state.w, Found(
        step=jnp.where(jnp.isfinite(state.newton), state.newton, 0),
        at=state.at.replace(finite=number(state.at.finite)),
        active=jax.tree.map(number, active),
        free=number(active.free(model.p)),
        steps=number(state.steps - 1),
        solved=number(state.solved),
    )
