"""What a fit maximises, and how: its objective, data to validate on, and options."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import jax
import optax
from flax import struct

from stackjax._arrays.arguments import check_count, check_key, check_type
from stackjax._arrays.modules import check_stateless, check_untied, partition
from stackjax._arrays.reads import first_made
from stackjax._arrays.static import split_static
from stackjax._arrays.typing import Fields, PyTree


class Score(struct.PyTreeNode):
    """What an objective says of some rows.

    Attributes:
      utility: `[]` mean over the rows that count.
      converged: `[]` share of the rows that count.
      starts: the rows' next starting points of the follower.
      constraints: `[k]` averages that are to be at least 0.
      units: `[k]` curvature of the constraints' penalty that suits the rows' units; only with
        constraints.
    """

    utility: jax.Array
    converged: jax.Array
    starts: PyTree
    constraints: jax.Array
    units: jax.Array | None = None


class Objective(Protocol):
    """A pytree that scores a module; arrays in it are traced, everything else is static."""

    def __call__(self, module: PyTree, rows: PyTree, starts: PyTree, key: jax.Array, /) -> Score:
        """The score of `module` on `rows`; the followers start from `starts`."""
        ...


class Validation(struct.PyTreeNode):
    """Rows that are not trained on, and when to stop for them.

    Attributes:
      rows: like the training rows.
      starts: the followers' starting points.
      every: steps from one look to the next.
      patience: looks without a gain after which the fit stops.
    """

    rows: PyTree
    starts: PyTree
    every: int = struct.field(pytree_node=False)
    patience: int = struct.field(pytree_node=False)


class Options(struct.PyTreeNode):
    """What the loop is compiled for, and its key; `reads` is what the module's function reads."""

    key: jax.Array
    steps: int = struct.field(pytree_node=False)
    batch_size: int | None = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    dual_rate: float | None = struct.field(pytree_node=False, default=None)
    constrained: int = struct.field(pytree_node=False, default=0)
    reads: Fields = struct.field(pytree_node=False, default=())

    @classmethod
    def checked(
        cls,
        module: Any,
        name: str,
        key: Any,
        steps: int,
        batch_size: int | None,
        optimizer: optax.GradientTransformation | None,
        dual_rate: float | None = None,
        constrained: int = 0,
    ) -> "Options":
        """The options, once they are known to be sound.

        Raises:
          ValueError: the module has state that is not a parameter, tied parameters or none, or
            `steps` or `batch_size` is below 1.
          TypeError: the module is not callable, `key` is not a key, an option is of the wrong type.
        """
        check_type(name, module, Callable, "callable")
        check_stateless(module, name)
        check_untied(module, name)
        if not partition(module)[0]:
            raise ValueError(f"`{name}` must have parameters to train; it has none.")
        check_key(key)
        check_count("steps", steps)
        if batch_size is not None:
            check_count("batch_size", batch_size)
        check_type(
            "optimizer",
            optimizer,
            optax.GradientTransformation | None,
            "an optax.GradientTransformation such as optax.adam(0.01), or None",
        )
        optimizer = _default_optimizer(steps) if optimizer is None else first_made(optimizer)
        _, reads = split_static((module,))
        return cls(key, steps, batch_size, optimizer, dual_rate, constrained, reads)


@lru_cache
def _default_optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))
