"""Taxes."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_at_least, uniform
from stackjax.sets import Box, Constrained
from stackjax.solvers._settings import Complementarity

HIGHEST_RATE = 0.95


def income_tax() -> ClosedFormGame:
    """The top of the Laffer curve: a linear income tax for revenue.

    Action: the rate t in [0, 0.95]; response: the hours h >= 0 of a worker with utility
    `(1 - t) wage h - h^(1 + 1/e) / (1 + 1/e)`; context: a dict of `wage` > 0 and the `elasticity`
    e > 0 of labour supply; all scalars. The worker supplies `h = ((1 - t) wage)^e`; revenue
    `t wage h`, proportional to `t (1 - t)^e`, is largest at `t = 1 / (1 + e)`. (At Nash, hours
    are taken as given and the rate is the highest.) Contexts: wage ~ U[0.5, 2],
    elasticity ~ U[0.3, 1.5].

    Source: E. Saez, Using elasticities to derive optimal income tax rates, Review of Economic
    Studies 68(1), 2001.

    Example:
      >>> worker = {"wage": jnp.array(2.0), "elasticity": jnp.array(1.0)}
      >>> print(*sj.games.income_tax().equilibrium(worker))  # rate, hours
      0.5 1.0
    """

    def leader_utility(t: jax.Array, h: jax.Array, worker: PyTree) -> jax.Array:
        return t * worker["wage"] * h

    def follower_utility(t: jax.Array, h: jax.Array, worker: PyTree) -> jax.Array:
        power = 1 + 1 / worker["elasticity"]
        return (1 - t) * worker["wage"] * h - h**power / power

    def best_response(t: jax.Array, worker: PyTree) -> jax.Array:
        return ((1 - t) * worker["wage"]) ** worker["elasticity"]

    def sensitivity(t: jax.Array, worker: PyTree) -> jax.Array:
        return -worker["elasticity"] * best_response(t, worker) / (1 - t)

    def equilibrium(worker: PyTree) -> tuple[jax.Array, jax.Array]:
        t = jnp.minimum(1 / (1 + worker["elasticity"]), HIGHEST_RATE)
        return t, best_response(t, worker)

    def nash(worker: PyTree) -> tuple[jax.Array, jax.Array]:
        t = jnp.full_like(worker["wage"], HIGHEST_RATE)
        return t, best_response(t, worker)

    def contexts(key: jax.Array, n: int) -> PyTree:
        first, second = jax.random.split(key)
        return {
            "wage": uniform(first, (n,), 0.5, 2.0),
            "elasticity": uniform(second, (n,), 0.3, 1.5),
        }

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Box(0.0, HIGHEST_RATE),
            response_set=Box(lower=0.0),
        ),
        jnp.array(0.3),
        jnp.array(1.0),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
    )


def commodity_tax(*, goods: int = 2) -> ClosedFormGame:
    """Ramsey's problem: given revenue, the commodity taxes that cost the consumer least.

    Action: the taxes a unit, t >= 0, `[goods]`; response: the quantities q >= 0, `[goods]`.
    The consumer's utility, which the government maximises too, is
    `sum((margin - t) q - slope q^2 / 2)`; the government must raise `t'q >= revenue`, a constraint
    on its action that depends on the response. The context is a dict of `margin` (willingness to
    pay for the first unit less the price) and `slope`, `[goods]` each, and `revenue`, a scalar
    below `R = sum(margin^2 / slope) / 4`, the most that can be raised.

    The consumer buys `q = max((margin - t) / slope, 0)`. In `y = sqrt(slope) q` the consumer's
    surplus is `|y|^2 / 2` and the constraint a ball around `margin / sqrt(slope) / 2`, so the best
    y is the ball's point farthest from 0: all quantities fall in one proportion,
    `t = margin (1 - sqrt(1 - revenue / R)) / 2`. Contexts: margin ~ U[1, 3], slope ~ U[0.5, 2],
    revenue ~ U[0.2, 0.8] R.

    Args:
      goods: how many.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `goods` is below 1.

    Source: F. Ramsey, A contribution to the theory of taxation, Economic Journal 37, 1927.

    Example:
      >>> market = {"margin": jnp.full(2, 2.0), "slope": jnp.ones(2), "revenue": jnp.array(1.5)}
      >>> tax, bought = sj.games.commodity_tax().equilibrium(market)
      >>> print(tax, bought, tax @ bought)
      [0.5 0.5] [1.5 1.5] 1.5
    """
    check_at_least(1, goods=goods)

    def welfare(tax: jax.Array, bought: jax.Array, market: PyTree) -> jax.Array:
        return jnp.sum((market["margin"] - tax - market["slope"] * bought / 2) * bought)

    def missing(tax: jax.Array, bought: jax.Array, market: PyTree) -> jax.Array:
        return market["revenue"] - tax @ bought

    def best_response(tax: jax.Array, market: PyTree) -> jax.Array:
        return jnp.maximum((market["margin"] - tax) / market["slope"], 0)

    def sensitivity(tax: jax.Array, market: PyTree) -> jax.Array:
        return jnp.diag(jnp.where(market["margin"] > tax, -1 / market["slope"], 0))

    def most(margin: jax.Array, slope: jax.Array) -> jax.Array:
        return jnp.sum(margin**2 / slope, -1) / 4

    def equilibrium(market: PyTree) -> tuple[jax.Array, jax.Array]:
        share = market["revenue"] / most(market["margin"], market["slope"])
        tax = market["margin"] * (1 - jnp.sqrt(1 - share)) / 2
        return tax, best_response(tax, market)

    def contexts(key: jax.Array, n: int) -> PyTree:
        keys = jax.random.split(key, 3)
        margin, slope = uniform(keys[0], (n, goods), 1, 3), uniform(keys[1], (n, goods), 0.5, 2)
        revenue = uniform(keys[2], (n,), 0.2, 0.8) * most(margin, slope)
        return {"margin": margin, "slope": slope, "revenue": revenue}

    return ClosedFormGame(
        Game(
            welfare,
            welfare,
            action_set=Constrained(missing, box=Box(lower=0.0)),
            response_set=Box(lower=0.0),
        ),
        jnp.full(goods, 0.5),
        jnp.full(goods, 0.5),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        solver=Complementarity(),
        starts=16,
    )
