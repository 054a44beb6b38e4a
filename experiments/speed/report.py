"""Tables of what `experiments.speed` measured."""

from __future__ import annotations

from typing import Any

from experiments.common.results import format_table
from experiments.speed.targets import OURS, each, reached

PACKAGES = (
    "stackjax",
    "jaxopt",
    "optimistix",
    "lineax",
    "torch",
    "torchopt",
    "qpax",
    "proxsuite",
    "cvxpylayers",
    "diffcp",
    "qpth",
    "moreau",
    "nashopt",
)
HEADER = (
    "contender", "CPU ms", "wall ms", "us/context", "x CPU", "x wall",
    "compile s", "scratch MB", "wrong", "p99 error", "more",
)  # fmt: skip


def tables(report: dict[str, Any]) -> str:
    """One table for each workload, who was skipped, and the targets."""
    parts = []
    for run in report["runs"]:
        title = run["workload"] + (" with an XLA flag" if run["flags"] else "")
        if "results" not in run:
            parts.append(f"{title}: failed with status {run.get('error')}")
            continue
        load = f"load {run['load'][0]:.1f} to {run['load'][1]:.1f}"
        facts = ", ".join(f"{name} {_short(value)}" for name, value in run["facts"].items())
        parts.append(f"{title} ({'; '.join(filter(None, [load, facts]))})")
        parts.append(format_table(HEADER, [_row(run, name) for name in run["results"]]))
        told = [f"{name}: {why}" for name, why in run["skipped"].items() if why != "not asked for"]
        parts.append("\n".join(f"skipped {line}" for line in told) + "\n" * bool(told))
    missing = [name for name, version in report["packages"].items() if version is None]
    if missing:
        parts.append(f"Not installed: {', '.join(missing)}\n")
    header = ("workload", "what", "target", "reached", "enough")
    rows = reached(report)
    return "\n".join([*parts, format_table(header, rows)] if rows else parts)


def _row(run: dict[str, Any], name: str) -> list[str]:
    result = run["results"][name]
    scratch = result["scratch_bytes"]
    megabytes = f"{(result['growth_bytes'] if scratch is None else scratch) / 2**20:.1f}"
    ratios = ["", ""]
    if OURS in run["results"]:
        clocks = ("cpu", "wall")
        ratios = [f"{each(run, name, clock) / each(run, OURS, clock):.3g}" for clock in clocks]
    error = result.get("p99_error", result.get("median_error"))
    return [
        name,
        f"{1e3 * result['cpu']:.4g}",
        f"{1e3 * result['wall']:.4g}",
        f"{1e6 * each(run, name):.3g}",
        *ratios,
        f"{result['compile']:.2f}",
        # A tilde: not scratch memory of a program but growth of the process.
        megabytes if scratch is not None else f"~{megabytes}",
        f"{100 * result['wrong']:.2f}%" if "wrong" in result else "",
        "" if error is None else f"{error:.1e}",
        ", ".join(f"{key} {_short(result[key])}" for key in MORE if key in result),
    ]


MORE = ("converged", "steps", "steps_per_block", "utility", "gap", "mean_gap", "gap_shared")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}:{count}" for key, count in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
