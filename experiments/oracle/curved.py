"""Followers in boxes that are not quadratic: logarithms, powers, exponentials, softplus, networks.

Separable ones have closed forms, clipped to the bounds. Coupled ones are concave by construction
and answered by `concave`, whose answers are proved by the optimality conditions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.boxes import bounds, positive_definite, starts
from experiments.oracle.boxes_by_enumeration import report_box
from experiments.oracle.concave import ascend, polish
from experiments.oracle.kind import Answer, Kind, Params


def _in_box(utility: Any) -> Any:
    """A game of `utility(p, y)` in `lower <= y <= upper`, in the library's units."""

    def game(p: dict[str, Any]) -> Any:
        u = lambda a, r, x: p["unit"] * utility(p, r * p["scale"])
        box = sj.Box(p["lower"] / p["scale"], p["upper"] / p["scale"])
        return sj.Game(u, u, response_set=box), jnp.zeros(()), None

    return game


def _separable(rng: np.random.Generator, n: int, root: float) -> Params:
    """Weights, prices and bounds whose closed form lies inside in half of the games."""
    w, price = rng.uniform(0.3, 3.0, (2, n, 3))
    lower = np.full((n, 3), root)
    upper = np.where(rng.uniform(size=(n, 3)) < 0.3, np.inf, rng.uniform(0.3, 5.0, (n, 3)))
    return {"w": w, "price": price, "lower": lower, "upper": upper}


def _logarithm(rng: np.random.Generator, n: int) -> Params:
    p = _separable(rng, n, 0.0)
    # Either the logarithm's root is at zero and the bound just above, or the root is below zero.
    at_root = rng.uniform(size=(n, 1)) < 0.5
    lower = np.where(at_root, 10.0 ** rng.uniform(-6, -2, (n, 1)), 0.0) * np.ones(3)
    e = np.where(at_root, 0.0, rng.choice([1e-3, 0.1, 1.0], size=(n, 1))) * np.ones(3)
    p |= {"lower": lower, "e": e}
    return p | {"start": starts(rng, p["lower"], p["upper"])}


def _logarithm_oracle(p: Params) -> Answer:
    y = np.clip(p["w"] / p["price"] - p["e"], p["lower"], p["upper"])
    slope = p["w"] / (p["e"] + y) - p["price"]
    return report_box(y, slope, p["w"] / (p["e"] + y) ** 2, p["lower"], p["upper"])


def _exponential(rng: np.random.Generator, n: int) -> Params:
    p = _separable(rng, n, 0.0)
    p["lower"] = rng.choice([-1.0, 0.0, 0.1], size=(n, 1)) * np.ones(3)
    p["k"] = 10.0 ** rng.uniform(-0.5, 1.3, (n, 3))
    p["w"] = p["price"] * np.exp(rng.uniform(-1, 6, (n, 3)))
    return p | {"start": starts(rng, p["lower"], p["upper"])}


def _exponential_oracle(p: Params) -> Answer:
    y = np.clip(np.log(p["w"] / p["price"]) / p["k"], p["lower"], p["upper"])
    marginal = p["w"] * np.exp(-p["k"] * y)
    return report_box(y, marginal - p["price"], p["k"] * marginal, p["lower"], p["upper"])


def _power(rng: np.random.Generator, n: int) -> Params:
    p = _separable(rng, n, 0.0)
    p["k"] = rng.uniform(0.2, 0.8, (n, 3))
    return p | {"start": starts(rng, p["lower"], p["upper"])}


def _power_oracle(p: Params) -> Answer:
    k, w = p["k"], p["w"]
    y = np.clip((k * w / p["price"]) ** (1 / (1 - k)), p["lower"], p["upper"])
    slope = k * w * y ** (k - 1) - p["price"]
    return report_box(y, slope, k * (1 - k) * w * y ** (k - 2), p["lower"], p["upper"])


def _network(rng: np.random.Generator, n: int) -> Params:
    d, hidden = 3, 8
    lower, upper = bounds(rng, n, d, "mixed")
    W, b = rng.normal(size=(n, hidden, d)), rng.normal(size=(n, hidden))
    v = rng.normal(size=(n, hidden))
    # |tanh''| < .77: the network's curvature is at most .6 of the quadratic's.
    bent = 0.77 * (np.abs(v) * (W**2).sum(-1)).sum(-1, keepdims=True)
    c = 2 * rng.normal(size=(n, d))
    p = {"W": W, "b": b, "v": 0.6 * v / bent, "c": c, "lower": lower, "upper": upper}
    return p | {"start": starts(rng, lower, upper)}


def _network_oracle(p: Params) -> Answer:
    W, v, c = p["W"], p["v"], p["c"]

    def gradient(y: np.ndarray) -> np.ndarray:
        t = np.tanh(np.einsum("nhi,ni->nh", W, y) + p["b"])
        return c - y + np.einsum("nhi,nh->ni", W, v * (1 - t**2))

    def hessian(y: np.ndarray) -> np.ndarray:
        t = np.tanh(np.einsum("nhi,ni->nh", W, y) + p["b"])
        return np.einsum("nhi,nh,nhj->nij", W, -2 * v * t * (1 - t**2), W) - np.eye(3)

    y = ascend(gradient, np.full(len(c), 1.7), p["lower"], p["upper"], 200)
    y = polish(gradient, hessian, p["lower"], p["upper"], y)
    return report_box(y, gradient(y), np.ones_like(y), p["lower"], p["upper"])


def _softplus(d: int, low: float, high: float) -> Any:
    def draw(rng: np.random.Generator, n: int) -> Params:
        lower, upper = bounds(rng, n, d, "random")
        W, w = rng.normal(size=(n, 4, d)), rng.uniform(0.1, 2.0, (n, 4))
        inside = lower + rng.uniform(size=(n, d)) * (upper - lower)
        b = -np.einsum("nhi,ni->nh", W, inside)  # the bends pass through the box
        k = np.exp(rng.uniform(np.log(low), np.log(high), (n, 4)))
        p = {"W": W, "w": w, "b": b, "k": k, "c": 2 * rng.normal(size=(n, d))}
        p |= {"Q": positive_definite(rng, n, d), "lower": lower, "upper": upper}
        return p | {"start": starts(rng, lower, upper)}

    return draw


def _softplus_oracle(p: Params) -> Answer:
    W, w, k, Q, c = p["W"], p["w"], p["k"], p["Q"], p["c"]
    lower, upper = p["lower"], p["upper"]

    def share(y: np.ndarray) -> np.ndarray:
        z = k * (np.einsum("nhi,ni->nh", W, y) + p["b"])
        return (1 + np.tanh(z / 2)) / 2

    def gradient(y: np.ndarray) -> np.ndarray:
        return c - np.einsum("nij,nj->ni", Q, y) - np.einsum("nhi,nh->ni", W, w * share(y))

    def hessian(y: np.ndarray) -> np.ndarray:
        s = share(y)
        return -Q - np.einsum("nhi,nh,nhj->nij", W, w * k * s * (1 - s), W)

    bend = np.einsum("nhi,nh,nhj->nij", W, w * k / 4, W)
    largest = np.linalg.norm(Q + bend, 2, axis=(1, 2))
    y = ascend(gradient, largest, lower, upper, int(min(4000, 60 * np.sqrt(largest.max()))))
    y = polish(gradient, hessian, lower, upper, y)
    return report_box(y, gradient(y), np.einsum("nii->ni", -hessian(y)), lower, upper)


def _network_utility(p: dict[str, Any], y: Any) -> Any:
    return p["c"] @ y - y @ y / 2 + p["v"] @ jnp.tanh(p["W"] @ y + p["b"])


def _softplus_utility(p: dict[str, Any], y: Any) -> Any:
    bends = jax.nn.softplus(p["k"] * (p["W"] @ y + p["b"])) / p["k"]
    return p["c"] @ y - y @ p["Q"] @ y / 2 - p["w"] @ bends


def _priced(marginal: Any) -> Any:
    return lambda p, y: (marginal(p, y) - p["price"] * y).sum()


CURVED = (
    Kind(
        "logarithm, d = 3",
        _logarithm,
        _logarithm_oracle,
        _in_box(_priced(lambda p, y: p["w"] * jnp.log(p["e"] + y))),
        ("w", "price", "lower", "upper", "e"),
        second=True,
    ),
    Kind(
        "exponential, d = 3",
        _exponential,
        _exponential_oracle,
        _in_box(_priced(lambda p, y: -p["w"] / p["k"] * jnp.exp(-p["k"] * y))),
        ("w", "price", "lower", "upper", "k"),
    ),
    Kind(
        "power with its root at the bound, d = 3",
        _power,
        _power_oracle,
        _in_box(_priced(lambda p, y: p["w"] * y ** p["k"])),
        ("w", "price", "upper", "k"),
        unconverged=(0.65, 0.65),  # the slope is infinite where more than half of the games start
    ),
    Kind(
        "tanh network, d = 3",
        _network,
        _network_oracle,
        _in_box(_network_utility),
        ("W", "b", "v", "c", "lower", "upper"),
        second=True,
    ),
    *(
        Kind(
            f"softplus of steepness up to {high:g}, d = {d}",
            _softplus(d, low, high),
            _softplus_oracle,
            _in_box(_softplus_utility),
            ("W", "w", "b", "k", "c", "Q", "lower", "upper"),
            unconverged=limit,
            steep=steep,
        )
        for d, low, high, limit, steep in (
            (3, 1.0, 30.0, (0.005, 0.005), 2.0),
            (3, 1e3, 1e3, (0.05, 0.05), 10.0),
            (6, 1e3, 1e3, (0.05, 0.05), 10.0),
        )
    ),
)
