"""Recipe: prices of two sellers with logit demand.

One seller posts its price first; the other observes it and sets its own. Customers choose between
the two sellers and no purchase by logit:

    share_i = exp(value_i - price_i) / (1 + sum_j exp(value_j - price_j))
    profit_i = (price_i - cost_i) share_i

A profit with logit demand is quasi-concave in its own price, not concave. Its logarithm is concave
and has the same maximiser, so the follower's utility is `log(price - cost) + log share`. The
leader's utility is its profit.

```python
import jax, jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq, minimize_scalar
import stackjax as sj

def log_share(own, other, own_value, other_value):
    worth = jnp.stack([own_value - own, other_value - other, 0.0])
    return worth[0] - jax.nn.logsumexp(worth)

def leader_profit(price, answer, market):
    value, cost = market["value"], market["cost"]
    return (price - cost[0]) * jnp.exp(log_share(price, answer, value[0], value[1]))

def follower_log_profit(price, answer, market):
    value, cost = market["value"], market["cost"]
    return jnp.log(answer - cost[1]) + log_share(answer, price, value[1], value[0])

game = sj.Game(
    leader_profit,
    follower_log_profit,
    action_set=sj.Box(0.5, 10.0),
    response_set=sj.Box(0.6, 10.0),  # above every cost: the logarithm needs it
)
solve = lambda market: sj.solve(
    game, action=jnp.array(2.0), response=jnp.array(2.0), context=market
)
markets = {
    "value": jnp.array([[2.0, 2.0], [3.0, 2.0], [2.0, 4.0]]),
    "cost": jnp.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.5]]),
}
found = jax.jit(jax.vmap(solve))(markets)
print(found.converged, found.local)  # [ True  True  True] [False False False]
for prices in zip(found.action, found.response):
    print("leader {:.3f}, follower {:.3f}".format(*prices))
# leader 2.089, follower 2.015
# leader 2.487, follower 1.910
# leader 1.743, follower 2.861
```

## Check

NumPy and SciPy evaluate both conditions in float64. By the follower's first-order condition its
markup is `1 / (1 - share)`; bracketing finds the price that satisfies it. The leader's best price
is then found by a search in one variable, without derivatives.

```python
def share(price, answer, value):
    odds = np.exp([value[1] - answer, value[0] - price, 0.0])
    return odds[:2] / odds.sum()

def markup_gap(answer, price, value, cost):
    return answer - cost[1] - 1 / (1 - share(price, answer, value)[0])

def reaction(price, value, cost):
    return brentq(markup_gap, cost[1] + 1, 10.0, args=(price, value, cost), xtol=1e-12)

def leads(price, value, cost):
    return (price - cost[0]) * share(price, reaction(price, value, cost), value)[1]

best = []
for value, cost in zip(np.float64(markets["value"]), np.float64(markets["cost"])):
    search = minimize_scalar(lambda p: -leads(p, value, cost), bounds=(0.5, 10.0), method="bounded")
    best.append((search.x, reaction(search.x, value, cost), -search.fun))
action, response, profit = np.array(best).T
print(np.abs(found.action - action).max() < 2e-3)  # True
print(np.abs(found.response - response).max() < 1e-3)  # True
print(np.abs(found.leader_utility - profit).max() < 1e-5)  # True
```

For comparison, consider simultaneous moves: in the Nash equilibrium of the first market both set
the same price, with the same markup rule. Commitment increases the leader's profit, and the
follower's profit is higher still.

```python
value, cost = np.float64(markets["value"][0]), np.float64(markets["cost"][0])
nash = brentq(lambda p: markup_gap(p, p, value, cost), 1.5, 10.0)
alike = (nash - cost[0]) * share(nash, nash, value)[1]
first, second = found.leader_utility[0], jnp.exp(found.follower_utility[0])
print(first > alike, second > first)  # True True
```

A monopolist with several products and customers on the simplex is `sj.games.logit_pricing`, with
the closed form of Anderson and de Palma.
"""
