"""The follower's response along a line of leader's actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stackjax._arrays.arguments import shown
from stackjax._follower.response import Response
from stackjax.plot._arguments import columns, flags, names, numbers
from stackjax.plot._style import COLORS, axes, dashes, finish, legend, shade


def response_curve(
    actions: Any,
    responses: Any,
    *,
    converged: Any = None,
    unique: Any = None,
    low: Any = None,
    high: Any = None,
    bounds: tuple[Any, Any] | None = None,
    labels: Sequence[str] | None = None,
    xlabel: str = "leader's action",
    ylabel: str = "follower's response",
    ax: Axes | None = None,
) -> Axes:
    """Draws the follower's response against one number of the leader's action.

    The curve has a gap where the follower did not converge: there a cross marks the best point
    that was found. An open circle marks a response that may not be the only best one: the curve,
    and derivatives through it, hold for the response that was found. `low` and `high` are the ends
    of a band around each curve, such as an interval for a follower that was fitted.

    Args:
      actions: `[N]`, the number that varies; in any order.
      responses: a batched `Response`, or the values alone: `[N]`, `[N, R]` or a pytree of arrays
        with a leading `[N]`, whose numbers become R curves.
      converged: `[N]` booleans; of a `Response`, its own if None.
      unique: `[N]` booleans, likewise.
      low: lower end of the band, of the shape of the responses; no band if None.
      high: upper end of the band; comes with `low`.
      bounds: lower and upper bound of the responses, each a number or `[R]`; dashed lines. Infinite
        ones are not drawn.
      labels: R names for the legend.
      xlabel: what the action's number is, with its unit.
      ylabel: what the responses are, with their unit.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: an argument is empty, has the wrong shape or a number that is not finite (but for
        bounds, which may be infinite); one of `low` and `high` comes without the other, or a low
        exceeds its high.

    Source: arXiv 2606.23026, eq. (3) and (8).

    Example:
      >>> utility = lambda action, response, context: -((response - action) ** 2)
      >>> game = sj.Game(utility, utility, response_set=sj.Box(0.0, 1.0))
      >>> actions = jnp.linspace(-1.0, 2.0, 7)
      >>> answer = lambda a: sj.best_response(game, a, None, response=jnp.array(0.5))
      >>> ax = sj.plot.response_curve(actions, jax.vmap(answer)(actions), bounds=(0.0, 1.0))
      >>> [round(float(x), 3) for x in ax.lines[0].get_ydata()]
      [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]

      A band: the responses of a follower that prefers up to 0.2 less or more.

      >>> shifted = lambda by: jax.vmap(lambda a: answer(a + by).value)(actions)
      >>> ax = sj.plot.response_curve(
      ...     actions, shifted(0.0), low=shifted(-0.2), high=shifted(0.2)
      ... )
      >>> len(ax.collections)
      1
    """
    x = numbers("actions", actions, 1)
    if isinstance(responses, Response):
        converged = responses.converged if converged is None else converged
        unique = responses.unique if unique is None else unique
        responses = responses.value
    y = columns("responses", responses, len(x), "`actions`")
    shape, curves = x.shape, y.shape[1]
    sure = np.ones(shape, bool)
    known = sure if converged is None else flags("converged", converged, shape, "`actions`")
    alone = sure if unique is None else flags("unique", unique, shape, "`actions`")
    ends = band(low, high, y.shape, "`responses`")
    limits = None if bounds is None else _limits(bounds, curves)
    captions = None if labels is None else names("labels", labels, curves)
    ax = axes(ax)
    order = np.argsort(x, kind="stable")
    x, y, known, alone = x[order], y[order], known[order], alone[order]
    draw(ax, x, y, known, None if ends is None else ends[:, order], "follower", captions)
    for value in () if limits is None else limits:
        ax.axhline(value, color=COLORS["reference"], linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    many = np.repeat(x[:, None], curves, axis=1)
    _marks(ax, many[~known], y[~known], many[known & ~alone], y[known & ~alone])
    finish(ax, x=xlabel, y=ylabel)
    legend(ax)
    return ax


def band(low: Any, high: Any, shape: tuple[int, int], of: str) -> np.ndarray | None:
    """Both ends of a band around curves `[N, R]`: `[2, N, R]`, or None where none is given.

    Raises:
      ValueError: one comes without the other, they do not fit the curves, or a low exceeds its
        high.
    """
    if low is None and high is None:
        return None
    for name, end, other in (("low", low, "high"), ("high", high, "low")):
        if end is None:
            raise ValueError(f"`{name}` must be given with `{other}`; got None.")
    ends = np.stack(
        [columns(n, x, shape[0], of, width=shape[1]) for n, x in (("low", low), ("high", high))]
    )
    wrong = int((ends[0] > ends[1]).sum())
    if wrong:
        raise ValueError(
            f"`low` must not exceed `high`; it does at {wrong} of {ends[0].size} points."
        )
    return ends


def draw(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    ends: np.ndarray | None,
    role: str,
    captions: Sequence[str] | None,
) -> None:
    """Curves `y: [N, R]` over increasing `x: [N]` with gaps where not `known: [N]`.

    Args:
      ax: where.
      x: along the axis.
      y: the curves, a column each.
      known: where there is something to be drawn.
      ends: `[2, N, R]`, the ends of bands; none if None.
      role: of all curves.
      captions: R names for the legend.
    """
    # A point whose neighbours failed has no line through it.
    padded = np.concatenate([[False], known, [False]])
    lonely = known & ~padded[:-2] & ~padded[2:]
    for number in range(y.shape[1]):
        paint = shade(role, number, y.shape[1])
        ax.plot(
            x,
            np.where(known, y[:, number], np.nan),
            color=paint,
            linestyle=dashes(number),
            linewidth=1.8,
            label=None if captions is None else captions[number],
        )
        if lonely.any():
            ax.plot(x[lonely], y[lonely, number], ".", color=paint, markersize=6)
        if ends is not None:
            bottom, top = ends[:, :, number]
            ax.fill_between(x, bottom, top, where=known, color=paint, alpha=0.2, linewidth=0)
            if lonely.any():
                ax.vlines(x[lonely], bottom[lonely], top[lonely], color=paint, linewidth=1.1)


def _limits(bounds: Any, count: int) -> np.ndarray:
    """The finite bounds, each once."""
    try:
        lower, upper = bounds
        pair = np.stack([np.broadcast_to(np.asarray(b, float), count) for b in (lower, upper)])
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`bounds` must be a pair (lower, upper) of numbers or of arrays with one for each of "
            f"{count} curves; got {shown(bounds)}."
        ) from error
    if np.isnan(pair).any() or (pair[0] > pair[1]).any():
        raise ValueError(f"`bounds` must be (lower, upper) in order; got {shown(bounds)}.")
    return np.unique(pair[np.isfinite(pair)])


def _marks(ax: Axes, x_failed: Any, y_failed: Any, x_several: Any, y_several: Any) -> None:
    if x_failed.size:
        mark_failed(ax, x_failed.ravel(), y_failed.ravel())
    if x_several.size:
        mark_several(ax, x_several.ravel(), y_several.ravel())


def mark_failed(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Crosses where the follower did not converge."""
    ax.plot(x, y, "x", color=COLORS["warning"], markersize=6, label="not converged", zorder=4)


def mark_several(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Open circles where the response may not be the only best one."""
    ax.plot(
        x,
        y,
        "o",
        markeredgecolor=COLORS["warning"],
        markerfacecolor="none",
        markersize=6,
        label="not unique",
        zorder=4,
    )
