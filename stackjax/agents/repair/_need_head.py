"""The need head: the least tool budget that a turn needs (arXiv 2606.23026, section 8).

A controller that saves on tools answers wrongly where a tool is needed. The need head keeps the
tool budget from falling below what the log shows to be necessary, by stratum (task type, and
complexity up to 1/2 or above), and never asks for more than a cap.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_shape, check_within, shown
from stackjax.agents.game._state import State
from stackjax.agents.log._cell_scores import CellScores, cell_scores
from stackjax.agents.log._outcomes import Outcomes
from stackjax.agents.repair._cells import STRATA, stratum
from stackjax.agents.repair._selection import strata
from stackjax.sets._empirical import ActionSet
from stackjax.stats._bootstrap import Interval, clustered_ratio
from stackjax.stats._simultaneous import simultaneous_bounds

TOOLS = 2  # the channel


class NeedHead(struct.PyTreeNode):
    """Least tool budget by stratum.

    Attributes:
      least: `[12]`, in [0, 1].

    Example:
      >>> head = sj.agents.repair.NeedHead(jnp.zeros(12).at[11].set(0.5))  # for hard reasoning
      >>> print(head(known_world.state(0)), head(known_world.state(1)))
      0.0 0.5
    """

    least: jax.Array

    def __call__(self, state: State) -> jax.Array:
        """The least tool budget at a state, `[]`."""
        return self.least[stratum(state)]

    def restrict(self, actions: ActionSet) -> ActionSet:
        """One set for each stratum without the cells below its need; the dearest if none is left.

        Args:
          actions: `[12, K, 3]`. A cell that is not allowed is replaced by the set's cell with the
            most tools, so that all sets keep K rows.
        """
        cells = actions.actions
        budget = cells[..., TOOLS]
        dearest = jnp.take_along_axis(cells, jnp.argmax(budget, axis=1)[:, None, None], axis=1)
        allowed = budget >= self.least[:, None] - 1e-6
        return actions.replace(actions=jnp.where(allowed[..., None], cells, dearest))


@dataclasses.dataclass(frozen=True)
class NeedReport:
    """What the need head rests on, by stratum; `-1` or NaN where a stratum has too few turns.

    Attributes:
      levels: `[U]`, the tool levels tried.
      correct: `[12, U]`, share of right answers at each level, other channels averaged.
      gain_low: `[12, U]`, lower bound of the gain over the best lower level, all bounds together
        at the level of confidence; NaN for the lowest level and
        where there are too few episodes.
      shown: `[12]`, the highest level whose gain is above the tolerance; 0 if none.
      least: `[12]`, the same, at most the cap.
      turns: `[12]`.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(60))
      >>> _, report = sj.agents.repair.fit_need(log, cap=0.5)
      >>> print(report.turns[11], report.levels, report.correct[11].round(2), report.least[11])
      60 [0. 1.] [0.28 0.58] 0.5
    """

    levels: np.ndarray
    correct: np.ndarray
    gain_low: np.ndarray
    shown: np.ndarray
    least: np.ndarray
    turns: np.ndarray


def fit_need(
    log: Outcomes,
    *,
    level: float = 0.95,
    tolerance: float = 0.0,
    cap: float = 1.0,
    among: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[NeedHead, NeedReport]:
    """Estimate the least necessary tool budget of each stratum.

    A level is necessary where it is shown, with confidence `level` over all strata and levels
    together, to be right more often than every lower one: its bounds (`simultaneous_bounds`, sign
    flips by episode) lie above 0. Measured at level 0.95 with 36 comparisons of no effect, gains of
    -1, 0 or 1 an episode: some level was called necessary in 0.01 to 0.06 of the samples of 10 to
    36 episodes. A stratum with so few episodes that even gains of one sign could be chance is left
    out: where data are thin nothing is necessary.

    Args:
      log: turns with known propensities.
      level: probability that no level is called necessary that does not help.
      tolerance: gain in the share of right answers that does not count.
      cap: the most that is asked for, in [0, 1].
      among: `[12, K]` booleans, the cells over which the other channels are averaged (those that
        may be played); all if None. A tool level without a cell there is not compared.
      seed: of the bounds' sign flips.

    Raises:
      TypeError: an option is not a number.
      ValueError: tools are constant in the log, or an option is out of its range.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(60))
      >>> head, report = sj.agents.repair.fit_need(log, cap=0.5)
      >>> float(report.shown[11]), float(head.least[11]), float(head.least[0])
      (1.0, 0.5, 0.0)
    """
    check_within("cap", cap, "[0, 1]")
    check_within("level", level, "(0, 1)")
    check_within("tolerance", tolerance, "[0, inf]")
    scores = cell_scores(log)
    levels = np.unique(scores.cells[:, TOOLS])
    if len(levels) < 2:
        raise ValueError(f"`log` must have two levels of tools; got {levels[0]:g} only.")
    among = np.ones((STRATA, len(scores.cells)), bool) if among is None else np.asarray(among, bool)
    check_shape("among", among, (STRATA, len(scores.cells)))
    number = strata(scores)
    correct = np.full((STRATA, len(levels)), np.nan)
    columns, names = [], []
    for s in range(STRATA):
        here = number == s
        if len(np.unique(scores.episode[here])) < 2:
            continue
        by_level = {}
        for u, at in enumerate(levels):
            mine = among[s] & (scores.cells[:, TOOLS] == at)
            if mine.any():
                by_level[u] = np.where(here, scores.correct[:, mine].mean(1), np.nan)
                correct[s, u] = by_level[u][here].mean()
        for u, values in by_level.items():
            for lower, other in by_level.items():
                if lower < u:
                    columns.append(values - other)
                    names.append((s, u))
    gain_low = np.full((STRATA, len(levels)), np.nan)
    columns, names = _enough(columns, names, scores.episode, level)
    if columns:
        found = simultaneous_bounds(
            np.stack(columns, axis=1),
            scores.episode,
            upper=False,
            unit=0.0,
            level=level,
            seed=seed,
        )
        for (s, u), low in zip(names, found.bound):
            gain_low[s, u] = np.fmin(gain_low[s, u], low)  # over the best lower level: the least
    needed = np.where(gain_low > tolerance, levels, 0.0)
    shown = needed.max(axis=1)
    least = np.minimum(shown, cap)
    turns = np.bincount(number, minlength=STRATA)
    report = NeedReport(levels, correct, gain_low, shown, least, turns)
    return NeedHead(jnp.asarray(least, jnp.float32)), report


def _enough(
    columns: list[np.ndarray], names: list[tuple[int, int]], episode: np.ndarray, level: float
) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """The comparisons of so many episodes that sign flips can tell: `2^-E <= (1 - level) / M`."""
    count = np.array([len(np.unique(episode[~np.isnan(column)])) for column in columns])
    kept = np.arange(len(columns))
    while len(kept) and (short := 2.0 ** -count[kept] > (1 - level) / len(kept)).any():
        kept = kept[~short]
    return [columns[i] for i in kept], [names[i] for i in kept]


class ToolMisses(NamedTuple):
    """Turns that went wrong for lack of tools.

    Attributes:
      share: of all turns: wrong as played, right with more tools and the other channels as played.
      correct: share of right answers as played.
      tokens: tokens a turn as played.

    Example:
      >>> scores = sj.agents.log.cell_scores(sj.agents.log.outcomes(known_world.records(20)))
      >>> none = np.zeros(len(scores), int)  # always the first cell: nothing of anything
      >>> found = sj.agents.repair.tool_misses(scores, none, seed=0)
      >>> found.share.estimate, found.correct, found.tokens
      (0.275, 0.15, 100.0)
    """

    share: Interval
    correct: float
    tokens: float


def tool_misses(scores: CellScores, played: np.ndarray, *, seed: int) -> ToolMisses:
    """Count low-tool misses of a policy on factorial turns.

    Args:
      scores: of a factorial log, in which every cell was run at every turn.
      played: `[T]`, the cell played at each turn.
      seed: of the interval's bootstrap.

    Raises:
      ValueError: a turn lacks a cell, or `played` is not `[T]` rows of the cells.

    Example:
      >>> scores = sj.agents.log.cell_scores(sj.agents.log.outcomes(known_world.records(20)))
      >>> for cell in (0, 7):  # nothing of anything, and everything
      ...     played = np.full(len(scores), cell)
      ...     print(sj.agents.repair.tool_misses(scores, played, seed=0).share.estimate)
      0.275
      0.0
    """
    if not scores.recorded.all():
        raise ValueError("`scores` must be of factorial turns; got a turn that lacks a cell.")
    check_shape("played", played, scores.episode.shape)
    played = np.asarray(played)
    if played.dtype.kind not in "iu" or not ((played >= 0) & (played < len(scores.cells))).all():
        raise ValueError(
            f"`played` must be integers in 0..{len(scores.cells) - 1}; got {shown(played)}."
        )
    cells, turn = scores.cells, np.arange(len(scores))
    same = (cells[:, None, :TOOLS] == cells[None, :, :TOOLS]).all(2)
    more = same & (cells[:, None, TOOLS] < cells[None, :, TOOLS])  # [played, other]
    right = scores.correct > 0.5
    missed = ~right[turn, played] & (more[played] & right).any(1)
    _, number = np.unique(scores.episode, return_inverse=True)
    share = clustered_ratio(
        np.bincount(number, missed), np.bincount(number).astype(float), seed=seed
    )
    return ToolMisses(
        share, float(right[turn, played].mean()), float(scores.tokens[turn, played].mean())
    )
