"""A follower that breaks its ties for the leader, or against it."""

from typing import Any

import jax

from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields, PyTree


@jax.tree_util.register_pytree_node_class
class TieBroken:
    """The utility `U_F + epsilon * U_L`, with a negative epsilon against the leader.

    Attributes:
      leader: the leader's utility.
      follower: the follower's own.
      epsilon: weight of the leader's.
    """

    def __init__(self, leader: Any, follower: Any, epsilon: Any) -> None:
        self.leader, self.follower, self.epsilon = leader, follower, epsilon

    def __call__(self, action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
        own = self.follower(action, response, context)
        return own + self.epsilon * self.leader(action, response, context)

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """Arrays inside callable pytrees are leaves; plain functions are static."""
        return split_static((self.leader, self.follower, self.epsilon))

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> "TieBroken":
        """As JAX does it around tracers."""
        return cls(*join_static(plain, children))
