"""The tables and the figure of the confirmatory experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
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


def figure(path: Path, executors: Mapping[str, Any]) -> None:
    """Correct against tokens for every arm, and what each saves and loses beside Conservative."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        len(executors), 2, figsize=(11, 4.6 * len(executors)), squeeze=False, layout="constrained"
    )
    for (left, right), found in zip(axes, executors.values()):
        _pareto(left, found)
        _differences(right, found)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _pareto(ax: Any, found: Mapping[str, Any]) -> None:
    arms = found["secondary"]["arms"]
    order = sorted(arms, key=lambda name: arms[name]["tokens"][0])
    for number, name in enumerate(order, 1):
        tokens, right = arms[name]["tokens"], arms[name]["correct"]
        colour = ROLES.get(name, OTHERS)
        ax.errorbar(
            tokens[0],
            100 * right[0],
            xerr=[[tokens[0] - tokens[1]], [tokens[2] - tokens[0]]],
            yerr=[[100 * (right[0] - right[1])], [100 * (right[2] - right[0])]],
            fmt="o",
            color=colour,
            elinewidth=0.8,
            markersize=6 if name in ROLES else 4,
            zorder=3 if name in ROLES else 2,
        )
        ax.annotate(
            str(number), (tokens[0], 100 * right[0]), xytext=(4, 4), textcoords="offset points",
            color=colour, fontsize=9,
        )  # fmt: skip
    ax.set_xlabel("tokens a turn")
    ax.set_ylabel("right answers, %")
    turns = found["secondary"]["turns"]
    ax.set_title(f"{found['model']}\n{turns} turns under every arm, 95% intervals", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)


def _differences(ax: Any, found: Mapping[str, Any]) -> None:
    arms, against = found["secondary"]["arms"], found["secondary"]["against"]
    order = sorted(arms, key=lambda name: arms[name]["tokens"][0])
    labels = []
    for row, name in enumerate(order):
        labels.append(f"{row + 1}  {name}")
        beside = against.get(f"{name} against {CONSERVATIVE}")
        if beside is None:
            ax.plot(0, row, "o", color=ROLES[CONSERVATIVE], markersize=6)
            continue
        change = beside["correct"]
        low, high = change["estimate"] - change["low"], change["high"] - change["estimate"]
        ax.errorbar(
            100 * change["estimate"], row, xerr=[[100 * low], [100 * high]], fmt="o",
            color=ROLES.get(name, OTHERS), elinewidth=0.8, markersize=6 if name in ROLES else 4,
        )  # fmt: skip
        ax.text(
            1.02, row, f"{100 * beside['saving'][0]:+.0f}%", transform=ax.get_yaxis_transform(),
            va="center", fontsize=9, color=ROLES.get(name, "black"),
        )  # fmt: skip
    ax.axvline(-2.0, color=COLORS["warning"], linewidth=1, linestyle="--")
    ax.axvline(0.0, color="black", linewidth=0.5)
    ax.set_yticks(range(len(order)), labels, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("right answers beside conservative, points (dashed: margin)")
    ax.set_title("tokens\nsaved", fontsize=9, loc="right")
    ax.spines[["top", "right"]].set_visible(False)
