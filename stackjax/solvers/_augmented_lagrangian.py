"""The method of multipliers by products alone, for any set and many unknowns."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.blocks import SMALL_BLOCK, closed_in_blocks, members
from stackjax._arrays.finite import shield
from stackjax.solvers._conjugate import LinearSolve
from stackjax.solvers._implicit import detached, differentiate
from stackjax.solvers._optimality import lagrangian
from stackjax.solvers._settings import check_settings
from stackjax.solvers._solver import Maximum, Problem, Solver
from stackjax.solvers.augmented._finish import binding
from stackjax.solvers.augmented._rows import operators
from stackjax.solvers.augmented._saddle import saddle
from stackjax.solvers.augmented._search import Report, find


@dataclasses.dataclass(frozen=True)
class AugmentedLagrangian(Solver):
    """The method of multipliers, finished by Newton steps on the active set it finds.

    For any set, and a response and constraints of hundreds or thousands of numbers: it multiplies
    with the constraints' Jacobian and the utility's Hessian and forms neither, in search and
    derivatives. A `Constrained` set's functions are such operators already. For a few dozen
    numbers `InteriorPoint` is faster, and it needs no independent constraints.

    Args:
      tol: as in `Newton`; the last Newton step on the active set.
      max_steps: cap on Newton steps, of all subproblems and the finish together.
      penalty: the first weight of the constraints, relative to the utility's curvature across
        them. It grows as needed.
      linear_solve: your own solve `(product, b) -> x`, such as `jax.scipy.sparse.linalg.cg` with
        your preconditioner, for the finish and the derivative: `x [d]` such that `product(x) = b`.
        The product, `[d] -> [d]`, is that with the Lagrangian's Hessian plus `J' w J`, J the
        Jacobian of the active constraints and w positive weights, among the coordinates that no
        bound holds, and the identity on the others: symmetric and, at a strict maximum, positive
        definite. If None, conjugate gradients.

    Raises:
      TypeError: `tol` or `penalty` is not a number, `max_steps` not an integer, or `linear_solve`
        not callable.
      ValueError: `tol` or `penalty` is not positive, `max_steps` is below 1, or `linear_solve`
        returns another shape than that of `b`.

    Source: Hestenes, Journal of Optimization Theory and Applications 4, 1969; Rockafellar,
    Mathematical Programming 6, 1974; Birgin and Martinez, Practical Augmented Lagrangian Methods
    for Constrained Optimization, SIAM, 2014 (the penalty).

    Example:
      >>> supply, demand = jnp.array([2.0, 1.0]), jnp.array([1.0, 1.0, 1.0])
      >>> rows = lambda a, r, x: jnp.concatenate([r.sum(1) - supply, r.sum(0) - demand])
      >>> plans = sj.Constrained(equality=rows, box=sj.Box(lower=0.0))
      >>> utility = lambda a, r, x: -jnp.sum(a * r) - jnp.sum(r**2) / 2
      >>> game = sj.Game(lambda a, r, x: r[0, 0], utility, response_set=plans)
      >>> cost = jnp.array([[0.0, 1.0, 1.0], [3.0, 0.0, 0.0]])
      >>> solver = sj.solvers.AugmentedLagrangian()
      >>> found = sj.best_response(game, cost, None, response=jnp.ones((2, 3)) / 2, solver=solver)
      >>> print(jnp.abs(jnp.round(found.value, 3)), found.converged)
      [[1.  0.5 0.5]
       [0.  0.5 0.5]] True
    """

    tol: float | None = None
    max_steps: int = 1000
    penalty: float = 10.0
    linear_solve: LinearSolve | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`, over any set.

        Raises:
          ValueError: `linear_solve` returns another shape than that of `b`.
        """

        def every(y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            return problem.utility(y), *problem.constraints(y)

        w, found = _constrained(every, start, problem.lower, problem.upper, self)
        d, m = len(start), len(found.rows)
        p = len(w) - d - m
        return Maximum(
            w[:d], w[d : d + p], w[d + p :], found.at_lower > 0, found.at_upper > 0, found.quality
        )


def _constrained(
    problem: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    settings: AugmentedLagrangian,
) -> tuple[jax.Array, Report]:
    """`[d + p + m]` the maximiser and its multipliers, differentiable; and the report."""
    problem, theta = jax.closure_convert(problem, start)

    def program(y: jax.Array, *theta: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        f, c, g = problem(y, *theta)
        return -f, c, g

    def search(guess: jax.Array) -> tuple[jax.Array, Report]:
        return find(lambda y: program(y, *theta), guess, lower, upper, settings)

    w, found = detached(closed_in_blocks(search, members(SMALL_BLOCK)), start)
    finite, active, d = found.finite > 0, found.active, len(start)
    z, prices = w[:d], w[d:]
    numbers = lax.stop_gradient(theta)
    at = lambda y: program(y, *numbers)
    free, on = ~(active.lower | active.upper), binding(active, prices)
    made = operators(at, z, prices)
    system = saddle(made, free, on, found.curved, found.norms, finite, settings.linear_solve)

    def product(v: jax.Array) -> jax.Array:
        image = jnp.concatenate([made.bend(v[:d]) + made.pull(v[d:]), made.push(v[:d])])
        return jnp.where(finite, image, 0)

    p = len(prices) - len(active.rows)
    w = differentiate(
        lagrangian(lambda y: program(y, *shield(theta, finite)), d, p),
        w,
        free=active.free(p),
        target=active.target(lower, upper, p),
        hessian_product=product,
        solve_free=system.solve_all,
        finite=finite,
    )
    return w, found
