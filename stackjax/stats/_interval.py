"""The interval of every estimate."""

from __future__ import annotations

from typing import Any, NamedTuple


class Interval(NamedTuple):
    """An estimate and its confidence interval: floats, or arrays of one shape.

    Attributes:
      estimate: the number.
      low: the lower end of its interval, in the same unit.
      high: the upper end.

    Example:
      >>> found = sj.stats.Interval(0.5, low=0.4, high=0.6)
      >>> estimate, low, high = found
      >>> low < 0 < high  # could it be 0?
      False
    """

    estimate: Any
    low: Any
    high: Any
