"""Exact replay of an arm at a load, on turns whose outcomes are recorded, within the pool."""

from __future__ import annotations

import dataclasses

import numpy as np

from experiments.pool.table import CHEAPEST, Table


@dataclasses.dataclass(frozen=True)
class Played:
    """One arm at one load over T turns.

    Attributes:
      cells: `[T]`, as played.
      correct, tokens: `[T]`.
      free_correct, free_tokens: `[T]`, of the chosen cells, as if the pool had no end.
      charged: `[T]` bool, turns that came after the pool was empty.
    """

    cells: np.ndarray
    correct: np.ndarray
    tokens: np.ndarray
    free_correct: np.ndarray
    free_tokens: np.ndarray
    charged: np.ndarray


def replay(table: Table, cells: np.ndarray, pool: float | None) -> Played:
    """Plays the turns in order; those that begin after the pool is used up get the cheapest cell.

    Args:
      table: turns that were taken under the chosen cells and the cheapest one.
      cells: `[T]`, chosen.
      pool: tokens a turn; the pool is for all of the turns together; None for no end.

    Raises:
      ValueError: A turn was not taken under its cell.
    """
    rows = np.arange(len(table))
    needed = np.ones(len(table), bool) if pool is not None else np.zeros(len(table), bool)
    lacking = ~table.seen[rows, cells] | (needed & ~table.seen[:, CHEAPEST])
    if lacking.any():
        raise ValueError(f"`table` must have every turn's cell; got {lacking.sum()} turns without")
    tokens = table.tokens[rows, cells]
    before = np.cumsum(tokens) - tokens
    charged = np.zeros(len(table), bool) if pool is None else before >= pool * len(table)
    played = np.where(charged, CHEAPEST, cells)
    return Played(
        cells=played,
        correct=table.correct[rows, played],
        tokens=table.tokens[rows, played],
        free_correct=table.correct[rows, cells],
        free_tokens=tokens,
        charged=charged,
    )
