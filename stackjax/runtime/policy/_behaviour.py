"""How the turns of some traffic end: tool calls, lengths of answers, refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape, check_within
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._tasks import TASK_TYPES


@dataclass(frozen=True)
class Behaviour:
    """How turns ended that a policy was calibrated on.

    Attributes:
      tool_calls: By task type, the most tool calls that a successful turn used; -1 where there was
        no successful turn. A turn that nobody rated counts as successful if it was answered.
      tool_share: Share of turns with a tool call.
      answer_mean: Mean of log(1 + tokens written).
      answer_spread: Its standard deviation.
      refusal_share: Share of turns whose last answer was refused by the model or a filter.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a share is not in [0, 1], a number not finite, or the spread not positive.

    Example:
      >>> Behaviour((2, -1, -1, -1, -1, -1), 0.5, 4.0, 0.3, 0.0).needed("casual_chat")
      2
    """

    tool_calls: tuple[int, ...]
    tool_share: float
    answer_mean: float
    answer_spread: float
    refusal_share: float

    def __post_init__(self) -> None:
        check_shape("tool_calls", self.tool_calls, (len(TASK_TYPES),))
        check_all_within("tool_calls", self.tool_calls, "[-1, inf)")
        check_within("tool_share", self.tool_share, "[0, 1]")
        check_within("answer_mean", self.answer_mean, "[0, inf)")
        check_within("answer_spread", self.answer_spread, "(0, inf)")
        check_within("refusal_share", self.refusal_share, "[0, 1]")

    def needed(self, task: str | None) -> int | None:
        """Tool calls that a turn of this task may need; None if no successful turn was seen."""
        if task not in TASK_TYPES:
            return None
        most = self.tool_calls[TASK_TYPES.index(task)]
        return None if most < 0 else int(most)


def measure_behaviour(rows: Sequence[TurnRecord]) -> Behaviour:
    """The behaviour in at least 2 answered turns."""
    most = dict.fromkeys(TASK_TYPES, -1)
    for row in rows:
        quality = row.extra.get("quality")
        if row.task in most and (quality is None or quality >= 0.5):
            most[row.task] = max(most[row.task], row.tool_calls)
    lengths = np.array([math.log1p(row.completion_tokens) for row in rows])
    return Behaviour(
        tool_calls=tuple(most.values()),
        tool_share=float(np.mean([row.tool_calls > 0 for row in rows])),
        answer_mean=float(lengths.mean()),
        answer_spread=float(max(lengths.std(ddof=1), 0.1)),
        refusal_share=float(np.mean([bool(row.extra.get("refused")) for row in rows])),
    )
