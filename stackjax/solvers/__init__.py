"""Methods for the follower's and the leader's problem, and the one rule of their derivative.

Of a follower's: `Newton`, `InteriorPoint`, `ProjectedGradient`, and a user's own `Solver`, which is
asked a `Problem` and answers with a `Maximum`. Of several followers': `SemismoothNewton`. Of a
leader's: `Newton`, `FirstOrder`,
`Complementarity`.
"""

from stackjax._arrays.status import Status
from stackjax.solvers._interior_point import InteriorPoint
from stackjax.solvers._newton import Newton
from stackjax.solvers._projected_gradient import ProjectedGradient
from stackjax.solvers._quality import Quality
from stackjax.solvers._settings import Complementarity, FirstOrder
from stackjax.solvers._solver import Held, Maximum, Problem, Solver
from stackjax.solvers.equilibrium._semismooth import SemismoothNewton

__all__ = [
    "Complementarity",
    "FirstOrder",
    "Held",
    "InteriorPoint",
    "Maximum",
    "Newton",
    "Problem",
    "ProjectedGradient",
    "Quality",
    "SemismoothNewton",
    "Solver",
    "Status",
]
