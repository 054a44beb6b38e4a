"""Whether linear constraints can be met at all."""

import numpy as np


def satisfiable(
    A: np.ndarray,
    b: np.ndarray,
    E: np.ndarray,
    d: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    tol: float = 1e-6,
) -> bool:
    """Whether some `r` has `A r <= b`, `E r = d`, `lower <= r <= upper`, up to rounding.

    Minimises the largest violation, each row's relative to `1 + |b|` once its largest coefficient
    is 1, so that rounding in the data does not make a thin set an empty one. True also where the
    program cannot be solved: only what is surely empty is called so.

    Args:
      A: `[m, n]`.
      b: `[m]`.
      E: `[p, n]`.
      d: `[p]`.
      lower: `[n]`, may be -inf.
      upper: `[n]`, may be inf.
      tol: the largest violation that counts as none.
    """
    from scipy.optimize import linprog  # slow to import, and seldom needed

    rows = np.concatenate([A, E, -E]).astype(float)
    limits = np.concatenate([b, d, -d]).astype(float)
    size = np.abs(rows).max(axis=1, initial=0.0)
    size[size == 0] = 1.0
    rows, limits = rows / size[:, None], limits / size
    n = len(lower)
    found = linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.column_stack([rows, -1.0 - np.abs(limits)]),
        b_ub=limits,
        bounds=np.vstack([np.column_stack([lower, upper]), [0.0, np.inf]]),
        method="highs",
    )
    return found.status != 0 or bool(found.x[-1] <= tol)
