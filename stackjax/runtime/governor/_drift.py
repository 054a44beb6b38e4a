"""What a governor watches for drift: tokens, quality, and how turns end."""

from __future__ import annotations

import math
import threading
from typing import Any

from stackjax.runtime.governor._ledger import OpenTurn
from stackjax.runtime.governor._memory import Memory
from stackjax.runtime.policy._drift import DriftChart
from stackjax.runtime.policy._policy import Recommendation
from stackjax.runtime.policy._residuals import Residuals

SHARE_SPREAD = 0.1
"""Least standard deviation of a share: a share of 0 or 1 in a calibration is not known exactly."""
LENGTH_MARGIN = 1.5
"""Shift of the answers' log length that counts, in its standard deviations: a style that asks for
short answers is to move it."""


class DriftWatch:
    """The charts of one calibration; governors with the same memory share their state.

    A turn's token residual is that of the request as it came: what rewriting took out is added to
    what a governed turn used. Governing the traffic of the calibration is then no drift of it.
    Where nobody estimated what was taken out, a governed turn is compared with its own prediction.

    Tool calls, lengths of answers and refusals are those of governed turns, unless the alarm is up
    and no turn is governed.
    """

    def __init__(self, memory: Memory, calibration: Residuals, name: str) -> None:
        self._memory, self._lock = memory, threading.RLock()
        self.charts: dict[str, DriftChart] = {}
        self.take_up(calibration, name)

    def take_up(self, calibration: Residuals, name: str) -> None:
        """Goes on with another calibration, which its fingerprint names."""
        with self._lock:
            self.calibration, self._fact = calibration, f"drift {name}"
            self.charts = _charts(calibration)
            self.sync()

    @property
    def drifting(self) -> tuple[str, ...]:
        """Charts whose alarm is up."""
        return tuple(name for name, chart in self.charts.items() if chart.alarm)

    def sync(self) -> None:
        """Reads the charts as other governors left them."""
        if self._memory.persistent:
            with self._lock:
                self._restore(self._memory.fact(self._fact))

    def reset(self) -> None:
        """Lowers the alarms, for instance after the cause was mended."""
        with self._lock:
            for chart in self.charts.values():
                chart.reset()
            if self._memory.persistent:
                self._memory.keep(self._fact, self._state())

    def turn(self, session: str, turn: OpenTurn, advice: Recommendation) -> None:
        """Shows a finished turn to the charts."""
        found: dict[str, float] = {}
        tokens = self._tokens(turn, advice) if turn.exact and turn.tokens > 0 else None
        if tokens is not None:
            found["tokens"] = tokens
        if turn.followed or self.drifting:
            found["tool_use"] = float(turn.tool_calls > 0)
            found["refusals"] = float(turn.refused)
            if turn.exact:
                found["answer_length"] = math.log1p(turn.completion_tokens)
        self._update(session, found)

    def rated(self, session: str, turn: OpenTurn, advice: Recommendation, quality: float) -> None:
        """Shows a rating to its chart."""
        predicted = advice.quality if turn.followed else advice.untouched_quality
        if predicted is None and self.drifting:
            predicted = advice.reference_quality
        if predicted is not None:
            self._update(session, {"quality": quality - predicted})

    def _tokens(self, turn: OpenTurn, advice: Recommendation) -> float | None:
        own = advice.untouched_tokens
        if turn.followed and (turn.removed is None or own is None):
            return _log_ratio(turn.tokens, advice.tokens)
        if own is not None:
            return _log_ratio(turn.tokens + (turn.removed or 0.0), own)
        # Such a policy says nothing of untouched turns: they are watched for recovery only.
        return _log_ratio(turn.tokens, advice.reference_tokens) if self.drifting else None

    def _update(self, session: str, residuals: dict[str, float]) -> None:
        def change(state: Any) -> Any:
            self._restore(state)
            for name, value in residuals.items():
                if name in self.charts:
                    self.charts[name].update(session, value)
            return self._state()

        with self._lock:
            if self._memory.persistent:
                self._memory.revise(self._fact, change)
            else:
                change(None)

    def _state(self) -> dict[str, Any]:
        return {name: chart.state() for name, chart in self.charts.items()}

    def _restore(self, state: Any) -> None:
        for name, kept in (state or {}).items():
            if name in self.charts:
                self.charts[name].restore(kept)


def _log_ratio(used: float, predicted: float) -> float:
    return math.log(max(used, 1.0) / max(predicted, 1.0))


def _charts(calibration: Residuals) -> dict[str, DriftChart]:
    charts = {
        "tokens": DriftChart(
            calibration.token_mean, calibration.token_spread, wander=calibration.token_wander
        )
    }
    if calibration.rated != 0:
        charts["quality"] = DriftChart(
            calibration.quality_mean, calibration.quality_spread, wander=calibration.quality_wander
        )
    known = calibration.behaviour
    if known is not None:
        for name, share in (("tool_use", known.tool_share), ("refusals", known.refusal_share)):
            spread = max(math.sqrt(share * (1.0 - share)), SHARE_SPREAD)
            charts[name] = DriftChart(share, spread)
        charts["answer_length"] = DriftChart(
            known.answer_mean, known.answer_spread, margin=LENGTH_MARGIN
        )
    return charts
