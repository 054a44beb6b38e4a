"""Architecture.

## Packages and layers

Packages import only lower layers; `tests/project/test_structure.py` enforces the order. From the
lowest layer up:

| package | contents |
|---|---|
| `_arrays` | no games: pytrees, factorisations, components, batches; checks, verdicts, types |
| `stats` | intervals: means, ratios, bootstrap, multiple hypotheses, sequential |
| `sets` | feasible sets: bounds, residuals, projections; recorded actions and their hull |
| `_game` | `Game`: utilities and sets; several followers |
| `solvers` | `Solver.maximise`, one file per method; the convergence test; the derivative rule |
| `_follower` | `best_response`: arguments, the problem on vectors, multipliers |
| `_leader` | `solve`: by the value function, or as one program with the follower's conditions |
| `_check` | `check`: verification of one solution |
| `fit` | learned followers and leaders: the optimisation loop, objectives, estimators |
| `repair` | `project`, the price of a projection, the scale of an action |
| `certificates` | `certify`: estimated constants, computed bounds, verdicts |
| `games`, `finite`, `labels`, `plot` | games with known answers; matrices; label queries; figures |
| `agents` | the resource game of LLM agents, one sub-package per step of its pipeline |
| `runtime` | the controller applied to a real agent |

A module is private if any part of its path begins with an underscore. In a private package the
files have plain names; in a public package the public names are those of its `__all__`.

## The path of a call

`best_response(game, action, context, response=...)`:

1. `_follower/arguments.py` checks the arguments and chooses the solver.
2. `_follower/answer.py` writes the game as a `solvers.Problem` on one vector.
3. `Solver.maximise` searches (`solvers/_newton.py`, `_projected_gradient.py` or
   `_interior_point.py`). Newton's method on a box takes full steps in `newton/_search.py`, each
   computed in `newton/_second_order.py`, or in `_matrix_free.py` without a Hessian, and continues
   in `_safeguarded.py` where they fail. The search is not differentiated (`detached` in
   `solvers/_implicit.py`).
4. The convergence test (`solvers/_judge.py`) decides from the last point alone whether it is a
   solution.
5. `solvers/_implicit.py` defines the derivative at that point: the optimality conditions with the
   active constraints are differentiated, and one linear system is solved, with the last
   factorisation of the search or, without a Hessian, by conjugate gradients. On a set with a
   projection the condition is a fixed point of a projected gradient step.

Several followers: `_follower/several.py` writes a `Joint` problem, `solvers/equilibrium/` searches
for its equilibrium, and `_follower/equilibrium.py` reports it. The conditions are differentiated by
the same rule, with a Jacobian that is not symmetric.

`solve` maximises the leader's utility through this response (`_leader/value_function.py`), or
solves one program in which the follower's optimality conditions are constraints (`_leader/mpcc.py`,
`_leader/complementarity.py`).

## Failures are values

A solver that does not converge returns its best point with `converged=False`, the residual and
finite derivatives. Mistakes that the host can detect (types, shapes, an empty polyhedron, a utility
that increases without bound) raise an error that names the argument, what is allowed and what was
given: "`name` must be ...; got ...". Gradients are never NaN.

## Equations

Equations of arXiv 2606.23026, unless stated otherwise:

| equation | file |
|---|---|
| (1) state | `agents/game/_state.py` |
| (3) best response | `_follower/best_response.py` |
| implicit derivative of it | `solvers/_implicit.py` |
| (6)-(12) payoffs, transition | `agents/game/_payoffs.py`, `agents/control/_dynamics.py` |
| (16) leader's objective over a session | `fit/_leader.py`, `fit/_horizon.py` |
| (20)-(22), Prop. 5.2 | `certificates/_regret.py`, `certificates/_stability.py` |
| Prop. 5.3, Thm 5.4 | `certificates/_repair.py`, `certificates/_transfer.py` |
| (29)-(30) empirical action set, projection | `sets/_empirical.py` |
| arXiv 2602.00952, label queries | `labels/_learner.py`, `labels/_challenge.py` |

## Vocabulary

*Action*: the leader's decision, to which it commits. *Response*: the follower's decision.
*Context*: what both observe. *Converged*: the convergence test holds at the returned point.
*Local*: a better answer elsewhere is not excluded. *Degeneracy*: the distance to a change of the
active constraints, where derivatives jump. *Turn*, *session*: one step of an agent, and a sequence
of turns.

## How to add a part

- **A solver**: a file in `solvers/`, with a folder for its parts if it needs several (no folder of
  the package has more than 20 entries). It defines a frozen dataclass that subclasses `Solver` and
  has `maximise`, and `refuses` if it does not support every set. Export it in
  `solvers/__init__.py`. A user's own solver works without that
  (`tests/solvers/test_own_solver.py`).
- **A set**: a frozen dataclass in `sets/` that subclasses `FeasibleSet` and defines `bounds`,
  `residuals` (what must be at most 0, then what must be 0), and, if there is a cheap projection,
  `project` with `projectable = True`; its residuals then may not depend on action and context.
  `only_bounds = True` says that there are no residuals, and lets `Newton` solve on it. Export it in
  `sets/__init__.py`. A closed form of its multipliers in `_follower/multipliers.py` is optional.
  Add a kind to `experiments/oracle` with an independent reference.
- **A game with a known answer**: a file in `games/` with the closed form and its derivation.
- **An experiment**: a folder in `experiments/` with `__main__.py`, a row in
  `experiments/README.md`, and a results file with seed, versions and hardware. `Args` is a
  dataclass whose docstring is the text of `--help`, with the duration; `experiments/one_game` is
  the shortest to start from.
"""
