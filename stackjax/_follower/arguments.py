"""What callers may pass: the checks of games, solvers and starting points of a follower."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import concrete
from stackjax._arrays.typing import PyTree
from stackjax._follower.several import check_responses
from stackjax._game import Game
from stackjax.sets import FeasibleSet, Polyhedron
from stackjax.solvers._interior_point import InteriorPoint
from stackjax.solvers._newton import Newton
from stackjax.solvers._projected_gradient import ProjectedGradient
from stackjax.solvers._settings import DENSE
from stackjax.solvers._solver import Solver
from stackjax.solvers.equilibrium._semismooth import SemismoothNewton


def check_game(game: Any) -> None:
    """Raises TypeError unless `game` is a `Game`."""
    if not isinstance(game, Game):
        raise TypeError(f"`game` must be a stackjax.Game; got {type(game).__name__}.")


def game_settings(solver: Any, game: Game, name: str, response: PyTree) -> Solver:
    """The settings, or the default for the game and the size of the `response`.

    Raises:
      TypeError: they do not fit the response set or the number of followers; several have not one
        starting response each.
      ValueError: likewise, of `Followers`.
    """
    if not game.several:
        return follower_settings(solver, game.response_set, name, response)
    check_responses(game, response)
    if solver is None:
        return SemismoothNewton()
    if not isinstance(solver, SemismoothNewton):
        raise TypeError(
            f"`{name}` must be stackjax.SemismoothNewton(...) or None for several followers; got "
            f"{solver!r}."
        )
    return solver


def check_one_follower(game: Game, caller: str, advice: str = "") -> None:
    """Raises TypeError, followed by the advice, if the game has several followers."""
    if game.several:
        raise TypeError(
            f"`{caller}` supports games of one follower; this game has "
            f"{len(game.follower_utility)}.{advice}"
        )


def follower_settings(
    solver: Any, feasible: FeasibleSet, name: str, response: PyTree = None
) -> Solver:
    """The settings, or the default for the set and, if given, the size of the `response`.

    Raises:
      TypeError: they do not fit the set.
    """
    if solver is None:
        if feasible.only_bounds:
            return Newton()
        large = sum(leaf.size for leaf in jax.tree.leaves(response)) > DENSE
        return ProjectedGradient() if large and feasible.projectable else InteriorPoint()
    if not isinstance(solver, Solver):
        raise TypeError(
            f"`{name}` must be stackjax.Newton(...), stackjax.InteriorPoint(...), "
            "stackjax.ProjectedGradient(...), stackjax.SemismoothNewton(...), your own "
            f"stackjax.solvers.Solver or None; got {solver!r}."
        )
    try:
        hash(solver)
    except TypeError:
        raise TypeError(
            f"`{name}`: a {type(solver).__name__} must be hashable, as a frozen dataclass is "
            "(@dataclasses.dataclass(frozen=True)); JAX compiles once for each solver."
        ) from None
    refused = solver.refuses(feasible)
    if refused is not None:
        raise TypeError(f"`{name}`: {refused}")
    return solver


def check_nonempty(feasible: FeasibleSet, point: PyTree, action: PyTree, context: PyTree) -> None:
    """Raises ValueError if the response set is known to be empty for this play."""
    known = concrete((feasible, point, action, context))
    if known and isinstance(feasible, Polyhedron) and not feasible.nonempty(point, action, context):
        raise ValueError(
            "`game.response_set` is empty for this action and context: no response satisfies "
            "`A r <= b`, `E r = d` and the box."
        )


def check_finite_utility(
    utility: Any, name: str, game: Game, action: PyTree, response: PyTree, context: PyTree
) -> None:
    """Raises ValueError if `utility` is not a number at the (projected) starting point."""
    if not concrete((game, action, response, context)):
        return
    if game.response_set.projectable:
        response = game.response_set.project(response)
    value = utility(action, response, context)
    if not np.isfinite(value):
        for given, tree in (("action", action), ("response", response), ("context", context)):
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                real = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
                if real and not np.isfinite(leaf).all():
                    raise ValueError(
                        f"`{given}{jax.tree_util.keystr(path)}` must hold finite numbers where "
                        f"`{name}` uses them; got {leaf}."
                    )
        raise ValueError(
            f"`{name}` returned {float(value)} at the starting response; it must return a finite "
            "number on the response set. Start elsewhere, or bound the set away from there."
        )


def check_bounded(
    game: Game, action: PyTree, found: PyTree, start: PyTree, context: PyTree
) -> None:
    """Raises ValueError if the follower's utility rises without end from `start` through `found`.

    It is followed along that line, as long as that stays in the response set and `found` is far
    away, to a million times the distance: a utility that rises all the way, by as much each time
    the distance grows tenfold or more, has no maximum that a float could tell from infinity.
    """
    if not concrete((game, action, found, start, context)):
        return
    begin, unravel = ravel_pytree(jax.tree.map(lambda y: jnp.asarray(y, jnp.float32), start))
    end = ravel_pytree(jax.tree.map(lambda y: jnp.asarray(y, jnp.float32), found))[0]
    size = float(jnp.max(jnp.abs(begin)))
    if not np.isfinite(end).all() or not float(jnp.max(jnp.abs(end))) > 1e6 * max(size, 1e-30):
        return
    direction = (end - begin) / jnp.max(jnp.abs(end - begin))
    values = []
    for power in range(1, 7):
        point = unravel(begin + (size if size > 0 else 1.0) * 10.0**power * direction)
        if not game.response_set.contains(point, action=action, context=context):
            return
        values.append(float(game.follower_utility(action, point, context)))
    gains = np.diff(values)
    if np.isfinite(values).all() and (gains > 0).all() and (np.diff(gains) >= 0).all():
        raise ValueError(
            "`follower_utility` rises without end over the response set: it grows from "
            f"{values[0]:.3g} to {values[-1]:.3g} towards {direction}. Bound the response set, or "
            "make the utility concave."
        )
