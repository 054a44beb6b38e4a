"""Recipe: a contract with a participation constraint.

A principal pays a wage and a share of the output; an agent chooses an effort that the principal
does not see. The agent dislikes effort and risk and has an outside option; the wage cannot be
negative (limited liability).

    agent      U_F = wage + share * effort - cost * effort^2 / 2 - risk * share^2 / 2
    principal  U_L = (1 - share) * effort - wage
    incentive      effort is the agent's best response
    participation  U_F >= outside,   wage >= 0,   0 <= share <= 1

The incentive constraint is the game itself. Participation depends on the response, so it is a
`Constrained` action set. (Holmstrom and Milgrom, Econometrica 55(2), 1987; limited liability is
added.)

```python
import jax, jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
import stackjax as sj

COST, RISK = 1.0, 0.5

def agent(contract, effort, outside):
    wage, share = contract
    return wage + share * effort - COST * effort**2 / 2 - RISK * share**2 / 2

def principal(contract, effort, outside):
    wage, share = contract
    return (1 - share) * effort - wage

accepted = sj.Constrained(
    lambda contract, effort, outside: outside - agent(contract, effort, outside),
    box=sj.Box(jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0])),
)
game = sj.Game(principal, agent, action_set=accepted, response_set=sj.Box(lower=0.0))

def profit(outside):
    found = sj.solve(
        game, action=jnp.array([0.1, 0.5]), response=jnp.array(0.5), context=outside, starts=4
    )
    return found.leader_utility, found

outsides = jnp.array([0.05, 0.08, 0.2])
solved = jax.jit(jax.vmap(jax.value_and_grad(profit, has_aux=True)))
(value, found), price = solved(outsides)
print(found.converged)  # [ True  True  True]
for row in zip(outsides, *found.action.T, value, price):
    print("outside {:.2f}: wage {:.3f}, share {:.3f}, profit {:.3f}, price {:.3f}".format(*row))
# outside 0.05: wage 0.000, share 0.500, profit 0.250, price 0.000
# outside 0.08: wage 0.000, share 0.566, profit 0.246, price -0.464
# outside 0.20: wage 0.089, share 0.667, profit 0.133, price -1.000
```

`price` is the derivative of the profit with respect to the outside option, which is minus the
shadow price of participation. There are three regimes:

- With a poor outside option (0.05) participation is slack at the principal's best contract: the
  share is 1/2 and the shadow price is 0.
- At 0.08 participation binds, and a higher share is cheaper than a wage: the shadow price is
  between 0 and 1.
- At 0.2 the share is that of the problem without limited liability, `1 / (1 + risk * cost)`, and
  each further unit is paid as wage: the shadow price is 1.

## Check

In closed form the effort is `share / cost`; with `k = (1 / cost - risk) / 2`, the agent gets
`wage + k share^2`. The share is 1/2, or the share at which participation binds without a wage, up
to `1 / (1 + risk * cost)`.

```python
k, first_best = (1 / COST - RISK) / 2, 1 / (1 + RISK * COST)
share = np.clip(np.sqrt(np.asarray(outsides) / k), 0.5, first_best)
wage = np.maximum(np.asarray(outsides) - k * share**2, 0)
exact = (1 - share) * share / COST - wage
print(np.abs(found.action - np.stack([wage, share], 1)).max() < 1e-3)  # True
print(np.abs(value - exact).max() < 1e-4)  # True
slope = (1 - 2 * share[1]) / COST / (2 * k * share[1])  # d profit / d outside where no wage is paid
print(np.abs(price - np.array([0, slope, -1])).max() < 1e-3)  # True
```

SciPy agrees, with the effort substituted by hand:

```python
def by_scipy(outside):
    effort = lambda c: c[1] / COST
    binds = {"type": "ineq", "fun": lambda c: agent(c, effort(c), outside) - outside}
    return -minimize(
        lambda c: -principal(c, effort(c), outside), [0.2, 0.6], bounds=[(0, 1)] * 2,
        constraints=binds, method="SLSQP", tol=1e-10,
    ).fun

print(np.abs(value - np.array([by_scipy(float(o)) for o in outsides])).max() < 1e-4)  # True
```
"""
