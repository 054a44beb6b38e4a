"""How a follower's utility looks as a function of the response: is its answer the only one?"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.factor import factorise
from stackjax._arrays.starts import spread
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import respond
from stackjax._follower.vectors import at_least_float32, flat
from stackjax._game import Game, evaluate, scalar
from stackjax.solvers._implicit import detached
from stackjax.solvers._settings import DENSE
from stackjax.solvers._solver import Solver

_SAMPLES, _PARTS, _SEARCHES = 32, 9, 4


class Shape(NamedTuple):
    """How the follower's utility looks at a sample of plays. Scalars.

    Attributes:
      concave: bool, its Hessian was negative semidefinite wherever it was looked at.
      quasiconcave: bool, on no segment that was looked at did it fall below both ends, and no
        level set that was looked at bends outwards (Arrow and Enthoven, Econometrica 29, 1961).
      regret: how much more than at `response` it is at some other response to `action`, relative
        to its range among them.
    """

    concave: jax.Array
    quasiconcave: jax.Array
    regret: jax.Array


def shape_of(game: Game, action: PyTree, response: PyTree, context: PyTree) -> Shape:
    """How the follower's utility looks as a function of the response, in boxes.

    Quasi-random responses, uniform between bounds and around `response` where there are none; half
    of them at `action`, half at actions drawn likewise, where both bounds are finite. Where the
    utility is not a number it is not looked at. Up to 64 coordinates the whole Hessian, above one
    random direction a point.
    """
    own, unravel_action = ravel_pytree(at_least_float32(action))
    centre, unravel = ravel_pytree(at_least_float32(response))
    low, high = map(flat, game.action_set.bounds(unravel_action(own)))
    lower, upper = map(flat, game.response_set.bounds(unravel(centre)))
    points = spread(_SAMPLES, centre, lower, upper, jnp.zeros_like(centre))
    actions = spread(_SAMPLES, own, low, high, jnp.zeros_like(own))
    moved = (jnp.isfinite(low) & jnp.isfinite(high))[None]
    moved = moved & (jnp.arange(_SAMPLES)[:, None] % 2 == 1)
    actions = jnp.where(moved, actions, own[None])
    size, whole = len(centre), len(centre) <= DENSE
    ones = jnp.ones_like(centre)
    directions = spread(_SAMPLES, 0 * centre, -ones, ones, 0.3 * ones)

    def utility(action: jax.Array, y: jax.Array) -> jax.Array:
        value = game.follower_utility(unravel_action(action), unravel(y), context)
        return scalar(value, "follower_utility").astype(y.dtype)

    def bends(action: jax.Array, y: jax.Array, direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether the utility is concave here, and whether it is along its own level set."""
        slope = jax.grad(lambda y: -utility(action, y))
        push = lambda e: jax.jvp(slope, (y,), (e,))
        if whole:
            gradients, hessian = jax.vmap(push)(jnp.eye(size, dtype=y.dtype))
            gradient = gradients[0]
        else:
            gradient, product = push(direction)
            squared = jnp.sum(gradient**2)
            share = (direction @ gradient) / jnp.where(squared > 0, squared, 1)
            level = direction - share * gradient
            hessian = jnp.reshape(direction @ product, (1, 1)) / size
        finite = jnp.all(jnp.isfinite(hessian))
        hessian = jnp.where(finite, (hessian + hessian.T) / 2, 0)
        concave = ~finite | factorise(hessian).semidefinite
        if not whole:
            _, product = push(level)
            bent = jnp.reshape(level @ product, (1, 1)) / size
            finite &= jnp.all(jnp.isfinite(bent))
            return concave, ~finite | factorise(jnp.where(finite, bent, 0)).semidefinite
        # Across it the second derivative may have any sign.
        squared = jnp.sum(gradient**2)
        stiff = 1e3 * jnp.max(jnp.abs(hessian)) / jnp.where(squared > 0, squared, 1)
        across = stiff * gradient[:, None] * gradient[None]
        across = jnp.where(jnp.all(jnp.isfinite(across)), across, 0)
        return concave, ~finite | factorise(hessian + across).semidefinite

    actions, points, directions = lax.stop_gradient((actions, points, directions))
    middles = (points + centre[None]) / 2
    concave, level = jax.vmap(bends)(
        jnp.concatenate([actions, jnp.broadcast_to(own, actions.shape)]),
        jnp.concatenate([points, middles]),
        jnp.concatenate([directions, directions]),
    )
    concave, level = jnp.all(concave), jnp.all(level)

    def height(action: jax.Array, y: jax.Array) -> jax.Array:
        return lax.stop_gradient(utility(action, y))

    # Segments between the points, and from the answer to each of them.
    ends = jnp.concatenate([jnp.roll(points, 7, axis=0), jnp.broadcast_to(centre, points.shape)])
    begins, both = jnp.concatenate([points, points]), jnp.concatenate([actions, actions])
    quasi = level & ~dips(height, both, begins, ends)
    eps = float(jnp.finfo(centre.dtype).eps)
    fresh = jax.vmap(lambda y: height(own, y))(points)
    at, valid = height(own, centre), jnp.isfinite(fresh)
    top, bottom = jnp.max(jnp.where(valid, fresh, -jnp.inf)), jnp.min(jnp.where(valid, fresh, at))
    spread_ = jnp.maximum(jnp.maximum(top, at) - bottom, jnp.finfo(centre.dtype).tiny)
    gain = jnp.maximum(top - at - 64 * eps * jnp.abs(at), 0)
    return Shape(concave, quasi, jnp.where(jnp.isfinite(at), gain / spread_, jnp.inf))


def dips(
    height: Callable[[jax.Array, jax.Array], jax.Array],
    actions: jax.Array,
    begins: jax.Array,
    ends: jax.Array,
) -> jax.Array:
    """Whether a utility falls below both ends of a segment, where those are numbers; a scalar bool.

    Args:
      height: `(action [a], response [r]) -> scalar`.
      actions: `[k, a]` at which.
      begins: `[k, r]` the segments' ends.
      ends: `[k, r]` likewise.
    """
    parts = jnp.linspace(0, 1, _PARTS, dtype=begins.dtype)
    between = lambda a, b: a[None] * (1 - parts)[:, None] + b[None] * parts[:, None]
    along = lambda at, a, b: jax.vmap(lambda y: height(at, y))(between(a, b))
    heights = jax.vmap(along)(actions, begins, ends)
    eps = float(jnp.finfo(begins.dtype).eps)
    known = jnp.where(jnp.isfinite(heights), heights, 0)
    noise = 64 * eps * jnp.max(jnp.abs(known), axis=1, keepdims=True)
    lowest = jnp.minimum(heights[:, :1], heights[:, -1:])
    return jnp.any((heights < lowest - noise) & jnp.isfinite(lowest))


def fresh_gain(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Solver,
    needed: jax.Array,
) -> jax.Array:
    """What the follower gains over `response` when it searches afresh, from four other starts.

    Args:
      game: the game.
      action: the leader's.
      response: the follower's.
      context: of the game.
      settings: the follower's solver.
      needed: scalar bool; if not, nothing is searched.

    Returns:
      Scalar, in the utility's units; 0 where rounding could be all of it.
    """
    action, response = at_least_float32(action), at_least_float32(response)
    centre, unravel = ravel_pytree(response)
    lower, upper = map(flat, game.response_set.bounds(response))
    begins = spread(_SEARCHES + 1, centre, lower, upper, jnp.full_like(centre, 0.25))[1:]
    eps = float(jnp.finfo(centre.dtype).eps)

    def height(response: PyTree) -> jax.Array:
        value = evaluate(game.follower_utility, "follower_utility", action, response, context)
        return value.astype(centre.dtype)

    def search(_: tuple) -> tuple[jax.Array, jax.Array]:
        answers, quality = jax.vmap(
            lambda y: respond(game, action, context, unravel(y), settings)
        )(begins)  # fmt: skip
        reached, at = jax.vmap(height)(answers), height(response)
        top = jnp.max(jnp.where(quality.converged > 0, reached, -jnp.inf))
        return jnp.maximum(top - at - 64 * eps * jnp.abs(at), 0), jnp.zeros((), bool)

    # The body of a loop of at most one turn: batches of concave followers do not pay for it.
    nothing = jnp.zeros((), centre.dtype)
    gain_of = lambda _: lax.while_loop(lambda state: state[1], search, (nothing, needed))
    return detached(lambda start: (start, gain_of(start)[0]), nothing)[1]
