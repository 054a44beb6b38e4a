"""The resource game of LLM agents (arXiv 2606.23026): its parts, from payoffs to real turns.

The executor's modules (`adapter`, `executor`, `server`, `session`, `tasks`, `tools`, `turn_log`,
`heuristic`) are plain Python; `openai` and `xllamacpp` (extra `llm`) are imported when used.
"""

from stackjax.agents.adapter import ADAPTER_VERSION, executed_action
from stackjax.agents.controllers import Controller, Decision, context_of, contexts_of, greedy_cell
from stackjax.agents.diagnostics import Reliability, SurrogateReport, reliability, surrogate_report
from stackjax.agents.dynamics import Script, Session, SessionDynamics, begin_session, script_of
from stackjax.agents.evaluation import Factorial, Replay, constant, factorial, replay
from stackjax.agents.executor import Executor, TurnOutcome
from stackjax.agents.heuristic import HeuristicExecutor
from stackjax.agents.intervals import Interval, clustered_mean, clustered_ratio, compare
from stackjax.agents.modules import Leader, LearnedFollower
from stackjax.agents.payoffs import (
    ResourceContext,
    Weights,
    concavity_bound,
    follower_utility,
    leader_utility,
    resource_context,
    resource_game,
    smooth_subsidy,
)
from stackjax.agents.predictors import QualityModel, Surrogate, TokenModel
from stackjax.agents.repair import action_sets, admissible_cells, reference_cell, summarise_cells
from stackjax.agents.server import LocalModel, local_server
from stackjax.agents.session import Choice, SessionState, run_episode
from stackjax.agents.shapes import FreeEnsemble, FreeModel, FreeSurface, Warp
from stackjax.agents.state import State, encode_scalar, encode_task, stack_states, state_of
from stackjax.agents.surface import QualitySurface, TokenSurface
from stackjax.agents.surrogate import SurrogateHistory, fit_surrogate
from stackjax.agents.tasks import Episode, Turn, is_correct, make_episode
from stackjax.agents.turn_log import LogContents, TurnLog, TurnRecord, latest, read_log
from stackjax.agents.turns import Turns, turn_arrays

__all__ = [
    "ADAPTER_VERSION",
    "Choice",
    "Controller",
    "Decision",
    "Episode",
    "Executor",
    "Factorial",
    "FreeEnsemble",
    "FreeModel",
    "FreeSurface",
    "HeuristicExecutor",
    "Interval",
    "Leader",
    "LearnedFollower",
    "LocalModel",
    "LogContents",
    "QualityModel",
    "QualitySurface",
    "Reliability",
    "Replay",
    "ResourceContext",
    "Script",
    "Session",
    "SessionDynamics",
    "SessionState",
    "State",
    "Surrogate",
    "SurrogateHistory",
    "SurrogateReport",
    "TokenModel",
    "TokenSurface",
    "Turn",
    "TurnLog",
    "TurnOutcome",
    "TurnRecord",
    "Turns",
    "Warp",
    "Weights",
    "action_sets",
    "admissible_cells",
    "begin_session",
    "clustered_mean",
    "clustered_ratio",
    "compare",
    "concavity_bound",
    "constant",
    "context_of",
    "contexts_of",
    "encode_scalar",
    "encode_task",
    "executed_action",
    "factorial",
    "fit_surrogate",
    "follower_utility",
    "greedy_cell",
    "is_correct",
    "latest",
    "leader_utility",
    "local_server",
    "make_episode",
    "read_log",
    "reference_cell",
    "reliability",
    "replay",
    "resource_context",
    "resource_game",
    "run_episode",
    "script_of",
    "smooth_subsidy",
    "stack_states",
    "state_of",
    "summarise_cells",
    "surrogate_report",
    "turn_arrays",
]
