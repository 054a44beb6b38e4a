"""Learning: a follower from observed play, and a leader's policy through its best response.

Every fit is deterministic for a key, and can itself be `jax.jit`ted or `jax.vmap`ped (over keys,
say) when no progress bar, callback or checkpoint is asked for.
"""

from stackjax._fit.constraints import Average
from stackjax._fit.estimators import (
    BehaviourCloning,
    GaussianResponse,
    GibbsResponse,
    ResponseRegression,
)
from stackjax._fit.follower import fit_follower
from stackjax._fit.horizon import Horizon, Trajectory, rollout
from stackjax._fit.horizon_dynamics import Dynamics
from stackjax._fit.leader import fit_leader
from stackjax._fit.observations import Observations
from stackjax._fit.robust import Ensemble, Suboptimal
from stackjax._fit.training import History

__all__ = [
    "Average",
    "BehaviourCloning",
    "Dynamics",
    "Ensemble",
    "GaussianResponse",
    "GibbsResponse",
    "History",
    "Horizon",
    "Observations",
    "ResponseRegression",
    "Suboptimal",
    "Trajectory",
    "fit_follower",
    "fit_leader",
    "rollout",
]
