"""What is measured of a session as it goes on: one rule for collecting, training and serving.

A turn that failed is a turn. It costs what it used: the tokens were spent, and a budget that
forgot them would be overspent. It is never right, so that recent quality falls. And it lowers the
model's condition. An outcome that nobody tells leaves recent quality as it is.

Numbers may be Python's or arrays, which can be traced and differentiated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

QUALITY_DECAY = 0.6
HEALTH_RECOVERY = 0.3
START_QUALITY = 0.5
"""Recent quality before the first outcome."""


class Accounts(NamedTuple):
    """A session's running accounts.

    Attributes:
      turn_index: turns finished, failed ones among them.
      total_tokens: tokens used.
      last_tokens: tokens of the last turn, 0 before the first.
      previous_tokens: tokens of the turn before it, 0 before the second.
      recent_quality: exponential mean of the outcomes.
      model_condition: 1 healthy; halved by a failed turn, recovering by 0.3 of the gap a good turn.

    Source: arXiv 2606.23026, eq. (1), (7).
    """

    turn_index: Any = 0
    total_tokens: Any = 0
    last_tokens: Any = 0
    previous_tokens: Any = 0
    recent_quality: Any = START_QUALITY
    model_condition: Any = 1.0

    def after(self, tokens: Any, *, correct: Any = None, failed: Any = 0.0) -> Accounts:
        """The accounts after one more turn.

        Args:
          tokens: what the turn used.
          correct: 1 or 0, or the probability of 1; 0 or a small one where the turn (probably)
            failed; None if it is not known.
          failed: 1 if the executor fell back to another answer, or the probability.
        """
        condition, gap = self.model_condition, 1 - self.model_condition
        change = failed * -0.5 * condition + (1 - failed) * HEALTH_RECOVERY * gap
        return Accounts(
            turn_index=self.turn_index + 1,
            total_tokens=self.total_tokens + tokens,
            last_tokens=tokens,
            previous_tokens=self.last_tokens,
            recent_quality=self.recent_quality,
            model_condition=condition + change,
        ).rated(correct)

    def rated(self, correct: Any) -> Accounts:
        """The accounts once the last turn's outcome is known; None if it is not."""
        if correct is None:
            return self
        change = (1 - QUALITY_DECAY) * (correct - self.recent_quality)
        return self._replace(recent_quality=self.recent_quality + change)

    def measured(self, token_budget: Any = None) -> dict[str, Any]:
        """The six numbers of a `State` that follow from the accounts.

        Args:
          token_budget: tokens that the session may use; None for no limit.
        """
        turns = self.turn_index
        mean = self.total_tokens / _where(turns > 0, turns, 1)
        # Two turns make a trend. A mean of 0 tokens has none; no derivative may come from there.
        known = (turns >= 2) & (mean > 0)
        change = self.last_tokens - self.previous_tokens
        return {
            "turn_index": turns,
            "mean_tokens": mean,
            "recent_quality": self.recent_quality,
            "token_trend": _where(known, change / _where(known, mean, 1.0), 0.0),
            "model_condition": self.model_condition,
            "budget": 1.0 if token_budget is None else 1 - self.total_tokens / token_budget,
        }


def _where(condition: Any, value: Any, other: Any) -> Any:
    """As `jnp.where`, without arrays for Python's numbers: serving has a few microseconds."""
    if isinstance(condition, jax.Array):
        return jnp.where(condition, value, other)
    return value if condition else other
