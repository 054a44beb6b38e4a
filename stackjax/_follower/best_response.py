"""The follower's best response."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import as_arrays, as_start, check_starts, concrete
from stackjax._arrays.modules import call
from stackjax._arrays.starts import shift, spread
from stackjax._arrays.typing import PyTree
from stackjax._follower.arguments import (
    check_bounded,
    check_finite_utility,
    check_game,
    check_nonempty,
    follower_settings,
)
from stackjax._follower.multipliers import held
from stackjax._game import Game, evaluate, scalar
from stackjax.sets import FeasibleSet
from stackjax.solvers._quality import Quality
from stackjax.solvers._solver import Maximum, Problem, Solver


class Multipliers(struct.PyTreeNode):
    """What the follower's utility would gain for each unit by which a constraint is relaxed.

    Attributes:
      lower: of the lower bounds, a pytree like the response; >= 0, 0 where the bound is inactive.
      upper: of the upper bounds, likewise.
      inequality: `[m]` of the set's inequalities, >= 0.
      equality: `[p]` of its equalities, of either sign: `U_F - inequality'g - equality'h` is
        stationary.

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: a * r, lambda a, r, x: a * r - r**2 / 2, response_set=sj.Box(0.0, 2.0)
      ... )
      >>> found = sj.best_response(game, 5.0, None, response=jnp.array(1.0))
      >>> print(found.value, found.multipliers.lower, found.multipliers.upper)
      2.0 0.0 3.0
    """

    lower: PyTree
    upper: PyTree
    inequality: jax.Array
    equality: jax.Array


class Response(struct.PyTreeNode):
    """A follower's answer, and how far to trust it.

    Attributes:
      value: the best response, with the structure of the starting point.
      residual: scalar, an estimate of the largest error of `value`: the Newton step from there,
        each coordinate relative to its own size (at most `upper - lower`; at 0, to how far it has
        to move for the utility to change by its own size). With constraints, in the units of
        the search: see `stackjax/solvers/constrained/_scales.py`. `inf` where the utility is not
        a number.
      steps: scalar int, iterations of the solver.
      converged: scalar bool, judged from `value` alone: it is feasible, first-order conditions,
        complementarity and curvature hold, Newton steps shrink or are nothing but rounding, each
        measured in the problem's own units (`stackjax/solvers/_judge.py`). If False, `value` is
        the best point found, and derivatives are finite but not those of a best response.
      degeneracy: scalar, the smallest of all constraints' `max(slack, multiplier)`; `inf` without
        constraints. Near 0, a constraint is about to become active or inactive: derivatives hold
        on one side of it only.
      curvature: scalar, the least curvature of the follower's Lagrangian along the directions
        that active constraints leave free, without a unit: at most 1; at 0 the direction is flat,
        there are several best responses, and derivatives leave it out (or short steps do not
        shrink, as at a kink or a maximum of higher order); negative, `value` is no maximum.
      multipliers: of the constraints, differentiable like `value`.
      agreeing_starts: scalar int, how many of the starting points led to a response as good. Fewer
        than `starts`: the utility has other local maxima, or some searches failed.

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> found = sj.best_response(duopoly.game, 6.0, 13.0, response=jnp.array(1.0))
      >>> print(found.value, found.converged, found.unique, found.residual < 1e-4)
      3.0 True True True
    """

    value: PyTree
    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    degeneracy: jax.Array
    curvature: jax.Array
    multipliers: Multipliers
    agreeing_starts: jax.Array

    @property
    def unique(self) -> jax.Array:
        """Whether the curvature rules out other best responses nearby; a scalar bool."""
        return self.curvature > jnp.finfo(self.curvature.dtype).eps ** 0.5


def best_response(
    game: Game,
    action: PyTree,
    context: PyTree,
    *,
    response: PyTree,
    solver: Solver | None = None,
    starts: int = 1,
    key: jax.Array | None = None,
) -> Response:
    """Solves `argmax_r U_F(action, r, context)` over the game's response set.

    Unbatched: use `jax.vmap` over contexts. Differentiable in `action`, `context`, the arrays of
    the game (a module's parameters, the sets' bounds and coefficients) and anything that the
    follower's utility and constraints close over, in forward and reverse mode and to any order,
    by the implicit function theorem on the optimality conditions with the constraints that are
    active at the solution; multipliers are differentiated too. The starting point's derivative is
    zero. (Within `lax.scan` and `lax.map`, JAX forgets custom rules when it differentiates
    again after a reverse pass; there derivatives are right up to the second.)

    The solution is local where the utility is not concave: ask for several `starts`, the best of
    which is returned, and look at `Response.agreeing_starts`. bfloat16 and float16 are computed in
    float32 and returned as they came. A utility cannot refer to a `vmap`ped axis by its name.
    Outside of `jax.jit` the call is compiled once for each pair of utilities and shapes; a lambda
    made anew at every call compiles anew.

    Args:
      game: the game.
      action: the leader's action, a pytree of arrays.
      context: the context, a pytree of arrays.
      response: the starting point, a pytree of floating-point arrays; it need not be feasible.
      solver: settings; if None, `Newton()` in a `Box`, `ProjectedGradient()` for more than 64
        numbers in a `Simplex` or a `Ball`, and `InteriorPoint()` otherwise.
      starts: number of starting points, `response` and others from a quasi-random sequence in the
        bounds of the set, and where there are none around `response`.
      key: shifts that sequence; unshifted if None.

    Returns:
      The `Response`; non-convergence is reported there, not raised.

    Raises:
      TypeError: `game` is not a Game; `response` is not floating point; the utility does not
        return a floating-point number; `solver` cannot handle the response set.
      ValueError: the utility does not return a scalar, or, outside of transforms, is not a number
        at the starting point; the response set is a `Polyhedron` that is empty for this action
        and context; the utility rises without end as far as it was followed; `starts` is below 1.

    Source: arXiv 2606.23026, eq. (3), (8) and Prop. 5.2.

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: -((r - x) ** 2), lambda a, r, x: a * r - r**2 / 2,
      ...     response_set=sj.Box(0.0, 2.0),
      ... )
      >>> answer = lambda a: sj.best_response(game, a, 1.0, response=jnp.array(0.5)).value
      >>> print(answer(1.5), jax.grad(answer)(1.5))  # inside the set: the answer follows the action
      1.5 1.0
      >>> print(answer(3.0), jax.grad(answer)(3.0) == 0)  # held by the bound
      2.0 True
    """
    check_game(game)
    response = as_start(response, "response")
    settings = follower_settings(solver, game.response_set, "solver", response)
    action, context = as_arrays(action, "action"), as_arrays(context, "context")
    game.response_set.bounds(response)
    check_starts(starts, key)
    found = _best_response(game, action, context, response, settings, starts, key)
    if concrete(found) and not found.converged:
        check_nonempty(game.response_set, response, action, context)
        if not np.isfinite(found.residual):
            check_finite_utility(
                game.follower_utility, "follower_utility", game, action, response, context
            )
        check_bounded(game, action, found.value, response, context)
    return found


@partial(jax.jit, static_argnums=(4, 5))
def _best_response(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    starts: int,
    key: jax.Array | None,
) -> Response:
    def from_(start: PyTree) -> Response:
        value, quality, multipliers = answer(game, action, context, start, settings)
        return Response(
            like(value, response),
            quality.residual,
            quality.steps.astype(jnp.int32),
            quality.converged > 0,
            quality.degeneracy,
            quality.curvature,
            multipliers,
            jnp.ones((), jnp.int32),
        )

    if starts == 1:
        return from_(response)
    begin, unravel = ravel_pytree(at_least_float32(response))
    lower, upper = (flat(bound) for bound in game.response_set.bounds(unravel(begin)))
    drawn = spread(starts, begin, lower, upper, shift(key, begin))
    every = jax.vmap(lambda y: from_(unravel(y)))(drawn)
    utility = lambda r: evaluate(game.follower_utility, "follower_utility", action, r, context)
    value = lax.stop_gradient(jax.vmap(utility)(every.value))
    value = jnp.where(every.converged, value, -jnp.inf)
    index, best = jnp.argmax(value), jnp.max(value)
    eps = float(jnp.finfo(value.dtype).eps)
    span = best - jnp.min(jnp.where(every.converged, value, best))
    slack = eps**0.5 * span + 64 * eps * jnp.abs(best)
    agreeing_starts = jnp.sum(every.converged & (value >= best - slack)).astype(jnp.int32)
    return jax.tree.map(lambda x: x[index], every).replace(agreeing_starts=agreeing_starts)


def respond(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    *,
    nested: bool = False,
) -> tuple[PyTree, Quality]:
    """`best_response` without its checks: the differentiable value and the solver's report."""
    value, quality, _ = answer(game, action, context, response, settings, nested=nested)
    return like(value, response), quality


def answer(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    *,
    nested: bool = False,
) -> tuple[PyTree, Quality, Multipliers]:
    """The differentiable value and multipliers, in at least float32, and the solver's report.

    `nested` if it is part of a leader's search with second derivatives.
    """
    start, unravel = ravel_pytree(at_least_float32(response))
    problem = problem_of(game, action, context, start, unravel)._replace(nested=nested)
    found = settings.maximise(problem, start)
    if not isinstance(found, Maximum):
        raise TypeError(
            f"`solver`: {type(settings).__name__}.maximise must return a stackjax.solvers.Maximum; "
            f"got {type(found).__name__}. End it with `return sj.Newton().maximise(problem, y)`."
        )
    y, equality, inequality = found.value, found.equality, found.inequality

    def both(y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return problem.utility(y), problem.constraints(y)

    value, pull = jax.vjp(both, y)
    pushed = pull((jnp.ones_like(value[0]), (-equality, -inequality)))[0]
    pinned = problem.lower == problem.upper
    below, above = jnp.maximum(-pushed, 0), jnp.maximum(pushed, 0)
    multipliers = Multipliers(
        unravel(jnp.where(pinned, below, jnp.where(found.at_lower, -pushed, 0))),
        unravel(jnp.where(pinned, above, jnp.where(found.at_upper, pushed, 0))),
        inequality,
        equality,
    )
    return unravel(y), found.quality, multipliers


def problem_of(
    game: Game, action: PyTree, context: PyTree, start: jax.Array, unravel: Callable
) -> Problem:
    """The follower's problem on vectors shaped as `start`, which `unravel` makes a response."""
    feasible = game.response_set
    lower, upper = filled_bounds(feasible, unravel(start))

    def utility(y: jax.Array) -> jax.Array:
        value = call(game.follower_utility, "follower_utility", action, unravel(y), context)
        return scalar(value, "follower_utility").astype(y.dtype)

    def constraints(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = unravel(y)
        g, h = feasible.residuals(r, action, r, context)
        return h.astype(y.dtype), g.astype(y.dtype)

    def project(y: jax.Array) -> jax.Array:
        # In x64, optax projects onto a simplex in float64 and fails to differentiate float32.
        wide = at_least(unravel(y), jnp.result_type(float))
        return flat(feasible.project(wide)).astype(y.dtype)

    if not feasible.projectable:
        return Problem(utility, lower, upper, constraints)
    multipliers = lambda y, slope: held(feasible, unravel(y), unravel(slope), (lower, upper))
    return Problem(utility, lower, upper, constraints, project, multipliers)


def flat(tree: PyTree) -> jax.Array:
    """The tree as one vector."""
    return ravel_pytree(tree)[0]


def vector_bounds(
    feasible: FeasibleSet, point: PyTree
) -> tuple[jax.Array | None, jax.Array | None]:
    """Both bounds as vectors; None for a side that is known to be open everywhere."""
    lower, upper = feasible.bounds(point)
    no_lower, no_upper = feasible.open_sides
    return None if no_lower else flat(lower), None if no_upper else flat(upper)


def filled_bounds(feasible: FeasibleSet, point: PyTree) -> tuple[jax.Array, jax.Array]:
    """Both bounds as vectors, infinite where there are none."""
    start, (lower, upper) = flat(point), vector_bounds(feasible, point)
    return (
        jnp.full_like(start, -jnp.inf) if lower is None else lower,
        jnp.full_like(start, jnp.inf) if upper is None else upper,
    )


def at_least_float32(tree: PyTree) -> PyTree:
    """Half precision is for storage: its rounding is coarser than any useful tolerance."""
    return at_least(tree, jnp.float32)


def at_least(tree: PyTree, dtype: Any) -> PyTree:
    """`tree` with leaves of a narrower dtype promoted."""
    return jax.tree.map(lambda y: y.astype(jnp.promote_types(y.dtype, dtype)), tree)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """`tree` in the dtypes of `other`."""
    return jax.tree.map(lambda y, o: y.astype(o.dtype), tree, other)
