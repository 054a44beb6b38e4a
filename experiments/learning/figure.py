"""The figure of `experiments.learning`: held-out gain against samples and seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from experiments.common.figures import SMALL, picture, readable, title
from experiments.learning.report import mean_interval
from stackjax.plot import COLORS
from stackjax.plot._style import dashes

NAMES = {
    "implicit": ("implicit", "leader", 0),
    "unrolled": ("unrolled", "follower", 1),
    "PPO": ("PPO", "baseline", 0),
    "ES": ("evolution", "tried", 0),
}
UNITS = ("followers solved", "seconds of training")


def figure(path: Path, results: Mapping[str, Any]) -> None:
    """Mean gain with 95% intervals over seeds, a column for each game."""
    problems, curves = results["problems"], results["curves"]
    note = (
        "Over each panel: the implicit gradient's way to PPO's final value, against PPO's. Gain: "
        "0% is the middle of the leader's box, 100% (dashed) the optimum. Bands: 95% intervals "
        f"over {len(results['seeds'])} seeds. Per follower solved, unrolled and implicit gradients "
        "take the same way. Compilation is left out."
    )
    with picture(path, 5.0, headline=headline(problems), note=note) as drawing:
        axes = drawing.subplots(2, len(problems), squeeze=False, sharey=True)
        for column, (name, problem) in enumerate(problems.items()):
            for row, unit in enumerate(UNITS):
                ax = axes[row, column]
                found = {m: curves[f"{name}, {m}"] for m in NAMES if m in problem["methods"]}
                gains(ax, found, problem, row, names=column == 0)
                ax.set_xlabel(unit)
                text = f"{name}: {sooner(problem, row)}"
                title(ax, "abcdefgh"[row * len(problems) + column], text)
        for ax in axes[:, 0]:
            ax.set_ylabel("gain, %")


def ratio(problem: Mapping[str, Any], by: int) -> float | None:
    """How many times fewer samples (`by` 0) or seconds (1) than PPO; None where never."""
    found = problem["methods"]["implicit"][f"{('samples', 'seconds')[by]}_ratio_ppo_final"]
    return found["estimate"] or None


def sooner(problem: Mapping[str, Any], by: int) -> str:
    """The implicit gradient's way to PPO's final value, against PPO's own."""
    times = ratio(problem, by)
    return (
        "never" if times is None else f"{times:.2g}\N{MULTIPLICATION SIGN} {('fewer', 'less')[by]}"
    )


def headline(problems: Mapping[str, Any]) -> str:
    """How many fewer followers are solved, and where PPO ends higher."""
    ratios = [ratio(problem, 0) for problem in problems.values()]
    there = [f"{one:.0f}" for one in ratios if one is not None]
    parts = []
    if there:
        parts.append(
            f"PPO's final value with {' and '.join(there)} times fewer solved followers on "
            f"{len(there)} of {len(ratios)} games"
        )
    for name, problem in problems.items():
        if ratio(problem, 0) is None:
            gain = [100 * problem["methods"][m]["gain"]["estimate"] for m in ("PPO", "implicit")]
            parts.append(f"on the {name} PPO ends {gain[0] - gain[1]:.1f}% of the gain higher")
    return "; ".join(parts)


def gains(
    ax: Axes, found: Mapping[str, Any], problem: Mapping[str, Any], by: int, *, names: bool
) -> None:
    """Curves of one game against samples (`by` 0) or seconds (1), with their names if `names`."""
    middle, optimum = problem["middle"], problem["optimum"]
    for number, (method, one) in enumerate(found.items()):
        name, role, line = NAMES[method]
        steps = np.asarray(one["steps"])[1:]  # the beginning has no place on a logarithmic axis
        pace = one["samples"] if by == 0 else np.median(one["seconds"]) / steps[-1]
        values = 100 * (np.asarray(one["values"])[:, 1:] - middle) / (optimum - middle)
        mean, low, high = np.array([mean_interval(column) for column in values.T]).T
        x = steps * pace
        ax.plot(x, mean, color=COLORS[role], linestyle=dashes(line), label=name)
        ax.fill_between(x, low, high, color=COLORS[role], alpha=0.2, linewidth=0)
        if names:
            ax.text(
                0.98,
                0.36 - 0.11 * number,
                name,
                transform=ax.transAxes,
                ha="right",
                fontsize=SMALL,
                color=readable(role),
            )
    ax.axhline(100, color=COLORS["reference"], linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set(xscale="log", ylim=(-5, 108), yticks=[0, 50, 100])
    ax.xaxis.set_major_locator(LogLocator(numticks=4))
    ax.minorticks_off()
    ax.grid(color="0.92", linewidth=0.8)
