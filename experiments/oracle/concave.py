"""Smooth concave utilities in a box, by accelerated gradients, Newton's method, and a proof.

How a candidate was found does not matter: `report_box` holds it to the optimality conditions, which
for a concave utility prove it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Gradient = Callable[[np.ndarray], np.ndarray]


def ascend(
    gradient: Gradient,
    lipschitz: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    steps: int = 400,
    convexity: np.ndarray | None = None,
) -> np.ndarray:
    """Nesterov's projected gradients from the middle of the box, restarted where they turn back.

    Args:
      gradient: `[N, d]` to `[N, d]`.
      lipschitz: `[N]`, bounds of the gradient's Lipschitz constant.
      lower: `[N, d]`.
      upper: `[N, d]`.
      steps: how many.
      convexity: `[N]`, of strong concavity, if a constant momentum is wished.
    """
    low, high = np.maximum(lower, -1e3), np.minimum(upper, 1e3)
    y = np.clip(np.zeros_like(lower), low, high)
    z, t = y.copy(), np.ones(len(y))
    for _ in range(steps):
        slope = gradient(z)
        new = np.clip(z + slope / lipschitz[:, None], lower, upper)
        back = ((z - new) * (new - y)).sum(-1) > 0
        grown = np.where(back, 1.0, (1 + np.sqrt(1 + 4 * t**2)) / 2)
        z = new + np.where(back, 0.0, (t - 1) / grown)[:, None] * (new - y)
        z = np.clip(z, lower, upper)
        y, t = new, grown
    return y


def polish(
    gradient: Gradient,
    hessian: Callable[[np.ndarray], np.ndarray],
    lower: np.ndarray,
    upper: np.ndarray,
    y: np.ndarray,
    steps: int = 30,
) -> np.ndarray:
    """Newton steps on the coordinates that the bounds do not hold; the best point is kept.

    Args:
      gradient: `[N, d]` to `[N, d]`.
      hessian: `[N, d]` to `[N, d, d]`, negative definite.
      lower: `[N, d]`.
      upper: `[N, d]`.
      y: `[N, d]`, where to start.
      steps: how many at the most.
    """
    best, least = y, np.full(len(y), np.inf)
    for _ in range(steps):
        g, H = gradient(y), hessian(y)
        scale = -np.einsum("nii->ni", H)
        wrong = np.abs(np.clip(y + g / scale, lower, upper) - y).max(-1)
        better = wrong < least
        best = np.where(better[:, None], y, best)
        least = np.minimum(wrong, least)
        near = np.maximum(1e-9, wrong)[:, None] * 2
        held = ((y <= lower + near) & (g < 0)) | ((y >= upper - near) & (g > 0))
        held |= lower == upper
        free = (~held).astype(float)
        M = -H * free[:, :, None] * free[:, None, :] + np.eye(y.shape[1]) * held[:, :, None]
        step = np.linalg.solve(M, (g * free)[..., None])[..., 0]
        at = np.where(g > 0, upper, lower)
        y = np.where(held, np.where(np.isfinite(at), at, y), np.clip(y + step, lower, upper))
    return best


def bisect(slope: Gradient, lower: np.ndarray, upper: np.ndarray, reach: float = 1e6) -> np.ndarray:
    """The root of a decreasing function of each coordinate alone, or the bound it points to.

    Args:
      slope: elementwise decreasing, `[N, d]` to `[N, d]`; may be infinite at `lower`.
      lower: `[N, d]`.
      upper: `[N, d]`.
      reach: how far to look where a side is open.
    """
    low, high = np.maximum(lower, -reach), np.minimum(upper, reach)
    low, high = low + np.zeros_like(high), high + np.zeros_like(low)
    for _ in range(200):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            rising = slope(middle) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    near = np.where(np.abs(high - upper) <= np.spacing(np.abs(upper)), upper, (low + high) / 2)
    return np.where(np.abs(near - lower) <= np.spacing(np.abs(lower)), lower, near)
