"""How to choose a solver, or write one.

The defaults are chosen from the sets, the size and the number of starts; `solver=` and
`follower_solver=` change them.

## Sets

| set | what it holds | projection |
|---|---|---|
| `Box` | coordinatewise bounds, infinite ones too | yes |
| `Simplex` | nonnegative shares of a total; products of simplices | yes |
| `Ball` | a Euclidean ball | yes |
| `Polyhedron` | `A r <= b`, `E r = d`; arrays, or functions of action and context | no |
| `Constrained` | smooth `inequality <= 0` and `equality == 0`, in a box | no |

All of them can be action sets and response sets; see `constraints`.

## Followers

| the response is in | solver (the default there) |
|---|---|
| a `Box` | `Newton()` |
| a `Simplex` or `Ball`, above 64 coordinates | `ProjectedGradient()` |
| any other set | `InteriorPoint()` |
| any other set, hundreds of coordinates | `sj.solvers.AugmentedLagrangian()`, on request |
| several followers, any sets | `SemismoothNewton()` |
| a set over which its utility is linear, for gradients | `sj.solvers.Perturbed`, `Regularised` |

- `Newton`: projected Newton; above 15 coordinates, conjugate gradients with Hessian-vector
  products.
- `ProjectedGradient`: accelerated, with line search, a final phase on the identified face, and a
  matrix-free derivative. For thousands of coordinates in a `Box`, `Simplex` or `Ball`.
- `InteriorPoint`: a dual active-set method whose result is verified; if that fails, a primal-dual
  interior-point method, then Newton on the active set. Returns multipliers. For a few dozen
  coordinates.
- `AugmentedLagrangian`: the method of multipliers, finished by Newton steps on the active set. It
  multiplies with the constraints' Jacobian and the utility's Hessian and forms neither, in search
  and derivatives; for transport plans of 30 by 30, say (`constraints`). Returns multipliers.
- `Newton(dense=False)`, `ProjectedGradient` and `AugmentedLagrangian` take `linear_solve`, your own
  solve `(product, b) -> x` for the implicit system where it is large; see below.
- `Perturbed`, `Regularised`: not the best response of a linear follower but a smoothed one with a
  stated bias, because the best response has no slope (`gradients`). Never a default.
- `SemismoothNewton`: the Nash equilibrium of several followers (`several_followers`), dense.

## Leaders

| problem | method |
|---|---|
| both sets are boxes, a smooth optimum, many contexts | `Newton()`, default for one start |
| coupled constraints, linear followers, several starts | `Complementarity()`, default |
| an optimum on a kink of the response | `Complementarity()`, default |
| a long action in a `Box`, `Simplex` or `Ball` | `FirstOrder()` |
| a policy for all contexts | `fit_leader` |
| finite games, several follower types | `sj.finite` |

- A kink of a utility itself has no solver here: write `min(demand, capacity)` as a variable with
  two constraints, not as `jnp.minimum`.
- `Newton` uses exact second derivatives of the leader's utility through the response. It needs a
  unique response and a smooth optimum, and is the method to `vmap` over a million contexts.
- `Complementarity` imposes the follower's optimality conditions as constraints with a vanishing
  penalty, and ends with Newton steps on the active set. It needs neither a unique response nor a
  smooth optimum. Of several best responses it selects the one that the leader prefers. It starts
  from 16 points and takes longer to compile.
- `FirstOrder` is projected gradient ascent through the best response, with `optax.lbfgs()` or an
  optimiser of yours: one gradient per step. Newton steps without a Hessian finish the search, judge
  its answer and make it differentiable.
- `sj.finite` has strong Stackelberg equilibria by linear programming, security games and logit
  followers.

```python
import jax, jax.numpy as jnp
import stackjax as sj

duopoly = sj.games.duopoly()
starts = {"action": jnp.array(1.0), "response": jnp.array(1.0), "context": jnp.array(13.0)}
for solver in (sj.Newton(), sj.FirstOrder()):
    found = sj.solve(duopoly.game, **starts, solver=solver)
    print(type(solver).__name__, jnp.round(found.action, 1), found.converged)
# Newton 6.0 True
# FirstOrder 6.0 True
```

## Your own linear solve

The derivative of a response is one linear system. Matrix-free solvers use conjugate gradients with
a diagonal preconditioner for it; with a better preconditioner of your own, or a structure that you
know, `linear_solve` is quicker. It gets the product with the symmetric system and the right-hand
side, as the first two arguments of `jax.scipy.sparse.linalg.cg`, and its answer is taken as it is:

```python
n = 200
chain = lambda a, r, x: -jnp.sum((r - a) ** 2) / 2 - 50 * jnp.sum(jnp.diff(r) ** 2) - jnp.sum(r**4)
path = sj.Game(chain, chain, response_set=sj.Box(-1.0, 1.0))

def tridiagonal(product, b):  # three products tell the three diagonals
    combs = jnp.stack([(jnp.arange(n) % 3 == k).astype(b.dtype) for k in range(3)])
    images = jax.vmap(product)(combs)
    near = lambda shift: images[(jnp.arange(n) + shift) % 3, jnp.arange(n)]
    lower, upper = near(-1).at[0].set(0.0), near(1).at[-1].set(0.0)
    return jax.lax.linalg.tridiagonal_solve(lower, near(0), upper, b[:, None])[:, 0]

def first(a, solve=None):
    solver = sj.Newton(dense=False, linear_solve=solve)
    return sj.best_response(path, a, None, response=jnp.zeros(n), solver=solver).value[0]

own, default = (jax.grad(first)(0.7, solve) for solve in (tridiagonal, None))
print(jnp.isclose(own, default, rtol=1e-3))  # True
```

## Your own solver

A solver is a hashable subclass of `sj.solvers.Solver` (a frozen dataclass) with a method
`maximise(problem, start)`. If it ends with a call of a library solver, it inherits that solver's
derivative and convergence test:

```python
import dataclasses

@dataclasses.dataclass(frozen=True)
class Grid(sj.solvers.Solver):
    '''Looks at a grid first: finds the highest of several peaks.'''

    points: int = 65

    def maximise(self, problem, start):
        grid = jnp.linspace(problem.lower, problem.upper, self.points)
        best = grid[jnp.argmax(jax.vmap(problem.utility)(grid))]
        return sj.Newton().maximise(problem, best)

waves = sj.Game(
    lambda a, r, x: -((r - 2.5) ** 2),
    lambda a, r, x: jnp.sin(3 * r) + a * r,
    response_set=sj.Box(0.0, 4.0),
)
peak = lambda a: sj.best_response(waves, a, None, response=jnp.array(0.4), solver=Grid()).value
exact = (2 * jnp.pi + jnp.arccos(-0.5 / 3)) / 3  # 3 cos(3 r) = -a, the second peak
print(jnp.isclose(peak(0.5), exact), jnp.round(jax.grad(peak)(0.5), 4))  # True 0.1127
```

`refuses(self, feasible)` returns an error message for sets that the solver does not support, None
otherwise.

## Your own set

A set is a frozen dataclass that subclasses `sj.sets.FeasibleSet` and defines `bounds`, `residuals`
(the values required to be `<= 0` and those required to be `== 0`) and, if there is a cheap
projection, `project` with `projectable = True`; for `Perturbed` also `support_point` with
`has_support = True`, the maximiser of a linear utility. Its arrays are traced and differentiated
like those of the library's sets.

```python
from typing import Any

@dataclasses.dataclass(frozen=True)
class Capped(sj.Simplex):
    '''Shares of a total with a cap on each.'''

    cap: Any = 1.0

    def residuals(self, point, action, response, context):
        inequality, equality = super().residuals(point, action, response, context)
        return jnp.concatenate([inequality, point - self.cap]), equality

def shares(cap):
    worth = jnp.array([0.9, 0.5, -2.0])
    linear = lambda a, r, x: worth @ r - r @ r / 2
    game = sj.Game(linear, linear, response_set=Capped(cap=cap))
    return sj.best_response(game, None, None, response=jnp.full(3, 1 / 3)).value

print(jnp.abs(jnp.round(shares(0.6), 3)))  # [0.6 0.4 0. ]
print(jnp.round(jax.jacfwd(shares)(0.6), 3)[:2])  # [ 1. -1.]
```

`tests/solvers/test_own_solver.py` has further examples, including projections.

## Results

151 bilevel problems from the literature (`python -m experiments.classical`,
`experiments/results/classical.jsonl`): one call of `solve` with `Complementarity()` from the
problem's own start, in float64. A problem counts as solved if the value is within 1e-3 of the
published optimum and the follower's regret is below 1e-3. Published optima that are wrong are
corrected, with a comment, in `tests/bilevel`.

| follower | problems | solved | converged | converged at another value |
|---|---|---|---|---|
| strongly concave, linear constraints | 38 | 38 | 37 | 0 |
| concave otherwise, linear ones among them | 67 | 67 | 60 | 0 |
| not concave | 46 | 37 | 3 | 0 |

Eight problems with a concave follower are solved with `converged=False`: in some, the optimality
conditions need not hold (the feasible set has no interior at the optimum); in others, the optimum
is zero and the residual cannot be distinguished from rounding. A follower that is not concave
counts as converged only if it appears quasi-concave.

Random games against references that share no code with the library
(`python -m experiments.oracle`, `experiments/results/oracle.json`), both precisions:

| followers and games | answers | wrong though converged | not converged | wrong derivative |
|---|---|---|---|---|
| quadratic in boxes, d = 1 to 64 | 402,000 | 0 | 0 | 0 |
| logarithms, powers, exponentials, softplus, networks in boxes | 208,000 | 0 | 159 | 0 |
| polyhedra: redundant, thin, badly scaled | 268,000 | 0 | 20 | 0 |
| simplices, products, balls | 202,000 | 0 | 79 | 0 |
| smooth constraints | 80,000 | 0 | 0 | 0 |
| empty, unbounded, flat: must not converge | 40,000 | 0 | 40,000 | 0 |
| linear and quadratic bilevel games | 1,000 | 0 | 19 | 0 |

Of those that did not converge, 128 have a softplus of steepness 1,000 (1.6% of these), which is
close to a kink. In 11 of the 1,000 bilevel games `solve` ended at an inferior local optimum of the
leader.
"""
