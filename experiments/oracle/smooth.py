"""Followers under smooth constraints with an interior: ellipsoids, products, shared budgets.

An ellipsoid becomes a ball by a change of variables; `r0 r1 >= k` is a curve of one parameter,
searched on a grid and then by Newton's method.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import stackjax as sj
from experiments.oracle.boxes import positive_definite, quadratic
from experiments.oracle.kind import Answer, Kind, Params
from experiments.oracle.shares import maximise_in_ball


def _ellipsoid(rng: np.random.Generator, n: int) -> Params:
    d = 3
    P, Q = positive_definite(rng, n, d), positive_definite(rng, n, d)
    center = rng.choice([0.0, 1.0], size=(n, 1)) * rng.normal(size=(n, d))
    middle = center + rng.choice([0.3, 1.5, 5.0], size=(n, 1)) * rng.normal(size=(n, d))
    start = center + rng.choice([0.0, 0.5, 4.0], size=(n, 1)) * rng.normal(size=(n, d))
    c = np.einsum("nij,nj->ni", Q, middle)
    return {"P": P, "Q": Q, "c": c, "center": center, "start": start}


def _ellipsoid_oracle(p: Params) -> Answer:
    """With `P = L L'` and `z = L'(r - center)` the set is `|z| <= 1`."""
    Q, center, L = p["Q"], p["center"], np.linalg.cholesky(p["P"])
    back = np.linalg.inv(L).transpose(0, 2, 1)
    push = p["c"] - np.einsum("nij,nj->ni", Q, center)
    bent = np.einsum("nji,njk,nkl->nil", back, Q, back)
    pushed = np.einsum("nji,nj->ni", back, push)
    z, t = maximise_in_ball(bent, pushed, np.ones(len(push)))
    y = center + np.einsum("nij,nj->ni", back, z)
    normal = np.einsum("nij,nj->ni", p["P"], y - center)
    left = p["c"] - np.einsum("nij,nj->ni", Q, y) - t[:, None] * normal
    slack = 1 - np.linalg.norm(z, axis=-1)
    proof = np.maximum(np.abs(left).max(-1), np.maximum(-slack, np.minimum(slack, t)))
    unit = np.abs(back).max((-1, -2))[:, None] * np.ones(3)
    return Answer(y, unit, np.maximum(slack, t), proof)


def _ellipsoid_game(p: dict[str, Any]) -> Any:
    def inside(a: Any, r: Any, x: Any) -> Any:
        z = r * p["scale"] - a
        return z @ p["P"] @ z - 1.0

    u = lambda a, r, x: quadratic(p, r)
    return sj.Game(u, u, response_set=sj.Constrained(inside)), p["center"], None


def _product(rng: np.random.Generator, n: int) -> Params:
    """The nearest point of `r0 r1 >= k`, `r > 0`, in a weighted distance."""
    k = np.exp(rng.uniform(-1.5, 1.5, (n, 1)))
    t = rng.uniform(-1, 1, (n, 1))
    edge = np.sqrt(k) * np.concatenate([np.exp(t), np.exp(-t)], 1)
    middle = edge * rng.uniform(0.1, 1.4, (n, 2))
    start = edge * rng.choice([0.3, 1.0, 3.0], size=(n, 1)) * rng.uniform(0.5, 1.5, (n, 2))
    return {"k": k, "m": middle, "q": rng.uniform(0.5, 2.0, (n, 2)), "start": start}


def _product_oracle(p: Params) -> Answer:
    k, m, q = p["k"], p["m"], p["q"]
    root = np.sqrt(k)
    point = lambda s: root[..., None] * np.stack([np.exp(s), np.exp(-s)], -1)
    far = lambda s: (q[:, None] * (point(s) - m[:, None]) ** 2).sum(-1)
    grid = np.broadcast_to(np.linspace(-6, 6, 4001), (len(k), 4001))
    s = np.take_along_axis(grid, far(grid).argmin(-1, keepdims=True), 1)
    for _ in range(30):  # Newton's method for a zero of d far / ds, from within the grid's cell
        y = point(s)[:, 0]
        turn = np.array([1.0, -1.0])
        first = 2 * (q * (y - m) * y * turn).sum(-1, keepdims=True)
        second = 2 * (q * (y * y + (y - m) * y)).sum(-1, keepdims=True)
        s = s - np.clip(first / second, -0.01, 0.01)
    y = point(s)[:, 0]
    free = m.prod(-1) >= k[:, 0]
    y = np.where(free[:, None], m, y)
    gradient = -2 * q * (y - m)
    price = np.where(free, 0.0, (-gradient / y[:, ::-1]).mean(-1))
    left = gradient + price[:, None] * y[:, ::-1]
    slack = (y.prod(-1) - k[:, 0]) / k[:, 0]
    proof = np.max([np.abs(left).max(-1), -slack, -price], axis=0)
    unit = np.broadcast_to(y.max(-1, keepdims=True), y.shape)
    return Answer(y, unit, np.maximum(slack, price), proof)


def _product_game(p: dict[str, Any]) -> Any:
    def u(a: Any, r: Any, x: Any) -> Any:
        return -p["unit"] * (p["q"] * (r * p["scale"] - p["m"]) ** 2).sum()

    enough = lambda a, r, x: a - (r * p["scale"]).prod()
    return sj.Game(u, u, response_set=sj.Constrained(enough, box=sj.Box(0.0))), p["k"][0], None


SMOOTH = (
    Kind(
        "ellipsoid, d = 3",
        _ellipsoid,
        _ellipsoid_oracle,
        _ellipsoid_game,
        ("P", "Q", "c", "center"),
    ),
    Kind(
        "product of two at least k",
        _product,
        _product_oracle,
        _product_game,
        ("k", "m", "q"),
        unconverged=(0.02, 0.02),
        second=True,
    ),
)
