"""Constraints on averages: what a leader's policy must keep on the whole, not in each context."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_number, check_within
from stackjax._arrays.modules import check_stateless
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields, PyTree, Utility
from stackjax._game import evaluate

_NUMBER = int | float | np.number | np.ndarray | jax.Array


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Average:
    """A bound on the mean of a function of the play, over contexts or over a horizon's turns.

        E[function(action, response, context)] >= at_least        (or <= at_most)

    For `fit_leader(..., constraints=[...])`. Single plays may break the bound. For one that may
    not, use the game's sets; for a penalty of your own, write it into the leader's utility.

    Attributes:
      function: `(action, response, context) -> scalar`, differentiable. A plain function is
        static; the arrays of a callable pytree are leaves.
      at_least: lower bound, in the unit of `function`; a number, or a scalar array that can be
        traced and `vmap`ped.
      at_most: upper bound; exactly one of the two is given.

    Raises:
      TypeError: `function` is not callable, or a bound is not a number.
      ValueError: both bounds are given or none, a bound is not finite, or `function` is a module
        with state that is not a parameter.

    Example:
      >>> floor = sj.fit.Average(lambda action, response, context: response, at_least=2.0)
      >>> float(floor.margin(jnp.array(2.5)))
      0.5
    """

    function: Utility
    _: dataclasses.KW_ONLY
    at_least: Any = None
    at_most: Any = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                "Average: `function` must be callable as function(action, response, context) -> "
                f"scalar; got {type(self.function).__name__}."
            )
        check_stateless(self.function, "Average.function")
        if (self.at_least is None) == (self.at_most is None):
            given = "neither" if self.at_least is None else "both"
            raise ValueError(f"Average: give `at_least` or `at_most`; got {given}.")
        name = "at_least" if self.at_most is None else "at_most"
        bound = getattr(self, name)
        if isinstance(bound, bool) or not isinstance(bound, _NUMBER):
            raise TypeError(f"Average: `{name}` must be a number; got {bound!r}.")
        check_within(name, bound, "(-inf, inf)", owner="Average: ")

    def margin(self, mean: jax.Array) -> jax.Array:
        """By how much a mean keeps the bound; negative where it breaks it."""
        return mean - self.at_least if self.at_most is None else self.at_most - mean

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """Bounds, and arrays inside a callable pytree, are leaves; plain functions are static."""
        return split_static((self.function, self.at_least, self.at_most))

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> "Average":
        """Rebuilds without validation, as JAX does it around tracers."""
        average = object.__new__(cls)
        for field, value in zip(("function", "at_least", "at_most"), join_static(plain, children)):
            object.__setattr__(average, field, value)
        return average


def check_averages(constraints: Any, dual_rate: Any) -> tuple[Average, ...]:
    """The constraints as a tuple.

    Raises:
      TypeError: they are not a sequence of `Average`, or `dual_rate` is not a number or None.
      ValueError: `dual_rate` is not positive.
    """
    if not isinstance(constraints, Sequence):
        raise TypeError(
            "`constraints` must be a list of stackjax.fit.Average(...); got "
            f"{type(constraints).__name__}."
        )
    for place, constraint in enumerate(constraints):
        if not isinstance(constraint, Average):
            raise TypeError(
                f"`constraints[{place}]` must be a stackjax.fit.Average(...); got "
                f"{type(constraint).__name__}."
            )
    if dual_rate is not None:
        check_number("dual_rate", dual_rate, otherwise=" or None")
        check_within("dual_rate", dual_rate, "(0, inf)")
        if not constraints:
            raise ValueError(f"`dual_rate` must be None without `constraints`; got {dual_rate}.")
    return tuple(constraints)


def values_of(
    averages: Sequence[Average], action: PyTree, response: PyTree, context: PyTree, dtype: Any
) -> jax.Array:
    """`[k]` the functions' values at one play, -inf with a zero gradient where not finite."""
    values = [
        evaluate(average.function, f"constraints[{place}].function", action, response, context)
        for place, average in enumerate(averages)
    ]
    return jnp.stack(values).astype(dtype) if values else jnp.zeros(0, dtype)


def margins(averages: Sequence[Average], means: jax.Array) -> jax.Array:
    """`[k]` by how much the means `[k]` keep their bounds."""
    kept = [average.margin(means[place]) for place, average in enumerate(averages)]
    return jnp.stack(kept).astype(means.dtype) if kept else means


def penalty_unit(
    utility: jax.Array, values: jax.Array, counts: jax.Array, averages: Sequence[Average]
) -> jax.Array:
    """`[k]` a curvature of the price that suits the utility's and the averages' units.

    The utility's spread over the square of what a constrained function differs from its bound by.
    Where all rows are alike the utility's size stands in for its spread.

    Args:
      utility: `[N, M]`.
      values: `[N, M, k]`.
      counts: `[N, M]` bool, which of them count.
      averages: the k constraints.
    """
    number = jnp.maximum(jnp.sum(counts), 1)
    mean = lambda x: jnp.sum(jnp.where(counts, x, 0)) / number
    middle = mean(utility)
    spread = jnp.sqrt(mean((utility - middle) ** 2))
    spread = jnp.where(spread > 1e-3 * jnp.abs(middle), spread, jnp.abs(middle))
    off = jax.vmap(jax.vmap(lambda row: margins(averages, row)))(values)
    square = jax.vmap(mean, in_axes=2)(off**2)
    positive = lambda x: jnp.where(jnp.isfinite(x) & (x > 0), x, 1)
    return jax.lax.stop_gradient(positive(spread) / positive(square))
