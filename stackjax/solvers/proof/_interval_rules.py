"""The elementwise operations of JAX on intervals.

How far XLA's functions may be wrong was measured on the CPU against 80-bit numbers (JAX 0.10: at
most 3 ulps; but `log1p` in float64 120, `exp2` 33 and more for large arguments, `erfc` 17 and more
in its tail), and is allowed several times.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax.solvers.proof import _interval as iv
from stackjax.solvers.proof._interval import Interval, Value, lift, outward


class Smoothness:
    """What the operations met so far say of a function over its box.

    `kink`: it may fail to be twice differentiable, but is continuous. `jump`: it may fail to be
    continuous, or not be defined somewhere. Branches that only touch count as not decided: then
    what is said holds around the box as well.
    """

    def __init__(self) -> None:
        self.kink, self.jump = jnp.asarray(False), jnp.asarray(False)

    def may_kink(self, where: jax.Array) -> None:
        self.kink = self.kink | jnp.any(where)

    def may_jump(self, where: jax.Array) -> None:
        self.jump = self.jump | jnp.any(where)


Rule = Callable[..., Any]  # to a `Value`
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers `f(smoothness, params, *values)` as the rule of operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _increasing(
    name: str,
    ulps: float,
    *,
    least: float = -np.inf,
    most: float = np.inf,
    start: float = -np.inf,
    end: float = np.inf,
    absolute: float = 0,
) -> None:
    """An operation that increases, on [start, end]; it is not defined outside."""

    @rule(name)
    def apply(smoothness: Smoothness, params: dict, x: Value) -> Interval:
        x = lift(x)
        bind = getattr(lax, name)
        # below the smallest normal number XLA reads zero, which is no end
        tiny = np.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
        low = jnp.where(x.low <= 0, jnp.minimum(x.low, -tiny), x.low)
        high = jnp.where(x.high >= 0, jnp.maximum(x.high, tiny), x.high)
        if start == -np.inf and end == np.inf:
            return outward(bind(low), bind(high), ulps, least=least, most=most, absolute=absolute)
        outside = (x.low < start) | (x.high > end)
        # at the edge of its domain the derivative is infinite
        smoothness.may_jump(outside)
        smoothness.may_kink((x.low <= start) | (x.high >= end))
        low, high = (jnp.clip(e, start, end) for e in (low, high))
        out = outward(bind(low), bind(high), ulps, least=least, most=most, absolute=absolute)
        nowhere = (x.high < start) | (x.low > end)
        return Interval(
            jnp.where(nowhere, -jnp.inf, out.low), jnp.where(nowhere, jnp.inf, out.high)
        )


_increasing("exp", 8, least=0)
_increasing("expm1", 16, least=-1)
_increasing("tanh", 16, least=-1, most=1)
_increasing("logistic", 8, least=0, most=1)
_increasing("erf", 16, least=-1, most=1)
_increasing("atan", 16)
_increasing("asinh", 32)
_increasing("sinh", 32)
_increasing("cbrt", 16)
_increasing("sqrt", 3, least=0, start=0)
_increasing("log", 8, start=0)
_increasing("asin", 64, start=-1, end=1, absolute=4)


@rule("log1p")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    whole = RULES["log"](smoothness, {}, iv.add(x, lift(np.ones((), x.dtype))))
    # XLA's own is wrong by 120 ulps where it changes its method; near zero it is needed
    near = lambda end: jnp.where(jnp.abs(end) < 0.1, end, 0)
    close = outward(jnp.log1p(near(x.low)), jnp.log1p(near(x.high)), 16)
    return Interval(
        jnp.where(jnp.abs(x.low) < 0.1, close.low, whole.low),
        jnp.where(jnp.abs(x.high) < 0.1, close.high, whole.high),
    )


@rule("exp2")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    # 2^x = exp(x log 2): the error of XLA's own grows with x
    dtype = lift(x).dtype
    log2 = outward(*2 * (jnp.asarray(math.log(2), dtype),), 1)
    return RULES["exp"](smoothness, {}, iv.mul(log2, lift(x)))


@rule("erfc")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    out = iv.sub(lift(np.ones((), x.dtype)), RULES["erf"](smoothness, {}, x))
    return Interval(jnp.maximum(out.low, 0), out.high)


@rule("acos")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    half = outward(*2 * (jnp.asarray(math.pi / 2, x.dtype),), 1)
    return iv.sub(half, RULES["asin"](smoothness, {}, x))


@rule("cosh")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = iv.even(lift(x))
    return outward(jnp.cosh(x.low), jnp.cosh(x.high), 32, least=1)


@rule("rsqrt")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    return iv.reciprocal(RULES["sqrt"](smoothness, {}, x))


# From where on XLA's reduction of an angle is not relied upon.
_LARGEST_ANGLE = {np.dtype(np.float32): 2.0**12, np.dtype(np.float64): 2.0**24}


def _wave(x: Interval, function: Callable, top: float) -> Interval:
    """Of period 2 pi, from -1 to 1, with its maxima at `top`."""

    def meets(phase: float) -> jax.Array:
        """Whether the interval may hold a number `phase + 2 pi k`."""
        turns = lambda end: (end - phase) / (2 * math.pi)
        eps = 4 * float(jnp.finfo(x.dtype).eps)
        slack = lambda u: eps * (jnp.abs(u) + 2)
        first, last = turns(x.low), turns(x.high)
        return jnp.floor(last + slack(last)) >= jnp.ceil(first - slack(first))

    large = iv.magnitude(x) > _LARGEST_ANGLE.get(np.dtype(x.dtype), 1.0)
    low, high = (function(jnp.where(large, 0, end)) for end in x)
    out = outward(jnp.minimum(low, high), jnp.maximum(low, high), 4, absolute=4, least=-1, most=1)
    return Interval(
        jnp.where(large | meets(top + math.pi), -1, out.low),
        jnp.where(large | meets(top), 1, out.high),
    )


@rule("sin")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    return _wave(lift(x), jnp.sin, math.pi / 2)


@rule("cos")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    return _wave(lift(x), jnp.cos, 0.0)


@rule("tan")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    sine, cosine = _wave(lift(x), jnp.sin, math.pi / 2), _wave(lift(x), jnp.cos, 0.0)
    smoothness.may_jump((cosine.low <= 0) & (cosine.high >= 0))
    return iv.div(sine, cosine)


@rule("add", "add_any")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Value:
    for one, other in ((x, y), (y, x)):
        if isinstance(one, np.ndarray) and not np.any(one) and one.shape in ((), other.shape):
            return other
    return iv.add(lift(x), lift(y))


@rule("sub")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Value:
    if x is y:
        return np.zeros(x.shape, x.dtype)
    return iv.sub(lift(x), lift(y))


@rule("neg")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    return iv.neg(lift(x))


@rule("mul")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Value:
    if x is y:
        return iv.integer_power(lift(x), 2)
    for one, other in ((x, y), (y, x)):
        if isinstance(one, np.ndarray) and not np.any(one):
            return np.zeros(np.broadcast_shapes(one.shape, other.shape), one.dtype)
    return iv.mul(x, y)


@rule("div")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    y = lift(y)
    smoothness.may_jump((y.low <= 0) & (y.high >= 0))
    return iv.div(x, y)


@rule("integer_pow")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x, n = lift(x), params["y"]
    if n < 0:
        smoothness.may_jump((x.low <= 0) & (x.high >= 0))
    return iv.integer_power(x, n)


@rule("square")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    return iv.integer_power(lift(x), 2)


@rule("one_minus_square")  # of JAX 0.12, in the derivative of tanh
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    one = jnp.ones_like(x.low)
    return iv.sub(Interval(one, one), iv.integer_power(x, 2))


@rule("pow")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    x = lift(x)
    if (
        isinstance(y, np.ndarray)
        and y.size
        and np.all(y == y.flat[0])
        and float(y.flat[0]) == int(y.flat[0])
        and abs(int(y.flat[0])) < 64
    ):
        return RULES["integer_pow"](smoothness, {"y": int(y.flat[0])}, x)
    if not isinstance(y, Interval) and not jnp.issubdtype(y.dtype, jnp.floating):
        raise NotImplementedError("an integer power that is not known before the call")
    # x^y = exp(y log x): defined for x > 0 (and where y is whole, which is then not known)
    below = x.low < 0
    smoothness.may_jump(x.low <= 0)
    accuracy = {}
    power = iv.mul(lift(y), RULES["log"](Smoothness(), accuracy, x))
    out = RULES["exp"](smoothness, accuracy, power)
    return Interval(jnp.where(below, -jnp.inf, out.low), jnp.where(below, jnp.inf, out.high))


@rule("abs")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    smoothness.may_kink((x.low <= 0) & (x.high >= 0))
    return iv.even(x)


@rule("sign")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    smoothness.may_jump((x.low <= 0) & (x.high >= 0))
    return Interval(jnp.sign(x.low), jnp.sign(x.high))


def _steps(name: str) -> None:
    @rule(name)
    def apply(smoothness: Smoothness, params: dict, x: Value) -> Interval:
        x = lift(x)
        low, high = (getattr(lax, f"{name}_p").bind(end, **params) for end in x)
        # on the edge of a step as well
        smoothness.may_jump((low != high) | (low == x.low) | (high == x.high))
        return Interval(low, high)


for _name in ("floor", "ceil", "round"):
    _steps(_name)


def _touching(x: Interval, y: Interval) -> jax.Array:
    return (x.low <= y.high) & (y.low <= x.high)


@rule("max")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    x, y = lift(x), lift(y)
    smoothness.may_kink(_touching(x, y))
    return Interval(jnp.maximum(x.low, y.low), jnp.maximum(x.high, y.high))


@rule("min")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    x, y = lift(x), lift(y)
    smoothness.may_kink(_touching(x, y))
    return Interval(jnp.minimum(x.low, y.low), jnp.minimum(x.high, y.high))


@rule("clamp")
def _(smoothness: Smoothness, params: dict, least: Value, x: Value, most: Value) -> Interval:
    return RULES["min"](smoothness, {}, RULES["max"](smoothness, {}, x, least), most)


def _comparison(name: str, compare: Callable[[Interval, Interval], tuple]) -> None:
    @rule(name, f"{name}_to")
    def apply(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Value:
        if x is y:  # members are numbers, never NaN
            return np.full(x.shape, name in ("eq", "le", "ge"))
        x, y = lift(x), lift(y)
        smoothness.may_jump(_touching(x, y))
        return Interval(*compare(x, y))


def _equal(x: Interval, y: Interval) -> tuple[jax.Array, jax.Array]:
    return (x.low == x.high) & (y.low == y.high) & (x.low == y.low), _touching(x, y)


_comparison("lt", lambda x, y: (x.high < y.low, x.low < y.high))
_comparison("le", lambda x, y: (x.high <= y.low, x.low <= y.high))
_comparison("gt", lambda x, y: (x.low > y.high, x.high > y.low))
_comparison("ge", lambda x, y: (x.low >= y.high, x.high >= y.low))
_comparison("eq", _equal)
_comparison("ne", lambda x, y: tuple(~end for end in _equal(x, y)[::-1]))


@rule("is_finite")
def _(smoothness: Smoothness, params: dict, x: Value) -> np.ndarray:
    return np.full(x.shape, True)  # members are numbers


@rule("not")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    _of_truths(x)
    x = lift(x)
    return Interval(~x.high, ~x.low)


@rule("and")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    _of_truths(x)
    x, y = lift(x), lift(y)
    return Interval(x.low & y.low, x.high & y.high)


@rule("or")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    _of_truths(x)
    x, y = lift(x), lift(y)
    return Interval(x.low | y.low, x.high | y.high)


def _of_truths(x: Value) -> None:
    if x.dtype != bool:
        raise NotImplementedError("a bitwise operation on numbers that are not known")


@rule("select_n", "select_and")
def _(smoothness: Smoothness, params: dict, which: Value, *cases: Value) -> Interval:
    """The case that is taken, or the hull of those that may be."""
    lows, highs = zip(*map(lift, cases))
    if not isinstance(which, Interval):
        return Interval(lax.select_n(which, *lows), lax.select_n(which, *highs))
    if len(cases) > 2:
        raise NotImplementedError("a choice between more than two that depends on the box")
    certain, possible = which.low.astype(bool), which.high.astype(bool)
    least, most = (
        (jnp.logical_and, jnp.logical_or) if lows[0].dtype == bool else (jnp.minimum, jnp.maximum)
    )
    pick = lambda ends, hull: jnp.where(certain, ends[1], jnp.where(possible, hull(*ends), ends[0]))
    return Interval(pick(lows, least), pick(highs, most))


@rule("convert_element_type")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x, new = lift(x), np.dtype(params["new_dtype"])
    low, high = x.low.astype(new), x.high.astype(new)
    if not jnp.issubdtype(new, jnp.floating):
        if jnp.issubdtype(x.dtype, jnp.floating):
            raise NotImplementedError("whole numbers made of numbers of the box")
        return Interval(low, high)
    exact = jnp.issubdtype(x.dtype, jnp.floating) and new.itemsize >= x.dtype.itemsize
    if exact or x.dtype == bool:
        return Interval(low, high)
    return outward(low, high, 1)
