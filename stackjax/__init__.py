"""Contextual Stackelberg games, differentiated through the follower's best response.

A leader commits to an action; a follower sees it and answers with what is best for itself; both
utilities may depend on a context x. Every utility is maximised and takes
`(action, response, context)`, in this order, without a batch axis: `jax.vmap` over contexts.

    response*(action, x) = argmax_{r in R} U_F(action, r, x)               (best response)
    action*(x)          in argmax_{l in L} U_L(l, response*(l, x), x)      (Stackelberg)

The leader's gradient goes through the best response by the implicit function theorem, with the
constraints that are active at the response: one linear solve, whatever the number of the
solver's iterations. Functions are jit-compiled, vmapped and differentiated like any of JAX's; a
search that fails is reported (`converged`, `residual`), not hidden.

Four steps:

1. Write the game: two utilities and two feasible sets. A follower that is known only by its play
   is learned from it with `fit_follower`.
2. Ask for the follower's answer with `best_response`, and look at how far to trust it.
3. Find the leader's action in one context with `solve`, or a policy for all of them with
   `fit_leader`.
4. Verify: `check` a solution, `project` actions onto those that were tried, `certify` a policy.

The most used names are at the top, `sj`; every other name is in one sub-package: `sj.fit.Horizon`.

| for | names | in |
|---|---|---|
| the game | `Game`, on the sets `Box`, `Simplex`, `Ball`, `Polyhedron`, `Constrained` | `sj` |
| the follower's answer | `best_response` gives a `Response`, with `Multipliers` | `sj` |
| its solvers | `Newton`, `InteriorPoint`, `ProjectedGradient` | `sj` |
| several followers | a tuple of utilities, or `Followers`; an `Equilibrium` | `sj` |
| solver; all of a small game | `SemismoothNewton`; `all_equilibria` gives `Equilibria` | `sj` |
| the leader's action | `solve` gives a `Solution` | `sj` |
| its solvers | `Newton`, `Complementarity`, `FirstOrder` | `sj` |
| verification of a solution | `check` gives a `Check` | `sj` |
| a follower learned from play | `fit_follower`, of `Observations`, gives a `History` | `sj` |
| a leader's policy | `fit_leader` gives a `History` | `sj` |
| keeping to actions that were tried | `project` onto an `ActionSet` gives a `Projection` | `sj` |
| guarantees | `certify` gives a `Certificate` | `sj` |
| estimators of a follower | `ResponseRegression`, `GaussianResponse` | `sj.fit` |
| estimators of its choices | `GibbsResponse`, `BehaviourCloning` | `sj.fit` |
| utilities to learn | `ConcaveUtility`; `probe_concavity` gives a `Concavity` | `sj.fit` |
| bounds on averages | `Average` | `sj.fit` |
| what is not known of a follower | `Suboptimal`, `Ensemble` | `sj.fit` |
| sessions of several turns | `Dynamics`, `Horizon`; `rollout` gives a `Trajectory` | `sj.fit` |
| mixtures of recorded actions | `ConvexHull` | `sj.sets` |
| the cost: a `Price` | `price_of_projection`, `price_of_response_projection` | `sj.repair` |
| the units of a distance | `sensitivity_scale` | `sj.repair` |
| what a certificate says | `Statement`, `Constant`, `Verdict` | `sj.certificates` |
| a policy in use | `Deployed`, `RealTurns` | `sj.certificates` |
| errors of a simulator | `discrepancies` gives `Discrepancies` | `sj.certificates` |
| single bounds of a certificate | `horizon_repair_bound`, `response_error` | `sj.certificates` |
| intervals | `mean_interval`, `draws_needed` | `sj.stats` |
| games with known answers | `games`, `finite` (matrices) | |
| resources of LLM agents | `agents`, `runtime` | |
| labels under a budget | `labels` | |
| figures | `plot`, with the extra `plot` | |
| how the library is built | `guide` | |
| sub-packages of the names above | `sets`, `solvers`, `fit`, `repair`, `certificates`, `stats` | |

Examples here and on the pages of the names begin with
`import jax, jax.numpy as jnp, numpy as np, stackjax as sj` and `from flax import nnx`.

Example:
  >>> def leader_utility(q1, q2, demand):  # Stackelberg's duopoly: the leader's profit
  ...     return q1 * (demand - q1 - q2 - 1.0)
  >>> def follower_utility(q1, q2, demand):
  ...     return q2 * (demand - q1 - q2 - 1.0)
  >>> game = sj.Game(leader_utility, follower_utility)
  >>> start = {"action": jnp.array(1.0), "response": jnp.array(1.0)}
  >>> found = sj.solve(game, **start, context=jnp.array(13.0))
  >>> print(found.action, found.response, found.converged)
  6.0 3.0 True
"""

import importlib
import importlib.metadata
import pkgutil
from typing import TYPE_CHECKING, Any

from stackjax._check.check import check
from stackjax._check.verdicts import Check
from stackjax._follower.best_response import best_response
from stackjax._follower.enumeration import Equilibria, all_equilibria
from stackjax._follower.response import Equilibrium, Multipliers, Response
from stackjax._game import Followers, Game
from stackjax._leader.solve import Solution, solve
from stackjax.certificates import Certificate, certify
from stackjax.fit import History, Observations, fit_follower, fit_leader
from stackjax.repair import Projection, project
from stackjax.sets import ActionSet, Ball, Box, Constrained, Polyhedron, Simplex
from stackjax.solvers import (
    Complementarity,
    FirstOrder,
    InteriorPoint,
    Newton,
    ProjectedGradient,
    SemismoothNewton,
)

if TYPE_CHECKING:
    from stackjax import (
        agents,
        certificates,
        finite,
        fit,
        games,
        guide,
        labels,
        plot,  # noqa: F401
        repair,
        runtime,
        sets,
        solvers,
        stats,
    )

__version__ = importlib.metadata.version("stackjax")

# Loaded on first use, so that a script that solves one game does not wait for the rest (PEP 562).
_ROOMS = frozenset(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

__all__ = [
    "ActionSet",
    "Ball",
    "Box",
    "Certificate",
    "Check",
    "Complementarity",
    "Constrained",
    "Equilibria",
    "Equilibrium",
    "FirstOrder",
    "Followers",
    "Game",
    "History",
    "InteriorPoint",
    "Multipliers",
    "Newton",
    "Observations",
    "Polyhedron",
    "ProjectedGradient",
    "Projection",
    "Response",
    "SemismoothNewton",
    "Simplex",
    "Solution",
    "agents",
    "all_equilibria",
    "best_response",
    "certificates",
    "certify",
    "check",
    "finite",
    "fit",
    "fit_follower",
    "fit_leader",
    "games",
    "guide",
    "labels",
    "project",
    "repair",
    "runtime",
    "sets",
    "solve",
    "solvers",
    "stats",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"stackjax.{name}")
    if name.startswith("_"):  # Python's own tools ask for these, and should not import all rooms
        raise AttributeError(f"module 'stackjax' has no attribute {name!r}")
    rooms = sorted(_ROOMS - {"plot"})  # which needs its extra
    found = [r for r in rooms if name in importlib.import_module(f"stackjax.{r}").__all__]
    advice = f"; it is stackjax.{found[0]}.{name}" if found else ""
    raise AttributeError(f"module 'stackjax' has no attribute {name!r}{advice}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
