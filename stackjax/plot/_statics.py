"""How an optimum moves with a parameter, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stackjax._arrays.arguments import check_all_within, check_within
from stackjax.plot._arguments import columns, flags, names, numbers
from stackjax.plot._curve import band, draw, mark_failed
from stackjax.plot._style import axes, finish, legend


def comparative_statics(
    parameters: Any,
    optimum: Any,
    *,
    standard_error: Any = None,
    low: Any = None,
    high: Any = None,
    level: float = 0.95,
    converged: Any = None,
    labels: Sequence[str] | None = None,
    xlabel: str = "parameter",
    ylabel: str = "leader's optimum",
    ax: Axes | None = None,
) -> Axes:
    """Draws the leader's optimum against a parameter, with a band for its interval.

    The interval comes from `standard_error`, as `optimum -+ z standard_error` with z the normal
    quantile of `level` (1.96 for 0.95), or is given by its ends, `low` and `high`, such as those of
    a bootstrap. The curve has a gap where `solve` did not converge: there a cross marks the best
    point that was found.

    The delta method gives the standard error where the game was estimated. With an estimate theta
    of covariance Sigma, the optimum l*(p, theta) at parameter p, and J = dl*/dtheta, the optimum's
    covariance is J Sigma J^T to first order. `jax.jacobian` of `solve` is J, by the implicit
    function theorem; the example does it. To first order means: where a constraint of the optimum
    is about to change (`Response.degeneracy`), the interval is that of one side.

    Args:
      parameters: `[N]`, the number that varies; in any order.
      optimum: a batched `Solution`, of which the action is drawn, or values: `[N]`, `[N, A]` or a
        pytree of arrays with a leading `[N]`, whose numbers become A curves.
      standard_error: of the shape of the optimum, at least 0; no band if None.
      low: lower end of the interval, of the same shape; instead of `standard_error`.
      high: upper end of the interval; comes with `low`.
      level: probability of the interval that a standard error makes, in (0, 1).
      converged: `[N]` booleans; of a `Solution`, its own if None.
      labels: A names for the legend.
      xlabel: what the parameter is, with its unit.
      ylabel: what the optimum is, with its unit.
      ax: where to draw; new axes if None.

    Raises:
      TypeError: `ax` is not a matplotlib Axes, or an argument holds no numbers.
      ValueError: an argument is empty, has the wrong shape or a number that is not finite; a
        standard error is negative or comes with `low` or `high`; one of these comes without the
        other, or a low exceeds its high; `level` is out of range.

    Source: the delta method, Casella and Berger, Statistical Inference (2002), Section 5.5.4.

    Example:
      >>> def profit(own, other, context):  # theta: intercept and slope of demand, estimated
      ...     theta, cost = context
      ...     return own * (theta[0] - theta[1] * (own + other) - cost)
      >>> game = sj.Game(profit, lambda lead, follow, context: profit(follow, lead, context))
      >>> def solve(theta, cost):
      ...     one = jnp.array(1.0)
      ...     return sj.solve(game, action=one, response=one, context=(theta, cost))
      >>> theta, covariance = jnp.array([10.0, 1.0]), jnp.diag(jnp.array([0.04, 0.0004]))
      >>> costs = jnp.array([0.0, 2.0, 4.0])
      >>> jacobian = jax.jacobian(lambda theta, cost: solve(theta, cost).action)
      >>> J = jax.vmap(jacobian, in_axes=(None, 0))(theta, costs)
      >>> error = jnp.sqrt(jnp.einsum("ni,ij,nj->n", J, covariance, J))
      >>> [round(float(e), 3) for e in error]
      [0.141, 0.128, 0.117]
      >>> found = jax.vmap(solve, in_axes=(None, 0))(theta, costs)
      >>> ax = sj.plot.comparative_statics(costs, found, standard_error=error, xlabel="cost")
      >>> [round(float(y), 2) for y in ax.lines[0].get_ydata()]
      [5.0, 4.0, 3.0]
    """
    x = numbers("parameters", parameters, 1)
    if hasattr(optimum, "action"):  # a `Solution`
        converged = getattr(optimum, "converged", None) if converged is None else converged
        optimum = optimum.action
    y = columns("optimum", optimum, len(x), "`parameters`")
    sure = np.ones(x.shape, bool)
    known = sure if converged is None else flags("converged", converged, x.shape, "`parameters`")
    ends = band(low, high, y.shape, "`optimum`")
    half = _half_width(standard_error, level, y.shape)
    if half is not None:
        if ends is not None:
            raise ValueError("`standard_error` must come without `low` and `high`; got both.")
        ends = np.stack([y - half, y + half])
    captions = None if labels is None else names("labels", labels, y.shape[1])
    ax = axes(ax)
    order = np.argsort(x, kind="stable")
    x, y, known = x[order], y[order], known[order]
    draw(ax, x, y, known, None if ends is None else ends[:, order], "leader", captions)
    if not known.all():
        many = np.repeat(x[:, None], y.shape[1], axis=1)
        mark_failed(ax, many[~known].ravel(), y[~known].ravel())
    finish(ax, x=xlabel, y=ylabel)
    legend(ax)
    return ax


def _half_width(error: Any, level: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """Half of the interval, `[N, A]`; None where there is no standard error."""
    check_within("level", level, "(0, 1)")
    if error is None:
        return None
    errors = columns("standard_error", error, shape[0], "`optimum`", width=shape[1])
    check_all_within("standard_error", errors, "[0, inf)")
    return NormalDist().inv_cdf((1 + level) / 2) * errors
