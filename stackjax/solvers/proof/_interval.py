"""Intervals with outward rounding, and their arithmetic.

An interval holds every real number between two arrays, ends included; an end may be infinite. What
an operation returns holds the exact result for all members of its arguments (Moore, Kearfott and
Cloud 2009, Introduction to Interval Analysis, chapters 2 and 5; Hansen and Walster 2004, Global
Optimization Using Interval Analysis, chapters 2 to 4).

Rounding: XLA has no directed modes, its functions are wrong by up to a few units in the last place
(ulps), and it flushes subnormal results to zero. So each end is moved out by a number of ulps, and
by the smallest normal number. Subnormal arguments are read as zero, as XLA does. `nextafter` would
step into the subnormal numbers, which are flushed, and costs more.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Interval(NamedTuple):
    """Two arrays of one shape and type, `low <= high`, no NaN.

    Of booleans: `low` says that it is certainly true, `high` that it may be. Whole numbers are
    0 or 1, made of booleans.
    """

    low: jax.Array
    high: jax.Array

    @property
    def dtype(self) -> np.dtype:
        return self.low.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape


Value = Interval | jax.Array | np.ndarray  # an array is a point: it is exactly that


def lift(value: Value) -> Interval:
    """A point as an interval."""
    if isinstance(value, Interval):
        return value
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return unknown_is_unbounded(array, array)
    return Interval(array, array)


@jax.jit
def unknown_is_unbounded(low: jax.Array, high: jax.Array) -> Interval:
    """An interval of ends of which a NaN says that nothing is known, and an overflow that much."""
    largest = np.asarray(jnp.finfo(low.dtype).max, low.dtype)
    low = jnp.where(jnp.isnan(low), -jnp.inf, jnp.minimum(low, largest))
    high = jnp.where(jnp.isnan(high), jnp.inf, jnp.maximum(high, -largest))
    return Interval(low, high)


@partial(jax.jit, static_argnames=("ulps", "least", "most", "absolute"), inline=False)
def outward(
    low: jax.Array,
    high: jax.Array,
    ulps: float = 0.5,
    *,
    least: float = -np.inf,
    most: float = np.inf,
    absolute: float = 0,
) -> Interval:
    """The interval between two computed ends, moved out.

    Args:
      low: NaN says that nothing is known.
      high: the same.
      ulps: by how many units in the last place either end may be wrong.
      least: what the exact result does not go below.
      most: what it does not exceed.
      absolute: by how many units in the last place of 1 either end may be wrong.
    """
    info = jnp.finfo(low.dtype)
    low, high = unknown_is_unbounded(low, high)
    # half an ulp more, for the rounding of the difference
    eps = np.asarray((ulps + 0.5) * float(info.eps), low.dtype)
    still = np.asarray(float(info.tiny) + absolute * float(info.eps), low.dtype)
    low, high = low - (jnp.abs(low) * eps + still), high + (jnp.abs(high) * eps + still)
    if least > -np.inf:
        low, high = jnp.maximum(low, least), jnp.maximum(high, least)
    if most < np.inf:
        low, high = jnp.minimum(low, most), jnp.minimum(high, most)
    return Interval(low, high)


def magnitude(x: Interval) -> jax.Array:
    """The largest absolute value of each."""
    return jnp.maximum(jnp.abs(x.low), jnp.abs(x.high))


@jax.jit
def keep_sign(result: Interval, positive: jax.Array, negative: jax.Array) -> Interval:
    """`result`, where it is known to be >= 0 (`positive`) or <= 0 (`negative`)."""
    low = jnp.where(positive, jnp.maximum(result.low, 0), result.low)
    high = jnp.where(negative, jnp.minimum(result.high, 0), result.high)
    return Interval(low, high)


@jax.jit
def add(x: Interval, y: Interval) -> Interval:
    out = outward(x.low + y.low, x.high + y.high)
    return keep_sign(out, (x.low >= 0) & (y.low >= 0), (x.high <= 0) & (y.high <= 0))


def neg(x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


def sub(x: Interval, y: Interval) -> Interval:
    return add(x, neg(y))


@jax.jit
def _times(x: jax.Array, y: jax.Array) -> jax.Array:
    # A number times zero is zero: infinite ends are no members.
    product = x * y
    return jnp.where(jnp.isnan(product), 0, product)


def is_exact_factor(value: Value) -> bool:
    """Whether products with it are not rounded: a constant of zeros and of powers of two, >= 1."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return False
    fraction, exponent = np.frexp(np.abs(value))
    return bool(np.all((value == 0) | ((fraction == 0.5) & (exponent >= 1) & (exponent < 20))))


@jax.jit
def _product(a: Interval, b: Interval) -> Interval:
    ends = [_times(s, t) for s in a for t in b]
    low = jnp.minimum(jnp.minimum(ends[0], ends[1]), jnp.minimum(ends[2], ends[3]))
    high = jnp.maximum(jnp.maximum(ends[0], ends[1]), jnp.maximum(ends[2], ends[3]))
    up, down = (a.low >= 0, b.low >= 0), (a.high <= 0, b.high <= 0)
    positive = (up[0] & up[1]) | (down[0] & down[1])
    negative = (up[0] & down[1]) | (down[0] & up[1])
    return keep_sign(outward(low, high), positive, negative)


@partial(jax.jit, static_argnames="exact")
def _multiple(a: jax.Array, b: Interval, exact: bool) -> Interval:
    # a point that is no number makes everything unknown
    ends = [jnp.where(jnp.isfinite(a), _times(a, end), jnp.nan) for end in b]
    low, high = jnp.minimum(*ends), jnp.maximum(*ends)  # NaN if one is
    if exact:
        return unknown_is_unbounded(low, high)
    positive = ((a >= 0) & (b.low >= 0)) | ((a <= 0) & (b.high <= 0))
    negative = ((a >= 0) & (b.high <= 0)) | ((a <= 0) & (b.low >= 0))
    return keep_sign(outward(low, high), positive, negative)


def mul(x: Value, y: Value) -> Interval:
    """The product; of a point and an interval with half the work."""
    if isinstance(x, Interval) and not isinstance(y, Interval):
        x, y = y, x
    if isinstance(x, Interval):
        return _product(x, lift(y))
    if isinstance(x, np.ndarray) and np.all(x == 1) and x.shape in ((), y.shape):
        return lift(y)
    return _multiple(jnp.asarray(x), lift(y), is_exact_factor(x))


@jax.jit
def reciprocal(x: Interval) -> Interval:
    """Unbounded where zero is a member."""
    safe = (x.low > 0) | (x.high < 0)
    # division on accelerators is wrong by up to two ulps
    out = outward(1 / jnp.where(safe, x.high, 1), 1 / jnp.where(safe, x.low, 1), 3)
    out = keep_sign(out, x.low > 0, x.high < 0)
    return Interval(jnp.where(safe, out.low, -jnp.inf), jnp.where(safe, out.high, jnp.inf))


def div(x: Value, y: Interval) -> Interval:
    return mul(x, reciprocal(y))


def even(x: Interval) -> Interval:
    """The absolute value."""
    inside = (x.low <= 0) & (x.high >= 0)
    a, b = jnp.abs(x.low), jnp.abs(x.high)
    return Interval(jnp.where(inside, 0, jnp.minimum(a, b)), jnp.maximum(a, b))


def integer_power(x: Interval, n: int) -> Interval:
    """`x^n`, with the repeated products' rounding."""
    if n < 0:
        return reciprocal(integer_power(x, -n))
    if n == 0:
        one = jnp.ones_like(x.low)
        return Interval(one, one)
    if n == 1:
        return x
    base = even(x) if n % 2 == 0 else x
    low, high = (jax.lax.integer_pow(end, n) for end in base)
    # an odd power keeps the order of the ends; an even one that of their absolute values
    return keep_sign(outward(low, high, 2 * n + 2), base.low >= 0, base.high <= 0)
