"""Strictly convex quadratic programs in float64, many at once: the oracle's solver."""

from __future__ import annotations

import numpy as np


def solve_qp(
    Q: np.ndarray, c: np.ndarray, A: np.ndarray, b: np.ndarray, E: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimises `y'Qy / 2 + c'y` subject to `A y <= b` and `E y = d`.

    A primal-dual interior point finds the active constraints, rounds of the primal-dual active set
    correct them, and the optimality conditions on them are solved exactly.

    Args:
      Q: `[N, n, n]`, positive definite.
      c: `[N, n]`.
      A: `[N, m, n]`.
      b: `[N, m]`.
      E: `[N, p, n]`.
      d: `[N, p]`.

    Returns:
      `y [N, n]`, the multipliers of the inequalities `[N, m]`, and the residual `[N]` of all the
      optimality conditions.
    """
    times = lambda M, v: (M @ v[:, :, None])[..., 0]
    y, s, z = _interior(Q, c, A, b, E, d)
    active = z > s
    for _ in range(20):
        y, z, e = _on_active(Q, c, A, b, E, d, active)
        ahead = z + times(A, y) - b > 0
        if (ahead == active).all():
            break
        active = ahead
    slope = times(Q, y) + c + times(A.swapaxes(1, 2), z) + times(E.swapaxes(1, 2), e)
    gaps = [slope, np.minimum(z, b - times(A, y)), times(E, y) - d]
    return y, z, np.abs(np.concatenate(gaps, 1)).max(1)


def _system(
    Q: np.ndarray, A: np.ndarray, E: np.ndarray, weight: np.ndarray, keep: np.ndarray
) -> np.ndarray:
    """`[[Q, A'keep, E'], [keep A, -weight, 0], [E, 0, 0]]`."""
    n, m, p = Q.shape[1], A.shape[1], E.shape[1]
    K = np.zeros((len(Q), n + m + p, n + m + p))
    kept = keep[:, :, None] * A
    K[:, :n, :n], K[:, n : n + m, :n], K[:, n + m :, :n] = Q, kept, E
    K[:, :n, n : n + m], K[:, :n, n + m :] = kept.swapaxes(1, 2), E.swapaxes(1, 2)
    K[:, range(n, n + m), range(n, n + m)] = -weight
    return K


def _interior(
    Q: np.ndarray, c: np.ndarray, A: np.ndarray, b: np.ndarray, E: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    times = lambda M, v: (M @ v[:, :, None])[..., 0]
    (count, n), m = c.shape, A.shape[1]
    y, e = np.zeros((count, n)), np.zeros((count, E.shape[1]))
    s, z = np.maximum(b, 1.0), np.ones((count, m))
    for _ in range(30):
        mu = np.mean(s * z, 1, keepdims=True)
        slope = times(Q, y) + c + times(A.swapaxes(1, 2), z) + times(E.swapaxes(1, 2), e)
        primal, equal = times(A, y) + s - b, times(E, y) - d
        K = _system(Q, A, E, s / z, np.ones((count, m)))
        target = 0.1 * mu
        right = np.concatenate([-slope, -primal + s - target / z, -equal], 1)
        step = np.linalg.solve(K, right[:, :, None])[..., 0]
        dy, dz, de = np.split(step, [n, n + m], axis=1)
        ds = -primal - times(A, dy)
        room = [np.where(v < 0, -a / np.where(v < 0, v, -1), np.inf) for a, v in ((s, ds), (z, dz))]
        t = np.minimum(1, 0.95 * np.concatenate(room, 1).min(1, keepdims=True))
        t = np.where(mu > 1e-12, t, 0)
        y, s, z, e = y + t * dy, s + t * ds, z + t * dz, e + t * de
    return y, s, z


def _on_active(
    Q: np.ndarray,
    c: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    E: np.ndarray,
    d: np.ndarray,
    active: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, m = Q.shape[1], A.shape[1]
    # More active constraints than directions have no unique multipliers: a trace of weight.
    K = _system(Q, A, E, np.where(active, 0.0, 1.0), active.astype(float))
    crowded = active.sum(1) + E.shape[1] > n
    K[crowded, n:, n:] -= 1e-9 * np.eye(m + E.shape[1])
    right = np.concatenate([-c, np.where(active, b, 0), d], 1)[:, :, None]
    found = np.linalg.solve(K, right)
    for _ in range(2):
        found = found + np.linalg.solve(K, right - K @ found)
    y, z, e = np.split(found[..., 0], [n, n + m], axis=1)
    return y, z, e
