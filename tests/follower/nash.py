"""Equilibria by means that share nothing with the library: enumeration, in NumPy and float64."""

import itertools

import numpy as np


def complementary(matrix, constant, lower, upper):
    """All y in bounds with `F = matrix y + constant` 0 between, >= 0 at lower, <= 0 at upper."""
    found, size = [], len(constant)
    for sides in itertools.product((0, 1, 2), repeat=size):
        at = np.array(sides)
        if not np.isfinite(np.where(at == 1, lower, np.where(at == 2, upper, 0.0))).all():
            continue
        y = np.where(at == 1, lower, np.where(at == 2, upper, 0.0))
        free = at == 0
        if free.any():
            block = matrix[np.ix_(free, free)]
            if abs(np.linalg.det(block)) < 1e-12:
                continue
            y[free] = np.linalg.solve(block, -(constant + matrix @ y)[free])
        slope = matrix @ y + constant
        tiny = 1e-9 * (1 + np.abs(matrix) @ np.abs(y) + np.abs(constant))
        inside = (y >= lower - 1e-9 * (1 + np.abs(y))) & (y <= upper + 1e-9 * (1 + np.abs(y)))
        signs = ((at != 1) | (slope >= -tiny)) & ((at != 2) | (slope <= tiny))
        if inside.all() and signs.all() and not any(np.allclose(y, other) for other in found):
            found.append(y)
    return found


def constrained(matrix, constant, lower, upper, normals, limits):
    """`(y, multipliers)` of all equilibria with `normals y <= limits` shared, variational ones."""
    rows = len(limits)
    whole = np.block([[matrix, normals.T], [-normals, np.zeros((rows, rows))]])
    found = complementary(
        whole,
        np.concatenate([constant, limits]),
        np.concatenate([lower, np.zeros(rows)]),
        np.concatenate([upper, np.full(rows, np.inf)]),
    )
    return [(w[: len(constant)], w[len(constant) :]) for w in found]


def random_game(rng, sizes, *, skew=(0, 1, 3)):
    """A strictly monotone one: the Jacobian of F, its constant, random bounds and a start."""
    size, cuts = sum(sizes), np.cumsum([0, *sizes])
    root, mixed = rng.normal(size=(2, size, size))
    matrix = root @ root.T / size + 0.05 * np.eye(size)
    matrix += rng.choice(skew) * (mixed - mixed.T) / 2
    for a, b in itertools.pairwise(cuts):  # a follower's own block is a Hessian
        matrix[a:b, a:b] = (matrix[a:b, a:b] + matrix[a:b, a:b].T) / 2
    constant = rng.normal(size=size) * rng.choice([1, 5])
    lower = rng.normal(size=size) - 0.5
    upper = lower + 2 * rng.exponential(size=size)
    lower = np.where(rng.random(size) < 0.2, -np.inf, lower)
    upper = np.where(rng.random(size) < 0.2, np.inf, upper)
    start = 2 * rng.normal(size=size)
    if rng.random() < 0.3:
        start = np.where(np.isfinite(lower), lower, start)
    return matrix, constant, lower, upper, start
