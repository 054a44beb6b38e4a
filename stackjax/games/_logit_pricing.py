"""Prices for customers who choose by logit."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_at_least, check_positive, uniform
from stackjax.sets import Simplex
from stackjax.solvers._settings import Complementarity


def logit_pricing(*, products: int = 2, noise: float = 1.0) -> ClosedFormGame:
    """A seller prices products; customers split between them and buying nothing by logit.

    Action: prices p, `[products]`; response: shares r on the simplex, `[products + 1]`, the last
    of them of buying nothing; context: a dict of `value` and `cost`, `[products]` each.

        U_F = sum(r (value - p)) - noise sum(r log r),   U_L = sum(r (p - cost))

    so that `r = softmax((value - p) / noise)`, with 0 for nothing. All markups are equal at the
    optimum, `p - cost = noise (1 + w)` where `w e^w = sum(exp((value - cost) / noise - 1))`. That
    is Lambert's function, computed here as the root of the concave, increasing
    `w + log w - log(w e^w)` by Newton's method from below, which cannot overshoot, to machine
    precision. Contexts: value ~ U[1, 4], cost ~ U[0, 1].

    Args:
      products: how many.
      noise: of the customers' choice, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `products` is below 1, or `noise` not positive.

    Source: Anderson and de Palma, The logit as a model of product differentiation, Oxford Economic
    Papers 44(1), 1992; Li and Huh, Pricing multiple products with the multinomial logit and nested
    logit models, Manufacturing and Service Operations Management 13(4), 2011.

    Example:
      >>> goods = {"value": jnp.array([2.0, 2.0]), "cost": jnp.array([0.0, 0.5])}
      >>> prices, shares = sj.games.logit_pricing(products=2).equilibrium(goods)
      >>> print([f"{markup:.2f}" for markup in prices - goods["cost"]], shares.shape)  # all alike
      ['2.25', '2.25'] (3,)
    """
    check_at_least(1, products=products)
    check_positive(noise=noise)

    def leader_utility(p: jax.Array, r: jax.Array, market: PyTree) -> jax.Array:
        return r[:-1] @ (p - market["cost"])

    def follower_utility(p: jax.Array, r: jax.Array, market: PyTree) -> jax.Array:
        return r[:-1] @ (market["value"] - p) + noise * jnp.sum(jax.scipy.special.entr(r))

    def best_response(p: jax.Array, market: PyTree) -> jax.Array:
        return jax.nn.softmax(jnp.append((market["value"] - p) / noise, 0.0))

    def sensitivity(p: jax.Array, market: PyTree) -> jax.Array:
        r = best_response(p, market)
        return (jnp.outer(r, r) - jnp.diag(r))[:, :-1] / noise

    def equilibrium(market: PyTree) -> tuple[jax.Array, jax.Array]:
        log_sum = jax.nn.logsumexp((market["value"] - market["cost"]) / noise - 1)
        newton = lambda _, w: w * (1 + log_sum - jnp.log(w)) / (1 + w)
        w = jax.lax.fori_loop(0, 20, newton, jax.nn.sigmoid(log_sum))
        p = market["cost"] + noise * (1 + w)
        return p, best_response(p, market)

    def contexts(key: jax.Array, n: int) -> PyTree:
        first, second = jax.random.split(key)
        return {
            "value": uniform(first, (n, products), 1.0, 4.0),
            "cost": uniform(second, (n, products), 0.0, 1.0),
        }

    return ClosedFormGame(
        Game(leader_utility, follower_utility, response_set=Simplex()),
        jnp.full(products, 2.0),
        jnp.full(products + 1, 1 / (products + 1)),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        solver=Complementarity(),
        starts=4,
    )
