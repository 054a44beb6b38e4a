"""Numbers that a function subtracts for the sake of rounding, and does not depend on.

`softmax` and `logsumexp` subtract the maximum of their argument, which has kinks that the result
has not, and stop its gradient. Such a number `m` may be any constant. That it may is proven here,
not believed: through the operations that follow, each value is followed as `v + k m` (shifted by k)
or as `v exp(k m)` (scaled by k) with a `v` that is free of `m`, and the result must be free.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jax.extend.core import Jaxpr, JaxprEqn, Literal
else:
    from jax.extend.core import Jaxpr, JaxprEqn, Literal

FREE = ("shift", Fraction(0))
_MOVES = frozenset(
    """broadcast_in_dim reshape squeeze expand_dims transpose slice rev concatenate copy copy_p
    stop_gradient optimization_barrier stack""".split()
)
_ORDERED = frozenset("max min reduce_max reduce_min".split())
_COMPARISONS = frozenset("eq ne lt le gt ge".split())


class _UnknownError(Exception):
    """How a value depends on the number is not known."""


def is_free_of(jaxpr: "Jaxpr", number: Any) -> bool:
    """Whether the results are the same whatever a scalar variable of the jaxpr is set to."""
    forms: dict = {number: ("shift", Fraction(1))}
    read = lambda atom: FREE if isinstance(atom, Literal) else forms.get(atom, FREE)
    try:
        for eqn in jaxpr.eqns:
            if number in eqn.outvars:
                continue
            inputs = [read(atom) for atom in eqn.invars]
            if any(form != FREE for form in inputs):
                forms.update(dict.fromkeys(eqn.outvars, _form(eqn, inputs)))
    except _UnknownError:
        return False
    return all(read(atom) == FREE for atom in jaxpr.outvars)


def _as(kind: str, form: tuple) -> Fraction:
    if form == FREE:
        return Fraction(0)
    if form[0] != kind:
        raise _UnknownError
    return form[1]


def _of(kind: str, amount: Fraction) -> tuple:
    return (kind, amount) if amount else FREE


def _form(eqn: "JaxprEqn", inputs: list) -> tuple:
    name, first = eqn.primitive.name, inputs[0]
    alike = all(form == first for form in inputs)
    if name in _MOVES | _ORDERED and alike:
        return first
    if name in _COMPARISONS and alike:
        return FREE
    if name == "select_n" and first == FREE and all(form == inputs[1] for form in inputs[2:]):
        return inputs[1]
    if name in ("add", "sub", "add_any"):
        if alike and first[0] == "scale":
            return first
        sign = -1 if name == "sub" else 1
        return _of("shift", _as("shift", first) + sign * _as("shift", inputs[1]))
    if name in ("mul", "div"):
        sign = -1 if name == "div" else 1
        return _of("scale", _as("scale", first) + sign * _as("scale", inputs[1]))
    if name == "neg":
        return first if first[0] == "scale" else _of("shift", -first[1])
    if name == "reduce_sum":
        size = lambda v: int(np.prod(v.aval.shape, dtype=int))
        terms = size(eqn.invars[0]) // max(1, size(eqn.outvars[0]))
        return first if first[0] == "scale" else _of("shift", terms * first[1])
    if name == "exp":
        return _of("scale", _as("shift", first))
    if name == "log":
        return _of("shift", _as("scale", first))
    if name == "abs":
        return _of("scale", _as("scale", first))
    if name == "sign":
        _as("scale", first)
        return FREE
    if name == "integer_pow":
        return _of("scale", eqn.params["y"] * _as("scale", first))
    if name == "sqrt":
        return _of("scale", _as("scale", first) / 2)
    raise _UnknownError
