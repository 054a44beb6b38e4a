"""Speed: run times, compilation and their causes.

## Measured

Milliseconds of CPU time for one call that returns, for every context, the leader's utility and its
total derivative through the best response: float32, medians of 5 interleaved rounds on two cores of
a shared machine. Parentheses give the share of gradients that are wrong by more than 1%, if there
are any; stackjax has none.

```bash
pip install -e ".[bench]" && python -m experiments.speed --rounds 5 --budget 3
```

`experiments/results/bench.json` has load, versions, wall times and compile times;
`experiments/speed/README.md` describes the workloads R1 to S1.

- **R1, 3 numbers in a box, 4,096 contexts: stackjax 3.6** (wall 2.7). Hand-written C 0.24, 50
  unrolled steps 15 (93%), naive Newton 37, optimistix Newton 111 (53%), Levenberg-Marquardt 128,
  PyTorch 136, Dogleg 173 (0.2%), TorchOpt 201 (92%), jaxopt projected gradient with a fixed step
  220 (0.8%), with defaults 384 (5%).
- **R1 with 1,048,576 contexts: 1,528** (wall 776). C 64.
- **R2, 16 numbers, 1,024 contexts: 21.** jaxopt defaults 34 (9%), fixed step 71, naive Newton 44,
  Dogleg 245.
- **R2, 64 numbers: 49.** jaxopt defaults 130 (19%), fixed step 313, naive Newton 523, Dogleg 2,393
  (9%).
- **R2, 16 numbers, steep: 98.** Naive Newton 38 (60%), jaxopt fixed step 68 (3%), Dogleg 235 (3%).
- **R3, 8 shares in a simplex, quadratic: 7.5.** Dogleg 102, jaxopt fixed step 137, defaults 167
  (5%).
- **R3, 8 shares, entropic: 22.** jaxopt mirror descent 23, its defaults 6 (71%), Dogleg 39.
- **R4, quadratic programs, 8 variables, 12 inequalities, 512 contexts: 12.** moreau 6.2, qpax 29
  (72%), proxsuite 58, qpth 61, OSQP in jaxopt 70 (1.2%), cvxpylayers 778 (0.2%).
- **R5, 50 training steps, 512 contexts: 51.** jaxopt fixed step, warm start 221.
- **R6, 32 turns of 1,024 sessions: 39.** jaxopt fixed step, warm start 352.
- **S1, a leader's optimum, 4 starts, per context: 0.34.** nashopt 826.

## Why

- Each problem takes a few second-order steps instead of hundreds of first-order ones.
- Under `jax.vmap`, a batch of small followers is rewritten so that every component is one vector
  over the batch, in blocks that stay in cache (or, on an accelerator, that fill it). No option is
  needed.
- Members that full Newton steps do not solve are solved again with safeguards, and only their block
  waits for them. `Response.steps` gives the number of steps of each member.
- The derivative is one small linear solve on the free coordinates with the last factorisation,
  independent of the number of iterations.

```python
import jax, jax.numpy as jnp
import stackjax as sj

def leader(action, response, x):
    return -((response - 0.5) ** 2)

def follower(action, response, x):
    return x * jnp.sin(response) + action * response - response**2

game = sj.Game(leader, follower, response_set=sj.Box(0.0, 2.0))

@jax.jit
@jax.vmap
def answers(action, x):
    return sj.best_response(game, action, x, response=jnp.array(1.0))

found = answers(jnp.linspace(-1.0, 1.0, 4096), jnp.linspace(0.0, 1.0, 4096))
print(found.converged.all(), found.steps.max() <= 10)  # True True
```

## Compilation

Compiling takes 5 s for R1 and 6 to 11 s for simplices and polyhedra, against 1 to 4 s for the other
libraries. `Complementarity` takes longer than `Newton`. To compile once:

- Write utilities as module-level functions: calls with the same function and shapes share one
  compilation. A lambda that is created at every call is compiled at every call.
- Pass quantities that change through the context, the action, or the arrays of a set or a module:
  these are traced. A variable that a function closes over is a compile-time constant; a change
  recompiles.
- Pad batches to a few sizes: every new shape is compiled.
- Share compiled programs between processes with JAX's compilation cache, set in the environment:

```bash
export JAX_COMPILATION_CACHE_DIR=$HOME/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5
```

- On a CPU, this flag, set before JAX starts, lets XLA write the results of a Newton step in one
  loop. With JAX 0.10, R1 takes 1.8 ms instead of 3.6 at 4,096 contexts, 628 instead of 1,528 at
  1,048,576, and 4.1 s instead of 4.8 to compile. With JAX 0.12 measure first: it can be slower.

```bash
export XLA_FLAGS="--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"
```

## Where stackjax is not the fastest

- Hand-written C is 15 times faster on R1 (11 in wall time).
- moreau is 1.9 times faster on quadratic programs; mirror descent is as fast on entropic shares.
- For one context most JAX programs take about 0.1 ms.
- If a follower needs few steps, unrolling needs as many samples and can be faster
  (`python -m experiments.learning`).
- CPU time of the first two rows depends on the load of the machine, because XLA's threads busy-wait
  for each other: on a busier machine R1 took 2.2 ms, and a million contexts cost twice their wall
  time.

Accelerators: lowering for CUDA and TPU is tested; all times here are for a CPU.
`experiments/speed/README.md` predicts times on GPUs from a cost model; `notebooks/05_scale.ipynb`
solves a million contexts, also on eight simulated devices.
"""
