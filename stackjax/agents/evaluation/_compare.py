"""Two policies over the same turns."""

from __future__ import annotations

import numpy as np

from stackjax.agents.evaluation._replay import Replay
from stackjax.stats._bootstrap import Interval, clustered_mean, clustered_ratio


def compare(
    arm: Replay, baseline: Replay, *, seed: int, level: float = 0.95
) -> dict[str, Interval]:
    """An arm's tokens per turn and correctness, and their paired differences to the baseline.

    Args:
      arm: the policy's replay.
      baseline: the baseline's, over the same turns.
      seed: of the bootstrap.
      level: confidence level.

    Returns:
      Intervals by name: `tokens`, `correct` (per turn), `tokens_difference` and
      `correct_difference` (arm minus baseline, turn by turn), `saving` (share of the
      baseline's tokens that is saved).

    Raises:
      ValueError: the replays are not over the same turns.

    Example:
      >>> table = sj.agents.evaluation.factorial(known_world.records(20))
      >>> play = lambda cell: sj.agents.evaluation.replay(
      ...     table, sj.agents.evaluation.constant(table, cell), first_action=(0.8, 0.5)
      ... )
      >>> found = sj.agents.evaluation.compare(play((0, 1, 1)), play((1, 1, 1)), seed=0)
      >>> found["tokens_difference"].estimate, round(found["saving"].estimate, 3)
      (-110.0, 0.333)
    """
    if not np.array_equal(arm.present, baseline.present):
        raise ValueError("`arm` and `baseline` must be replays of the same turns; got others.")

    def mean(values: np.ndarray) -> Interval:
        return clustered_mean(values, arm.present, seed=seed, level=level)

    saved = (baseline.tokens - arm.tokens).sum(1)
    return {
        "tokens": mean(arm.tokens),
        "correct": mean(arm.correct),
        "tokens_difference": mean(arm.tokens - baseline.tokens),
        "correct_difference": mean(arm.correct - baseline.correct),
        "saving": clustered_ratio(saved, baseline.tokens.sum(1), seed=seed, level=level),
    }
