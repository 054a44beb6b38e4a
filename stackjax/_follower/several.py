"""The problem of several followers, written on one vector."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from stackjax._arrays.modules import call
from stackjax._arrays.typing import PyTree
from stackjax._game import Followers, Game, Several, scalar
from stackjax.sets._product import Product
from stackjax.solvers.equilibrium._joint import Joint, Rows

Utility = Callable[[Any, jax.Array, jax.Array], jax.Array]  # (number, own [e], y [d]) -> scalar


class Layout(NamedTuple):
    """How the responses of several followers lie on one vector, follower after follower.

    Attributes:
      flat: responses -> `[d]`.
      unravel: `[d]` -> responses.
      sizes: entries of each follower.
      utility: `(number, own [e], y [d]) -> scalar`: a follower's, with its own entries replaced.
    """

    flat: Callable[[PyTree], jax.Array]
    unravel: Callable[[jax.Array], PyTree]
    sizes: tuple[int, ...]
    utility: Utility


def check_responses(game: Game, response: PyTree) -> None:
    """Raises TypeError or ValueError unless `response` holds one entry for each follower."""
    followers = game.follower_utility
    count = len(followers)
    if isinstance(followers, Several):
        if not isinstance(response, tuple | list) or len(response) != count:
            given = f"{len(response)}" if isinstance(response, tuple | list) else "one array"
            raise TypeError(
                f"`response` must be a tuple with one entry for each of the {count} followers; got "
                f"{given}."
            )
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(response):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != count:
            raise ValueError(
                f"`response{jax.tree_util.keystr(path)}` must have a leading axis of {count}, the "
                f"number of followers; got shape {jnp.shape(leaf)}."
            )


def layout_of(game: Game, action: PyTree, context: PyTree, response: PyTree) -> Layout:
    """The layout for responses shaped as `response`, and the utilities at this action."""
    if isinstance(game.follower_utility, Several):
        return _of_tuple(game.follower_utility, action, context, response)
    return _of_batch(game.follower_utility, action, context, response)


def _of_tuple(followers: Several, action: PyTree, context: PyTree, response: PyTree) -> Layout:
    start, unravel = ravel_pytree(response)
    entries = [ravel_pytree(entry) for entry in response]
    names = [f"follower_utility[{number}]" for number in range(len(followers))]

    def utility(number: int, own: jax.Array, y: jax.Array) -> jax.Array:
        every = list(unravel(y))
        every[number] = entries[number][1](own)
        value = call(followers[number], names[number], action, tuple(every), context)
        return scalar(value, names[number]).astype(start.dtype)

    sizes = tuple(len(entry) for entry, _ in entries)
    return Layout(lambda tree: ravel_pytree(tree)[0], unravel, sizes, utility)


def _of_batch(followers: Followers, action: PyTree, context: PyTree, response: PyTree) -> Layout:
    leaves, structure = jax.tree.flatten(response)
    count, dtype = len(followers), jnp.result_type(*leaves)
    one, unravel_one = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], response))
    widths = [leaf.size // count for leaf in leaves]

    def flat(tree: PyTree) -> jax.Array:
        columns = [jnp.reshape(leaf, (count, -1)) for leaf in jax.tree.leaves(tree)]
        return jnp.concatenate([c.astype(dtype) for c in columns], axis=1).reshape(-1)

    def unravel(y: jax.Array) -> PyTree:
        columns, at, out = jnp.reshape(y, (count, -1)), 0, []
        for leaf, width in zip(leaves, widths):
            part = columns[:, at : at + width]
            out.append(jnp.reshape(part, leaf.shape).astype(leaf.dtype))
            at += width
        return jax.tree.unflatten(structure, out)

    def utility(number: jax.Array, own: jax.Array, y: jax.Array) -> jax.Array:
        mine = (jnp.arange(count) == number)[:, None]
        every = unravel(jnp.where(mine, own[None], jnp.reshape(y, (count, -1))).reshape(-1))
        parameters = jax.tree.map(lambda leaf: leaf[number], followers.parameters)
        value = call(
            followers.utility, "Followers.utility",
            action, unravel_one(own), every, context, parameters,
        )  # fmt: skip
        return scalar(value, "Followers.utility").astype(dtype)

    return Layout(flat, unravel, (len(one),) * count, utility)


def joint_problem(
    game: Game, action: PyTree, context: PyTree, response: PyTree
) -> tuple[Joint, Layout]:
    """The followers' problem at an action, for responses shaped as `response`."""
    layout = layout_of(game, action, context, response)
    feasible = game.response_set
    lower, upper = (layout.flat(bound) for bound in feasible.bounds(response))
    y = layout.flat(response)
    batched = isinstance(game.follower_utility, Followers)
    count, d = len(layout.sizes), len(y)

    def split(y: jax.Array) -> list[jax.Array]:
        cuts = [sum(layout.sizes[:n]) for n in range(1, count)]
        return jnp.split(y, cuts)

    def values(y: jax.Array) -> jax.Array:
        if batched:
            of_one = lambda number, own: layout.utility(number, own, y)
            return jax.vmap(of_one)(jnp.arange(count), jnp.reshape(y, (count, -1)))
        return jnp.stack([layout.utility(n, own, y) for n, own in enumerate(split(y))])

    def slopes(y: jax.Array) -> jax.Array:
        if batched:
            of_one = lambda number, own: jax.grad(layout.utility, argnums=1)(number, own, y)
            return jax.vmap(of_one)(jnp.arange(count), jnp.reshape(y, (count, -1))).reshape(-1)
        return jnp.concatenate(
            [jax.grad(layout.utility, argnums=1)(n, own, y) for n, own in enumerate(split(y))]
        )

    def second(number: Any, own: jax.Array, y: jax.Array) -> Rows:
        """A follower's utility, slopes `[e]` and what they change by with its own `[e, e]` and
        everybody's entries `[e, d]`: reverse over forward, a row at a time.
        """

        def along(own: jax.Array, y: jax.Array, e: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, slope = jax.jvp(lambda own: layout.utility(number, own, y), (own,), (e,))
            return slope, value

        row = jax.value_and_grad(along, argnums=(0, 1), has_aux=True)
        (slope, value), bent = jax.vmap(row, in_axes=(None, None, 0))(
            own, y, jnp.eye(len(own), dtype=y.dtype)
        )
        return value[0], slope, bent

    def rows(y: jax.Array) -> Rows:
        if batched:
            e = d // count
            values, slope, (own, rest) = jax.vmap(second, in_axes=(0, 0, None))(
                jnp.arange(count), jnp.reshape(y, (count, e)), y
            )
            same = jnp.eye(count, dtype=bool)[:, None, :, None]
            bent = jnp.reshape(rest, (count, e, count, e))
            bent = bent + jnp.where(same, own[:, :, None, :], 0)
            return values, slope.reshape(-1), bent.reshape(d, d)
        parts = [second(n, own, y) for n, own in enumerate(split(y))]
        jacobian, at = [], 0
        for _, _, (own, rest) in parts:
            jacobian.append(rest.at[:, at : at + own.shape[1]].add(own))
            at += own.shape[1]
        return (
            jnp.stack([value for value, _, _ in parts]),
            jnp.concatenate([slope for _, slope, _ in parts]),
            jnp.concatenate(jacobian),
        )

    def constraints(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = layout.unravel(y)
        g, h = feasible.residuals(r, action, r, context)
        return h.astype(y.dtype), g.astype(y.dtype)

    shared = not isinstance(feasible, Product)
    joint = Joint(values, slopes, rows, lower, upper, constraints, layout.sizes, shared)
    return joint, layout
