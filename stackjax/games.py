"""Closed-form Stackelberg games: utilities, exact answers, exact sensitivities, generators.

Each function returns a `ClosedFormGame`, whose answers are formulas and not the solver's.

    import jax, stackjax as sj

    duopoly = sj.games.duopoly()
    demand = duopoly.contexts(jax.random.key(0), 100)          # [100]
    action, response = jax.vmap(duopoly.equilibrium)(demand)   # exact, [100] each
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stackjax._game import Game
from stackjax._sets import Box

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ClosedFormGame:
    """A game with known answers. All functions are unbatched and can be jitted and vmapped.

    Attributes:
      game: the game.
      action: a starting point for the leader.
      response: a starting point for the follower.
      equilibrium: `context -> (action, response)`, the Stackelberg equilibrium.
      best_response: `(action, context) -> response`.
      sensitivity: `(action, context) -> d response / d action`, shape
        `response.shape + action.shape`; one-sided where a bound just becomes active.
      contexts: `(key, N) -> contexts`, a random batch, `[N, ...]`, with an interior equilibrium
        unless the game says otherwise.
    """

    game: Game
    action: PyTree
    response: PyTree
    equilibrium: Callable[[PyTree], tuple[PyTree, PyTree]]
    best_response: Callable[[PyTree, PyTree], PyTree]
    sensitivity: Callable[[PyTree, PyTree], jax.Array]
    contexts: Callable[[jax.Array, int], PyTree]


def duopoly(
    *, slope: float = 1.0, leader_cost: float = 1.0, follower_cost: float = 1.0
) -> ClosedFormGame:
    """Stackelberg's duopoly with linear demand: price = demand - slope * (q1 + q2).

    Action and response are the quantities q1, q2 >= 0, scalars; the context is the demand
    intercept, a scalar. Contexts are drawn from U[5, 20].

    Args:
      slope: of the inverse demand, > 0.
      leader_cost: the leader's cost a unit.
      follower_cost: the follower's cost a unit.

    Raises:
      ValueError: `slope` is not positive.

    Source: H. von Stackelberg, Marktform und Gleichgewicht, 1934; any textbook of industrial
    organisation.
    """
    _positive("slope", slope)

    def price(q1: jax.Array, q2: jax.Array, demand: jax.Array) -> jax.Array:
        return demand - slope * (q1 + q2)

    def leader_utility(q1: jax.Array, q2: jax.Array, demand: jax.Array) -> jax.Array:
        return q1 * (price(q1, q2, demand) - leader_cost)

    def follower_utility(q1: jax.Array, q2: jax.Array, demand: jax.Array) -> jax.Array:
        return q2 * (price(q1, q2, demand) - follower_cost)

    def best_response(q1: jax.Array, demand: jax.Array) -> jax.Array:
        return jnp.maximum((demand - follower_cost - slope * q1) / (2 * slope), 0)

    def sensitivity(q1: jax.Array, demand: jax.Array) -> jax.Array:
        return jnp.where(demand - follower_cost - slope * q1 > 0, -0.5, 0.0)

    def equilibrium(demand: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The leader either shares the market or, where that leaves the follower nothing, deters
        # it with the smallest quantity that does, or is a monopolist who need not care.
        shared = (demand - 2 * leader_cost + follower_cost) / (2 * slope)
        deterring = (demand - follower_cost) / slope
        monopoly = (demand - leader_cost) / (2 * slope)
        alone = jnp.maximum(deterring, monopoly)
        q1 = jnp.maximum(jnp.where(shared < deterring, shared, alone), 0)
        return q1, best_response(q1, demand)

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
        sensitivity,
        lambda key, n: jax.random.uniform(key, (n,), minval=5.0, maxval=20.0),
    )


def quadratic(
    key: jax.Array, *, action_size: int = 2, response_size: int = 3, context_size: int = 2
) -> ClosedFormGame:
    """A random quadratic game: the follower's answer is linear, the leader's problem concave.

        U_F = -r'Ar/2 + r'(Bl + Cx),     U_L = -l'Dl/2 + g'l - |r - t|^2/2

    with A, D positive definite (eigenvalues in [1, 1 + size]). Hence r* = A^-1 (Bl + Cx),
    dr*/dl = A^-1 B =: S, and (D + S'S) l* = g + S'(t - A^-1 Cx). Contexts x are standard normal,
    `[context_size]`.

    Args:
      key: for the coefficients.
      action_size: the length of l.
      response_size: the length of r.
      context_size: the length of x.
    """
    keys = jax.random.split(key, 6)
    normal = lambda i, *shape: jax.random.normal(keys[i], shape)

    def definite(i: int, size: int) -> jax.Array:
        root, _ = jnp.linalg.qr(normal(i, size, size))
        return root @ jnp.diag(1 + jnp.arange(size, dtype=root.dtype)) @ root.T

    curvature = definite(0, response_size)
    from_action = normal(1, response_size, action_size)
    from_context = normal(2, response_size, context_size)
    effort = definite(3, action_size)
    gain, target = normal(4, action_size), normal(5, response_size)
    slope = jnp.linalg.solve(curvature, from_action)

    def leader_utility(action: jax.Array, response: jax.Array, x: jax.Array) -> jax.Array:
        missed = response - target
        return -action @ effort @ action / 2 + gain @ action - missed @ missed / 2

    def follower_utility(action: jax.Array, response: jax.Array, x: jax.Array) -> jax.Array:
        pull = from_action @ action + from_context @ x
        return -response @ curvature @ response / 2 + response @ pull

    def best_response(action: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.linalg.solve(curvature, from_action @ action + from_context @ x)

    def equilibrium(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rest = target - jnp.linalg.solve(curvature, from_context @ x)
        action = jnp.linalg.solve(effort + slope.T @ slope, gain + slope.T @ rest)
        return action, best_response(action, x)

    return ClosedFormGame(
        Game(leader_utility, follower_utility),
        jnp.zeros(action_size),
        jnp.zeros(response_size),
        equilibrium,
        best_response,
        lambda action, x: slope,
        lambda key, n: jax.random.normal(key, (n, context_size)),
    )


def toll() -> ClosedFormGame:
    """A toll on one of two parallel roads, for revenue.

    One unit of traffic splits at Wardrop's equilibrium; the response is the share r in [0, 1] on
    the tolled road 0, where a driver takes `free[0] + slope[0] * r` and pays the toll (the action,
    a scalar >= 0, in units of time); on road 1 `free[1] + slope[1] * (1 - r)`. The follower's
    utility is minus Beckmann's potential. The context is a dict of `free` and `slope`, `[2]` each.
    Contexts: free ~ U[0, 1] x U[0, 2.5], slope ~ U[0.25, 1] x U[1, 2]; the leader of a few of
    them does best on the kink of its revenue, where the tolled road is just full.

    Source: Beckmann, McGuire and Winsten, Studies in the Economics of Transportation, 1956;
    Labbe, Marcotte and Savard, A bilevel model of taxation, Management Science, 1998.
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

    def equilibrium(roads: PyTree) -> tuple[jax.Array, jax.Array]:
        free, slope = roads["free"], roads["slope"]
        # Halfway to the toll that empties the road, or the largest one that still fills it.
        emptying = free[1] + slope[1] - free[0]
        action = jnp.maximum(jnp.maximum(emptying / 2, free[1] - free[0] - slope[0]), 0)
        return action, best_response(action, roads)

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
    )


def principal_agent() -> ClosedFormGame:
    """A linear contract: the principal pays a share of output, the agent chooses effort.

    Output is effort plus noise. The agent has constant absolute risk aversion and pays
    `cost * effort^2 / 2`; the fixed wage leaves it its outside option, so the principal's profit
    is the surplus less the price of risk, `effort - cost * effort^2/2 - risk * share^2/2`. Action:
    the share, in [0, 1]; response: the effort, >= 0; context: a dict of `cost` > 0 and `risk`
    (risk aversion times the noise's variance) >= 0. Effort is share / cost and the optimal share
    1 / (1 + risk * cost). Contexts: cost ~ U[0.5, 2], risk ~ U[0, 2].

    Source: Holmstrom and Milgrom, Econometrica 55(2), 1987.
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

    def contexts(key: jax.Array, n: int) -> PyTree:
        first, second = jax.random.split(key)
        return {
            "cost": jax.random.uniform(first, (n,), minval=0.5, maxval=2.0),
            "risk": jax.random.uniform(second, (n,), minval=0.0, maxval=2.0),
        }

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
    )


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"`{name}` must be positive; got {value}.")
