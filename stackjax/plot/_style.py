"""One colour for each role, and the look that all figures share.

The colours are Okabe and Ito's (2008), which remain apart under the common kinds of colour
blindness. Nothing here changes `matplotlib.rcParams`.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from stackjax._arrays.arguments import check_choice, check_type

COLORS: dict[str, str] = {
    "leader": "#0072b2",
    "follower": "#009e73",
    "baseline": "#cc79a7",
    "reference": "#000000",
    "warning": "#d55e00",
    "tried": "#999999",
}
"""Colour by role: the leader and what it governs; the follower; what both are compared with; an
exact or ideal value; what must not be believed (not converged, not unique, a failure); and what was
tried and is only there for comparison. After Okabe and Ito (2008).

Example:
  >>> sj.plot.COLORS["leader"], sj.plot.COLORS["follower"]
  ('#0072b2', '#009e73')
"""

SMALL = 8.0  # points; legends and notes
_MARKERS = "osD^vPX<>h"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def color(role: str, name: str = "role") -> str:
    """The colour of a role.

    Raises:
      ValueError: there is no such role; the message calls the argument `name`.
    """
    check_choice(name, role, COLORS)
    return COLORS[role]


def marker(number: int) -> str:
    """The marker of the number-th item that shares a colour; they repeat after ten."""
    return _MARKERS[number % len(_MARKERS)]


def dashes(number: int) -> Any:
    """The line style of the number-th item that shares a colour; they repeat after four."""
    return _DASHES[number % len(_DASHES)]


def shade(role: str, number: int, count: int) -> tuple[float, float, float]:
    """A role's colour for the number-th of `count` curves: from the colour itself to darker."""
    dark = 0.55 * number / max(count - 1, 1)
    red, green, blue = (part * (1 - dark) for part in to_rgb(color(role)))
    return red, green, blue


def colormap(role: str) -> LinearSegmentedColormap:
    """A map for values of a role: from nearly white to its colour, in steps of equal lightness."""
    red, green, blue = to_rgb(color(role))
    pale = tuple(1 - 0.06 * (1 - part) for part in (red, green, blue))
    end = (0.72, 0.72, 0.72) if role in ("reference", "tried") else (red, green, blue)
    return LinearSegmentedColormap.from_list(f"stackjax {role}", [pale, end])


def axes(ax: Any) -> Axes:
    """The axes given, or new ones in a figure of their own.

    Raises:
      TypeError: `ax` is not a matplotlib Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    check_type("ax", ax, Axes, "a matplotlib Axes or None")
    return ax


def finish(ax: Axes, *, x: str, y: str, grid: bool = True) -> None:
    """Labels, a light grid behind the data, no frame at the top and on the right."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(color="0.92", linewidth=0.8)


def legend(ax: Axes) -> None:
    """A legend over the axes, where it hides nothing; none if nothing has a label."""
    _, labels = ax.get_legend_handles_labels()
    figure = ax.get_figure(root=True)
    if labels and figure is not None:
        # As many columns as the axes are wide, with half an em a letter and room for the handle.
        width = 72 * figure.get_figwidth() * ax.get_position().width
        column = SMALL * (0.55 * max(map(len, labels)) + 4.5)
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=min(max(int(width // column), 1), len(labels)),
            fontsize=SMALL,
            frameon=False,
            columnspacing=1.2,
            handletextpad=0.5,
            borderaxespad=0.2,
        )
