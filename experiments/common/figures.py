"""The look that the figures of all studies share, and how a figure is drawn again.

A figure is made for the column of a README, 450 pixels wide: six inches with letters of nine
points, so that a letter keeps nine pixels there. Panels have letters, marks have their names beside
them, the headline has the number that the study is about. Colours are the roles of
`stackjax.plot.COLORS`. matplotlib's settings are left alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from stackjax.plot import COLORS

WIDTH = 6.0  # inches
SMALL = 8.0  # points, of notes and of numbers at marks
GREY = "0.35"
_LOOK: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.6,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.05,
}


class Row(NamedTuple):
    """One line of a panel: what it is, its estimate with an interval, and its role."""

    name: str
    estimate: float
    low: float
    high: float
    role: str = "tried"


@contextlib.contextmanager
def picture(path: Path, height: float, *, headline: str = "", note: str = "") -> Iterator[Figure]:
    """A figure that is saved at the end of the block.

    Args:
      path: PNG file.
      height: in inches.
      headline: over the figure, with its number.
      note: under it: what the marks are, and what is left out.
    """
    with matplotlib.rc_context(_LOOK):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        if headline:
            text = textwrap.fill(headline, 68)
            figure.suptitle(text, x=0.012, ha="left", fontsize=10.5, fontweight="bold")
        if note:
            text = textwrap.fill(note, 102)
            figure.supxlabel(text, x=0.012, ha="left", fontsize=SMALL, color=GREY)
        yield figure
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=200)
    # A palette of 128 colours is a third of the size, and no difference to the eye.
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        path, format="png", optimize=True
    )


def over_names(ax: Axes, text: str) -> None:
    """A word over the names at the left of a panel: what its rows have in common."""
    ax.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(-16, 6),
        textcoords="offset points",
        ha="right",
        fontsize=9.5,
        fontweight="bold",
    )


def title(ax: Axes, letter: str, text: str, *, left: float = 0.0) -> None:
    """The panel's letter and what it shows; begins `left` points before the axes, over names."""
    ax.set_title(" ")  # keeps the room
    label = ax.annotate(
        rf"$\bf{{{letter}}}$  {text}",
        (0, 1),
        xycoords="axes fraction",
        xytext=(-left, 6),
        textcoords="offset points",
        fontsize=9.5,
        annotation_clip=False,
    )
    label.set_in_layout(False)


def forest(
    ax: Axes, rows: Sequence[Row], value: Callable[[float], str], *, names: bool = True
) -> None:
    """Estimates with their intervals under each other, and their numbers at the right.

    Args:
      ax: where.
      rows: from the top.
      value: how an estimate is written.
      names: whether the names stand at the left; not in a panel that shares them.
    """
    for at, row in enumerate(rows):
        reach = [[max(row.estimate - row.low, 0)], [max(row.high - row.estimate, 0)]]
        color = COLORS[row.role]
        ax.errorbar(
            row.estimate, at, xerr=reach, fmt="o", color=color, markersize=5, elinewidth=1.6
        )
        ax.annotate(
            value(row.estimate),
            (1, at),
            xycoords=ax.get_yaxis_transform(),
            xytext=(30, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=SMALL,
            color=readable(row.role),
        )
    ax.axvline(0, color=COLORS["reference"], linewidth=0.8, zorder=1)
    listed(ax, rows, names=names)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x", color="0.92", linewidth=0.8)


def listed(ax: Axes, rows: Sequence[Row], *, names: bool = True) -> None:
    """Names of rows at the left, from the top, in the colours of their roles."""
    ax.set_yticks(range(len(rows)), [row.name for row in rows] if names else [""] * len(rows))
    for label, row in zip(ax.get_yticklabels(), rows):
        label.set_color(readable(row.role))
        label.set_fontweight("bold" if row.role == "leader" else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)


def readable(role: str) -> str:
    """A role's colour for letters: the grey of what was only tried is too light for them."""
    return "0.3" if role == "tried" else COLORS[role]


def ends(ax: Axes, names: Sequence[tuple[str, str]], x: float, y: Sequence[float]) -> None:
    """Names at the right ends of curves, moved apart where they would overlap.

    Args:
      ax: where; its limits and scales are final.
      names: name and role of each.
      x: of all ends.
      y: of each end.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    height = 1.25 * SMALL * figure.dpi / 72
    place = ax.transData.transform([(x, one) for one in y])[:, 1]
    order = np.argsort(place)
    apart = place[order]
    for _ in range(200):  # neighbours that are too close share the way
        lack = height - np.diff(apart)
        if (lack <= 1e-6).all():
            break
        push = np.maximum(lack, 0) / 2
        apart = apart + np.concatenate([[0], push]) - np.concatenate([push, [0]])
    for where, number in zip(apart, order):
        name, role = names[number]
        ax.annotate(
            name,
            (x, y[number]),
            xytext=(4, (where - place[number]) * 72 / figure.dpi),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=readable(role),
            annotation_clip=False,
        )


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, and a minus as long as a plus; nothing of it before a zero.

    Example:
      >>> signed(-0.24), signed(1.0), signed(-0.01)
      ('−0.2', '+1.0', '0.0')
    """
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text[1:] if float(text[1:]) == 0 else text


def interval(found: Any, factor: float = 1.0) -> tuple[float, float, float]:
    """Estimate and ends of an interval as results hold it, scaled."""
    return factor * found["estimate"], factor * found["low"], factor * found["high"]


def redraw(result: Path, figure: Callable[[Path, dict[str, Any]], None]) -> dict[str, Any]:
    """Draws the figure of a result again, beside it; returns the result.

    Args:
      result: JSON file that a study wrote.
      figure: the study's, of a path and the result.

    Raises:
      ValueError: the file is not JSON, or not a result of this study.
    """
    try:
        found = json.loads(result.read_text())
    except ValueError as error:
        raise ValueError(f"result: {result} is not JSON: {error}") from error
    path = result.with_suffix(".png")
    try:
        figure(path, found)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"result: {result} is no result of this study ({error!r})") from error
    print(f"wrote {path}")
    return found
