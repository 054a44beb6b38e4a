"""A game with its answers."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from stackjax._arrays.arguments import check_count, check_within
from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.solvers._newton import Newton
from stackjax.solvers._settings import Complementarity


@dataclasses.dataclass(frozen=True)
class ClosedFormGame:
    """A game with known answers. All functions are unbatched and can be jitted and vmapped.

    Attributes:
      game: the game.
      action: a starting point for the leader.
      response: a starting point for the follower.
      equilibrium: `context -> (action, response)`, the Stackelberg equilibrium; of several best
        responses it takes the leader's favourite.
      best_response: `(action, context) -> response`.
      sensitivity: `(action, context) -> d response / d action`, shape
        `response.shape + action.shape`; one-sided where a bound just becomes active.
      contexts: `(key, N) -> contexts`, a random batch, `[N, ...]`, with an interior equilibrium
        unless the game says otherwise.
      nash: `context -> (action, response)`, a Nash equilibrium of the game in which both move at
        once, or None. Commitment is worth at least as much to the leader.
      solver: settings of `stackjax.solve` that suit the game; None for its default.
      starts: the number of starting points that suits it, or None.
      kinked: some contexts have their equilibrium at a kink of the follower's response.
      ties: at the equilibrium the follower has several best responses.
      pessimistic: where there are ties, `context -> scalar`, what the leader could get at most (a
        supremum, not always attained) from a follower who breaks them against it; else None.

    Example:
      >>> toll = sj.games.toll()
      >>> action, response = jax.vmap(toll.equilibrium)(toll.contexts(jax.random.key(0), 5))
      >>> print(action.shape, response.shape, toll.kinked, toll.ties, toll.solver)
      (5,) (5,) True False None
    """

    game: Game
    action: PyTree
    response: PyTree
    equilibrium: Callable[[PyTree], tuple[PyTree, PyTree]]
    best_response: Callable[[PyTree, PyTree], PyTree]
    sensitivity: Callable[[PyTree, PyTree], jax.Array]
    contexts: Callable[[jax.Array, int], PyTree]
    nash: Callable[[PyTree], tuple[PyTree, PyTree]] | None = None
    solver: Newton | Complementarity | None = None
    starts: int | None = None
    kinked: bool = False
    ties: bool = False
    pessimistic: Callable[[PyTree], jax.Array] | None = None


def best_of(candidates: jax.Array, value: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The one of `candidates`, `[k, ...]`, with the largest `value`."""
    return candidates[jnp.argmax(jax.vmap(value)(candidates))]


def uniform(key: jax.Array, shape: tuple[int, ...], low: float, high: float) -> jax.Array:
    """Uniform numbers in the default dtype."""
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def check_positive(**values: float) -> None:
    """Raises TypeError or ValueError unless every value is a positive number."""
    for name, value in values.items():
        check_within(name, value, "(0, inf]")


def check_at_least(least: int, **values: int) -> None:
    """Raises TypeError or ValueError unless every value is an integer of at least `least`."""
    for name, value in values.items():
        check_count(name, value, least=least)
