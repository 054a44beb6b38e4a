"""Differentiable maximisers: on a box, by projection, and with constraints of other kinds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.blocks import closed_in_blocks, members
from stackjax._arrays.components import componentwise
from stackjax._arrays.factor import UNROLLED
from stackjax._game import shield
from stackjax.solvers._face import face_at
from stackjax.solvers._implicit import detached, differentiate, differentiate_projected
from stackjax.solvers._newton import Minimum, minimise
from stackjax.solvers._newton_cg import matrix_free, on_face
from stackjax.solvers._projected_gradient import Descent, descend
from stackjax.solvers._second_order import dense
from stackjax.solvers._settings import DENSE, InteriorPoint, Newton, ProjectedGradient
from stackjax.solvers.constrained._search import KktReport, find

PyTree = Any

# Members of a batch that are solved at a time on a CPU: of small followers, by components, and of
# others.
BLOCK, SMALL_BLOCK = 512, 64


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
        found = minimise(model, guess, lower, upper, aux, settings, guarded=nested)
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
        product, solve_free = on_face(loss, at, free, found.hessian)
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
    face = face_at(*numbers, lax.stop_gradient(y), found.rate, finite)
    y = differentiate_projected(
        *parts(*shield((theta, shape), finite)),
        y,
        rate=found.rate,
        solve=face.solve,
        transpose_solve=face.transpose_solve,
        finite=finite,
    )
    return y, found


def constrained(
    problem: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    settings: InteriorPoint,
) -> tuple[jax.Array, KktReport]:
    """Maximises `f` subject to `c = 0`, `g <= 0` and bounds, `problem(y) = (f, c [p], g [m])`.

    Args:
      problem: may close over traced values, in which the solution is differentiable.
      start: `[d]` starting point, which need not be feasible.
      lower: `[d]` lower bounds.
      upper: `[d]` upper bounds.
      settings: the solver's.

    Returns:
      `[d + p + m]` the maximiser and the multipliers of c and g (the utility's Lagrangian is
      `f - y'c - v'g`), differentiable; and the solver's report, which is not.
    """
    problem, theta = jax.closure_convert(problem, start)

    def program(y: jax.Array, *theta: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        f, c, g = problem(y, *theta)
        return -f, c, g

    def search(guess: jax.Array) -> tuple[jax.Array, KktReport]:
        return find(program, theta, guess, lower, upper, settings)

    w, found = detached(closed_in_blocks(search, members(SMALL_BLOCK)), start)
    finite = found.finite > 0
    evaluate = lambda y: program(y, *shield(theta, finite))
    w = found.linearised.differentiate(evaluate, w, lower, upper, finite=finite)
    return w, found
