"""A contest for a prize."""

import jax
import jax.numpy as jnp

from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, uniform
from stackjax.sets import Box

Worth = dict[str, jax.Array]


def contest() -> ClosedFormGame:
    """Two rivals spend on winning a prize; each wins in proportion to what it spends.

    Action and response are the efforts a >= 0.01 and r >= 0, scalars, and
    `U_L = leader * a / (a + r) - a`, `U_F = follower * r / (a + r) - r`, where the context is a
    dict of the prize's worth to the `leader` and to the `follower`, scalars. The follower spends
    `r = max(sqrt(follower * a) - a, 0)`; sharing, the leader's utility is
    `leader * sqrt(a / follower) - a`, largest at `a = leader^2 / (4 follower)`, unless a =
    `follower`, which keeps the rival out, is less (a kink). The Nash equilibrium has
    `a = leader^2 follower / (leader + follower)^2`. Contexts: both ~ U[1, 2], where nobody is
    kept out.

    Source: G. Tullock, Efficient rent seeking, 1980; A. Dixit, Strategic behavior in contests,
    American Economic Review 77(5), 1987.

    Example:
      >>> rivals = sj.games.contest()
      >>> prize = {"leader": jnp.array(2.0), "follower": jnp.array(2.0)}
      >>> print(*rivals.equilibrium(prize))
      0.5 0.5
    """

    def leader_utility(a: jax.Array, r: jax.Array, worth: Worth) -> jax.Array:
        return worth["leader"] * a / (a + r) - a

    def follower_utility(a: jax.Array, r: jax.Array, worth: Worth) -> jax.Array:
        return worth["follower"] * r / (a + r) - r

    def best_response(a: jax.Array, worth: Worth) -> jax.Array:
        return jnp.maximum(jnp.sqrt(worth["follower"] * a) - a, 0)

    def sensitivity(a: jax.Array, worth: Worth) -> jax.Array:
        slope = jnp.sqrt(worth["follower"] / a) / 2 - 1
        return jnp.where(worth["follower"] > a, slope, 0.0)

    def equilibrium(worth: Worth) -> tuple[jax.Array, jax.Array]:
        shared = worth["leader"] ** 2 / (4 * worth["follower"])
        a = jnp.maximum(jnp.minimum(shared, worth["follower"]), 0.01)
        return a, best_response(a, worth)

    def nash(worth: Worth) -> tuple[jax.Array, jax.Array]:
        total = worth["leader"] + worth["follower"]
        a = worth["leader"] ** 2 * worth["follower"] / total**2
        return a, best_response(a, worth)

    def contexts(key: jax.Array, n: int) -> Worth:
        first, second = jax.random.split(key)
        return {"leader": uniform(first, (n,), 1.0, 2.0), "follower": uniform(second, (n,), 1, 2)}

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Box(lower=0.01),
            response_set=Box(lower=0.0),
        ),
        jnp.array(0.5),
        jnp.array(0.5),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
    )
