"""Newton's method on the optimality conditions by products, and the judgement of where it ends.

As `constrained/_newton_kkt.py`, with a revised active set (Hintermueller, Ito and Kunisch, SIAM
Journal on Optimization 13, 2002), but for many unknowns; it begins close to a solution.
"""

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._bounds import Bounds
from stackjax.solvers._conjugate import LinearSolve
from stackjax.solvers._judge import resolution, rounding, solved
from stackjax.solvers._optimality import Active, Evaluate
from stackjax.solvers.augmented._rows import Local, local, operators
from stackjax.solvers.augmented._saddle import Saddle, saddle


class Look(struct.PyTreeNode):
    """One Newton step from a primal-dual point.

    Attributes:
      at: the problem there.
      step: `[d]` of the variables.
      change: `[k]` of the multipliers.
      ends: `[d]` the Lagrangian's gradient where the step ends, to first order.
      reached: `[k]` the rows there.
      bend: `[d]` the Hessian times the step.
      convex: scalar bool, whether no direction met bends down.
    """

    at: Local
    step: jax.Array
    change: jax.Array
    ends: jax.Array
    reached: jax.Array
    bend: jax.Array
    convex: jax.Array


class Finish(struct.PyTreeNode):
    """Where Newton's method ended.

    Attributes:
      z: `[d]`.
      prices: `[k]`.
      active: the active set that was solved on.
      solved: scalar bool.
      steps: scalar int.
    """

    z: jax.Array
    prices: jax.Array
    active: Active
    solved: jax.Array
    steps: jax.Array


class _State(struct.PyTreeNode):
    z: jax.Array
    prices: jax.Array
    active: Active
    last: jax.Array  # [d] the step that led here
    steps: jax.Array
    solved: jax.Array
    done: jax.Array


def binding(active: Active, prices: jax.Array) -> jax.Array:
    """`[k]` bool: the equalities, and the inequalities that are active."""
    equalities = len(prices) - len(active.rows)
    return jnp.concatenate([jnp.ones(equalities, bool), active.rows])


def look(
    evaluate: Evaluate,
    z: jax.Array,
    prices: jax.Array,
    active: Active,
    box: Bounds,
    linear_solve: LinearSolve | None,
) -> tuple[Look, Saddle]:
    """The Newton step on an active set, and the system that it solves."""
    made = operators(evaluate, z, prices)
    at = local(evaluate, made, z, prices, box)
    held, on = active.lower | active.upper, binding(active, prices)
    system = saddle(made, ~held, on, at.curved, at.norms, at.finite, linear_solve)
    target = jnp.where(active.lower, box.lower, jnp.where(active.upper, box.upper, z))
    moved, dropped = jnp.where(held, target - z, 0), jnp.where(on, 0, -prices)
    right = at.slope + made.bend(moved) + made.pull(dropped)
    x, y, convex = system.solve(-right, -(at.rows + made.push(moved)))
    step, change = jnp.where(held, moved, x), jnp.where(on, y, dropped)
    bend = made.bend(step)
    ends = at.slope + bend + made.pull(change)
    return Look(at, step, change, ends, at.rows + made.push(step), bend, convex), system


def judged(
    found: Look,
    z: jax.Array,
    prices: jax.Array,
    active: Active,
    last: jax.Array,
    box: Bounds,
    tol: float,
) -> jax.Array:
    """Whether the point solves the optimality conditions but for curvature; a scalar bool.

    As `kkt_solved`: feasibility, stationarity, complementarity and signs, each beside the terms
    that it is the sum of, which are estimated here.
    """
    (lower, upper), at, eps = box, found.at, float(jnp.finfo(z.dtype).eps)
    held, on, fixed = active.lower | active.upper, binding(active, prices), lower >= upper
    tight = max(64 * eps, 0.1 * tol)
    p = len(prices) - len(active.rows)
    noise = rounding(at.value, at.terms, at.sizes)

    exact = jnp.all((jnp.abs(at.rows) <= 8 * eps * at.row_terms) | ~on)
    violated = jnp.maximum(jnp.abs(at.rows), jnp.abs(found.reached))
    feasible = jnp.all(jnp.where(on, violated, found.reached) <= tight * at.row_terms)
    # The same for the bounds: a step that is not held by one must not lead through it.
    spare = lambda bound: tight * jnp.where(jnp.isfinite(bound), jnp.abs(bound), 0)
    inside = (z >= lower - spare(lower)) & (z <= upper + spare(upper))

    unit = resolution(z, lower, upper)
    left = jnp.where(exact, jnp.abs(found.bend), jnp.inf)
    there = solved(z, found.step, last, left, noise, at.sizes, unit, tol)
    there |= exact & (jnp.abs(found.step) <= 8 * eps * jnp.abs(z))
    kept = jnp.abs(found.step) <= 8 * eps * jnp.abs(z + found.step)
    there = jnp.all(fixed | jnp.where(held, kept, there & inside))

    # Where a coordinate has no slope of its own, it has that of all others.
    root = jnp.sqrt(at.curved)
    steep = jnp.max(jnp.abs(at.own) / root + at.sizes * jnp.abs(z) / root)
    nothing = 64 * eps * steep * root
    worst = (tight + tol) * at.terms + nothing + noise
    pushed = jnp.where(active.lower, -found.ends, jnp.where(active.upper, found.ends, 0))
    stationary = jnp.where(held, pushed, jnp.abs(found.ends)) <= worst
    stationary = jnp.all(fixed | stationary)

    after, length = prices + found.change, jnp.sqrt(at.norms)
    largest = jnp.max(jnp.abs(after) * length, initial=0)
    some = jnp.maximum(largest, steep)
    signs = jnp.all(after[p:] * length[p:] >= -(tight + tol) * some)
    settled = jnp.all(jnp.abs(found.change) * length <= eps**0.5 * some)
    numbers = at.finite & jnp.all(jnp.isfinite(found.step)) & jnp.all(jnp.isfinite(after))
    return there & feasible & stationary & signs & settled & numbers & found.convex


def finish(
    evaluate: Evaluate,
    z: jax.Array,
    prices: jax.Array,
    active: Active,
    box: Bounds,
    *,
    tol: float,
    rounds: jax.Array,
    linear_solve: LinearSolve | None,
) -> Finish:
    """Newton's method from a point close to a solution; the last step is taken.

    Args:
      evaluate: `z -> (f, c [p], g [m])`.
      z: `[d]` start.
      prices: `[p + m]` its multipliers.
      active: the set to start from.
      box: the bounds.
      tol: as in `solved`.
      rounds: scalar int, the most steps; 0 to do nothing.
      linear_solve: the user's solve, if any.
    """
    fixed = box.lower >= box.upper
    p = len(prices) - len(active.rows)

    def body(state: _State) -> _State:
        z, prices, active = state.z, state.prices, state.active
        found, _ = look(evaluate, z, prices, active, box, linear_solve)
        good = judged(found, z, prices, active, state.last, box, tol)
        held, on = active.lower | active.upper, binding(active, prices)
        bound = jnp.where(active.lower, box.lower, box.upper)
        new_z = jnp.where(held, bound, z + found.step)
        new_prices = jnp.where(on, prices + found.change, 0)
        revised = Active(
            jnp.where(active.lower, found.ends >= 0, new_z < box.lower),
            jnp.where(active.upper, found.ends <= 0, new_z > box.upper),
            jnp.where(active.rows, new_prices[p:] > 0, found.reached[p:] > 0),
        )
        revised = revised.replace(
            lower=jnp.where(fixed, active.lower, revised.lower),
            upper=jnp.where(fixed, active.upper, revised.upper),
        )
        number = jnp.all(jnp.isfinite(new_z)) & jnp.all(jnp.isfinite(new_prices))
        number &= found.at.finite
        keep = lambda new, old: jnp.where(number, new, old)
        revised = jax.tree.map(lambda new, old: jnp.where(good, old, new), revised, active)
        return _State(
            keep(jnp.where(good, box.clip(new_z), new_z), z), keep(new_prices, prices),
            jax.tree.map(keep, revised, active), keep(found.step, state.last), state.steps + 1,
            good, good | ~number,
        )  # fmt: skip

    no, none = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    state = _State(z, prices, active, jnp.zeros_like(z), none, no, no)
    # The flag is computed in the body and only read here: see newton/_search.py.
    end = jax.lax.while_loop(lambda s: ~s.done & (s.steps < rounds), body, state)
    return Finish(end.z, end.prices, end.active, end.solved, end.steps)
