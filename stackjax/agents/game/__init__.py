"""Two resource games: state, surfaces, payoffs and the networks of both players.

`resource_game` is the paper's; `pool_game` has executors with knowledge of their own and one pool.
"""

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
from stackjax.agents.game._pool import (
    PoolContext,
    PoolState,
    PoolWeights,
    cell_utilities,
    pool_follower_utility,
    pool_game,
    pool_leader_utility,
    priced_subsidy,
    quantal_cells,
    tokens_used,
)
from stackjax.agents.game._pool_demand import LearnedDemand, PoolLeader, RevealedValue, demand_game
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
    "LearnedDemand",
    "LearnedFollower",
    "PoolContext",
    "PoolLeader",
    "PoolState",
    "PoolWeights",
    "QualitySurface",
    "ResourceContext",
    "RevealedValue",
    "State",
    "TokenSurface",
    "Weights",
    "cell_utilities",
    "concavity_bound",
    "demand_game",
    "encode_scalar",
    "encode_task",
    "follower_utility",
    "leader_utility",
    "pool_follower_utility",
    "pool_game",
    "pool_leader_utility",
    "priced_subsidy",
    "quantal_cells",
    "resource_context",
    "resource_game",
    "smooth_subsidy",
    "stack_states",
    "state_of",
    "tokens_used",
]
