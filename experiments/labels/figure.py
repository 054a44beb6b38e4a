"""The figure of `experiments.labels`: regret on two streams, accuracy on recorded votes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from experiments.common.figures import SMALL, Row, ends, listed, picture, readable, title
from stackjax.plot import COLORS
from stackjax.plot._style import dashes

NAMES = {
    "label all": ("all labels", "reference", 2),
    "LLF gap": ("largest gap", "leader", 0),
    "LLF age": ("oldest direction", "follower", 0),
    "BBQ width": ("BBQ", "baseline", 0),
    "margin": ("margin", "baseline", 1),
    "random": ("at random", "tried", 0),
    "first B": ("the first labels", "tried", 1),
}
"""Name, role and line of the methods that are shown: what is possible with all labels, two readings
of LLF-StackSL, two rules that ask where they are unsure, and two that do not look."""
STREAMS = {"drifting": "drifting stream", "adversarial order": "adversarial order"}
ORDERS = {"random": "random order", "by subject": "by subject", "hardest first": "hardest first"}
IN_WORDS = {
    "random": "in random order",
    "by subject": "by subject",
    "hardest first": "with the hardest first",
}


def figure(path: Path, results: dict[str, Any]) -> None:
    """Cumulative regret with intervals at its end, and accuracy as a share of full information."""
    real, synthetic = results["real"], results["synthetic"]
    orders = {kind: text for kind, text in ORDERS.items() if kind in real["orders"]}
    share = real["budget"] / real["questions"]["streamed"]
    ours = [real["orders"][kind]["methods"]["LLF gap"]["accuracy_share"] for kind in orders]
    said = [f"{100 * x:.1f}%" for x in ours]
    said[0] += " of full-information accuracy"
    said = ", ".join(f"{x} {IN_WORDS[kind]}" for x, kind in zip(said, orders))
    every = len(next(iter(synthetic.values()))["methods"])
    note = (
        f"a, b: {len(STREAMS)} of {len(synthetic)} simulated streams, bars at the ends are 95% "
        "intervals. c to e: held-out accuracy on votes of two language models; dashed: all labels. "
        "'Largest gap' and 'oldest direction' are readings of LLF-StackSL. Options of all were "
        f"chosen on other data; {len(NAMES)} of {every} methods are shown, all are in labels.json."
    )
    headline = f"{100 * share:.0f}% of the labels reach {said}"
    with picture(path, 5.5, headline=headline, note=note) as drawing:
        upper, lower = drawing.subfigures(2, 1, squeeze=False, height_ratios=(1.1, 1))[:, 0]
        streams = upper.subplots(1, 2)
        for letter, ax, (kind, text) in zip("ab", streams, STREAMS.items()):
            regret(ax, synthetic[kind]["methods"])
            title(ax, letter, f"{text}: regret")
        votes = lower.subplots(1, len(orders), squeeze=False)[0]
        for number, (letter, ax, (kind, text)) in enumerate(zip("cde", votes, orders.items())):
            accuracy(ax, real["orders"][kind]["methods"], names=number == 0)
            title(ax, letter, f"votes, {text}")


def regret(ax: Axes, methods: dict[str, Any]) -> None:
    """Mean cumulative regret by round, logarithmic."""
    names, last = [], []
    for name, (text, role, line) in NAMES.items():
        one = methods[name]
        ax.plot(
            one["round"], one["curve"], color=COLORS[role], linestyle=dashes(line), linewidth=1.6
        )
        ax.errorbar(
            one["round"][-1], one["regret"], yerr=1.96 * one["standard_error"], color=COLORS[role]
        )
        names.append((text, role))
        last.append(one["regret"])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel("round")
    ax.grid(color="0.92", linewidth=0.8)
    ends(ax, names, one["round"][-1], last)


def accuracy(ax: Axes, methods: dict[str, Any], *, names: bool) -> None:
    """Held-out accuracy, percent of what all labels give."""
    rows = []
    for name, (text, role, _) in NAMES.items():
        if name in methods and name != "label all":
            share = 100 * methods[name]["accuracy_share"]
            rows.append(Row(text, share, share, share, role))
    for at, row in enumerate(rows):
        ax.barh(at, row.estimate, 0.7, color=COLORS[row.role])
        inside = row.estimate > 55
        ax.annotate(
            f"{row.estimate:.1f}%",
            (row.estimate, at),
            xytext=(-3 if inside else 3, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=SMALL,
            color="white" if inside else readable(row.role),
        )
    listed(ax, rows, names=names)
    ax.set_xlim(0, 100)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    ax.spines["right"].set(visible=True, linestyle=(0, (4, 3)))
