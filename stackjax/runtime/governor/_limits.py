"""When a policy is followed: limits, and the checks around one recommendation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stackjax._arrays.arguments import check_within
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.governor._observer import Observer
from stackjax.runtime.policy._decision import Fallback
from stackjax.runtime.policy._policy import Recommendation, Residuals


class Recommender(Protocol):
    """What a governor asks: a `Policy`, or anything with the same three members.

    Example:
      >>> policy: Recommender = known_policy()
      >>> middle = dict.fromkeys(sj.agents.game.FIELDS, 0.5)
      >>> policy.recommend(middle, "simple_qa", (0.775, 0.5)).response
      (1.0, 1.0, 1.0)
    """

    @property
    def calibration(self) -> Residuals:
        """Of its predictions."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Of its parts."""
        ...

    def recommend(
        self, numbers: Mapping[str, float], task: str, previous: Sequence[float], /
    ) -> Recommendation:
        """The advice at one state."""
        ...


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a governor does not follow its policy.

    Attributes:
      deadline: Seconds that the agent waits for a decision at most.
      max_age: Seconds after which a calibration is stale.
      slack: How far, in calibrated ranges, a feature may lie outside of its range.
      budget_floor: Share of the token budget at or below which the budget alarm is up.
      token_budget: Tokens that a session may use; None for no limit.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If deadline or max_age is not positive or the deadline infinite, slack negative,
        budget_floor NaN, or the budget not positive.

    Example:
      >>> Limits().deadline
      0.005
    """

    deadline: float = 0.005
    max_age: float = 90 * 86400.0
    slack: float = 1.0
    budget_floor: float = 0.0
    token_budget: float | None = None

    def __post_init__(self) -> None:
        check_within("deadline", self.deadline, "(0, inf)")
        check_within("max_age", self.max_age, "(0, inf]")
        check_within("slack", self.slack, "[0, inf]")
        check_within("budget_floor", self.budget_floor, "[-inf, inf]")
        if self.token_budget is not None:
            check_within("token_budget", self.token_budget, "(0, inf]")


DEFAULT_LIMITS = Limits()


def advise(
    policy: Recommender,
    limits: Limits,
    task: str | None,
    features: Mapping[str, float],
    missing: tuple[str, ...],
    observer: Observer,
    previous: Sequence[float],
) -> tuple[Fallback | None, Recommendation | None]:
    """A recommendation that may be followed, or the reason why there is none; never raises."""
    if task not in TASK_TYPES:
        missing = (*missing, "task")
    if missing:
        return Fallback("missing_feature", ", ".join(missing)), None
    if features["budget"] <= limits.budget_floor:
        return Fallback("budget_alarm"), None
    if observer.drifting:
        return Fallback("drift_alarm", ", ".join(observer.drifting)), None
    try:
        calibration = policy.calibration
        if calibration.age() > limits.max_age:
            return Fallback("stale_calibration"), None
        outside = calibration.outside(features, limits.slack)
        if outside:
            return Fallback("outside_support", ", ".join(outside)), None
        advice: Any = policy.recommend(features, str(task), previous)
    except Exception as error:
        return Fallback("controller_error", type(error).__name__), None
    if not isinstance(advice, Recommendation):
        return Fallback("invalid_decision", type(advice).__name__), None
    try:
        if not advice.finite:
            return Fallback("invalid_decision"), None
        if not advice.converged:
            return Fallback("not_converged"), None
    except Exception as error:  # its numbers are no numbers
        return Fallback("invalid_decision", type(error).__name__), None
    return None, advice
