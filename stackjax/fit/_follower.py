"""Learning a follower from its play."""

from pathlib import Path
from typing import Any

import jax
import optax

from stackjax._arrays.arguments import check_count, is_number
from stackjax._arrays.typing import PyTree
from stackjax.fit._estimators import Estimator, ResponseRegression, check_estimator
from stackjax.fit._history import History
from stackjax.fit._likelihood import Noisy, objective_of
from stackjax.fit._observations import Observations, Rows, as_rows, hold_out
from stackjax.fit._options import Options, Validation
from stackjax.fit._training import Callback, train
from stackjax.sets import FeasibleSet
from stackjax.solvers._solver import Solver

# Looks at the validation rows in a fit of full length.
_LOOKS = 100
# Folded into the key for the split, far from the numbers of steps.
_SPLIT = 2**32 - 1


def fit_follower(
    module: PyTree,
    observations: Observations,
    *,
    key: jax.Array,
    estimator: Estimator | None = None,
    response_set: FeasibleSet | None = None,
    steps: int = 1000,
    batch_size: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | jax.Array | None = None,
    solver: Solver | None = None,
    validation: float | Observations | None = None,
    patience: int = 20,
    progress: bool = False,
    callback: Callback | None = None,
    every: int | None = None,
    checkpoint: str | Path | None = None,
) -> tuple[PyTree, History]:
    """Fits a follower to its play.

    The estimators, all with the same result:

    - `ResponseRegression()`, the default: least squares on the best response;
    - `GaussianResponse()`: maximum likelihood of a best response with Gaussian errors, whose
      standard deviations are learned, and which may be censored at the bounds of a box;
    - `GibbsResponse(grid)`: maximum likelihood of a quantal response over a grid of responses;
    - `BehaviourCloning()`: least squares on a module that answers directly.

    What can be known. Of a utility, the best response reveals neither the scale nor terms without
    the response, and the play at hand only what the recorded actions moved: a follower that always
    answers at a bound, or a signal that never varied, says nothing of its slope there. Two
    utilities with the same best responses are the same to the first two estimators. So judge a
    fit by its responses and their derivatives, not by its parameters. Play answers what followers
    did at the recorded signals; signals chosen with regard to something that the context lacks
    confound their effect, as in any regression.

    Args:
      module: the follower's utility, `(action, response, context) -> scalar` (for
        `BehaviourCloning` the follower's answer, `(action, context) -> response`), an `nnx.Module`
        or other callable pytree. `nnx.Param`s are trained (in a pytree without `nnx.Variable`s,
        all floating-point leaves). Give parameters units of about one: where one is worth thousands
        and another units, L-BFGS may stop short.
      observations: the play, N rows; with gaps and weights if need be.
      key: for the minibatches and the validation split.
      estimator: how the play is explained; `ResponseRegression()` if None.
      response_set: where the follower chose from; the whole space if None. Not for
        `GibbsResponse`, whose grid says so, nor for `BehaviourCloning`.
      steps: optimiser steps.
      batch_size: rows a step, drawn with replacement; all of them, in order, if None or >= N.
      optimizer: any optax optimiser. If None, limited-memory BFGS with a line search, which ends
        where nothing is left to gain; with a `batch_size` or `learning_rate`, Adam with a cosine
        decay.
      learning_rate: what the optimiser's updates are multiplied by, a number or scalar array, so
        that a sweep over it compiles once and can be vmapped. 1 if None; of Adam with the default
        decay, its first rate, 0.01.
      solver: settings of the best response, where one is solved.
      validation: for early stopping, a share of the rows to hold out by chance, or observations of
        their own (rows of one episode or one subject belong on one side). Looked at every
        `steps / 100` steps, or at each step of the quasi-Newton method; the module that did best
        there is returned.
      patience: looks without a gain after which the fit stops.
      progress: show a progress bar.
      callback: called as `callback(step, module, history)` with what there is by then.
      every: steps between two calls of `callback`, writes of `checkpoint` or moves of the progress
        bar; a twentieth of `steps` if None.
      checkpoint: a folder for the fit's state (module, optimiser, followers' answers, history),
        written now and then. If it holds the state of this very fit, the fit goes on from
        there, and ends with the same numbers, bit for bit, as if it had not been interrupted.

    Returns:
      The fitted module, and the `History`, whose `utility` is minus the mean squared error or the
      mean log-likelihood of a row, and whose `noise` is what a likelihood learned beside the
      module. Its `status` says how the fit ended; a warning, that it ended too early.

    Raises:
      ValueError: no observations, leading axes that differ, values that are not numbers outside
        of responses, negative weights, no row left, a module with state that is not a parameter,
        with tied parameters or none, `steps`, `batch_size` or `patience` below 1, a share outside
        of (0, 1), a grid or a module's answer that is not like the responses.
      TypeError: the module is not callable, `key` is not a key, observations are not an
        `Observations`, an option is of the wrong type, or means nothing to the estimator.

    Source: arXiv 2606.23026, Section 6; the paper imitates with an adversary (eq. 15) instead.

    Example:
      >>> action = jnp.linspace(-1.0, 1.0, 64)
      >>> seen = sj.Observations(jnp.zeros(64), action, 0.5 * action)
      >>> pull = jax.tree_util.Partial(lambda w, a, r, x: -((r - w * a) ** 2), jnp.array(0.0))
      >>> fitted, _ = sj.fit_follower(pull, seen, key=jax.random.key(0))
      >>> round(float(fitted.args[0]), 2)
      0.5
    """
    rows = as_rows(observations, "observations")
    options = Options.checked(
        module, "module", key, steps, batch_size, optimizer, learning_rate, fixed=True
    )
    estimator = ResponseRegression() if estimator is None else estimator
    check_estimator(estimator)
    rows, watch = _validation(rows, validation, patience, options)
    objective, log_noise = objective_of(estimator, module, rows, response_set, solver)
    fitted, history = train(
        Noisy(module, log_noise), objective, rows, rows.response, options,
        validation=watch, progress=progress, checkpoint=checkpoint, every=every,
        callback=None if callback is None else lambda *now: callback(*_unpacked(*now)),
    )  # fmt: skip
    return _unpacked(steps, fitted, history)[1:]


def _unpacked(step: int, fitted: Noisy, history: History) -> tuple[int, PyTree, History]:
    return step, fitted.module, history.replace(noise=fitted.noise)


def _validation(
    rows: Rows, validation: Any, patience: int, options: Options
) -> tuple[Rows, Validation | None]:
    """The rows to train on, and those to look at."""
    check_count("patience", patience)
    if validation is None:
        return rows, None
    if isinstance(validation, Observations):
        held = as_rows(validation, "validation")
        parts = lambda given: (given.context, given.action, given.response)
        one = lambda given: jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), parts(given))
        if one(held) != one(rows):
            raise ValueError(
                "`validation` must hold rows like those of `observations`; got others: structure, "
                "shapes or dtypes differ."
            )
    elif is_number(validation):
        rows, held = hold_out(rows, validation, jax.random.fold_in(options.key, _SPLIT))
    else:
        raise TypeError(
            "`validation` must be a share between 0 and 1, a stackjax.Observations or None; got "
            f"{validation!r}."
        )
    every = 1 if options.quasi_newton else max(1, options.steps // _LOOKS)
    return rows, Validation(held, held.response, every=every, patience=patience)
