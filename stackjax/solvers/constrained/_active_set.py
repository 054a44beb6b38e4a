"""A dual active-set method for strictly convex quadratic programs, by principal pivots.

    minimise s'(w - u) + (w - u)'K(w - u)/2  in z,   maximise it in (y, v),   w = (z, y, v),

is the saddle point of the Lagrangian of a quadratic program, linearised at u: K is its KKT matrix,
positive definite in z. Its gradient `t = s + K(w - u)` holds the slope in z and the constraints'
residuals c and g. A solution has, for every coordinate, either `t = 0` (a free variable, an
equality, an active inequality) or `w` at its target (a bound, or 0 for the multiplier of an
inactive inequality), with

    lower <= z <= upper,   g <= 0   (primal),     slopes at bounds and v of the right sign  (dual).

The method keeps the dual conditions and `K` swept on the coordinates with `t = 0`, which expresses
the unknown half of `(w, t)` in the known one and holds the inverse of the KKT matrix of the active
set. It starts with no bound and no inequality active, raises the multiplier of a violated
constraint until that is satisfied or another multiplier has come down to zero, and exchanges
one coordinate: one symmetric update of rank one. The dual objective rises with every constraint
gained, so the method is finite; the constraint gained is the one that promises the largest rise.
Started from a guess of the active set, it first drops constraints whose multiplier has the wrong
sign.

All steps are elementwise or products of matrices, so that a batch of programs runs as one.

Source: Goldfarb and Idnani, Mathematical Programming 27, 1983 (the method); Keller, Mathematical
Programming Study 1, 1973 (principal pivots).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._optimality import Active, exactly
from stackjax.solvers.constrained._tableau import Tableau, diagonal_of, pick, sweep_saddle

_ROUNDING = 32  # units of rounding in which a violation counts as none
_PIVOT_ROUNDING = 16  # and a pivot as zero, for each coordinate
_PIVOTS = 4  # at most, for each coordinate


class Quadratic(struct.PyTreeNode):
    """A quadratic program, linearised at a point.

    Attributes:
      w: `[n + p + m]` the point.
      gradient: `[n + p + m]` of the Lagrangian there.
      hessian: `[n + p + m, ...]` of the Lagrangian, the KKT matrix.
      lower: `[n]` bounds, -inf for none.
      upper: `[n]` bounds, inf for none.
    """

    w: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    lower: jax.Array
    upper: jax.Array

    @property
    def unit(self) -> jax.Array:
        """`[n + p + m]`: the size of z, and of the constraints' largest terms."""
        size = 1 + jnp.abs(self.w[: len(self.lower)])
        rows = jnp.max(jnp.abs(self._normals) * size[None], axis=1, initial=0)
        return jnp.concatenate([size, rows])

    @property
    def dual_unit(self) -> jax.Array:
        """`[n + p + m]`: the size of slopes, and of the multipliers that balance them."""
        n, normals = len(self.lower), self._normals
        own = self.gradient[:n] - exactly(normals.T, self.w[n:])
        # the largest entry of a positive definite matrix is on its diagonal
        steep = jnp.max(jnp.abs(own)) + jnp.max(jnp.abs(jnp.diagonal(self.hessian)[:n]))
        length = jnp.max(jnp.abs(normals), axis=1, initial=0)
        return steep / jnp.concatenate(
            [jnp.ones_like(self.lower), jnp.where(length > 0, length, 1)]
        )

    @property
    def _normals(self) -> jax.Array:
        return self.hessian[len(self.lower) :, : len(self.lower)]


class Solved(struct.PyTreeNode):
    """Where the method ended.

    Attributes:
      step: `[n + p + m]` from the point of linearisation to the solution.
      slope: `[n + p + m]` the Lagrangian's gradient at the solution.
      active: the active set.
      tableau: the KKT matrix, swept on the free coordinates.
      optimal: whether it is the solution; a scalar bool.
    """

    step: jax.Array
    slope: jax.Array
    active: Active
    tableau: Tableau
    optimal: jax.Array


class _Coordinates(NamedTuple):
    """What each of the n + p + m coordinates is, and what counts as nothing there.

    Attributes:
      index: its number.
      variable: bool, one of z.
      row: bool, the multiplier of an inequality.
      low: its lower bound; -inf for none, as for multipliers.
      high: its upper bound, likewise.
      fixed: bool, `low == high`.
      least: its smallest pivot to be swept.
      least_back: its smallest pivot to be taken out again.
      unit: a violation that counts as none.
      dual_unit: a slope or multiplier that does.
    """

    index: jax.Array
    variable: jax.Array
    row: jax.Array
    low: jax.Array
    high: jax.Array
    fixed: jax.Array
    least: jax.Array
    least_back: jax.Array
    unit: jax.Array
    dual_unit: jax.Array

    def bound(self, at_upper: jax.Array) -> jax.Array:
        """`[n + p + m]`: what holds `w` where it is not free."""
        return jnp.where(self.variable, jnp.where(at_upper, self.high, self.low), 0)

    def signed(self, swept: jax.Array) -> jax.Array:
        """`[n + p + m]` bool: where there is a multiplier, or slope, that must have a sign."""
        return jnp.where(self.variable, ~swept & ~self.fixed, self.row & swept)

    def first(self, chosen: jax.Array) -> jax.Array:
        """`[n + p + m]` bool: True at the first of those chosen."""
        return self.index == jnp.min(jnp.where(chosen, self.index, len(self.index)))


def rounding(dtype: jnp.dtype) -> float:
    """A violation, relative to its unit, that counts as none."""
    return _ROUNDING * float(jnp.finfo(dtype).eps)


class _State(struct.PyTreeNode):
    tableau: Tableau
    at_upper: jax.Array  # [n + p + m] bool: if a bound holds it, the upper one
    value: jax.Array  # [n + p + m] the unknown of each coordinate's w and t
    driver: jax.Array  # [n + p + m] bool: the coordinate whose multiplier is on the move
    dropping: jax.Array
    price: jax.Array  # how far that has moved
    pivots: jax.Array
    done: jax.Array
    optimal: jax.Array


def solve(
    program: Quadratic, guess: Active, tableau: Tableau, *, known: jax.Array, go: jax.Array
) -> Solved:
    """Solves a quadratic program, from a guess of its active set.

    Args:
      program: the program; finite.
      guess: the active set to start from.
      tableau: one of the program's KKT matrix, swept on the guess's free coordinates.
      known: scalar bool; if not, `tableau` is ignored and made anew.
      go: scalar bool; if not, nothing is solved.

    Returns:
      The solution. It is not `optimal` where K is not positive definite in z, where equalities
      depend on each other, where the constraints contradict each other, or after too many pivots.
    """
    size, n = len(program.w), len(program.lower)
    p = size - n - len(guess.rows)
    diagonal = diagonal_of(program.hessian)
    on = _coordinates(program, diagonal, p)

    fresh = Tableau(program.hessian, diagonal, jnp.zeros(size, bool))
    tableau = jax.tree.map(lambda a, b: jnp.where(known, a, b), tableau, fresh)
    wanted = guess.free(p) & ~tableau.swept & go
    tableau, definite = sweep_saddle(tableau, wanted, on.least, n=n, p=p)

    state = _begin(program, on, tableau, guess, definite, go)
    # The flag is computed in the body and only read here: see _newton.py.
    state = jax.lax.while_loop(
        lambda s: ~s.done & (s.pivots < _PIVOTS * size), lambda s: _pivot(on, s), state
    )
    step, slope = _settle(program, on, state.tableau, state.at_upper)
    held = on.variable & ~state.tableau.swept
    return Solved(
        step,
        slope,
        Active(
            (held & ~state.at_upper)[:n],
            (held & state.at_upper)[:n],
            state.tableau.swept[n + p :],
        ),
        state.tableau,
        state.optimal,
    )


def _coordinates(program: Quadratic, diagonal: jax.Array, p: int) -> _Coordinates:
    """Of a program with p equalities and the `diagonal`, `[n + p + m]`, of its KKT matrix."""
    size, n, dtype = len(program.w), len(program.lower), program.w.dtype
    index = jnp.arange(size)
    low, high = _padded(program.lower, size, -jnp.inf), _padded(program.upper, size, jnp.inf)
    fixed = low >= high

    # A pivot is not distinguishable from zero below a fraction of its size without the others.
    bent = jnp.where(fixed[:n] | (diagonal[:n] <= 0), jnp.inf, diagonal[:n])
    reach = jnp.sum(program.hessian[n:, :n] ** 2 / bent[None], axis=1)
    floor = _PIVOT_ROUNDING * size * float(jnp.finfo(dtype).eps)
    tiny = float(jnp.finfo(dtype).tiny)
    least = jnp.maximum(floor * jnp.concatenate([diagonal[:n], reach]), tiny)
    least_back = jnp.maximum(floor / jnp.concatenate([bent, jnp.full(size - n, jnp.inf)]), tiny)
    return _Coordinates(
        index, index < n, index >= n + p, low, high, fixed, least, least_back,
        rounding(dtype) * program.unit, rounding(dtype) * program.dual_unit,
    )  # fmt: skip


def _begin(
    program: Quadratic,
    on: _Coordinates,
    tableau: Tableau,
    guess: Active,
    definite: jax.Array,
    go: jax.Array,
) -> _State:
    """The point of the guess; done already where the tableau is not `definite`, or `go` not set."""
    at_upper = _padded(guess.upper, len(program.w), False)
    step, slope = _settle(program, on, tableau, at_upper)
    value = jnp.where(tableau.swept, program.w + step, slope)
    chosen, dropping, idle = _choose(on, tableau, value, at_upper)
    return _State(
        tableau, at_upper, value, chosen, dropping, jnp.zeros((), value.dtype),
        jnp.zeros((), jnp.int32), idle | ~definite | ~go, idle & definite & go,
    )  # fmt: skip


def _settle(
    program: Quadratic, on: _Coordinates, tableau: Tableau, at_upper: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The step to the point that the active set determines, and the gradient there."""
    swept = tableau.swept
    held = jnp.where(swept, 0, on.bound(at_upper) - program.w)
    slope = program.gradient + exactly(program.hessian, held)
    moved = exactly(tableau.matrix, jnp.where(swept, slope, 0))
    return jnp.where(swept, moved, held), jnp.where(swept, 0, slope - moved)


def _choose(
    on: _Coordinates, tableau: Tableau, value: jax.Array, at_upper: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The next driver: a multiplier of the wrong sign, or else a violated constraint.

    Returns:
      The driver, `[n + p + m]` bool; whether its constraint is to be dropped; whether there is
      nothing left to do.
    """
    swept, variable = tableau.swept, on.variable
    outside = jnp.where(variable, jnp.maximum(on.low - value, value - on.high), value)
    primal = jnp.where(variable, swept, on.row & ~swept) & (outside > on.unit)
    wrong = jnp.where(on.signed(swept), jnp.where(at_upper, value, -value) / on.dual_unit, 0)
    # The constraint gained is the one that promises the largest rise of the dual objective.
    rise = outside**2 / jnp.maximum(
        jnp.abs(tableau.diagonal), jnp.where(swept, on.least_back, on.least)
    )
    rise = jnp.where(primal, jnp.minimum(rise, float(jnp.finfo(value.dtype).max)), 0)
    dropping = jnp.max(wrong) > 1
    score = jnp.where(dropping, wrong, rise)
    best = jnp.max(score)
    return on.first(score == best), dropping, ~(best > 0)


def _pivot(on: _Coordinates, state: _State) -> _State:
    """Moves the driver's multiplier as far as it may go, and exchanges one coordinate."""
    tableau, value, driver = state.tableau, state.value, state.driver
    swept, variable = tableau.swept, on.variable
    full = _full_step(on, state)
    toward, full = jnp.sign(full), jnp.abs(full)
    column = tableau.column(driver)
    rates = jnp.where(swept, -column, column)
    partial, leaver = _partial_step(on, state, rates, toward)
    blocked = partial < full
    length = toward * jnp.where(blocked, partial, full)
    here = jnp.where(blocked, leaver, driver)

    price = state.price + length
    left = jnp.where(variable & ~swept, on.bound(state.at_upper), 0)
    entered = jnp.where(here, left + jnp.where(blocked, 0, price), value + length * rates)
    at_upper = jnp.where(here, variable & swept & (length < 0), state.at_upper)
    tableau = tableau.exchange(here, tableau.column(here))
    chosen, dropping, idle = _choose(on, tableau, entered, at_upper)
    lost = ~jnp.isfinite(length)  # nothing ends the rise: no point is feasible
    return _State(
        tableau, at_upper, entered,
        jnp.where(blocked, driver, chosen), ~blocked & dropping, jnp.where(blocked, price, 0),
        state.pivots + 1, lost | (idle & ~blocked), idle & ~blocked & ~lost,
    )  # fmt: skip


def _full_step(on: _Coordinates, state: _State) -> jax.Array:
    """How far the driver's multiplier moves until its constraint is satisfied, with its sign.

    A scalar, t2 of Goldfarb and Idnani; infinite where the pivot has vanished: the constraint
    depends on the active ones.
    """
    swept, diagonal, value = state.tableau.swept, state.tableau.diagonal, state.value
    variable, above = on.variable, value > on.high
    goal = jnp.where(variable & swept, jnp.where(above, on.high, on.low), 0)
    rate = jnp.where(swept, -diagonal, diagonal)
    depends = jnp.where(variable, swept, ~swept) & (
        -diagonal <= jnp.where(variable, on.least_back, on.least)
    )
    full = (goal - value) / jnp.where(rate == 0, 1, rate)
    rising = jnp.where(variable & above, -jnp.inf, jnp.inf)
    return pick(state.driver, jnp.where(depends, rising, full))


def _partial_step(
    on: _Coordinates, state: _State, rates: jax.Array, toward: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How far it moves until another multiplier comes down to zero, and which one does.

    Equalities' may have any sign; while a constraint is dropped nothing else is looked at.

    Args:
      on: the coordinates.
      state: where the method is.
      rates: `[n + p + m]` at which values change with it.
      toward: scalar, the sign of its move.

    Returns:
      A scalar, t1 of Goldfarb and Idnani, and `[n + p + m]` bool.
    """
    sign = jnp.where(state.at_upper, -1, 1).astype(rates.dtype)
    falling = -sign * rates * toward
    dual = on.signed(state.tableau.swept) & (falling > 0) & ~state.driver
    ratio = jnp.maximum(sign * state.value, 0) / jnp.where(falling > 0, falling, 1)
    ratio = jnp.where(dual & ~state.dropping, ratio, jnp.inf)
    shortest = jnp.min(ratio)
    return shortest, on.first(ratio == shortest)


def _padded(x: jax.Array, size: int, fill: float | bool) -> jax.Array:
    """`[size]`: `x`, `[n]`, and `fill` for multipliers."""
    return jnp.concatenate([x, jnp.full(size - len(x), fill, x.dtype)])
