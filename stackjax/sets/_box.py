"""Coordinatewise bounds."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.typing import PyTree
from stackjax.sets._arguments import broadcast, check_numbers, concrete, ravel
from stackjax.sets._base import FeasibleSet


@dataclasses.dataclass(frozen=True)
class Box(FeasibleSet):
    """Coordinatewise bounds, `lower <= y <= upper`.

    Bounds are scalars or arrays that broadcast against every leaf of the point they bound, or
    pytrees of such, with the point's structure or a prefix of it. None and infinite bounds leave a
    side open; `Box()` is the whole space; `lower == upper` pins a coordinate.

    Bounds may be traced and are differentiable: at an active bound the best response moves with
    the bound.

    Attributes:
      lower: smallest allowed values.
      upper: largest allowed values.

    Raises:
      TypeError: a bound is not a number.
      ValueError: a bound is NaN, `lower` is inf or `upper` is -inf, or some lower bound lies above
        its upper bound (here or, where structures differ, at first use with a point; under a
        trace, where nothing can be checked, a crossed pair clips to `upper`).

    Example:
      >>> box = sj.Box(lower=0.0, upper=jnp.array([1.0, 2.0]))
      >>> box.project(jnp.array([-1.0, 1.5]))
      Array([0. , 1.5], dtype=float32)
    """

    projectable: ClassVar[bool] = True
    only_bounds: ClassVar[bool] = True
    has_support: ClassVar[bool] = True

    lower: PyTree | None = None
    upper: PyTree | None = None

    def __post_init__(self) -> None:
        for name, bound, never in (
            ("lower", self.lower, np.inf),
            ("upper", self.upper, -np.inf),
        ):
            check_numbers("Box", name, bound)
            for leaf in concrete(bound):
                if np.isnan(leaf).any() or (leaf == never).any():
                    raise ValueError(
                        f"Box: `{name}` holds {'NaN' if np.isnan(leaf).any() else never}; it must "
                        "be numbers, or infinite on its own side."
                    )
        if jax.tree.structure(self.lower) == jax.tree.structure(self.upper):
            _check_order(concrete(self.lower), concrete(self.upper))

    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Both bounds, broadcast to the structure, shapes and dtypes of `point`.

        Raises:
          ValueError: a bound does not broadcast to the leaf of `point` that it bounds, or the
            bounds are crossed.
        """
        lower = broadcast("Box", "lower", -jnp.inf if self.lower is None else self.lower, point)
        upper = broadcast("Box", "upper", jnp.inf if self.upper is None else self.upper, point)
        _check_order(concrete(lower), concrete(upper))
        return lower, upper

    def project(self, point: PyTree) -> PyTree:
        """Euclidean projection of `point` (a pytree of arrays) onto the box."""
        return jax.tree.map(jnp.clip, point, *self.bounds(point))

    def support_point(self, slope: PyTree) -> PyTree:
        """The upper bound where the slope is positive, the lower one where it is negative.

        The middle where it is 0; infinite where that side is open.
        """

        def one(u: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
            middle = jnp.clip((low + high) / 2, low, high)
            middle = jnp.where(jnp.isfinite(middle), middle, jnp.clip(0, low, high))
            return jnp.where(u > 0, high, jnp.where(u < 0, low, middle))

        return jax.tree.map(one, slope, *self.bounds(slope))

    @property
    def open_sides(self) -> tuple[bool, bool]:
        """As the base class says."""
        return self.lower is None, self.upper is None

    def residuals(
        self, point: PyTree, action: PyTree, response: PyTree, context: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """None: two arrays of shape `[0]`, in the dtype of `point`."""
        none = jnp.zeros(0, ravel(point).dtype)
        return none, none


def check_box(owner: str, box: Any) -> None:
    """Raises TypeError unless `box`, an argument of the set `owner`, is a `Box`."""
    if not isinstance(box, Box):
        raise TypeError(f"{owner}: `box` must be a stackjax.Box; got {type(box).__name__}.")


def _check_order(lower: list[np.ndarray], upper: list[np.ndarray]) -> None:
    for low, high in zip(lower, upper):
        try:
            crossed = np.argwhere(low > high)
        except ValueError as error:
            raise ValueError(
                f"Box: `lower` of shape {low.shape} and `upper` of shape {high.shape} do not "
                "broadcast against each other."
            ) from error
        if len(crossed):
            at = tuple(int(i) for i in crossed[0])
            low, high = np.broadcast_arrays(low, high)
            raise ValueError(
                f"Box: `lower` must not exceed `upper`, but lower={low[at]} > upper={high[at]}"
                + (f" at index {at}." if at else ".")
            )
