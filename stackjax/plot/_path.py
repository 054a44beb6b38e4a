"""The leader's way over its own utility."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stackjax._arrays.arguments import check_shape
from stackjax.plot._arguments import fitting, numbers
from stackjax.plot._style import COLORS, SMALL, axes, colormap, finish, legend
from stackjax.plot._surface import color_limits, increasing, within


def leader_path(
    first: Any,
    second: Any,
    utility: Any,
    path: Any,
    *,
    optimum: Any = None,
    xlabel: str = "leader's action, first number",
    ylabel: str = "leader's action, second number",
    label: str = "leader's search",
    ax: Axes | None = None,
) -> Axes:
    """Draws the iterates of a search on the contours of the leader's utility.

    The utility is meant with the follower's answer in it, `U_L(l, r*(l))`: what the leader climbs.
    A second path is drawn by a second call on the same axes; contours then show twice, so give it
    the same `utility`.

    Args:
      first: `[M]`, increasing, M >= 2: along x.
      second: `[N]`, increasing, N >= 2: along y.
      utility: `[M, N]`, the leader's utility at `first[i]`, `second[j]`.
      path: `[T, 2]`, the leader's actions from the start (open circle) to the end (full circle).
      optimum: `[2]`, an exact or known optimum; a star.
      xlabel: what `first` is, with its unit.
      ylabel: what `second` is, with its unit.
      label: of the path, in the legend.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: an argument is empty, has the wrong shape or a number that is not finite; an axis
        does not increase.

    Source: arXiv 2606.23026, Section 4.

    Example:
      >>> x = y = np.linspace(-1.0, 1.0, 5)
      >>> path = [[-1.0, 1.0], [-0.5, 0.5], [0.0, 0.0]]
      >>> ax = sj.plot.leader_path(x, y, -(x[:, None] ** 2) - y**2, path, optimum=[0.0, 0.0])
      >>> [float(x) for x in ax.lines[0].get_xdata()]
      [-1.0, -0.5, 0.0]
    """
    x, y = increasing("first", first), increasing("second", second)
    z = fitting("utility", utility, (len(x), len(y)), "`first` and `second`")
    steps = numbers("path", path, 2)
    check_shape("path", steps, (None, 2))
    best = None if optimum is None else fitting("optimum", optimum, (2,), "an action")
    ax = axes(ax)
    grid = np.linspace(*color_limits(None, z), 12 + 1)
    ax.contourf(x, y, z.T, levels=grid, cmap=colormap("reference"), extend="both")
    inner = within(grid, z)
    if inner.size:
        lines = ax.contour(
            x, y, z.T, levels=inner, colors="0.45", linewidths=0.5, linestyles="solid"
        )
        ax.clabel(lines, inner[::2], fontsize=SMALL - 1, fmt="%.3g")
    ax.plot(*steps.T, "-", color=COLORS["leader"], linewidth=1.6, label=label, zorder=3)
    if len(steps) > 2:
        ax.plot(*steps[1:-1].T, ".", color=COLORS["leader"], markersize=5, zorder=3)
    look: dict[str, Any] = {"color": COLORS["leader"], "markersize": 7, "zorder": 4}
    ax.plot(*steps[:1].T, "o", markerfacecolor="white", **look)
    ax.plot(*steps[-1:].T, "o", **look)
    if best is not None:
        ax.plot(
            *best[:, None],
            "*",
            color=COLORS["reference"],
            markersize=11,
            markeredgecolor="white",
            label="optimum",
            zorder=5,
        )
    finish(ax, x=xlabel, y=ylabel, grid=False)
    legend(ax)
    return ax
