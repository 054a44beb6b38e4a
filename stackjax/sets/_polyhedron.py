"""Linear inequalities and equalities."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax._arrays.modules import call, check_stateless
from stackjax._arrays.typing import PyTree
from stackjax.sets._arguments import as_array, concrete, ravel
from stackjax.sets._base import FeasibleSet
from stackjax.sets._box import Box, check_box
from stackjax.sets._linear_program import satisfiable

# An array, or (action, context) -> array.
Term = jax.typing.ArrayLike | Sequence[Any] | Callable[..., Any] | None


@dataclasses.dataclass(frozen=True)
class Polyhedron(FeasibleSet):
    """Linear constraints within a box, `A r <= b` and `E r = d`.

    `r` is the point as one vector of `n` numbers, in the order of
    `jax.flatten_util.ravel_pytree`.

    `A`, `b`, `E` and `d` are arrays or functions `(action, context) -> array`, so that a
    follower's polyhedron can move with what the leader does. (In an action set they should depend
    on the context only.) Arrays may be traced and are differentiable, as is what the functions
    depend on. For a batch, make one in each lane: `jax.vmap(Polyhedron)(A, b)`.

    Attributes:
      A: `[m, n]`, one row for each inequality; given together with `b`.
      b: `[m]`.
      E: `[p, n]`, one row for each equality; given together with `d`.
      d: `[p]`.
      box: coordinatewise bounds besides; the whole space by default.

    Raises:
      TypeError: a term is neither numbers nor callable, or `box` is not a Box.
      ValueError: there is no term, or one without its partner; shapes do not fit each other or
        the point; a number is not finite; a function is a module with state that is not a
        parameter; no point satisfies the constraints (checked where all four are known numbers,
        together with the bounds where these are scalars or of shape `[n]`).

    Example:
      >>> budget = sj.Polyhedron(A=jnp.ones((1, 2)), b=lambda action, context: action[None])
      >>> plan = jnp.array([0.3, 0.6])
      >>> bool(budget.contains(plan, action=jnp.array(1.0)))
      True
      >>> bool(budget.contains(plan, action=jnp.array(0.5)))
      False
    """

    A: Term = None
    b: Term = None
    E: Term = None
    d: Term = None
    _: dataclasses.KW_ONLY
    box: Box = dataclasses.field(default_factory=Box)

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in "AbEd"}
        if all(term is None for term in given.values()):
            raise ValueError("Polyhedron: give `A` and `b`, or `E` and `d`; with neither, use Box.")
        for one, other in ("Ab", "bA", "Ed", "dE"):
            if given[one] is not None and given[other] is None:
                raise ValueError(f"Polyhedron: `{one}` was given without `{other}`.")
        check_box("Polyhedron", self.box)
        for name, term in given.items():
            if callable(term):
                check_stateless(term, f"Polyhedron.{name}")
            elif term is not None:
                given[name] = as_array("Polyhedron", name, term)
                object.__setattr__(self, name, given[name])
                if not all(np.isfinite(x).all() for x in concrete(given[name])):
                    raise ValueError(f"Polyhedron: `{name}` must be finite; got {term}.")
        n = _check_shapes({name: None if callable(t) else t for name, t in given.items()})
        if n is not None and concrete(given) and not any(map(callable, given.values())):
            sides = _side(self.box.lower, -np.inf, n), _side(self.box.upper, np.inf, n)
            if not satisfiable(*_filled(given, n), *sides):
                raise ValueError(
                    "Polyhedron: it is empty, no point satisfies `A r <= b`, `E r = d` and the box."
                )

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Those of the box."""
        return self.box.bounds(point)

    @property
    def open_sides(self) -> tuple[bool, bool]:
        """As the base class says."""
        return self.box.open_sides

    def residuals(
        self, point: PyTree, action: PyTree, response: PyTree, context: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """`A r - b` and `E r - d`."""
        r = ravel(point)
        A, b, E, d = (jnp.asarray(x, r.dtype) for x in self._terms(r.size, action, context))
        exact = lax.Precision.HIGHEST
        return jnp.matmul(A, r, precision=exact) - b, jnp.matmul(E, r, precision=exact) - d

    def nonempty(self, point: PyTree, action: PyTree, context: PyTree) -> bool:
        """Whether some point shaped as `point` is in it, given the play; not under a trace."""
        lower, upper = (np.asarray(ravel(side)) for side in self.bounds(point))
        terms = self._terms(lower.size, action, context)
        for name, term in zip("AbEd", terms):
            if not np.isfinite(np.asarray(term)).all():
                raise ValueError(f"Polyhedron: `{name}` is not finite for this action and context.")
        return satisfiable(*terms, lower, upper)

    def _terms(self, n: int, action: PyTree, context: PyTree) -> tuple[Any, Any, Any, Any]:
        terms = {}
        for name in "AbEd":
            term = getattr(self, name)
            if callable(term):
                found = call(term, f"Polyhedron.{name}", action, context)
                term = as_array("Polyhedron", name, found)
            terms[name] = term
        _check_shapes(terms, n)
        return _filled(terms, n)


def _check_shapes(terms: dict[str, Any], n: int | None = None) -> int | None:
    """Raises ValueError unless shapes fit each other and `n`; returns `n`, None if still open."""
    for matrix, vector, rows in (("A", "b", "m"), ("E", "d", "p")):
        if terms[matrix] is not None:
            shape = jnp.shape(terms[matrix])
            if len(shape) != 2 or n not in (None, shape[1]):
                raise ValueError(
                    f"Polyhedron: `{matrix}` must have shape [{rows}, n] with n"
                    f"{'' if n is None else f' = {n}'} the size of the point; got {shape}."
                )
            rows, n = shape
        if terms[vector] is not None:
            shape = jnp.shape(terms[vector])
            if len(shape) != 1 or (isinstance(rows, int) and shape[0] != rows):
                raise ValueError(
                    f"Polyhedron: `{vector}` must have shape [{rows}], one number for each row of "
                    f"`{matrix}`; got {shape}."
                )
    return n


def _filled(terms: dict[str, Any], n: int) -> tuple[Any, Any, Any, Any]:
    """`A, b, E, d`, with no rows for what is None."""
    fill = lambda name, shape: np.zeros(shape) if terms[name] is None else terms[name]
    return fill("A", (0, n)), fill("b", 0), fill("E", (0, n)), fill("d", 0)


def _side(bound: PyTree, open_side: float, n: int) -> np.ndarray:
    """A bound that is a number or `[n]` numbers; open where it is anything else."""
    known = concrete(bound) if jax.tree_util.all_leaves([bound]) else []
    fits = [np.broadcast_to(x, n) for x in known if x.shape in ((), (n,))]
    return fits[0] if fits else np.full(n, open_side)
