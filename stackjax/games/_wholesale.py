"""A supply chain."""

import jax
import jax.numpy as jnp

from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_positive, uniform
from stackjax.sets import Box


def wholesale(*, slope: float = 1.0, cost: float = 1.0) -> ClosedFormGame:
    """A manufacturer names a wholesale price, a retailer orders: double marginalisation.

    Action: the wholesale price w >= 0; response: the quantity q >= 0, sold at
    `demand - slope * q`; context: the demand intercept, all scalars. The retailer orders
    `q = (demand - w) / (2 slope)`, so the manufacturer's `(w - cost) q` is largest at
    `w = (demand + cost) / 2`, and half of what an integrated firm would sell is sold. Contexts are
    drawn from U[5, 20].

    Args:
      slope: of the inverse demand, > 0.
      cost: the manufacturer's, a unit.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `slope` is not positive.

    Source: J. Spengler, Vertical integration and antitrust policy, Journal of Political Economy
    58(4), 1950.

    Example:
      >>> print(*sj.games.wholesale().equilibrium(jnp.array(9.0)))  # price, order
      5.0 2.0
    """
    check_positive(slope=slope)

    def leader_utility(w: jax.Array, q: jax.Array, demand: jax.Array) -> jax.Array:
        return (w - cost) * q

    def follower_utility(w: jax.Array, q: jax.Array, demand: jax.Array) -> jax.Array:
        return q * (demand - slope * q - w)

    def best_response(w: jax.Array, demand: jax.Array) -> jax.Array:
        return jnp.maximum((demand - w) / (2 * slope), 0)

    def equilibrium(demand: jax.Array) -> tuple[jax.Array, jax.Array]:
        w = jnp.maximum((demand + cost) / 2, 0)
        return w, best_response(w, demand)

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
        lambda w, demand: jnp.where(demand > w, -1 / (2 * slope), 0.0),
        lambda key, n: uniform(key, (n,), 5.0, 20.0),
    )
