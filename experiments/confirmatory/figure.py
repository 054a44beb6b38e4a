"""The figure of the confirmatory experiment: eight of its arms, for both models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.figures import Row, forest, interval, over_names, picture, signed, title
from experiments.confirmatory.analysis import BY_TYPE
from experiments.confirmatory.arms import CONSERVATIVE, MAIN
from stackjax.plot import COLORS

MARGIN = 2.0  # points
SHOWN = {
    MAIN: ("task-aware, repaired", "leader"),
    "task-aware raw": ("task-aware, not repaired", "tried"),
    "direct control": ("direct control, no incentives", "tried"),
    BY_TYPE: ("best fixed action by task type", "baseline"),
    CONSERVATIVE: ("best fixed action", "baseline"),
    "other model's controller": ("the other model's controller", "tried"),
    "dual mirror descent": ("budget pacing by mirror descent", "tried"),
    "LinUCB": ("LinUCB bandit", "tried"),
}
"""Arms in the figure: what they are compared with, what leaves a part of the method out, transfer
to another model, and the two that learn online. The rest are variants that play as one of these
(`need head`, `constant signal`, `constant inside the set`) or lie between them."""


def figure(path: Path, results: Mapping[str, Any]) -> None:
    """Tokens saved and right answers lost against the best fixed action, a row for each model."""
    executors = results["executors"]
    first = next(iter(executors.values()))
    every = max(len(found["secondary"]["arms"]) for found in executors.values())
    turns = " and ".join(sorted({str(one["secondary"]["turns"]) for one in executors.values()}))
    note = (
        f"95% intervals, {turns} turns of each model, differences to the best fixed action on the "
        f"same turns. Dashed: a loss of {MARGIN:g} points, the margin fixed beforehand. All "
        f"{every} arms are in main.json; the headline has all turns of {named(first)}."
    )
    height = 0.9 + 2.1 * len(executors)
    with picture(path, height, headline=headline(first), note=note) as drawing:
        axes = drawing.subplots(len(executors), 2, squeeze=False)
        for number, (row, found) in enumerate(zip(axes, executors.values())):
            saved, lost = rows(found["secondary"])
            forest(row[0], saved, lambda x: f"{signed(x, 0).lstrip('+')}%")
            forest(row[1], lost, signed, names=False)
            row[1].axvline(-MARGIN, color=COLORS["warning"], linewidth=1.2, linestyle="--")
            over_names(row[0], named(found))
            title(row[0], "ac"[number % 2], "tokens saved, %")
            title(row[1], "bd"[number % 2], "right answers, points")


def named(found: Mapping[str, Any]) -> str:
    """A model's name without the file's ending."""
    return found["model"].split("-Instruct")[0]


def headline(found: Mapping[str, Any]) -> str:
    """The primary comparison of one model."""
    one = found["primary"]["all"]
    saved, low, high = interval(one["saving"], 100)
    change, worst, best = interval(one["correct"], 100)
    return (
        f"{saved:.1f}% [{low:.1f}, {high:.1f}] fewer tokens than the best fixed action, "
        f"right answers {signed(change)} points [{signed(worst)}, {signed(best)}], "
        f"{one['turns']:,} turns"
    )


def rows(secondary: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
    """Savings in percent and differences in points, of the arms that are shown and were played."""
    saved, lost = [], []
    for arm, (name, role) in SHOWN.items():
        beside = secondary["against"].get(f"{arm} against {CONSERVATIVE}")
        if beside is not None:
            saved.append(Row(name, *interval(beside["saving"], 100), role))
            lost.append(Row(name, *interval(beside["correct"], 100), role))
        elif arm == CONSERVATIVE:
            saved.append(Row(name, 0, 0, 0, role))
            lost.append(Row(name, 0, 0, 0, role))
    return saved, lost
