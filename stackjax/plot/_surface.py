"""A quantity over two numbers: the follower's response, or the leader's policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize

from stackjax._arrays.arguments import shown
from stackjax._follower.response import Response
from stackjax.plot._arguments import fitting, flags, numbers
from stackjax.plot._curve import mark_failed, mark_several
from stackjax.plot._style import SMALL, axes, colormap, finish, legend

ANNOTATED = 64  # cells, up to which each is given its number
LEVELS = 10  # steps of colour


def response_surface(
    first: Any,
    second: Any,
    values: Any,
    *,
    converged: Any = None,
    unique: Any = None,
    limits: tuple[float, float] | None = None,
    label: str = "follower's response",
    xlabel: str = "leader's action, first number",
    ylabel: str = "leader's action, second number",
    ax: Axes | None = None,
) -> Axes:
    """Draws one number of the follower's response over two numbers of the leader's action.

    Filled contours; where the follower did not converge they are left out and a cross is drawn,
    and an open circle where the response may not be the only best one.

    Args:
      first: `[M]`, increasing, M >= 2: along x.
      second: `[N]`, increasing, N >= 2: along y.
      values: `[M, N]`, at `first[i]`, `second[j]`; or a `Response` with such a `value`.
      converged: `[M, N]` booleans; of a `Response`, its own if None.
      unique: `[M, N]` booleans, likewise.
      limits: values at the ends of the colours, so that several surfaces can share them; those of
        the data if None.
      label: what the values are, with their unit.
      xlabel: what `first` is, with its unit.
      ylabel: what `second` is, with its unit.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: an argument is empty, has the wrong shape or a number that is not finite; an axis
        does not increase; `limits` is out of range.

    Source: arXiv 2606.23026, eq. (2), (3) and (8).

    Example:
      >>> q, alpha = np.linspace(0.6, 0.95, 4), np.linspace(0.0, 1.0, 3)
      >>> ax = sj.plot.response_surface(q, alpha, q[:, None] + alpha, xlabel="q", ylabel="alpha")
      >>> ax.get_xlabel(), [round(float(x), 2) for x in ax.get_xlim()]
      ('q', [0.6, 0.95])
    """
    if isinstance(values, Response):
        converged = values.converged if converged is None else converged
        unique = values.unique if unique is None else unique
        values = values.value
    x, y = increasing("first", first), increasing("second", second)
    shape = len(x), len(y)
    z = fitting("values", values, shape, "`first` and `second`")
    sure = np.ones(shape, bool)
    known = sure if converged is None else flags("converged", converged, shape, "values")
    alone = sure if unique is None else flags("unique", unique, shape, "values")
    ends = color_limits(limits, z[known])
    ax = axes(ax)
    contours(ax, x, y, np.ma.masked_array(z, ~known), ends, colormap("follower"))
    _colorbar(ax, colormap("follower"), ends, label)
    at = np.stack(np.meshgrid(x, y, indexing="ij"))
    if not known.all():
        mark_failed(ax, *at[:, ~known])
    if (known & ~alone).any():
        mark_several(ax, *at[:, known & ~alone])
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    finish(ax, x=xlabel, y=ylabel, grid=False)
    legend(ax)
    return ax


def policy_surface(
    first: Any,
    second: Any,
    values: Any,
    *,
    limits: tuple[float, float] | None = None,
    label: str = "leader's action",
    xlabel: str = "first state feature",
    ylabel: str = "second state feature",
    ax: Axes | None = None,
) -> Axes:
    """Draws one number of the leader's action over two features of the state.

    Filled contours where both features are numbers. Where one is a category (strings), coloured
    cells; up to 64 of them show their value.

    Args:
      first: `[M]`, along x: increasing numbers (M >= 2), or strings.
      second: `[N]`, along y: likewise.
      values: `[M, N]`, the action's number at `first[i]`, `second[j]`.
      limits: values at the ends of the colours; those of the data if None.
      label: what the values are, with their unit.
      xlabel: what `first` is, with its unit.
      ylabel: what `second` is, with its unit.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: as `response_surface`.

    Source: arXiv 2606.23026, eq. (1) and (2).

    Example:
      >>> tasks, budget = ["chat", "code"], [0.0, 0.5, 1.0]
      >>> ax = sj.plot.policy_surface(tasks, budget, [[0.6, 0.6, 0.7], [0.8, 0.9, 0.9]], label="q")
      >>> [text.get_text() for text in ax.texts][:3]
      ['0.60', '0.60', '0.70']
    """
    categories = [_strings(axis) for axis in (first, second)]
    x, y = (
        np.arange(len(names), dtype=float) if names is not None else increasing(name, axis, 1)
        for name, axis, names in zip(("first", "second"), (first, second), categories)
    )
    z = fitting("values", values, (len(x), len(y)), "`first` and `second`")
    ends = color_limits(limits, z)
    ax, paint = axes(ax), colormap("leader")
    if categories == [None, None]:
        increasing("first", first)
        increasing("second", second)
        contours(ax, x, y, z, ends, paint)
        ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    else:
        shown = [
            [f"{value:g}" for value in values] if names is None else names
            for values, names in zip((x, y), categories)
        ]
        _cells(ax, z, paint, ends, shown)
    _colorbar(ax, paint, ends, label)
    finish(ax, x=xlabel, y=ylabel, grid=False)
    return ax


def contours(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    ends: tuple[float, float],
    paint: LinearSegmentedColormap,
) -> None:
    """Filled contours of `z: [M, N]` and thin lines between them."""
    if not np.ma.count(z):
        return
    steps = np.linspace(*ends, LEVELS + 1)
    ax.contourf(x, y, z.T, levels=steps, cmap=paint, extend="both")
    inner = within(steps, z)
    if inner.size:
        ax.contour(x, y, z.T, levels=inner, colors="white", linewidths=0.6, linestyles="solid")


def within(levels: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The levels that lie inside of the values' range; matplotlib warns of a contour elsewhere."""
    values = np.ma.compressed(z)
    return levels[(levels > values.min()) & (levels < values.max())]


def increasing(name: str, values: Any, least: int = 2) -> np.ndarray:
    """`[M]` strictly increasing numbers, M >= `least`.

    Raises:
      ValueError: they are not.
    """
    array = numbers(name, values, 1, least=least)
    if not (np.diff(array) > 0).all():
        raise ValueError(f"`{name}` must increase; got {shown(values)}.")
    return array


def _strings(values: Any) -> list[str] | None:
    """The categories, or None where these are not strings."""
    array = np.asarray(values)
    if array.ndim == 1 and array.size and all(isinstance(item, str) for item in values):
        return [str(item) for item in values]
    return None


def _cells(
    ax: Axes,
    z: np.ndarray,
    paint: LinearSegmentedColormap,
    ends: tuple[float, float],
    shown: Sequence[Sequence[str]],
) -> None:
    """One coloured cell for each entry, with its value where there are few."""
    scale = Normalize(*ends)
    edges = [np.arange(n + 1) - 0.5 for n in z.shape]
    ax.pcolormesh(*edges, z.T, cmap=paint, norm=scale, edgecolors="white", linewidth=1.0)
    ax.set_xticks(range(z.shape[0]), shown[0])
    ax.set_yticks(range(z.shape[1]), shown[1])
    ax.tick_params(length=0)
    for (i, j), value in np.ndenumerate(z) if z.size <= ANNOTATED else ():
        dark = np.dot(paint(scale(value))[:3], (0.3, 0.6, 0.1)) < 0.55
        ax.text(
            i,
            j,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if dark else "black",
        )


def _colorbar(
    ax: Axes, paint: LinearSegmentedColormap, ends: tuple[float, float], label: str
) -> None:
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(ScalarMappable(Normalize(*ends), paint), ax=ax, label=label, pad=0.03)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def color_limits(limits: Any, values: np.ndarray) -> tuple[float, float]:
    """The ends of the colours: those given, or those of the data, apart if all values are equal."""
    if limits is not None:
        pair = numbers("limits", limits, 1)
        if pair.shape != (2,) or not pair[0] < pair[1]:
            raise ValueError(f"`limits` must be (low, high) with low < high; got {shown(limits)}.")
        return float(pair[0]), float(pair[1])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    half = 0.05 * abs(low) or 0.05
    return low - half, high + half
