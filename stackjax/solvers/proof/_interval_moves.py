"""Operations of JAX on intervals that add up, multiply matrices, or only move numbers."""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax.solvers.proof import _interval as iv
from stackjax.solvers.proof._interval import Interval, Value, lift, outward
from stackjax.solvers.proof._interval_rules import Smoothness, rule

# Operations that return some of the numbers they are given, whatever those are.
MOVES = frozenset(
    """broadcast_in_dim reshape transpose squeeze expand_dims slice dynamic_slice
    dynamic_update_slice gather scatter concatenate pad rev split copy copy_p stop_gradient
    optimization_barrier tile stack unstack sharding_constraint""".split()
)
# Of points: what gives exact results without a rule. All that is not of floating type is, too.
EXACT = MOVES | frozenset(
    """neg abs max min sign floor ceil round clamp select_n select_and reduce_max reduce_min cummax
    cummin eq ne lt le gt ge is_finite iota argmax argmin sort real""".split()
)
# A product of matrices of at most as many products is multiplied out, which fuses with the rest.
SMALL = 1024


def move(eqn: Any, values: list[Value]) -> list[Value]:
    """The operation itself, on either end. Where numbers go is not up to a box."""
    wanted = [jnp.issubdtype(v.dtype, jnp.floating) for v in values]
    if any(isinstance(v, Interval) and not w for v, w in zip(values, wanted)):
        wanted = [isinstance(v, Interval) or w for v, w in zip(values, wanted)]
        if eqn.primitive.name in ("gather", "scatter", "dynamic_slice", "dynamic_update_slice"):
            raise NotImplementedError(f"`{eqn.primitive.name}` at places that depend on the box")
    lifted = [lift(v) if w else v for v, w in zip(values, wanted)]
    bind = partial(eqn.primitive.bind, **eqn.params)
    ends = [bind(*[v[i] if isinstance(v, Interval) else v for v in lifted]) for i in (0, 1)]
    if not eqn.primitive.multiple_results:
        ends = [[end] for end in ends]
    return [Interval(low, high) for low, high in zip(*ends)]


def _added(total: Any, x: Interval, count: int) -> Interval:
    """The sums `total(end)` of numbers, `count` each, in whatever order XLA adds them."""
    info = jnp.finfo(x.dtype)
    error = total(iv.magnitude(x)) * ((count + 2) * float(info.eps)) + count * float(info.tiny)
    out = outward(total(x.low) - error, total(x.high) + error, 1)
    sign = total((x.low < 0).astype(x.dtype)), total((x.high > 0).astype(x.dtype))
    return iv.keep_sign(out, sign[0] == 0, sign[1] == 0)


@rule("reduce_sum")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x, axes = lift(x), tuple(map(int, params["axes"]))
    count = math.prod(x.shape[a] for a in axes)
    if count == 1:
        return Interval(*(lax.squeeze(end, axes) for end in x))
    return _added(lambda end: jnp.sum(end, axes), x, count)


@rule("cumsum")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x = lift(x)
    total = partial(lax.cumsum, axis=params["axis"], reverse=params["reverse"])
    return _added(total, x, x.shape[params["axis"]])


def _largest(name: str, sign: int) -> None:
    @rule(name)
    def apply(smoothness: Smoothness, params: dict, x: Value) -> Interval:
        x, axes = lift(x), tuple(map(int, params["axes"]))
        reduce = partial(jnp.max if sign > 0 else jnp.min, axis=axes)
        out = Interval(*map(reduce, x))
        if math.prod(x.shape[a] for a in axes) > 1:
            # decided where all but one stay on the other side of the best's worst
            wide = Interval(*(jnp.expand_dims(end, axes) for end in out))
            rival = x.high >= wide.low if sign > 0 else x.low <= wide.high
            smoothness.may_kink(jnp.sum(rival, axis=axes) > 1)
        return out


_largest("reduce_max", 1)
_largest("reduce_min", -1)


@rule("reduce_prod")
def _(smoothness: Smoothness, params: dict, x: Value) -> Interval:
    x, axes = lift(x), tuple(map(int, params["axes"]))
    rest = [i for i in range(len(x.shape)) if i not in axes]
    rows = [
        lax.transpose(end, (*axes, *rest)).reshape(-1, *(x.shape[i] for i in rest)) for end in x
    ]
    out = lift(np.ones(rows[0].shape[1:], x.dtype))
    for low, high in zip(*rows):
        out = iv.mul(out, Interval(low, high))
    return out


def _truths(name: str, ufunc: Any) -> None:
    @rule(name)
    def apply(smoothness: Smoothness, params: dict, x: Value) -> Interval:
        return Interval(*(ufunc(end, axis=tuple(map(int, params["axes"]))) for end in lift(x)))


_truths("reduce_and", jnp.all)
_truths("reduce_or", jnp.any)


def scatter_add(eqn: Any, x: Value, places: Value, updates: Value) -> Interval:
    """The rule of `scatter-add`, what the gradient of indexing is made of."""
    if isinstance(places, Interval):
        raise NotImplementedError("`scatter-add` at places that depend on the box")
    a, b = lift(x), lift(updates)
    bind = lambda s, t: eqn.primitive.bind(s, places, t, **eqn.params)
    count, info = math.prod(b.shape) + 1, jnp.finfo(a.dtype)
    error = bind(iv.magnitude(a), iv.magnitude(b)) * ((count + 2) * float(info.eps))
    error = error + count * float(info.tiny)
    return outward(bind(a.low, b.low) - error, bind(a.high, b.high) + error, 1)


@rule("dot_general")
def _(smoothness: Smoothness, params: dict, x: Value, y: Value) -> Interval:
    over, batch = params["dimension_numbers"]
    dtype = params["preferred_element_type"] or x.dtype

    def rows(value: Value, over: Any, batch: Any) -> tuple[Value, tuple, tuple]:
        """As `[batch, rows, terms]`."""
        over, batch = list(map(int, over)), list(map(int, batch))
        rest = [i for i in range(len(value.shape)) if i not in (*over, *batch)]
        size = lambda axes: tuple(value.shape[i] for i in axes)
        shape = [math.prod(size(axes)) for axes in (batch, rest, over)]
        form = lambda end: end.transpose([*batch, *rest, *over]).reshape(shape).astype(dtype)
        moved = Interval(*map(form, value)) if isinstance(value, Interval) else form(value)
        return moved, size(batch), size(rest)

    a, many, left = rows(x, over[0], batch[0])
    b, _, right = rows(y, over[1], batch[1])
    size = math.prod((*a.shape, b.shape[1]))
    points = [v for v in (a, b) if not isinstance(v, Interval)]
    if size > SMALL and len(points) == 1:
        known, moving = (a, b) if points[0] is a else (b, a)
        out = _matrix_product(known, moving)
        if points[0] is not a:
            out = Interval(*(jnp.swapaxes(end, 1, 2) for end in out))
    else:
        widen = lambda v, axis: (
            Interval(*(jnp.expand_dims(end, axis) for end in v))
            if isinstance(v, Interval)
            else np.expand_dims(v, axis)
            if isinstance(v, np.ndarray)
            else jnp.expand_dims(v, axis)
        )
        terms = lift(iv.mul(widen(a, 2), widen(b, 1)))
        if a.shape[2] == 1:
            out = Interval(*(end[..., 0] for end in terms))
        else:
            out = _added(lambda end: jnp.sum(end, -1), terms, a.shape[2])
    return Interval(*(end.reshape(*many, *left, *right) for end in out))


def _matrix_product(point: Any, x: Any) -> Interval:
    """`[batch, m, n]` by `[batch, k, n]` to `[batch, m, k]`: by midpoints and radii.

    For a point this is as narrow as the products one by one (Rump 1999, Fast and parallel interval
    arithmetic), in two products of matrices.
    """
    eps, terms = float(jnp.finfo(x.dtype).eps), point.shape[-1]
    product = lambda s, t: jnp.einsum("bmn,bkn->bmk", s, t, precision=lax.Precision.HIGHEST)
    middle = 0.5 * x.low + 0.5 * x.high
    radius = outward(x.high - middle, jnp.maximum(x.high - middle, middle - x.low), 1).high
    slack = (terms + 4) * eps
    spread = product(jnp.abs(point), radius + slack * jnp.abs(middle)) * (1 + 4 * slack)
    spread = spread + 4 * terms * float(jnp.finfo(x.dtype).tiny)
    centre = product(point, middle)
    return outward(centre - spread, centre + spread, 1)
