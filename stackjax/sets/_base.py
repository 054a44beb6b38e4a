"""What every feasible set offers."""

import abc
import dataclasses
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields, PyTree


@dataclasses.dataclass(frozen=True)
class FeasibleSet(abc.ABC):
    """What an action or a response must satisfy: coordinatewise bounds, and residuals.

    A set is a frozen dataclass and a pytree: its arrays are leaves, which can be traced,
    differentiated and batched; plain functions in it are static. The constructor checks its
    arguments; JAX rebuilds sets (around tracers, gradients, placeholders) without checks.

    Below, `point` is the pytree of floating-point arrays that is constrained, and
    `action, response, context` is the play: the point is its response if the set is a response
    set, its action if it is an action set.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Above(sj.sets.FeasibleSet):  # vectors that sum to at least `least`
      ...     least: float = 0.0
      ...     def bounds(self, point):
      ...         return jnp.full_like(point, -jnp.inf), jnp.full_like(point, jnp.inf)
      ...     def residuals(self, point, action, response, context):
      ...         return jnp.atleast_1d(self.least - point.sum()), jnp.zeros(0)
      >>> game = sj.Game(lambda a, r, x: 0.0, lambda a, r, x: -r @ r, response_set=Above(1.0))
      >>> print(sj.best_response(game, 0.0, None, response=jnp.zeros(2)).value.round(3))
      [0.5 0.5]
    """

    projectable: ClassVar[bool] = False
    only_bounds: ClassVar[bool] = False  # whether there are never residuals
    has_support: ClassVar[bool] = False  # whether `support_point` is known

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        # What a subclass changes of its parent's set, the parent's shortcuts do not know.
        tightened = bool({"bounds", "residuals"} & {*own})
        if "project" not in own and "projectable" not in own and tightened:
            cls.projectable = False
        if "support_point" not in own and "has_support" not in own and tightened:
            cls.has_support = False
        if "bounds" in own and "open_sides" not in own:
            setattr(cls, "open_sides", FeasibleSet.open_sides)  # noqa: B010
        if "residuals" in own and "only_bounds" not in own:
            cls.only_bounds = False
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, partial(_unflatten, cls), _flatten
        )

    @abc.abstractmethod
    def bounds(self, point: PyTree) -> tuple[PyTree, PyTree]:
        """Coordinatewise bounds, with the structure, shapes and dtypes of `point`."""

    @property
    def open_sides(self) -> tuple[bool, bool]:
        """Whether the set is known to have no lower bound at all, and no upper bound.

        Solvers then do without: a set whose `bounds` are infinite on a side says so here.
        """
        return False, False

    @abc.abstractmethod
    def residuals(
        self, point: PyTree, action: PyTree, response: PyTree, context: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """All other constraints: `[m]` numbers to be <= 0, and `[p]` numbers to be 0."""

    def project(self, point: PyTree) -> PyTree:
        """Euclidean projection of `point` onto the set, where `projectable`.

        Raises:
          NotImplementedError: the set is not `projectable`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no cheap Euclidean projection; Box, Simplex and Ball have."
        )

    def support_point(self, slope: PyTree) -> PyTree:
        """A point of the set where the linear utility `<slope, point>` is largest.

        Args:
          slope: floating-point arrays with the structure and shapes of a point.

        Raises:
          NotImplementedError: the set has no closed form of it, not `has_support`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no closed form of a linear utility's maximiser; Box, "
            "Simplex and Ball have."
        )

    def contains(
        self,
        point: PyTree,
        *,
        action: PyTree = None,
        response: PyTree = None,
        context: PyTree = None,
        tol: float = 0.0,
    ) -> jax.Array:
        """Whether `point` satisfies every bound and residual, up to `tol`; a scalar bool.

        The point takes the place that is left out: `contains(r, action=l, context=x)` asks about
        a response, `contains(l, response=r, context=x)` about an action; with both left out the
        point is the response. Equalities seldom hold to the last bit, so give a `tol` for them.
        """
        if response is None:
            response = point
        elif action is None:
            action = point
        inequality, equality = self.residuals(point, action, response, context)
        bounded = jax.tree.map(
            lambda y, low, high: jnp.all((y >= low - tol) & (y <= high + tol)),
            point,
            *self.bounds(point),
        )
        inside = [*jax.tree.leaves(bounded), jnp.all(inequality <= tol)]
        return jnp.all(jnp.stack([*inside, jnp.all(jnp.abs(equality) <= tol)]))

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)


def _flatten(feasible: FeasibleSet) -> tuple[Fields, Fields]:
    return split_static([getattr(feasible, field.name) for field in dataclasses.fields(feasible)])


def _flatten_with_keys(feasible: FeasibleSet) -> tuple[Fields, Fields]:
    children, plain = _flatten(feasible)
    keys = [GetAttrKey(field.name) for field in dataclasses.fields(feasible)]
    return tuple(zip(keys, children)), plain


def _unflatten(cls: type[FeasibleSet], plain: Fields, children: Any) -> FeasibleSet:
    feasible = object.__new__(cls)
    for field, value in zip(dataclasses.fields(cls), join_static(plain, children)):
        object.__setattr__(feasible, field.name, value)
    return feasible
