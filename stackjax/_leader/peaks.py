"""Other peaks of the leader's utility: looked for from an answer, and climbed.

Newton's method finds the peak below which it starts. From there a sample of actions is looked at,
each with the follower's response to it: one that is worth more, or that has a valley in front of
it, lies below another peak, which is climbed too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from stackjax._arrays.starts import spread
from stackjax._arrays.typing import PyTree
from stackjax.solvers.newton._search import Minimum

Value = Callable[[jax.Array, PyTree], jax.Array]
# Actions that are looked at, each with the middle of the way there, and peaks that are climbed.
SAMPLES, PEAKS = 32, 3
# Differences below these many units of rounding are none.
_NOISE = 64


def highest(
    climb: Callable[[jax.Array], Minimum],
    value: Value,
    start: jax.Array,
    bounds: tuple[jax.Array, jax.Array],
) -> Minimum:
    """The best of up to `PEAKS` peaks, `start`'s first.

    Args:
      climb: from `[d]` to the minimum that is reached from there.
      value: of `[d]` and what a minimum has for `aux`: scalar, to be minimised.
      start: `[d]`.
      bounds: `[d]` each.

    Returns:
      The best, with `others` 1 if two were found, or some action that was looked at lies below
      another.
    """
    points = spread(SAMPLES + 1, start, *bounds, jnp.zeros_like(start))[1:]
    eps = float(jnp.finfo(start.dtype).eps)

    def turn(state: tuple) -> tuple:
        best, height, begin, tried, several, count, _ = state
        found = climb(begin)
        reached = value(found.y, found.aux)
        reached = jnp.where(jnp.isfinite(reached), reached, jnp.inf)
        slack = _NOISE * eps * (jnp.abs(reached) + jnp.abs(height))
        slack = jnp.where(jnp.isfinite(slack), slack, 0)
        both = (found.quality.converged > 0) & (best.quality.converged > 0)
        several |= both & (jnp.abs(reached - height) > slack)
        sounder = found.quality.converged > best.quality.converged
        better = (reached < height - slack) | (sounder & (reached <= height + slack)) | (count == 0)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
        height = jnp.where(better, reached, height)

        middles = (best.y[None] + points) / 2
        heights = jax.vmap(lambda y: value(y, best.aux))(jnp.concatenate([points, middles]))
        at, between = heights[:SAMPLES], heights[SAMPLES:]
        finite = jnp.isfinite(at)
        span = jnp.max(jnp.where(finite, jnp.abs(at - height), 0))
        noise = _NOISE * eps * (span + jnp.abs(height))
        behind = (between > at + noise) & jnp.isfinite(between)
        other = ((at < height - noise) | behind) & finite
        left = other & ~tried
        pick = jnp.argmin(jnp.where(left, at, jnp.inf))
        best = best.replace(others=(several | jnp.any(other)).astype(start.dtype))
        tried = tried | (jnp.arange(SAMPLES) == pick)
        go_on = jnp.any(left) & (count + 1 < PEAKS)
        return best, height, points[pick], tried, several, count + 1, go_on

    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(climb, start))
    infinite = jnp.full((), jnp.inf, start.dtype)
    none, no = jnp.zeros(SAMPLES, bool), jnp.zeros((), bool)
    state = blank, infinite, start, none, no, jnp.zeros((), jnp.int32), ~no
    return jax.lax.while_loop(lambda s: s[-1], turn, state)[0]
