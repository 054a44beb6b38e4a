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

import jax
import jax.numpy as jnp
from flax import struct

from stackjax.solvers._optimality import Active, exactly


class Tableau(struct.PyTreeNode):
    """A symmetric matrix K, swept on a set S of coordinates.

    With U the others, the blocks are `-inv(K_SS)`, `K_US inv(K_SS)` and
    `K_UU - K_US inv(K_SS) K_SU`.

    Attributes:
      matrix: `[n, n]`.
      diagonal: `[n]` its own.
      swept: `[n]` bool, S.
    """

    matrix: jax.Array
    diagonal: jax.Array
    swept: jax.Array

    @property
    def inverse(self) -> jax.Array:
        """`[n, n]`: `inv(K_SS)`, and 0 elsewhere."""
        return jnp.where(self.swept[:, None] & self.swept[None, :], -self.matrix, 0)

    def column(self, here: jax.Array) -> jax.Array:
        """`[n]`, the one where `here`, `[n]` bool, is True."""
        return exactly(self.matrix, here.astype(self.matrix.dtype))

    def exchange(self, here: jax.Array, column: jax.Array) -> "Tableau":
        """Sweeps the one coordinate where `here` is True, or takes it out if it was swept."""
        pivot = _pick(here, self.diagonal)
        inverse = 1 / jnp.where(pivot == 0, 1, pivot)
        edge = _pick(here, jnp.where(self.swept, -1, 1).astype(column.dtype)) * inverse * column
        matrix = self.matrix - (column[:, None] * column[None, :]) * inverse
        matrix = jnp.where(here[None, :], edge[:, None], matrix)
        matrix = jnp.where(here[:, None], jnp.where(here, -inverse, edge)[None, :], matrix)
        diagonal = jnp.where(here, -inverse, self.diagonal - column * column * inverse)
        return Tableau(matrix, diagonal, self.swept ^ here)


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


def rounding(dtype: jnp.dtype) -> float:
    """A violation, relative to its unit, that counts as none."""
    return 32 * float(jnp.finfo(dtype).eps)


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
    w, lower, upper = program.w, program.lower, program.upper
    size, n, m = len(w), len(lower), len(guess.rows)
    p, dtype = size - n - m, w.dtype
    index = jnp.arange(size)
    variable, row = index < n, index >= n + p
    pad = lambda x, fill: jnp.concatenate([x, jnp.full(size - n, fill, x.dtype)])
    low, high = pad(lower, -jnp.inf), pad(upper, jnp.inf)
    fixed = low >= high

    own = _diagonal(program.hessian)
    bent = jnp.where(fixed[:n] | (own[:n] <= 0), jnp.inf, own[:n])
    reach = jnp.sum(program.hessian[n:, :n] ** 2 / bent[None], axis=1)
    # A pivot is not distinguishable from zero below a fraction of its size without the others.
    floor, tiny = 16 * size * float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    smallest = jnp.maximum(floor * jnp.concatenate([own[:n], reach]), tiny)
    smallest_swept = jnp.maximum(floor / jnp.concatenate([bent, jnp.full(size - n, jnp.inf)]), tiny)

    fresh = Tableau(program.hessian, own, jnp.zeros(size, bool))
    tableau = jax.tree.map(lambda a, b: jnp.where(known, a, b), tableau, fresh)
    wanted = guess.free(p) & ~tableau.swept & go

    # Free variables and equalities first, in an order that a batch shares.
    def eliminate(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple:
        matrix, definite = carry
        here = index == k
        column = exactly(matrix, here.astype(dtype))
        pivot = jnp.where(k < n, column[k], -column[k])
        go, sound = wanted[k], pivot > smallest[k]
        inverse = jnp.where(go & sound, 1 / jnp.where(sound, column[k], 1), 0)
        edge = jnp.where(here, -inverse, inverse * column)
        updated = matrix - inverse * (column[:, None] * column[None, :])
        touched = (here[:, None] | here[None, :]) & go
        edges = jnp.where(here[:, None], edge[None, :], edge[:, None])
        return jnp.where(touched, edges, updated), definite & (sound | ~go)

    matrix, definite = jax.lax.fori_loop(0, n + p, eliminate, (tableau.matrix, jnp.ones((), bool)))
    tableau = Tableau(matrix, _diagonal(matrix), tableau.swept | (wanted & ~row))

    # Then the inequalities of each.
    def gain(carry: tuple[Tableau, jax.Array, jax.Array]) -> tuple:
        tableau, pending, _ = carry
        here = index == jnp.min(jnp.where(pending, index, size))
        swept = tableau.exchange(here, tableau.column(here))
        go = _pick(here, -tableau.diagonal - smallest) > 0  # or it depends on the others
        tableau = jax.tree.map(lambda a, b: jnp.where(go, a, b), swept, tableau)
        pending &= ~here
        return tableau, pending, jnp.any(pending)

    pending = wanted & row & definite
    tableau, _, _ = jax.lax.while_loop(lambda c: c[2], gain, (tableau, pending, jnp.any(pending)))

    def settle(tableau: Tableau, at_upper: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The step to the point that the active set determines, and the gradient there."""
        bound = jnp.where(variable, jnp.where(at_upper, high, low), 0)
        held = jnp.where(tableau.swept, 0, bound - w)
        slope = program.gradient + exactly(program.hessian, held)
        moved = exactly(tableau.matrix, jnp.where(tableau.swept, slope, 0))
        swept = tableau.swept
        return jnp.where(swept, moved, held), jnp.where(swept, 0, slope - moved)

    unit = rounding(dtype) * program.unit
    dual_unit = rounding(dtype) * program.dual_unit

    def choose(tableau: Tableau, value: jax.Array, at_upper: jax.Array) -> tuple:
        """The next driver: a multiplier of the wrong sign, or else a violated constraint."""
        swept = tableau.swept
        outside = jnp.where(variable, jnp.maximum(low - value, value - high), value)
        primal = jnp.where(variable, swept, row & ~swept) & (outside > unit)
        dual = jnp.where(variable, ~swept & ~fixed, row & swept)
        wrong = jnp.where(dual, jnp.where(at_upper, value, -value) / dual_unit, 0)
        rise = outside**2 / jnp.maximum(
            jnp.abs(tableau.diagonal), jnp.where(swept, smallest_swept, smallest)
        )
        rise = jnp.where(primal, jnp.minimum(rise, float(jnp.finfo(dtype).max)), 0)
        dropping = jnp.max(wrong) > 1
        score = jnp.where(dropping, wrong, rise)
        best = jnp.max(score)
        first = jnp.min(jnp.where(score == best, index, size))
        return index == first, dropping, ~(best > 0)

    def body(state: _State) -> _State:
        tableau, value, driver = state.tableau, state.value, state.driver
        swept, diagonal = tableau.swept, tableau.diagonal
        bound = jnp.where(variable, jnp.where(state.at_upper, high, low), 0)
        goal = jnp.where(variable & swept, jnp.where(value > high, high, low), 0)
        rate = jnp.where(swept, -diagonal, diagonal)
        # Where the pivot has vanished, the constraint depends on the active ones.
        depends = jnp.where(variable, swept, ~swept) & (
            -diagonal <= jnp.where(variable, smallest_swept, smallest)
        )
        whole = (goal - value) / jnp.where(rate == 0, 1, rate)
        rising = jnp.where(variable & (value > high), -jnp.inf, jnp.inf)
        whole = _pick(driver, jnp.where(depends, rising, whole))
        toward, whole = jnp.sign(whole), jnp.abs(whole)

        # Other multipliers on the way down to zero come first; equalities' may have any sign.
        column = tableau.column(driver)
        rates = jnp.where(swept, -column, column)
        sign = jnp.where(state.at_upper, -1, 1).astype(dtype)
        falling = -sign * rates * toward
        dual = jnp.where(variable, ~swept & ~fixed, row & swept) & (falling > 0) & ~driver
        ratio = jnp.maximum(sign * value, 0) / jnp.where(falling > 0, falling, 1)
        ratio = jnp.where(dual & ~state.dropping, ratio, jnp.inf)
        shortest = jnp.min(ratio)
        blocked = shortest < whole
        length = toward * jnp.where(blocked, shortest, whole)
        leaver = index == jnp.min(jnp.where(ratio == shortest, index, size))
        here = jnp.where(blocked, leaver, driver)

        price = state.price + length
        left = jnp.where(variable & ~swept, bound, 0)
        entered = jnp.where(here, left + jnp.where(blocked, 0, price), value + length * rates)
        at_upper = jnp.where(here, variable & swept & (length < 0), state.at_upper)
        tableau = tableau.exchange(here, tableau.column(here))
        chosen, dropping, idle = choose(tableau, entered, at_upper)
        lost = ~jnp.isfinite(length)  # nothing ends the rise: no point is feasible
        return _State(
            tableau, at_upper, entered,
            jnp.where(blocked, driver, chosen), ~blocked & dropping, jnp.where(blocked, price, 0),
            state.pivots + 1, lost | (idle & ~blocked), idle & ~blocked & ~lost,
        )  # fmt: skip

    at_upper = pad(guess.upper, False)
    step, slope = settle(tableau, at_upper)
    value = jnp.where(tableau.swept, w + step, slope)
    chosen, dropping, idle = choose(tableau, value, at_upper)
    state = _State(
        tableau, at_upper, value, chosen, dropping, jnp.zeros((), dtype),
        jnp.zeros((), jnp.int32), idle | ~definite | ~go, idle & definite & go,
    )  # fmt: skip
    # The flag is computed in the body and only read here: see _newton.py.
    state = jax.lax.while_loop(lambda s: ~s.done & (s.pivots < 4 * size), body, state)
    step, slope = settle(state.tableau, state.at_upper)
    held = variable & ~state.tableau.swept
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


def _pick(here: jax.Array, x: jax.Array) -> jax.Array:
    """The number in `x`, `[n]`, where `here` is True."""
    return jnp.sum(jnp.where(here, x, 0))


def _diagonal(matrix: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool), matrix, 0), axis=0)
