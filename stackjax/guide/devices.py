"""Many contexts, many devices.

Contexts are independent, so a batch can be split over devices without communication inside a solve.
On one device `jax.vmap` is enough (`speed` describes how a batch is run). The code below runs on
any number of devices; with one device the mesh has one entry.

```python
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import stackjax as sj

duopoly = sj.games.duopoly()

def leader(demand):
    solution = sj.solve(
        duopoly.game, action=duopoly.action, response=duopoly.response, context=demand
    )
    return solution.action, solution.converged

mesh = jax.make_mesh((jax.device_count(),), ("contexts",), axis_types=(AxisType.Auto,))
rows = PartitionSpec("contexts")
demands = jax.device_put(jnp.linspace(5.0, 20.0, 1024), NamedSharding(mesh, rows))
```

The number of contexts must be a multiple of the number of devices; pad the batch if it is not.

## shard_map

```python
solve = jax.jit(
    jax.shard_map(jax.vmap(leader), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
)
actions, converged = solve(demands)
print(bool(converged.all()), np.allclose(actions, (demands - 1) / 2, atol=1e-4))   # True True
print(len(actions.sharding.device_set) == jax.device_count())                      # True
```

Each device iterates until its own contexts have converged and does not wait for the others.
`check_vma=False` is needed because JAX's check of which values vary over devices does not support
custom derivative rules.

## Shared parameters

The gradient of parameters that all contexts share is a sum over devices, `jax.lax.psum`. It is the
only communication of a training step.

```python
def value(slope, demand):
    answer = sj.best_response(duopoly.game, slope * demand, demand, response=duopoly.response)
    profit = duopoly.game.leader_utility(slope * demand, answer.value, demand)
    return jnp.where(answer.converged, profit, 0.0)      # failed followers do not count

def total(slope, demands):
    return jnp.sum(jax.vmap(value, (None, 0))(slope, demands))

def gradient(slope, demands):
    return jax.lax.psum(jax.grad(total)(slope, demands), "contexts")

shared = jax.jit(
    jax.shard_map(
        gradient, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=PartitionSpec(),
        check_vma=False,
    )
)
alone = jax.grad(total)(0.3, jnp.linspace(5.0, 20.0, 1024))
print(np.allclose(shared(0.3, demands), alone, rtol=1e-4))                         # True
```

`stackjax.guide.recipes.own_training_loop` is a complete training loop of this kind.

## Without shard_map

`jax.jit(jax.vmap(leader))(demands)` on sharded contexts gives the same answers; XLA inserts some
collectives, and all devices run until the slowest context is done. Use a mesh whose axes are
`AxisType.Auto`; an `Explicit` mesh raises an error. `fit_leader` also accepts sharded contexts.

## Simulate devices, use several processes

To test a program with eight devices on one processor:

```bash
JAX_NUM_CPU_DEVICES=8 python program.py
```

With several processes, call `jax.distributed.initialize()` first and make the global batch with
`jax.make_array_from_process_local_data`; the rest is unchanged.

## GPU and TPU

```bash
pip install -e ".[cuda13]"    # or ".[cuda12]", ".[tpu]"
```

| what | how it is tested |
|---|---|
| eight devices, two processes | simulated on a CPU: `tests/solvers/test_devices.py` |
| CUDA and TPU | lowered, not run: `tests/arrays/test_lowering.py` |
| time on a GPU | predicted, not measured: `experiments/speed/README.md` |

On an accelerator use float32 and units in which numbers are about 1. `notebooks/05_scale.ipynb`
solves a million contexts and runs the same batch on eight simulated devices.
"""
