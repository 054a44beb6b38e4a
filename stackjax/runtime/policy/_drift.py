"""Drift of the predictions: a chart whose observations are sessions, and whose alarm recovers."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stackjax._arrays.arguments import check_count, check_within

CLIP = 6.0
"""Standard deviations at which one residual is clipped: one odd turn is no drift."""
MEMORY = 8
"""Turns that a session's running mean remembers, and least number of turns before an alarm."""


@dataclass
class DriftChart:
    """Watches the mean residual of the recent sessions.

    With z a residual in units of its calibrated standard deviation, clipped to [-6, 6], every
    session has a running mean of its last turns. `level` is the mean of these over the n sessions
    seen last, n at most `window`. The alarm rises when

        |level| > wander max(margin, strength / sqrt(n)),

    and lowers when `|level|` is at most half of that. Residuals of one session may depend on each
    other in any way: a weighted mean of them has at most the variance of one, so that `level` has
    a standard deviation of at most 1 / sqrt(n) if sessions are independent. Where they are not,
    `wander` is how much more the level moved on the traffic of the calibration.

    It lowers after one such turn, and after twice as many in a row each time that it has come back,
    up to 256.

    Attributes:
      mean: Calibrated mean of the residual.
      spread: Its calibrated standard deviation.
      margin: Least shift, in standard deviations, that counts.
      strength: Standard deviations of the level beyond which it has moved.
      wander: Factor of the threshold, at least 1.
      window: Sessions that are remembered.
      alarm: Whether the alarm is up.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If spread, margin or strength is not positive, wander below 1, or window below 2.

    Example:
      >>> chart = DriftChart(0.0, 1.0)
      >>> [chart.update(f"session-{n % 4}", 3.0) for n in range(9)]
      [False, False, False, False, False, False, False, True, True]
      >>> [chart.update(f"session-{n % 4}", 0.0) for n in range(24)][-1]
      False
    """

    mean: float
    spread: float
    margin: float = 0.5
    strength: float = 4.0
    wander: float = 1.0
    window: int = 32
    alarm: bool = False
    recent: OrderedDict[str, tuple[float, int]] = field(default_factory=OrderedDict)
    turns: int = 0
    raised: int = 0
    calm: int = 0

    def __post_init__(self) -> None:
        check_within("spread", self.spread, "(0, inf)")
        check_within("margin", self.margin, "(0, inf]")
        check_within("strength", self.strength, "(0, inf]")
        check_within("wander", self.wander, "[1, inf)")
        check_count("window", self.window, least=2)

    @property
    def level(self) -> float:
        """Mean over the recent sessions, in standard deviations; 0 without any."""
        values = [mean for mean, _ in self.recent.values()]
        return sum(values) / len(values) if values else 0.0

    @property
    def threshold(self) -> float:
        """Level at which the alarm rises."""
        return self.wander * max(self.margin, self.strength / math.sqrt(max(len(self.recent), 1)))

    def update(self, session: str, residual: float) -> bool:
        """Adds a turn's residual and returns whether the alarm is up; not finite counts as 6."""
        z = (residual - self.mean) / self.spread if math.isfinite(residual) else CLIP
        z = min(max(z, -CLIP), CLIP)
        mean, count = self.recent.pop(session, (0.0, 0))
        count = min(count + 1, MEMORY)
        self.recent[session] = mean + (z - mean) / count, count
        while len(self.recent) > self.window:
            self.recent.popitem(last=False)
        self.turns += 1
        level, threshold = abs(self.level), self.threshold
        if not self.alarm and self.turns >= MEMORY and level > threshold:
            self.alarm, self.raised, self.calm = True, self.raised + 1, 0
        elif self.alarm:
            self.calm = self.calm + 1 if level <= threshold / 2 else 0
            if self.calm >= 2 ** min(self.raised - 1, 8):
                self.alarm, self.calm = False, 0
        return self.alarm

    def reset(self) -> None:
        """Starts again without an alarm and without memory."""
        self.recent.clear()
        self.alarm, self.turns, self.raised, self.calm = False, 0, 0, 0

    def state(self) -> dict[str, Any]:
        """What `restore` takes, plain JSON."""
        recent = [[name, round(mean, 6), count] for name, (mean, count) in self.recent.items()]
        kept = {name: getattr(self, name) for name in ("alarm", "turns", "raised", "calm")}
        return {**kept, "recent": recent}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up where another chart of the same calibration was."""
        self.recent = OrderedDict((name, (mean, count)) for name, mean, count in state["recent"])
        self.alarm, self.turns = bool(state["alarm"]), int(state["turns"])
        self.raised, self.calm = int(state["raised"]), int(state["calm"])


def wander_of(sessions: list[str], residuals: list[float], mean: float, spread: float) -> float:
    """The factor at which a chart stays without an alarm on these residuals, in their order."""
    chart, most = DriftChart(mean, spread, strength=math.inf), 0.0
    usual = DriftChart(mean, spread)
    for session, residual in zip(sessions, residuals, strict=True):
        chart.update(session, residual)
        usual.recent = chart.recent
        if chart.turns >= MEMORY:
            most = max(most, abs(chart.level) / usual.threshold)
    return max(1.0, 1.25 * most)
