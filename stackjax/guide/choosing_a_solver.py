"""How to choose a solver, or to bring one.

The defaults are chosen from the sets, the size and the number of starts; `solver=` and
`follower_solver=` change them.

## Sets

| set | what it holds | projection |
|---|---|---|
| `Box` | coordinatewise bounds, infinite ones too | yes |
| `Simplex` | nonnegative shares of a total; products of simplices | yes |
| `Ball` | a Euclidean ball | yes |
| `Polyhedron` | `A r <= b`, `E r = d`; arrays or functions of the play | no |
| `Constrained` | smooth `inequality <= 0` and `equality == 0`, in a box | no |

All of them serve the leader and the follower; see `constraints`.

## Followers

| the response is in | solver (the default there) |
|---|---|
| a `Box` | `Newton()` |
| a `Simplex` or `Ball`, above 64 coordinates | `ProjectedGradient()` |
| any other set | `InteriorPoint()` |

- `Newton`: projected Newton; above 15 coordinates conjugate gradients on Hessian-vector products.
- `ProjectedGradient`: accelerated, with line search; finished on the face it finds; a matrix-free
  derivative. For thousands of coordinates in a `Box`, `Simplex` or `Ball`.
- `InteriorPoint`: a dual active-set method, verified; where that fails a primal-dual interior
  point, then Newton on the active set; multipliers. For a few dozen coordinates.

## Leaders

| problem | method |
|---|---|
| both sets are boxes, a smooth optimum, many contexts | `Newton()`, default for one start |
| coupled constraints, linear followers, kinks, several starts | `Complementarity()`, default |
| a long action in a `Box`, `Simplex` or `Ball` | `FirstOrder(optax.adam(0.01))` |
| a policy for all contexts | `fit_leader` |
| finite games, several follower types | `sj.finite` |

- `Newton` uses exact second derivatives of the leader's utility through the response. It needs a
  unique response and a smooth optimum, and is the one to `vmap` over a million contexts.
- `Complementarity` makes the follower's optimality conditions constraints with a vanishing penalty,
  and ends with Newton steps on the active set. It needs neither of the two, takes the leader's
  favourite of several best responses, starts from 16 points and takes longer to compile.
- `FirstOrder` is projected gradient ascent through the best response: one gradient a step, no
  second derivatives. Its solution is not differentiable.
- `sj.finite` has strong Stackelberg equilibria by linear programming, security games and logit
  followers.

```python
import jax, jax.numpy as jnp
import optax
import stackjax as sj

duopoly = sj.games.duopoly()
starts = {"action": jnp.array(1.0), "response": jnp.array(1.0), "context": jnp.array(13.0)}
for solver in (sj.Newton(), sj.FirstOrder(optax.sgd(0.5))):
    found = sj.solve(duopoly.game, **starts, solver=solver)
    print(type(solver).__name__, jnp.round(found.action, 1), found.converged)
# Newton 6.0 True
# FirstOrder 6.0 True
```

## Your own solver

A subclass of `sj.solvers.Solver` with `maximise(problem, start)`, hashable (a frozen dataclass).
Where it ends with one of the library's, derivative and judgement come from that:

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

`refuses(self, feasible)` returns a sentence for sets that the solver cannot do, None otherwise.

## Your own set

A frozen dataclass that subclasses `sj.sets.FeasibleSet`: `bounds`, `residuals` (numbers `<= 0` and
numbers `== 0`), and `project` with `projectable = True` where there is a cheap projection. Its
arrays are traced and differentiated like those of the library's sets.

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

`tests/solvers/test_own_solver.py` has more, projections among them.

## Results

151 classical bilevel problems of the literature (`python -m experiments.classical`,
`experiments/results/classical.jsonl`): one call of `solve` with `Complementarity()`, the problem's
own start, float64. Solved: within 1e-3 of the published optimum, with a follower's regret below
1e-3. Where a published optimum is wrong, `tests/bilevel` says so and has the right one.

| follower | problems | solved | converged | converged at another value |
|---|---|---|---|---|
| strongly concave, linear constraints | 38 | 38 | 37 | 0 |
| concave otherwise, linear ones among them | 67 | 67 | 60 | 0 |
| not concave | 46 | 37 | 3 | 0 |

Eight with a concave follower are solved and not called converged: at some the optimality
conditions need not hold (no interior at the optimum); at others the optimum is zero, and what is
left cannot be told from rounding. Of followers that are not concave only those count as converged
that look quasi-concave.

Random games against references that share no code with the library
(`python -m experiments.oracle --games 1000`, `experiments/results/oracle.json`), both precisions:

| followers and games | asked | wrong though converged | unconverged | wrong derivative |
|---|---|---|---|---|
| quadratic in boxes, d = 1 to 64 | 40,200 | 0 | 0 | 0 |
| logarithms, powers, exponentials, softplus, networks in boxes | 20,800 | 0 | 246 | 0 |
| polyhedra: redundant, thin, badly scaled | 26,800 | 0 | 3 | 0 |
| simplices, products, balls | 20,200 | 0 | 10 | 0 |
| smooth constraints | 8,000 | 0 | 0 | 0 |
| empty, unbounded, flat: nothing may converge | 20,000 | 0 | 20,000 | 0 |
| linear and quadratic bilevel games | 1,000 | 0 | 19 | 0 |

Of the unconverged, 240 have a softplus of steepness up to 1,000, close to a kink. In 28 of the
1,000 bilevel games `solve` ended at a local optimum of the leader that is not the best one.
"""
