"""What a fit reports of its steps, and of its end."""

import enum
import warnings
from typing import Any

import jax
import numpy as np
from flax import struct

from stackjax._arrays.arguments import concrete
from stackjax._arrays.status import with_advice
from stackjax._arrays.typing import PyTree


class FitStatus(enum.StrEnum):
    """How a fit ended. Equal to the string that it prints as; `advice` says what to try next.

    | status | meaning |
    |---|---|
    | 'converged' | no slope is left: `History.fit_converged` |
    | 'validation' | stopped, since the utility on the validation rows no longer rose |
    | 'improving' | all steps were taken, and the utility still rose in the last quarter |
    | 'plateau' | the utility no longer rises, and there is a slope: a decayed rate, or noise |
    | 'no slope' | the last gradient was exactly zero, and the fit is not perfect |
    | 'diverged' | see `History.diverged` |

    Example:
      >>> print(sj.fit.FitStatus.IMPROVING, "-", sj.fit.FitStatus.IMPROVING.advice)
      improving - take more steps, or raise the learning rate
    """

    CONVERGED = "converged"
    VALIDATION = "validation"
    IMPROVING = "improving"
    PLATEAU = "plateau"
    NO_SLOPE = "no slope"
    DIVERGED = "diverged"

    @property
    def advice(self) -> str:
        """What to try next."""
        return _ADVICE[self]


_ADVICE = {
    FitStatus.CONVERGED: "nothing is left to do",
    FitStatus.VALIDATION: "nothing is left to do, unless `patience` is short",
    FitStatus.IMPROVING: "take more steps, or raise the learning rate",
    FitStatus.PLATEAU: "take more steps, use larger batches, or give inputs units of about one",
    FitStatus.NO_SLOPE: "start from parameters at which responses are inside of their set",
    FitStatus.DIVERGED: "lower the learning rate, or bound what the module returns",
}
# A rise counts from this part of all that the fit gained, and of so many standard errors.
_RISE, _ERRORS = 1e-3, 3.0


class History(struct.PyTreeNode):
    """How a fit went, one entry a step (T steps); after a stop the last entry is repeated.

    Attributes:
      utility: `[T]` what was maximised, over the step's minibatch: the leader's mean utility, or
        minus the follower's loss. Without the price of constraints.
      gradient_norm: `[T]` Euclidean norm of the gradient.
      converged: `[T]` share of the minibatch whose follower's solver converged; the others are
        left out. It says nothing of the fit: `fit_converged` does.
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
      fit_converged: `[]` bool: in the last tenth of the steps there was on average no slope left to
        climb, beyond the noise of minibatches and 1e-4 of the steepest, and no constraint was
        broken, nor had room that it was still paid for. Of the default quasi-Newton method: its
        model of the objective promises no more than 1e-4 of it, in whatever units parameters are,
        or the objective is 1e-11 of the first. False where the loss still falls, however slowly,
        and where the gradient is exactly zero, as where all answers stand at a bound. `status` has
        the reason.
      noise: what a likelihood learned of a follower beside the returned module: the standard
        deviations, like one response, or the temperature, `[]`; None where nothing was.

    Example:
      >>> rule = jax.tree_util.Partial(lambda w, action, context: w * action, jnp.array(0.0))
      >>> seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
      >>> how = {"estimator": sj.fit.BehaviourCloning(), "steps": 20, "key": jax.random.key(0)}
      >>> _, history = sj.fit_follower(rule, seen, **how)
      >>> print(history.utility.shape, history.converged[-1], history.fit_converged)
      (20,) 1.0 True
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
    fit_converged: jax.Array
    noise: PyTree = None

    @property
    def status(self) -> Any:
        """How it ended: a `FitStatus`, of several fits at once an array of strings.

        On the host, outside of `jax.jit`; `print` shows it with what to try next.
        """
        tables = (self.steps, self.utility, self.gradient_norm, self.validation)
        tables = [np.asarray(table) for table in (*tables, self.diverged, self.fit_converged)]
        if not tables[0].ndim:
            return _status(*tables)
        flat = [table.reshape(-1, *table.shape[tables[0].ndim :]) for table in tables]
        found = [str(_status(*one)) for one in zip(*flat)]
        return np.array(found).reshape(tables[0].shape)

    def __repr__(self) -> str:
        if getattr(self.steps, "ndim", 1) or not concrete(self):
            return f"History(steps={self.steps!r}, ...)"  # traced, or of several fits
        first, last = (float(self.utility[i]) for i in (0, -1))
        return (
            f"History(steps={int(self.steps)}, utility from {first:.6g} to {last:.6g}, "
            f"converged={float(self.converged[-1]):.4g}): {with_advice(self.status)}"
        )


def _status(
    steps: Any, utility: Any, norm: Any, validation: Any, diverged: Any, converged: Any
) -> FitStatus:
    steps = int(steps)
    if diverged:
        return FitStatus.DIVERGED
    if not converged and not norm[max(steps, 1) - 1] > 0:
        return FitStatus.NO_SLOPE
    if converged:
        return FitStatus.CONVERGED
    if steps < len(utility) and not np.isnan(validation).all():
        return FitStatus.VALIDATION
    return FitStatus.IMPROVING if _rises(utility[:steps]) else FitStatus.PLATEAU


def _rises(utility: Any) -> bool:
    """Whether the last quarter is above the one before, beyond the noise of minibatches."""
    quarter = len(utility) // 4
    if quarter < 2:
        return True  # too few to say that it does not
    utility = np.asarray(utility, float)
    last, before = utility[-quarter:], utility[-2 * quarter : -quarter]
    # of single steps, which noise moves and a path does not
    steps = np.concatenate([before, last])
    spread = np.std(steps[1:] - steps[:-1]) / 2**0.5
    error = spread * (2 / quarter) ** 0.5
    gained = np.nanmax(utility) - utility[0]
    return bool(last.mean() - before.mean() > max(_ERRORS * error, _RISE * gained))


def warn_of(history: History) -> None:
    """Warns, on the host, of a fit that ended too early or did not move."""
    if not concrete(history) or history.steps.ndim:
        return
    status = history.status
    if status is FitStatus.IMPROVING or status is FitStatus.NO_SLOPE:
        meaning = {
            FitStatus.IMPROVING: f"the utility still rose after {int(history.steps)} steps",
            FitStatus.NO_SLOPE: "the gradient is exactly zero, as with all responses at a bound",
        }[status]
        warnings.warn(f"The fit did not converge: {meaning}; {status.advice}.", stacklevel=3)
