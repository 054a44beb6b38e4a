"""Architecture on one page.

## Rooms and floors

Imports lead downwards only; `tests/project/test_structure.py` holds the order. From the ground up:

| room | what it knows |
|---|---|
| `_arrays` | no game: pytrees, factorisations, components, batches; checks, verdicts, types |
| `stats` | intervals: means, ratios, bootstrap, many hypotheses at once, at any time |
| `sets` | feasible sets: bounds, residuals, projections; recorded actions and their hull |
| `_game` | `Game`: two utilities and two sets |
| `solvers` | one file a method, `Solver.maximise(problem, start)`; the judge; the derivative rule |
| `_follower` | `best_response`: arguments, the problem on vectors, multipliers |
| `_leader` | `solve`: by the value function, or as one program with the follower's conditions |
| `_check` | `check`: what can be measured of one solution |
| `fit` | learned followers and leaders: one loop of the optimiser, objectives, estimators |
| `repair` | `project`, the price of a projection, the scale of an action |
| `certificates` | `certify`: estimated constants, computed bounds, verdicts |
| `games`, `finite`, `labels`, `plot` | games with known answers; matrices; label queries; figures |
| `agents` | the resource game of LLM agents, a room a step of its pipeline |
| `runtime` | the controller in front of a real agent |

A module is private if any part of its path begins with an underscore. In a private room the files
have plain names; in a public room the public names are those of its `__all__`.

## The way of one call

`best_response(game, action, context, response=...)`:

1. `_follower/arguments.py` checks the arguments and chooses the solver.
2. `_follower/best_response.py` writes the game as a `solvers.Problem` on one vector.
3. `Solver.maximise` searches (`solvers/_newton.py`, `_projected_gradient.py` or
   `_interior_point.py`). No derivative enters the search (`detached` in `solvers/_implicit.py`).
4. The judge (`solvers/_judge.py`) decides from the last point alone whether it is a solution.
5. `solvers/_implicit.py` gives that point its derivative: the optimality conditions with the
   active constraints, differentiated; one solve with the factorisation that the search left.

`solve` climbs the leader's utility through that (`_leader/value_function.py`), or solves one
program in which the follower's optimality conditions are constraints (`_leader/mpcc.py`,
`_leader/complementarity.py`).

## Failure is data

A solver that does not converge returns its best point with `converged=False`, the residual and
finite derivatives. What the host can see before the work (types, shapes, an empty polyhedron, a
utility that rises without end) is an error that names the argument, what is allowed and what was
given: "`name` must be ...; got ...". Nothing is NaN in a gradient.

## Equations

Of arXiv 2606.23026, unless said:

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

*Action*: what the leader commits to. *Response*: what the follower answers. *Context*: what both
see. *Converged*: the judge's conditions hold at the returned point. *Local*: a better answer
elsewhere is not excluded. *Degeneracy*: the distance to a change of the active constraints, where
derivatives jump. *Turn*, *session*: one call of an agent's model, and a sequence of them.

## How to add

- **A solver**: a file in `solvers/` with a frozen dataclass that subclasses `Solver`: `maximise`,
  and `refuses` where it cannot do every set. Export it in `solvers/__init__.py`. A user's own works
  without that (`tests/solvers/test_own_solver.py`).
- **A set**: a frozen dataclass in `sets/` that subclasses `FeasibleSet`: `bounds`, `residuals`, and
  `project` with `projectable = True` where there is a cheap projection; its multipliers then go
  into `_follower/multipliers.py`. Add a kind to `experiments/oracle` with an answer by other means.
- **A game with a known answer**: a file in `games/` with the closed form and its derivation.
- **An experiment**: a folder in `experiments/` with `__main__.py`, a row in
  `experiments/README.md`, and a results file with seed, versions and hardware.
"""
