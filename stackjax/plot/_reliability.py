"""Predicted probabilities against what happened."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stackjax._arrays.arguments import check_all_within
from stackjax.plot._arguments import fitting, numbers
from stackjax.plot._style import COLORS, axes, color, finish, legend

_DIAGONAL = "stackjax diagonal"


def reliability_diagram(
    table: Any,
    *,
    label: str | None = None,
    role: str = "leader",
    xlabel: str = "predicted probability of a right answer",
    ylabel: str = "share of right answers",
    ax: Axes | None = None,
) -> Axes:
    """Draws a reliability diagram: observed frequency against predicted probability, by bin.

    The area of a mark grows with the bin's count, and the legend gives the counts and the expected
    calibration error. Points below the diagonal: the predictor promises too much. Call it again on
    the same axes for another predictor.

    Args:
      table: a `stackjax.agents.surrogate.Reliability`, or anything with `predicted`, `observed` and
        `count`, each `[bins]`.
      label: the predictor's name.
      role: its colour, see `COLORS`.
      xlabel: what was predicted.
      ylabel: what was observed.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or `table` lacks a column.
      ValueError: the columns are empty, differ in length or have a number
        that is not finite; a probability is outside of [0, 1], a count not positive; the role is
        unknown.

    Source: DeGroot and Fienberg (1983); the error is that of Naeini, Cooper and Hauskrecht (2015).

    Example:
      >>> predicted, right = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])
      >>> table = sj.agents.surrogate.reliability(predicted, right, bins=2)
      >>> ax = sj.plot.reliability_diagram(table, label="predictor")
      >>> ax.get_legend_handles_labels()[1]
      ['predictor: error 0.15, 2 a bin']
    """
    missing = [name for name in ("predicted", "observed", "count") if not hasattr(table, name)]
    if missing:
        raise TypeError(
            f"`table` must have `predicted`, `observed` and `count`; got {type(table).__name__} "
            f"without {', '.join(missing)}."
        )
    predicted = numbers("table.predicted", table.predicted, 1)
    observed = fitting("table.observed", table.observed, predicted.shape, "`table.predicted`")
    count = fitting("table.count", table.count, predicted.shape, "`table.predicted`")
    for name, values in (("predicted", predicted), ("observed", observed)):
        check_all_within(f"table.{name}", values, "[0, 1]")
    check_all_within("table.count", count, "(0, inf)")
    paint, ax = color(role), axes(ax)
    if not any(line.get_gid() == _DIAGONAL for line in ax.lines):
        ax.plot([0, 1], [0, 1], color=COLORS["reference"], linewidth=0.8, gid=_DIAGONAL, zorder=1)
    error = np.average(np.abs(predicted - observed), weights=count)
    low, high = int(count.min()), int(count.max())
    turns = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    text = f"error {error:.2g}, {turns} a bin"
    order = np.argsort(predicted, kind="stable")
    ax.plot(predicted[order], observed[order], color=paint, linewidth=1.2, zorder=2)
    ax.scatter(
        predicted,
        observed,
        s=10 + 40 * count / count.max(),
        color=paint,
        edgecolors="white",
        linewidths=0.6,
        label=text if label is None else f"{label}: {text}",
        zorder=3,
    )
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    finish(ax, x=xlabel, y=ylabel)
    legend(ax)
    return ax
