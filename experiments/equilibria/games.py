"""Games of several followers with known equilibria, as data: nobody's solver is used here.

Followers have utilities whose joint slopes are `-(matrix y + constant)`, bounds, and perhaps shared
constraints `normals y <= limits`. With a strictly monotone matrix the (variational) equilibrium is
the only one, and trying every set of active constraints finds it.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np


@dataclasses.dataclass(frozen=True)
class LinearQuadratic:
    """One game.

    Attributes:
      sizes: numbers of each follower.
      matrix: `[d, d]`.
      constant: `[d]`.
      lower: `[d]`.
      upper: `[d]`.
      normals: `[m, d]`.
      limits: `[m]`.
      start: `[d]`.
      exact: `[d]` the equilibrium; None where there is none.
    """

    sizes: tuple[int, ...]
    matrix: np.ndarray
    constant: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    normals: np.ndarray
    limits: np.ndarray
    start: np.ndarray
    exact: np.ndarray | None

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """Where each follower's numbers begin and end."""
        return list(itertools.pairwise(np.cumsum([0, *self.sizes]).tolist()))


def cournot(count: int) -> LinearQuadratic:
    """Firms with costs between 1 and 2 and a demand of 10, of which the dearest stay out."""
    costs = np.linspace(1.0, 2.0, count)
    return LinearQuadratic(
        (1,) * count,
        np.ones((count, count)) + np.eye(count),
        costs - 10.0,
        np.zeros(count),
        np.full(count, np.inf),
        np.zeros((0, count)),
        np.zeros(0),
        np.ones(count),
        cournot_quantities(costs),
    )


def cournot_quantities(costs: np.ndarray) -> np.ndarray:
    """`[N]` in closed form, of firms in the order of their costs."""
    for entered in range(len(costs), 0, -1):
        total = (10.0 * entered - costs[:entered].sum()) / (entered + 1)
        if 10.0 - total > costs[entered - 1]:
            return np.maximum(10.0 - total - costs, 0)
    return np.zeros_like(costs)


def random_game(
    rng: np.random.Generator, sizes: tuple[int, ...], shared: int = 0
) -> LinearQuadratic:
    """A strictly monotone one, perhaps far from symmetric, with random bounds and constraints."""
    d = sum(sizes)
    root, mixed = rng.normal(size=(2, d, d))
    matrix = root @ root.T / d + 0.1 * np.eye(d) + rng.choice([0, 1, 3]) * (mixed - mixed.T) / 2
    for a, b in itertools.pairwise(np.cumsum([0, *sizes])):
        matrix[a:b, a:b] = (matrix[a:b, a:b] + matrix[a:b, a:b].T) / 2
    constant = rng.normal(size=d) * rng.choice([1, 5])
    lower = rng.normal(size=d) - 0.5
    upper = lower + 2 * rng.exponential(size=d)
    normals = rng.normal(size=(shared, d))
    limits = normals @ (lower + 0.3 * (upper - lower)) + rng.exponential(size=shared)
    start = lower + rng.random(d) * (upper - lower)
    exact = enumerate_equilibria(matrix, constant, lower, upper, normals, limits)
    return LinearQuadratic(sizes, matrix, constant, lower, upper, normals, limits, start, exact[0])


def chase(rng: np.random.Generator) -> LinearQuadratic:
    """One follower wants to be far from the other, who wants to be near: no equilibrium."""
    far, near = -rng.uniform(0.5, 2.0), rng.uniform(0.5, 2.0)
    matrix = np.array([[far, -far], [-near, near]])
    none = np.zeros((0, 2))
    return LinearQuadratic(
        (1, 1), matrix, np.zeros(2), -np.ones(2), np.ones(2), none, np.zeros(0),
        rng.uniform(-1, 1, 2), None,
    )  # fmt: skip


def enumerate_equilibria(
    matrix: np.ndarray,
    constant: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    normals: np.ndarray,
    limits: np.ndarray,
) -> list[np.ndarray]:
    """`[d]` each, by solving the linear equations of every set of active constraints."""
    d, m = len(constant), len(limits)
    whole = np.block([[matrix, normals.T], [-normals, np.zeros((m, m))]])
    offset = np.concatenate([constant, limits])
    low = np.concatenate([lower, np.zeros(m)])
    high = np.concatenate([upper, np.full(m, np.inf)])
    found: list[np.ndarray] = []
    for sides in itertools.product((0, 1, 2), repeat=d + m):
        at = np.array(sides)
        w = np.where(at == 1, low, np.where(at == 2, high, 0.0))
        if not np.isfinite(w).all():
            continue
        free = at == 0
        block = whole[np.ix_(free, free)]
        if free.any():
            if abs(np.linalg.det(block)) < 1e-12:
                continue
            w[free] = np.linalg.solve(block, -(offset + whole @ w)[free])
        slope, tiny = whole @ w + offset, 1e-9 * (1 + np.abs(whole) @ np.abs(w) + np.abs(offset))
        inside = (w >= low - 1e-9) & (w <= high + 1e-9)
        signs = ((at != 1) | (slope >= -tiny)) & ((at != 2) | (slope <= tiny))
        if inside.all() and signs.all() and not any(np.allclose(w[:d], y) for y in found):
            found.append(w[:d])
    return found
