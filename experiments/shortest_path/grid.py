"""Shortest paths on a grid: the graph, its paths, and data whose costs depend on features."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE, FEATURES = 5, 5
NODES = [(i, j) for i in range(SIDE) for j in range(SIDE)]
EDGES = [
    (a, b)
    for a in NODES
    for b in ((a[0], a[1] + 1), (a[0] + 1, a[1]))
    if b[0] < SIDE and b[1] < SIDE
]
NUMBER = {edge: k for k, edge in enumerate(EDGES)}


def _paths() -> np.ndarray:
    """`[70, 40]`, all ways east and south from one corner to the other, as 0 and 1 by edge."""
    found = []
    for south in itertools.combinations(range(2 * SIDE - 2), SIDE - 1):
        at, path = (0, 0), np.zeros(len(EDGES), np.float32)
        for step in range(2 * SIDE - 2):
            to = (at[0] + 1, at[1]) if step in south else (at[0], at[1] + 1)
            path[NUMBER[at, to]] = 1
            at = to
        found.append(path)
    return np.stack(found)


def _conservation() -> tuple[np.ndarray, np.ndarray]:
    """`E r = d`: what flows into each node but the last, less what flows out of it."""
    flow = np.zeros((len(NODES), len(EDGES)), np.float32)
    for k, (a, b) in enumerate(EDGES):
        flow[NODES.index(a), k], flow[NODES.index(b), k] = -1, 1
    net = np.zeros(len(NODES), np.float32)
    net[0], net[-1] = -1, 1
    return flow[:-1], net[:-1]


PATHS = _paths()
FLOW, NET = _conservation()


def _longest(worth: jax.Array) -> jax.Array:
    """The largest sum of `worth [40]` along a path, by dynamic programming."""
    best = {(0, 0): jnp.zeros((), worth.dtype)}
    for node in NODES[1:]:
        ways = [best[a] + worth[NUMBER[a, b]] for a, b in EDGES if b == node]
        best[node] = ways[0] if len(ways) == 1 else jnp.maximum(*ways)
    return best[NODES[-1]]


best_path = jax.grad(_longest)
"""From a worth for each edge `[40]` to the path that has the most of it, `[40]` of 0 and 1."""


class Data(NamedTuple):
    """Rows with features and what they do not determine entirely, the costs.

    Attributes:
      features: `[n, 5]`, standard normal.
      costs: `[n, 40]`, positive.
    """

    features: jax.Array
    costs: jax.Array


def draw(
    key: jax.Array, rows: int, degree: jax.typing.ArrayLike, width: jax.typing.ArrayLike
) -> Data:
    """Costs `((B x / sqrt(5) + 3)^degree + 1) e / 3.5^degree`, `e` uniform on `1 -+ width`.

    B is `[40, 5]` of 0 and 1 at even odds, another one for each key. The costs are those of
    Elmachtoub and Grigas, Section 6.1, up to the common factor.
    """
    degree, width = jnp.asarray(degree), jnp.asarray(width)
    keys = jax.random.split(key, 3)
    mixing = jax.random.bernoulli(keys[0], 0.5, (len(EDGES), FEATURES)).astype(jnp.float32)
    features = jax.random.normal(keys[1], (rows, FEATURES))
    base = features @ mixing.T / FEATURES**0.5 + 3
    noise = jax.random.uniform(keys[2], base.shape, minval=1 - width, maxval=1 + width)
    return Data(features, ((base / 3.5) ** degree + 3.5**-degree) * noise)
