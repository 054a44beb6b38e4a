"""Whether a fit still gains: the best look, a running mean of slopes, and a line search's end."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.typing import PyTree
from stackjax.fit._lagrangian import Prices
from stackjax.fit._options import (
    Options,
)

Arrays = list[jax.Array]

# The slope at the end: a mean over about this share of the steps, and what counts as none, in
# standard errors of that mean and as a share of the steepest one; of a constraint, of the largest.
WINDOW, ERRORS, FLAT, KEPT = 0.1, 3.0, 1e-4, 5e-3
# A quasi-Newton fit begins anew, and the second time ends, where so many steps on end gain no more
# than so many units of rounding. It has converged where its model of the objective promises less
# than the third part of the objective, or where this is the fourth part of the first.
_STALLED, _ULPS, _LITTLE, _EXACT = 10, 4, 1e-4, 1e-11


class Best(struct.PyTreeNode):
    """What the looks at the validation rows gave.

    Attributes:
      arrays: the module's trained arrays at the best look.
      highest: `[]` the utility at the best look.
      value: `[]` the same at the last one.
      step: `[]` steps taken before the best look.
      since: `[]` looks since.
    """

    arrays: Arrays
    highest: jax.Array
    value: jax.Array
    step: jax.Array
    since: jax.Array


class Slope(struct.PyTreeNode):
    """Running means of the gradient, in which the latest steps count most.

    Attributes:
      mean: of the gradient, like the trained arrays.
      square: `[]` of its squared norm.
      most: `[]` the largest norm so far.
      steps: `[]` how many have been averaged.
    """

    mean: Arrays
    square: jax.Array
    most: jax.Array
    steps: jax.Array

    @classmethod
    def none(cls, arrays: Arrays, dtype: jnp.dtype) -> "Slope":
        """Before the first step."""
        zeros = [jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)) for x in arrays]
        zero = jnp.zeros((), dtype)
        return cls(zeros, zero, zero, jnp.zeros((), jnp.int32))

    def after(self, slope: Arrays, norm: jax.Array, steps: int) -> "Slope":
        """With one gradient more, in a fit of `steps` steps."""
        keep = forget(steps)
        mean = [keep * old + (1 - keep) * new.astype(old.dtype)
                for old, new in zip(self.mean, slope)]  # fmt: skip
        norm = norm.astype(self.square.dtype)
        square = keep * self.square + (1 - keep) * norm**2
        return Slope(mean, square, jnp.maximum(self.most, norm), self.steps + 1)

    def gone(self, steps: int, flat: float, noisy: bool = True) -> jax.Array:
        """Whether the mean is a share `flat` of the most or, if noisy, not known to be more.

        Without noise, an optimiser that swings around its path is on its way all the same.
        """
        keep = forget(steps)
        lost = jnp.asarray(keep, self.square.dtype) ** jnp.maximum(self.steps, 1)
        # the weights' sum, and that of their squares: what a mean of so many has for noise
        whole = 1 - lost
        share = (1 - keep) / (1 + keep) * (1 + lost) / whole
        mean = optax.tree.norm(self.mean).astype(whole.dtype) / whole
        noise = jnp.maximum(self.square / whole - mean**2, 0) / jnp.maximum(1 - share, 0.5)
        errors = ERRORS * jnp.sqrt(share * noise) if noisy else 0.0
        return mean <= jnp.maximum(errors, flat * self.most)


def priced(kept: Slope, prices: Prices, constraints: jax.Array, options: Options) -> Slope:
    """With the constraints `[k]` of one step more, but for room that costs nothing."""
    if not options.constrained:
        return kept
    moves = jnp.where(prices.multiplier > 0, constraints, jnp.minimum(constraints, 0))
    add = lambda one, move: one.after([move], jnp.abs(move), options.steps)
    return jax.vmap(add)(kept, moves)


def forget(steps: int) -> float:
    return 1 - 1 / max(1.0, WINDOW * steps)


def decrement(moments: PyTree, slope: Arrays, arrays: Arrays) -> jax.Array:
    """What L-BFGS's model of the objective promises a step from here, `[]`; inf without a model.

    It has the unit of the objective, whatever those of the parameters.

    Args:
      moments: `optax.lbfgs`'s state after the step, whose memory reaches up to here.
      slope: of the objective.
      arrays: the parameters.
    """
    memory = moments[0]
    before = memory._replace(count=memory.count - 1)
    direction, _ = optax.scale_by_lbfgs().update(slope, before, arrays)
    promised = jnp.asarray(optax.tree.vdot(slope, direction)) / 2
    sound = jnp.any(memory.weights_memory > 0) & (promised >= 0)
    return jnp.where(sound, promised, jnp.inf)


class Descent(struct.PyTreeNode):
    """How a quasi-Newton search goes.

    Attributes:
      first: `[]` the objective, which is minimised, before the first step.
      least: `[]` its least value.
      stalled: `[]` steps since it last fell by more than rounding.
      restarted: `[]` whether the search has begun anew.
      flat: `[]` whether nothing is left to gain.
    """

    first: jax.Array
    least: jax.Array
    stalled: jax.Array
    restarted: jax.Array
    flat: jax.Array

    @classmethod
    def none(cls, dtype: jnp.dtype) -> "Descent":
        """Before the first step."""
        far, no = jnp.full((), jnp.inf, dtype), jnp.zeros((), bool)
        return cls(first=far, least=far, stalled=jnp.zeros((), jnp.int32), restarted=no, flat=no)

    def after(
        self, value: jax.Array, norm: jax.Array, left: jax.Array, sound: jax.Array
    ) -> tuple["Descent", jax.Array, jax.Array]:
        """With one more step, whether to forget what was learned, and whether to end.

        Args:
          value: `[]` the objective before the step.
          norm: `[]` of its gradient.
          left: `[]` its `decrement`.
          sound: `[]` whether the value is a mean over any rows.
        """
        begun = jnp.isfinite(self.first)
        first = jnp.where(begun, self.first, value.astype(self.first.dtype))
        slack = _ULPS * float(jnp.finfo(value.dtype).eps) * jnp.abs(value)
        stalled = jnp.where(value < self.least - slack, 0, self.stalled + 1)
        # a fit without any error, or a model of the objective that has little left to gain
        flat = (value >= 0) & (value <= _EXACT * first) & begun
        flat |= (norm > 0) & (left <= _LITTLE * jnp.abs(value))
        # nothing to be seen: what was known of the slope before stays so
        flat = jnp.where((norm > 0) & ~jnp.isfinite(left), self.flat, flat & sound)
        # memory of a long way may mislead the search: it begins anew once
        long = stalled >= _STALLED
        restart = long & ~self.restarted
        descent = Descent(
            first=first,
            least=jnp.minimum(self.least, value).astype(self.least.dtype),
            stalled=jnp.where(restart, 0, stalled),
            restarted=self.restarted | restart,
            flat=flat,
        )
        return descent, restart, (norm == 0) | (long & self.restarted)
