"""The interior-point method with its finish on the active set, for any set."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from stackjax._arrays.blocks import SMALL_BLOCK, closed_in_blocks, members
from stackjax._arrays.finite import shield
from stackjax.solvers._implicit import detached
from stackjax.solvers._settings import check_settings
from stackjax.solvers._solver import Held, Maximum, Problem, Solver
from stackjax.solvers.constrained._search import KktReport, find


@dataclasses.dataclass(frozen=True)
class InteriorPoint(Solver):
    """A primal-dual interior-point method, finished by Newton steps on the active set it finds.

    For any set; dense, for a response and constraints of a few dozen numbers (for hundreds there is
    `AugmentedLagrangian`). Before it, sequential quadratic programming with a dual active-set
    method is tried, much faster for strictly concave utilities; its answer counts where every
    optimality condition is verified.

    Args:
      tol: as in `Newton`; the last Newton step on the active set.
      max_steps: cap on the iterations, accepted or not, of either search.
      barrier: the interior-point method's first weight of the barrier. Smaller after a warm start.

    Raises:
      TypeError: `tol` or `barrier` is not a number, or `max_steps` not an integer.
      ValueError: `tol` or `barrier` is not positive, or `max_steps` is below 1.

    Source: Waechter and Biegler, Mathematical Programming 106, 2006 (the method); Hintermueller,
    Ito and Kunisch, SIAM Journal on Optimization 13, 2002 (the active set); Goldfarb and Idnani,
    Mathematical Programming 27, 1983 (the dual method).

    Example:
      >>> budget = sj.Polyhedron(jnp.ones((1, 2)), jnp.ones(1))  # r[0] + r[1] <= 1
      >>> game = sj.Game(
      ...     lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2, response_set=budget
      ... )
      >>> push = jnp.array([2.0, 1.0])
      >>> solver = sj.InteriorPoint(max_steps=50)
      >>> found = sj.best_response(game, push, None, response=jnp.zeros(2), solver=solver)
      >>> print(found.value, found.multipliers.inequality)
      [1. 0.] [1.]
    """

    tol: float | None = None
    max_steps: int = 100
    barrier: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self)

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`, over any set."""

        def every(y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            return problem.utility(y), *problem.constraints(y)

        bounds = problem.lower, problem.upper
        w, found = constrained(every, start, *bounds, settings=self, warm=problem.warm)
        at, d = found.linearised, len(start)
        p = len(w) - d - len(at.rows)
        return Maximum(
            w[:d], w[d : d + p], w[d + p :], at.at_lower > 0, at.at_upper > 0, found.quality
        )


def constrained(
    problem: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    settings: InteriorPoint,
    warm: Held | None = None,
) -> tuple[jax.Array, KktReport]:
    """Maximises `f` subject to `c = 0`, `g <= 0` and bounds, `problem(y) = (f, c [p], g [m])`.

    Args:
      problem: may close over traced values, in which the solution is differentiable.
      start: `[d]` starting point, which need not be feasible.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.
      warm: multipliers and active bounds to start from; those of `start`, if they are known.

    Returns:
      `[d + p + m]` the maximiser and the multipliers of c and g (the utility's Lagrangian is
      `f - y'c - v'g`), differentiable; and the solver's report, which is not.
    """
    problem, theta = jax.closure_convert(problem, start)

    def program(y: jax.Array, *theta: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        f, c, g = problem(y, *theta)
        return -f, c, g

    def search(guess: jax.Array) -> tuple[jax.Array, KktReport]:
        return find(program, theta, guess, lower, upper, settings, jax.lax.stop_gradient(warm))

    w, found = detached(closed_in_blocks(search, members(SMALL_BLOCK)), start)
    finite = found.finite > 0
    evaluate = lambda y: program(y, *shield(theta, finite))
    w = found.linearised.differentiate(evaluate, w, lower, upper, finite=finite)
    return w, found
