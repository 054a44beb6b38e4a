"""Constraints and shadow prices.

The action and the response each live in a set: `Box`, `Simplex`, `Ball`, `Polyhedron` (`A r <= b`,
`E r = d`) or `Constrained` (smooth `inequality <= 0`, `equality == 0`, in a box). The arrays of a
set may be traced: they can be differentiated and batched like any other argument.

## A budget and its shadow price

A follower buys two goods at one price, within a budget that the context gives:

```python
import jax, jax.numpy as jnp
import stackjax as sj

def revenue(price, amounts, market):
    return price * jnp.sum(amounts)

def surplus(price, amounts, market):
    return market["taste"] @ amounts - amounts @ amounts / 2 - price * jnp.sum(amounts)

def overspent(price, amounts, market):
    return price * jnp.sum(amounts) - market["budget"]

buyer = sj.Constrained(overspent, box=sj.Box(lower=0.0))
shop = sj.Game(revenue, surplus, action_set=sj.Box(0.0, 5.0), response_set=buyer)
market = lambda budget: {"taste": jnp.array([2.0, 1.0]), "budget": budget}
buy = lambda price, budget: sj.best_response(shop, price, market(budget), response=jnp.ones(2))

found = buy(0.5, 0.75)
print(jnp.round(found.value, 3), found.converged)  # [1.25 0.25] True
print(jnp.round(found.multipliers.inequality, 3))  # [0.5]
```

`Response.multipliers` are shadow prices: the gain in the follower's utility for each unit by which
a constraint is relaxed. There is one for each number that `inequality` and `equality` return;
`lower` and `upper` have the structure of the response. The envelope theorem gives the same number
as a derivative of the optimal utility:

```python
optimum = lambda budget: surplus(0.5, buy(0.5, budget).value, market(budget))
print(jnp.round(jax.grad(optimum)(0.75), 3))  # 0.5
```

Multipliers are differentiable like the response. Here `price * (1 + m) = taste - amount` in both
goods, and the amounts add up to `budget / price`, so that
`m = (3 - budget / price) / (2 price) - 1`: at the price 0.5 the shadow price falls by
`1 / (2 * 0.25) = 2` for each unit of budget.

```python
shadow = lambda budget: buy(0.5, budget).multipliers.inequality[0]
print(jnp.round(jax.grad(shadow)(0.75), 3))  # -2.0
```

Where a multiplier is zero and its constraint active, derivatives hold on one side only; see
`Response.degeneracy` in `gradients`.

## Constraints on the outcome

A `Constrained` action set may read the follower's response: the leader then chooses among actions
whose *outcome* is admissible. Examples are a service level and a participation constraint (the
follower gets at least its outside option). An incentive constraint does not have to be written: the
response is a best response by definition. Here the shop has to sell a minimum amount, to buyers
without a budget:

```python
shortfall = lambda price, amounts, market: market["least"] - jnp.sum(amounts)
served = sj.Constrained(shortfall, box=sj.Box(0.0, 5.0))
town = sj.Game(revenue, surplus, action_set=served, response_set=sj.Box(lower=0.0))
start = {"action": jnp.array(1.0), "response": jnp.ones(2)}

def income(least):
    market = {"taste": jnp.array([2.0, 1.0]), "least": least}
    found = sj.solve(town, **start, context=market, starts=2)
    return found.leader_utility, found

(value, found), cost = jax.value_and_grad(income, has_aux=True)(2.0)
print(jnp.round(found.action, 3), jnp.round(value, 3), found.converged)  # 0.5 1.0 True
print(jnp.round(cost, 3), jnp.round(found.multipliers.inequality, 3))  # -0.5 [0.5]
```

Without the constraint, the price would be 0.75 and the amount sold 1.5. `Solution.multipliers` are
the leader's shadow prices: the gain in its utility for each unit by which one of its own
constraints or bounds is relaxed, the follower's answer included. In closed form the income is
`least (3 - least) / 2`, with slope -0.5 at `least = 2`. `recipes.contract` has a principal and an
agent with a participation constraint and limited liability.

## Many constraints

`InteriorPoint` factorises a matrix of all variables and constraints. From some hundred numbers on,
ask for `AugmentedLagrangian`, which needs no more than products: the functions of a `Constrained`
set are operators as they are, and a `Polyhedron` is its arrays. A transport plan has a row and a
column total for each place; one of the totals follows from the others, which does no harm:

```python
n = 12
totals = lambda a, r, x: jnp.concatenate([r.sum(1) - x["supply"], r.sum(0) - x["demand"]])
plans = sj.Constrained(equality=totals, box=sj.Box(lower=0.0))
worth = lambda cost, r, x: -jnp.sum(cost * r) - 0.2 * jnp.sum(r * jnp.log(r))
carrier = sj.Game(lambda cost, r, x: jnp.sum(cost * r), worth, response_set=plans)
equal = {"supply": jnp.ones(n), "demand": jnp.ones(n)}

def shipped(cost):
    solver = sj.solvers.AugmentedLagrangian()
    start = jnp.full((n, n), 1 / n)
    found = sj.best_response(carrier, cost, equal, response=start, solver=solver)
    return found.value[0, 0], found.converged

away = jnp.abs(jnp.arange(n)[:, None] - jnp.arange(n)[None]) / n
slope, converged = jax.grad(shipped, has_aux=True)(away)
print(converged, slope[0, 0] < 0 < slope[0, 1])  # True True
```

A multiplier of dependent rows is not unique: the value and its derivatives are right, the split of
a price among such rows is one of many.

## Rules

- By default, `solve` uses `Newton` if both sets are boxes and `Complementarity` otherwise. `Newton`
  needs a `Box` as the action set.
- A constraint of the action set that depends on the response binds the leader only: the follower
  ignores it. A constraint of the response set binds the follower, and may depend on the action.
- Constraints should be smooth, in units in which they are about 1: write two linear ones instead of
  an absolute value.
- Redundant constraints are allowed; equalities should be independent. If no feasible point has
  slack, multipliers are not unique, and `converged` may be False.
- An empty `Polyhedron` raises an error outside transforms; any other empty set gives
  `converged=False`.
- For policies, `fit_leader(..., constraints=[sj.fit.Average(f, at_least=0.9)])` bounds averages
  over contexts and records their multipliers in `History`.
"""
