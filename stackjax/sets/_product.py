"""One set each, for a tuple of points."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.typing import PyTree
from stackjax.sets._arguments import ravel
from stackjax.sets._base import FeasibleSet
from stackjax.sets._box import Box


@dataclasses.dataclass(frozen=True)
class Product(FeasibleSet):
    """The product of several sets: `point` is a tuple, and each entry is in the set of its place.

    A set that asks for the response, as `Constrained` does, is given its own entry of it.

    Attributes:
      sets: one for each entry.
    """

    sets: tuple[FeasibleSet, ...]

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Those of each, as tuples."""
        both = [own.bounds(entry) for own, entry in zip(self.sets, point)]
        return tuple(low for low, _ in both), tuple(high for _, high in both)

    @property
    def open_sides(self) -> tuple[bool, bool]:
        """As the base class says."""
        low, high = zip(*(own.open_sides for own in self.sets))
        return all(low), all(high)

    def residuals(
        self, point: PyTree, action: PyTree, response: PyTree, context: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """All constraints, follower by follower."""
        dtype = ravel(point).dtype
        every = [own.residuals(e, action, e, context) for own, e in zip(self.sets, point)]
        joined = lambda parts: jnp.concatenate([jnp.zeros(0, dtype), *parts]).astype(dtype)
        return joined([g for g, _ in every]), joined([h for _, h in every])


def product_of(sets: tuple[FeasibleSet | None, ...]) -> FeasibleSet:
    """The product; of boxes alone, a box."""
    own = tuple(Box() if feasible is None else feasible for feasible in sets)
    if any(type(feasible) is not Box for feasible in own):
        return Product(own)
    filled: Any = lambda bound, none: none if bound is None else bound
    boxes = [box for box in own if isinstance(box, Box)]
    return Box(
        tuple(filled(box.lower, -np.inf) for box in boxes),
        tuple(filled(box.upper, np.inf) for box in boxes),
    )
