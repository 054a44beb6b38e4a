"""The method of multipliers, one loop that every transform can batch.

    minimise f(z)   subject to   c(z) = 0,   g(z) <= 0,   lower <= z <= upper.

Each turn minimises the augmented Lagrangian

    f + sum_i (y_i c_i + w_i c_i^2 / 2) + sum_j (max(0, v_j + w_j g_j)^2 - v_j^2) / (2 w_j)

over the box, by projected Newton without a Hessian, and updates the multipliers to `y + w c` and
`max(0, v + w g)` (Hestenes, Journal of Optimization Theory and Applications 4, 1969; Powell, in
Optimization, 1969; Rockafellar, Mathematical Programming 6, 1974). The weights are a penalty times
the objective's curvature across each constraint, which frees them of all units; where the violation
has not shrunk enough, the penalty grows (Birgin and Martinez, Practical Augmented Lagrangian
Methods, 2014, Algorithm 4.1). Once the violation is small, Newton's method on the active set tries
to finish; where it fails, the violation must become smaller before it tries again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.typing import PyTree
from stackjax.solvers._bounds import Bounds
from stackjax.solvers._judge import natural, rounding
from stackjax.solvers._optimality import Active, Evaluate
from stackjax.solvers._settings import tolerance
from stackjax.solvers._solver import Quality
from stackjax.solvers.augmented._finish import finish, look
from stackjax.solvers.augmented._rows import Local, local, operators, stacked
from stackjax.solvers.augmented._saddle import least_curvature
from stackjax.solvers.newton._matrix_free import matrix_free
from stackjax.solvers.newton._safeguarded import safeguarded
from stackjax.solvers.newton._second_order import Model, Point

if TYPE_CHECKING:
    from stackjax.solvers._augmented_lagrangian import AugmentedLagrangian

# Of the violation before, the part below which the penalty stays as it is; else it grows by the
# second number, up to the root of the rounding's inverse.
_SHRUNK, _GROWN = 0.25, 10
# The violation, relative to each row's terms, at which Newton's method tries to finish, and by how
# much it must shrink where that failed.
_FIRST_TRY, _LATER = 1e-2, 0.03
# Turns at the largest penalty without any progress, before the search gives up.
_PATIENCE = 6
# Newton steps that one turn may take, and how exact it must be.
_INNER, _INNER_TOL = 30, 1e-5
# Newton steps on the active set that one attempt to finish may take.
_ROUNDS = 10


class Report(struct.PyTreeNode):
    """Where the search ended. All arrays are floating point, flags too, for `detached`.

    Attributes:
      at_lower: `[d]` 1 where a lower bound holds the variable, else 0.
      at_upper: `[d]` likewise.
      rows: `[m]` 1 where an inequality is active, else 0.
      curved: `[d]` as in `Local`.
      norms: `[k]` likewise.
      finite: scalar, 1 if the derivatives are numbers, else 0.
      quality: how good it is.
    """

    at_lower: jax.Array
    at_upper: jax.Array
    rows: jax.Array
    curved: jax.Array
    norms: jax.Array
    finite: jax.Array
    quality: Quality

    @property
    def active(self) -> Active:
        """The active set."""
        return Active(self.at_lower > 0, self.at_upper > 0, self.rows > 0)


class _State(struct.PyTreeNode):
    z: jax.Array
    prices: jax.Array
    active: Active
    penalty: jax.Array
    violation: jax.Array  # the last
    goal: jax.Array
    idle: jax.Array
    steps: jax.Array
    solved: jax.Array
    done: jax.Array


def find(
    evaluate: Evaluate,
    start: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    settings: "AugmentedLagrangian",
) -> tuple[jax.Array, Report]:
    """`[d + k]` the solution with its multipliers, and the report.

    Args:
      evaluate: `z -> (f, c [p], g [m])`.
      start: `[d]`, clipped into the box.
      lower: `[d]`.
      upper: `[d]`.
      settings: the solver's.
    """
    box, tol = Bounds(lower, upper), tolerance(settings, start.dtype)
    dtype, eps = start.dtype, float(jnp.finfo(start.dtype).eps)
    largest = eps**-0.5
    _, c, g = jax.eval_shape(evaluate, start)
    equal = jnp.arange(len(c) + len(g)) < len(c)
    both = stacked(evaluate)

    def seen(z: jax.Array, prices: jax.Array) -> Local:
        return local(evaluate, operators(evaluate, z, prices), z, prices, box)

    def turn(state: _State) -> _State:
        at = seen(state.z, state.prices)
        weights = jnp.where(jnp.isfinite(at.norms), state.penalty / at.norms, 1)
        value = lambda z, _: (_augmented(both, z, state.prices, weights, equal), None)
        cap = jnp.minimum(state.steps + _INNER, settings.max_steps)
        inner = safeguarded(
            _model(value, lambda z: seen(z, state.prices).curved),
            box,
            state.z,
            None,
            max(tol, _INNER_TOL),
            cap,
            state.steps,
        )
        z, rows = inner.y, both(inner.y)[1]
        moved = state.prices + weights * rows
        prices = jnp.where(equal, moved, jnp.maximum(moved, 0))
        sound = jnp.all(jnp.isfinite(z)) & jnp.all(jnp.isfinite(prices))
        z, prices = jnp.where(sound, z, state.z), jnp.where(sound, prices, state.prices)

        terms = seen(z, prices)
        # An inequality's violation, or its slack where it has a multiplier.
        off = jnp.where(equal, rows, jnp.maximum(rows, -state.prices / weights))
        violation = jnp.max(jnp.abs(off) / _some(terms.row_terms), initial=0)
        shrunk = violation <= _SHRUNK * state.violation
        grown = jnp.minimum(_GROWN * state.penalty, largest)
        blocked = box.blocked(z, terms.slope)
        at_lower = blocked & (jnp.abs(z - lower) <= jnp.abs(z - upper))
        active = Active(at_lower, blocked & ~at_lower, prices[len(c) :] > 0)
        steps = jnp.maximum(inner.steps, state.steps + 1)
        rounds = jnp.minimum(_ROUNDS, settings.max_steps - steps)
        ready = sound & terms.finite & (violation <= state.goal)
        end = finish(
            evaluate, z, prices, active, box,
            tol=tol, rounds=jnp.where(ready, rounds, 0), linear_solve=settings.linear_solve,
        )  # fmt: skip
        keep = lambda new, old: jnp.where(end.solved, new, old)
        idle = jnp.where(shrunk | (violation <= eps), 0, state.idle + (state.penalty >= largest))
        failed = ready & ~end.solved
        goal = jnp.where(failed, _LATER * jnp.minimum(violation, state.goal), state.goal)
        return _State(
            z=keep(end.z, z),
            prices=keep(end.prices, prices),
            active=jax.tree.map(keep, end.active, active),
            penalty=jnp.where(shrunk, state.penalty, grown),
            violation=jnp.where(jnp.isfinite(violation), violation, jnp.inf),
            goal=jnp.maximum(goal, eps),
            idle=idle,
            steps=steps + end.steps,
            solved=end.solved,
            done=end.solved | ~sound | (idle > _PATIENCE) | ~terms.finite,
        )

    number = lambda value: jnp.asarray(value, dtype)
    no, none = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    inactive = Active(
        jnp.zeros(len(start), bool), jnp.zeros(len(start), bool), jnp.zeros(len(g), bool)
    )
    state = _State(
        z=box.clip(jnp.where(jnp.isfinite(start), start, 0)),
        prices=jnp.zeros(len(equal), dtype),
        active=inactive,
        penalty=number(settings.penalty),
        violation=number(jnp.inf),
        goal=number(_FIRST_TRY),
        idle=none,
        steps=none,
        solved=no,
        done=no,
    )
    # The flag is computed in the body and only read here: see newton/_search.py.
    end = jax.lax.while_loop(lambda s: ~s.done & (s.steps < settings.max_steps), turn, state)
    return jnp.concatenate([end.z, end.prices]), _report(evaluate, end, box, settings)


def _model(objective: Callable, curved: Callable[[jax.Array], jax.Array]) -> Model:
    """That of the augmented Lagrangian: for a preconditioner, the Lagrangian's own curvature.

    Then conjugate gradients see few directions that differ, as many as there are rows.
    """
    model = matrix_free(objective)

    def step(y: jax.Array, point: Point, *others: Any) -> tuple[jax.Array, jax.Array]:
        own = curved(y)
        return model.step(y, point.replace(hessian=jnp.where(point.finite, own, 1)), *others)

    return model._replace(step=step)


def _augmented(
    both: PyTree, z: jax.Array, prices: jax.Array, weights: jax.Array, equal: jax.Array
) -> jax.Array:
    """The augmented Lagrangian."""
    f, rows = both(z)
    bound = equal | (prices + weights * rows > 0)
    tight, slack = rows * (prices + weights * rows / 2), -(prices**2) / weights / 2
    return f + jnp.sum(jnp.where(bound, tight, slack))


def _some(terms: jax.Array) -> jax.Array:
    return jnp.where(terms > 0, terms, 1)


def _report(
    evaluate: Evaluate, end: _State, box: Bounds, settings: "AugmentedLagrangian"
) -> Report:
    """The judgement of the last point."""
    z, prices, active = end.z, end.prices, end.active
    dtype, eps = z.dtype, float(jnp.finfo(z.dtype).eps)
    found, system = look(evaluate, z, prices, active, box, settings.linear_solve)
    at = found.at
    finite = at.finite
    curvature = jnp.where(finite, least_curvature(system, at), 0)
    noise = rounding(at.value, at.terms, at.sizes)
    left = jnp.where(end.solved, 0, end.violation)
    length = box.length(z, found.step, natural(noise, at.sizes))
    good = end.solved & finite & (curvature >= -(eps**0.5))
    m = len(active.rows)
    rows, own = at.rows[len(prices) - m :], prices[len(prices) - m :]
    held = active.lower | active.upper
    margin = jnp.where(held, jnp.abs(at.slope), jnp.minimum(z - box.lower, box.upper - z))
    margin = jnp.where(box.lower >= box.upper, jnp.inf, margin)
    margin = jnp.concatenate([margin, jnp.where(active.rows, own, -rows)])
    number = lambda flags: flags.astype(dtype)
    quality = Quality(
        residual=jnp.where(finite & ~jnp.isnan(length), jnp.maximum(length, left), jnp.inf),
        steps=number(end.steps),
        converged=number(good),
        degeneracy=jnp.where(finite, jnp.min(margin), jnp.inf),
        curvature=curvature,
    )
    return Report(
        number(active.lower), number(active.upper), number(active.rows),
        jnp.where(finite, at.curved, 1),
        jnp.where(finite, at.norms, 1), number(finite), quality,
    )  # fmt: skip
