"""What every solver says of its answer."""

import jax
from flax import struct


class Quality(struct.PyTreeNode):
    """How good an answer is. Floating-point scalars, flags too: `custom_root` wants that.

    Attributes:
      residual: an estimate of the largest error, from the Newton step there, each coordinate
        relative to its own size; `inf` where the utility is not a number.
      steps: iterations.
      converged: 1 or 0.
      degeneracy: the smallest of all `max(slack, multiplier)`; `inf` without constraints.
      curvature: the least curvature along the free directions, without a unit: 1 at best, 0
        where flat, negative where the point is no maximum.

    Example:
      >>> one = jnp.ones(())
      >>> good = sj.solvers.Quality(0 * one, 3 * one, one, jnp.inf * one, one)
      >>> bool(good.converged > 0)
      True
    """

    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    degeneracy: jax.Array
    curvature: jax.Array
