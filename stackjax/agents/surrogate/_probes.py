"""Probes: what one channel does to tokens and quality while the others stay (paper, section 6).

For channel j and a pair of its levels, the probe compares each turn with itself: the score of the
cells at the one level, averaged over the levels of the other channels, minus that at the other
(`cell_scores`; in a factorial log these are records, nothing is modelled).
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from stackjax.agents.log._cell_scores import CellScores, cell_scores
from stackjax.agents.log._outcomes import Outcomes
from stackjax.agents.surrogate._accuracy import interval as linearised
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.stats._bootstrap import Interval, clustered_ratio

CHANNELS = ("context", "prompt", "tools")


@dataclasses.dataclass(frozen=True)
class Probe:
    """One channel from one level to another.

    Attributes:
      channel: out of `CHANNELS`.
      task: task type; None for all turns.
      low: the lower level. high: the higher one.
      tokens: tokens a turn at `high` minus those at `low`.
      correct: the same of the share of right answers.
      elasticity: arc elasticity of tokens with respect to the level's share of the channel,
        `((T1 - T0) / (T1 + T0)) / ((r1 - r0) / (r1 + r0))`: the percent that tokens rise by, for
        each percent that the channel rises by, both relative to their midpoints. Its interval is
        linearised where an episode's estimated tokens are not positive (randomised logs), and NaN
        where the total is not.
      correct_elasticity: the same of the share of right answers; NaN where none is right.
      turns: turns compared. episodes: their episodes.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(20))
      >>> one = sj.agents.surrogate.probe(log, seed=0, by_task=False)[0]
      >>> print(one.channel, one.tokens.estimate, one.correct.estimate, one.turns)
      context 110.0 0.2 40
    """

    channel: str
    task: str | None
    low: float
    high: float
    tokens: Interval
    correct: Interval
    elasticity: Interval
    correct_elasticity: float
    turns: int
    episodes: int


def probe(
    log: Outcomes, *, seed: int, level: float = 0.95, by_task: bool = True
) -> tuple[Probe, ...]:
    """Probe every channel between its neighbouring levels, and from its least to its greatest.

    Args:
      log: turns with known propensities, over a full grid of levels.
      seed: of the intervals' bootstrap, which redraws whole episodes.
      level: confidence level of each interval.
      by_task: also for each task type that at least 3 episodes have; others are left out.

    Raises:
      ValueError: a channel is constant, the cells are not a full grid, or there are turns of fewer
        than 2 episodes.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(20))
      >>> for one in sj.agents.surrogate.probe(log, seed=0, by_task=False):
      ...     print(one.channel, one.tokens.estimate, round(one.elasticity.estimate, 3))
      context 110.0 0.256
      prompt 60.0 0.14
      tools 60.0 0.14
    """
    levels = [np.unique(log.cells[:, channel]) for channel in range(3)]
    for name, found in zip(CHANNELS, levels):
        if len(found) < 2:
            raise ValueError(f"`log` must have two levels of {name}; got {found[0]:g} only.")
    if len(log.cells) != np.prod([len(found) for found in levels]):
        raise ValueError(f"`log` must have a full grid of the levels; got {len(log.cells)} cells.")
    scores = cell_scores(log)
    groups: list[int | None] = [None]
    if by_task:
        groups += [
            task
            for task in range(len(TASK_TYPES))
            if len(np.unique(scores.episode[scores.task == task])) >= 3
        ]
    made = []
    for task in groups:
        for channel, found in enumerate(levels):
            pairs = list(itertools.pairwise(found))
            pairs += [(found[0], found[-1])] if len(found) > 2 else []
            made += [_one(scores, task, channel, pair, seed, level) for pair in pairs]
    return tuple(made)


def _one(
    scores: CellScores,
    task: int | None,
    channel: int,
    pair: tuple[float, float],
    seed: int,
    level: float,
) -> Probe:
    here = np.ones(len(scores), bool) if task is None else scores.task == task
    names, number = np.unique(scores.episode[here], return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"`log` must have turns of at least 2 episodes; got {len(names)}.")

    def totals(values: np.ndarray, at: float) -> np.ndarray:
        """`[E]`: sums over the episode's turns, at one level of the channel."""
        mean = values[here][:, scores.cells[:, channel] == at].mean(1)
        return np.bincount(number, mean, len(names))

    tokens = [totals(scores.tokens, at) for at in pair]
    correct = [totals(scores.correct, at) for at in pair]
    count = np.bincount(number).astype(float)
    step = (pair[1] - pair[0]) / (pair[1] + pair[0])
    interval = lambda over, under: clustered_ratio(over, under, seed=seed, level=level)
    right = correct[0].sum() + correct[1].sum()
    rise = (correct[1] - correct[0]).sum()
    arc = _share(tokens[1] - tokens[0], tokens[1] + tokens[0], seed, level)
    return Probe(
        channel=CHANNELS[channel],
        task=None if task is None else TASK_TYPES[task],
        low=float(pair[0]),
        high=float(pair[1]),
        tokens=interval(tokens[1] - tokens[0], count),
        correct=interval(correct[1] - correct[0], count),
        elasticity=Interval(*(value / step for value in arc)),
        correct_elasticity=float(rise / right / step) if right > 0 else float("nan"),
        turns=int(here.sum()),
        episodes=len(names),
    )


def _share(over: np.ndarray, under: np.ndarray, seed: int, level: float) -> Interval:
    """Ratio of totals `[E]`, of which the lower ones are estimates and may be negative."""
    if (under > 0).all():
        return clustered_ratio(over, under, seed=seed, level=level)
    total = under.sum()
    if not total > 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    ratio = over.sum() / total
    return linearised(ratio, (over - ratio * under) / total, np.arange(len(over)), level)
