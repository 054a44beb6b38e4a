"""Runs turns with a language model, from an action to a recorded outcome."""

from stackjax.agents.executor._adapter import ADAPTER_VERSION, executed_action
from stackjax.agents.executor._executor import Executor, TurnOutcome
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.executor._server import LocalModel, local_server
from stackjax.agents.executor._session import Choice, SessionState, run_episode

__all__ = [
    "ADAPTER_VERSION",
    "Choice",
    "Executor",
    "HeuristicExecutor",
    "LocalModel",
    "SessionState",
    "TurnOutcome",
    "executed_action",
    "local_server",
    "run_episode",
]
