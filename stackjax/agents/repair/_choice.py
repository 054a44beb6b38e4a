"""What a set of actions must meet, what was found of each, and which was chosen."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_count, check_within
from stackjax.agents.repair._candidates import (
    Candidate,
)
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.sets._empirical import ActionSet


@dataclasses.dataclass(frozen=True)
class Requirements:
    """What an action set must be shown to do.

    Attributes:
      margin: how far its quality (share of right answers) may lie below the baseline's.
      max_failure: largest share of turns without an answer.
      level: probability that all bounds of a selection, or of a confirmation, hold together.
      support: recorded turns that a member needs in each task type in which it is played.

    Raises:
      TypeError: a number is of the wrong kind.
      ValueError: one is out of its range: margin and max_failure in [0, 1], level in (0, 1),
        support at least 1.

    Example:
      >>> sj.agents.repair.Requirements(margin=0.02).met(quality_low=-0.03, failure_high=0.0)
      False
    """

    margin: float = 0.05
    max_failure: float = 0.1
    level: float = 0.95
    support: int = 10

    def __post_init__(self) -> None:
        check_within("margin", self.margin, "[0, 1]")
        check_within("max_failure", self.max_failure, "[0, 1]")
        check_within("level", self.level, "(0, 1)")
        check_count("support", self.support)

    def met(self, quality_low: float, failure_high: float) -> bool:
        """Whether a lower bound of the quality difference and an upper one of failures suffice."""
        return bool(quality_low >= -self.margin and failure_high <= self.max_failure)


@dataclasses.dataclass(frozen=True)
class Judged:
    """One candidate, over the turns that it was judged on.

    Attributes:
      candidate: the region.
      task: the task type it was judged for; None for all together.
      quality: its share of right answers minus the baseline's. quality_low: lower bound.
      failure: its share of turns without an answer. failure_high: upper bound.
      tokens: its tokens a turn minus the baseline's. tokens_high: upper bound.
      support: recorded turns of its least recorded member, where it is one.
      passes: whether it meets the requirements.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(60))
      >>> one = sj.agents.repair.select_action_set(log, baseline=(1, 1, 1)).judged[0]
      >>> print(one.candidate.name, one.passes, round(one.quality, 3), one.tokens)
      [0, (0, 0, 0)] False -0.608 -230.0
    """

    candidate: Candidate
    task: str | None
    quality: float
    quality_low: float
    failure: float
    failure_high: float
    tokens: float
    tokens_high: float
    support: int
    passes: bool


@dataclasses.dataclass(frozen=True)
class ActionSetChoice:
    """The sets, and how they were chosen.

    Attributes:
      cells: `[K, 3]`.
      baseline: row of the baseline's cell, which every set holds.
      members: `[12, K]` booleans: what may be played in each of the controller's strata.
      reasons: for each of the six task types, why its sets are what they are.
      judged: every candidate.
      requirements: what was asked.
      turns: turns that the choice rests on. episodes: their episodes.
      seen: model, seed and name of the episodes in its log: a confirmation needs others.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(60))
      >>> asked = sj.agents.repair.Requirements(margin=0.4)
      >>> choice = sj.agents.repair.select_action_set(log, baseline=(1, 1, 1), requirements=asked)
      >>> choice.fallen_back[:2], choice.sets.actions.shape
      (('casual_chat', 'text_writing'), (12, 8, 3))
    """

    cells: np.ndarray
    baseline: int
    members: np.ndarray
    reasons: tuple[str, ...]
    judged: tuple[Judged, ...]
    requirements: Requirements
    turns: int
    episodes: int
    seen: frozenset[tuple[str, int, str]] = frozenset()

    @property
    def sets(self) -> ActionSet:
        """One set for each stratum, `[12, K, 3]`; the baseline's cell stands for other cells."""
        cells = np.where(self.members[..., None], self.cells, self.cells[self.baseline])
        return ActionSet(jnp.asarray(cells, jnp.float32))

    @property
    def fallen_back(self) -> tuple[str, ...]:
        """The task types in which only the baseline's action is left."""
        alone = (self.members.sum(1) == 1).reshape(-1, 2).all(1)
        return tuple(task for task, only in zip(TASK_TYPES, alone) if only)


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """The chosen sets, or a policy on them, on other turns.

    Attributes:
      quality: share of right answers minus the baseline's. quality_low: lower bound.
      failure: share of turns without an answer. failure_high: upper bound.
      tokens: tokens a turn minus the baseline's. tokens_high: upper bound.
      baseline_tokens: the baseline's tokens a turn.
      confirmed: whether the bounds, which hold together at the requirements' level, meet them; not
        where a cell is played of which the log has no turn.
      turns: turns used. episodes: their episodes.

    Example:
      >>> found = sj.agents.repair.Confirmation(
      ...     quality=-0.01, quality_low=-0.04, failure=0.0, failure_high=0.02, tokens=-40.0,
      ...     tokens_high=-30.0, baseline_tokens=300.0, confirmed=True, turns=200, episodes=40,
      ... )
      >>> found.confirmed
      True
    """

    quality: float
    quality_low: float
    failure: float
    failure_high: float
    tokens: float
    tokens_high: float
    baseline_tokens: float
    confirmed: bool
    turns: int
    episodes: int
