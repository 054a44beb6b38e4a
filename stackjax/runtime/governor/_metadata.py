"""What a policy is told of a session, and how its accounts complete it."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from typing import Any

from stackjax.agents.game._state import FIELDS
from stackjax.runtime.governor._ledger import Account


@dataclass(frozen=True)
class SessionMetadata:
    """What the agent knows before a model step. A field that is None comes from the accounts.

    Attributes:
      identifier: The session's name; never written anywhere.
      task: Task type, one of `stackjax.agents.tasks._tasks.TASK_TYPES`.
      task_complexity: In [0, 1]; NaN where nobody can tell, see `Policy.recommend`.
      context_tokens: Tokens of the history that could be sent.
      turn_index: 0 at the session's first turn; failed turns count.
      mean_tokens: Mean tokens a turn so far.
      recent_quality: Recent quality in [0, 1].
      token_trend: Change between the last two turns' tokens, over `mean_tokens`.
      model_condition: 1 healthy, lowered by failures.
      budget: Share of the session's token budget that is left.
      earlier_turns: Turns before this one that the request shows, for a session that is older
        than its accounts; `turn_index` goes first.
      calls: Model calls of this turn before this one, of those that asked for tools; 0 at a user's
        message. None where calls and turns are the same.
      tool_calls: Results of tools that the request's newest turn shows.
      tools: Whether the request offers tools; None if that is not known.
      pool: Name of the pool of tokens that the session draws on, if there is a budget for pools;
        never written anywhere. None: the one that all unnamed sessions share.

    Raises:
      ValueError: If the identifier is not a non-empty string.

    Example:
      >>> SessionMetadata("session-7", task="data_analysis", context_tokens=180).task
      'data_analysis'
    """

    identifier: str = field(repr=False)
    task: str | None = None
    task_complexity: float | None = None
    context_tokens: float | None = None
    turn_index: float | None = None
    mean_tokens: float | None = None
    recent_quality: float | None = None
    token_trend: float | None = None
    model_condition: float | None = None
    budget: float | None = None
    earlier_turns: float | None = None
    calls: int | None = None
    tool_calls: int | None = None
    tools: bool | None = None
    pool: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        identifier: Any = self.identifier
        if not isinstance(identifier, str) or not identifier:
            kind = type(identifier).__name__
            raise ValueError(f"`identifier` must be a non-empty string; got {kind}.")


def complete(
    session: SessionMetadata, account: Account, token_budget: float | None, left: float = 1.0
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The eight numeric features, and the names of those that are missing or not finite.

    Args:
      session: What the agent told.
      account: What its turns measured.
      token_budget: Tokens that the session may use; None for no limit.
      left: Share of the budgets that is left, over restarts and pauses.
    """
    known = account.accounts.measured(token_budget)
    known["budget"] = min(known["budget"], left)
    known["turn_index"] = max(known["turn_index"], session.earlier_turns or 0)
    values, missing = {}, []
    for name in FIELDS:
        given = getattr(session, name)
        value: Any = known.get(name) if given is None else given
        number = not isinstance(value, bool) and isinstance(value, numbers.Real)
        unknown = number and name == "task_complexity" and math.isnan(float(value))
        if not number or not (unknown or math.isfinite(value)):
            missing.append(name)
        else:
            values[name] = float(value)
    return values, tuple(missing)
