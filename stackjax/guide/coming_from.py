"""Coming from jaxopt, optimistix, BilevelJuMP or a PPO controller.

All sections use the same small market: a leader sells `q`, a follower answers with `r` in [0, 2.5],
and the price is `12 - q - r`.

```python
import jax, jax.numpy as jnp
import stackjax as sj

market = sj.Game(
    lambda q, r, x: q * (12 - q - r), lambda q, r, x: r * (12 - q - r),
    response_set=sj.Box(0.0, 2.5),
)
run = lambda q: sj.best_response(market, q, None, response=jnp.array(1.0)).value
```

## jaxopt

| jaxopt | stackjax |
|---|---|
| minimises `fun(params, *args)` | maximises `utility(action, response, context)` |
| `ProjectedGradient(fun, projection_box)` | `Game(..., response_set=Box(low, high))` |
| `hyperparams_proj=(low, high)` | arrays of the set, also differentiable |
| `projection_simplex`, `projection_l2_ball` | `Simplex`, `Ball` |
| `projection_polyhedron`, `OSQP` | `Polyhedron` |
| `implicit_diff=True`, `@custom_root` | always; also forward mode and second derivatives |
| `state.error`, `maxiter`, `tol` | `residual`; `max_steps`, `tol` of the solver |
| returns the last iterate | `converged`, `curvature`, `degeneracy`, `multipliers` |
| an outer loop with optax | `solve` for one context, `fit_leader` for a policy |

```text
solver = jaxopt.ProjectedGradient(lambda r, q: -r * (12 - q - r), jaxopt.projection.projection_box)
run = lambda q: solver.run(jnp.array(1.0), hyperparams_proj=(0.0, 2.5), q=q).params
jax.grad(lambda q: q * (12 - q - run(q)))(8.0)
```

```python
print(jax.grad(lambda q: q * (12 - q - run(q)))(8.0))  # -2.0
```

## optimistix

`minimise` has no bounds. `root_find` with `Newton` clips the iterates to bounds, but the derivative
is that of a root. For a follower at a bound, the bound must be part of the conditions that are
differentiated.

| optimistix | stackjax |
|---|---|
| `minimise(fn, solver, y0, args)` | `best_response(game, action, context, response=y0)` |
| `Newton(rtol, atol)`, `BFGS`, `Dogleg` | `Newton(tol=...)`, projected |
| `ImplicitAdjoint()` | the same theorem, with the active constraints |
| `throw=False`, `sol.result` | does not raise within transforms; `found.converged` |
| `sol.stats["num_steps"]` | `found.steps` |
| `options={"lower": l, "upper": u}` | `Box(l, u)`, or a set that couples the players |

```text
fn = lambda r, q: -r * (12 - q - r)
sol = optx.minimise(fn, optx.BFGS(rtol=1e-6, atol=1e-6), jnp.array(1.0), args=8.0, throw=False)
sol.value, sol.result == optx.RESULTS.successful
```

```python
print(run(8.0), jax.grad(run)(8.0))  # 2.0 -0.5
print(run(6.0), jax.grad(run)(6.0) == 0)  # 2.5 True
```

## BilevelJuMP

BilevelJuMP adds the lower level's optimality conditions to the upper level and passes the result to
a mixed-integer or nonlinear solver; with a mixed-integer solver and a linear lower level, the
optimum is global. `Complementarity` solves the same formulation with an interior-point method from
several starts. It is a local method, but differentiable, and it accepts any smooth utility. The
example in BilevelJuMP's README (Dias Garcia, Bodin and Street, INFORMS Journal on Computing, 2023):

```text
mode = BilevelJuMP.FortunyAmatMcCarlMode(primal_big_M = 100, dual_big_M = 100)
model = BilevelModel(HiGHS.Optimizer, mode = mode)
@variable(Lower(model), x)
@variable(Upper(model), y)
@objective(Upper(model), Min, 3x + y)
@constraints(Upper(model), begin x <= 5; y <= 8; y >= 0 end)
@objective(Lower(model), Min, -x)
@constraints(Lower(model), begin x + y <= 8; 4x + y >= 8; 2x + y <= 13; 2x - 7y <= 0 end)
optimize!(model)
objective_value(model), value(x), value(y)  # 6.133, 3.5 * 8/15, 8/15
```

| BilevelJuMP | stackjax |
|---|---|
| `@variable(Upper(model), y)`, `@variable(Lower(model), x)` | action `y`, response `x` |
| `@objective(..., Min, ...)` | utilities are maximised: change the sign |
| `@constraints(Lower(model), ...)` | `response_set`; a `Polyhedron` if linear in `x` |
| `@constraints(Upper(model), ...)`, also on `x` | `action_set`; `Constrained` if it has `x` |
| `optimize!`, `value(x)` | `solve`; `found.action`, `found.response` |
| dual variables of the lower level | `best_response(...).multipliers` |

```python
lower = sj.Polyhedron(  # A x <= b(y)
    jnp.array([[1.0], [-4.0], [2.0], [2.0]]), lambda y, x: jnp.stack([8 - y, y - 8, 13 - y, 7 * y])
)
upper = sj.Constrained(lambda y, x, context: x[0] - 5.0, box=sj.Box(0.0, 8.0))
linear = sj.Game(
    lambda y, x, context: -(3 * x[0] + y), lambda y, x, context: x[0],
    action_set=upper, response_set=lower,
)
found = sj.solve(linear, action=jnp.array(1.0), response=jnp.ones(1), context=None)
print(jnp.isclose(found.action, 8 / 15), jnp.allclose(found.response, 3.5 * 8 / 15))  # True True
print(f"{-found.leader_utility:.3f}", found.converged)  # 6.133 True
```

## A PPO controller

If the executor's response is known, or can be learned from a log (`fit_follower`), the controller
needs no exploration: its gradient goes through the response and through the turns. Otherwise use
PPO.

| PPO | stackjax |
|---|---|
| observation | context, any pytree |
| actor network, its sigmoid or tanh | the policy `context -> action`, without noise, squashed |
| reward | `leader_utility(action, response, context)` |
| `env.step` | the best response, then `Dynamics.step(state, action, response, key)` |
| `gamma`, episode length, frame skip | `Horizon(dynamics, turns=, discount=, hold=)` |
| reset distribution, number of environments | first states `[N, ...]`, `batch_size` |
| a penalty whose weight is tuned | `constraints=[Average(f, at_least=...)]` |
| critic, advantages, clipping, entropy bonus | none |

```text
action = actor(obs) + std * noise;  obs, reward, done = env.step(action)
loss = clipped_ratio(logp, old_logp, gae(reward, critic(obs))) - 0.01 * entropy
```

```python
from flax import nnx

class Actor(nnx.Module):
    def __init__(self, rngs):
        self.line = nnx.Linear(1, 1, rngs=rngs)

    def __call__(self, stock):
        return 2.0 * nnx.sigmoid(self.line(stock[None])[0])  # a tax in [0, 2]

fishery = sj.Game(  # revenue, and what the fisher earns
    lambda tax, catch, stock: tax * catch,
    lambda tax, catch, stock: (2.0 - tax) * catch - catch**2 / stock,
    action_set=sj.Box(0.0, 2.0), response_set=sj.Box(lower=0.0),
)

def grow(stock, tax, catch, key):
    return jnp.maximum(stock + 0.5 * stock * (1 - stock) - 0.2 * catch, 0.1)

actor, history = sj.fit_leader(
    Actor(nnx.Rngs(0)), fishery, jnp.linspace(0.4, 1.0, 32), response=jnp.array(0.1),
    key=jax.random.key(0), steps=200,
    horizon=sj.fit.Horizon(sj.fit.Dynamics(lambda stock: stock, grow), turns=8),
)
print(history.utility[-1] > history.utility[0], history.converged.min() == 1)  # True True
```

A policy trained by PPO is the same module: pass it to `fit_leader` to continue. On a toll road and
a quadratic game the implicit gradient reaches PPO's final value with 8.3 and 26 times fewer solved
followers; on the resource game PPO reaches 0.2% more of the possible gain
(`python -m experiments.learning`, `experiments/results/learning.json`).
"""
