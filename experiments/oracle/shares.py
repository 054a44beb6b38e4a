"""Followers in simplices, products of simplices and balls, of totals and radii from 1e-3 to 1e3.

Quadratics in small simplices are answered by trying every support; separable utilities by bisection
on the price of the total; balls by bisection on the multiplier of the sphere.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.boxes import positive_definite, quadratic
from experiments.oracle.kind import Answer, Kind, Params
from experiments.oracle.polyhedra_by_enumeration import enumerate_polyhedron, report_polyhedron


def _total(rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice([1e-3, 1.0, 1.0, 1e3], size=(n, *shape)) * rng.uniform(0.5, 2, (n, *shape))


def _shares(blocks: int, k: int) -> Any:
    """Quadratics, coupled across `blocks` simplices of `k` shares each."""

    def draw(rng: np.random.Generator, n: int) -> Params:
        d = blocks * k
        total = _total(rng, n, (1,)) * rng.uniform(0.5, 2.0, (n, blocks))
        Q = positive_definite(rng, n, d)
        size = total.mean(-1, keepdims=True)
        middle = size * (1 / k + rng.choice([0.2, 1.0, 4.0], size=(n, 1)) * rng.normal(size=(n, d)))
        start = size * rng.choice([0.0, 1 / k, 3.0], size=(n, 1)) * rng.uniform(size=(n, d))
        c = np.einsum("nij,nj->ni", Q, middle)
        return {"Q": Q, "c": c, "total": total, "start": start}

    return draw


def _shares_oracle(p: Params) -> Answer:
    n, d = p["c"].shape
    blocks = p["total"].shape[1]
    E = np.broadcast_to(np.kron(np.eye(blocks), np.ones(d // blocks)), (n, blocks, d))
    A, b = np.broadcast_to(-np.eye(d), (n, d, d)), np.zeros((n, d))
    size = p["total"].max(-1)
    # Lengths of 1, so that the enumeration's absolute tolerances fit.
    c, right = p["c"] / size[:, None], p["total"] / size[:, None]
    y, multipliers = enumerate_polyhedron(p["Q"], c, A, b, E, right)
    gradient = c - np.einsum("nij,nj->ni", p["Q"], y)
    stiff = np.einsum("nii->n", p["Q"]) / d
    found = report_polyhedron(y, multipliers, gradient, stiff, A, b, E, right, np.ones(n))
    least = p["total"].repeat(d // blocks, 1)
    return Answer(y * size[:, None], least, found.margin, found.proof)


def _shares_game(p: dict[str, Any]) -> Any:
    shape = (p["total"].shape[0], -1)
    scale = p["scale"][0]

    def u(a: Any, r: Any, x: Any) -> Any:
        return quadratic(p, r.reshape(-1))

    total = p["total"] / scale
    one = sj.Simplex(total[0] if shape[0] == 1 else total)
    return sj.Game(u, u, response_set=one), jnp.zeros(()), None


def _logs(d: int) -> Any:
    """Weighted logarithms of shares: `sum_i w_i log(e_i + r_i)`."""

    def draw(rng: np.random.Generator, n: int) -> Params:
        total = _total(rng, n, (1,))
        w = rng.uniform(0.1, 3.0, (n, d))
        e = total / d * 10.0 ** rng.uniform(-1, 1, (n, d))
        start = total * rng.choice([0.0, 1 / d, 1.0], size=(n, 1)) * rng.uniform(size=(n, d))
        return {"w": w, "e": e, "total": total, "start": start}

    return draw


def _logs_oracle(p: Params) -> Answer:
    """`r_i = max(w_i t - e_i, 0)`, the level `t` by bisection, then exactly on its support."""
    w, e, total = p["w"], p["e"], p["total"]
    low, high = np.zeros_like(total), (total + e.sum(-1, keepdims=True)) / w.min(-1, keepdims=True)
    for _ in range(200):
        t = (low + high) / 2
        less = np.maximum(w * t - e, 0).sum(-1, keepdims=True) < total
        low, high = np.where(less, t, low), np.where(less, high, t)
    on = w * (low + high) / 2 > e
    t = (total + (e * on).sum(-1, keepdims=True)) / (w * on).sum(-1, keepdims=True)
    y = np.where(on, w * t - e, 0.0)
    price = 1 / t
    wrong = np.where(on, -y, (w / e - price) * e**2 / w).max(-1).clip(0) / total[:, 0]
    tie = np.where(on, y / total, (price - w / e) / price).min(-1)
    off = np.abs(y.sum(-1) - total[:, 0]) / total[:, 0]
    return Answer(y, np.broadcast_to(total, y.shape), tie, np.maximum(wrong, off))


def _logs_game(p: dict[str, Any]) -> Any:
    def u(a: Any, r: Any, x: Any) -> Any:
        return p["unit"] * (a * jnp.log(p["e"] + r * p["scale"])).sum()

    return sj.Game(u, u, response_set=sj.Simplex(p["total"][0] / p["scale"][0])), p["w"], None


def _ball(rng: np.random.Generator, n: int) -> Params:
    d = 3
    radius = _total(rng, n, (1,))
    center = radius * rng.choice([0.0, 1.0], size=(n, 1)) * rng.normal(size=(n, d))
    Q = positive_definite(rng, n, d)
    middle = center + radius * rng.choice([0.3, 1.5, 5.0], size=(n, 1)) * rng.normal(size=(n, d))
    start = center + radius * rng.choice([0.0, 0.5, 4.0], size=(n, 1)) * rng.normal(size=(n, d))
    c = np.einsum("nij,nj->ni", Q, middle)
    return {"Q": Q, "c": c, "center": center, "radius": radius, "start": start}


def maximise_in_ball(
    Q: np.ndarray, c: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`max c'z - z'Qz / 2` such that `|z| <= radius`; the maximisers and `[N]` multipliers.

    The multiplier `t` of `|z|^2 / 2` solves `|(Q + t)^-1 c| = radius`, decreasing in `t`.
    """
    values, vectors = np.linalg.eigh(Q)
    turned = np.einsum("nji,nj->ni", vectors, c)
    size = lambda t: np.linalg.norm(turned / (values + t[:, None]), axis=-1)
    low, high = np.zeros(len(c)), np.linalg.norm(c, axis=-1) / radius
    inside = size(low) <= radius
    for _ in range(200):
        t = (low + high) / 2
        large = size(t) > radius
        low, high = np.where(large, t, low), np.where(large, high, t)
    t = np.where(inside, 0.0, (low + high) / 2)
    return np.einsum("nij,nj->ni", vectors, turned / (values + t[:, None])), t


def _ball_oracle(p: Params) -> Answer:
    Q, radius = p["Q"], p["radius"][:, 0]
    push = p["c"] - np.einsum("nij,nj->ni", Q, p["center"])
    z, t = maximise_in_ball(Q, push, radius)
    left = push - np.einsum("nij,nj->ni", Q, z) - t[:, None] * z
    slack = (radius - np.linalg.norm(z, axis=-1)) / radius
    proof = np.maximum(np.abs(left).max(-1) / radius, np.maximum(-slack, np.minimum(slack, t)))
    unit = np.broadcast_to(radius[:, None], z.shape)
    return Answer(p["center"] + z, unit, np.maximum(slack, t), proof)


def _ball_game(p: dict[str, Any]) -> Any:
    u = lambda a, r, x: quadratic(p, r)
    s = p["scale"][0]
    ball = sj.Ball(p["center"] / s, p["radius"][0] / s)
    return sj.Game(u, u, response_set=ball), jnp.zeros(()), None


_MOVING = ("Q", "c", "total")

SHARES = (
    Kind("simplex, d = 3", _shares(1, 3), _shares_oracle, _shares_game, _MOVING, scales="common"),
    Kind("simplex, d = 5", _shares(1, 5), _shares_oracle, _shares_game, _MOVING, scales="common"),
    Kind(
        "product of 2 simplices of 3",
        _shares(2, 3),
        _shares_oracle,
        _shares_game,
        _MOVING,
        scales="common",
        shape=(2, 3),
    ),
    *(
        Kind(
            f"logarithms in a simplex, d = {d}",
            _logs(d),
            _logs_oracle,
            _logs_game,
            ("w", "e", "total"),
            scales="common",
        )
        for d in (8, 80)
    ),
    Kind(
        "ball, d = 3",
        _ball,
        _ball_oracle,
        _ball_game,
        ("Q", "c", "center", "radius"),
        scales="common",
        second=True,
    ),
)
