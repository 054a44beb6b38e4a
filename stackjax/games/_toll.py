"""A toll road."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame
from stackjax.sets import Box


def toll() -> ClosedFormGame:
    """A toll on one of two parallel roads, for revenue.

    One unit of traffic splits at Wardrop's equilibrium; the response is the share r in [0, 1] on
    the tolled road 0, where a driver takes `free[0] + slope[0] * r` and pays the toll (the action,
    a scalar >= 0, in units of time); on road 1 `free[1] + slope[1] * (1 - r)`. The follower's
    utility is minus Beckmann's potential. The context is a dict of `free` and `slope`, `[2]` each.
    The share falls linearly in the toll, to 0 at the toll `free[1] + slope[1] - free[0]`; the
    leader asks half of that, or the largest toll that still fills the road if this is more. (The
    Nash equilibrium is an empty road: given its traffic, any higher toll is better.)
    Contexts: free ~ U[0, 1] x U[0, 2.5], slope ~ U[0.25, 1] x U[1, 2]; the leader of a few of
    them does best on the kink of its revenue, where the tolled road is just full.

    Source: Beckmann, McGuire and Winsten, Studies in the Economics of Transportation, 1956;
    Labbe, Marcotte and Savard, A bilevel model of taxation, Management Science, 1998.

    Example:
      >>> roads = {"free": jnp.array([0.0, 1.0]), "slope": jnp.array([1.0, 1.0])}
      >>> print(*sj.games.toll().equilibrium(roads))  # toll, share of the traffic that pays it
      1.0 0.5
    """

    def leader_utility(toll: jax.Array, share: jax.Array, roads: PyTree) -> jax.Array:
        return toll * share

    def follower_utility(toll: jax.Array, share: jax.Array, roads: PyTree) -> jax.Array:
        free, slope = roads["free"], roads["slope"]
        tolled = (free[0] + toll) * share + slope[0] * share**2 / 2
        return -tolled - free[1] * (1 - share) - slope[1] * (1 - share) ** 2 / 2

    def unbounded(toll: jax.Array, roads: PyTree) -> jax.Array:
        free, slope = roads["free"], roads["slope"]
        return (free[1] + slope[1] - free[0] - toll) / (slope[0] + slope[1])

    def best_response(toll: jax.Array, roads: PyTree) -> jax.Array:
        return jnp.clip(unbounded(toll, roads), 0, 1)

    def sensitivity(toll: jax.Array, roads: PyTree) -> jax.Array:
        share = unbounded(toll, roads)
        return jnp.where((share > 0) & (share < 1), -1 / jnp.sum(roads["slope"]), 0.0)

    def emptying(roads: PyTree) -> jax.Array:
        return roads["free"][1] + roads["slope"][1] - roads["free"][0]

    def equilibrium(roads: PyTree) -> tuple[jax.Array, jax.Array]:
        free, slope = roads["free"], roads["slope"]
        filling = free[1] - free[0] - slope[0]
        action = jnp.maximum(jnp.maximum(emptying(roads) / 2, filling), 0)
        return action, best_response(action, roads)

    def nash(roads: PyTree) -> tuple[jax.Array, jax.Array]:
        action = jnp.maximum(emptying(roads), 0)
        return action, jnp.zeros_like(action)

    def contexts(key: jax.Array, n: int) -> PyTree:
        first, second = jax.random.split(key)
        return {
            "free": jax.random.uniform(first, (n, 2)) * jnp.array([[1.0, 2.5]]),
            "slope": jax.random.uniform(
                second, (n, 2), minval=jnp.array([0.25, 1.0]), maxval=jnp.array([1.0, 2.0])
            ),
        }

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Box(lower=0.0),
            response_set=Box(0.0, 1.0),
        ),
        jnp.array(0.1),
        jnp.array(0.5),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
        kinked=True,
    )
