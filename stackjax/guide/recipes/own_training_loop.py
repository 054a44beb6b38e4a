"""Recipe: your own training loop through `best_response`.

`fit_leader` covers the common cases. For a custom loss, a second network or several optimisers,
differentiate through `best_response` in your own loop. The loop below uses `nnx` and optax, with
the contexts split over all devices; it also runs on one device. The leader sets a toll; the
follower splits its trips between a toll road and a free road.

```python
from functools import partial

import jax, jax.numpy as jnp, optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import stackjax as sj

def revenue(toll, trips, demand):
    return toll * trips[0]

def comfort(toll, trips, demand):
    free = demand - trips[0]
    return -(1.0 + toll) * trips[0] - 0.5 * trips[0] ** 2 - 3.0 * free - 0.5 * free**2

game = sj.Game(revenue, comfort, response_set=sj.Box(0.0, 10.0))

class Policy(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(1, 8, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, demand):
        return 5.0 * nnx.sigmoid(self.out(nnx.tanh(self.hidden(demand[None])))[0])

mesh = jax.make_mesh((jax.device_count(),), ("contexts",), axis_types=(AxisType.Auto,))
rows, everywhere = PartitionSpec("contexts"), PartitionSpec()
demand = jnp.linspace(1.0, 4.0, 256)
demand = jax.device_put(demand, NamedSharding(mesh, rows))
```

## The loss

The loss leaves out contexts whose follower did not converge, and counts the others. Each follower
starts from its last response; the loop carries these warm starts.

```python
structure, parameters = nnx.split(Policy(nnx.Rngs(0)))

def loss(parameters, demand, starts):
    policy = nnx.merge(structure, parameters)

    def one(demand, start):
        toll = policy(demand)
        answer = sj.best_response(game, toll, demand, response=start)
        return revenue(toll, answer.value, demand), answer.converged, answer.value

    value, converged, response = jax.vmap(one)(demand, starts)
    return -jnp.sum(jnp.where(converged, value, 0.0)), (jnp.sum(converged), response)
```

## The step

Each device computes the gradient of its contexts; `jax.lax.psum` adds them up. The optimiser's
update is the same on every device.

```python
optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 300))

def step(carry, _, demand):
    parameters, state, starts = carry
    (total, (count, response)), slope = jax.value_and_grad(loss, has_aux=True)(
        parameters, demand, starts
    )
    total, count, slope = jax.lax.psum((total, count, slope), "contexts")
    slope = jax.tree.map(lambda x: x / jnp.maximum(count, 1), slope)
    updates, state = optimizer.update(slope, state, parameters)
    starts = jax.lax.stop_gradient(response)
    return (optax.apply_updates(parameters, updates), state, starts), (-total, count)

@jax.jit
@partial(
    jax.shard_map, mesh=mesh, in_specs=(everywhere, rows, rows), out_specs=(everywhere, everywhere),
    check_vma=False,
)
def train(parameters, demand, starts):
    carry = (parameters, optimizer.init(parameters), starts)
    (parameters, _, _), history = jax.lax.scan(partial(step, demand=demand), carry, length=300)
    return parameters, history

starts = jax.device_put(jnp.ones((256, 1)), NamedSharding(mesh, rows))
parameters, (revenues, converged) = train(parameters, demand, starts)
print(int(converged.min()), bool(revenues[-1] > revenues[0]))      # 256 True
```

## Check

The follower takes `(2 - toll + demand) / 2` trips, so the best toll is `(2 + demand) / 2`. Compare
the policy with it, and inspect one response:

```python
policy = nnx.merge(structure, parameters)
best = (2 + demand) / 2
print(bool(jnp.abs(jax.vmap(policy)(demand) - best).max() < 0.1))  # True
answer = sj.best_response(game, policy(demand[0]), demand[0], response=jnp.ones(1))
print(bool(answer.converged), bool(answer.unique), bool(answer.degeneracy > 0.01))  # True True True
```

## What to keep in mind

- Gradients through `best_response` are exact at the follower's solution, including at active
  bounds, and finite if it did not converge. Do not train on the latter: use `converged` as above.
- In a `lax.scan`, first and second derivatives are correct; third and higher ones that use reverse
  mode are wrong (`gradients`).
- A module with state that is not a parameter (BatchNorm, Dropout) is not updated under `jax.jit`;
  separate its state and return it from the step.
- `nnx.Optimizer` works as well; plain optax keeps the whole run in one `scan`.
"""
