"""A rule-based follower, as many agent runtimes have: resources from thresholds and habits.

It is follower (a) of the experiments and the source of demonstrations. It maximises nothing: its
mean response is a fixed function of the leader's signal and the session's state, with noise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

Response = tuple[float, float, float]


@dataclass(frozen=True)
class HeuristicExecutor:
    """Chooses (context, prompt, tools) by rules with noise.

    With z = (q - 0.6) / 0.35 clipped to [0, 1], d the complexity, k the session's mean tokens a
    turn over 300, clipped to [0, 2], m the lack of model health and b the overdraft
    pressure (0 when more than half of the budget is left, 1 when none is):

    - context  = 0.15 + 0.35 z + 0.20 alpha + 0.35 d - 0.10 k - 0.20 b
    - prompt   = 0.10 + 0.40 z + 0.20 alpha + 0.20 d + 0.20 (0.5 - recent quality)
               - 0.10 k - 0.15 b
    - tools    = -0.05 + 0.20 z + 0.30 alpha + 0.55 d - 0.10 k - 0.20 b - 0.20 m

    each plus N(0, noise^2), clipped to [0, 1].

    Attributes:
      noise: Standard deviation of the noise.

    Raises:
      ValueError: If `noise` is negative.

    Example:
      >>> state = dict(task_complexity=0.5, mean_tokens=0.0, budget=1.0, recent_quality=0.5,
      ...     model_condition=1.0)
      >>> follower = sj.agents.executor.HeuristicExecutor()
      >>> [round(level, 3) for level in follower.mean((0.95, 0.5), state)]
      [0.775, 0.7, 0.575]
    """

    noise: float = 0.12

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"noise must not be negative, got {self.noise}")

    def mean(self, signal: tuple[float, float], state: Mapping[str, float]) -> Response:
        """Returns the response without noise.

        Args:
          signal: The leader's (q, alpha).
          state: Raw features of the session.

        Raises:
          ValueError: If the signal is not two finite numbers in [0, 1].
        """
        if len(signal) != 2 or not all(math.isfinite(v) and 0 <= v <= 1 for v in signal):
            raise ValueError(f"signal must be (q, alpha), both in [0, 1], got {signal}")
        z, alpha = _clip((signal[0] - 0.6) / 0.35), signal[1]
        d, k = state["task_complexity"], min(state["mean_tokens"] / 300.0, 2.0)
        b = _clip(1.0 - 2.0 * state["budget"])
        context = 0.15 + 0.35 * z + 0.20 * alpha + 0.35 * d - 0.10 * k - 0.20 * b
        prompt = 0.10 + 0.40 * z + 0.20 * alpha + 0.20 * d - 0.10 * k - 0.15 * b
        prompt += 0.20 * (0.5 - state["recent_quality"])
        tools = -0.05 + 0.20 * z + 0.30 * alpha + 0.55 * d - 0.10 * k - 0.20 * b
        tools -= 0.20 * (1.0 - state["model_condition"])
        return _clip(context), _clip(prompt), _clip(tools)

    def respond(
        self, signal: tuple[float, float], state: Mapping[str, float], rng: random.Random
    ) -> Response:
        """Returns the mean response plus noise from `rng`, clipped to [0, 1]."""
        c, p, u = (_clip(v + rng.gauss(0.0, self.noise)) for v in self.mean(signal, state))
        return c, p, u


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
