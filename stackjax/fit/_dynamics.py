"""How a session goes on."""

from collections.abc import Callable
from typing import Any

import jax

from stackjax._arrays.modules import check_stateless
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields


@jax.tree_util.register_pytree_node_class
class Dynamics:
    """How a session goes on from one turn to the next.

    A session's state is any pytree of arrays; what the leader's policy and both utilities see of
    it is the game's context. As in a `Game`, plain functions are static and the arrays of callable
    pytrees are leaves. Any other pytree with these three attributes or methods will do as well.

    Args:
      context: `state -> context`.
      step: `(state, action, response, key) -> state` at the next turn, with the same structure,
        shapes and dtypes. `key` is for a random outcome; it depends on the session and the turn
        and not on the policy, so that two policies can be compared under the same luck.
        Differentiable, or the gradient stops here.
      commit: `(state, action) -> action`, what is carried out when the policy proposes an action:
        smoothing and a rate limit, say. It must stay in the action set. None: what was proposed.

    Raises:
      TypeError: an argument is not callable.
      ValueError: one is a module with state that is not a parameter.

    Source: arXiv 2606.23026, eq. (7) and (12).

    Example:
      >>> fished = lambda stock, action, response, key: stock - response
      >>> dynamics = sj.fit.Dynamics(lambda stock: stock, fished)
      >>> float(dynamics.step(jnp.array(3.0), None, jnp.array(1.0), jax.random.key(0)))
      2.0
    """

    def __init__(
        self,
        context: Callable[..., Any],
        step: Callable[..., Any],
        *,
        commit: Callable[..., Any] | None = None,
    ) -> None:
        self.context, self.step, self.commit = context, step, commit
        check_dynamics(self)

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """Arrays inside callable pytrees are leaves; plain functions are static."""
        return split_static((self.context, self.step, self.commit))

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> "Dynamics":
        """Rebuilds without validation, as JAX does it around tracers."""
        dynamics = object.__new__(cls)
        dynamics.context, dynamics.step, dynamics.commit = join_static(plain, children)
        return dynamics


def check_dynamics(dynamics: Any) -> None:
    """Raises TypeError or ValueError unless `dynamics` has what `Dynamics` has."""
    for name in ("context", "step", "commit"):
        function = getattr(dynamics, name, None)
        if function is None and name == "commit":
            continue
        if not callable(function):
            raise TypeError(
                f"`dynamics` must have a callable `{name}`, see stackjax.fit.Dynamics; got "
                f"{type(function).__name__} in a {type(dynamics).__name__}."
            )
        check_stateless(function, f"dynamics.{name}")
