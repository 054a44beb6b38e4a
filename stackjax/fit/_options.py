"""What a fit maximises, and how: its objective, data to validate on, and options."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_count, check_key, check_number, check_type, concrete
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
    """What the loop is compiled for, its key and its rate.

    Attributes:
      key: for minibatches and draws.
      learning_rate: `[]`, what the optimiser's updates are multiplied by; a sweep compiles once.
      quasi_newton: whether the optimiser is the default one for steps that see all rows, which
        ends where nothing is left to gain.
      reads: what the module's function reads.
    """

    key: jax.Array
    learning_rate: jax.Array
    steps: int = struct.field(pytree_node=False)
    batch_size: int | None = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    dual_rate: float | None = struct.field(pytree_node=False, default=None)
    constrained: int = struct.field(pytree_node=False, default=0)
    reads: Fields = struct.field(pytree_node=False, default=())
    quasi_newton: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def checked(
        cls,
        module: Any,
        name: str,
        key: Any,
        steps: int,
        batch_size: int | None,
        optimizer: optax.GradientTransformation | None,
        learning_rate: Any,
        dual_rate: float | None = None,
        constrained: int = 0,
        *,
        fixed: bool = False,
    ) -> "Options":
        """The options, once they are known to be sound.

        `fixed` says that the objective is the same at every step, if the rows are.

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
        quasi_newton = fixed and optimizer is None and batch_size is None and learning_rate is None
        rate = _checked_rate(learning_rate)
        if optimizer is None and learning_rate is not None:
            rate = rate / _FIRST_RATE
        if optimizer is None:
            optimizer = _QUASI_NEWTON if quasi_newton else _decaying(steps)
        optimizer = first_made(optimizer)
        _, reads = split_static((module,))
        return cls(
            key, rate, steps, batch_size, optimizer, dual_rate, constrained, reads, quasi_newton
        )


_QUASI_NEWTON = optax.lbfgs()
_FIRST_RATE = 0.01


@lru_cache
def _decaying(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(_FIRST_RATE, steps))


def _checked_rate(rate: Any) -> jax.Array:
    """`[]`. Raises TypeError or ValueError unless the rate is None or a positive number."""
    if rate is None:
        return jnp.ones(())
    if not isinstance(rate, jax.Array) or rate.ndim or not jnp.issubdtype(rate.dtype, jnp.floating):
        check_number("learning_rate", rate, otherwise=", a floating-point scalar or None")
    if concrete(rate) and not 0 < float(rate) < float("inf"):
        raise ValueError(f"`learning_rate` must be positive and finite; got {rate}.")
    return jnp.asarray(rate, float)
