"""Several levels.

## Three levels

The follower's utility may itself call `best_response`. Below, the last player responds to the
middle player, who anticipates this:

```python
import jax, jax.numpy as jnp
import stackjax as sj

last = sj.Game(
    lambda middle, r, x: 0.0 * r,  # the leader's utility is not used by best_response
    lambda middle, r, x: middle * r - r**2 / 2 - r**4 / 4,
)
answer = lambda middle: sj.best_response(last, middle, None, response=jnp.array(0.5)).value
upper = sj.Game(
    lambda top, middle, x: -((middle - 1.0) ** 2) - 0.1 * top**2,
    lambda top, middle, x: top * middle - middle**2 - answer(middle) ** 2,
)
middle = lambda top: sj.best_response(upper, top, None, response=jnp.array(0.5))
found = middle(4.0)
print(found.converged)  # True
```

The middle player's optimality condition is `top = 2 middle + 2 r dr/dmiddle`, where `r + r^3 =
middle` and `dr/dmiddle = 1 / (1 + 3 r^2)`:

```python
r = answer(found.value)
print(jnp.isclose(2 * found.value + 2 * r / (1 + 3 * r**2), 4.0, rtol=1e-5))  # True
step = 1e-2
difference = (middle(4.0 + step).value - middle(4.0 - step).value) / (2 * step)
print(jnp.isclose(jax.grad(lambda top: middle(top).value)(4.0), difference, rtol=1e-3))  # True
```

`sj.solve(upper, ...)` solves the top player's problem; `recipes.three_levels` compares such a
solution with a closed form. Costs and pitfalls:

- Each level adds two derivatives of the level below. Compile time grows quickly; the lowest levels
  should have few variables.
- The middle player's utility is seldom concave when the last player's response is nonlinear.
  `Solution.local` and `starts=` apply (`convergence`).
- The upper levels do not report a failure at the last level: call `best_response` once more at the
  solution and check `converged`.
- Where the last player's active constraints change, the middle player's utility has a kink.
- Do not nest levels inside `lax.scan` (see `gradients`, higher derivatives).

## Several followers as one

`several_followers` is about followers in Nash equilibrium. If their game has a potential (a
function whose derivative in each player's own response equals that of the player's utility, up to a
positive factor for each player), one follower that maximises it gives the same equilibrium. All
solvers, sets and checks of one follower then apply: the drivers of `recipes.toll` are an example.

```python
costs = jnp.array([1.0, 2.0, 5.5])

def potential(q, r, demand):  # dP/dr_i = demand - q - cost_i - sum(r) - r_i
    return r @ (demand - q - costs) - r @ r / 2 - jnp.sum(r) ** 2 / 2

def profit(i):
    return lambda q, r, demand: r[i] * (demand - q - sum(r) - costs[i])

leader = lambda q, r, demand: q * (demand - q - sum(r) - 1.0)
one = sj.Game(leader, potential, response_set=sj.Box(lower=0.0))
three = sj.Game(leader, tuple(map(profit, range(3))), response_set=(sj.Box(lower=0.0),) * 3)
alone = sj.best_response(one, 6.5, 13.0, response=jnp.ones(3)).value
together = sj.best_response(three, 6.5, 13.0, response=(1.0, 1.0, 1.0)).value
print([f"{r:.2f}" for r in alone], jnp.allclose(alone, jnp.stack(together), atol=1e-5))
# ['2.17', '1.17', '0.00'] True
```

A potential exists if the Jacobian of the players' own slopes with respect to all responses
(`jax.jacfwd`) is symmetric, possibly after scaling each player's utility.
"""
