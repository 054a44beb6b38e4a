"""Drift of the predictions: two-sided cumulative sums of standardised residuals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stackjax._arrays.arguments import check_within


@dataclass
class Cusum:
    """A two-sided cumulative-sum chart.

    With z the residual in units of its calibrated standard deviation, clipped to [-4, 4], high is
    max(0, high + z - slack) and low is max(0, low - z - slack); the alarm rises when either exceeds
    `threshold` and stays until `reset`. For independent normal residuals without drift, slack 0.5
    and threshold 8 a false alarm comes about every 8,000 turns, and a shift of one standard
    deviation is found after about 17 (Siegmund's approximation).

    Attributes:
      mean: Calibrated mean of the residual.
      spread: Its calibrated standard deviation.
      slack: Half of the shift, in standard deviations, that should be found.
      threshold: Sum at which the alarm rises, in standard deviations.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If spread or threshold is not positive, or slack is negative.

    Source: Page, Biometrika 41, 1954.

    Example:
      >>> chart = Cusum(0.0, 1.0)
      >>> [chart.update(2.0) for _ in range(6)]
      [False, False, False, False, False, True]
    """

    mean: float
    spread: float
    slack: float = 0.5
    threshold: float = 8.0
    high: float = 0.0
    low: float = 0.0
    count: int = 0
    alarm: bool = False

    def __post_init__(self) -> None:
        check_within("spread", self.spread, "(0, inf]")
        check_within("threshold", self.threshold, "(0, inf]")
        check_within("slack", self.slack, "[0, inf]")

    def update(self, residual: float) -> bool:
        """Adds a residual and returns whether the alarm is up; one that is not finite is 4."""
        z = (residual - self.mean) / self.spread if math.isfinite(residual) else 4.0
        # One odd turn is no drift: without a bound a single outlier would raise the alarm.
        z = min(max(z, -4.0), 4.0)
        self.count += 1
        self.high = max(0.0, self.high + z - self.slack)
        self.low = max(0.0, self.low - z - self.slack)
        self.alarm = self.alarm or max(self.high, self.low) > self.threshold
        return self.alarm

    def reset(self) -> None:
        """Starts again without an alarm."""
        self.high = self.low = 0.0
        self.count, self.alarm = 0, False
