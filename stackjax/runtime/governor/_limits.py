"""When a policy is followed: limits, and the checks around one recommendation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stackjax._arrays.arguments import check_type, check_within
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.governor._metadata import SessionMetadata
from stackjax.runtime.policy._decision import Fallback
from stackjax.runtime.policy._policy import UNTOUCHED, Recommendation, Residuals

Cell = tuple[float, float, float]


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
      pool_budget: Tokens that the sessions of one pool may use together in one window; None for no
        limit.
      pool_window: Seconds of a pool's window; windows are counted from 1970, so that a day begins
        at midnight UTC.
      hard_budget: What happens to a governed session when a budget is spent. False: its requests
        are sent at the cheapest cell that is allowed. True: none is sent, `TurnDecision.refusal`
        says why. Sessions that a roll-out leaves alone are left alone, and requests that are under
        way are not counted yet.
      keep_tools: Whether tools stay with an agent that may have to call one: a request that offers
        tools keeps them until its turn has made as many calls as the successful turns of its task
        type did in the calibration (all the time, where that is not known). False: as the policy
        says.
      rewrite_deadline: Seconds that the agent waits for the rewriting of a request at most.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a deadline, max_age or window is not positive or a deadline infinite, slack
        negative, budget_floor NaN, or a budget not positive.

    Example:
      >>> Limits().deadline
      0.005
    """

    deadline: float = 0.005
    max_age: float = 90 * 86400.0
    slack: float = 1.0
    budget_floor: float = 0.0
    token_budget: float | None = None
    pool_budget: float | None = None
    pool_window: float = 86400.0
    hard_budget: bool = False
    keep_tools: bool = True
    rewrite_deadline: float = 0.1

    def __post_init__(self) -> None:
        for name in ("deadline", "rewrite_deadline", "pool_window"):
            check_within(name, getattr(self, name), "(0, inf)")
        for name in ("hard_budget", "keep_tools"):
            check_type(name, getattr(self, name), bool, "True or False")
        check_within("max_age", self.max_age, "(0, inf]")
        check_within("slack", self.slack, "[0, inf]")
        check_within("budget_floor", self.budget_floor, "[-inf, inf]")
        for name in ("token_budget", "pool_budget"):
            if getattr(self, name) is not None:
                check_within(name, getattr(self, name), "(0, inf]")


DEFAULT_LIMITS = Limits()


def advise(
    policy: Recommender,
    limits: Limits,
    task: str | None,
    features: Mapping[str, float],
    missing: tuple[str, ...],
    previous: Sequence[float],
) -> tuple[Fallback | None, Recommendation | None]:
    """A recommendation that may be followed, or the reason why there is none; never raises."""
    if task not in TASK_TYPES:
        missing = (*missing, "task")
    if missing:
        return Fallback("missing_feature", ", ".join(missing)), None
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


CHEAPEST = (0.0, 0.0, 0.0)


def cheapest_cell(policy: Recommender, advice: Recommendation | None) -> Cell:
    """The cheapest cell that is allowed: at this state, or at any if it is not known."""
    if advice is not None and advice.cheapest is not None:
        return advice.cheapest
    known: Any = policy
    floor: Cell | None = known.floor if hasattr(known, "floor") else CHEAPEST
    return UNTOUCHED if floor is None else floor  # None: no cell is allowed at every state


def never_worse(advice: Recommendation) -> Cell:
    """The advice's cell, or the request as it came where that is predicted to cost less."""
    own = advice.untouched_tokens
    return UNTOUCHED if own is not None and advice.tokens > own else advice.response


def with_tools(cell: Cell, policy: Recommender, session: SessionMetadata, called: int) -> Cell:
    """The cell with all tools left in, while the turn may need a call that it has not made.

    Args:
      cell: What is to be carried out.
      policy: Whose calibration says how many calls the successful turns of a task made.
      session: The request.
      called: Calls that the turn is known to have made.
    """
    if not session.tools or cell[2] == 1.0:
        return cell
    behaviour = policy.calibration.behaviour
    needed = None if behaviour is None else behaviour.needed(session.task)
    made = max(called, session.tool_calls or 0)
    return cell if needed is not None and made >= needed else (cell[0], cell[1], 1.0)
