"""What policies cost and what they achieve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stackjax._arrays.arguments import shown
from stackjax.plot._arguments import fitting, numbers
from stackjax.plot._style import COLORS, axes, color, finish, legend, marker


def pareto(
    arms: Mapping[str, Mapping[str, Any]],
    *,
    difference: bool = False,
    intervals: bool = True,
    cells: tuple[Any, Any] | None = None,
    front: bool = False,
    roles: Mapping[str, str] | None = None,
    names: bool = True,
    xlabel: str | None = None,
    ylabel: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws tokens per turn against the share of right answers, one mark for each arm.

    The colour is the arm's role, the marker its own. To the upper left is better.

    Args:
      arms: by name, what `stackjax.agents.evaluation.compare` returns: (estimate, low, high) of
        `tokens` and `correct`, and of `tokens_difference` and `correct_difference`. Correctness, in
        [0, 1], is shown in percent, its difference in points.
      difference: draw the paired differences to the arms' baseline instead of the values; lines
        mark 0.
      intervals: whether to draw them as error bars.
      cells: tokens `[K]` and correctness `[K]` of fixed policies, as small dots; for values only.
      front: join the arms and cells that no other one beats in both by a line of steps; for values
        only.
      roles: role of each arm (see `COLORS`); 'leader' for those that are not named.
      names: whether to add a legend.
      xlabel: instead of the usual one.
      ylabel: likewise.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: there is no arm; one lacks an interval, or its low exceeds its high; a number is
        not finite; `cells` differ in length or come with `difference`; a role or an
        arm of `roles` is unknown.

    Source: arXiv 2606.23026, Section 8.

    Example:
      >>> found = {"tokens": (250.0, 240.0, 260.0), "correct": (0.6, 0.5, 0.7)}
      >>> ax = sj.plot.pareto({"governed": found})
      >>> [round(float(x)) for x in ax.lines[0].get_xydata()[0]]
      [250, 60]
    """
    if not isinstance(arms, Mapping) or not arms:
        raise ValueError(
            f"`arms` must map the name of at least one arm to its intervals; got {shown(arms)}."
        )
    tail = "_difference" if difference else ""
    found = {
        name: (_interval(name, arm, f"tokens{tail}"), 100 * _interval(name, arm, f"correct{tail}"))
        for name, arm in arms.items()
    }
    paints = _paints(arms, roles)
    fixed = None if cells is None else _cells(cells)
    if difference and (fixed is not None or front):
        raise ValueError(
            "`difference` must be False with `cells` or `front`, which are of values; got True."
        )
    ax = axes(ax)
    if fixed is not None:
        ax.scatter(*fixed, s=14, color=COLORS["tried"], label=f"{len(fixed[0])} fixed cells")
    if front:
        _front(ax, np.stack([[x[0], y[0]] for x, y in found.values()], axis=1), fixed)
    for number, (name, (x, y)) in enumerate(found.items()):
        bars: dict[str, Any] = {"xerr": _reach(x), "yerr": _reach(y)} if intervals else {}
        ax.errorbar(
            x[0],
            y[0],
            fmt=marker(number),
            color=paints[name],
            markersize=8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=1.1,
            capsize=2.5,
            label=name,
            zorder=3,
            **bars,
        )
    if difference:
        ax.axhline(0, color=COLORS["reference"], linewidth=0.8, zorder=1)
        ax.axvline(0, color=COLORS["reference"], linewidth=0.8, zorder=1)
    ends = ", difference" if difference else ""
    usual = f"tokens per turn{ends}", f"right answers{ends} ({'points' if difference else '%'})"
    finish(ax, x=usual[0] if xlabel is None else xlabel, y=usual[1] if ylabel is None else ylabel)
    if names:
        legend(ax)
    return ax


def _interval(name: str, arm: Any, key: str) -> np.ndarray:
    """(estimate, low, high) of one arm."""
    if not isinstance(arm, Mapping) or key not in arm:
        raise ValueError(f"`arms[{name!r}]` must have {key!r}; got {shown(arm)}.")
    given = arm[key]
    if isinstance(given, Mapping):  # as read from JSON
        given = [given.get(part) for part in ("estimate", "low", "high")]
    values = fitting(f"arms[{name!r}][{key!r}]", given, (3,), "(estimate, low, high)")
    if not values[1] <= values[2]:
        raise ValueError(
            f"`arms[{name!r}][{key!r}]` must have its low at most its high; got {values[1]:g} and "
            f"{values[2]:g}."
        )
    return values


def _paints(arms: Mapping[str, Any], roles: Mapping[str, str] | None) -> dict[str, str]:
    roles = {} if roles is None else roles
    unknown = sorted(set(roles) - set(arms))
    if unknown:
        raise ValueError(f"`roles` must name arms, {list(arms)}; got {unknown}.")
    return {name: color(roles.get(name, "leader"), f"roles[{name!r}]") for name in arms}


def _cells(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        tokens, correct = cells
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`cells` must be a pair, tokens [K] and correctness [K]; got {shown(cells)}."
        ) from error
    tokens = numbers("cells", tokens, 1)
    return tokens, 100 * fitting("cells", correct, tokens.shape, "their tokens")


def _front(ax: Axes, arms: np.ndarray, fixed: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Steps through the points that no other one beats in both, cheapest first."""
    points = arms if fixed is None else np.concatenate([arms, np.stack(fixed)], axis=1)
    tokens, correct = points[:, np.lexsort((-points[1], points[0]))]
    best = np.concatenate([[-np.inf], np.maximum.accumulate(correct)[:-1]])
    kept = correct > best
    ax.plot(
        tokens[kept],
        correct[kept],
        drawstyle="steps-post",
        color=COLORS["reference"],
        linewidth=0.9,
        linestyle=(0, (4, 2)),
        label="front",
        zorder=2,
    )


def _reach(values: np.ndarray) -> np.ndarray:
    """How far an error bar reaches on both sides, `[2, 1]`."""
    estimate, low, high = values
    return np.maximum([[estimate - low], [high - estimate]], 0.0)
