"""Several levels and several followers.

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

## Several followers with a potential

`Game` has one follower. Several followers who play a Nash equilibrium among themselves can be
written as one follower if their game has a potential: a function whose derivative in each player's
own response equals that of the player's utility, up to a positive factor for each player. The
maximiser of a concave potential over the product of their sets is their Nash equilibrium, so
`best_response` computes it. Congestion games have a potential (`recipes.toll`), and so does
quantity competition with linear demand:

```python
costs = jnp.array([1.0, 2.0, 5.5])

def potential(q, r, demand):  # dP/dr_i = demand - q - cost_i - sum(r) - r_i
    return r @ (demand - q - costs) - r @ r / 2 - jnp.sum(r) ** 2 / 2

market = sj.Game(
    lambda q, r, demand: q * (demand - q - jnp.sum(r) - 1.0),
    potential,
    action_set=sj.Box(0.0, 20.0),
    response_set=sj.Box(lower=0.0),
)
solved = sj.best_response(market, 6.5, 13.0, response=jnp.ones(3))
print([f"{r:.2f}" for r in solved.value], solved.converged)  # ['2.17', '1.17', '0.00'] True

def own_slope(i, r):  # of follower i's own profit, in its own quantity
    profit = lambda own: own * (13.0 - 6.5 - jnp.sum(r) + r[i] - own - costs[i])
    return jax.grad(profit)(r[i])

slopes = [own_slope(i, solved.value) for i in range(3)]
print([bool(jnp.abs(s) < 1e-5) for s in slopes], slopes[2] < 0)  # [True, True, False] True
```

The third firm produces nothing: its slope is negative at 0. `solve` finds the leader's best
quantity against all three. A potential exists if the Jacobian of the players' own slopes with
respect to all responses (`jax.jacfwd`) is symmetric, possibly after scaling each player's utility.

## Several followers without a potential

If every follower is inside its set, the joint first-order conditions can be written as equalities
of the response set, with any strictly concave utility. If the equilibrium is unique, the set has
one point, and its derivative is that of the equilibrium.

```python
care = jnp.array([0.5, 0.2])  # not symmetric: how much the other's price helps

def profit(i, own, others, base):
    return own * (base - own + care[i] * others)

def conditions(base, r, x):
    own = [jax.grad(profit, argnums=1)(i, r[i], r[1 - i], base) for i in range(2)]
    return jnp.stack(own)

pair = sj.Game(
    lambda base, r, x: jnp.sum(r),
    lambda base, r, x: -r @ r / 2,
    response_set=sj.Constrained(equality=conditions),
)
prices = lambda base: sj.best_response(pair, base, None, response=jnp.ones(2))
exact = jnp.linalg.solve(jnp.array([[2.0, -0.5], [-0.2, 2.0]]), jnp.ones(2))  # linear in base
print(prices(1.0).converged, jnp.allclose(prices(1.0).value, exact, atol=1e-5))  # True True
print(jnp.allclose(jax.jacfwd(lambda base: prices(base).value)(1.0), exact, atol=1e-5))  # True
```

The second-order conditions are not checked: each utility has to be concave in its own response.

## What the library cannot do

- A Nash equilibrium of followers without a potential at which bounds or constraints bind:
  complementarity conditions are not a smooth equality.
- Generalised equilibria, in which one follower's set depends on another's response.
- Several leaders. Best responses of leaders can be iterated by hand, without a guarantee.
- `fit_follower` and `fit_leader` with several followers, except through a potential.
"""
