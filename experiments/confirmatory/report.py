"""The tables of the confirmatory experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.common.results import format_table
from experiments.confirmatory.analysis import BY_TYPE
from experiments.confirmatory.arms import CONSERVATIVE, MAIN
from stackjax.plot import COLORS

ROLES = {MAIN: COLORS["leader"], CONSERVATIVE: COLORS["baseline"]}
OTHERS = COLORS["tried"]


def report(results: Mapping[str, Any]) -> str:
    """What the command prints."""
    lines = []
    for executor, found in results["executors"].items():
        lines.append(f"{executor}: {found['model']}")
        lines += ["", primary_table(found["primary"]), "", arms_table(found["secondary"]), ""]
        fixed = found["secondary"]["against"].get(f"{MAIN} against {BY_TYPE}")
        if fixed is not None:
            lines.append(
                f"{MAIN} against {BY_TYPE}: saved {interval(fixed['saving'], 100, '%')}, correct "
                f"{interval(fixed['correct'], 100)}, p {fixed['holm']['tokens']:.2g} and "
                f"{fixed['holm']['correct']:.2g}"
            )
        parts = [f"{name} {tokens:+.0f}" for name, tokens in found["secondary"]["shares"].items()]
        lines += [f"tokens a turn saved by: {', '.join(parts)}", ""]
    return "\n".join(lines)


def primary_table(primary: Mapping[str, Any]) -> str:
    """Task-aware repaired against Conservative."""
    rows = []
    for name, part in primary.items():
        bound, wider = part["non_inferiority"]
        rows.append(
            [
                name,
                str(part["turns"]),
                f"{part['conservative']['tokens']:.0f}",
                f"{part['main']['tokens']:.0f}",
                interval(part["saving"], 100, "%"),
                f"{100 * part['conservative']['correct']:.1f}",
                f"{100 * part['main']['correct']:.1f}",
                interval(part["correct"], 100),
                f"{100 * bound['low_95']:+.1f}",
                f"{bound['p']:.2g}",
                f"{wider['p']:.2g}",
                f"{part['tokens']['p']:.2g}",
            ]
        )
    header = [
        "questions", "turns", "tokens cons.", "tokens", "saved", "correct cons.", "correct",
        "difference", "at least", "p (0.02)", "p (0.05)", "p tokens",
    ]  # fmt: skip
    return format_table(header, rows)


def arms_table(secondary: Mapping[str, Any]) -> str:
    """Every arm on the first sessions."""
    rows = []
    for name, arm in secondary["arms"].items():
        beside = secondary["against"].get(f"{name} against {CONSERVATIVE}")
        rows.append(
            [
                name,
                f"{arm['tokens'][0]:.0f}",
                f"{100 * arm['correct'][0]:.1f}",
                "" if beside is None else interval(beside["saving"], 100, "%"),
                "" if beside is None else interval(beside["correct"], 100),
                "" if beside is None else f"{beside['holm']['tokens']:.2g}",
                "" if beside is None else f"{beside['holm']['correct']:.2g}",
                f"{arm['correct_per_1000_tokens'][0]:.2f}",
                f"{arm['tool_calls']:.2f}",
                f"{arm['latency_median']:.1f}" if arm["latency_median"] is not None else "",
                str(sum(arm["fallbacks"].values())),
            ]
        )
    header = [
        "arm", "tokens", "correct", "saved", "difference", "p tokens", "p (0.02)", "per 1,000",
        "calls", "seconds", "fallbacks",
    ]  # fmt: skip
    return format_table(header, rows)


def interval(value: Any, factor: float, unit: str = "") -> str:
    """An estimate with its interval, scaled."""
    if isinstance(value, Mapping):
        value = value["estimate"], value["low"], value["high"]
    middle, low, high = (factor * number for number in value)
    return f"{middle:+.1f}{unit} [{low:+.1f}, {high:+.1f}]"
