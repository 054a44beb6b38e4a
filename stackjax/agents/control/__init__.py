"""Controllers of sessions, the dynamics of a session, and a world with known parameters."""

from stackjax.agents.control import known_world
from stackjax.agents.control._controller import (
    Controller,
    Decision,
    context_of,
    contexts_of,
    greedy_cell,
)
from stackjax.agents.control._dynamics import (
    Script,
    Session,
    SessionDynamics,
    begin_session,
)
from stackjax.agents.control._environment import (
    Scripts,
    SessionNow,
    SurrogateSession,
    TurnResult,
    scripts_of,
)
from stackjax.agents.control._pool_dynamics import (
    PoolDynamics,
    PoolWindow,
    interleave,
    open_window,
)

__all__ = [
    "Controller",
    "Decision",
    "PoolDynamics",
    "PoolWindow",
    "Script",
    "Scripts",
    "Session",
    "SessionDynamics",
    "SessionNow",
    "SurrogateSession",
    "TurnResult",
    "begin_session",
    "context_of",
    "contexts_of",
    "greedy_cell",
    "interleave",
    "known_world",
    "open_window",
    "scripts_of",
]
