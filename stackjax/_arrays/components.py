"""A function of small arrays, rewritten as a function of their components.

A batch of `[d]` vectors with `d = 3` is a bad shape for every device: XLA makes loops over three
numbers, library calls for 3 x 3 matrices, and little of it fuses. Held as `d` separate scalars
instead, each intermediate of a `vmap`ped function is one vector over the batch, and a Newton step
with its gradient, Hessian and factorisation is elementwise arithmetic on such vectors.

`componentwise(f)` traces `f` and evaluates its jaxpr anew: every array of at most `SPLIT` numbers
is split, elementwise operations run component by component, those that only move numbers about
cost nothing, and what has no rule here runs on the array itself, put together again. The values
are those of `f` but for rounding: sums are added up in order.

JAX promises neither the names of its operations' parameters nor what is in them. Where one is not
as expected here, `f` runs as it is, with the same values and more slowly, and one warning for each
reason says so. With `STACKJAX_COMPONENTS=0` in the environment every function does, silently.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
else:
    try:
        from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
    except ImportError:  # then every function stays as it is, as with STACKJAX_COMPONENTS=0
        ClosedJaxpr = Jaxpr = JaxprEqn = Literal = jaxpr_as_fun = None

from stackjax._arrays.blocks import closed_in_blocks, in_blocks
from stackjax._arrays.component_rules import ELEMENTWISE, MOVES, REDUCTIONS, constant
from stackjax._arrays.split_values import (
    Value,
    is_known,
    is_small,
    objects,
    packing,
    size_of,
)
from stackjax._arrays.typing import PyTree

# The most operations that a function is split into: compile time grows with them.
MOST = 2000
# A product with a matrix that is not split may have as many numbers, and be split.
LAYER = 4


def componentwise(
    function: Callable, *, detached: bool = False, block: int | None = None
) -> Callable:
    """`function`, evaluated by components.

    Args:
      function: of pytrees of arrays, to such a pytree. It may close over traced values.
      detached: True if the result is not to be differentiated: custom derivative rules inside are
        then dropped.
      block: if given, `jax.vmap` runs the function on that many members at a time, and the result
        is not to be differentiated.

    Returns:
      A function of the same arguments. It stays as it is, but for the blocks, where it takes more
      than `MOST` scalar operations.
    """

    def call(*arguments: PyTree) -> PyTree:
        plain = function if block is None else closed_in_blocks(function, block)
        if os.environ.get("STACKJAX_COMPONENTS", "1") == "0":
            return plain(*arguments)
        if jaxpr_as_fun is None:
            _warn(f"JAX {jax.__version__} has no `jax.extend.core` as it is known here")
            return plain(*arguments)
        # errors in the function itself are raised here, and not taken for ours
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        try:
            values = [Value.of(x) for x in (*closed.consts, *jax.tree.leaves(arguments))]
            avals = [v.aval for v in (*closed.jaxpr.constvars, *closed.jaxpr.invars)]
            out = _run(closed.jaxpr, values, avals, detached, block)
        except _TooManyError:
            return plain(*arguments)
        except (_UnknownError, AttributeError, KeyError, TypeError) as error:
            out = plain(*arguments)  # which raises what was the user's error after all
            known = isinstance(error, _UnknownError)
            _warn(str(error) if known else f"{type(error).__name__}: {error}")
            return out
        return jax.tree.unflatten(jax.tree.structure(shape), [value.whole for value in out])

    return call


def _run(
    jaxpr: "Jaxpr", values: list["Value"], avals: list, detached: bool, block: int | None
) -> list["Value"]:
    count = len(jaxpr.constvars)
    run = lambda values: _Interpreter(detached).run(jaxpr, values[:count], values[count:])
    if block is None:
        return run(values)
    # Constants stay outside, and so do not become arrays with an axis over the batch.
    varied = [i for i, value in enumerate(values) if not value.known]
    pack, unpack = packing([values[i] for i in varied], [avals[i] for i in varied])
    results = [Value(v.aval.shape) for v in jaxpr.outvars]  # type: ignore
    give, take = packing(results, [v.aval for v in jaxpr.outvars])

    def body(state: list) -> list:
        every = list(values)
        for i, value in zip(varied, unpack(state)):
            every[i] = value
        return give(run(every))

    # Where JAX forgets custom derivative rules, within scans, it would differentiate this.
    return take(in_blocks(body, block)(lax.stop_gradient(pack([values[i] for i in varied]))))


def kept(function: Callable) -> Callable:
    """`function`, which `componentwise` leaves as it is: for what is rarely run."""

    def stackjax_kept(*arguments: PyTree) -> PyTree:
        return function(*arguments)

    return jax.jit(stackjax_kept)


class _TooManyError(Exception):
    """The function does not pay to be split."""


class _UnknownError(Exception):
    """This JAX has an operation that is not as we know it."""


# What is raised where a parameter is missing, has another form, or a function another signature.
_SURPRISES = (KeyError, AttributeError, TypeError, IndexError, ValueError, NotImplementedError)
_warned: set[str] = set()


def _warn(reason: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(
            f"stackjax: {reason}, so a function runs as it is, which may be slower; its values are "
            "the same. STACKJAX_COMPONENTS=0 turns this rewriting off.",
            UserWarning,
            stacklevel=2,
        )


def _apply(jaxpr: "Jaxpr", eqn: "JaxprEqn") -> Callable[..., list]:
    """The operation itself, custom derivative rules and all; of arrays, to a list of them."""
    if not eqn.primitive.name.startswith("custom_"):
        bind = lambda *arrays: eqn.primitive.bind(*arrays, **eqn.params)
        return bind if eqn.primitive.multiple_results else lambda *arrays: [bind(*arrays)]
    # its parameters are JAX's own matter: let JAX evaluate a jaxpr of that one operation
    alone = jaxpr.replace(
        constvars=(),
        invars=[atom for atom in eqn.invars if not isinstance(atom, Literal)],
        outvars=eqn.outvars,
        eqns=[eqn],
    )
    evaluate = jaxpr_as_fun(ClosedJaxpr(alone, ()))
    given = [not isinstance(atom, Literal) for atom in eqn.invars]
    return lambda *arrays: evaluate(*[x for x, use in zip(arrays, given) if use])


class _Interpreter:
    def __init__(self, detached: bool) -> None:
        self.detached, self.count = detached, 0

    def closed(self, closed: "ClosedJaxpr", values: Sequence[Value]) -> list[Value]:
        return self.run(closed.jaxpr, [Value.of(c) for c in closed.consts], values)

    def run(self, jaxpr: "Jaxpr", consts: Sequence[Value], values: Sequence[Value]) -> list[Value]:
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values]))

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return Value.of(np.asarray(atom.val, atom.aval.dtype))  # type: ignore
            return env[atom]

        for eqn in jaxpr.eqns:
            out = self.step(jaxpr, eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, out))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, jaxpr: "Jaxpr", eqn: "JaxprEqn", values: list[Value]) -> list[Value]:
        try:
            return self.known_step(jaxpr, eqn, values)
        except _SURPRISES as error:
            name = getattr(getattr(eqn, "primitive", None), "name", "?")
            raise _UnknownError(
                f"the operation `{name}` of JAX {jax.__version__} is not as expected "
                f"({type(error).__name__}: {str(error)[:200]})"
            ) from error

    def known_step(self, jaxpr: "Jaxpr", eqn: "JaxprEqn", values: list[Value]) -> list[Value]:
        """One operation, by the first way that fits."""
        shapes = [v.aval.shape for v in eqn.outvars]  # type: ignore
        inside = self.inside(jaxpr, eqn, values)
        if inside is not None:
            return inside
        sizes = [*(value.size for value in values), *map(size_of, shapes)]
        layer = any(value.layer for value in values)
        small = all(map(is_small, sizes)) and not layer
        if small and shapes and not eqn.effects:
            if all(value.known for value in values):
                whole = [value.whole for value in values]
                fixed = constant(eqn.primitive.name, eqn.params, whole, shapes[0])
                if fixed is not None:
                    return [Value.of(fixed)]
            parts = self.split(eqn, values, shapes[0])
            if parts is not None:
                return [Value(x.shape, parts=x) for x in parts]
        out = [Value.of(x) for x in _apply(jaxpr, eqn)(*[value.whole for value in values])]
        # A network's layer between products of matrices that are not split is left whole: taken
        # apart and put together again for each product it takes minutes to compile.
        for value in out:
            value.layer = value.size > LAYER and (layer or eqn.primitive.name == "dot_general")
        return out

    def inside(self, jaxpr: "Jaxpr", eqn: "JaxprEqn", values: list[Value]) -> list[Value] | None:
        """Operations made of jaxprs; None if it is not one, or to be taken as it is."""
        name, params = eqn.primitive.name, eqn.params
        if name in ("jit", "pjit") and params["name"] == "stackjax_kept":
            return None
        if name in ("jit", "pjit", "closed_call", "core_call", "eval_jaxpr"):
            return self.closed(params["jaxpr" if "jaxpr" in params else "call_jaxpr"], values)
        if name in ("checkpoint", "remat", "remat2") and self.detached:
            return self.run(params["jaxpr"], [], values)
        if name == "while":
            return self.loop(params, values)
        if name == "cond" and not params["branches"][0].effects:
            return self.branch(params, values)
        if name == "custom_jvp_call" and not self.detached:
            return self.ruled(params, _apply(jaxpr, eqn), values)
        if not self.detached:
            return None
        if name in ("custom_jvp_call", "custom_vjp_call"):
            return self.closed(params["call_jaxpr"], values)
        if name == "custom_vmap_call":
            return self.closed(params["call"], values)
        if name == "custom_linear_solve":
            lengths, solve = params["const_lengths"], params["jaxprs"].solve
            first = lengths.matvec + lengths.vecmat
            last = first + lengths.solve
            right = values[last + lengths.transpose_solve :]
            return self.closed(solve, [*values[first:last], *right])
        return None

    def ruled(self, params: dict, whole: Callable, values: list[Value]) -> list[Value] | None:
        """A function with a derivative rule of its own, which is kept, by components too."""
        closed = params["call_jaxpr"]
        pack, unpack = packing(values, closed.in_avals)
        given, back = packing([Value(a.shape) for a in closed.out_avals], closed.out_avals)

        @jax.custom_jvp
        def call(state: list) -> list:
            return given(self.closed(closed, unpack(state)))

        @call.defjvp
        def rule(primals: tuple, tangents: tuple) -> tuple[list, list]:
            arrays = [[value.whole for value in unpack(state)] for state in (*primals, *tangents)]
            derive = lambda x, dx: jax.jvp(whole, x, dx)
            try:
                if self.count > MOST:
                    raise _TooManyError
                traced = jax.make_jaxpr(derive)(*map(tuple, arrays))
                out = self.closed(traced, [*unpack(primals[0]), *unpack(tangents[0])])
            except (_TooManyError, _UnknownError) as error:  # this runs after all else was split
                out = [Value.of(x) for x in jax.tree.leaves(derive(*map(tuple, arrays)))]
                if isinstance(error, _UnknownError):
                    _warn(str(error))
            half = len(out) // 2
            return given(out[:half]), given(out[half:])

        return back(call(pack(values)))

    def loop(self, params: dict, values: list[Value]) -> list[Value] | None:
        n, m = params["cond_nconsts"], params["body_nconsts"]
        cond, body = params["cond_jaxpr"], params["body_jaxpr"]
        if body.effects or cond.effects:
            return None
        outside, start = [value.outside() for value in values[: n + m]], values[n + m :]
        shut = lambda: [value() for value in outside[:n]]
        fixed = lambda: [value() for value in outside[n:]]
        pack, unpack = packing(start, body.in_avals[m:])
        done = lambda state: self.closed(cond, [*shut(), *unpack(state)])[0].whole
        step = lambda state: pack(self.closed(body, [*fixed(), *unpack(state)]))
        return unpack(lax.while_loop(lambda s: jnp.asarray(done(s)), step, pack(start)))

    def branch(self, params: dict, values: list[Value]) -> list[Value]:
        index, *operands = values
        branches = params["branches"]
        if index.known:
            return self.closed(branches[int(index.whole)], operands)
        out = [Value(aval.shape) for aval in branches[0].out_avals]
        pack, unpack = packing(out, branches[0].out_avals)
        outside = [value.outside() for value in operands]
        inside = lambda b: pack(self.closed(b, [value() for value in outside]))
        bodies = [partial(inside, b) for b in branches]
        return unpack(lax.switch(index.whole, bodies))

    def split(
        self, eqn: "JaxprEqn", values: list[Value], shape: tuple[int, ...]
    ) -> list[np.ndarray] | None:
        """The components of the results, the first in `shape`; None if there is no rule for it."""
        name, params = eqn.primitive.name, eqn.params
        if name in MOVES:
            return MOVES[name]([value.parts for value in values], params, shape)
        if name == "gather" and values[1].known:
            return self.gather(eqn, *values)
        if name in ELEMENTWISE:
            rows = [np.broadcast_to(value.parts, shape).flat for value in values]
            if name == "select_n" and values[0].known:
                scalars = [x[1 + int(x[0])] for x in zip(*rows)]
            else:
                operation = partial(eqn.primitive.bind, **params)
                scalars = [self.scalar(operation, x) for x in zip(*rows)]
            return [objects(scalars, shape)]
        if name in REDUCTIONS:
            axes, (value,) = tuple(params["axes"]), values
            rest = [i for i in range(len(value.shape)) if i not in axes]
            rows = value.parts.transpose([*rest, *axes]).reshape(size_of(shape), -1)
            return [objects([self.reduce(REDUCTIONS[name], row) for row in rows], shape)]
        if name == "dot_general":
            left, right = values
            return [self.contract(params, left, right, shape)]
        return None

    def gather(self, eqn: "JaxprEqn", value: Value, index: Value) -> list[np.ndarray] | None:
        """With constant indices: done once, on the components' positions."""
        places = np.arange(value.size, dtype=np.int32).reshape(value.shape)
        with jax.ensure_compile_time_eval():
            params = {**eqn.params, "fill_value": -1}
            moved = np.asarray(eqn.primitive.bind(places, index.whole, **params))
        # what is not a position fills in for an index out of range
        if np.any((moved < 0) | (moved >= value.size)):
            return None
        return [objects(value.parts.ravel()[moved.ravel()].tolist(), moved.shape)]

    def scalar(self, operation: Callable, scalars: Sequence[Any]) -> Any:
        self.count += 1
        if self.count > MOST:
            raise _TooManyError
        return operation(*scalars)

    def reduce(self, operation: Callable, row: Iterable[Any]) -> Any:
        total, *rest = row
        for x in rest:
            total = self.scalar(operation, (total, x))
        return total

    def contract(
        self, params: dict, left: Value, right: Value, shape: tuple[int, ...]
    ) -> np.ndarray:
        """A product of matrices, in the precision of its result."""
        (over, batch), dtype = params["dimension_numbers"], params["preferred_element_type"]

        def rows(value: Value, over: Sequence[int], batch: Sequence[int]) -> np.ndarray:
            rest = [i for i in range(len(value.shape)) if i not in (*over, *batch)]
            sizes = [size_of([value.shape[i] for i in axes]) for axes in (batch, rest, over)]
            return value.parts.transpose([*batch, *rest, *over]).reshape(sizes)

        def number(x: Any) -> Any:
            if dtype is None or x.dtype == dtype:
                return x
            return x.astype(dtype) if is_known(x) else lax.convert_element_type(x, dtype)

        a, b = rows(left, over[0], batch[0]), rows(right, over[1], batch[1])
        out = [
            self.reduce(
                lax.add, [self.scalar(lax.mul, (number(x), number(y))) for x, y in zip(u, v)]
            )
            for p, q in zip(a, b)
            for u in p
            for v in q
        ]
        return objects(out, shape)
