"""The runtime: a controller in front of a real agent.

`Governor` decides before each model step and accounts after it. Around it: roll-out modes
(`Rollout`), the wrapper of the `openai` client (`govern_client`), the proxy (`make_app`, `Upstream`
and ``python -m stackjax.agents.proxy``), saved policies (`save_policy`, `load_policy`), and
sequential comparison (`compare_sessions`; ``python -m stackjax.agents.report``). Nothing here
imports `openai`, `starlette`, `uvicorn`, `httpx` or `prometheus_client` before it is used.
"""

from stackjax.agents.runtime.arm_values import (
    ArmValue,
    ShadowBounds,
    arm_value,
    arm_values,
    shadow_bounds,
)
from stackjax.agents.runtime.asgi import make_app, serving
from stackjax.agents.runtime.client import govern_client
from stackjax.agents.runtime.comparison import (
    Comparison,
    SessionOutcome,
    StopRule,
    compare_sessions,
)
from stackjax.agents.runtime.decision import FALLBACKS, Fallback, TurnDecision
from stackjax.agents.runtime.governor import Governor
from stackjax.agents.runtime.health import Cusum
from stackjax.agents.runtime.limits import Limits, Recommender
from stackjax.agents.runtime.messages import compact, grammar_error
from stackjax.agents.runtime.metadata import SessionMetadata
from stackjax.agents.runtime.observer import Usage
from stackjax.agents.runtime.policy import (
    Calibration,
    Policy,
    Recommendation,
    calibrate,
    recalibrated,
)
from stackjax.agents.runtime.recognise import session_scope
from stackjax.agents.runtime.records import ShadowRecord, aggregate
from stackjax.agents.runtime.request import ChatAdapter, Rewritten
from stackjax.agents.runtime.rollout import MODES, Assignment, Rollout
from stackjax.agents.runtime.sequential import (
    ConfidenceSequence,
    asymptotic_sequence,
    bounded_sequence,
    effect_scores,
    mixture_sequence,
)
from stackjax.agents.runtime.store import PolicyMismatch, fingerprint_of, load_policy, save_policy
from stackjax.agents.runtime.upstream import Upstream

__all__ = [
    "FALLBACKS",
    "MODES",
    "ArmValue",
    "Assignment",
    "Calibration",
    "ChatAdapter",
    "Comparison",
    "ConfidenceSequence",
    "Cusum",
    "Fallback",
    "Governor",
    "Limits",
    "Policy",
    "PolicyMismatch",
    "Recommendation",
    "Recommender",
    "Rewritten",
    "Rollout",
    "SessionMetadata",
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
    "asymptotic_sequence",
    "bounded_sequence",
    "calibrate",
    "compact",
    "compare_sessions",
    "effect_scores",
    "fingerprint_of",
    "govern_client",
    "grammar_error",
    "load_policy",
    "make_app",
    "mixture_sequence",
    "recalibrated",
    "save_policy",
    "serving",
    "session_scope",
    "shadow_bounds",
]
