"""The fixed point of a projected gradient step, to first order on a face of the set.

`y` is a minimum of a convex `f` over a set with a Euclidean projection if and only if, at any rate
`t > 0`,

    y = project(z),     z = y - t grad f(y).

With `P` the derivative of the projection at `z`, symmetric with eigenvalues in [0, 1], and `H` that
of the gradient, the fixed point's Jacobian is `J = I - P (I - t H)`. On a flat face `P` projects
onto its directions; on a sphere it also shrinks them, which is the sphere's curvature. Both

    J x = b:       x = b + P w,                S w = P (b - t H b),
    J' x = b:      x = b + P w - t H P w,      S w = P b,          S = P - P^2 + t P H P,

take one solve with the symmetric `S`, positive definite on the face at a strict minimum:
conjugate gradients. Newton steps and derivatives are made of these.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stackjax.solvers._conjugate import LinearSolve, Product, conjugate, solver

Function = Callable[[jax.Array], jax.Array]


class Face(NamedTuple):
    """The fixed point to first order, at one point. All are numbers, linear in their argument.

    Attributes:
      image: `[d]` project(z).
      slope: `[d]` grad f.
      bend: `v -> H v`.
      tangent: `v -> P v`.
      reduced: `v -> S v`.
      rate: scalar t.
      linear_solve: the user's solve with S, if any.
    """

    image: jax.Array
    slope: jax.Array
    bend: Product
    tangent: Product
    reduced: Product
    rate: jax.Array
    linear_solve: LinearSolve | None = None

    def solve(self, b: jax.Array) -> jax.Array:
        """`J^-1 b`, to be differentiated in `b` only."""
        w = self._inverse(self._right(b))
        return b + self.tangent(w)

    def transpose_solve(self, b: jax.Array) -> jax.Array:
        """`J'^-1 b`, likewise."""
        w = self.tangent(self._inverse(self.tangent(b)))
        return b + w - self.rate * self.bend(w)

    def newton(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The step from `y` to where the fixed point is by first order, and whether S is convex."""
        b = self.image - y
        eps = float(jnp.finfo(y.dtype).eps)
        w, convex = conjugate(self.reduced, self._right(b), jnp.ones_like(b), forcing=eps**0.75)
        return b + self.tangent(w), convex

    def _inverse(self, b: jax.Array) -> jax.Array:
        return solver(self.reduced, jnp.ones_like(b), self.linear_solve)(b)

    def _right(self, b: jax.Array) -> jax.Array:
        return self.tangent(b - self.rate * self.bend(b))


def face_at(
    gradient: Function,
    project: Function,
    y: jax.Array,
    rate: jax.Array,
    valid: jax.Array | bool,
    linear_solve: LinearSolve | None = None,
) -> Face:
    """The `Face` at `y`; unless `valid`, its operators are 0."""
    slope, bend = jax.linearize(gradient, y)
    image, tangent = jax.linearize(project, y - rate * slope)
    bend_ = lambda v: jnp.where(valid, bend(v), 0)
    tangent_ = lambda v: jnp.where(valid, tangent(v), 0)

    def reduced(v: jax.Array) -> jax.Array:
        u = tangent_(v)
        return tangent_(v - u + rate * bend_(u))

    return Face(image, slope, bend_, tangent_, reduced, rate, linear_solve)
