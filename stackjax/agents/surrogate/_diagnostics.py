"""How good the predictors are on turns that they never saw."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from stackjax._arrays.arguments import check_same_shape
from stackjax.agents.game._state import FIELDS, encode_task
from stackjax.agents.log._turns import Turns
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.agents.surrogate._shapes import OUTCOME_FIELDS


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Predicted probabilities against frequencies, in bins of equal count.

    Attributes:
      predicted: `[bins]`, mean prediction in each bin.
      observed: `[bins]`, share of right answers in each bin.
      count: `[bins]`, turns in each bin.
      error: expected calibration error, the count-weighted mean of |predicted - observed|.

    Example:
      >>> predicted, right = np.linspace(0.0, 1.0, 100), np.linspace(0.0, 1.0, 100) > 0.5
      >>> found = sj.agents.surrogate.reliability(predicted, right, bins=2)
      >>> print(found.predicted.round(3), found.observed, found.count)
      [0.247 0.753] [0. 1.] [50 50]
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    error: float


def reliability(predicted: np.ndarray, correct: np.ndarray, *, bins: int = 10) -> Reliability:
    """Calibration of probabilities `predicted: [N]` for outcomes `correct: [N]` in {0, 1}.

    Raises:
      ValueError: lengths differ, or there are fewer turns than bins.

    Example:
      >>> sure = np.full(20, 0.9)
      >>> found = sj.agents.surrogate.reliability(sure, np.arange(20) < 12, bins=1)
      >>> round(found.error, 3), len(found.count)
      (0.3, 1)
    """
    predicted, correct = np.asarray(predicted, float), np.asarray(correct, float)
    check_same_shape("[N]", predicted=predicted, correct=correct)
    if len(predicted) < bins:
        raise ValueError(f"`bins` must be at most the {len(predicted)} turns; got {bins}.")
    groups = np.array_split(np.argsort(predicted, kind="stable"), bins)
    mean = np.array([predicted[group].mean() for group in groups])
    share = np.array([correct[group].mean() for group in groups])
    count = np.array([len(group) for group in groups])
    error = float((count * np.abs(mean - share)).sum() / count.sum())
    return Reliability(mean, share, count, error)


def r_squared(predicted: np.ndarray, observed: np.ndarray) -> float:
    """`1 - sum (y - yhat)^2 / sum (y - mean y)^2`; NaN if y is constant."""
    observed, predicted = np.asarray(observed, float), np.asarray(predicted, float)
    total = ((observed - observed.mean()) ** 2).sum()
    return float(1 - ((observed - predicted) ** 2).sum() / total) if total > 0 else float("nan")


@dataclasses.dataclass(frozen=True)
class SurrogateReport:
    """Held-out quality of both predictors.

    Attributes:
      turns: held-out turns (a factorial turn counts once a cell). episodes: their episodes.
      token_r2: R^2 of tokens, turn by turn.
      token_free_r2: R^2 of a ridge regression without the surface's shape (`shape_free`): what
        convexity costs in accuracy.
      token_mae: mean absolute error in tokens.
      token_bias: mean predicted minus mean recorded tokens, over the latter.
      quality_r2: R^2 of correctness, turn by turn (0 or 1, so its ceiling is well below 1).
      quality_ceiling: R^2 of the held-out means by task type and cell, each turn predicted
        without its own episode: what a predictor that knows these means, but no more, gets.
      quality_free_r2: R^2 of a ridge regression without the surface's shape.
      quality_cell_r2: R^2 of the mean predictions by cell for the mean correctness by cell.
      quality_task_cell_r2: the same by task type and cell.
      quality_mae: mean absolute difference of probability and outcome.
      brier: mean squared error of the probability. brier_constant: the same when always
        predicting the fitting turns' mean.
      reliability: the reliability table.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(20))
      >>> found = sj.agents.surrogate.surrogate_report(known_world.surrogate(), turns, turns)
      >>> round(found.token_r2, 3), found.episodes, round(found.brier, 2)
      (1.0, 20, 0.21)
    """

    turns: int
    episodes: int
    token_r2: float
    token_free_r2: float
    token_mae: float
    token_bias: float
    quality_r2: float
    quality_ceiling: float
    quality_free_r2: float
    quality_cell_r2: float
    quality_task_cell_r2: float
    quality_mae: float
    brier: float
    brier_constant: float
    reliability: Reliability


def surrogate_report(surrogate: Surrogate, fitted: Turns, held_out: Turns) -> SurrogateReport:
    """Score the predictors on turns of episodes that they were not fitted on.

    Args:
      surrogate: the predictors.
      fitted: the turns they were fitted on, for the constant prediction.
      held_out: N turns of other episodes.

    Raises:
      ValueError: there are fewer turns than the ten bins of the reliability table.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(20))
      >>> found = sj.agents.surrogate.surrogate_report(known_world.surrogate(), turns, turns)
      >>> round(found.token_mae, 3), abs(round(found.token_bias, 3))
      (0.0, 0.0)
    """
    predict = jax.jit(jax.vmap(lambda state, response: surrogate.predict(state, response)))
    quality, tokens = (np.asarray(x, float) for x in predict(held_out.state, held_out.executed))
    correct, spent = np.asarray(held_out.correct, float), np.asarray(held_out.tokens, float)
    episode = np.asarray(held_out.episode)
    _, cell = np.unique(np.asarray(held_out.executed), axis=0, return_inverse=True)
    kind = cell.ravel() + 1000 * np.asarray(held_out.state.task)
    return SurrogateReport(
        turns=len(correct),
        episodes=len(np.unique(episode)),
        token_r2=r_squared(tokens, spent),
        token_free_r2=r_squared(shape_free(fitted, held_out, fitted.tokens), spent),
        token_mae=float(np.abs(tokens - spent).mean()),
        token_bias=float(tokens.mean() / spent.mean() - 1),
        quality_r2=r_squared(quality, correct),
        quality_ceiling=r_squared(_other_episodes_mean(correct, kind, episode), correct),
        quality_free_r2=r_squared(
            np.clip(shape_free(fitted, held_out, fitted.correct), 0, 1), correct
        ),
        quality_cell_r2=r_squared(
            group_means(quality, cell.ravel()), group_means(correct, cell.ravel())
        ),
        quality_task_cell_r2=r_squared(group_means(quality, kind), group_means(correct, kind)),
        quality_mae=float(np.abs(quality - correct).mean()),
        brier=float(((quality - correct) ** 2).mean()),
        brier_constant=float(((np.asarray(fitted.correct).mean() - correct) ** 2).mean()),
        reliability=reliability(quality, correct),
    )


def shape_free(
    fitted: Turns, held_out: Turns, target: jax.Array, *, ridge: float = 3.0
) -> np.ndarray:
    """Held-out predictions of a regression that knows nothing of concavity, `[N]`.

    Ridge regression on products of what the predictors read with the executed levels, one-hot, and
    their pairs with the third channel (tools).
    """
    levels = np.unique(np.asarray(fitted.executed))

    def design(turns: Turns) -> np.ndarray:
        encoded = np.asarray(jax.vmap(encode_task)(turns.state), float)
        read = [FIELDS.index(name) for name in OUTCOME_FIELDS]
        features = np.concatenate([encoded[:, read], encoded[:, len(FIELDS) :]], axis=1)
        hot = (np.asarray(turns.executed)[:, :, None] == levels).astype(float)
        pairs = np.einsum("nil,nk->nilk", hot[:, :2], hot[:, 2]).reshape(len(hot), -1)
        one = np.ones((len(hot), 1))
        cells = np.concatenate([one, hot.reshape(len(hot), -1), pairs], axis=1)
        both = np.concatenate([one, features], axis=1)
        return np.einsum("nf,nc->nfc", both, cells).reshape(len(hot), -1)

    a, y = design(fitted), np.asarray(target, float)
    weights = np.linalg.solve(a.T @ a + ridge * np.eye(a.shape[1]), a.T @ (y - y.mean()))
    return design(held_out) @ weights + y.mean()


def group_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mean of `values: [N]` in each group of `group: [N]`, in the order of the sorted labels."""
    _, number = np.unique(group, return_inverse=True)
    return np.bincount(number, values) / np.bincount(number)


def _other_episodes_mean(values: np.ndarray, group: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Each row's group mean without the rows of its own episode; the overall mean if none."""
    _, group = np.unique(group, return_inverse=True)
    _, own = np.unique(np.stack([group, episode]), axis=1, return_inverse=True)
    own = own.ravel()
    sums = np.bincount(group, values)[group] - np.bincount(own, values)[own]
    counts = np.bincount(group)[group] - np.bincount(own)[own]
    return np.where(counts > 0, sums / np.maximum(counts, 1), values.mean())
