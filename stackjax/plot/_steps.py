"""How many iterations a batch of solves took."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stackjax.plot._arguments import flags, numbers
from stackjax.plot._style import COLORS, axes, color, finish, legend

_BARS = 60  # beyond as many different numbers, bars hold several


def step_histogram(
    steps: Any,
    *,
    converged: Any = None,
    role: str = "follower",
    xlabel: str = "solver steps",
    ylabel: str = "contexts (%)",
    ax: Axes | None = None,
) -> Axes:
    """Draws how many contexts took how many solver steps.

    Under `jax.vmap` all contexts of a block wait for its slowest: a long tail is what a batch pays
    for. Contexts that did not converge are stacked on top in the colour of warnings.

    Args:
      steps: a batched `Response` or `Solution`, or its steps alone: integers of any shape.
      converged: booleans of that shape; of a `Response` or `Solution`, its own if None.
      role: whose solver it is, see `COLORS`.
      xlabel: what is counted.
      ylabel: of which there are so many percent.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, `steps` is not numbers or `converged` not booleans.
      ValueError: `steps` is empty or has a negative number or one that is not an integer;
        `converged` has another shape; the role is unknown.

    Example:
      >>> ax = sj.plot.step_histogram([2, 2, 3, 7], converged=[True, True, True, False])
      >>> [float(bar.get_height()) for bar in ax.patches]
      [50.0, 25.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 25.0]
    """
    if hasattr(steps, "steps"):
        converged = getattr(steps, "converged", None) if converged is None else converged
        steps = steps.steps
    shape = np.shape(steps)
    taken = numbers("steps", steps).ravel()
    if (taken < 0).any() or (taken != np.round(taken)).any():
        wrong = taken[(taken < 0) | (taken != np.round(taken))]
        raise ValueError(f"`steps` must be integers of at least 0; got {wrong[0]:g}.")
    sure = np.ones(shape, bool)
    known = (sure if converged is None else flags("converged", converged, shape, "`steps`")).ravel()
    paint, ax = color(role), axes(ax)
    low, high = int(taken.min()), int(taken.max())
    width = -(-(high - low + 1) // _BARS)
    edges = np.arange(low, high + width + 1, width) - 0.5
    share = lambda which: 100 * np.histogram(taken[which], edges)[0] / len(taken)
    good, bad = share(known), share(~known)
    middle = (edges[:-1] + edges[1:]) / 2
    ax.bar(middle, good, 0.9 * width, color=paint, label=None if known.all() else "converged")
    if not known.all():
        ax.bar(
            middle, bad, 0.9 * width, bottom=good, color=COLORS["warning"], label="not converged"
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(ax, x=xlabel, y=ylabel)
    ax.grid(visible=False, axis="x")
    legend(ax)
    return ax
