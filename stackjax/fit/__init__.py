"""Learning: a follower from observed play, and a leader's policy through its best response.

Every fit is deterministic for a key, and can itself be `jax.jit`ted or `jax.vmap`ped (over keys,
say) when no progress bar, callback or checkpoint is asked for.
"""

from stackjax.fit._constraints import Average
from stackjax.fit._dynamics import Dynamics
from stackjax.fit._estimators import (
    BehaviourCloning,
    GaussianResponse,
    GibbsResponse,
    ResponseRegression,
)
from stackjax.fit._follower import fit_follower
from stackjax.fit._history import FitStatus, History
from stackjax.fit._horizon import Horizon, Trajectory, rollout
from stackjax.fit._leader import fit_leader
from stackjax.fit._observations import Observations
from stackjax.fit._robust import Ensemble, Suboptimal
from stackjax.fit._utilities import (
    ConcaveUtility,
    Concavity,
    Standardised,
    probe_concavity,
    standardised,
)

__all__ = [
    "Average",
    "BehaviourCloning",
    "ConcaveUtility",
    "Concavity",
    "Dynamics",
    "Ensemble",
    "FitStatus",
    "GaussianResponse",
    "GibbsResponse",
    "History",
    "Horizon",
    "Observations",
    "ResponseRegression",
    "Standardised",
    "Suboptimal",
    "Trajectory",
    "fit_follower",
    "fit_leader",
    "probe_concavity",
    "rollout",
    "standardised",
]
