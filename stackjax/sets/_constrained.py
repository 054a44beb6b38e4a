"""Smooth constraints."""

import dataclasses

import jax
import jax.numpy as jnp

from stackjax._arrays.modules import call, check_stateless
from stackjax._arrays.typing import Constraint, PyTree
from stackjax.sets._arguments import ravel
from stackjax.sets._base import FeasibleSet
from stackjax.sets._box import Box, check_box


@dataclasses.dataclass(frozen=True)
class Constrained(FeasibleSet):
    """Smooth constraints within a box, `inequality <= 0` and `equality == 0`.

    Both are functions `(action, response, context) -> g` of three unbatched pytrees; every number
    in `g` (an array, a scalar, a list or any pytree of such) is one constraint. They may depend
    on the whole play in either role: those of a response set on the action, as a shared budget
    does, and those of an action set on the follower's response. A plain function is static, as in
    a `Game`; the arrays of a callable pytree, such as an `nnx.Module`, are leaves.

    Attributes:
      inequality: what must be <= 0, or None.
      equality: what must be 0, or None.
      box: coordinatewise bounds besides; the whole space by default.

    Raises:
      TypeError: a function is not callable, or does not return floating-point numbers; `box` is
        not a Box.
      ValueError: there is no function, or one is a module with state that is not a parameter.

    Example:
      >>> shared = sj.Constrained(lambda action, response, context: action + response - context)
      >>> bool(shared.contains(jnp.array(0.4), action=0.5, context=1.0))
      True
      >>> bool(shared.contains(jnp.array(0.6), action=0.5, context=1.0))
      False
    """

    inequality: Constraint | None = None
    equality: Constraint | None = None
    _: dataclasses.KW_ONLY
    box: Box = dataclasses.field(default_factory=Box)

    def __post_init__(self) -> None:
        if self.inequality is None and self.equality is None:
            raise ValueError(
                "Constrained: give `inequality` or `equality` or both; with neither, use Box."
            )
        check_box("Constrained", self.box)
        for name in ("inequality", "equality"):
            function = getattr(self, name)
            if function is None:
                continue
            if not callable(function):
                raise TypeError(
                    f"Constrained: `{name}` must be callable as {name}(action, response, context); "
                    f"got {type(function).__name__}."
                )
            check_stateless(function, f"Constrained.{name}")

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
        """What the functions return for the play, each as one vector.

        Raises:
          TypeError: a function does not return floating-point numbers.
        """
        dtype = ravel(point).dtype

        def values(name: str) -> jax.Array:
            function = getattr(self, name)
            if function is None:
                return jnp.zeros(0, dtype)
            returned = call(function, f"Constrained.{name}", action, response, context)
            _check_floating(name, returned)
            return ravel(returned).astype(dtype)

        return values("inequality"), values("equality")


def _check_floating(name: str, returned: PyTree) -> None:
    """Raises TypeError unless `returned` holds arrays, all of them floating point."""
    leaves = jax.tree.leaves(returned)
    if not leaves:
        raise TypeError(f"Constrained: `{name}` must return numbers; it returned {returned!r}.")
    for leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"Constrained: `{name}` must return floating-point numbers; it returned dtype "
                f"{dtype}."
            )
