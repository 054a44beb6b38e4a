"""Recipe: three levels.

Three firms set quantities one after another; each sees what was set before and foresees what
follows. With the price `demand - q1 - q2 - q3` and unit cost 1, the known equilibrium halves at
each level: with `m = demand - 1`, `q1 = m / 2`, `q2 = m / 4`, `q3 = m / 8`.

The last firm's best response is a function like any other, so the middle firm's utility may call
it; `solve` then differentiates through both.

```python
import jax, jax.numpy as jnp
import stackjax as sj

def profit(own, others, demand):
    return own * (demand - own - others - 1.0)

last = sj.Game(
    lambda before, q3, demand: 0.0 * q3,  # nobody leads here: only the follower counts
    lambda before, q3, demand: profit(q3, before, demand),
    response_set=sj.Box(lower=0.0),
)

def third(q1, q2, demand):
    return sj.best_response(last, q1 + q2, demand, response=jnp.array(1.0)).value

upper = sj.Game(
    lambda q1, q2, demand: profit(q1, q2 + third(q1, q2, demand), demand),
    lambda q1, q2, demand: profit(q2, q1 + third(q1, q2, demand), demand),
)
found = sj.solve(upper, action=jnp.array(1.0), response=jnp.array(1.0), context=jnp.array(13.0))
q1, q2 = found.action, found.response
print(q1, q2, third(q1, q2, 13.0), found.converged)  # 6.0 3.0 1.5 True
```
"""
