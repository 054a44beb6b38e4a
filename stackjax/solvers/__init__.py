"""Methods for the follower's and the leader's problem, and the one rule of their derivative.

Of a follower's: `Newton`, `InteriorPoint`, `ProjectedGradient`, `AugmentedLagrangian`, and a user's
own `Solver`, which is asked a `Problem` and answers with a `Maximum`. Of a follower's with a linear
utility, smoothed: `Perturbed`, `Regularised`. Of several followers': `SemismoothNewton`. Of a
leader's: `Newton`, `FirstOrder`, `Complementarity`.
"""

from stackjax._arrays.search_history import SearchHistory
from stackjax._arrays.status import Status
from stackjax.solvers._augmented_lagrangian import AugmentedLagrangian
from stackjax.solvers._interior_point import InteriorPoint
from stackjax.solvers._newton import Newton
from stackjax.solvers._projected_gradient import ProjectedGradient
from stackjax.solvers._settings import Complementarity, FirstOrder
from stackjax.solvers._solver import Held, Maximum, Problem, Quality, Solver
from stackjax.solvers.equilibrium._semismooth import SemismoothNewton
from stackjax.solvers.proof._branch_and_bound import Proof
from stackjax.solvers.proof._global import Global
from stackjax.solvers.smoothed._perturbed import Perturbed
from stackjax.solvers.smoothed._regularised import Regularised

__all__ = [
    "AugmentedLagrangian",
    "Complementarity",
    "FirstOrder",
    "Global",
    "Held",
    "InteriorPoint",
    "Maximum",
    "Newton",
    "Perturbed",
    "Problem",
    "ProjectedGradient",
    "Proof",
    "Quality",
    "Regularised",
    "SearchHistory",
    "SemismoothNewton",
    "Solver",
    "Status",
]
