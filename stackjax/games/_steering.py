"""A follower on a ball."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_at_least, check_positive, uniform
from stackjax.sets import Ball
from stackjax.solvers._settings import Complementarity


def steering(*, size: int = 3, force: float = 0.5, radius: float = 2.0) -> ClosedFormGame:
    """A follower drifts as far as it can one way; the leader has little force to turn it.

        U_F = r'(a + x)   with |r - center| <= radius,     U_L = t'r   with |a| <= force

    Action a and response r: `[size]`; center: all ones; context: a dict of the `drift` x and the
    wanted direction, `target` t, a unit vector, `[size]` each. The follower goes to
    `r = center + radius d / |d|` with `d = a + x`.

    As long as the drift is stronger than the force and its angle to t more than
    `asin(force / |x|)`, the leader turns it by that angle towards t, pushing at a right angle to
    where it goes: with u the direction of x and v the unit vector that completes u and t to a
    plane, on t's side, and `s = force / |x|`, the direction is `sqrt(1 - s^2) u + s v`, and
    `a = |x| (sqrt(1 - s^2) direction - u)`. (Given r the leader does not care, so any a is in a
    Nash equilibrium; `nash` has a = 0.) Contexts: |x| ~ U[0.8, 2], at an angle to t ~ U[1, 2.6],
    in units of the default force.

    Args:
      size: the length of a and r, at least 2.
      force: the most the leader can do, > 0.
      radius: of the follower's ball, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `size` is below 2; `force` or `radius` is not positive.

    Source: the velocity triangle; linear optimisation on a ball, Boyd and Vandenberghe, Convex
    Optimization, 2004, Section 4.3.

    Example:
      >>> boat = sj.games.steering(size=2, radius=2.0)
      >>> wind = {"drift": jnp.array([1.0, 0.0]), "target": jnp.array([0.0, 1.0])}
      >>> print(boat.best_response(jnp.zeros(2), wind))  # from the center, 2 along the drift
      [3. 1.]
    """
    check_at_least(2, size=size)
    check_positive(force=force, radius=radius)
    center = 1.0

    def best_response(a: jax.Array, x: PyTree) -> jax.Array:
        d = a + x["drift"]
        return center + radius * d / jnp.linalg.norm(d)

    def sensitivity(a: jax.Array, x: PyTree) -> jax.Array:
        d = a + x["drift"]
        length = jnp.linalg.norm(d)
        return radius * (jnp.eye(size) - jnp.outer(d, d) / length**2) / length

    def equilibrium(x: PyTree) -> tuple[jax.Array, jax.Array]:
        strength = jnp.linalg.norm(x["drift"])
        u = x["drift"] / strength
        across = x["target"] - (x["target"] @ u) * u
        v = across / jnp.linalg.norm(across)
        s = force / strength
        direction = jnp.sqrt(1 - s**2) * u + s * v
        a = strength * (jnp.sqrt(1 - s**2) * direction - u)
        return a, best_response(a, x)

    def nash(x: PyTree) -> tuple[jax.Array, jax.Array]:
        a = jnp.zeros_like(x["drift"])
        return a, best_response(a, x)

    def contexts(key: jax.Array, n: int) -> PyTree:
        keys = jax.random.split(key, 3)
        axes = jnp.linalg.qr(jax.random.normal(keys[0], (n, size, 2)))[0]
        t, across = axes[..., 0], axes[..., 1]
        angle = uniform(keys[1], (n, 1), 1.0, 2.6)
        strength = uniform(keys[2], (n, 1), 0.8, 2.0) * force / 0.5
        return {"drift": strength * (jnp.cos(angle) * t + jnp.sin(angle) * across), "target": t}

    return ClosedFormGame(
        Game(
            lambda a, r, x: x["target"] @ r,
            lambda a, r, x: r @ (a + x["drift"]),
            action_set=Ball(radius=force),
            response_set=Ball(center, radius),
        ),
        jnp.zeros(size),
        jnp.full(size, center),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
        solver=Complementarity(),
        starts=4,
    )
