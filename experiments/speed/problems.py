"""The followers and leaders of the benchmark, written once for every contender in JAX.

Followers minimise `cost`, leaders maximise `gain`; both take `(u, y, x)`: action `[2]`, response
`[d]`, context. Contexts are drawn row by row, so that the first rows do not depend on how many
follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arrays = Any
ACTION_LOWER, ACTION_UPPER = np.array([0.3, 0.0]), np.array([1.5, 0.8])


@dataclasses.dataclass(frozen=True)
class Problem:
    """A family of followers, one for each context.

    Attributes:
      name: Short, unique.
      d: Size of a response.
      kind: "box" is [0, 1]^d, "simplex" the shares of 1, "polyhedron" `A y <= b`.
      cost: The follower's, minimised.
      gain: The leader's, maximised.
      draw: `(n, seed) -> (u, x)`, float64 numpy arrays with a leading axis n.
      rate: A step at which projected gradients with momentum do not diverge.
      mirror: Likewise of mirror descent.
      qp: `(u, x) -> (Q, c, A, b, E, d)` if the follower minimises `y'Qy / 2 + c'y` subject to
        `A y <= b`, `E y = d`, for all contexts at once.
    """

    name: str
    d: int
    kind: str
    cost: Callable[..., jax.Array]
    gain: Callable[..., jax.Array]
    draw: Callable[[int, int], tuple[np.ndarray, Arrays]]
    rate: float = 0.0
    mirror: float = 1.0
    qp: Callable[..., tuple[np.ndarray, ...]] | None = None

    @property
    def start(self) -> jax.Array:
        """`[d]`, where every contender starts."""
        fill = {"box": 0.5, "simplex": 1 / self.d, "polyhedron": 0.0}[self.kind]
        return jnp.full(self.d, fill)

    def inputs(self, n: int, seed: int) -> tuple[Problem, jax.Array, Any]:
        """What a contender is handed: itself and float32 actions and contexts."""
        u, x = self.draw(n, seed)
        return (self, *jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (u, x)))


def _rows(n: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, width))


def _within(rows: np.ndarray, lower: Any, upper: Any) -> np.ndarray:
    return lower + (np.asarray(upper) - lower) * rows


def box_cost(u: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Effort that has to reach a target, some of whose price the leader pays."""
    (q, s), (w, a, p) = u, jnp.split(x, 3)
    short = jax.nn.softplus(4 * (q - jnp.sum(a * jnp.log1p(4 * y)))) / 4
    return -0.6 * jnp.log1p(w @ y) + short + (1 - s) * (p @ y) + 0.3 / y.size * (y @ y)


def box_gain(u: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Quality, less what the leader pays."""
    (q, s), (w, a, p) = u, jnp.split(x, 3)
    quality = 1.5 * jnp.sum(a * jnp.log1p(4 * y)) + 0.3 * jnp.log1p(w @ y)
    return quality - s * (p @ y) - 0.1 * q**2


def box(d: int, price: float, rate: float, steep: bool = False) -> Problem:
    """Weights, abilities and prices of d efforts.

    Args:
      d: Size of a response.
      price: The largest price, of one in three; decides how many efforts are 0.
      rate: As in `Problem`.
      steep: Many efforts as strong as one in three, and a target as high; otherwise as many
        weaker ones, whose sums do not grow. Full Newton steps from the middle then overshoot.
    """
    size = d / 3
    each = 1 if steep else 1 / size
    lower = np.repeat([0.1 / size, 0.1 * each, 0.1 * each], d)
    upper = np.repeat([1.0 / size, each, price * each], d)
    target = size if steep else 1.0

    def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rows = _rows(n, 2 + 3 * d, seed)
        u = _within(rows[:, :2], ACTION_LOWER, ACTION_UPPER) * np.array([target, 1.0])
        return u, _within(rows[:, 2:], lower, upper)

    name = f"box-{d}-{'steep' if steep else 'flat'}"
    return Problem(name, d, "box", box_cost, box_gain, draw, rate)


def _mix(u: jax.Array, y: jax.Array, x: Arrays) -> jax.Array:
    return 0.5 * y @ (x["Q"] @ y) + (x["c"] + x["C"] @ u) @ y


def _entropic(u: jax.Array, y: jax.Array, x: Arrays) -> jax.Array:
    return _mix(u, y, x) + 0.2 * jnp.sum(y * jnp.log(y))


def _worth(u: jax.Array, y: jax.Array, x: Arrays) -> jax.Array:
    return x["v"] @ y - 0.5 * y @ y - 0.1 * u @ u


def _mix_draw(
    d: int, curvature: tuple[float, float], spread: float, rows: int = 0
) -> Callable[..., tuple[np.ndarray, Arrays]]:
    """Quadratic costs with linear terms that the action moves, and inequalities if asked for.

    Args:
      d: Size of a response.
      curvature: Weights of a Wishart matrix of mean I, and of I.
      spread: Size of linear terms.
      rows: Number of inequalities.
    """

    def draw(n: int, seed: int) -> tuple[np.ndarray, Arrays]:
        sizes = {"Q": (d, d), "c": (d,), "C": (d, 2), "v": (d,)}
        sizes |= {"G": (rows, d), "h": (rows,), "T": (rows, 2)} if rows else {}
        widths = [int(np.prod(size)) for size in sizes.values()]
        raw = _rows(n, 2 + sum(widths), seed)
        parts = np.split(2 * raw[:, 2:] - 1, np.cumsum(widths)[:-1], axis=1)
        x = {name: part.reshape(n, *sizes[name]) for name, part in zip(sizes, parts)}
        random, least = curvature
        x["Q"] = random * x["Q"] @ x["Q"].swapaxes(1, 2) * (3 / d) + least * np.eye(d)
        x["c"], x["C"] = spread * x["c"], spread * x["C"]
        if rows:
            x["h"], x["T"] = 0.35 + 0.25 * x["h"], 0.1 * x["T"]
        return _within(raw[:, :2], ACTION_LOWER, ACTION_UPPER), x

    return draw


def _shares_qp(u: np.ndarray, x: Arrays) -> tuple[np.ndarray, ...]:
    (n, d), c = x["c"].shape, x["c"] + (x["C"] @ u[:, :, None])[..., 0]
    positive = np.broadcast_to(-np.eye(d), (n, d, d))
    return x["Q"], c, positive, np.zeros((n, d)), np.ones((n, 1, d)), np.ones((n, 1))


def _polyhedron_qp(u: np.ndarray, x: Arrays) -> tuple[np.ndarray, ...]:
    (n, d), c = x["c"].shape, x["c"] + (x["C"] @ u[:, :, None])[..., 0]
    b = x["h"] + (x["T"] @ u[:, :, None])[..., 0]
    return x["Q"], c, x["G"], b, np.zeros((n, 0, d)), np.zeros((n, 0))


# Rates are the inverse of the largest curvature found among many contexts and responses.
R1 = box(3, price=2.0, rate=1 / 36)
R2 = {
    "d=16": box(16, price=1.5, rate=1 / 5.4),
    "d=64": box(64, price=1.5, rate=1 / 1.2),
    "d=16 steep": box(16, price=1.0, rate=1 / 65, steep=True),
}
_shares = _mix_draw(8, (4.0, 0.1), 0.4)
R3 = {
    "quadratic": Problem("quadratic", 8, "simplex", _mix, _worth, _shares, 1 / 19, 0.1, _shares_qp),
    "entropic": Problem("entropic", 8, "simplex", _entropic, _worth, _shares, mirror=0.1),
}
R4 = Problem(
    "polyhedron",
    8,
    "polyhedron",
    _mix,
    _worth,
    _mix_draw(8, (1.0, 0.5), 1.5, 12),
    qp=_polyhedron_qp,
)
