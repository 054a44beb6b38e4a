"""Duopolies in quantities."""

import dataclasses

import jax
import jax.numpy as jnp

from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, best_of, check_positive, uniform
from stackjax.sets import Box
from stackjax.solvers._settings import Complementarity


def duopoly(
    *,
    slope: float = 1.0,
    leader_cost: float = 1.0,
    follower_cost: float = 1.0,
    leader_capacity: float = float("inf"),
    follower_capacity: float = float("inf"),
) -> ClosedFormGame:
    """Stackelberg's duopoly with linear demand: price = demand - slope * (q1 + q2).

    Action and response are the quantities q1, q2, scalars between 0 and the capacities; the
    context is the demand intercept, a scalar. The follower sells

        q2 = clip((demand - follower_cost - slope * q1) / (2 slope), 0, follower_capacity),

    so the leader's profit is a parabola on each of three intervals: beside a follower at capacity,
    sharing the market, and alone. Its best point is the top of one of them,
    `(demand - slope * follower_capacity - c1) / (2 slope)`, `(demand - 2 c1 + c2) / (2 slope)`,
    `(demand - c1) / (2 slope)`, or the smallest quantity that deters the follower,
    `(demand - c2) / slope`, where the profit has a kink. The Nash equilibrium is Cournot's,
    without capacities `((demand - 2 c1 + c2) / (3 slope), (demand - 2 c2 + c1) / (3 slope))`.
    Contexts are drawn from U[5, 20].

    Args:
      slope: of the inverse demand, > 0.
      leader_cost: the leader's cost a unit.
      follower_cost: the follower's cost a unit.
      leader_capacity: the most that the leader can make, > 0.
      follower_capacity: the most that the follower can make, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `slope` or a capacity is not positive.

    Source: H. von Stackelberg, Marktform und Gleichgewicht, 1934; A. Cournot, Recherches sur les
    principes mathematiques de la theorie des richesses, 1838; any textbook of industrial
    organisation.

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> print(*duopoly.equilibrium(jnp.array(13.0)))  # Stackelberg
      6.0 3.0
      >>> print(*duopoly.nash(jnp.array(13.0)))  # Cournot
      4.0 4.0
    """
    check_positive(
        slope=slope, leader_capacity=leader_capacity, follower_capacity=follower_capacity
    )
    bounded = follower_capacity < float("inf")

    def price(q1: jax.Array, q2: jax.Array, demand: jax.Array) -> jax.Array:
        return demand - slope * (q1 + q2)

    def leader_utility(q1: jax.Array, q2: jax.Array, demand: jax.Array) -> jax.Array:
        return q1 * (price(q1, q2, demand) - leader_cost)

    def follower_utility(q1: jax.Array, q2: jax.Array, demand: jax.Array) -> jax.Array:
        return q2 * (price(q1, q2, demand) - follower_cost)

    def unbounded(q1: jax.Array, demand: jax.Array) -> jax.Array:
        return (demand - follower_cost - slope * q1) / (2 * slope)

    def best_response(q1: jax.Array, demand: jax.Array) -> jax.Array:
        return jnp.clip(unbounded(q1, demand), 0, follower_capacity)

    def leaders_answer(q2: jax.Array | float, demand: jax.Array) -> jax.Array:
        return jnp.clip((demand - leader_cost - slope * q2) / (2 * slope), 0, leader_capacity)

    def sensitivity(q1: jax.Array, demand: jax.Array) -> jax.Array:
        q2 = unbounded(q1, demand)
        return jnp.where((q2 > 0) & (q2 < follower_capacity), -0.5, 0.0)

    def equilibrium(demand: jax.Array) -> tuple[jax.Array, jax.Array]:
        tops = [
            leaders_answer(follower_capacity, demand),
            (demand - 2 * leader_cost + follower_cost) / (2 * slope),
            (demand - follower_cost) / slope,
            leaders_answer(0.0, demand),
        ]
        q1 = best_of(
            jnp.clip(jnp.stack(tops), 0, leader_capacity),
            lambda q1: leader_utility(q1, best_response(q1, demand), demand),
        )
        return q1, best_response(q1, demand)

    def cournot(demand: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Both inside, or one of them at a bound: what answers its own answer.
        candidates = jnp.stack(
            [
                (demand - 2 * leader_cost + follower_cost) / (3 * slope),
                leaders_answer(0.0, demand),
                leaders_answer(follower_capacity, demand),
                jnp.full_like(demand, leader_capacity),
            ]
        )
        change = lambda q1: jnp.abs(q1 - leaders_answer(best_response(q1, demand), demand))
        q1 = best_of(candidates, lambda q1: -change(q1))
        return q1, best_response(q1, demand)

    side = lambda capacity: capacity if capacity < float("inf") else None
    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Box(0.0, side(leader_capacity)),
            response_set=Box(0.0, side(follower_capacity)),
        ),
        jnp.array(1.0),
        jnp.array(1.0),
        equilibrium,
        best_response,
        sensitivity,
        lambda key, n: uniform(key, (n,), 5.0, 20.0),
        nash=cournot,
        solver=Complementarity() if bounded else None,
        starts=8 if bounded else None,
        kinked=follower_cost > leader_cost,
    )


def entry_deterrence(
    *, slope: float = 1.0, leader_cost: float = 1.0, follower_cost: float = 4.0
) -> ClosedFormGame:
    """The duopoly where it pays the leader to keep the follower out by selling more.

    With the follower's cost above the leader's by `gap`, and demand between `follower_cost + gap`
    and `follower_cost + 2 gap`, the leader sells `(demand - follower_cost) / slope`, which brings
    the price down to the follower's cost: limit pricing. Every equilibrium is on the kink where
    the follower just leaves; beyond it the leader is a monopolist who sells too much, before it
    the follower sells. Contexts: demand ~ follower_cost + gap * U[1.1, 1.9].

    Args:
      slope: of the inverse demand, > 0.
      leader_cost: the leader's cost a unit.
      follower_cost: the follower's cost a unit, more than the leader's.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `slope` is not positive, or `follower_cost` not above `leader_cost`.

    Source: J. Bain, Barriers to New Competition, 1956; A. Dixit, Recent developments in oligopoly
    theory, American Economic Review 72(2), 1982.

    Example:
      >>> market = sj.games.entry_deterrence(leader_cost=1.0, follower_cost=4.0)
      >>> print(*market.equilibrium(jnp.array(8.5)))  # the follower is kept out
      4.5 0.0
    """
    gap = follower_cost - leader_cost
    if not gap > 0:
        raise ValueError(
            f"`follower_cost` must be above `leader_cost`, {leader_cost}; got {follower_cost}."
        )
    return dataclasses.replace(
        duopoly(slope=slope, leader_cost=leader_cost, follower_cost=follower_cost),
        contexts=lambda key, n: follower_cost + gap * uniform(key, (n,), 1.1, 1.9),
        solver=Complementarity(),
        starts=4,
        kinked=True,
    )
