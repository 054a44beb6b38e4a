"""The projected Newton method: on a box, with the Hessian or products with it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.blocks import BLOCK, SMALL_BLOCK, closed_in_blocks, members
from stackjax._arrays.components import componentwise
from stackjax._arrays.factor import UNROLLED
from stackjax._arrays.finite import shield
from stackjax._arrays.search_history import UNWATCHED, Watch
from stackjax._arrays.typing import PyTree
from stackjax.sets import FeasibleSet
from stackjax.solvers._conjugate import LinearSolve
from stackjax.solvers._implicit import detached, differentiate
from stackjax.solvers._settings import DENSE, SMALL, check_settings
from stackjax.solvers._solver import Maximum, Problem, Solver
from stackjax.solvers.newton._matrix_free import matrix_free, on_face
from stackjax.solvers.newton._search import Minimum, minimise
from stackjax.solvers.newton._second_order import dense


@dataclasses.dataclass(frozen=True)
class Newton(Solver):
    """The projected Newton method: the follower's in a box, the leader's where its own set is one.

    Args:
      tol: the largest Newton step at which a point may count as solved, each coordinate relative
        to its distance from the nearest bound, or from 0 if that is nearer; the step must also be
        at most a quarter of the one before. It is still taken, so the error left is of second
        order in it. Default: eps^(2/3) of the dtype, 2.4e-5 in float32 and 3.7e-11
        in float64.
      max_steps: cap on iterations, accepted or not.
      dense: True forms the Hessian and factorises it; False takes truncated conjugate-gradient
        steps from Hessian-vector products, with the memory of a few vectors. None is True for up
        to 15 unknowns of the follower's, and up to 64 of the leader's. Conjugate gradients have no
        more than row norms for a preconditioner: give coordinates units in which they are curved
        alike.
      linear_solve: with `dense=False`, your own solve `(product, b) -> x` for the derivative, such
        as `jax.scipy.sparse.linalg.cg` with your preconditioner: `x [d]` such that
        `product(x) = b`. The product, `[d] -> [d]`, is that with minus the utility's Hessian among
        the coordinates that no bound holds, and the identity on the others; it is symmetric. Your
        answer is taken as it is. If None, conjugate gradients.

    Raises:
      TypeError: `tol` is not a number, `max_steps` not an integer, `dense` not a bool, or
        `linear_solve` not callable.
      ValueError: `tol` is not positive, `max_steps` is below 1, or `linear_solve` comes without
        `dense=False` or returns another shape than that of `b`.

    Source: Bertsekas, SIAM Journal on Control and Optimization 20(2), 1982; Steihaug, SIAM Journal
    on Numerical Analysis 20(3), 1983 (the conjugate gradients).

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> start = jnp.array(1.0)
      >>> solver = sj.Newton(tol=1e-6, max_steps=5)
      >>> sj.best_response(duopoly.game, 6.0, 13.0, response=start, solver=solver).value
      Array(3., dtype=float32)
    """

    tol: float | None = None
    max_steps: int = 100
    dense: bool | None = None
    linear_solve: LinearSolve | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if self.linear_solve is not None and self.dense is not False:
            raise ValueError(
                "Newton: `linear_solve` must come with `dense=False`, as a formed Hessian is "
                f"factorised; got dense={self.dense}."
            )

    def refuses(self, feasible: FeasibleSet) -> str | None:
        """A set other than a Box."""
        if feasible.only_bounds:
            return None
        return (
            "Newton needs a Box for the response set; for a "
            f"{type(feasible).__name__} use stackjax.InteriorPoint(...) or None."
        )

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`, over the bounds."""
        y, found = on_box(
            lambda y, _: (problem.utility(y), None),
            start,
            problem.lower,
            problem.upper,
            settings=self,
            dense_up_to=SMALL,
            nested=problem.nested,
        )
        stuck = (found.free == 0) & (found.finite > 0)
        at_lower = stuck & (jnp.abs(y - problem.lower) <= jnp.abs(y - problem.upper))
        none = jnp.zeros(0, y.dtype)
        return Maximum(y, none, none, at_lower, stuck & ~at_lower, found.quality)


def on_box(
    utility: Callable[[jax.Array, PyTree], tuple[jax.Array, PyTree]],
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    settings: Newton,
    aux: PyTree = None,
    dense_up_to: int = DENSE,
    nested: bool = False,
    around: Callable[..., Minimum] | None = None,
    watch: Watch = UNWATCHED,
) -> tuple[jax.Array, Minimum]:
    """Maximises `utility(y, aux) -> (scalar, aux)` over a box.

    Args:
      utility: the objective; it may close over traced values, in which the maximiser is
        differentiable. Where the solution is not a number those derivatives are zero instead of
        NaN, in reverse mode too.
      start: `[d]` starting point, clipped into the box.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.
      aux: floating-point pytree handed from one evaluation to the next, such as a warm start.
      dense_up_to: coordinates for which the Hessian is formed if the settings do not say.
      nested: True for the two levels of a search within a search: then neither is split into
        components, nor are full steps tried first, both of which would take minutes to compile.
      around: `(search, value, start, bounds) -> Minimum`, which may search from several points.
      watch: who looks at each step of a `nested` search.

    Returns:
      `[d]` the maximiser, differentiable; and the solver's report, which is not.
    """
    # The user's function is traced here, once; what it closes over becomes explicit.
    utility, theta = jax.closure_convert(utility, start, aux)

    def objective(y: jax.Array, aux: PyTree) -> tuple[jax.Array, PyTree]:
        value, new_aux = utility(y, aux, *theta)
        return -value, lax.stop_gradient(new_aux)

    formed = len(start) <= dense_up_to if settings.dense is None else settings.dense

    small = formed and len(start) <= UNROLLED and not nested

    def search(guess: jax.Array) -> tuple[jax.Array, Minimum]:
        model = (dense if formed else matrix_free)(objective)
        one = lambda y: minimise(model, y, lower, upper, aux, settings, guarded=nested, watch=watch)
        found = one(guess) if around is None else around(one, model.value, guess, (lower, upper))
        return found.y, found

    if small:
        search = componentwise(search, detached=True, block=members(BLOCK))
        utility = componentwise(utility)
    else:
        search = closed_in_blocks(search, members(SMALL_BLOCK))
    y, found = detached(search, start)
    finite, free = found.finite > 0, found.free > 0
    if found.factor is None:
        at, warm, constants = lax.stop_gradient((y, found.aux, theta))
        loss = lambda y: -utility(y, warm, *constants)[0]
        product, solve_free = on_face(loss, at, free, found.hessian, settings.linear_solve)
    else:
        product, solve_free = lambda v: found.hessian @ v, found.factor.solve
        if small:
            product, solve_free = componentwise(product), componentwise(solve_free)
    y = differentiate(
        lambda y: -utility(y, found.aux, *shield(theta, finite))[0],
        y,
        free=free,
        target=jnp.where(jnp.abs(y - lower) <= jnp.abs(y - upper), lower, upper),
        hessian_product=product,
        solve_free=solve_free,
        finite=finite,
    )
    return y, found
