"""What a governor decided for one turn, and why not otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stackjax.runtime.policy._policy import Recommendation
from stackjax.runtime.policy._rollout import Arm

FALLBACKS = {
    "deadline": "the decision was not ready in time",
    "controller_error": "the controller raised",
    "invalid_decision": "the controller's numbers are not finite or not in range",
    "not_converged": "the follower's solver did not converge",
    "missing_feature": "a feature of the state is missing or not finite",
    "outside_support": "a feature lies far from where the predictors were calibrated",
    "stale_calibration": "the calibration is too old",
    "budget_alarm": "the session or its pool has used up its token budget",
    "drift_alarm": "predictions have drifted from what is observed",
    "rewrite_error": "the request could not be rewritten",
    "malformed_body": "the request is not a chat completion that we understand",
    "too_large": "the request is too large to be read in time",
    "upstream_rejected": "the upstream refused the rewritten request; the original was sent",
}
"""Reasons why a turn falls back, by code.

>>> FALLBACKS["deadline"]
'the decision was not ready in time'
"""


class Fallback(NamedTuple):
    """Why a decision fell back.

    Attributes:
      code: One of `FALLBACKS`.
      detail: Names of features, or an exception's type; never text of a request.

    Example:
      >>> str(Fallback("missing_feature", "budget"))
      'missing_feature: budget'
    """

    code: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


@dataclass(frozen=True)
class TurnDecision:
    """One decision.

    Attributes:
      session: Keyed hash of the session's identifier.
      rollout: Label of the mode, ``"canary:0.05"``.
      arm: ``"governed"`` or ``"untouched"``.
      propensity: Probability of the arm.
      response: (c, p, u) to carry out; None: the request goes as it came.
      signal: The leader's (q, alpha), None without a recommendation.
      recommended: All numbers of the policy, None after a fallback or in mode off.
      fallback: Why the policy was not followed, or None.
      task: Task type as given.
      features: The numeric features that were known.
      seconds: What the decision took.
      refusal: Why the request is not to be sent at all, with the numbers, for the client to read;
        None: it is to be sent. Only where a budget is hard (`Limits`).
      turn: Names the turn that the decision is for; all its calls have the same.
      earlier: Turns before this one that the request shows, if the agent told.
      pool: Keyed hash of the pool's name.

    Example:
      >>> TurnDecision("s", "shadow", "untouched", 1.0, fallback=Fallback("deadline")).reason
      'deadline'
    """

    session: str
    rollout: str
    arm: Arm
    propensity: float
    response: tuple[float, float, float] | None = None
    signal: tuple[float, float] | None = None
    recommended: Recommendation | None = None
    fallback: Fallback | None = None
    task: str | None = None
    features: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    refusal: str | None = None
    turn: str = ""
    earlier: float | None = None
    pool: str = ""

    @property
    def reason(self) -> str | None:
        """The fallback's code, or None."""
        return None if self.fallback is None else self.fallback.code
