"""Random quadratic games."""

import jax
import jax.numpy as jnp

from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_at_least


def quadratic(
    key: jax.Array, *, action_size: int = 2, response_size: int = 3, context_size: int = 2
) -> ClosedFormGame:
    """A random quadratic game: the follower's answer is linear, the leader's problem concave.

        U_F = -r'Ar/2 + r'(Bl + Cx),     U_L = -l'Dl/2 + g'l - |r - t|^2/2

    with A, D positive definite (eigenvalues in [1, 1 + size]). Hence r* = A^-1 (Bl + Cx),
    dr*/dl = A^-1 B =: S, and (D + S'S) l* = g + S'(t - A^-1 Cx); the Nash action is D^-1 g.
    Contexts x are standard normal, `[context_size]`.

    Args:
      key: for the coefficients.
      action_size: the length of l.
      response_size: the length of r.
      context_size: the length of x.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: a size is below 1.

    Source: an exercise; for its dynamic version see Basar and Olsder, Dynamic Noncooperative Game
    Theory, 1999, Chapter 7.

    Example:
      >>> random = sj.games.quadratic(jax.random.key(0), action_size=2, response_size=3)
      >>> action, response = random.equilibrium(jnp.ones(2))
      >>> print(action.shape, response.shape, random.sensitivity(action, jnp.ones(2)).shape)
      (2,) (3,) (3, 2)
    """
    check_at_least(
        1, action_size=action_size, response_size=response_size, context_size=context_size
    )
    keys = jax.random.split(key, 6)
    normal = lambda i, *shape: jax.random.normal(keys[i], shape)

    def definite(i: int, size: int) -> jax.Array:
        root, _ = jnp.linalg.qr(normal(i, size, size))
        return root @ jnp.diag(1 + jnp.arange(size, dtype=root.dtype)) @ root.T

    curvature = definite(0, response_size)
    from_action = normal(1, response_size, action_size)
    from_context = normal(2, response_size, context_size)
    effort = definite(3, action_size)
    gain, target = normal(4, action_size), normal(5, response_size)
    slope = jnp.linalg.solve(curvature, from_action)

    def leader_utility(action: jax.Array, response: jax.Array, x: jax.Array) -> jax.Array:
        missed = response - target
        return -action @ effort @ action / 2 + gain @ action - missed @ missed / 2

    def follower_utility(action: jax.Array, response: jax.Array, x: jax.Array) -> jax.Array:
        pull = from_action @ action + from_context @ x
        return -response @ curvature @ response / 2 + response @ pull

    def best_response(action: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.linalg.solve(curvature, from_action @ action + from_context @ x)

    def equilibrium(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rest = target - jnp.linalg.solve(curvature, from_context @ x)
        action = jnp.linalg.solve(effort + slope.T @ slope, gain + slope.T @ rest)
        return action, best_response(action, x)

    def nash(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        action = jnp.linalg.solve(effort, gain)
        return action, best_response(action, x)

    return ClosedFormGame(
        Game(leader_utility, follower_utility),
        jnp.zeros(action_size),
        jnp.zeros(response_size),
        equilibrium,
        best_response,
        lambda action, x: slope,
        lambda key, n: jax.random.normal(key, (n, context_size)),
        nash=nash,
    )
