"""How an executor or a planner chooses a cell, and how a price is set to a budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments.pool.table import MENU
from stackjax.agents.game._pool import DEFAULT_POOL

COST, GAP, SOFTNESS = DEFAULT_POOL.cost, DEFAULT_POOL.gap, DEFAULT_POOL.softness
STEPS = 40  # bisections

Number = float | np.ndarray


def best_cell(
    quality: np.ndarray, tokens: np.ndarray, price: Number, floor: Number = 0.0
) -> np.ndarray:
    """`[T]`: the cells of the menu of most utility, the first of equal ones.

    Args:
      quality: `[T, K]`, predicted.
      tokens: `[T, K]`, predicted, in units of `T_bar`.
      price: of tokens, `w_C (1 - alpha)` to an executor; a number or `[T]`.
      floor: q; 0 for none; a number or `[T]`.
    """
    column = lambda value: np.asarray(value, float).reshape(-1, 1)
    floor = column(floor)
    short = SOFTNESS * np.logaddexp(0.0, (floor - quality) / SOFTNESS)
    worth = quality - column(price) * tokens - np.where(floor > 0, GAP * short, 0.0)
    return np.where(MENU, worth, -np.inf).argmax(1)


def capped_cell(quality: np.ndarray, tokens: np.ndarray, cap: float) -> np.ndarray:
    """`[T]`: the cells of most quality with at most `cap` tokens; the cheapest where there is none.

    Arguments as in `best_cell`.
    """
    inside = MENU & (tokens <= cap)
    best = np.where(inside, quality, -np.inf).argmax(1)
    cheapest = np.where(MENU, tokens, np.inf).argmin(1)
    return np.where(inside.any(1), best, cheapest)


def least_price(spent: Callable[[float], float], budget: float, most: float) -> float:
    """The lowest price, up to `most`, at which what is spent is within the budget; by bisection."""
    if spent(0.0) <= budget:
        return 0.0
    low, high = 0.0, most
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
    return high
