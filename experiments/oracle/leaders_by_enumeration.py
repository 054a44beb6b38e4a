"""Bilevel games answered exactly, piece by piece of the follower's response.

A quadratic follower in a box answers by an affine function of the action on each of `3^n` pieces;
on each the leader has a concave quadratic program. A linear follower is optimal exactly where some
set of rows whose cone holds its utility is tight; for each the leader has a linear program.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog

from experiments.oracle.kind import Params
from experiments.oracle.polyhedra_by_enumeration import enumerate_polyhedron


def quadratic_optimum(p: Params) -> tuple[np.ndarray, np.ndarray]:
    """The leader's best value `[N]` and action `[N, k]`.

    The follower maximises `(c + B l)'r - r'Qr / 2` in `[low, high]`, the leader
    `h'z - z'Hz / 2`, `z = (l, r)`, in `[0, 1]^k`.
    """
    Q, B, c, H, h = p["Q"], p["B"], p["c"], p["H"], p["h"]
    games, d, k = B.shape
    best, action = np.full(games, -np.inf), np.zeros((games, k))
    eye = np.broadcast_to(np.eye(k), (games, k, k))
    for pattern in itertools.product((0, 1, 2), repeat=d):
        held, free = np.flatnonzero(pattern), np.flatnonzero(np.array(pattern) == 0)
        s, S = np.zeros((games, d)), np.zeros((games, d, k))
        for i in held:
            s[:, i] = (p["low"] if pattern[i] == 1 else p["high"])[:, i]
        if len(free):
            inner = Q[:, free][:, :, free]
            right = c[:, free] - np.einsum("nij,nj->ni", Q[:, free][:, :, held], s[:, held])
            s[:, free] = np.linalg.solve(inner, right[..., None])[..., 0]
            S[:, free] = np.linalg.solve(inner, B[:, free])
        # The gradient at the held coordinates, and the bounds of the free ones.
        g, G = c - np.einsum("nij,nj->ni", Q, s), B - np.einsum("nij,njk->nik", Q, S)
        rows, ends = [eye, -eye], [np.ones((games, k)), np.zeros((games, k))]
        for i, side in enumerate(pattern):
            if side == 0:
                rows += [S[:, [i]], -S[:, [i]]]
                ends += [(p["high"] - s)[:, [i]], (s - p["low"])[:, [i]]]
            else:
                sign = 1.0 if side == 1 else -1.0
                rows.append(sign * G[:, [i]])
                ends.append(-sign * g[:, [i]])
        A, b = np.concatenate(rows, 1), np.concatenate(ends, 1)
        # z = z0 + Z l
        Z = np.concatenate([eye, S], 1)
        z0 = np.concatenate([np.zeros((games, k)), s], 1)
        bent = np.einsum("nik,nij,njl->nkl", Z, H, Z)
        push = np.einsum("nik,ni->nk", Z, h - np.einsum("nij,nj->ni", H, z0))
        length = np.linalg.norm(A, axis=-1)
        flat = length < 1e-12
        empty = (flat & (b < -1e-12)).any(-1)
        point, _ = enumerate_polyhedron(bent, push, np.where(flat[..., None], 0.0, A), b)
        outside = np.where(flat, 0.0, np.einsum("nmk,nk->nm", A, point) - b).max(-1)
        z = z0 + np.einsum("nik,nk->ni", Z, point)
        value = (h * z).sum(-1) - np.einsum("ni,nij,nj->n", z, H, z) / 2
        value = np.where((outside > 1e-9) | empty, -np.inf, value)
        better = value > best
        best = np.where(better, value, best)
        action = np.where(better[:, None], point, action)
    return best, action


def linear_optimum(p: Params) -> np.ndarray:
    """The leader's best value `[N]`, ties in its favour; `nan` where there is no play.

    The follower maximises `f'r` such that `A r + B l <= b`, `0 <= r <= 1`; the leader `h'(l, r)`,
    `0 <= l <= 1`.
    """
    games, d = p["f"].shape
    k = p["B"].shape[2]
    best = np.full(games, np.nan)
    for game in range(games):
        f, A, B, b, h = (p[name][game] for name in ("f", "A", "B", "b", "h"))
        rows = np.concatenate([A, np.eye(d), -np.eye(d)])
        along = np.concatenate([B, np.zeros((2 * d, k))])
        ends = np.concatenate([b, np.ones(d), np.zeros(d)])
        whole = np.concatenate([along, rows], 1)
        tight: list[tuple[int, ...]] = []
        for size in range(d + 1):
            for chosen in itertools.combinations(range(len(rows)), size):
                if any(set(t) <= set(chosen) for t in tight):
                    continue  # a smaller set says the same with fewer rows tight
                if _in_cone(rows[list(chosen)], f):
                    tight.append(chosen)
        for chosen in tight:
            some = list(chosen)
            found = linprog(
                -h,
                A_ub=whole,
                b_ub=ends,
                A_eq=whole[some] if some else None,
                b_eq=ends[some] if some else None,
                bounds=[(0, 1)] * k + [(None, None)] * d,
                method="highs",
            )
            if found.status == 0:
                best[game] = np.fmax(best[game], -found.fun)
    return best


def _in_cone(rows: np.ndarray, f: np.ndarray) -> bool:
    """Whether `f` is a nonnegative combination of independent rows."""
    if len(rows) == 0:
        return bool(np.abs(f).max() < 1e-12)
    if np.linalg.matrix_rank(rows) < len(rows):
        return False
    weights = np.linalg.lstsq(rows.T, f, rcond=None)[0]
    return bool(weights.min() > -1e-12 and np.abs(rows.T @ weights - f).max() < 1e-10)


def linear_regret(
    p: Params, action: np.ndarray, response: np.ndarray, room: float = 1e-4
) -> np.ndarray:
    """`[N]`, what a linear follower loses by its response, or the most that it leaves its set."""
    lost = np.zeros(len(action))
    for game in range(len(action)):
        f, A, B, b = (p[name][game] for name in ("f", "A", "B", "b"))
        ends = b - B @ action[game]
        options = {"A_ub": A, "bounds": [(0, 1)] * len(f), "method": "highs"}
        found = linprog(-f, b_ub=ends, **options)
        if found.status != 0:  # an action at the edge leaves the follower no room for rounding
            found = linprog(-f, b_ub=ends + room, **options)
        r = response[game]
        outside = max((A @ r - ends).max(), (r - 1).max(), (-r).max())
        size = np.abs(f).sum()
        gain = (-found.fun - f @ r) / size if found.status == 0 and size else 0.0
        lost[game] = max(outside, gain) if found.status == 0 else np.inf
    return lost
