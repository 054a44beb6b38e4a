"""A function without the derivative rules that its author, or JAX, gave it.

A proof takes derivatives for what they are, not for what a rule says they are: `stop_gradient` and
a straight-through estimator would falsify it. So derivative rules are dropped, and the operations
inside are differentiated. Two exceptions, where JAX's operations have kinks that the result has
not: `logaddexp` (and `softplus`), and numbers like the maximum in `softmax`, see `_shifts.py`.
"""

from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
else:
    from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from stackjax.solvers.proof._shifts import is_free_of


def values_of(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> Callable:
    """The function traced at `x`, as a function whose derivatives are those of its values."""
    closed = jax.make_jaxpr(function)(x)
    flat = jax.make_jaxpr(lambda x: _closed(closed, [x])[0])(x)
    stops = [
        eqn.outvars[0]
        for eqn in flat.jaxpr.eqns
        if eqn.primitive.name == "stop_gradient" and eqn.outvars[0].aval.size == 1  # type: ignore
    ]
    fixed = [number for number in stops if is_free_of(flat.jaxpr, number)]
    # what does not matter is what it is at `x`
    known = dict(zip(fixed, _run(flat, x, fixed, {})))
    return lambda x: jnp.asarray(_run(flat, x, flat.jaxpr.outvars, known)[0])


def needed(jaxpr: "Jaxpr", wanted: Sequence[Any], known: Container[Any] = ()) -> list:
    """The operations that variables depend on. Those of `known` ones are not needed."""
    open_, kept = {v for v in wanted if not isinstance(v, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if any(v in open_ and v not in known for v in eqn.outvars):
            kept.append(eqn)
            open_.update(v for v in eqn.invars if not isinstance(v, Literal))
    return kept[::-1]


def _run(closed: "ClosedJaxpr", x: jax.Array, wanted: Sequence[Any], known: dict) -> list:
    """Evaluates variables, without what is known, and with other stopped gradients let through."""
    jaxpr = closed.jaxpr
    env: dict = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, x])) | known
    read = lambda atom: atom.val if isinstance(atom, Literal) else env[atom]
    for eqn in needed(jaxpr, wanted, known):
        inputs = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name == "stop_gradient":
            out = inputs
        elif eqn.primitive.name == "custom_jvp_call":  # of which only ours is left
            out = [_softplus(*inputs)]
        else:
            out = eqn.primitive.bind(*inputs, **eqn.params)
            out = out if eqn.primitive.multiple_results else [out]
        env.update(zip(eqn.outvars, out))
    return list(map(read, wanted))


def _closed(closed: "ClosedJaxpr", values: Sequence[Any]) -> list:
    return _inline(closed.jaxpr, closed.consts, values)


def _inline(jaxpr: "Jaxpr", consts: Sequence[Any], values: Sequence[Any]) -> list:
    env: dict = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values]))
    read = lambda atom: atom.val if isinstance(atom, Literal) else env[atom]
    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        out = _step(eqn, inputs)
        env.update(zip(eqn.outvars, out))
    return list(map(read, jaxpr.outvars))


def _step(eqn: Any, values: list) -> list:
    name, params = eqn.primitive.name, eqn.params
    if name == "custom_jvp_call" and _form(params["call_jaxpr"].jaxpr) == _logaddexp():
        x, y = values
        return [y + _softplus(x - y)]
    if name in ("jit", "pjit", "closed_call", "core_call", "eval_jaxpr", "custom_jvp_call"):
        return _closed(params["jaxpr" if "jaxpr" in params else "call_jaxpr"], values)
    if name.startswith("custom_vjp_call"):
        inner = next(params[k] for k in ("call_jaxpr", "fun_jaxpr") if k in params)
        return _closed(inner, values)
    if name in ("checkpoint", "remat", "remat2"):
        return _inline(params["jaxpr"], [], values)
    if name == "custom_vmap_call":
        return _closed(params["call"], values)
    if name == "while":
        raise NotImplementedError("`proof` has no interval rule for the operation `while` of JAX")
    if name == "cond":
        which, *rest = values
        bodies = [lambda *v, b=branch: _closed(b, v) for branch in params["branches"]]
        return lax.switch(which, bodies, *rest)
    if name == "scan":
        return _scan(params, values)
    out = eqn.primitive.bind(*values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def scan_sizes(params: dict) -> tuple[int, int]:
    """How many constants a `scan` has, and how many carried values."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    try:  # JAX 0.12
        consts, carried, _ = map(len, params["ft_in"].unpack())
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise NotImplementedError(
            "`proof` does not know the parameters of the operation `scan` of this JAX"
        ) from error
    return consts, carried


def _scan(params: dict, values: list) -> list:
    consts, carried = scan_sizes(params)
    fixed, state = values[:consts], values[consts : consts + carried]

    def body(state: list, row: list) -> tuple[list, list]:
        out = _closed(params["jaxpr"], [*fixed, *state, *row])
        return out[:carried], out[carried:]

    length, reverse = params["length"], params["reverse"]
    state, rows = lax.scan(body, list(state), values[consts + carried :], length, reverse=reverse)
    return [*state, *rows]


@jax.custom_jvp
def _softplus(x: jax.Array) -> jax.Array:
    """`log(1 + exp(x))`; of JAX's operations the one with `x` but once."""
    return -jnp.log(lax.logistic(-x))


@_softplus.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return _softplus(*primals), lax.logistic(*primals) * tangents[0]


def _form(jaxpr: "Jaxpr") -> tuple:
    """What a jaxpr computes, without names and shapes."""
    places = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
    rows = []
    for eqn in jaxpr.eqns:
        inputs = [str(a) if isinstance(a, Literal) else places[a] for a in eqn.invars]
        rows.append((eqn.primitive.name, *inputs))
        places.update({v: len(places) + i for i, v in enumerate(eqn.outvars)})
    results = [str(a) if isinstance(a, Literal) else places[a] for a in jaxpr.outvars]
    return (*rows, *results)


@cache
def _logaddexp() -> tuple | None:
    """The form of JAX's own, which has a kink where its arguments are equal; None if unknown."""
    jaxpr = jax.make_jaxpr(jnp.logaddexp)(0.0, 0.0).jaxpr
    while jaxpr.eqns and jaxpr.eqns[0].primitive.name in ("jit", "pjit"):
        jaxpr = jaxpr.eqns[0].params["jaxpr"].jaxpr
    if len(jaxpr.eqns) != 1 or jaxpr.eqns[0].primitive.name != "custom_jvp_call":
        return None
    return _form(jaxpr.eqns[0].params["call_jaxpr"].jaxpr)
