"""Which actions were tried, which of them may be played, and what projection does."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from stackjax._arrays.arguments import check_all_within
from stackjax.plot._arguments import columns, fitting, numbers
from stackjax.plot._style import COLORS, axes, finish, legend
from stackjax.sets._empirical import ActionSet


def action_set(
    actions: Any,
    *,
    allowed: Any = None,
    baseline: int | None = None,
    proposed: Any = None,
    projected: Any = None,
    xlabel: str = "action, first number",
    ylabel: str = "action, second number",
    ax: Axes | None = None,
) -> Axes:
    """Draws the first two numbers of tried actions: which may be played, which are excluded.

    An excluded action is a grey cross; an allowed one is a dot in the leader's colour, smaller
    where it may be played in a part of the states only. Proposed actions are open circles, each
    with a line to the action that is played instead.

    Args:
      actions: an `ActionSet`, or its K actions: `[K, d]` or a pytree with a leading `[K]`. Any two
        numbers for each action will do, such as its tokens and its correctness.
      allowed: `[K]`: booleans, or the share of states in [0, 1] in which the action may be played;
        all if None.
      baseline: row of the baseline's action, if it is to be marked.
      proposed: `[N, d]`, actions before projection.
      projected: `[N, d]`, the same after it; the nearest allowed one, in the units of the
        `ActionSet`'s scale, if None.
      xlabel: what the first is, with its unit.
      ylabel: what the second is, with its unit.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: an argument is empty, has the wrong shape or a number that is not finite; a share
        is outside of [0, 1]; `baseline` is out of range; `projected` comes without `proposed`, or
        nothing is allowed to project on.

    Source: arXiv 2606.23026, eq. (29-30).

    Example:
      >>> cells = np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
      >>> ax = sj.plot.action_set(cells, allowed=[False, True, True], proposed=[[0.1, 0.2]])
      >>> ax.collections[0].get_segments()[0].tolist()
      [[0.1, 0.2], [0.5, 0.5]]
    """
    scale: Any = 1.0
    if isinstance(actions, ActionSet):
        actions, given = actions.actions, actions.scale
        if given is not None:
            row = jax.tree.map(lambda leaf: np.asarray(leaf)[0], actions)
            spread = jax.tree.map(lambda s, leaf: np.broadcast_to(s, leaf.shape), given, row)
            scale = columns("actions.scale", jax.tree.map(lambda s: s[None], spread), 1, "it")[0]
    points = _points("actions", actions)
    count = len(points)
    share = _share(allowed, count)
    moves = _moves(proposed, projected, points, share, scale)
    if baseline is not None and not (_integer(baseline) and 0 <= baseline < count):
        raise ValueError(f"`baseline` must be a row in 0..{count - 1}; got {baseline!r}.")
    ax = axes(ax)
    x, y = points[:, 0], points[:, 1]
    if moves is not None:
        ends = np.stack(moves, axis=1)[:, :, :2]
        lines = LineCollection(list(ends), colors=COLORS["follower"], linewidths=0.8, alpha=0.7)
        ax.add_collection(lines)
        ax.scatter(
            *ends[:, 0].T,
            s=22,
            facecolors="white",
            edgecolors=COLORS["follower"],
            linewidths=1.0,
            label="proposed",
            zorder=3,
        )
    out = share == 0
    if out.any():
        ax.scatter(x[out], y[out], s=24, marker="x", color=COLORS["tried"], label="excluded")
    if not out.all():
        ax.scatter(
            x[~out],
            y[~out],
            s=10 + 50 * share[~out],
            color=COLORS["leader"],
            label="allowed",
            zorder=2,
        )
    if baseline is not None:
        ax.scatter(
            x[baseline],
            y[baseline],
            s=110,
            marker="D",
            facecolors="none",
            edgecolors=COLORS["baseline"],
            linewidths=1.6,
            label="baseline",
            zorder=4,
        )
    finish(ax, x=xlabel, y=ylabel)
    legend(ax)
    return ax


def _points(name: str, actions: Any) -> np.ndarray:
    """`[K, d]`, d >= 2."""
    leaves = jax.tree.leaves(actions)
    if not any(np.ndim(leaf) for leaf in leaves):  # a list of lists
        leaves = [numbers(name, actions)]
    if np.ndim(leaves[0]) < 1:
        raise ValueError(f"`{name}` must be [K, d] or a pytree with a leading [K]; got one number.")
    points = columns(name, actions, len(leaves[0]), "its first array")
    if points.shape[1] < 2:
        raise ValueError(f"`{name}` must have 2 numbers or more a row; got {points.shape[1]}.")
    return points


def _share(allowed: Any, count: int) -> np.ndarray:
    if allowed is None:
        return np.ones(count)
    share = fitting("allowed", allowed, (count,), "`actions`")
    check_all_within("allowed", share, "[0, 1]")
    return share


def _moves(
    proposed: Any, projected: Any, points: np.ndarray, share: np.ndarray, scale: Any
) -> tuple[np.ndarray, np.ndarray] | None:
    """Actions before and after projection, `[N, d]` each."""
    if proposed is None:
        if projected is not None:
            raise ValueError("`projected` must come with `proposed`; got None for that.")
        return None
    before = _points("proposed", proposed)
    if before.shape[1] != points.shape[1]:
        raise ValueError(
            f"`proposed` must have {points.shape[1]} numbers a row for `actions`; got "
            f"{before.shape[1]}."
        )
    if projected is not None:
        return before, fitting("projected", projected, before.shape, "`proposed`")
    if not (share > 0).any():
        raise ValueError("`allowed` must allow an action to project on; got none.")
    kept = points[share > 0]
    apart = (((before[:, None] - kept[None]) / scale) ** 2).sum(2)
    return before, kept[apart.argmin(axis=1)]


def _integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
