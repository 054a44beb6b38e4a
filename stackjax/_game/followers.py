"""Followers that are several: one utility each, or one for all and a batch of parameters."""

import inspect
import types
from typing import Any

import jax
import jax.numpy as jnp

from stackjax._arrays.arguments import check_columns
from stackjax._arrays.modules import check_stateless
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields, PyTree, Utility


@jax.tree_util.register_pytree_node_class
class Several(tuple[Utility, ...]):  # a node of its own: plain functions in it are static
    """The followers' utilities, one each; of `Game(leader_utility, (u_1, ..., u_N))`."""

    __slots__ = ()

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """Arrays inside callable pytrees are leaves; plain functions are static."""
        return split_static(tuple(self))

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> "Several":
        """As JAX does it around tracers."""
        return cls(join_static(plain, children))


@jax.tree_util.register_pytree_node_class
class Followers:
    """Many followers with one utility, which differ in parameters only.

    For `Game(leader_utility, Followers(utility, parameters))`. The utility is traced once, however
    many followers there are. `responses` are a pytree whose leaves have one leading axis of N, and
    so are the starting point, the answer and what a `response_set` constrains: a set of several
    followers is one set on all their responses.

    Attributes:
      utility: `(action, response, responses, context, parameters) -> scalar`: one follower's own
        `response` and `parameters`, without the leading axis, and everybody's `responses`, its own
        among them.
      parameters: a pytree of arrays `[N, ...]`, differentiable.

    Raises:
      TypeError: the utility is not callable, or not with five arguments; parameters are no numbers.
      ValueError: the parameters have no leading axis, or several lengths of it; the utility is a
        module with state that is not a parameter.

    Example:
      >>> firms = sj.Followers(  # Cournot: each sells at the price that all quantities make
      ...     lambda tax, own, all, demand, cost: own * (demand - jnp.sum(all) - cost - tax),
      ...     jnp.linspace(1.0, 2.0, 100),
      ... )
      >>> market = sj.Game(
      ...     lambda tax, all, demand: tax * jnp.sum(all), firms, response_set=sj.Box(lower=0.0)
      ... )
      >>> found = sj.best_response(market, 0.0, 10.0, response=jnp.ones(100))
      >>> print(found.converged, int((found.value > 0).sum()))  # how many enter
      True 41
    """

    utility: Utility
    parameters: PyTree

    def __init__(self, utility: Utility, parameters: PyTree) -> None:
        if not callable(utility):
            raise TypeError(
                "Followers: `utility` must be callable as utility(action, response, responses, "
                f"context, parameters) -> scalar; got {type(utility).__name__}."
            )
        check_stateless(utility, "Followers.utility")
        _check_five(utility)
        check_columns(parameters, "Followers.parameters")
        shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(parameters)}
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(
                "Followers: `parameters` must be arrays with one leading axis, of the number of "
                f"followers; got the shapes {sorted(shapes)}."
            )
        if shapes == {(0,)}:
            raise ValueError("Followers: `parameters` must be of at least one follower; got none.")
        self.utility = utility
        self.parameters = jax.tree.map(jnp.asarray, parameters)

    def __len__(self) -> int:
        return jnp.shape(jax.tree.leaves(self.parameters)[0])[0]

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """Parameters and arrays inside callable pytrees are leaves; plain functions are static."""
        children, plain = split_static((self.utility,))
        return (children, self.parameters), plain

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> "Followers":
        """As JAX does it around tracers."""
        utility, parameters = children
        followers = object.__new__(cls)
        (followers.utility,) = join_static(plain, utility)
        followers.parameters = parameters
        return followers

    def __repr__(self) -> str:
        shapes = jax.tree.map(jnp.shape, self.parameters)
        return f"Followers(utility={self.utility!r}, parameters of shape {shapes})"


def _check_five(utility: Utility) -> None:
    """Raises TypeError where a function cannot take five arguments."""
    if not isinstance(utility, types.FunctionType | types.MethodType):
        return
    signature = inspect.signature(utility)
    try:
        signature.bind(*[None] * 5)
    except TypeError:
        raise TypeError(
            "Followers: `utility` must take five arguments, utility(action, response, responses, "
            f"context, parameters); it takes {signature}."
        ) from None


def is_several(utility: Any) -> bool:
    """Whether what a game has for its follower's utility is that of several."""
    return isinstance(utility, Several | Followers)
