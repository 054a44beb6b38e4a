"""A contract."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, uniform
from stackjax.sets import Box


def principal_agent() -> ClosedFormGame:
    """A linear contract: the principal pays a share of output, the agent chooses effort.

    Output is effort plus noise. The agent has constant absolute risk aversion and pays
    `cost * effort^2 / 2`; the fixed wage leaves it its outside option, so the principal's profit
    is the surplus less the price of risk, `effort - cost * effort^2/2 - risk * share^2/2`. Action:
    the share, in [0, 1]; response: the effort, >= 0; context: a dict of `cost` > 0 and `risk`
    (risk aversion times the noise's variance) >= 0. Effort is share / cost and the optimal share
    1 / (1 + risk * cost). (In the Nash equilibrium nothing is paid, and nothing done.) Contexts:
    cost ~ U[0.5, 2], risk ~ U[0, 2].

    Source: Holmstrom and Milgrom, Econometrica 55(2), 1987.

    Example:
      >>> contract = sj.games.principal_agent()
      >>> print(*contract.equilibrium({"cost": jnp.array(2.0), "risk": jnp.array(0.5)}))
      0.5 0.25
    """

    def leader_utility(share: jax.Array, effort: jax.Array, agent: PyTree) -> jax.Array:
        return effort - agent["cost"] * effort**2 / 2 - agent["risk"] * share**2 / 2

    def follower_utility(share: jax.Array, effort: jax.Array, agent: PyTree) -> jax.Array:
        return share * effort - agent["cost"] * effort**2 / 2

    def best_response(share: jax.Array, agent: PyTree) -> jax.Array:
        return share / agent["cost"]

    def equilibrium(agent: PyTree) -> tuple[jax.Array, jax.Array]:
        share = 1 / (1 + agent["risk"] * agent["cost"])
        return share, best_response(share, agent)

    def nash(agent: PyTree) -> tuple[jax.Array, jax.Array]:
        nothing = jnp.zeros_like(agent["cost"])
        return nothing, nothing

    def contexts(key: jax.Array, n: int) -> PyTree:
        first, second = jax.random.split(key)
        return {"cost": uniform(first, (n,), 0.5, 2.0), "risk": uniform(second, (n,), 0.0, 2.0)}

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Box(0.0, 1.0),
            response_set=Box(lower=0.0),
        ),
        jnp.array(0.5),
        jnp.array(0.5),
        equilibrium,
        best_response,
        lambda share, agent: 1 / agent["cost"],
        contexts,
        nash=nash,
    )
