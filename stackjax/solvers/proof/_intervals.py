"""What values a function takes over a box: its jaxpr, interpreted on intervals.

`enclose(f, low, high)` returns intervals that hold `f(x)` for every `x` of the box, computed with
exact arithmetic on the numbers that are in `f` (its natural inclusion: Moore, Kearfott and Cloud
2009, section 5.4). Numbers that `f` closes over, traced or not, are points. A result that nothing
is known of is unbounded.

Where `f` is not defined for a part of the box (`log` and `sqrt` below zero), the interval holds the
values of the rest, and `Smoothness.jump` says so.

Soundness is falsified by one point of one box whose exact value lies outside. That is what
`tests/solvers/test_intervals.py` looks for.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
else:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from stackjax._arrays.typing import PyTree
from stackjax.solvers.proof._interval import Interval, Value, lift
from stackjax.solvers.proof._interval_moves import EXACT, MOVES, move, scatter_add
from stackjax.solvers.proof._interval_rules import RULES, Smoothness
from stackjax.solvers.proof._values import needed, scan_sizes

# The longest loop that is unrolled.
LONGEST = 64


def enclose(function: Callable[[jax.Array], PyTree], low: jax.Array, high: jax.Array) -> PyTree:
    """Intervals around all values of a function over a box.

    Args:
      function: of an array `[d]`, to a pytree of arrays. It may close over traced values.
      low: the box's lower ends `[d]`.
      high: its upper ends `[d]`.

    Returns:
      The function's pytree, an `Interval` for each array.

    Raises:
      NotImplementedError: for an operation that has no rule here, by name.
    """
    return enclose_and_judge(function, low, high)[0]


def enclose_and_judge(
    function: Callable[[jax.Array], PyTree], low: jax.Array, high: jax.Array
) -> tuple[PyTree, Smoothness]:
    """`enclose`, with what its operations say of the function's smoothness over the box."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(low)
    interpreter = _Interpreter()
    out = interpreter.closed(closed, [lift(Interval(jnp.asarray(low), jnp.asarray(high)))])
    return (
        jax.tree.unflatten(jax.tree.structure(shape), list(map(lift, out))),
        interpreter.smoothness,
    )


class _Interpreter:
    def __init__(self) -> None:
        self.smoothness = Smoothness()

    def closed(self, closed: "ClosedJaxpr", values: Sequence[Value]) -> list[Value]:
        return self.run(closed.jaxpr, closed.consts, values)

    def run(self, jaxpr: "Jaxpr", consts: Sequence[Any], values: Sequence[Value]) -> list[Value]:
        env: dict = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values]))

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return np.asarray(atom.val, atom.aval.dtype)  # type: ignore
            return env[atom]

        for eqn in needed(jaxpr, jaxpr.outvars):
            out = self.step(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, out))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, eqn: "JaxprEqn", values: list[Value]) -> list[Value]:
        name, params = eqn.primitive.name, eqn.params
        inside = self.inside(name, params, values)
        if inside is not None:
            return inside
        if not any(isinstance(value, Interval) for value in values):
            whole = not any(
                jnp.issubdtype(getattr(v.aval, "dtype", bool), jnp.floating)
                for v in (*eqn.outvars, *eqn.invars)
            )
            if whole or name in EXACT or _is_exact_conversion(eqn):
                return _points(eqn, values)
        if name in ("empty", "empty2"):
            return [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]  # type: ignore
        if name in MOVES:
            return move(eqn, values)
        if name in ("scatter-add", "scatter_add"):
            return [scatter_add(eqn, *values)]
        if name not in RULES:
            raise NotImplementedError(
                f"`proof` has no interval rule for the operation `{name}` of JAX. Write the "
                "utility without it, or compute what does not depend on the response before the "
                "call."
            )
        try:
            return [RULES[name](self.smoothness, params, *values)]
        except NotImplementedError as error:
            raise NotImplementedError(
                f"`proof` has no interval rule for {error} (operation `{name}`)"
            ) from error

    def inside(self, name: str, params: dict, values: list[Value]) -> list[Value] | None:
        """Operations made of jaxprs; None if it is not one."""
        if name in ("jit", "pjit", "closed_call", "core_call", "eval_jaxpr", "custom_jvp_call"):
            return self.closed(params["jaxpr" if "jaxpr" in params else "call_jaxpr"], values)
        if name.startswith("custom_vjp_call"):
            inner = next(params[k] for k in ("call_jaxpr", "fun_jaxpr") if k in params)
            return self.closed(inner, values)
        if name in ("checkpoint", "remat", "remat2"):
            return self.run(params["jaxpr"], [], values)
        if name == "custom_vmap_call":
            return self.closed(params["call"], values)
        if name == "cond":
            return self.branch(params["branches"], *values)
        if name == "scan":
            return self.loop(params, values)
        return None

    def branch(self, branches: Sequence["ClosedJaxpr"], which: Value, *values: Value) -> list:
        if isinstance(which, np.ndarray):
            return self.closed(branches[int(np.clip(which, 0, len(branches) - 1))], values)
        rows = zip(*(self.closed(branch, values) for branch in branches))
        if not isinstance(which, Interval):
            which = jnp.clip(which, 0, len(branches) - 1)
        return [RULES["select_n"](self.smoothness, {}, which, *row) for row in rows]

    def loop(self, params: dict, values: list[Value]) -> list[Value]:
        length, (consts, carried) = params["length"], scan_sizes(params)
        if length > LONGEST:
            raise NotImplementedError(
                f"`proof` unrolls a `scan` of at most {LONGEST} steps; got one of {length}"
            )
        fixed, state = values[:consts], values[consts : consts + carried]
        rows, out = values[consts + carried :], [None] * length
        pick = lambda v, i: Interval(*(e[i] for e in v)) if isinstance(v, Interval) else v[i]
        for i in range(length)[:: -1 if params["reverse"] else 1]:
            result = self.closed(params["jaxpr"], [*fixed, *state, *(pick(v, i) for v in rows)])
            state, out[i] = result[:carried], list(map(lift, result[carried:]))
        stacks = [Interval(*(jnp.stack(ends) for ends in zip(*row))) for row in zip(*out)]
        return [*state, *stacks]


def _is_exact_conversion(eqn: "JaxprEqn") -> bool:
    """Truths, and to a wider type; of whole numbers, those that are known are looked at."""
    if eqn.primitive.name != "convert_element_type":
        return False
    old, new = (np.dtype(v.aval.dtype) for v in (eqn.invars[0], eqn.outvars[0]))  # type: ignore
    if old.kind == "b" or new.kind in "bui":
        return True
    return old.kind == "f" and new.itemsize >= old.itemsize


def _points(eqn: "JaxprEqn", values: list[Value]) -> list[Value]:
    """The operation itself; at once where all is known."""
    bind = lambda: eqn.primitive.bind(*values, **eqn.params)
    if all(isinstance(value, np.ndarray) for value in values):
        with jax.ensure_compile_time_eval():
            out = bind()
            many = out if eqn.primitive.multiple_results else [out]
            return [np.asarray(x) for x in many]
    out = bind()
    return list(out) if eqn.primitive.multiple_results else [out]
