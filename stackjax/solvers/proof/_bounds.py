"""The upper bound of a utility over one box, from intervals around it and its derivatives.

For a point `p` of a box X, `o` the offsets `x - p` of its members, and intervals F, G, H around the
utility, its gradient and its Hessian over X, the utility is at most each of

    max F                                              (natural inclusion)
    f(p) + max over o of  G . o                        (mean value form)
    f(p) + max over o of  g(p) . o + o' H o / 2        (second order)
    f(p) + max over o of  g(p) . o                     (tangent, where H is negative definite)

(Hansen and Walster 2004, chapters 7 and 12; Moore, Kearfott and Cloud 2009, chapter 6). In the
third the terms off the diagonal are moved onto it, `|o_i o_j| <= (s o_i^2 + o_j^2 / s) / 2` with
the ratio `s` of the box's sides, as in Gershgorin's theorem: the maximum is then one of each
coordinate alone. Where the Hessian is not continuous the last two are left out, and where the
utility may jump, all but the first.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stackjax.solvers.proof._interval import Interval, magnitude
from stackjax.solvers.proof._intervals import enclose, enclose_and_judge

# How often the model's coordinates are maximised one after another, for the point of expansion.
SWEEPS = 3


class Look(NamedTuple):
    """What is known of one box after a look at it.

    Attributes:
      low: `[d]` of the part of it where its maximum is.
      high: `[d]`.
      upper: the utility is at most that on the box.
      empty: True if no global maximum is in the box.
      point: `[d]` a member of it.
      lower: what the utility is at least at `point`; `-inf` if nothing is known.
      split: the coordinate to split.
    """

    low: jax.Array
    high: jax.Array
    upper: jax.Array
    empty: jax.Array
    point: jax.Array
    lower: jax.Array
    split: jax.Array


def look_at(
    values: Callable[[jax.Array], jax.Array],
    low: jax.Array,
    high: jax.Array,
    ends: tuple[jax.Array, jax.Array],
    best: jax.Array,
) -> Look:
    """Bounds a utility on one box.

    Args:
      values: the utility `[d] -> scalar`, whose derivatives are those of its values.
      low: the box's lower ends `[d]`.
      high: its upper ends `[d]`.
      ends: lower and upper ends `[d]` of the whole box, of which this is a part.
      best: `[d]` the best point known.
    """
    gradient = jax.grad(values)
    inside, smoothness = enclose_and_judge(values, low, high)
    slope, curvature = enclose(lambda x: (gradient(x), jax.hessian(values)(x)), low, high)
    curvature = Interval(
        jnp.maximum(curvature.low, curvature.low.T), jnp.minimum(curvature.high, curvature.high.T)
    )
    continuous = ~smoothness.jump
    smooth = continuous & ~smoothness.kink

    # Where the utility increases in a coordinate, its maximum is on the upper face; if that lies
    # within the whole box, the utility still increases beyond it, and the maximum is elsewhere.
    up, down = slope.low > 0, slope.high < 0
    top, bottom = high == ends[1], low == ends[0]
    empty = smooth & jnp.any((up & ~top) | (down & ~bottom))
    low, high = (
        jnp.where(continuous & up & top, high, low),
        jnp.where(continuous & down & bottom, low, high),
    )

    point = _expansion_point(gradient, low, high, curvature, best)
    at, tangent = enclose(lambda x: (values(x), gradient(x)), point, point)
    tangent = Interval(jnp.maximum(tangent.low, slope.low), jnp.minimum(tangent.high, slope.high))
    back, ahead = _up(point - low), _up(high - point)  # both >= 0
    first = _total(at.high, _linear(slope, back, ahead))
    second = _total(at.high, _quadratic(tangent, curvature.high, magnitude(curvature), back, ahead))
    flat = _total(at.high, _linear(tangent, back, ahead))
    flat = jnp.where(negative_definite(curvature), flat, jnp.inf)
    upper = jnp.minimum(inside.high, jnp.where(continuous, first, jnp.inf))
    upper = jnp.minimum(upper, jnp.where(smooth, jnp.minimum(second, flat), jnp.inf))

    width = high - low
    share = width * magnitude(slope)
    share = jnp.where(jnp.all(jnp.isfinite(share)), share, width / (ends[1] - ends[0]))
    split = jnp.argmax(jnp.where(width > 0, share, -1))
    return Look(low, high, upper, empty, point, at.low, split)


def _expansion_point(
    gradient: Callable, low: jax.Array, high: jax.Array, curvature: Interval, best: jax.Array
) -> jax.Array:
    """Where the bound is likely to be narrow: about the box's maximum if it is concave."""
    centre = jnp.clip(0.5 * low + 0.5 * high, low, high)
    model = 0.5 * curvature.low + 0.5 * curvature.high
    model = jnp.where(jnp.isfinite(model), model, 0)
    rest = gradient(centre)
    rest = jnp.where(jnp.isfinite(rest), rest, 0)
    bends = [model[i, i] < 0 for i in range(len(low))]
    point = list(centre)
    for _ in range(SWEEPS if len(low) > 1 else 1):
        for i, bent in enumerate(bends):
            step = jnp.where(bent, rest[i] / jnp.where(bent, -model[i, i], 1), 0)
            moved = jnp.clip(point[i] + step, low[i], high[i])
            rest = rest + model[:, i] * (moved - point[i])
            point[i] = moved
    known = jnp.all((low <= best) & (best <= high) & jnp.stack(bends))
    return jnp.clip(jnp.where(known, best, jnp.stack(point)), low, high)


def _up(x: jax.Array) -> jax.Array:
    """A few operations' result, rounded up."""
    info = jnp.finfo(x.dtype)
    return x + (jnp.abs(x) * (8 * float(info.eps)) + 8 * float(info.tiny))


def _total(value: jax.Array, terms: jax.Array) -> jax.Array:
    """`value + sum(terms)`, rounded up; infinite where nothing is known."""
    scale = (len(terms) + 4) * float(jnp.finfo(value.dtype).eps)
    total = value + jnp.sum(terms)
    total = total + (jnp.abs(value) + jnp.sum(jnp.abs(terms))) * scale
    return jnp.where(jnp.isnan(total), jnp.inf, total)


def _linear(slope: Interval, back: jax.Array, ahead: jax.Array) -> jax.Array:
    """The maximum of `g o` for `g` in `slope [d]`, `o` from `-back` to `ahead`."""
    rise, fall = (jnp.where(w > 0, g * w, 0) for g, w in ((slope.high, ahead), (-slope.low, back)))
    return _up(jnp.maximum(jnp.maximum(rise, fall), 0))


def _quadratic(
    slope: Interval, bend: jax.Array, size: jax.Array, back: jax.Array, ahead: jax.Array
) -> jax.Array:
    """The maximum of `g o + o' H o / 2`, as a sum of one of each coordinate, `[d]`.

    Args:
      slope: `[d]`.
      bend: `[d, d]` the upper end of H.
      size: `[d, d]` the largest absolute values of H.
      back: `[d]`, `o >= -back`.
      ahead: `[d]`, `o <= ahead`.
    """
    d, far = len(back), jnp.maximum(back, ahead)
    ratio = far[None, :] / jnp.where(far > 0, far, 1)[:, None]
    ratio = jnp.where((far[None, :] > 0) & (far[:, None] > 0), ratio, 0)
    across = jnp.where(np.eye(d, dtype=bool) | (ratio == 0), 0, size * ratio)
    bend = _up(_up(jnp.diagonal(bend)) + _up(jnp.sum(_up(across), 1)))

    def side(g: jax.Array, w: jax.Array) -> jax.Array:
        bent = bend < 0
        within = bent & (g < -bend * w)
        vertex = jnp.square(jnp.maximum(g, 0)) / jnp.where(bent, -2 * bend, 1)
        linear, square = g * w, 0.5 * bend * w * w
        size = jnp.abs(linear) + jnp.abs(square)
        end = linear + square + size * (8 * float(jnp.finfo(g.dtype).eps))
        return jnp.where(w > 0, jnp.where(within, _up(vertex), jnp.maximum(end, 0)), 0)

    return _up(jnp.maximum(side(slope.high, ahead), side(-slope.low, back)))


def negative_definite(matrix: Interval) -> jax.Array:
    """Whether each symmetric member of `[d, d]` is, exactly but for rounding.

    It is if `2^(d-1)` of its corners are (Rohn 1994, Positive definiteness and stability of
    interval matrices), each shifted by more than the factorisation's rounding.
    """
    d, info = matrix.shape[0], jnp.finfo(matrix.dtype)
    if d == 1:
        return matrix.high[0, 0] < 0
    middle = -(0.5 * matrix.low + 0.5 * matrix.high)
    radius = _up(jnp.maximum(matrix.high + middle, -middle - matrix.low))
    largest = jnp.max(jnp.abs(middle)) + jnp.max(radius)
    shift = 16 * d * d * float(info.eps) * largest + 64 * float(info.tiny)
    signs = np.array([(1, *s) for s in itertools.product((1, -1), repeat=d - 1)], matrix.dtype)
    signs = signs[:, :, None] * signs[:, None, :]
    corners = (middle - shift * np.eye(d, dtype=matrix.dtype))[None] - signs * radius[None]
    rows = [[corners[:, i, j] for j in range(d)] for i in range(d)]
    good = jnp.isfinite(largest)
    for k in range(d):
        pivot = rows[k][k]
        good = good & jnp.all(pivot > 0)
        pivot = jnp.where(pivot > 0, pivot, 1)
        for i in range(k + 1, d):
            factor = rows[i][k] / pivot
            for j in range(k + 1, i + 1):
                rows[i][j] = rows[i][j] - factor * rows[j][k]
    return good
