"""The state of a governor as an operator reads it."""

from __future__ import annotations

from typing import Any

from stackjax.runtime.governor._deadline import DeadlineWorker
from stackjax.runtime.governor._limits import Limits, Recommender
from stackjax.runtime.governor._metrics import Metrics
from stackjax.runtime.governor._observer import Observer


def state_of(
    policy: Recommender,
    limits: Limits,
    observer: Observer,
    worker: DeadlineWorker,
    metrics: Metrics,
) -> dict[str, Any]:
    """Alarms, verdict, fingerprint, fallbacks and estimates; plain JSON."""
    age = policy.calibration.age()
    alarms = [f"drift: {name}" for name in observer.drifting]
    alarms += ["stale calibration"] if age > limits.max_age else []
    alarms += ["controller stuck"] if worker.stuck else []
    alarms += ["stopped for harm"] if observer.harmed else []
    return {
        "status": "degraded" if alarms else "ok",
        "alarms": alarms,
        "verdict": observer.verdict,
        "fingerprint": {k: v[:12] for k, v in policy.fingerprint.items()},
        "calibration_age_days": round(age / 86400.0, 2),
        "fallbacks": metrics.by_label("fallbacks"),
        "estimated_saved_tokens": round(metrics.saved_tokens, 1),
    }
