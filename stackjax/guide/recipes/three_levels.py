"""Recipe: a game with three levels.

Three firms set quantities one after another; each observes the earlier quantities and anticipates
the later ones. The price is `demand - q1 - q2 - q3` and a unit costs 1.

The middle firm's utility may call the last firm's best response, and the first firm's utility may
call both. JAX differentiates through the nested calls: the middle firm's Newton steps need second
derivatives of the last firm's response, and the first firm's gradient needs third derivatives.

```python
import jax, jax.numpy as jnp
import stackjax as sj

def profit(own, others, demand):
    return own * (demand - own - others - 1.0)

last = sj.Game(
    lambda before, q3, demand: profit(before, q3, demand),
    lambda before, q3, demand: profit(q3, before, demand),
    response_set=sj.Box(lower=0.0),
)

def third(q1, q2, demand):
    return sj.best_response(last, q1 + q2, demand, response=jnp.array(1.0)).value

upper = sj.Game(
    lambda q1, q2, demand: profit(q1, q2 + third(q1, q2, demand), demand),
    lambda q1, q2, demand: profit(q2, q1 + third(q1, q2, demand), demand),
)

def second(q1, demand):
    return sj.best_response(upper, q1, demand, response=jnp.array(1.0))

def first(q1, demand):  # its profit, the two answers included
    return upper.leader_utility(q1, second(q1, demand).value, demand)

@jax.jit
@jax.vmap
def lead(demand):
    climb = lambda _, q1: q1 + jax.grad(first)(q1, demand)
    q1 = jax.lax.fori_loop(0, 30, climb, 1.0)
    found = second(q1, demand)
    q2, slope = found.value, jax.grad(first)(q1, demand)
    return q1, q2, third(q1, q2, demand), found.converged, slope

demand = jnp.array([7.0, 13.0, 21.0])
q1, q2, q3, converged, slope = lead(demand)
print(converged, jnp.abs(slope).max() < 1e-4)  # [ True  True  True] True
```

One call of `solve` does the same, and also tests the convergence of the first firm, but takes
longer to compile:

```text
found = sj.solve(upper, action=jnp.array(1.0), response=jnp.array(1.0), context=jnp.array(13.0))
found.action, found.response, found.converged  # 6.0, 3.0, True
```

## Check

In closed form each firm takes half of the remaining demand: with `m = demand - 1`, `q1 = m / 2`,
`q2 = m / 4` and `q3 = m / 8`.

```python
for found, part in ((q1, 2), (q2, 4), (q3, 8)):
    print(jnp.allclose(found, (demand - 1) / part, rtol=1e-4))
# True
# True
# True
```

An independent check, without derivatives or the closed form: three nested searches by SciPy in
float64, for the second demand.

```python
from scipy.optimize import minimize_scalar

def best(utility):
    options = {"bounds": (0, 12), "method": "bounded", "options": {"xatol": 1e-8}}
    return minimize_scalar(lambda q: -utility(q), **options).x

price = lambda *quantities: 12.0 - sum(quantities)
b3 = lambda b1, b2: best(lambda q: q * price(b1, b2, q))
b2 = lambda b1: best(lambda q: q * price(b1, q, b3(b1, q)))
b1 = best(lambda q: q * price(q, b2(q), b3(q, b2(q))))
print(abs(q1[1] - b1) < 2e-3, abs(q2[1] - b2(b1)) < 2e-3)  # True True
```

The first mover earns most: the profits are `m^2 / 16`, `m^2 / 32` and `m^2 / 64`. `several_levels`
describes the costs and limits of nesting.
"""
