"""Counts of what agrees and what does not."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Tally:
    """Counts of one kind in one precision.

    Attributes:
      kind: its name.
      dtype: its name.
      games: how many were asked.
      converged: how many came with the flag.
      wrong: converged, and the value is off.
      slopes: how many derivatives were compared: converged, right and not degenerate.
      wrong_slopes: forward or reverse derivatives that are off.
      wrong_seconds: second derivatives that are off.
      degenerate: left out of the comparison of derivatives.
      unproved: the oracle has no answer.
      not_finite: a value or derivative that is not a number.
      not_unique: converged and strongly concave, but not called unique.
      missed: leaders only: converged to an optimum that is local, while another is better.
      flags: with units, how many flags differ from those without.
      worst: the largest error of a converged value, in tolerances.
      smallest: the failing instance of the fewest digits, if there is one.
    """

    kind: str
    dtype: str
    games: int = 0
    converged: int = 0
    wrong: int = 0
    slopes: int = 0
    wrong_slopes: int = 0
    wrong_seconds: int = 0
    degenerate: int = 0
    unproved: int = 0
    not_finite: int = 0
    not_unique: int = 0
    missed: int = 0
    flags: int = 0
    worst: float = 0.0
    smallest: dict[str, Any] | None = None

    def __add__(self, other: Tally) -> Tally:
        """The sum of counts."""
        total = dataclasses.replace(self)
        for field in dataclasses.fields(Tally)[2:-2]:
            setattr(total, field.name, getattr(self, field.name) + getattr(other, field.name))
        total.worst = max(self.worst, other.worst)
        total.smallest = self.smallest or other.smallest
        return total

    @property
    def unconverged(self) -> int:
        """How many came without the flag."""
        return self.games - self.converged
