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

__all__ = [
    "Controller",
    "Decision",
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
    "known_world",
    "scripts_of",
]
