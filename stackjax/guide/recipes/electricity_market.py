"""Recipe: a carbon tax on power plants that share a line.

Three plants sell to one city, two of them over a line of limited capacity. Each plant maximises its
own profit at the price that all quantities make. A regulator taxes each unit of carbon to maximise
welfare: what consumers gain, less costs and damage.

    u_i(tax, r) = r_i (demand - sum(r) - cost_i - tax * carbon_i) - r_i^2 / 2
    U_L(tax, r) = demand sum(r) - sum(r)^2 / 2 - sum(cost r + r^2 / 2) - damage * (carbon . r)

The line is a constraint that its two plants share, so its multiplier is the congestion price.

```python
import itertools
import jax, jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar
import stackjax as sj

cost, carbon = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.5, 0.1])
demand, damage, line = 12.0, 6.0, 3.0

def plant(i):
    return lambda tax, r, x: (
        r[i] * (demand - sum(r) - cost[i] - tax * carbon[i]) - r[i] ** 2 / 2
    )

def welfare(tax, r, x):
    total = sum(r)
    spent = sum(cost[i] * r[i] + r[i] ** 2 / 2 + damage * carbon[i] * r[i] for i in range(3))
    return demand * total - total**2 / 2 - spent

shared = sj.Constrained(lambda tax, r, x: r[0] + r[1] - line, box=sj.Box(lower=0.0))
market = sj.Game(
    welfare, tuple(map(plant, range(3))), action_set=sj.Box(0.0, 6.0), response_set=shared
)
start = (1.0, 1.0, 1.0)
dispatch = lambda tax: sj.best_response(market, tax, None, response=start)
untaxed = dispatch(0.0)
print([f"{r:.3f}" for r in untaxed.value], untaxed.converged)  # ['1.750', '1.250', '2.000'] True
print(f"congestion price {untaxed.multipliers.inequality[0]:.2f}")  # congestion price 2.50
```

A tax lowers the congestion price. Its derivative is that of a multiplier:

```python
price = lambda tax: dispatch(tax).multipliers.inequality[0]
print(f"{jax.grad(price)(0.5):.4f}")  # -0.7167
```

The regulator's tax:

```python
found = sj.solve(market, action=jnp.array(1.0), response=start, context=None)
print(f"tax {found.action:.3f}, welfare {found.leader_utility:.4f}", found.converged)
# tax 5.789, welfare 18.8417 True
```

## Check

An independent check enumerates which plants run and whether the line is full, solves each case's
linear equations in float64, and searches over the tax without derivatives.

```python
def by_cases(tax):
    for on in itertools.product([False, True], repeat=4):  # three plants, the line
        matrix, right = np.eye(4), np.zeros(4)
        for i in range(3):
            if on[i]:
                matrix[i] = [1, 1, 1, float(i < 2)]
                matrix[i, i] += 2
                right[i] = demand - cost[i] - tax * carbon[i]
        if on[3]:
            matrix[3], right[3] = [1, 1, 0, 0], line
        w = np.linalg.solve(matrix, right) if abs(np.linalg.det(matrix)) > 1e-9 else None
        if w is None or (w < -1e-9).any() or w[0] + w[1] > line + 1e-9:
            continue
        slack = demand - w[:3].sum() - 2 * w[:3] - cost - tax * carbon
        slack[:2] -= w[3]
        if all(slack[i] <= 1e-9 for i in range(3) if not on[i]):
            return w

search = minimize_scalar(lambda tax: -welfare(tax, by_cases(tax)[:3], None), bounds=(0, 6))
print(f"tax {search.x:.3f}, welfare {-search.fun:.4f}")  # tax 5.789, welfare 18.8417
print(np.allclose(np.array(untaxed.value), by_cases(0.0)[:3], atol=1e-5))  # True
slope = (by_cases(0.51)[3] - by_cases(0.49)[3]) / 0.02
print(f"{slope:.4f}")  # -0.7167
```
"""
