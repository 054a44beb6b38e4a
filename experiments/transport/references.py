"""Transport plans by numpy alone, in float64: what the study compares with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def entropic(cost: np.ndarray, supply: np.ndarray, demand: np.ndarray, heat: float) -> np.ndarray:
    """The plan `[n, n]` that maximises `-cost . r - heat r . log r`, by Sinkhorn's iterations.

    Sinkhorn and Knopp, Pacific Journal of Mathematics 21, 1967.
    """
    kernel, right = np.exp(-cost / heat), np.ones(len(demand))
    left = right
    for _ in range(100_000):
        left = supply / (kernel @ right)
        right, before = demand / (kernel.T @ left), right
        if np.abs(right / before - 1).max() < 1e-15:
            break
    return left[:, None] * kernel * right[None]


def quadratic(cost: np.ndarray, supply: np.ndarray, demand: np.ndarray, heat: float) -> np.ndarray:
    """The plan `[n, n]` that maximises `-cost . r - heat r . r / 2`, r >= 0, by its dual.

    A semismooth Newton method on the prices of the rows (Lorenz, Manns and Meyer, Applied
    Mathematics and Optimization 83, 2021), `r = max(0, prices - cost) / heat`.
    """
    n, total = len(supply), np.concatenate([supply, demand])
    prices = np.zeros(2 * n)

    def at(prices: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        plan = np.maximum(prices[:n, None] + prices[None, n:] - cost, 0) / heat
        gap = np.concatenate([plan.sum(1), plan.sum(0)]) - total
        return plan, gap, float(heat * np.sum(plan**2) / 2 - total @ prices)

    for _ in range(500):
        plan, gap, height = at(prices)
        if np.abs(gap).max() < 1e-14 * total.max():
            break
        on = (plan > 0).astype(float)
        bend = np.block([[np.diag(on.sum(1)), on], [on.T, np.diag(on.sum(0))]]) / heat
        weight = 1e-10 if np.abs(gap).max() < 1e-3 else 1e-3
        step = -np.linalg.solve(bend + weight * np.eye(2 * n) / heat, gap)
        length = 1.0
        while length > 1e-6 and at(prices + length * step)[2] > height + 1e-4 * length * gap @ step:
            length /= 2
        prices = prices + length * step
    return at(prices)[0]


def slope(
    plan: Callable[[np.ndarray], np.ndarray],
    cost: np.ndarray,
    way: np.ndarray,
    weights: np.ndarray,
    step: float,
) -> float:
    """The derivative of `weights . plan(cost)` along `way`, by differences of fourth order."""
    value = lambda t: np.sum(weights * plan(cost + t * way))
    near, far = value(step) - value(-step), value(2 * step) - value(-2 * step)
    return float((8 * near - far) / (12 * step))
