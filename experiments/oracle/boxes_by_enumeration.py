"""Strictly concave quadratics in a box, by trying every combination of free and held coordinates.

max_r  c'r - r'Qr / 2   such that  lower <= r <= upper
"""

from __future__ import annotations

import itertools

import numpy as np

from experiments.oracle.kind import Answer, unit_of


def enumerate_box(Q: np.ndarray, c: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The maximisers: of all `3^d` candidates the one that violates the conditions least.

    Args:
      Q: `[N, d, d]`, positive definite.
      c: `[N, d]`.
      lower: `[N, d]`, may be `-inf`.
      upper: `[N, d]`, may be `inf`.

    Returns:
      `[N, d]`.
    """
    n, d = c.shape
    best = np.zeros((n, d))
    least = np.full(n, np.inf)
    for pattern in itertools.product((0, 1, 2), repeat=d):
        held = [i for i in range(d) if pattern[i]]
        free = [i for i in range(d) if not pattern[i]]
        y = np.stack([(c, lower, upper)[pattern[i]][:, i] for i in range(d)], -1)
        there = np.all(np.isfinite(y), axis=-1)
        y = np.where(there[:, None], y, 0.0)
        if free:
            right = c[:, free] - np.einsum("nij,nj->ni", Q[:, free][:, :, held], y[:, held])
            y[:, free] = np.linalg.solve(Q[:, free][:, :, free], right[..., None])[..., 0]
        violated = np.where(there, violation(Q, c, lower, upper, y, pattern), np.inf)
        better = np.less(violated, least)
        best = np.where(better[:, None], y, best)
        least = np.where(better, violated, least)
    return best


def violation(
    Q: np.ndarray,
    c: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    y: np.ndarray,
    pattern: tuple[int, ...],
) -> np.ndarray:
    """`[N]`, by how much a candidate leaves the box, or a multiplier has the wrong sign."""
    gradient = (c - np.einsum("nij,nj->ni", Q, y)) / np.einsum("nii->ni", Q)
    outside = np.maximum(lower - y, y - upper)
    sides = {0: outside, 1: gradient, 2: -gradient}
    each = np.stack([sides[side][:, i] for i, side in enumerate(pattern)], -1)
    pinned = (lower == upper) & (np.array(pattern) > 0)
    return np.where(pinned, 0.0, each).max(-1).clip(0.0)


def report_box(
    y: np.ndarray, gradient: np.ndarray, curvature: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> Answer:
    """Checks a candidate against the conditions and measures how near they are to a tie.

    Args:
      y: `[N, d]`, the candidates.
      gradient: `[N, d]`, of the utility there.
      curvature: `[N, d]`, positive, what turns a gradient into a length.
      lower: `[N, d]`.
      upper: `[N, d]`.
    """
    unit = unit_of(y, lower, upper)
    step = gradient / curvature / unit
    moved = np.clip(y + gradient / curvature, lower, upper) - y
    slack = np.minimum(y - lower, upper - y) / unit
    margin = np.where(lower == upper, np.inf, np.maximum(slack, np.abs(step))).min(-1)
    return Answer(y, unit, margin, (np.abs(moved) / unit).max(-1))
