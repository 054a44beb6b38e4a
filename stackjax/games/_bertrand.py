"""A duopoly in prices."""

import jax
import jax.numpy as jnp

from stackjax._arrays.arguments import check_within
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, uniform
from stackjax.sets import Box


def bertrand(
    *, substitution: float = 0.5, leader_cost: float = 1.0, follower_cost: float = 1.0
) -> ClosedFormGame:
    """Price leadership between differentiated goods: firm i sells `demand - p_i + g * p_j`.

    Action and response are the prices p1, p2 >= 0, scalars; g is `substitution`; the context is
    the demand intercept, a scalar. The follower asks `p2 = (demand + g p1 + c2) / 2`, which leaves
    the leader the demand `D - k p1` with `D = demand + g (demand + c2) / 2`, `k = 1 - g^2 / 2`;
    hence `p1 = (D / k + c1) / 2`. Moving second is better here. The Nash equilibrium is
    Bertrand's, `p1 = (2 (demand + c1) + g (demand + c2)) / (4 - g^2)`. Contexts are drawn from
    U[5, 20].

    Args:
      substitution: g, in (0, 1).
      leader_cost: the leader's cost a unit.
      follower_cost: the follower's cost a unit.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `substitution` is not in (0, 1).

    Source: E. Gal-Or, First mover and second mover advantages, International Economic Review
    26(3), 1985.

    Example:
      >>> prices = sj.games.bertrand()
      >>> print([f"{p:.2f}" for p in prices.equilibrium(jnp.array(10.0))])  # leader, follower
      ['7.79', '7.45']
      >>> print([f"{p:.2f}" for p in prices.nash(jnp.array(10.0))])  # both ask less
      ['7.33', '7.33']
    """
    check_within("substitution", substitution, "(0, 1)")
    g = substitution

    def leader_utility(p1: jax.Array, p2: jax.Array, demand: jax.Array) -> jax.Array:
        return (p1 - leader_cost) * (demand - p1 + g * p2)

    def follower_utility(p1: jax.Array, p2: jax.Array, demand: jax.Array) -> jax.Array:
        return (p2 - follower_cost) * (demand - p2 + g * p1)

    def best_response(p1: jax.Array, demand: jax.Array) -> jax.Array:
        return (demand + g * p1 + follower_cost) / 2

    def equilibrium(demand: jax.Array) -> tuple[jax.Array, jax.Array]:
        left = demand + g * (demand + follower_cost) / 2
        p1 = (left / (1 - g**2 / 2) + leader_cost) / 2
        return p1, best_response(p1, demand)

    def nash(demand: jax.Array) -> tuple[jax.Array, jax.Array]:
        p1 = (2 * (demand + leader_cost) + g * (demand + follower_cost)) / (4 - g**2)
        return p1, best_response(p1, demand)

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Box(lower=0.0),
            response_set=Box(lower=0.0),
        ),
        jnp.array(1.0),
        jnp.array(1.0),
        equilibrium,
        best_response,
        lambda p1, demand: jnp.full_like(p1, g / 2),
        lambda key, n: uniform(key, (n,), 5.0, 20.0),
        nash=nash,
    )
