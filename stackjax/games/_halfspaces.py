"""A follower who stays within half-spaces."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, best_of, check_positive, uniform
from stackjax.sets import Polyhedron
from stackjax.solvers._settings import Complementarity


def halfspaces(
    key: jax.Array, *, size: int = 3, rows: int = 2, effort: float = 0.5
) -> ClosedFormGame:
    """A follower goes where it is pushed, as far as linear constraints allow.

        U_F = -|r - (a + x)|^2 / 2   subject to   W r <= b,
        U_L = -|r - t|^2 / 2 - effort |a|^2 / 2

    with random orthonormal rows W, `[rows, size]`. Action a, response r: `[size]`; context: a dict
    of `position` x and `target` t, `[size]` each, and `limit` b, `[rows]`.

    The follower projects: `r = p - W' max(W p - b, 0)` with `p = a + x`. Along W's rows and across
    them the leader's problem falls apart. Across, and along a row whose constraint is inactive,
    `a = (t - x) / (1 + effort)`; where it is active, a is 0 if x is beyond the limit, and else
    brings the follower to the limit and no further, `a = b - x`: on the kink of its response. Of
    the two the better is taken, for each row. (At Nash, the leader does nothing.)
    Contexts: x and t ~ U[-2, 2], b ~ U[-1, 1].

    Args:
      key: for W.
      size: the length of a and r.
      rows: the number of constraints, at most `size`.
      effort: the leader's cost of pushing, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `rows` is not between 1 and `size`, or `effort` not positive.

    Source: an exercise in projections; Boyd and Vandenberghe, Convex Optimization, 2004, 8.1.

    Example:
      >>> walls = sj.games.halfspaces(jax.random.key(0), size=2, rows=1)
      >>> still = {"position": jnp.zeros(2), "target": jnp.ones(2), "limit": jnp.array([9.0])}
      >>> print(walls.best_response(jnp.array([0.5, 0.5]), still))  # far from the wall
      [0.5 0.5]
    """
    check_positive(effort=effort)
    if not 1 <= rows <= size:
        raise ValueError(f"`rows` must be between 1 and `size`, {size}; got {rows}.")
    W = jnp.linalg.qr(jax.random.normal(key, (size, rows)))[0].T

    def leader_utility(a: jax.Array, r: jax.Array, x: PyTree) -> jax.Array:
        return -jnp.sum((r - x["target"]) ** 2) / 2 - effort * jnp.sum(a**2) / 2

    def follower_utility(a: jax.Array, r: jax.Array, x: PyTree) -> jax.Array:
        return -jnp.sum((r - a - x["position"]) ** 2) / 2

    def best_response(a: jax.Array, x: PyTree) -> jax.Array:
        p = a + x["position"]
        return p - W.T @ jnp.maximum(W @ p - x["limit"], 0)

    def sensitivity(a: jax.Array, x: PyTree) -> jax.Array:
        active = W @ (a + x["position"]) > x["limit"]
        return jnp.eye(size) - W.T @ jnp.where(active[:, None], W, 0)

    def along(position: jax.Array, target: jax.Array, limit: jax.Array) -> jax.Array:
        inside = jnp.minimum((target - position) / (1 + effort), limit - position)
        outside = jnp.maximum(limit - position, 0)

        def value(a: jax.Array) -> jax.Array:
            missed = jnp.minimum(a + position, limit) - target
            return -(missed**2) / 2 - effort * a**2 / 2

        return best_of(jnp.stack([inside, outside]), value)

    def equilibrium(x: PyTree) -> tuple[jax.Array, jax.Array]:
        a = (x["target"] - x["position"]) / (1 + effort)
        wanted = jax.vmap(along)(W @ x["position"], W @ x["target"], x["limit"])
        a = a + W.T @ (wanted - W @ a)
        return a, best_response(a, x)

    def nash(x: PyTree) -> tuple[jax.Array, jax.Array]:
        a = jnp.zeros_like(x["position"])
        return a, best_response(a, x)

    def contexts(key: jax.Array, n: int) -> PyTree:
        keys = jax.random.split(key, 3)
        return {
            "position": uniform(keys[0], (n, size), -2.0, 2.0),
            "target": uniform(keys[1], (n, size), -2.0, 2.0),
            "limit": uniform(keys[2], (n, rows), -1.0, 1.0),
        }

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            response_set=Polyhedron(A=W, b=lambda action, context: context["limit"]),
        ),
        jnp.zeros(size),
        jnp.zeros(size),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
        solver=Complementarity(),
        starts=8,
        kinked=True,
    )
