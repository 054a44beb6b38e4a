"""Strictly concave quadratics in a polyhedron, by trying every small set of active rows.

The problem is `max_r c'r - r'Qr / 2` such that `A r <= b` and `E r = d`. The rows given here are
the irredundant ones; the library may be given others that describe the same set.
"""

from __future__ import annotations

import itertools

import numpy as np

from experiments.oracle.kind import Answer

_SINGULAR = 1e-10


def enumerate_polyhedron(
    Q: np.ndarray,
    c: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    E: np.ndarray | None = None,
    d: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The maximisers and the multipliers of the inequalities.

    Args:
      Q: `[N, n, n]`, positive definite.
      c: `[N, n]`.
      A: `[N, m, n]`; rows of zeros are skipped.
      b: `[N, m]`, may be `inf`.
      E: `[N, p, n]`, of full rank.
      d: `[N, p]`.

    Returns:
      `[N, n]` and `[N, m]`. Of all candidates the one that violates the conditions least.
    """
    games, n = c.shape
    m = A.shape[1]
    E = np.zeros((games, 0, n)) if E is None else E
    d = np.zeros((games, 0)) if d is None else d
    p = E.shape[1]
    inverse = np.linalg.inv(Q)
    free = np.einsum("nij,nj->ni", inverse, c)
    length = np.linalg.norm(A, axis=-1) + 1e-300
    there = np.isfinite(b) & (length > 1e-290)
    b = np.where(there, b, 1e300)
    stiff = np.einsum("nii->n", Q) / n
    best, multipliers = free.copy(), np.zeros((games, m))
    least = np.full(games, np.inf)
    for size in range(n - p + 1):
        for rows in itertools.combinations(range(m), size):
            some = list(rows)
            C = np.concatenate([E, A[:, some]], 1)
            e = np.concatenate([d, np.where(there, b, 0.0)[:, some]], 1)
            scale = np.linalg.norm(C, axis=-1, keepdims=True) + 1e-300
            C, e = C / scale, e / scale[..., 0]
            fine = there[:, some].all(-1)
            y, price = free, np.zeros((games, 0))
            if C.shape[1]:
                bent = np.einsum("nki,nij,nlj->nkl", C, inverse, C)
                spread = np.linalg.eigvalsh(bent)
                fine &= spread[:, 0] > _SINGULAR * spread[:, -1]
                bent = np.where(fine[:, None, None], bent, np.eye(C.shape[1]))
                gap = np.einsum("nki,ni->nk", C, free) - e
                price = np.linalg.solve(bent, gap[..., None])[..., 0]
                y = free - np.einsum("nij,nkj,nk->ni", inverse, C, price)
            price = price[:, p:]
            outside = ((np.einsum("nmi,ni->nm", A, y) - b) / length).max(-1, initial=0.0)
            wrong_sign = (-price).max(-1, initial=0.0) / stiff
            violated = np.where(fine, np.maximum(outside, wrong_sign), np.inf)
            better = np.less(violated, least)
            best = np.where(better[:, None], y, best)
            least = np.where(better, violated, least)
            full = np.zeros((games, m))
            full[:, some] = price / length[:, some]
            multipliers = np.where(better[:, None], full, multipliers)
    return best, multipliers


def report_polyhedron(
    y: np.ndarray,
    multipliers: np.ndarray,
    gradient: np.ndarray,
    stiffness: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    E: np.ndarray | None,
    d: np.ndarray | None,
    size: np.ndarray,
) -> Answer:
    """Checks a maximiser and measures how near its rows are to a tie.

    Args:
      y: `[N, n]`.
      multipliers: `[N, m]`, of `A r <= b`.
      gradient: `[N, n]`, of the utility at `y`.
      stiffness: `[N]`, what turns a gradient into a length.
      A: `[N, m, n]`.
      b: `[N, m]`.
      E: `[N, p, n]` or None.
      d: `[N, p]` or None.
      size: `[N]`, the length that counts as 1.
    """
    length = np.linalg.norm(A, axis=-1) + 1e-300
    there = np.isfinite(b) & (length > 1e-290)
    slack = (np.where(there, b, 0.0) - np.einsum("nmi,ni->nm", A, y)) / length / size[:, None]
    price = multipliers * length / stiffness[:, None] / size[:, None]
    margin = np.where(there, np.maximum(slack, price), np.inf).min(-1, initial=np.inf)
    left = gradient - np.einsum("nm,nmi->ni", multipliers, A)
    outside = np.where(there, -slack, 0.0).max(-1, initial=0.0)
    if E is not None and d is not None:  # what is left must lie in the span of the equalities
        along = np.einsum("nik,ni->nk", np.linalg.pinv(E), left)
        left = left - np.einsum("nki,nk->ni", E, along)
        scale = np.linalg.norm(E, axis=-1)
        off = (np.einsum("nki,ni->nk", E, y) - d) / scale / size[:, None]
        outside = np.maximum(outside, np.abs(off).max(-1))
    still = np.abs(left).max(-1) / stiffness / size
    complementary = (np.maximum(slack, 0) * price * there).max(-1, initial=0.0)
    proof = np.max([outside, still, complementary, (-price).max(-1, initial=0.0)], axis=0)
    unit = np.broadcast_to(size[:, None], y.shape)
    return Answer(y, unit, margin, proof)
