"""The figure of `experiments.govern`: what each arm saves and loses, and by task type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.figures import Row, forest, interval, picture, signed, title

BASE = "Conservative"
SHOWN = {
    "Stackelberg, learned follower": ("Stackelberg, learned follower", "leader"),
    "Stackelberg, rational follower": ("Stackelberg, rational follower", "leader"),
    "Stackelberg, heuristic executor": ("Stackelberg, rule-based follower", "leader"),
    "Direct control": ("direct control, no incentives", "tried"),
    "Best cell by stratum": ("best action by task and complexity", "baseline"),
    BASE: ("best fixed action", "baseline"),
    "Middle": ("half of every resource", "baseline"),
}
EVERYTHING = "Everything (1, 1, 1)"  # so far away that it would squeeze the others


def figure(path: Path, results: Mapping[str, Any]) -> None:
    """Tokens saved and right answers against the best fixed action, with intervals."""
    arms = results["evaluation"]["arms"]
    saved, lost = [], []
    for arm, (name, role) in SHOWN.items():
        if arm in arms:
            found = arms[arm][BASE]
            saved.append(Row(name, *interval(found["saving"], 100), role))
            lost.append(Row(name, *interval(found["correct_difference"], 100), role))
    live = results["evaluation"].get("projection") is None
    note = (
        f"{'New' if live else 'Recorded'} turns that no fit has seen; differences to the best "
        "fixed action, chosen on the fitting turns; 95% intervals from a bootstrap by episode. "
    )
    if EVERYTHING in arms:
        most = arms[EVERYTHING][BASE]
        note += (
            f"All of every resource takes {-100 * most['saving']['estimate']:.0f}% more tokens for "
            f"{signed(100 * most['correct_difference']['estimate'])} points. "
        )
    note += "Numbers by task type are in govern.json."
    with picture(path, 1.35 + 0.24 * len(saved), headline=headline(arms), note=note) as drawing:
        left, right = drawing.subplots(1, 2)
        forest(left, saved, lambda x: f"{signed(x, 0).lstrip('+')}%")
        forest(right, lost, signed, names=False)
        title(left, "a", "tokens saved, %")
        title(right, "b", "right answers, points")


def headline(arms: Mapping[str, Any]) -> str:
    """The controller with the learned follower."""
    found = arms["Stackelberg, learned follower"][BASE]
    saved, low, high = interval(found["saving"], 100)
    change, worst, best = interval(found["correct_difference"], 100)
    return (
        f"{saved:.1f}% [{low:.1f}, {high:.1f}] fewer tokens than the best fixed action, "
        f"right answers {signed(change)} points [{signed(worst)}, {signed(best)}]"
    )
