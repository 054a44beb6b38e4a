"""The resource game: state, surfaces, payoffs and the networks of both players."""

from stackjax.agents.game._networks import Leader, LearnedFollower
from stackjax.agents.game._payoffs import (
    ResourceContext,
    Weights,
    concavity_bound,
    follower_utility,
    leader_utility,
    resource_context,
    resource_game,
    smooth_subsidy,
)
from stackjax.agents.game._state import (
    FIELDS,
    State,
    encode_scalar,
    encode_task,
    stack_states,
    state_of,
)
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface

__all__ = [
    "FIELDS",
    "Leader",
    "LearnedFollower",
    "QualitySurface",
    "ResourceContext",
    "State",
    "TokenSurface",
    "Weights",
    "concavity_bound",
    "encode_scalar",
    "encode_task",
    "follower_utility",
    "leader_utility",
    "resource_context",
    "resource_game",
    "smooth_subsidy",
    "stack_states",
    "state_of",
]
