"""The follower's best response."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from stackjax._game import Game, scalar
from stackjax._implicit import argmax
from stackjax._solvers import Minimum, Newton

PyTree = Any


class Response(struct.PyTreeNode):
    """A follower's answer, and how far to trust it.

    Attributes:
      value: the best response, with the structure of the starting point.
      residual: scalar, an estimate of the largest error of `value`: the last Newton step, each
        coordinate relative to `min(1 + |value|, upper - lower)`. `inf` where the utility is not a
        number.
      steps: scalar int, iterations of the solver.
      converged: scalar bool. If False, `value` is the best point found, and derivatives are
        finite but not those of a best response.
    """

    value: PyTree
    residual: jax.Array
    steps: jax.Array
    converged: jax.Array


def best_response(
    game: Game, action: PyTree, context: PyTree, *, response: PyTree, solver: Newton | None = None
) -> Response:
    """Solves `argmax_r U_F(action, r, context)` over the game's response set.

    Unbatched: use `jax.vmap` over contexts. Differentiable in `action`, `context`, the arrays of
    the game (a module's parameters, the sets' bounds) and anything the follower's utility closes
    over, in forward and reverse mode and to any order, by the implicit function theorem on the
    coordinates that no bound holds; coordinates held by a bound move with the bound. The starting
    point's derivative is zero. (Within `lax.scan` and `lax.map`, JAX forgets custom rules when it
    differentiates repeatedly in reverse mode; there derivatives are right up to the second.)

    The solution is local where the utility is not concave. bfloat16 and float16 are computed in
    float32 and returned as they came. Outside of `jax.jit` the call is compiled once for each
    pair of utilities and shapes; a lambda made anew at every call compiles anew.

    Args:
      game: the game.
      action: the leader's action, a pytree of arrays.
      context: the context, a pytree of arrays.
      response: the starting point, a pytree of floating-point arrays; projected onto the set if
        it lies outside.
      solver: settings; `Newton()` if None.

    Returns:
      The `Response`; non-convergence is reported there, not raised.

    Raises:
      TypeError: `game` is not a Game; `response` is not floating point; the utility does not
        return a floating-point number.
      ValueError: the utility does not return a scalar, or, outside of transforms, is not a number
        at the starting point.

    Source: arXiv 2606.23026, eq. (3), (8) and Prop. 5.2.
    """
    check_game(game)
    settings = as_settings(solver, "solver")
    response = as_start(response, "response")
    action, context = (jax.tree.map(jnp.asarray, x) for x in (action, context))
    game.response_set.bounds(response)
    answer = _best_response(game, action, context, response, settings)
    if concrete(answer) and not np.isfinite(answer.residual):
        check_finite_utility(game.follower_utility, "follower_utility", game, action, response,
                             context)  # fmt: skip
    return answer


@partial(jax.jit, static_argnums=4)
def _best_response(
    game: Game, action: PyTree, context: PyTree, response: PyTree, settings: Newton
) -> Response:
    value, found = respond(game, action, context, response, settings)
    return Response(value, found.residual, found.steps.astype(jnp.int32), found.converged > 0)


def respond(
    game: Game, action: PyTree, context: PyTree, response: PyTree, settings: Newton
) -> tuple[PyTree, Minimum]:
    """`best_response` without its checks: the differentiable value and the solver's report."""
    start, unravel = ravel_pytree(at_least_float32(response))
    bounds = game.response_set.bounds(unravel(start))

    def utility(y: jax.Array, _: None) -> tuple[jax.Array, None]:
        value = game.follower_utility(action, unravel(y), context)
        return scalar(value, "follower_utility").astype(y.dtype), None

    y, found = argmax(utility, start, *(ravel_pytree(b)[0] for b in bounds), settings=settings)
    return like(unravel(y), response), found


def at_least_float32(tree: PyTree) -> PyTree:
    """Half precision is for storage: its rounding is coarser than any useful tolerance."""
    return jax.tree.map(lambda y: y.astype(jnp.promote_types(y.dtype, jnp.float32)), tree)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """`tree` in the dtypes of `other`."""
    return jax.tree.map(lambda y, o: y.astype(o.dtype), tree, other)


def check_game(game: Any) -> None:
    """Raises TypeError unless `game` is a `Game`."""
    if not isinstance(game, Game):
        raise TypeError(f"`game` must be a stackjax.Game; got {type(game).__name__}.")


def as_settings(solver: Any, name: str) -> Newton:
    """The settings, `Newton()` where None. Raises TypeError on anything else."""
    if solver is None:
        return Newton()
    if not isinstance(solver, Newton):
        raise TypeError(f"`{name}` must be stackjax.Newton(...) or None; got {solver!r}.")
    return solver


def as_start(start: PyTree, name: str) -> PyTree:
    """The starting point as a pytree of arrays.

    Raises:
      TypeError: a leaf is not floating point.
      ValueError: there is nothing in it to choose.
    """
    start = jax.tree.map(jnp.asarray, start)
    leaves = jax.tree.leaves(start)
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"`{name}` must be floating point; got dtype {leaf.dtype}. Write 1.0 instead of 1."
            )
    if sum(leaf.size for leaf in leaves) == 0:
        raise ValueError(f"`{name}` is empty: it has no coordinate to choose.")
    return start


def concrete(tree: PyTree) -> bool:
    """Whether every leaf holds numbers that the host can read now."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def check_finite_utility(
    utility: Any, name: str, game: Game, action: PyTree, response: PyTree, context: PyTree
) -> None:
    """Raises ValueError if `utility` is not a number at the (projected) starting point."""
    if not concrete((game, action, response, context)):
        return
    value = utility(action, game.response_set.project(response), context)
    if not np.isfinite(value):
        raise ValueError(
            f"`{name}` returned {float(value)} at the starting response; it must return a finite "
            "number on the response set. Start elsewhere, or bound the set away from there."
        )
