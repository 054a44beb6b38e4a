"""What a leader learns of executors whose predictors it cannot see: their demand for tokens.

It sees states, signals, the tokens that were used, and whether answers were right. An executor that
maximises quality less a price uses, in a state, tokens that fall as the price rises. Any such
demand is the best response of a concave utility of the tokens t alone,

    U_F = G(t; state, q) - w_C (1 - alpha) t,

because E max_k (Q_k - p T_k) is convex in the price p with slope -E[T]. So the response here is t,
one number, and `fit_follower` learns G from play at random signals. G is also what the tokens are
worth, as the executors see it: a leader that maximises `stake G(t) - mu t` finds the closed rule
`alpha* = 1 - mu / (stake w_C)` in every state. Where executors of a task type judge tokens to be
worth more or less than they are, right answers show it: a factor for each type corrects G.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stackjax._arrays.arguments import check_shape, check_within
from stackjax._game import Game
from stackjax.agents.game._networks import _Network
from stackjax.agents.game._pool import DEFAULT_POOL, PoolState, PoolWeights
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.sets import Box

_RATES = np.array([1.0, 2.0, 4.0, 8.0])
FEATURES = 11


def _rise(tokens: jax.Array, size: jax.Array) -> jax.Array:
    """`sum_j size_j (1 - exp(-k_j t)) / k_j`: rising and concave for sizes of at least 0."""
    rates = jnp.asarray(_RATES, size.dtype)
    return jnp.sum(-size * jnp.expm1(-rates * tokens) / rates)


class LearnedDemand(nnx.Module):
    """An executor's utility of tokens, strongly concave in them whatever is learned.

        U = sum_j a_j (1 - exp(-k_j t)) / k_j - w_C (1 - alpha) t - 1/2 h (t - b)^2

    with `a, h > 0` and `b` from a small network of the state and the floor q; `h >= STIFFNESS`. The
    load and the stake are not read: they reach an executor through the signal only.

    Args:
      hidden: width of the network's one hidden layer.
      cost: `w_C`.
      rngs: initialisation.

    Example:
      >>> demand = sj.agents.game.LearnedDemand(rngs=nnx.Rngs(0))
      >>> value = sj.agents.game.RevealedValue(demand, jnp.ones(6))
      >>> game = sj.agents.game.demand_game(demand, value)
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> used = lambda alpha: sj.best_response(
      ...     game, jnp.array([0.0, alpha]), state, response=jnp.array(0.5)
      ... ).value
      >>> bool(used(1.0) > used(0.9) > used(0.5))
      True
    """

    STIFFNESS = 0.05

    def __init__(
        self, *, hidden: int = 16, cost: float = DEFAULT_POOL.cost, rngs: nnx.Rngs
    ) -> None:
        check_within("cost", cost, "(0, inf)", owner="LearnedDemand: ")
        self.cost = float(cost)
        self.network = _Network(FEATURES + 1, hidden, len(_RATES) + 2, rngs)

    def worth(self, floor: jax.Array, tokens: jax.Array, state: PoolState) -> jax.Array:
        """`G`: what `tokens: []` are worth to the executor at a floor `[]`, before their price."""
        alike = state.replace(load=jnp.ones_like(state.load), stake=jnp.ones_like(state.stake))
        raw = self.network(jnp.concatenate([alike.features, jnp.reshape(floor, 1)]))
        size = jax.nn.softplus(raw[: len(_RATES)])
        stiffness = self.STIFFNESS + jax.nn.softplus(raw[-2])
        return _rise(tokens, size) - 0.5 * stiffness * (tokens - 1.0 - raw[-1]) ** 2

    def __call__(self, action: jax.Array, response: jax.Array, context: PoolState) -> jax.Array:
        """Utility `[]` of `response: []` tokens, in units of `T_bar`, at `action: [2]`."""
        paid = self.cost * (1.0 - action[1]) * response
        return self.worth(action[0], response, context) - paid


class RevealedValue(nnx.Module):
    """What tokens are worth to the leader: the executors' own curve, times a factor of the type.

        V(t) = factor_type G(t; state, 0)

    Args:
      demand: the executors' utility, which has G.
      factor: `[6]`, for each of `TASK_TYPES`; 1 where executors judge tokens as they are.

    Raises:
      ValueError: `factor` is not of shape `[6]`.

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> demand = sj.agents.game.LearnedDemand(rngs=nnx.Rngs(0))
      >>> value = sj.agents.game.RevealedValue(demand, jnp.ones(6))
      >>> bool(value(jnp.array(0.6), state) > value(jnp.array(0.2), state))
      True
    """

    def __init__(self, demand: LearnedDemand, factor: jax.Array) -> None:
        check_shape("factor", factor, (len(TASK_TYPES),), ", one for each task type")
        self.demand, self.factor = demand, nnx.Param(jnp.asarray(factor))

    def __call__(self, tokens: jax.Array, state: PoolState) -> jax.Array:
        """The worth `[]` of `tokens: []`, in right answers, up to a constant of the state."""
        floor = jnp.zeros((), tokens.dtype)
        return self.factor[...][state.task] * self.demand.worth(floor, tokens, state)


class PoolLeader(nnx.Module):
    """The leader's policy: state -> (q, alpha) in [0, 1]^2, by a sigmoid.

    Args:
      hidden: width of the one hidden layer.
      rngs: initialisation.

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> sj.agents.game.PoolLeader(rngs=nnx.Rngs(0))(state).shape
      (2,)
    """

    START = (-6.0, 1.5)  # at first no floor, and a subsidy of 0.8

    def __init__(self, *, hidden: int = 16, rngs: nnx.Rngs) -> None:
        self.network = _Network(FEATURES, hidden, 2, rngs)

    def __call__(self, context: PoolState) -> jax.Array:
        """The action `[2]` at one state."""
        features = context.features
        return jax.nn.sigmoid(jnp.asarray(self.START, features.dtype) + self.network(features))


class _Worth(nnx.Module):
    """The leader's utility of tokens: the stake's right answers, less their price."""

    def __init__(self, value: Callable[[jax.Array, PoolState], jax.Array], price: float) -> None:
        self.value, self.price = value, price

    def __call__(self, action: jax.Array, response: jax.Array, context: PoolState) -> jax.Array:
        return context.stake * self.value(response, context) - self.price * response


def demand_game(
    demand: LearnedDemand,
    value: Callable[[jax.Array, PoolState], jax.Array],
    *,
    most: float = 2.0,
    weights: PoolWeights = DEFAULT_POOL,
) -> Game:
    """The game that a leader plays on what it has learned: contexts are `PoolState`s.

    Args:
      demand: the executors' utility of tokens.
      value: what tokens are worth in a state, `(tokens, state) -> []`, a module or a function.
      most: the largest number of tokens of a turn, in units of `T_bar`.
      weights: the payoffs' weights; only the price is read.

    Returns:
      A game with the action (q, alpha) in [0, 1]^2 and the response t in [0, most].

    Raises:
      ValueError: `most` is not positive.

    Example:
      >>> demand = sj.agents.game.LearnedDemand(rngs=nnx.Rngs(0))
      >>> value = sj.agents.game.RevealedValue(demand, jnp.ones(6))
      >>> print(sj.agents.game.demand_game(demand, value).response_set.upper)
      2.0
    """
    check_within("most", most, "(0, inf)")
    return Game(
        _Worth(value, weights.price),
        demand,
        action_set=Box(jnp.zeros(2), jnp.ones(2)),
        response_set=Box(jnp.zeros(()), jnp.asarray(most, jnp.float32)),
    )
