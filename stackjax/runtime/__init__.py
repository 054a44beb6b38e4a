"""The runtime: a controller in front of a real agent.

`Governor` decides before each model step and accounts after it. Around it: roll-out modes
(`Rollout`), the wrapper of the `openai` client (`govern_client`), the proxy (`make_app`, `Upstream`
and ``stackjax proxy``), saved policies (`save_policy`, `load_policy`), and sequential comparison
(`compare_sessions`; ``stackjax report``). From a checkout both commands are
``python -m stackjax.runtime proxy`` and ``python -m stackjax.runtime report``. Nothing here
imports `openai`, `starlette`, `uvicorn`, `httpx` or `prometheus_client` before it is used. In the
examples `known_policy()` is a policy of `stackjax.agents.control.known_world`, a small world.
"""

from stackjax.runtime.chat._messages import grammar_error
from stackjax.runtime.chat._request import ChatAdapter, Rewritten
from stackjax.runtime.chat._wire_chat import compact
from stackjax.runtime.gateway._asgi import make_app
from stackjax.runtime.gateway._client import govern_client
from stackjax.runtime.gateway._identify import session_scope
from stackjax.runtime.gateway._relay import Intake
from stackjax.runtime.gateway._sessions import SessionNames
from stackjax.runtime.gateway._upstream import Upstream
from stackjax.runtime.governor._comparison import (
    Comparison,
    SessionOutcome,
    StopRule,
    compare_sessions,
)
from stackjax.runtime.governor._governor import Governor
from stackjax.runtime.governor._limits import Limits, Recommender
from stackjax.runtime.governor._metadata import SessionMetadata
from stackjax.runtime.governor._records import ShadowRecord, aggregate
from stackjax.runtime.governor._usage import Usage
from stackjax.runtime.policy._behaviour import Behaviour
from stackjax.runtime.policy._decision import FALLBACKS, Fallback, TurnDecision
from stackjax.runtime.policy._drift import DriftChart
from stackjax.runtime.policy._policy import Policy, Recommendation, recalibrated
from stackjax.runtime.policy._residuals import Residuals, measure_residuals
from stackjax.runtime.policy._rollout import MODES, Assignment, Rollout
from stackjax.runtime.policy._store import (
    PolicyMismatch,
    digest_of,
    fingerprint_of,
    load_policy,
    save_policy,
)
from stackjax.runtime.policy._written import written_turns
from stackjax.runtime.report._arm_values import (
    ArmValue,
    ShadowBounds,
    arm_value,
    arm_values,
    shadow_bounds,
)

__all__ = [
    "FALLBACKS",
    "MODES",
    "ArmValue",
    "Assignment",
    "Behaviour",
    "ChatAdapter",
    "Comparison",
    "DriftChart",
    "Fallback",
    "Governor",
    "Intake",
    "Limits",
    "Policy",
    "PolicyMismatch",
    "Recommendation",
    "Recommender",
    "Residuals",
    "Rewritten",
    "Rollout",
    "SessionMetadata",
    "SessionNames",
    "SessionOutcome",
    "ShadowBounds",
    "ShadowRecord",
    "StopRule",
    "TurnDecision",
    "Upstream",
    "Usage",
    "aggregate",
    "arm_value",
    "arm_values",
    "compact",
    "compare_sessions",
    "digest_of",
    "fingerprint_of",
    "govern_client",
    "grammar_error",
    "load_policy",
    "make_app",
    "measure_residuals",
    "recalibrated",
    "save_policy",
    "session_scope",
    "shadow_bounds",
    "written_turns",
]
