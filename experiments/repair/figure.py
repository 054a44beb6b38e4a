"""The figure of `experiments.repair`: what resources do, how sure that is, what repair costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.common.figures import SMALL, Row, forest, interval, picture, signed, title
from stackjax.agents.surrogate._probes import CHANNELS
from stackjax.plot import COLORS

# Two models are no roles: black and grey, full and open marks.
LOOKS = (("reference", "-", "o"), ("tried", (0, (5, 1.5)), "s"))
SET = "cells"  # the set that is played: the nearest of its actions


def figure(path: Path, results: dict[str, Any]) -> None:
    """Elasticities, right answers, reliability and the price of projection, of each model."""
    models = results["models"]
    note = (
        "a, b: each resource from none to all, averaged over the others, 95% intervals. c: "
        "predictors with concave quality on held-out turns; dashed: exact. d: utility that the "
        "leader loses when its action is replaced by the nearest one of the set, and how often it "
        "leaves the set without repair. Task types and other sets are in repair.json."
    )
    with picture(path, 5.4, headline=headline(models), note=note) as drawing:
        upper, lower = drawing.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.05))[:, 0]
        left, right = upper.subplots(1, 2)
        spent, gained = probes(models)
        forest(left, spent, lambda x: f"{x:.2f}")
        forest(right, gained, lambda x: signed(x, 0), names=False)
        left.set_xlim(left=0)
        title(left, "a", "elasticity of tokens")
        title(right, "b", "right answers, points")
        left, right = lower.subplots(1, 2)
        reliability(left, models)
        title(left, "c", "calibration")
        forest(right, prices(models), lambda x: signed(x, 2))
        title(right, "d", "price of repair", left=0)


def headline(models: dict[str, Any]) -> str:
    """How many action sets are shown to be good enough."""
    parts = []
    for model, found in list(models.items())[::-1]:
        sets = found["action_set"]
        count = f"{sets['passing'] or 'none'} of {sets['candidates']}"
        parts.append(f"{count} for {short(model)} ({sets['chosen_on']['turns']} turns)")
    margin = 100 * found["action_set"]["requirements"]["margin"]
    return f"Action sets shown to lose at most {margin:g} points: {', '.join(parts)}"


def short(model: str) -> str:
    """A model's name up to its first dash: Qwen2.5, SmolLM2."""
    return model.split("-")[0]


def probes(models: dict[str, Any]) -> tuple[list[Row], list[Row]]:
    """Elasticity of tokens and change of correctness by resource and model."""
    spent, gained = [], []
    for channel in CHANNELS:
        for (model, found), (role, _, _) in zip(models.items(), LOOKS):
            name = f"{channel}, {short(model)}"
            of = [p for p in found["probes"] if p["task"] is None and p["channel"] == channel]
            one = next(p for p in of if (p["low"], p["high"]) == (0.0, 1.0))
            spent.append(Row(name, *interval(one["elasticity"]), role))
            gained.append(Row(name, *interval(one["correct"], 100), role))
    return spent, gained


def reliability(ax: Axes, models: dict[str, Any]) -> None:
    """Predicted probabilities against frequencies, a curve for each model."""
    ax.plot([0, 1], [0, 1], color=COLORS["reference"], linewidth=0.8, linestyle=(0, (4, 3)))
    for number, ((model, found), (role, line, mark)) in enumerate(zip(models.items(), LOOKS)):
        table = found["predictors"]["concave"]["reliability"]
        x, y = np.asarray(table["predicted"]), np.asarray(table["observed"])
        color = COLORS[role]
        ax.plot(x, y, color=color, linestyle=line, marker=mark, markersize=3.5, linewidth=1.4)
        ax.text(
            (0.06, 0.55)[number % 2],
            (0.8, 0.2)[number % 2],
            f"{short(model)}:\ncalibration\nerror {table['error']:.2f}",
            color=color if role != "tried" else "0.3",
            fontsize=SMALL,
            va="center",
        )
    ax.set(xlabel="predicted probability", ylabel="share of right answers")
    ax.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.grid(color="0.92", linewidth=0.8)


def prices(models: dict[str, Any]) -> list[Row]:
    """The leader's loss by projection, and how often it leaves the set without."""
    rows = []
    for (model, found), (role, _, _) in zip(models.items(), LOOKS):
        for follower in found["prices"]:
            price = found["prices"][follower]["executed action"][SET]["price"]
            outside = found["audit"][f"{follower} follower, raw"]["audit"]["outside"]["estimate"]
            name = f"{short(model)}, {follower}\n{100 * outside:.0f}% outside"
            rows.append(Row(name, price, price, price, role))
    return rows
