"""Saddle-point systems by products.

Newton's method on the optimality conditions, and their derivative, need

    H x + J' y = b,      J x = e

on the free coordinates and the constraints that hold with equality. H may bend down across the
constraints. Add `J' w` times the second line to the first, w positive weights:

    W x + J' y = b + J' w e,      J x = e,      W = H + J' w J,

and W is positive definite where a strict solution's H is so along the constraints and the weights
are large (Hestenes, Journal of Optimization Theory and Applications 4, 1969). Then

    J W^-1 J' y = J W^-1 (b + J' w e) - e.

Both W and, with large weights, the second matrix are solved with by conjugate gradients: the second
is nearly diagonal, and takes few steps. What rounding and dependent rows leave is solved for again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from stackjax.solvers._conjugate import (
    LinearSolve,
    Product,
    conjugate,
    least_ritz,
    solved_by,
)
from stackjax.solvers.augmented._rows import Local, Operators
from stackjax.solvers.newton._matrix_free import positive, sizes_of

_WEIGHT = {4: 64.0, 8: 1024.0}  # by the size of a number: W's condition grows with it
_PASSES, _OUTER = 4, 30


class Saddle(NamedTuple):
    """The system at one point. All operators are numbers, and stay on the free part.

    Attributes:
      bend: `v -> H v`, `[d] -> [d]`.
      push: `v -> J v`, `[d] -> [k]`.
      pull: `u -> J' u`.
      free: `[d]` bool.
      on: `[k]` bool, rows that hold with equality.
      weights: `[k]` w, 0 for other rows.
      scale: `[d]` the preconditioner of W: the curvature of H alone, so that all but as many
        directions as there are rows are alike.
      linear_solve: the user's solve with W, if any.
    """

    bend: Product
    push: Product
    pull: Product
    free: jax.Array
    on: jax.Array
    weights: jax.Array
    scale: jax.Array
    linear_solve: LinearSolve | None

    def augmented(self, v: jax.Array) -> jax.Array:
        """`W v`; the identity on what is not free."""
        inner = self.bend(v) + self.pull(self.weights * self.push(v))
        return jnp.where(self.free, inner, v)

    def solve(self, b: jax.Array, e: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`(x, y)`, and whether no direction met bends down; 0 on what is not free."""
        b, e = jnp.where(self.free, b, 0), jnp.where(self.on, e, 0)

        eps = float(jnp.finfo(b.dtype).eps)

        def again(state: tuple) -> tuple:
            x, y, left, size, passes, convex, _ = state
            dx, dy, up = self._once(*left)
            new_x, new_y = x + dx, y + dy
            # What is left, beside the terms that it is the difference of.
            bend, pulled, pushed = self.bend(new_x), self.pull(new_y), self.push(new_x)
            left = b - bend - pulled, e - pushed
            small = jnp.abs(left[0]) <= 4 * eps * (jnp.abs(b) + jnp.abs(bend) + jnp.abs(pulled))
            least = jnp.abs(left[1]) <= 4 * eps * (jnp.abs(e) + jnp.abs(pushed))
            new = self._size(*left)
            # The first is kept in any case: a step of 0 would look like that of a solution. Sizes
            # at the level of rounding tell nothing of coordinates that are steeply curved.
            better = (new < jnp.maximum(size, 64 * eps * first)) | (passes == 0)
            keep = lambda new, old: jnp.where(better, new, old)
            done = ~better | (jnp.all(small) & jnp.all(least)) | (passes + 1 >= _PASSES)
            return (
                keep(new_x, x), keep(new_y, y), left, keep(new, size), passes + 1,
                convex & up, done,
            )  # fmt: skip

        first = self._size(b, e)
        state = (
            jnp.zeros_like(b), jnp.zeros_like(e), (b, e), first, jnp.zeros((), jnp.int32),
            jnp.ones((), bool), ~(first > 0),
        )  # fmt: skip
        x, y, *_, convex, _ = lax.while_loop(lambda state: ~state[-1], again, state)
        return x, y, convex

    def solve_all(self, b: jax.Array) -> jax.Array:
        """The same for `[d + k]` at once; to be differentiated in `b` only."""
        d = len(self.free)

        def product(v: jax.Array) -> jax.Array:
            x, y = v[:d], v[d:]
            upper = jnp.where(self.free, self.bend(x) + self.pull(y), x)
            return jnp.concatenate([upper, jnp.where(self.on, self.push(x), y)])

        def solve(_: Product, b: jax.Array) -> jax.Array:
            return jnp.concatenate(self.solve(b[:d], b[d:])[:2])

        return lax.custom_linear_solve(product, b, solve, symmetric=True)

    def _once(self, b: jax.Array, e: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        forcing = float(jnp.finfo(b.dtype).eps) ** 0.75

        def within(b: jax.Array) -> tuple[jax.Array, jax.Array]:
            if self.linear_solve is not None:
                x = solved_by(self.linear_solve, self.augmented, b)
                return jnp.where(self.free, x, 0), jnp.ones((), bool)
            return conjugate(self.augmented, b, self.scale, forcing=forcing)

        x, convex = within(b + self.pull(self.weights * e))
        if not len(e):
            return x, e, convex
        inverse = 1 / jnp.where(self.on, self.weights, 1)
        y, _ = conjugate(
            lambda y: self.push(within(self.pull(y))[0]),
            self.push(x) - e,
            inverse,
            forcing=forcing,
            most=_OUTER,
            # (dependent rows have a direction in which nothing but the error of the first is left)
            least=float(jnp.finfo(b.dtype).eps) ** 0.5,
        )
        return x - within(self.pull(y))[0], y, convex

    def _size(self, b: jax.Array, e: jax.Array) -> jax.Array:
        """Of a residual, in the unit of the objective's root."""
        return jnp.sqrt(jnp.sum(b**2 / self.scale) + jnp.sum(self.weights * e**2))


def saddle(
    made: Operators,
    free: jax.Array,
    on: jax.Array,
    curved: jax.Array,
    norms: jax.Array,
    valid: jax.Array,
    linear_solve: LinearSolve | None,
) -> Saddle:
    """The system on an active set; its operators are 0 unless `valid`.

    Args:
      made: the problem at the point.
      free: `[d]` bool.
      on: `[k]` bool.
      curved: `[d]` as in `Local`.
      norms: `[k]` likewise.
      valid: scalar bool.
      linear_solve: the user's solve with W, if any.
    """
    free, on = free & valid, on & valid
    only = lambda v: jnp.where(free, v, 0)
    weights = jnp.where(on, _WEIGHT[norms.dtype.itemsize] / norms, 0)
    return Saddle(
        lambda v: only(made.bend(only(v))),
        lambda v: jnp.where(on, made.push(only(v)), 0),
        lambda u: only(made.pull(jnp.where(on, u, 0))),
        free,
        on,
        weights,
        curved,
        linear_solve,
    )


def least_curvature(system: Saddle, at: Local) -> jax.Array:
    """The least of H along the constraints, an estimate from above relative to each coordinate's.

    Lanczos' method within the null space of J, onto which conjugate gradients project. 1 where
    nothing is free.
    """
    eps = float(jnp.finfo(at.sizes.dtype).eps)
    size = jnp.where(system.free, at.sizes, 0)
    root = jnp.sqrt(jnp.where(jnp.max(size) > 0, positive(size, eps * jnp.max(size)), 1))
    push = lambda v: system.push(v / root)
    pull = lambda u: system.pull(u) / root
    some = len(at.rows) > 0
    scale = jnp.where(system.on, sizes_of(lambda u: push(pull(u)), at.rows) if some else 1, 1)

    def once(v: jax.Array) -> jax.Array:
        if not some:
            return v
        u, _ = conjugate(lambda u: push(pull(u)), push(v), positive(scale), forcing=eps)
        return v - pull(u)

    # (twice, for what rounding leaves)
    along = lambda v: lax.fori_loop(0, 2, lambda _, v: once(v), v)
    # (random signs could be orthogonal to what is left of few coordinates)
    whole = jax.random.normal(jax.random.key(1), at.sizes.shape, at.sizes.dtype)
    whole = jnp.where(system.free, whole, 0)
    start = along(whole)
    # What rounding leaves of a vector is no direction.
    start = jnp.where(jnp.sum(start**2) > 100 * eps * jnp.sum(whole**2), start, 0)
    return least_ritz(lambda v: once(system.bend(v / root) / root), start, along)
