"""The right gradients: central differences of a float64 solve of every follower.

Nothing here is shared with a contender but the problem's own functions: damped projected Newton
for a box, damped Newton with an equality for entropies, a primal-dual interior point finished on
its active set for quadratic programs; all for many contexts at once, in numpy.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.problems import Problem
from experiments.speed.quadratic import solve_qp

RESIDUAL = 5e-14
STEP = 1e-5  # of the differences: errors of 1e-10 from the third derivative, 1e-8 from the solve


class Answers(NamedTuple):
    """Followers' answers: `[N, d]`, which constraints hold them `[N, ...]`, residuals `[N]`."""

    y: np.ndarray
    active: np.ndarray
    residual: np.ndarray


class Reference(NamedTuple):
    """The right answers, by context.

    Attributes:
      gradient: `[N, a]` the leader's total derivative.
      sure: `[N]` solved to `RESIDUAL`, and no kink between the points of the differences.
      kinks: How many have a kink there.
      unsolved: How many stayed above `RESIDUAL`.
      active: Share of constraints (or of coordinates) that hold the follower.
    """

    gradient: np.ndarray
    sure: np.ndarray
    kinks: np.ndarray
    unsolved: np.ndarray
    active: np.ndarray


def reference(problem: Problem, n: int, seed: int, cache: Path | None = None) -> Reference:
    """The reference for the first `n` contexts, from `cache` if it is there."""
    file = None if cache is None else cache / f"{problem.name}-{n}-{seed}.npz"
    if file is not None and file.exists():
        return Reference(**np.load(file))
    # What contenders see: the draw rounded to float32.
    u, x = jax.tree.map(lambda leaf: leaf.astype(np.float32).astype(float), problem.draw(n, seed))
    moves = [sign * STEP * np.eye(2)[k] for k in range(2) for sign in (1, -1)]
    actions = np.concatenate([u, *(u + move for move in moves)])
    contexts = jax.tree.map(lambda leaf: np.concatenate([leaf] * 5), x)
    found = answers(problem, actions, contexts)
    values = gains(problem, actions, found.y, contexts).reshape(5, n)
    gradient = np.stack([values[1] - values[2], values[3] - values[4]], 1) / (2 * STEP)
    active = found.active.reshape(5, n, -1)
    kink = (active != active[0]).any((0, 2))
    loose = (found.residual.reshape(5, n) > RESIDUAL).any(0)
    result = Reference(
        gradient, ~kink & ~loose, kink.sum(), (loose & ~kink).sum(), active[0].mean()
    )
    if file is not None:
        np.savez(file, **result._asdict())
    return result


def score(right: Reference, gradient: np.ndarray) -> dict[str, Any]:
    """How far a contender's gradients `[N, a]` are from the right ones."""
    rows = len(right.sure)
    error = np.linalg.norm(np.asarray(gradient, float)[:rows] - right.gradient, axis=1)
    error = error / (np.linalg.norm(right.gradient, axis=1) + 1e-3)
    error = np.where(np.isfinite(error), error, np.inf)[right.sure]
    if not error.size:
        return {}
    middle, high = np.quantile(error, [0.5, 0.99], method="higher")
    return {"wrong": np.mean(error > 0.01), "median_error": middle, "p99_error": high}


def answers(problem: Problem, u: np.ndarray, x: Any) -> Answers:
    """Every follower's best response in float64."""
    if problem.qp is not None:
        y, multipliers, residual = solve_qp(*problem.qp(u, x))
        return Answers(y, multipliers > 0, residual)
    return (_on_box if problem.kind == "box" else _inside_simplex)(problem, u, x)


def gains(problem: Problem, u: np.ndarray, y: np.ndarray, x: Any) -> np.ndarray:
    """The leader's utility in float64, `[N]`."""
    with jax.enable_x64(True):
        return np.asarray(_gains(problem)(u, y, x))


@lru_cache
def _gains(problem: Problem) -> Any:
    return jax.jit(jax.vmap(problem.gain))


def _on_box(problem: Problem, u: np.ndarray, x: Any) -> Answers:
    expand = _expansion(problem)
    y = np.full((len(u), problem.d), 0.5)
    for _ in range(200):
        value, g, H = expand(u, y, x)
        residual = np.abs(y - np.clip(y - g, 0, 1)).max(1)
        if (residual <= RESIDUAL / 10).all():
            break
        free = ~(((y <= 0) & (g > 0)) | ((y >= 1) & (g < 0)))
        masked = np.where(free[:, :, None] & free[:, None, :], H, np.eye(problem.d))
        step = np.linalg.solve(masked, np.where(free, -g, 0)[:, :, None])[..., 0]
        t = np.ones(len(u))
        for _ in range(30):
            new = np.clip(y + t[:, None] * step, 0, 1)
            less = expand(u, new, x)[0] <= value + 1e-4 * np.sum(g * (new - y), 1)
            # Near the optimum differences of values are rounding; full steps are right there.
            stay = less | (residual < 1e-6)
            if stay.all():
                break
            t = np.where(stay, t, t / 2)
        y = np.where(residual[:, None] <= RESIDUAL / 10, y, new)
    return Answers(y, (y <= 0) | (y >= 1), residual)


def _inside_simplex(problem: Problem, u: np.ndarray, x: Any) -> Answers:
    expand = _expansion(problem)
    (n, d), y = (len(u), problem.d), np.full((len(u), problem.d), 1 / problem.d)
    bordered = np.zeros((n, d + 1, d + 1))
    bordered[:, d, :d] = bordered[:, :d, d] = 1
    for _ in range(60):
        _, g, H = expand(u, y, x)
        residual = np.abs(y * (g - np.sum(y * g, 1, keepdims=True))).max(1)
        bordered[:, :d, :d] = H
        right = np.concatenate([-g, 1 - y.sum(1, keepdims=True)], 1)
        step = np.linalg.solve(bordered, right[:, :, None])[:, :d, 0]
        room = np.where(step < 0, -y / np.where(step < 0, step, -1), np.inf).min(1)
        y = y + np.minimum(1, 0.9 * room)[:, None] * step
    return Answers(y, np.zeros((n, d), bool), residual)


@lru_cache
def _expansion(problem: Problem) -> Any:
    """`(u, y, x) -> (cost, gradient, Hessian)` in float64."""
    parts = problem.cost, jax.grad(problem.cost, 1), jax.hessian(problem.cost, 1)
    batched = jax.jit(jax.vmap(lambda u, y, x: tuple(part(u, y, x) for part in parts)))

    def expand(u: np.ndarray, y: np.ndarray, x: Any) -> tuple[np.ndarray, ...]:
        with jax.enable_x64(True):
            return tuple(np.asarray(out) for out in batched(jnp.asarray(u), jnp.asarray(y), x))

    return expand
