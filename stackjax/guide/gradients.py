"""When the gradient is valid.

The derivative of a best response `r*` follows from its optimality conditions by the implicit
function theorem: coordinates at an active bound are fixed, active constraints stay active, and the
gradient of the Lagrangian stays zero along the remaining directions. The derivative is exact when

1. the follower has converged: `Response.converged`; `Response.residual` estimates the remaining
   error;
2. utility and constraints are twice differentiable near `r*`, and the Lagrangian is strictly
   concave along the free directions: `Response.curvature` is positive, `Response.unique` is True;
3. no constraint is active with a zero multiplier: `Response.degeneracy` is the distance to such a
   point.

The same conditions hold for the multipliers, which are differentiable too (`constraints`).

## At a bound and at a kink

```python
import jax, jax.numpy as jnp
import stackjax as sj

game = sj.Game(
    lambda action, response, x: response,
    lambda action, response, x: action * response - response**2 / 2,
    response_set=sj.Box(0.0, 1.0),
)
follow = lambda action: sj.best_response(game, action, None, response=jnp.array(0.5))
slope = jax.grad(lambda action: follow(action).value)

print(follow(0.75).value, slope(0.75), follow(0.75).degeneracy)  # 0.75 1.0 0.25
print(follow(1.25).value, jnp.abs(slope(1.25)), follow(1.25).degeneracy)  # 1.0 0.0 0.25
print(follow(1.0).value, slope(1.0) in (0.0, 1.0), follow(1.0).degeneracy)  # 1.0 True 0.0
```

The response is `min(action, 1)`. Inside the set its derivative is 1. At the bound its derivative is
0, where unrolled or projected iterations often return another number. At `action = 1` the bound is
active with a zero multiplier: the left derivative is 1, the right derivative is 0, and one of the
two is returned. `degeneracy` is 0 there; check it where a decision depends on a derivative.

## Several best responses

```python
shared = sj.Game(
    lambda action, response, x: response[1],
    lambda action, response, x: -((response.sum() - action) ** 2),  # only the sum matters
    response_set=sj.Box(jnp.zeros(2), jnp.ones(2)),
)
start = jnp.array([0.25, 0.5])
found = sj.best_response(shared, 1.0, None, response=start)
print(found.converged, found.unique, jnp.round(found.value.sum(), 4))  # True False 1.0
```

Every point with this sum is a best response; one of them is returned, with `unique=False`. Its
derivative has no component along the flat direction. `solve` with `Complementarity` selects the
best response that the leader prefers; `game.break_ties("pessimistic")` selects the one that is
worst for the leader (see also [convergence](convergence.py)).

## A linear follower

A follower whose utility is linear in its response answers at a vertex, and stays there until the
slope has turned far enough: the derivative is zero almost everywhere. `Complementarity` solves such
a game all the same (`choosing_a_solver`). For a policy or a predictor, trained by gradients,
`sj.solvers` has two followers that are not quite best responses and whose answers move:

```python
paid = sj.Game(
    lambda bonus, share, worth: share[1] * (2 - bonus),
    lambda bonus, share, worth: worth @ share + bonus * share[1],
    response_set=sj.Simplex(),
)
worth = jnp.array([1.0, 0.0])   # the follower likes the first option better, by 1

def gain(bonus, solver):
    found = sj.best_response(paid, bonus, worth, response=jnp.full(2, 0.5), solver=solver)
    return paid.leader_utility(bonus, found.value, worth)

sharp = None
entropic = sj.solvers.Regularised(0.2, kind="entropic")
perturbed = sj.solvers.Perturbed(0.2, key=jax.random.key(0), samples=4000, noise="gumbel")
for solver in (sharp, entropic, perturbed):
    print(f"{abs(jax.grad(gain)(0.8, solver)):.1f}")
# 0.0
# 0.9
# 0.9
```

- `Perturbed(sigma, key=...)`: the mean answer to a slope with noise, `E y*(c + sigma Z)`, over a
  Box, a Simplex, a Ball, or any set with an `oracle` of the user's, such as a shortest path. Its
  derivatives are unbiased estimates of those of the expectation; with `common=False` each member
  of a batch has its own draws, which stochastic gradients want.
- `Regularised(weight, kind=...)`: a quadratic or entropic term next to the utility; exact
  derivatives, so that `solve` converges, too. The quadratic one still has zero derivatives where
  its answer is a vertex.

Both are biased: at slope `c` they cost the follower up to `sigma` (or `weight`) times a constant of
the set, which their pages give. The smaller, the sharper the follower and the rarer a useful
derivative. `converged` is then of the smoothed follower.
`experiments/shortest_path` compares them with SPO+ on a benchmark of predicted costs.

## Failures stay in their context

```python
logs = sj.Game(
    lambda action, response, worth: response,
    lambda action, response, worth: worth * jnp.log(response) - action * response,
    response_set=sj.Box(0.01, 4.0),
)
answer = lambda a, worth: sj.best_response(logs, a, worth, response=jnp.array(1.0))
worths = jnp.array([1.0, jnp.nan])
print(jax.vmap(lambda w: answer(2.0, w).converged)(worths))  # [ True False]
print(jax.vmap(lambda w: jax.grad(lambda a: answer(a, w).value)(2.0))(worths))  # [-0.25  0.  ]
```

What is returned in each case:

- **The follower did not converge.** The result is the best point found and its residual, with
  `converged=False`. The gradient is finite, but it is not that of a best response. `fit_leader`
  leaves the context out and counts it in `History.converged`.
- **The utility is NaN or infinite in a context.** Outside transforms, an error names the utility.
  Inside, `converged=False`, `residual=inf` and the gradient is zero, so that other contexts and
  shared parameters are unaffected.
- **The set is empty in a context.** A `Polyhedron` raises an error outside transforms; otherwise
  `converged=False`.
- **A flat direction.** One of the best responses is returned, with `unique=False` and a zero
  derivative along that direction. `solve` with `Newton` does not report convergence.
- **A kink of the utility, or a maximum of higher order.** Newton steps do not shrink:
  `converged=False`, `curvature=0`.
- **An unbounded follower.** Outside transforms, an error names it; inside, `converged=False`.
- **A follower that is not concave.** The answer is a local maximum; see `convergence`.
- **The leader's optimum is on a kink of the response.** `Newton` finds the point and reports
  `converged=False`: its gradient is not zero there. `Complementarity` verifies the optimum.
- **A module with state that is not a parameter (BatchNorm, Dropout).** This is an error, because
  under `jax.jit` that state would silently not be updated.

## Higher derivatives

Derivatives nest in forward and reverse mode and to any order. The response below solves
`r + r^3 = a`, so that `r' = 1 / (1 + 3 r^2)` and `r'' = -6 r r'^3`.

```python
cubic = sj.Game(
    lambda action, response, x: response,
    lambda action, response, x: action * response - response**2 / 2 - response**4 / 4,
)
value = lambda a: sj.best_response(cubic, a, None, response=jnp.array(0.5)).value
r, first, second = value(2.0), jax.grad(value)(2.0), jax.grad(jax.grad(value))(2.0)
print(r, jnp.isclose(first, 1 / 4), jnp.isclose(second, -6 / 4**3))  # 1.0 True True
third = jax.jacfwd(jax.jacfwd(jax.grad(value)))(2.0)
print(jnp.isclose(third, 108 / 4**5 - 6 / 4**4, rtol=1e-4))  # True
```

One limit: within `lax.scan` and `lax.map`, derivatives are correct up to second order. Third and
higher derivatives that use reverse mode are wrong: JAX drops custom derivative rules when it
differentiates a scan again. Forward mode alone is correct at every order. Without a scan there is
no such limit.

## How an optimum moves, and how sure that is

`jax.jacobian` of `solve` is the sensitivity of the optimum. `sj.stats.delta_interval` turns the
covariance of what was estimated into an interval of the optimum (the delta method), and
`sj.plot.comparative_statics` draws it.

```python
duopoly = sj.games.duopoly()   # the leader sells (demand - 1) / 2
optimum = lambda demand: sj.solve(
    duopoly.game, action=duopoly.action, response=duopoly.response, context=demand
).action
print(jax.jacobian(optimum)(jnp.array(13.0)))   # 0.5
found = sj.stats.delta_interval(optimum, jnp.array(13.0), covariance=jnp.array([[0.16]]))
print(f"{found.low:.2f} {found.high:.2f}")   # 5.61 6.39
```

## Evidence

None of 4,096 gradients of the benchmark is wrong by more than 1%, including those at active bounds;
with jaxopt's defaults 5% are, with 50 unrolled steps 93% (`python -m experiments.speed`,
`experiments/results/bench.json`). On 200 random games with a network inside the follower and more
than a third of the coordinates at a bound, first and second derivatives agree with finite
differences to 1e-6 relative (`python -m pytest tests/follower/test_best_response.py`).
`sj.check(game, solution, context)` compares the gradient of one solution with finite differences.
"""
