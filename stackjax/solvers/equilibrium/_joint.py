"""The problem of several followers on one vector, and the units in which it is searched.

Follower i maximises `u_i(r_i, r_-i)` over its own entries of `y = (r_1, ..., r_N)`. With
`F(y) = (-grad_{r_i} u_i)_i` and constraints `c(y) = 0`, `g(y) <= 0`, `lower <= y <= upper`, an
equilibrium solves the variational inequality of F over that set (Facchinei and Pang,
Finite-Dimensional Variational Inequalities, 2003, Prop. 1.4.2), and its conditions are those of one
program, `F + Dc'mu + Dg'lambda`, but for a Jacobian of F that is not symmetric.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax.solvers.constrained._scales import Scales, scales_at

Rows = tuple[jax.Array, jax.Array, jax.Array]


class Joint(NamedTuple):
    """What several followers want, on vectors.

    Attributes:
      values: `[d] -> [N]`, the utilities.
      slopes: `[d] -> [d]`, of every follower's utility in its own entries; it may close over traced
        values, in which the equilibrium is to be differentiable.
      rows: `[d] -> ([N], [d], [d, d])`, the utilities, `slopes` and the latter's Jacobian.
      lower: `[d]` bounds, -inf where there is none.
      upper: `[d]` likewise, inf.
      constraints: `[d] -> ([p], [m])`: the first must be 0, the second at most 0.
      sizes: how many entries each follower has, one after another.
      shared: whether a constraint may depend on several followers' entries.
    """

    values: Callable[[jax.Array], jax.Array]
    slopes: Callable[[jax.Array], jax.Array]
    rows: Callable[[jax.Array], Rows]
    lower: jax.Array
    upper: jax.Array
    constraints: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    sizes: tuple[int, ...]
    shared: bool

    @property
    def owner(self) -> np.ndarray:
        """`[d]` int, which follower each entry belongs to."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


class JointScales(struct.PyTreeNode):
    """The units of a `Joint`, powers of two.

    Attributes:
      variables: `[d]`.
      values: `[N]` by which each utility is multiplied.
      equality: `[p]` by which each is multiplied.
      inequality: `[m]` likewise.
      row_values: `[p + m]` the factor of the utility that a constraint's multiplier belongs to.
      slopes: `[d]` by which each slope, in these units, is multiplied to be about one: the size of
        a slope beside that of a slack decides which of the two counts for zero.
    """

    variables: jax.Array
    values: jax.Array
    equality: jax.Array
    inequality: jax.Array
    row_values: jax.Array
    slopes: jax.Array

    @property
    def point(self) -> jax.Array:
        """`[d + p + m]` by which a solution and its multipliers are multiplied to be the user's."""
        rows = jnp.concatenate([self.equality, self.inequality])
        return jnp.concatenate([self.variables, rows / self.row_values])

    def joint(self, problem: Joint) -> Joint:
        """The problem in these units."""
        unit, each = self.variables, self.values[problem.owner]

        def rows(z: jax.Array) -> Rows:
            values, slopes, jacobian = problem.rows(z * unit)
            bent = jacobian * (each * unit)[:, None] * unit[None]
            return values * self.values, slopes * each * unit, bent

        def constraints(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            c, g = problem.constraints(z * unit)
            return c * self.equality, g * self.inequality

        return problem._replace(
            slopes=lambda z: problem.slopes(z * unit) * each * unit,
            rows=rows,
            lower=problem.lower / unit,
            upper=problem.upper / unit,
            constraints=constraints,
        )


def joint_scales(problem: Joint, start: jax.Array) -> JointScales:
    """The units of a problem, as it looks from the start, `[d]`: see `constrained/_scales.py`.

    A utility changes by about one in a variable's unit. If followers share a constraint, the
    multiplier of which they have in common, their utilities are multiplied by one number.
    """
    lower, upper = problem.lower, problem.upper
    no_value = lambda z: (jnp.zeros((), z.dtype), *problem.constraints(z))
    scales: Scales = scales_at(no_value, start, lower, upper)
    unit = scales.variables
    at = inwards(jnp.where(jnp.isfinite(start), start, 0), lower, upper, unit)
    _, slope, jacobian = problem.rows(at)
    number = lambda x: jnp.abs(jnp.where(jnp.isfinite(x), x, 0))
    size = jnp.maximum(number(slope), number(jacobian) @ unit) * unit
    largest = jax.ops.segment_max(size, problem.owner, len(problem.sizes))
    rows = len(scales.equality) + len(scales.inequality)
    if problem.shared and rows:
        largest = jnp.full_like(largest, jnp.max(largest))
    values, slope_unit = _inverse(largest), _inverse(size)
    row_values = jnp.ones(0, unit.dtype)
    if rows:
        # A row that is one follower's: the one whose entries it depends on.
        jac = jax.jacrev(lambda z: jnp.concatenate(problem.constraints(z)))(at)
        row_values = values[problem.owner][jnp.argmax(number(jac) * unit[None], axis=1)]
    slopes = slope_unit / values[problem.owner]
    return JointScales(unit, values, scales.equality, scales.inequality, row_values, slopes)


def inwards(z: jax.Array, lower: jax.Array, upper: jax.Array, unit: jax.Array) -> jax.Array:
    """`z`, `[d]`, moved off bounds, where utilities may have poles, by a hundredth of a unit."""
    margin = jnp.minimum(0.01 * unit, (upper - lower) / 4)
    return jnp.clip(z, lower + margin, upper - margin)


def _inverse(size: jax.Array) -> jax.Array:
    """One over the power of two next to it."""
    return 1 / jnp.exp2(jnp.round(jnp.log2(jnp.where(size > 0, size, 1))))
