"""Branch and bound over a small box: a proof of a utility's global maximum, in fixed memory.

The box is cut in halves until each part is known not to hold more than the best point seen, but for
a tolerance (Hansen and Walster 2004, chapter 12). Parts wait in a list of fixed length, of which
the last few are looked at in each step. What has no room in it is given up, and its bound kept: the
bound that is returned holds in any case.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax.solvers.proof._bounds import look_at
from stackjax.solvers.proof._intervals import enclose
from stackjax.solvers.proof._values import values_of

PROVEN, BEATEN, UNDECIDED = 0, 1, 2
# More numbers than this take more boxes than there will ever be, and corners of the Hessian.
MOST_NUMBERS = 6
# Points at which the range of the utility is looked at, besides the corners.
SAMPLES = 32


class Proof(NamedTuple):
    """What branch and bound found.

    Attributes:
      status: 0 if the candidate is proven to be a global maximum but for the tolerance; 1 if it is
        beaten: `value` is better by more than the tolerance; 2 if undecided.
      value: `[d]` the best point seen, the candidate if none is better.
      lower: what its utility is at least.
      upper: what the utility is at most, anywhere in the box. It holds whatever the status.
      boxes: number of boxes looked at.

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: r, lambda a, r, x: jnp.cos(r - a), response_set=sj.Box(-3.0, 3.0)
      ... )
      >>> found = sj.best_response(
      ...     game, 1.0, None, response=jnp.array(0.0), proof=sj.solvers.Global()
      ... )
      >>> print(found.proof.proven, found.proof.upper < 1.0001)
      True True
    """

    status: jax.Array
    value: jax.Array
    lower: jax.Array
    upper: jax.Array
    boxes: jax.Array

    @property
    def proven(self) -> jax.Array:
        """Whether the answer is proven to be a global maximum; a bool."""
        return self.status == PROVEN


class _State(NamedTuple):
    rows: jax.Array  # [boxes, 2 d + 1]: lower ends, upper ends, upper bound
    count: jax.Array  # how many of them are waiting, the first
    best: jax.Array  # [d]
    lower: jax.Array
    upper: jax.Array  # of what is not waiting any more
    looked: jax.Array
    step: jax.Array


def prove(
    utility: Callable[[jax.Array], jax.Array],
    candidate: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    gap: float = 1e-4,
    boxes: int = 128,
    at_once: int = 8,
    max_steps: int = 200,
) -> Proof:
    """Proves that a point is a global maximum over a box, or finds a better one.

    For use within `jax.jit` and `jax.vmap`; not to be differentiated. Derivatives are those of the
    utility's values: derivative rules and `stop_gradient` in it are not believed.

    Args:
      utility: `[d] -> scalar`, of operations that have an interval rule. It may close over traced
        values, which count as exact.
      candidate: `[d]`; it is clipped to the box.
      lower: the box's lower ends `[d]`, finite.
      upper: its upper ends `[d]`, finite.
      gap: the tolerance, as a share of the utility's range over the box, which is estimated from
        below at a few points. What rounding leaves open of the candidate's utility is added; where
        that is more than the tolerance itself, the status is undecided.
      boxes: length of the list.
      at_once: how many boxes are looked at in a step.
      max_steps: number of steps after which it is undecided.

    Returns:
      A `Proof`. If `value` beats the candidate, `upper` says how good it is itself.

    Raises:
      NotImplementedError: if an operation has no interval rule; it is named.
      ValueError: if the arguments' shapes do not fit, or there are too many numbers.
    """
    candidate, lower, upper = _checked(candidate, lower, upper)
    if not 1 <= at_once <= boxes // 2:
        raise ValueError(f"`at_once` must be from 1 to half of `boxes`; got {at_once}, {boxes}")
    d, dtype = len(candidate), candidate.dtype
    candidate = jnp.clip(candidate, lower, upper)
    values = values_of(utility, candidate)
    at = enclose(values, candidate, candidate)
    rounding, allowed = at.high - at.low, gap * _range(values, lower, upper)
    rounding = 4 * jnp.where(jnp.isfinite(rounding), rounding, 0)
    # a constant has no range: its bound is off by the least numbers
    tolerance = allowed + rounding + 1024 * float(jnp.finfo(dtype).tiny)
    look = jax.vmap(
        lambda low, high, best: look_at(values, low, high, (lower, upper), best), (0, 0, None)
    )

    def step(state: _State) -> _State:
        # the list must keep room for two halves of each
        taken = jnp.minimum(state.count, jnp.clip((boxes - state.count) // 2, 1, at_once))
        places = state.count - 1 - jnp.arange(at_once, dtype=jnp.int32)
        rows = state.rows[jnp.maximum(places, 0)]
        low, high, bound = rows[:, :d], rows[:, d:-1], rows[:, -1]
        waiting = (jnp.arange(at_once) < taken) & (bound > state.lower + tolerance)
        seen = look(low, high, state.best)
        bound = jnp.minimum(bound, seen.upper)

        found = jnp.where(waiting & ~jnp.isnan(seen.lower), seen.lower, -jnp.inf)
        first = jnp.argmax(found)
        better = found[first] > state.lower
        best = jnp.where(better, seen.point[first], state.best)
        reached = jnp.maximum(state.lower, found[first])

        alive = waiting & ~seen.empty
        middle = 0.5 * seen.low + 0.5 * seen.high
        side = jax.nn.one_hot(seen.split, d, dtype=bool)
        narrow = jnp.any(side & ((middle <= seen.low) | (middle >= seen.high)), 1)
        halved = alive & (bound > reached + tolerance) & ~narrow
        # what was not looked at, since its bound was low, keeps that bound
        done = (jnp.arange(at_once) < taken) & ~halved & ~(waiting & seen.empty)
        halves = jnp.concatenate(
            [
                jnp.concatenate([seen.low, jnp.where(side, middle, seen.high)], 1),
                jnp.concatenate([jnp.where(side, middle, seen.low), seen.high], 1),
            ]
        )
        halves = jnp.concatenate([halves, jnp.tile(bound, 2)[:, None]], 1)
        kept = jnp.tile(halved, 2)
        left = state.count - taken
        places = jnp.where(kept, left + jnp.cumsum(kept, dtype=jnp.int32) - 1, boxes)
        lost = kept & (places >= boxes)
        most = lambda where, x: jnp.max(jnp.where(where, x, -jnp.inf))
        return _State(
            state.rows.at[places].set(halves, mode="drop"),
            jnp.minimum(left + jnp.sum(kept, dtype=jnp.int32), boxes),
            best,
            reached,
            jnp.maximum(state.upper, jnp.maximum(most(done, bound), most(lost, halves[:, -1]))),
            state.looked + jnp.sum(waiting, dtype=jnp.int32),
            state.step + 1,
        )

    zero = jnp.zeros((), jnp.int32)
    nothing = jnp.asarray(-jnp.inf, dtype)
    whole = jnp.concatenate([lower, upper, jnp.full(1, jnp.inf, dtype)])
    state = _State(
        jnp.zeros((boxes, 2 * d + 1), dtype).at[0].set(whole),
        zero + 1,
        candidate,
        at.low,
        nothing,
        zero,
        zero,
    )
    state = lax.while_loop(lambda s: (s.count > 0) & (s.step < max_steps), step, state)
    waiting = jnp.arange(boxes) < state.count
    above = jnp.max(jnp.where(waiting, state.rows[:, -1], nothing))
    above = jnp.maximum(jnp.maximum(above, state.upper), state.lower)
    beaten = state.lower > at.high + tolerance
    # Where rounding is more than the tolerance that was asked for, it is not proven to that.
    proven = (above <= state.lower + tolerance) & (rounding <= allowed)
    status = jnp.where(beaten, BEATEN, jnp.where(proven, PROVEN, UNDECIDED)).astype(jnp.int32)
    return Proof(status, state.best, state.lower, above, state.looked)


def _checked(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    candidate, lower, upper = map(jnp.asarray, arrays)
    dtype = jnp.result_type(candidate, lower, upper)
    if not candidate.shape == lower.shape == upper.shape or candidate.ndim != 1:
        raise ValueError(
            "`candidate`, `lower` and `upper` must be vectors of one length; got shapes "
            f"{candidate.shape}, {lower.shape}, {upper.shape}"
        )
    if not 1 <= len(candidate) <= MOST_NUMBERS or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"`candidate` must be of 1 to {MOST_NUMBERS} floating numbers; got "
            f"{len(candidate)} of type {dtype}"
        )
    return candidate.astype(dtype), lower.astype(dtype), upper.astype(dtype)


def _range(values: Callable, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """The utility's range over a box `[d]`, from below: at its corners and at points within."""
    d = len(lower)
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=d)))
    # multiples of irrational numbers fill the box evenly
    steps = np.sqrt(np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0])[:d])
    within = np.arange(1, SAMPLES + 1)[:, None] * steps % 1
    shares = jnp.asarray(np.concatenate([corners, within]), lower.dtype)
    points = lower[None] + shares * (upper - lower)[None]
    seen = jax.vmap(values)(points)
    known = jnp.isfinite(seen)
    spread = jnp.max(jnp.where(known, seen, -jnp.inf)) - jnp.min(jnp.where(known, seen, jnp.inf))
    return jnp.maximum(spread, 0)  # -inf if none is known
