"""A primal-dual interior-point method for small smooth programs, one loop that can be batched.

    minimise f(z)   subject to   c(z) = 0,   g(z) <= 0,   lower <= z <= upper.

Inequalities get slacks, bounds and slacks a logarithmic barrier of weight mu, which goes to zero
(Fiacco and McCormick). Each iteration solves the condensed primal-dual system, made positive
definite on the null space of the constraints by a shift, and is globalised by a filter (Fletcher
and Leyffer, Mathematical Programming 91, 2002; Waechter and Biegler, Mathematical Programming 106,
2006). The program may depend on mu: a relaxation that is to vanish (of a complementarity, say)
vanishes with the barrier, in one run.

One evaluation and one linear solve an iteration, whether its trial point is accepted or not: in a
batch every member does the same work.

Its parts: the program and its model (`_program.py`), the barrier function and the residuals
(`_barrier.py`), the Newton step and its length (`_primal_dual.py`), which trial points count
(`_filter.py`); here, where to start, when to lower mu and when to stop.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.search_history import UNWATCHED, SearchHistory, Watch
from stackjax.solvers.constrained._barrier import Barrier, barrier_on, infeasibility
from stackjax.solvers.constrained._filter import Merit, forgotten, judge
from stackjax.solvers.constrained._primal_dual import move, primal_dual_step
from stackjax.solvers.constrained._program import Evaluate, Iterate, Local, Scaled, scaled_at

# References are to Waechter and Biegler 2006.
_FROM_EDGE = 1e-2  # how far from its bounds the start is moved: kappa_1 and kappa_2 in section 3.6
_FIRST_SLACK = 1e-2  # the least slack at the start
_SOLVED = 10  # mu is lowered where the error is below this times mu: kappa_epsilon
_LOWERED, _LOWERED_POWER = 0.2, 1.5  # kappa_mu and theta_mu in (7)
# The proximal term: its first weight, its growth after a trial refused and decay after one
# accepted, and the range outside of which it is 0 or grows no further.
_PROXIMAL, _PROXIMAL_FACTOR, _PROXIMAL_RANGE = 1e-6, 4, (1e-7, 1e6)


Note = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


class Found(struct.PyTreeNode):
    """Where the method ended.

    Attributes:
      point: the last iterate, in the program's own units.
      active: which inequalities `[m]`, lower bounds `[n]` and upper bounds `[n]` look active.
      steps: scalar int.
      history: of the iterates, where it was asked for.
    """

    point: Iterate
    active: tuple[jax.Array, jax.Array, jax.Array]
    steps: jax.Array
    history: SearchHistory | None = None


class _State(struct.PyTreeNode):
    at: Iterate
    local: Local
    trial: Iterate
    slope_along: jax.Array  # derivative of the barrier function along the step
    shrink: jax.Array
    proximal: jax.Array
    mu: jax.Array
    filter: jax.Array  # [pairs, 2]
    steps: jax.Array
    done: jax.Array
    history: SearchHistory | None


class _Seen(NamedTuple):
    """Who looks at the iterates, and what is shown."""

    watch: Watch
    note: Note | None  # None where nobody looks: what it shows is then not even traced

    def begin(self, z: jax.Array, steps: int | jax.Array) -> SearchHistory | None:
        """An empty history, or None."""
        return None if self.note is None else self.watch.begin(self.note(z)[0], int(steps))

    def after(self, state: _State, at: Iterate, error: jax.Array) -> SearchHistory | None:
        """The history with one iterate more."""
        if self.note is None:
            return state.history
        point, worth, counts = self.note(at.z)
        return self.watch.see(state.history, state.steps, point, worth, error, counts=counts)


def inside(z: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """`z`, `[n]`, moved well inside of its bounds; numbers for what is not finite."""
    has_lower, has_upper = jnp.isfinite(lower), jnp.isfinite(upper)
    low, high = jnp.where(has_lower, lower, 0), jnp.where(has_upper, upper, 0)
    width = jnp.where(has_lower & has_upper, high - low, jnp.inf)
    margin = lambda edge: _FROM_EDGE * jnp.minimum(jnp.maximum(1, jnp.abs(edge)), width)
    z = jnp.where(jnp.isfinite(z), z, 0)
    z = jnp.where(has_lower, jnp.maximum(z, low + margin(low)), z)
    z = jnp.where(has_upper, jnp.minimum(z, high - margin(high)), z)
    return jnp.where(lower >= upper, lower, z)


def interior(
    evaluate: Evaluate,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    barrier: float,
    last_barrier: float,
    max_steps: int | jax.Array,
    watch: Watch = UNWATCHED,
    note: Note | None = None,
) -> Found:
    """Solves the program from `start`, which need not be feasible.

    Args:
      evaluate: `(z [n], mu) -> (f, c [p], g [m])`.
      start: `[n]`, moved inside of the bounds.
      lower: `[n]`; -inf for none.
      upper: `[n]`; inf for none; a coordinate with `lower == upper` is fixed.
      barrier: the first mu.
      last_barrier: the last mu; the error left is of its order.
      max_steps: cap on iterations, accepted or not.
      watch: who looks at the iterates; then the cap is an int.
      note: what there is to be seen of one, `z -> (point, its worth, whether it counts)`.
    """
    z = inside(start, lower, upper)
    bounds = barrier_on(lower, upper, start.dtype)
    program, g = scaled_at(evaluate, z, barrier)
    seen = _Seen(watch, None if watch.idle else note)
    state = _begin(program, bounds, z, g, barrier, seen.begin(z, max_steps))
    # The flag is computed in the body and only read here: see _newton.py.
    state = jax.lax.while_loop(
        lambda s: ~s.done & (s.steps < max_steps),
        lambda s: _iterate(program, bounds, last_barrier, s, seen),
        state,
    )
    at = program.unscaled(state.at)
    return Found(at, bounds.active(state.at), state.steps, state.history)


def _begin(
    program: Scaled,
    bounds: Barrier,
    z: jax.Array,
    g: jax.Array,
    barrier: float,
    history: SearchHistory | None,
) -> _State:
    """The first trial point is `z` itself, with multipliers on the central path."""
    n, p, dtype = program.n, program.p, z.dtype
    mu = jnp.asarray(barrier, dtype)
    slack = jnp.maximum(jnp.where(jnp.isfinite(g), -g, 1), _FIRST_SLACK)
    at = Iterate(z, slack, mu / slack, jnp.zeros(p, dtype), *(jnp.zeros(n, dtype),) * 2)
    below, above = bounds.gaps(at)
    at = at.replace(
        lower=jnp.where(bounds.has_lower, mu / below, 0),
        upper=jnp.where(bounds.has_upper, mu / above, 0),
    )
    zero = jnp.zeros((), dtype)
    return _State(
        at, program.blank(dtype), at, zero, jnp.ones((), dtype), zero, mu,
        forgotten(dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool), history,
    )  # fmt: skip


def _iterate(
    program: Scaled, bounds: Barrier, last_barrier: float, state: _State, seen: _Seen
) -> _State:
    """Judges the trial point, lowers mu where its problem is solved, and makes the next trial."""
    at, trial, mu = state.at, state.trial, state.mu
    new = program.linearise(trial, mu)
    old_merit = Merit(infeasibility(at, state.local), bounds.value(at, state.local.f, mu))
    new_merit = Merit(infeasibility(trial, new), bounds.value(trial, new.f, mu))
    finite = jnp.isfinite(new_merit.phi) & jnp.isfinite(new_merit.theta) & new.finite
    first = state.steps == 0
    accept, pairs = judge(
        state.filter, old_merit, new_merit, state.slope_along, state.shrink,
        first=first, finite=finite,
    )  # fmt: skip
    at = jax.tree.map(lambda a, b: jnp.where(accept, a, b), trial, at)
    local = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state.local)

    error = bounds.error(at, local, mu)
    solved = error <= _SOLVED * mu
    next_mu = jnp.where(solved, _lowered(mu, last_barrier), mu)
    pairs = jnp.where(next_mu < mu, jnp.inf, pairs)
    shrink = jnp.where(accept, 1, state.shrink / 2)
    proximal = _proximal_weight(state.proximal, accept)
    step = primal_dual_step(bounds, at, local, next_mu, proximal)
    trial, length = move(bounds, at, step, next_mu, shrink)
    along = bounds.slope(at, local, next_mu) @ step.z
    along = length * (along - next_mu * jnp.sum(step.slack / at.slack))
    return _State(
        at, local, trial, along, shrink, proximal, next_mu, pairs, state.steps + 1,
        (solved & (mu <= last_barrier)) | (first & ~finite),
        seen.after(state, at, error),
    )  # fmt: skip


def _lowered(mu: jax.Array, last_barrier: float) -> jax.Array:
    """The next barrier weight, (7)."""
    return jnp.maximum(jnp.minimum(_LOWERED * mu, mu**_LOWERED_POWER), last_barrier)


def _proximal_weight(weight: jax.Array, accept: jax.Array) -> jax.Array:
    """The next weight of the proximal term, which shortens steps that keep being refused."""
    low, high = _PROXIMAL_RANGE
    raised = jnp.maximum(_PROXIMAL_FACTOR * weight, _PROXIMAL)
    weight = jnp.where(accept, weight / _PROXIMAL_FACTOR, raised)
    return jnp.where(weight < low, 0, jnp.minimum(weight, high))
