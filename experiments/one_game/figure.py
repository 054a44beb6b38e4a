"""The picture of one game: answers, utility, optimum, and where two gradients lead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.common.figures import SMALL, picture, readable, signed, title
from stackjax import plot
from stackjax.plot import COLORS

REACH = 0.8  # of the arrows, in units of the action


def figure(path: Path, results: Mapping[str, Any]) -> None:
    """The follower's response with its kink, the leader's utility through it, two gradients."""
    best, led = results["optimum"], results["without_bound"]
    lost = 100 * (1 - led["utility"] / best["utility"])
    headline = f"A gradient that leaves the follower's bound out costs the leader {lost:.0f}%"
    with picture(path, 5.2, headline=headline) as drawing:
        upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=(1, 1.55))
        respond(upper, results)
        climb(lower, results)
        for ax in (upper, lower):
            ax.axvline(
                results["kink"],
                color=COLORS["tried"],
                linewidth=0.9,
                linestyle=(0, (2, 2)),
                zorder=0,
            )
            ax.grid(visible=False)
            ax.set_xlim(0.4 * best["action"], 1.5 * results["kink"])
        title(upper, "a", "the follower answers, up to its capacity")
        title(lower, "b", "the leader's utility through that answer")


def respond(ax: Axes, results: Mapping[str, Any]) -> None:
    """The response curve with its kink, and two slopes of it at the capacity."""
    curve = results["curve"]
    capacity = results["args"]["capacity"]
    plot.response_curve(
        curve["action"],
        curve["response"],
        converged=np.asarray(curve["converged"]),
        bounds=(-np.inf, capacity),
        xlabel="",
        ylabel="follower's quantity",
        ax=ax,
    )
    ax.set_ylim(0.3 * capacity, 1.3 * capacity)
    ax.set_yticks([0.5 * capacity, capacity])
    here = results["between"]
    at = here["action"], here["response"]
    _arrow(ax, at, here["slope"], "leader", -1)
    _arrow(ax, at, here["slope_without_bound"], "warning", 1)
    ax.plot(*at, "o", color="white", markeredgecolor="black", zorder=6)
    _say(ax, "capacity", (1.42 * results["kink"], capacity), (0, 4), "reference", ha="right")
    _say(ax, f"right slope {here['slope']:.1f}", at, (-24, 7), "leader", "right")
    text = f"naive slope {signed(here['slope_without_bound'])}"
    _say(ax, text, at, (14, -28), "warning", "right")
    _say(ax, "kink", (results["kink"], 1.3 * capacity), (4, -9), "tried")


def climb(ax: Axes, results: Mapping[str, Any]) -> None:
    """Utility, optimum, and the two gradients between it and where the wrong one leads."""
    curve, best, led = results["curve"], results["optimum"], results["without_bound"]
    here = results["between"]
    ax.plot(curve["action"], curve["utility"], color=COLORS["reference"], linewidth=1.8)
    ax.set(xlabel="leader's quantity", ylabel="leader's utility")
    ax.set_ylim(0.55 * best["utility"], 1.2 * best["utility"])
    ax.plot(best["action"], best["utility"], "o", color=COLORS["leader"], markersize=7, zorder=4)
    ax.plot(led["action"], led["utility"], "X", color=COLORS["warning"], markersize=9, zorder=4)
    at = here["action"], here["utility"]
    _arrow(ax, at, here["gradient"], "leader", -1)
    _arrow(ax, at, here["gradient_without_bound"], "warning", 1)
    ax.plot(*at, "o", color="white", markeredgecolor="black", zorder=6)
    text = f"optimum at {best['action']:.2f},\nutility {best['utility']:.2f}"
    _say(ax, text, (best["action"], best["utility"]), (0, -34), "leader", "center")
    text = f"naive ascent ends at {led['action']:.2f},\nutility {led['utility']:.2f}"
    _say(ax, text, (led["action"], led["utility"]), (-4, -36), "warning", "right")
    text = f"right gradient {signed(here['gradient'], 2)}"
    _say(ax, text, _tip(at, here["gradient"], -1), (0, 7), "leader", "center")
    text = f"naive gradient {signed(here['gradient_without_bound'], 2)}"
    _say(ax, text, _tip(at, here["gradient_without_bound"], 1), (0, 7), "warning", "center")


def _arrow(ax: Axes, at: tuple[float, float], slope: float, role: str, way: int) -> None:
    """From a point along a slope, to the right (`way` 1) or left (-1)."""
    look = {
        "arrowstyle": "-|>",
        "color": COLORS[role],
        "linewidth": 2.2,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", _tip(at, slope, way), at, arrowprops=look, zorder=5)


def _tip(at: tuple[float, float], slope: float, way: int) -> tuple[float, float]:
    return at[0] + way * REACH, at[1] + way * REACH * slope


def _say(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    role: str,
    ha: str = "left",
) -> None:
    ax.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        ha=ha,
        fontsize=SMALL + 0.5,
        color=readable(role),
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )
