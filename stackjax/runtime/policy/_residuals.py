"""How well a policy's predictors do on some traffic, and where they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import jax
import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape, check_within
from stackjax.agents.game._state import FIELDS
from stackjax.agents.log._turns import Turns
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.runtime.policy._behaviour import Behaviour
from stackjax.runtime.policy._drift import wander_of

COMPLEXITY = "task_complexity"


@dataclass(frozen=True)
class Residuals:
    """How well the predictors did on turns that were not fitted, and where they were fitted.

    Without a rated turn the quality's numbers are 0 and 0.5, and nothing is concluded from them.

    Attributes:
      token_mean: Mean of log(used / predicted tokens).
      token_spread: Its standard deviation.
      quality_mean: Mean of measured minus predicted quality.
      quality_spread: Its standard deviation.
      turns: Turns behind the four numbers.
      low: The least value of each numeric feature (order of `FIELDS`) among these turns.
      high: The largest.
      time: When it was made, ISO 8601 with a time zone.
      rated: Turns of them with a quality; None: all.
      token_wander: How much more the mean token residual of recent sessions moved than it does for
        independent sessions, at least 1; see `DriftChart`.
      quality_wander: The same of the quality.
      behaviour: How the turns ended, None if it was not measured.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a number is not finite, a spread not positive, a wander below 1, or the time
        not as said.

    Example:
      >>> low, high, time = (0.0,) * 8, (1.0,) * 8, "2026-01-05T00:00:00+00:00"
      >>> found = Residuals(0.0, 0.3, 0.0, 0.4, 90, low, high, time)
      >>> found.outside(dict.fromkeys(FIELDS, 0.5) | {"budget": 3.0}, 1.0)
      ('budget',)
    """

    token_mean: float
    token_spread: float
    quality_mean: float
    quality_spread: float
    turns: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    time: str
    rated: int | None = None
    token_wander: float = 1.0
    quality_wander: float = 1.0
    behaviour: Behaviour | None = None

    def __post_init__(self) -> None:
        for name in ("token", "quality"):
            check_within(f"{name}_wander", getattr(self, f"{name}_wander"), "[1, inf)")
            check_within(f"{name}_mean", getattr(self, f"{name}_mean"), "(-inf, inf)")
            check_within(f"{name}_spread", getattr(self, f"{name}_spread"), "(0, inf)")
        for name in ("low", "high"):
            check_shape(name, getattr(self, name), (len(FIELDS),))
            check_all_within(name, getattr(self, name), "(-inf, inf)")
        if datetime.fromisoformat(self.time).tzinfo is None:
            raise ValueError(f"`time` must name its zone; got {self.time!r}.")

    def age(self, now: datetime | None = None) -> float:
        """Seconds since it was made."""
        now = datetime.now(UTC) if now is None else now
        return (now - datetime.fromisoformat(self.time)).total_seconds()

    def outside(self, numbers: Mapping[str, float], slack: float) -> tuple[str, ...]:
        """The features that lie outside of the calibrated range by more than `slack` ranges.

        A complexity that is unknown (NaN) is not.
        """
        found = []
        for name, low, high in zip(FIELDS, self.low, self.high, strict=True):
            if name == COMPLEXITY and math.isnan(numbers[name]):
                continue
            room = slack * max(high - low, 1e-6)
            if not low - room <= numbers[name] <= high + room:
                found.append(name)
        return tuple(found)


def in_support(
    calibration: Residuals, states: Sequence[Mapping[str, float]], slack: float = 1.0
) -> float:
    """Share of the recorded states that are complete and lie within the calibrated ranges."""
    inside = [
        set(FIELDS) <= set(state) and not calibration.outside(state, slack) for state in states
    ]
    return sum(inside) / max(len(inside), 1)


def measure_residuals(surrogate: Surrogate, turns: Turns, *, time: str | None = None) -> Residuals:
    """Measures the residuals of the predictors on N turns that they were not fitted to.

    Args:
      surrogate: The predictors.
      turns: At least 2 turns with positive tokens; `correct` is NaN where no quality is known.
      time: ISO 8601 with a zone; now if None.

    Raises:
      ValueError: If there are fewer than 2 turns, or a turn without tokens.

    Example:
      >>> held_out = sj.agents.log.turn_arrays(known_world.records())
      >>> found = measure_residuals(known_world.surrogate(), held_out)
      >>> found.turns, abs(found.token_mean) < 1e-3  # this world's predictors are right
      (128, True)
    """
    tokens = np.asarray(turns.tokens, float)
    if len(tokens) < 2 or not (tokens > 0).all():
        raise ValueError(f"`turns` must hold at least 2 with positive tokens; got {len(tokens)}.")
    quality, predicted = jax.jit(jax.vmap(surrogate.predict))(turns.state, turns.executed)
    ratio = np.log(tokens) - np.log(np.maximum(np.asarray(predicted, float), 1.0))
    sessions = [str(name) for name in np.asarray(turns.episode)]
    gap = np.asarray(turns.correct, float) - np.asarray(quality, float)
    told = ~np.isnan(gap)
    center, spread = float(ratio.mean()), float(max(ratio.std(ddof=1), 1e-3))
    # A quality lies in [0, 1]: 0.5 is the largest standard deviation that it can have.
    rated = int(told.sum())
    offset = float(gap[told].mean()) if rated >= 2 else 0.0
    noise = float(max(gap[told].std(ddof=1), 1e-3)) if rated >= 2 else 0.5
    judged = [name for name, known in zip(sessions, told, strict=True) if known]
    numbers = np.stack([np.asarray(getattr(turns.state, name), float) for name in FIELDS])
    return Residuals(
        token_mean=center,
        token_spread=spread,
        quality_mean=offset,
        quality_spread=noise,
        turns=len(tokens),
        low=tuple(numbers.min(1).tolist()),
        high=tuple(numbers.max(1).tolist()),
        time=datetime.now(UTC).isoformat(timespec="seconds") if time is None else time,
        rated=rated if rated >= 2 else 0,
        token_wander=wander_of(sessions, ratio.tolist(), center, spread),
        quality_wander=wander_of(judged, gap[told].tolist(), offset, noise),
    )
