"""The resource game of LLM agents (arXiv 2606.23026): its parts, from payoffs to real turns.

The executor's modules (`adapter`, `executor`, `server`, `session`, `tasks`, `tools`, `turn_log`,
`heuristic`) are plain Python; `openai` and `xllamacpp` (extra `llm`) are imported when used.

Example:
    >>> from stackjax.agents.control import known_world
    >>> context = sj.agents.resource_context(
    ...     jnp.zeros(14), *known_world.surfaces(), previous=jnp.array([0.8, 0.5]),
    ...     budget=jnp.array(1.0), reference=jnp.ones(3),
    ... )
    >>> signal, game = jnp.array([0.8, 0.5]), sj.agents.resource_game()
    >>> print(sj.best_response(game, signal, context, response=jnp.full(3, 0.5)).converged)
    True
"""

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
    script_of,
)
from stackjax.agents.control._environment import (
    Scripts,
    SessionNow,
    SurrogateSession,
    TurnResult,
    scripts_of,
)
from stackjax.agents.evaluation._off_policy import OffPolicy, off_policy
from stackjax.agents.evaluation._policies import (
    constant_cell,
    constant_signal,
    deployed_controller,
    governed,
)
from stackjax.agents.evaluation._real_turns import (
    executed_turns,
    logged_turns,
    score_bounds,
    turn_score,
)
from stackjax.agents.evaluation._replay import Factorial, Replay, constant, factorial, replay
from stackjax.agents.executor._adapter import ADAPTER_VERSION, executed_action
from stackjax.agents.executor._executor import Executor, TurnOutcome
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.executor._server import LocalModel, local_server
from stackjax.agents.executor._session import Choice, SessionState, run_episode
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
from stackjax.agents.game._state import State, encode_scalar, encode_task, stack_states, state_of
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface
from stackjax.agents.log._cell_scores import CellScores, cell_scores
from stackjax.agents.log._log import LogContents, TurnLog, TurnRecord, latest, read_log
from stackjax.agents.log._outcomes import Outcomes, outcomes
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.repair._audit import Audit, audit
from stackjax.agents.repair._candidates import (
    Candidate,
    nested_boxes,
    predicted_quality,
    single_cells,
    support_ellipsoids,
)
from stackjax.agents.repair._cells import (
    action_sets,
    admissible_cells,
    reference_cell,
    summarise_cells,
)
from stackjax.agents.repair._need_head import (
    NeedHead,
    NeedReport,
    ToolMisses,
    fit_need,
    tool_misses,
)
from stackjax.agents.repair._selection import (
    ActionSetChoice,
    Confirmation,
    Judged,
    Requirements,
    confirm_action_set,
    select_action_set,
)
from stackjax.agents.surrogate._accuracy import Accuracy, accuracy
from stackjax.agents.surrogate._calibration import Calibration, Drift, calibrate, check_drift
from stackjax.agents.surrogate._calibration_maps import (
    CalibratedSurrogate,
    CalibrationMap,
    LinearMap,
    LogOddsMap,
    MonotoneMap,
    fit_map,
)
from stackjax.agents.surrogate._diagnostics import (
    Reliability,
    SurrogateReport,
    reliability,
    surrogate_report,
)
from stackjax.agents.surrogate._fit import SurrogateHistory, fit_surrogate
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.agents.surrogate._probes import Probe, probe
from stackjax.agents.surrogate._shapes import FreeEnsemble, FreeModel, FreeSurface, Warp
from stackjax.agents.tasks._questions import gsm8k, hotpotqa, question_sessions
from stackjax.agents.tasks._tasks import Episode, Turn, is_correct, make_episode
from stackjax.runtime import (
    Governor,
    Limits,
    Policy,
    Rollout,
    SessionMetadata,
    Upstream,
    govern_client,
    load_policy,
    make_app,
    save_policy,
    session_scope,
)
from stackjax.stats._bootstrap import Interval, clustered_mean, clustered_ratio, compare
from stackjax.stats._simultaneous import Bounds, simultaneous_bounds

__all__ = [
    "ADAPTER_VERSION",
    "Accuracy",
    "ActionSetChoice",
    "Audit",
    "Bounds",
    "CalibratedSurrogate",
    "Calibration",
    "CalibrationMap",
    "Candidate",
    "CellScores",
    "Choice",
    "Confirmation",
    "Controller",
    "Decision",
    "Drift",
    "Episode",
    "Executor",
    "Factorial",
    "FreeEnsemble",
    "FreeModel",
    "FreeSurface",
    "Governor",
    "HeuristicExecutor",
    "Interval",
    "Judged",
    "Leader",
    "LearnedFollower",
    "Limits",
    "LinearMap",
    "LocalModel",
    "LogContents",
    "LogOddsMap",
    "MonotoneMap",
    "NeedHead",
    "NeedReport",
    "OffPolicy",
    "Outcomes",
    "Policy",
    "Probe",
    "QualityModel",
    "QualitySurface",
    "Reliability",
    "Replay",
    "Requirements",
    "ResourceContext",
    "Rollout",
    "Script",
    "Scripts",
    "Session",
    "SessionDynamics",
    "SessionMetadata",
    "SessionNow",
    "SessionState",
    "State",
    "Surrogate",
    "SurrogateHistory",
    "SurrogateReport",
    "SurrogateSession",
    "TokenModel",
    "TokenSurface",
    "ToolMisses",
    "Turn",
    "TurnLog",
    "TurnOutcome",
    "TurnRecord",
    "TurnResult",
    "Turns",
    "Upstream",
    "Warp",
    "Weights",
    "accuracy",
    "action_sets",
    "admissible_cells",
    "audit",
    "begin_session",
    "calibrate",
    "cell_scores",
    "check_drift",
    "clustered_mean",
    "clustered_ratio",
    "compare",
    "concavity_bound",
    "confirm_action_set",
    "constant",
    "constant_cell",
    "constant_signal",
    "context_of",
    "contexts_of",
    "deployed_controller",
    "encode_scalar",
    "encode_task",
    "executed_action",
    "executed_turns",
    "factorial",
    "fit_map",
    "fit_need",
    "fit_surrogate",
    "follower_utility",
    "govern_client",
    "governed",
    "greedy_cell",
    "gsm8k",
    "hotpotqa",
    "is_correct",
    "latest",
    "leader_utility",
    "load_policy",
    "local_server",
    "logged_turns",
    "make_app",
    "make_episode",
    "nested_boxes",
    "off_policy",
    "outcomes",
    "predicted_quality",
    "probe",
    "question_sessions",
    "read_log",
    "reference_cell",
    "reliability",
    "replay",
    "resource_context",
    "resource_game",
    "run_episode",
    "save_policy",
    "score_bounds",
    "script_of",
    "scripts_of",
    "select_action_set",
    "session_scope",
    "simultaneous_bounds",
    "single_cells",
    "smooth_subsidy",
    "stack_states",
    "state_of",
    "summarise_cells",
    "support_ellipsoids",
    "surrogate_report",
    "tool_misses",
    "turn_arrays",
    "turn_score",
]
