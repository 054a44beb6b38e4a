"""Sequential quadratic programming: the short way to a solution, where there is one.

For `minimise f(z) s.t. c(z) = 0, g(z) <= 0, lower <= z <= upper` each step solves the quadratic
program that the Lagrangian's second-order model at `w = (z, y, v)` and the linearised constraints
make, and takes its solution and multipliers: Newton's method on the optimality conditions, with
the active set of the model. A quadratic program takes one step, and a second to prove it.

A step ends in full, or, once derivatives were not numbers at some point, just short of any bound
that it newly touches. That need not converge, and the model must be strictly convex. What comes
back is therefore `verified` only where the judge (`_judge.py`) finds every condition met and the
model's inverse is one; everything else is left to a search that needs none of this. Constraints
that repeat each other are none of its business: the method needs no more of them than determine
the point.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._judge import kkt_solved
from stackjax.solvers._optimality import Active, Evaluate, exactly, lagrangian, step_length
from stackjax.solvers.constrained._active_set import Quadratic, Solved, solve
from stackjax.solvers.constrained._tableau import Tableau

_MAX_STEPS = 40


class Attempt(struct.PyTreeNode):
    """Where the method ended.

    Attributes:
      program: the model at the last point evaluated.
      solved: its solution.
      length: scalar, of the step to that, relative to `min(1 + |z|, upper - lower)`.
      steps: scalar int.
      verified: scalar bool; whether the step's end is a strict local solution.
    """

    program: Quadratic
    solved: Solved
    length: jax.Array
    steps: jax.Array
    verified: jax.Array


class _State(struct.PyTreeNode):
    w: jax.Array
    anchor: jax.Array  # the last point accepted
    fall: jax.Array  # of the Lagrangian along the step from there, to first order
    cautious: jax.Array
    guessed: jax.Array  # whether the active set is still the guess
    attempt: Attempt
    done: jax.Array


def attempt(
    evaluate: Evaluate,
    w: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    equalities: int,
    tol: float,
    max_steps: int,
    active: Active | None = None,
) -> Attempt:
    """Looks for a solution close to `w`.

    Args:
      evaluate: `z -> (f, c [p], g [m])`.
      w: `[n + p + m]` start.
      lower: `[n]`.
      upper: `[n]`.
      equalities: p.
      tol: the step, relative to `min(1 + |z|, upper - lower)`, at which to stop.
      max_steps: cap on steps.
      active: a guess of the active set; else none but fixed variables.
    """
    size, n = len(w), len(lower)
    eps, dtype = float(jnp.finfo(w.dtype).eps), w.dtype
    fixed = lower >= upper
    value = lagrangian(evaluate, n, equalities)

    def body(state: _State) -> _State:
        last, anchor, w = state.attempt, state.anchor, state.w
        height, gradient, hessian = _second_order(value, w, n)
        finite = jnp.all(jnp.isfinite(hessian)) & jnp.all(jnp.isfinite(gradient))
        # Past the minimum along the step, and steeper than half of what the step began with?
        moved = w[:n] - anchor[:n]
        rise = gradient[:n] @ moved
        over = (rise > state.fall / 2) & (last.length > eps**0.5)
        accept = finite & ~over

        program = Quadratic(w, gradient, hessian, lower, upper)
        known = last.solved.optimal & jnp.all(hessian == last.program.hessian)
        solved = solve(program, last.solved.active, last.solved.tableau, known=known, go=accept)
        step = solved.step
        length = step_length(w, step, lower, upper)
        # One small step proves little: next to a singularity steps are small too, and grow.
        small = kkt_solved(
            w, step, last.solved.step[:n], height, gradient, hessian, solved.active,
            lower, upper, tol,
        )  # fmt: skip
        # A vertex is found before its multipliers are.
        prices = jnp.max(jnp.abs(step[n:]) / program.dual_unit[n:], initial=0)
        small &= solved.optimal & accept & (prices <= max(tol, eps**0.5))

        touched = (solved.active.lower | solved.active.upper) & (step[:n] != 0) & ~fixed
        short = jnp.where(state.cautious & jnp.any(touched), 0.9, 1)
        ahead = w + short * step
        fall = short * (step[:n] @ (hessian[:n, :n] @ step[:n]) - solved.slope[:n] @ step[:n])
        secant = jnp.clip(
            state.fall / jnp.where(rise + state.fall > 0, rise + state.fall, 1), 0.1, 0.7
        )
        shrink = jnp.where(finite, secant, jnp.where(state.cautious, 0.5, 0.9))
        back = w.at[:n].set(anchor[:n] + shrink * moved)
        keep = lambda new, old: jnp.where(accept, new, old)
        # constraints of a guess may depend on each other: then once more without it
        afresh = no if active is None else state.guessed & accept & ~solved.optimal
        found = jax.tree.map(keep, solved.active, last.solved.active)
        found = jax.tree.map(lambda new, old: jnp.where(afresh, new, old), inactive, found)
        solved = solved.replace(active=found, optimal=solved.optimal & accept)
        new = Attempt(program, solved, keep(length, last.length), last.steps + 1, small)
        return _State(
            jnp.where(afresh, w, jnp.where(accept, ahead, back)),
            jnp.where(accept, w, anchor),
            jnp.where(afresh, 0, jnp.where(accept, fall, shrink * state.fall)),
            state.cautious | ~finite,
            jnp.zeros((), bool),
            new,
            small | jnp.where(accept, ~solved.optimal & ~afresh, last.steps == 0),
        )

    zeros = lambda *shape: jnp.zeros(shape, dtype)
    no, m = jnp.zeros((), bool), size - n - equalities
    inactive = Active(fixed, jnp.zeros(n, bool), jnp.zeros(m, bool))
    guess = inactive if active is None else active.replace(lower=active.lower | fixed)
    blank = Tableau(zeros(size, size), zeros(size), jnp.zeros(size, bool))
    state = _State(
        w, w, zeros(), no, jnp.full((), active is not None),
        Attempt(
            Quadratic(w, zeros(size), zeros(size, size), lower, upper),
            Solved(zeros(size), zeros(size), guess, blank, no),
            jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32), no,
        ),
        no,
    )  # fmt: skip
    cap = min(max_steps, _MAX_STEPS)
    # The flag is computed in the body and only read here: see _newton.py.
    found = jax.lax.while_loop(lambda s: ~s.done & (s.attempt.steps < cap), body, state).attempt
    finite = jnp.isfinite(evaluate(found.program.w[:n])[0])
    return found.replace(verified=found.verified & finite & _accurate(found))


def _accurate(found: Attempt) -> jax.Array:
    """Whether rounding has left the inverse one; a scalar bool."""
    program, solved = found.program, found.solved
    n, swept = len(program.lower), solved.tableau.swept
    # Solving for a known vector shows it.
    probe = jnp.where(swept, jnp.concatenate([program.unit[:n], program.dual_unit[n:]]), 0)
    again = exactly(solved.tableau.inverse, exactly(program.hessian, probe))
    return jnp.all(jnp.where(swept, jnp.abs(again - probe) <= 0.03 * probe, True))


def _second_order(value: Callable, w: jax.Array, n: int) -> tuple[jax.Array, ...]:
    """A Lagrangian's value, gradient and Hessian, from `n` directional derivatives."""

    def both(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        height, slope = jax.value_and_grad(value)(w)
        return slope, height

    slope, push, height = jax.linearize(both, w, has_aux=True)
    columns = jax.vmap(push)(jnp.eye(n, len(w), dtype=w.dtype))
    columns = jnp.pad(columns, ((0, len(w) - n), (0, 0)))
    variable = jnp.arange(len(w)) < n
    once = jnp.where(variable[:, None] & variable[None, :], 0.5, 1).astype(w.dtype)
    return height, slope, once * (columns + columns.T)
