"""What a fit reports of its steps."""

import jax
from flax import struct

from stackjax._arrays.arguments import concrete
from stackjax._arrays.typing import PyTree


class History(struct.PyTreeNode):
    """How a fit went, one entry a step (T steps); after a stop the last entry is repeated.

    Attributes:
      utility: `[T]` what was maximised, over the step's minibatch: the leader's mean utility, or
        minus the follower's loss. Without the price of constraints.
      gradient_norm: `[T]` Euclidean norm of the gradient.
      converged: `[T]` share of the minibatch whose follower's solver converged; the others are
        left out. It says nothing of the fit: `settled` does.
      validation: `[T]` the utility on the validation rows when it was last taken; NaN before the
        first time, and throughout without validation.
      constraints: `[T, k]` the averages that are to be at least 0, over the minibatch.
      multipliers: `[T, k]` their prices.
      steps: `[]` steps that were taken before the fit stopped; T if it ran to its end.
      diverged: `[]` bool: it stopped because the utility, the gradient or a parameter was no
        longer a finite number, or because in 20 steps on end no follower converged (such steps
        change nothing).
      best: `[]` the module that is returned is the one after so many steps: `steps`; or the last
        at which all was finite and some follower converged, if the fit diverged; or, with a
        validation set, the one whose utility on it was highest.
      settled: `[]` bool: in the last tenth of the steps there was on average no slope left to
        climb, beyond the noise of minibatches and 1e-4 of the steepest, and no constraint was
        broken, nor had room that it was still paid for. False where the loss still falls,
        however slowly: take more steps, or larger ones. False too where there was never a slope,
        as where all answers stand at a bound: the fit returns what it was given.
      noise: what a likelihood learned of a follower beside the returned module: the standard
        deviations, like one response, or the temperature, `[]`; None where nothing was.

    Example:
      >>> rule = jax.tree_util.Partial(lambda w, action, context: w * action, jnp.array(0.0))
      >>> seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
      >>> how = {"estimator": sj.fit.BehaviourCloning(), "steps": 20, "key": jax.random.key(0)}
      >>> _, history = sj.fit_follower(rule, seen, **how)
      >>> print(history.utility.shape, history.converged[-1], history.settled)  # still falling
      (20,) 1.0 False
    """

    utility: jax.Array
    gradient_norm: jax.Array
    converged: jax.Array
    validation: jax.Array
    constraints: jax.Array
    multipliers: jax.Array
    steps: jax.Array
    diverged: jax.Array
    best: jax.Array
    settled: jax.Array
    noise: PyTree = None

    def __repr__(self) -> str:
        if getattr(self.steps, "ndim", 1) or not concrete(self):
            return f"History(steps={self.steps!r}, ...)"  # traced, or of several fits
        first, last = (float(self.utility[i]) for i in (0, -1))
        flags = f"settled={bool(self.settled)}, diverged={bool(self.diverged)}"
        return (
            f"History(steps={int(self.steps)}, utility from {first:.6g} to {last:.6g}, "
            f"converged={float(self.converged[-1]):.4g}, {flags})"
        )
