"""Recipe: a toll on a road network.

Many drivers travel from `s` to `t`. Each takes the quickest route, with tolls counted as time; in
Wardrop's equilibrium no driver can do better. A city sets the toll on one link to minimise total
travel time.

Wardrop's equilibrium is the best response of *one* follower: with link times `free + slope * flow`,
it maximises minus Beckmann's potential over all flows that carry the demand:

    U_F(toll, f) = -sum((free + toll) f + slope f^2 / 2),   E f = d,  f >= 0
    U_L(toll, f) = -sum(f (free + slope f))                  (minus the total time)

The set is a polyhedron: one equality per node (flow in = flow out), and the inequalities `f >= 0`.

```python
import jax, jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize, minimize_scalar
import stackjax as sj

# links s-a, s-b, a-b, a-t, b-t; the bridge a-b is short
free = np.array([0.0, 5.0, 1.0, 4.0, 0.0])
slope = np.array([1.0, 0.5, 0.1, 0.5, 1.0])
demand, bridge = 6.0, np.array([0.0, 0.0, 1.0, 0.0, 0.0])
nodes = jnp.array([[1.0, 1, 0, 0, 0], [1.0, 0, -1, -1, 0], [0.0, 1, 1, 0, -1]])  # s, a, b

def lost(toll, flow, x):
    return -flow @ (free + slope * flow)

def potential(toll, flow, x):
    return -(free + toll * bridge) @ flow - flow**2 @ slope / 2

flows = sj.Polyhedron(-jnp.eye(5), jnp.zeros(5), nodes, jnp.array([demand, 0.0, 0.0]))
city = sj.Game(lost, potential, action_set=sj.Box(0.0, 5.0), response_set=flows)
start = jnp.full(5, 2.0)

def drivers(toll):
    found = sj.best_response(city, toll, None, response=start)
    return found.value, found.converged

flow, moves, converged = jax.jvp(drivers, (0.0,), (1.0,), has_aux=True)
print(np.round(np.float64(flow), 3), converged)  # [4.51  1.49  2.353 2.157 3.843] True
print(np.round(np.float64(moves), 3))  # [-0.588  0.588 -1.176  0.588 -0.588]
```

A toll moves drivers off the bridge, and the total time falls (Braess's paradox). The city's optimal
toll:

```python
found = sj.solve(city, action=jnp.array(1.0), response=start, context=None, solver=sj.Newton())
print(found.converged, f"toll {found.action:.3f}, total time {-found.leader_utility:.3f}")
# True toll 1.750, total time 53.926
```

## Check

An independent check uses route flows instead of link flows, SciPy's SLSQP in float64 for the
equilibrium, and a search over the toll without derivatives.

```python
routes = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [1, 0, 1, 0, 1]], float).T  # [links, routes]

def carried(objective):
    total = {"type": "eq", "fun": lambda h: h.sum() - demand}
    options = {"bounds": [(0, None)] * 3, "constraints": total, "method": "SLSQP", "tol": 1e-12}
    return routes @ minimize(lambda h: objective(routes @ h), np.full(3, demand / 3), **options).x

total_time = lambda flow: -lost(0.0, flow, None)
equilibrium = lambda toll: carried(lambda flow: -potential(toll, flow, None))
search = minimize_scalar(lambda toll: total_time(equilibrium(toll)), bounds=(0, 5))
print(f"toll {search.x:.3f}, total time {search.fun:.3f}")  # toll 1.750, total time 53.926
print(abs(search.fun + found.leader_utility) < 1e-3)  # True
best = carried(total_time)
print(f"untolled {total_time(equilibrium(0.0)):.3f}, planned {total_time(best):.3f}")
# untolled 57.529, planned 53.843
```

One toll on one link achieves 98% of the gain of a planner who assigns every route.
"""
