"""Counters of a governor, and their Prometheus form."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)
"""Upper bounds of the decision latency's buckets, in seconds."""

_HELP = {
    "decisions": ("Decisions by roll-out and arm", ("rollout", "arm")),
    "fallbacks": ("Decisions that fell back, by reason", ("reason",)),
    "turns": ("Finished turns by arm and outcome", ("arm", "outcome")),
    "tokens": ("Tokens, estimated where the upstream does not count them", ("arm", "kind")),
    "reference_tokens": (
        "T_0, predicted for the reference policy, on governed turns that were counted",
        (),
    ),
    "governed_tokens": ("Tokens used on the same turns", ()),
    "cached_tokens": ("Prompt tokens that the upstream read from a cache", ("arm",)),
    "ungoverned": ("Requests to a model that passed ungoverned, by path", ("path",)),
    "rewrites": ("Requests changed, by what was changed", ("change",)),
    "rejected_rewrites": ("Rewritten requests sent again as they came", ()),
    "unrecorded": ("Records lost because the writer was behind or failed", ()),
    "requests": ("Requests through the proxy by class of status", ("status",)),
}


_Counted = tuple[str, tuple[str, ...]]  # a counter's name and labels


class Metrics:
    """Counts by name and labels; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[_Counted] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Adds to a counter.

        Raises:
          KeyError: If there is no such counter.
        """
        if len(labels) != len(_HELP[name][1]):
            raise ValueError(f"`labels` of {name} must be {_HELP[name][1]}; got {labels}.")
        with self._lock:
            self._counts[name, labels] += by  # pyright: ignore[reportArgumentType]

    def time(self, seconds: float) -> None:
        """Adds a decision's latency."""
        bucket = sum(seconds > bound for bound in BUCKETS)
        with self._lock:
            self._buckets[bucket] += 1
            self._seconds += seconds

    def value(self, name: str, *labels: str) -> float:
        """A counter's value; 0 if it was never counted."""
        return float(self._counts.get((name, labels), 0.0))

    def by_label(self, name: str) -> dict[str, float]:
        """A counter's values by their labels, joined by a slash."""
        with self._lock:
            found = [(key, v) for key, v in self._counts.items() if key[0] == name]
        return {"/".join(labels): float(v) for (_, labels), v in found}

    def state(self) -> tuple[dict[_Counted, float], list[int], float]:
        """Counters, latencies by bucket, and their sum in seconds, all of one moment."""
        with self._lock:
            return dict(self._counts), list(self._buckets), self._seconds

    @property
    def saved_tokens(self) -> float:
        """Predicted reference tokens minus used tokens, over governed turns: a counterfactual."""
        return self.value("reference_tokens") - self.value("governed_tokens")

    def prometheus(self, gauges: Mapping[str, float] | None = None) -> bytes:
        """The metrics in Prometheus' text format.

        Raises:
          ImportError: If `prometheus_client` is not installed (extra `llm`).
        """
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError as error:
            raise ImportError(
                "The metrics need prometheus-client: `pip install prometheus-client`."
            ) from error
        registry = CollectorRegistry()
        registry.register(_Collector(self, gauges or {}))
        return generate_latest(registry)


class _Collector:
    """What prometheus_client asks for its families."""

    def __init__(self, metrics: Metrics, gauges: Mapping[str, float]) -> None:
        self._metrics, self._gauges = metrics, gauges

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        counts, buckets, seconds = self._metrics.state()
        for name, (text, labels) in _HELP.items():
            family = CounterMetricFamily(f"stackjax_{name}", text, labels=labels)
            if not labels:
                counts.setdefault((name, ()), 0)
            for (counter, values), value in counts.items():
                if counter == name:
                    family.add_metric(values, value)
            yield family
        bounds, total = [], 0
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
            total += count
            bounds.append((bound, total))
        histogram = HistogramMetricFamily("stackjax_decision_seconds", "Decision latency")
        histogram.add_metric([], buckets=bounds, sum_value=seconds)
        yield histogram
        gauges = {"counterfactual_saved_tokens": self._metrics.saved_tokens, **self._gauges}
        for name, value in gauges.items():
            yield GaugeMetricFamily(f"stackjax_{name}", name.replace("_", " "), value=value)
