"""Where the constants are looked for: sampled plays, and ascent from them inside both sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.starts import shift, spread
from stackjax._arrays.typing import PyTree, Vector
from stackjax._follower.best_response import best_response
from stackjax._follower.vectors import at_least_float32, filled_bounds
from stackjax._game import Game, scalar
from stackjax.solvers._solver import Solver

_TOLERANCE = 1e-4  # of violations, relative to 1 + |y|: what float32 can tell


class Plays(struct.PyTreeNode):
    """M plays of a game, as vectors, and what turns them back.

    Attributes:
      game: the game.
      contexts: `[N, ...]`, or a pytree without arrays.
      action_like: an action, for its structure.
      response_like: a response.
      index: `[M]` rows of `contexts`.
      action: `[M, m]`, feasible where `inside`.
      response: `[M, n]`.
      inside: `[M]` bool.
      solver: of the best response.
    """

    game: Game
    contexts: PyTree
    action_like: PyTree
    response_like: PyTree
    index: jax.Array
    action: jax.Array
    response: jax.Array
    inside: jax.Array
    solver: Solver | None = struct.field(pytree_node=False, default=None)


class View:
    """One game in one context as functions of vectors."""

    def __init__(self, plays: Plays, index: jax.Array) -> None:
        self.game, self.solver = plays.game, plays.solver
        self.context = jax.tree.map(lambda leaf: leaf[index], plays.contexts)
        self.start, self.unravel_response = ravel_pytree(plays.response_like)
        _, self.unravel_action = ravel_pytree(plays.action_like)

    def leader(self, a: Vector, r: Vector) -> Vector:
        """U_L."""
        value = self.game.leader_utility(
            self.unravel_action(a), self.unravel_response(r), self.context
        )
        return scalar(value, "leader_utility")

    def follower(self, a: Vector, r: Vector) -> Vector:
        """U_F."""
        value = self.game.follower_utility(
            self.unravel_action(a), self.unravel_response(r), self.context
        )
        return scalar(value, "follower_utility")

    def answer(self, a: Vector) -> tuple[Vector, Vector]:
        """The best response, and whether it converged."""
        found = best_response(
            self.game,
            self.unravel_action(a),
            self.context,
            response=self.unravel_response(self.start),
            solver=self.solver,
        )
        return ravel_pytree(found.value)[0], found.converged

    def project_action(self, a: Vector) -> Vector:
        """Onto the action set, or its bounds where it has no projection."""
        return _project(self.game.action_set, a, self.unravel_action)

    def project_response(self, r: Vector) -> Vector:
        """Onto the response set, likewise."""
        return _project(self.game.response_set, r, self.unravel_response)

    def widths(self, a: Vector, r: Vector) -> tuple[Vector, Vector]:
        """Of both sets' bounds; `1 + |y|` where these are open."""
        widths = []
        for feasible, y, unravel in (
            (self.game.action_set, a, self.unravel_action),
            (self.game.response_set, r, self.unravel_response),
        ):
            lower, upper = filled_bounds(feasible, unravel(y))
            wide = upper - lower
            widths.append(jnp.where(jnp.isfinite(wide), wide, 1 + jnp.abs(y)).astype(y.dtype))
        return widths[0], widths[1]

    def inside(self, a: Vector, r: Vector) -> Vector:
        """Whether both are feasible, up to rounding."""
        action, response = self.unravel_action(a), self.unravel_response(r)
        tol: Any = _TOLERANCE * (1 + jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(r))))
        allowed = self.game.action_set.contains(
            action, response=response, context=self.context, tol=tol
        )
        answers = self.game.response_set.contains(
            response, action=action, context=self.context, tol=tol
        )
        return allowed & answers


@partial(jax.jit, static_argnames=("count", "solver"))
def draw_plays(
    game: Game,
    contexts: PyTree,
    action: PyTree,
    response: PyTree,
    key: jax.Array,
    *,
    count: int,
    solver: Solver | None = None,
) -> Plays:
    """M quasi-random plays over both sets and all contexts.

    Uniform between finite bounds, else at four scales around `action` and `response`, then
    projected; plays that are not feasible are marked.
    """
    action, response = at_least_float32(action), at_least_float32(response)
    keys = jax.random.split(key, 3)
    points, unravels = [], []
    for feasible, like, key_ in (
        (game.action_set, action, keys[0]),
        (game.response_set, response, keys[1]),
    ):
        start, unravel = ravel_pytree(like)
        lower, upper = filled_bounds(feasible, like)
        points.append(spread(count, start, lower, upper, shift(key_, start)))
        unravels.append(unravel)
    leaves = jax.tree.leaves(contexts)
    number = leaves[0].shape[0] if leaves else 1
    # Every context as often as the others, in an order that the key shuffles.
    order = jax.random.permutation(keys[2], count) % number
    plays = Plays(
        game, contexts, action, response, order, points[0], points[1], jnp.ones(count, bool), solver
    )

    def project(index: jax.Array, a: Vector, r: Vector) -> tuple:
        view = View(plays, index)
        a, r = view.project_action(a), view.project_response(r)
        return a, r, view.inside(a, r)

    a, r, inside = jax.vmap(project)(order, points[0], points[1])
    return plays.replace(action=a, response=r, inside=inside)


@partial(jax.jit, static_argnames=("quantity", "steps"))
def largest(
    plays: Plays, quantity: Callable[[View, Vector, Vector], Vector], *, steps: int
) -> tuple[jax.Array, jax.Array]:
    """The largest `quantity(view, a, r)` seen: `[M]` at the sample, `[M]` after ascent from there.

    Projected gradient ascent with normalised steps that shrink from a quarter to 1/400 of a
    coordinate's range; steps out of the sets and values that are no number do not count (-inf).
    """

    def one(index: jax.Array, a: Vector, r: Vector, inside: jax.Array) -> tuple:
        view = View(plays, index)

        def value(a: Vector, r: Vector) -> Vector:
            found = quantity(view, a, r)
            ok = jnp.isfinite(found) & view.inside(a, r)
            return jnp.where(ok, found, -jnp.inf)

        widths = view.widths(a, r)
        first = jnp.where(inside, value(a, r), -jnp.inf)

        def step(carry: tuple, k: jax.Array) -> tuple[tuple, None]:
            best, a, r = carry
            slopes = jax.grad(lambda a, r: quantity(view, a, r), argnums=(0, 1))(a, r)
            size = 0.25 * 100.0 ** (-k / max(steps - 1, 1))
            moved = [
                y + size * w * direction(g * w)
                for y, w, g in zip((a, r), widths, slopes, strict=True)
            ]
            a2, r2 = view.project_action(moved[0]), view.project_response(moved[1])
            found = value(a2, r2)
            better = found > best
            keep = lambda new, old: jnp.where(better, new, old)
            return (keep(found, best), keep(a2, a), keep(r2, r)), None

        ascended = (first, a, r)
        if steps:
            ascended, _ = lax.scan(step, ascended, jnp.arange(steps, dtype=a.dtype))
        return first, ascended[0]

    return jax.vmap(one)(plays.index, plays.action, plays.response, plays.inside)


def depends_on(function: Callable, *arguments: Any) -> tuple[bool, ...]:
    """For each argument whether the traced function's result can depend on it.

    False is proof: the result is computed without it.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    try:
        from jax.interpreters import partial_eval

        wanted = [True] * len(closed.jaxpr.outvars)
        _, used = partial_eval.dce_jaxpr(closed.jaxpr, wanted)
    except (ImportError, AttributeError, TypeError):  # another JAX: nothing is proved
        return (True,) * len(arguments)
    flags, place = [], 0
    for argument in arguments:
        size = len(jax.tree.leaves(argument))
        flags.append(any(used[place : place + size]))
        place += size
    return tuple(flags)


def lengths(game: Game, action: PyTree, response: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Widths of both sets' bounds, coordinate by coordinate; infinite where open."""
    found = []
    for feasible, like in ((game.action_set, action), (game.response_set, response)):
        lower, upper = filled_bounds(feasible, at_least_float32(like))
        found.append(np.asarray(upper - lower, float))
    return found[0], found[1]


def direction(g: Vector) -> Vector:
    """The direction of `g`; zero where it has none."""
    g = jnp.where(jnp.isfinite(g), g, 0)
    size = jnp.sqrt(jnp.sum(g * g))
    return g / jnp.where(size > 0, size, 1)


def _project(feasible: Any, y: Vector, unravel: Callable) -> Vector:
    if feasible.projectable:
        return ravel_pytree(feasible.project(unravel(y)))[0].astype(y.dtype)
    return jnp.clip(y, *filled_bounds(feasible, unravel(y)))
