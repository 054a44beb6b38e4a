"""Accelerated projected gradients, finished on the face that they find."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.blocks import SMALL_BLOCK, closed_in_blocks, members
from stackjax._arrays.finite import shield
from stackjax._arrays.typing import PyTree
from stackjax.sets import FeasibleSet
from stackjax.solvers._conjugate import LinearSolve
from stackjax.solvers._face import face_at
from stackjax.solvers._implicit import detached, differentiate_projected
from stackjax.solvers._projected_search import Descent, descend
from stackjax.solvers._settings import check_settings
from stackjax.solvers._solver import Maximum, Problem, Solver


@dataclasses.dataclass(frozen=True)
class ProjectedGradient(Solver):
    """Accelerated projected gradients, finished by Newton steps on the face they find.

    For a large response in a Box, a Simplex or a Ball: it needs gradients, Hessian-vector products
    and projections, and the memory of a few vectors. Without a preconditioner, so give the
    response a unit in which its coordinates are curved alike.

    Args:
      tol: as in `Newton`; the last Newton step on the face. Gradient steps go on until such a
        step is that small.
      max_steps: cap on gradient steps, accepted or not.
      linear_solve: your own solve `(product, b) -> x` for the derivative, such as
        `jax.scipy.sparse.linalg.cg`. The product, `[d] -> [d]`, is symmetric, positive definite
        along the face and 0 across it, where `b` is 0, too: use a method that only multiplies.
        Your answer is taken as it is. If None, conjugate gradients.

    Raises:
      TypeError: `tol` is not a number, `max_steps` not an integer, or `linear_solve` not callable.
      ValueError: `tol` is not positive, `max_steps` is below 1, or `linear_solve` returns another
        shape than that of `b`.

    Source: Beck and Teboulle, SIAM Journal on Imaging Sciences 2(1), 2009; O'Donoghue and Candes,
    Foundations of Computational Mathematics 15, 2015 (the restart).

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2,
      ...     response_set=sj.Ball(radius=1.0),
      ... )
      >>> push, solver = jnp.array([3.0, 4.0]), sj.ProjectedGradient(max_steps=200)
      >>> found = sj.best_response(game, push, None, response=jnp.zeros(2), solver=solver)
      >>> print([f"{r:.2f}" for r in found.value], found.converged)
      ['0.60', '0.80'] True
    """

    tol: float | None = None
    max_steps: int = 5000
    linear_solve: LinearSolve | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    def refuses(self, feasible: FeasibleSet) -> str | None:
        """A set without a projection."""
        if feasible.projectable:
            return None
        return (
            "ProjectedGradient needs a Box, a Simplex or a Ball for the response set; for a "
            f"{type(feasible).__name__} use stackjax.InteriorPoint(...) or None."
        )

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`, by the problem's projection.

        Raises:
          ValueError: the problem has none.
        """
        if problem.project is None or problem.held is None:
            raise ValueError("`problem` has no projection; ProjectedGradient needs one.")
        width = problem.upper - problem.lower
        y, found = on_projectable(problem.utility, problem.project, start, width, settings=self)
        at, finite = problem.held(y, jax.grad(problem.utility)(y)), found.finite > 0
        return Maximum(
            y,
            jnp.where(finite, at.equality, 0),
            jnp.where(finite, at.inequality, 0),
            at.lower & finite,
            at.upper & finite,
            found.quality.replace(degeneracy=jnp.where(finite, at.degeneracy, jnp.inf)),
        )


def on_projectable(
    utility: Callable[[jax.Array], jax.Array],
    project: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    width: jax.Array,
    *,
    settings: ProjectedGradient,
) -> tuple[jax.Array, Descent]:
    """Maximises `utility` over the set that `project` projects onto.

    Args:
      utility: `[d] -> scalar`; it may close over traced values, in which the maximiser is
        differentiable.
      project: `[d] -> [d]`; likewise.
      start: `[d]` starting point, projected.
      width: `[d]` of the set, in each coordinate; may be inf.
      settings: the solver's.

    Returns:
      `[d]` the maximiser, differentiable; and the solver's report, which is not.
    """
    utility, theta = jax.closure_convert(utility, start)
    project, shape = jax.closure_convert(project, start)
    loss = lambda y, *theta: -utility(y, *theta)

    def search(guess: jax.Array) -> tuple[jax.Array, Descent]:
        found = descend(
            lambda y: loss(y, *theta), lambda y: project(y, *shape), guess, width, settings
        )
        return found.y, found

    y, found = detached(closed_in_blocks(search, members(SMALL_BLOCK)), start)
    finite = found.finite > 0

    def parts(theta: PyTree, shape: PyTree) -> tuple[Callable, Callable]:
        return jax.grad(lambda y: loss(y, *theta)), lambda y: project(y, *shape)

    numbers = parts(*lax.stop_gradient((theta, shape)))
    face = face_at(*numbers, lax.stop_gradient(y), found.rate, finite, settings.linear_solve)
    y = differentiate_projected(
        *parts(*shield((theta, shape), finite)),
        y,
        rate=found.rate,
        solve=face.solve,
        transpose_solve=face.transpose_solve,
        finite=finite,
    )
    return y, found
