"""Numbers of the learning curves: times to a target, intervals, a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.common.results import format_table
from experiments.learning.problems import Problem

SECONDS, SAMPLES = 20.0, 50.0  # the targets: so many times fewer than PPO
NEAR = 0.99
LOOK = {"implicit": "C0", "unrolled": "C2", "ES": "C1", "PPO": "C3"}


@dataclasses.dataclass(frozen=True)
class Curves:
    """One method on one problem, by seed.

    Attributes:
      steps: `[S]` finished steps at each snapshot.
      values: `[seeds, S]` mean utility on the held-out contexts.
      seconds: `[seeds]` of the whole run, without compilation.
      samples: a step's.
      compile_seconds: of tracing and compilation.
    """

    steps: np.ndarray
    values: np.ndarray
    seconds: np.ndarray
    samples: int
    compile_seconds: float

    @property
    def clock(self) -> np.ndarray:
        """Seconds of training at each snapshot, `[seeds, S]`; all steps take the same time."""
        return self.seconds[:, None] * self.steps[None] / self.steps[-1]

    @property
    def drawn(self) -> np.ndarray:
        """Samples at each snapshot, `[seeds, S]`."""
        drawn = (self.samples * self.steps).astype(float)
        return np.broadcast_to(drawn, self.values.shape)


class Interval(NamedTuple):
    """An estimate and its 95% interval."""

    estimate: float
    low: float
    high: float


def mean_interval(values: np.ndarray) -> Interval:
    """The mean over seeds `[seeds]`, with Student's interval."""
    mean, error = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    half = stats.t.ppf(0.975, len(values) - 1) * error
    return Interval(float(mean), float(mean - half), float(mean + half))


def median_interval(
    values: np.ndarray, over: np.ndarray | None = None, draws: int = 5000
) -> Interval:
    """The median over seeds, or the ratio `median(over) / median(values)`; a seed bootstrap."""
    generator = np.random.default_rng(0)

    def of(index: np.ndarray) -> np.ndarray:
        return np.median(values[index], axis=-1)

    rows = generator.integers(len(values), size=(draws, len(values)))
    middle, drawn = of(np.arange(len(values))), of(rows)
    if over is not None:
        rows = generator.integers(len(over), size=(draws, len(over)))
        with np.errstate(divide="ignore"):  # there from the beginning
            middle, drawn = np.median(over) / middle, np.median(over[rows], axis=-1) / drawn
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return Interval(float(middle), float(low), float(high))


def first_reach(at: np.ndarray, values: np.ndarray, target: float) -> np.ndarray:
    """Where `at [seeds, S]` the values `[seeds, S]` first are at the target; inf if nowhere."""
    return np.min(np.where(values >= target, at, np.inf), axis=1)


def summarise(
    problem: Problem, middle: float, constant: float, found: Mapping[str, Curves]
) -> dict[str, Any]:
    """One problem's numbers by method; `gain` is 0 in the middle of the box, 1 at the optimum."""
    gain = lambda values: (values - middle) / (problem.optimum - middle)
    ppo = found["PPO"]
    final = float(np.mean(ppo.values[:, -1]))
    # PPO's last per cent may take it long: the same comparison without it.
    aims = {"final": final, "near": middle + NEAR * (final - middle)}
    methods: dict[str, Any] = {}
    for method, curves in found.items():
        last = curves.values[:, -1]
        row: dict[str, Any] = {
            "value": mean_interval(last),
            "gain": mean_interval(gain(last)),
            "value_over_optimum": mean_interval(last / problem.optimum),
            "seconds": mean_interval(curves.seconds),
            "samples": int(curves.drawn[0, -1]),
            "compile_seconds": curves.compile_seconds,
        }
        for aim, value in aims.items():
            for unit, at in (("seconds", "clock"), ("samples", "drawn")):
                mine = first_reach(getattr(curves, at), curves.values, value)
                whole = getattr(ppo, at)
                # PPO's mean is there at the end by definition, whatever a seed does.
                theirs = np.minimum(first_reach(whole, ppo.values, value), whole[:, -1])
                row[f"{unit}_to_ppo_{aim}"] = median_interval(theirs if curves is ppo else mine)
                if curves is not ppo:
                    row[f"{unit}_ratio_ppo_{aim}"] = median_interval(mine, over=theirs)
                row[f"seeds_at_ppo_{aim}"] = int(np.sum(np.isfinite(mine)))
        methods[method] = row
    return {
        "optimum": problem.optimum,
        "optimum_source": problem.source,
        "middle": middle,
        "constant": constant,
        "constant_gain": gain(constant),
        "ppo_final": final,
        "ppo_near": aims["near"],
        "methods": methods,
    }


def targets(results: Mapping[str, Any]) -> list[str]:
    """What was aimed at, a line each, with whether it was reached."""
    lines = []
    for name, problem in results.items():
        row = problem["methods"]["implicit"]
        if problem["optimum_source"] == "closed form":
            share = row["gain"].estimate
            lines.append(_verdict(name, "share of the optimum's gain", share, NEAR, "{:.2%}"))
        for unit, least in (("seconds", SECONDS), ("samples", SAMPLES)):
            ratio = row[f"{unit}_ratio_ppo_final"].estimate
            what = f"times fewer {unit} than PPO, to PPO's final value"
            lines.append(_verdict(name, what, ratio, least, "{:.1f}"))
    return lines


def _verdict(name: str, what: str, value: float, least: float, form: str) -> str:
    verdict = "reached" if value >= least else "missed"
    return f"{verdict}: {name}: {form.format(value)} {what}, aim {form.format(least)}"


def table(results: Mapping[str, Any]) -> str:
    """One table a problem, one row a method."""
    header = (
        "method", "value", "gain %", "gain interval", "run s", "samples", "compile s",
        "s to PPO", "ratio", "interval", "samples to PPO", "ratio", "to 99%: s", "samples",
    )  # fmt: skip
    parts = []
    for name, problem in results.items():
        rows = []
        for method, row in problem["methods"].items():
            rows.append(
                (
                    method,
                    f"{row['value'].estimate:.4f}",
                    f"{100 * row['gain'].estimate:.2f}",
                    f"[{100 * row['gain'].low:.2f}, {100 * row['gain'].high:.2f}]",
                    f"{row['seconds'].estimate:.3f}",
                    f"{row['samples']}",
                    f"{row['compile_seconds']:.1f}",
                    _first(row["seconds_to_ppo_final"], ".3g"),
                    *_ratio(row.get("seconds_ratio_ppo_final")),
                    _first(row["samples_to_ppo_final"], ".0f"),
                    _ratio(row.get("samples_ratio_ppo_final"))[0],
                    _ratio(row.get("seconds_ratio_ppo_near"))[0],
                    _ratio(row.get("samples_ratio_ppo_near"))[0],
                )
            )
        title = (
            f"{name}: optimum {problem['optimum']:.4f} ({problem['optimum_source']}), middle of "
            f"the box {problem['middle']:.4f}, best constant action {problem['constant']:.4f} "
            f"({100 * problem['constant_gain']:.2f}% of the gain)"
        )
        parts.append(title + "\n" + format_table(header, rows))
    return "\n\n".join(parts)


def _first(found: Interval, form: str) -> str:
    return f"{found.estimate:{form}}" if np.isfinite(found.estimate) else "never"


def _ratio(found: Interval | None) -> tuple[str, str]:
    """A ratio to PPO and its interval; of PPO itself, and of who never gets there, none."""
    if found is None or found.estimate == 0:
        return "-", "-"
    return f"{found.estimate:.1f}", f"[{found.low:.1f}, {found.high:.1f}]"
