"""Every turn's outcome under every cell: recorded, or estimated without bias.

For cell k at turn i, with `m_ik` predicted from other episodes and `pi` the probability that the
design ran this cell at this turn,

    score_ik = m_ik + 1{k was run} (y_ik - m_ik) / pi

(augmented inverse-probability weighting; Robins, Rotnitzky and Zhao 1994). Its expectation over the
design is the outcome under k, whatever m is. In a factorial log `pi = 1` and the score is the
record itself. Means of scores over turns are means of outcomes under a cell, a set of cells, or any
policy that does not look at the outcome.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from stackjax.agents.log._outcomes import Outcomes


@dataclasses.dataclass(frozen=True)
class CellScores:
    """Scores of T turns under K cells.

    Attributes:
      cells: `[K, 3]`.
      correct: `[T, K]`, scores of correctness. tokens: `[T, K]`. failed: `[T, K]`.
      recorded: `[T, K]`, True where the cell was run at the turn.
      weight: `[T]`, `1 / pi`, by how much a record moves a score.
      row: `[T]`, a row of the outcomes at each turn, for its state.
      episode: `[T]`. task: `[T]`. complexity: `[T]`.
      incomplete: turns left out, because the design meant to run all cells and did not.

    Example:
      >>> scores = sj.agents.log.cell_scores(sj.agents.log.outcomes(known_world.records(20)))
      >>> print(scores.cells[0], scores.tokens[:, 0].mean(), scores.correct.shape)
      [0. 0. 0.] 100.0 (40, 8)
    """

    cells: np.ndarray
    correct: np.ndarray
    tokens: np.ndarray
    failed: np.ndarray
    recorded: np.ndarray
    weight: np.ndarray
    row: np.ndarray
    episode: np.ndarray
    task: np.ndarray
    complexity: np.ndarray
    incomplete: int

    def __len__(self) -> int:
        return len(self.task)


def cell_scores(log: Outcomes) -> CellScores:
    """Score every cell at every turn whose propensities are known.

    Rows without a propensity only help to predict. The prediction `m_ik` is the mean of cell k over
    the turns of the same task type in other episodes, or of any task type where there is none.

    Raises:
      ValueError: no row has a propensity, rows of one turn differ in it, one turn has one cell
        twice, or no turn is left.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(20))
      >>> print(sj.agents.log.cell_scores(log).tokens.mean(0)[[0, 7]])
      [100. 330.]
    """
    known = ~np.isnan(log.propensity)
    if not known.any():
        raise ValueError(
            "`log` must have rows with a propensity, of policies whose choices are known; got none."
        )
    _, first, turn = np.unique(log.turn[known], return_index=True, return_inverse=True)
    rows, count = np.flatnonzero(known), len(log.cells)
    recorded = np.zeros((len(first), count), int)
    np.add.at(recorded, (turn, log.cell[rows]), 1)
    share = log.propensity[rows[first]]
    mixed = np.flatnonzero(share[turn] != log.propensity[rows])
    if mixed.size or recorded.max() > 1:
        first_bad = mixed[0] if mixed.size else np.argmax(turn == recorded.max(1).argmax())
        bad = log.records[rows[first_bad]]
        what = "two propensities" if mixed.size else "one cell twice"
        raise ValueError(
            "`log` must have one propensity a turn and no cell of it twice; got "
            f"{what} in turn {bad.turn} of episode {bad.episode!r}."
        )
    whole = (share < 1) | (recorded.sum(1) == count)
    if not whole.any():
        raise ValueError(
            f"`log` must have a turn that was run under all {count} cells if the propensity is 1; "
            f"got none of {len(whole)}."
        )
    rows_of_turn = rows[first]
    scores = {}
    for name in ("correct", "tokens", "failed"):
        value = getattr(log, name)
        predicted = _other_episodes(value, log, rows_of_turn)
        score = predicted.copy()
        at = turn, log.cell[rows]
        score[at] += (value[rows] - predicted[at]) / log.propensity[rows]
        scores[name] = score[whole]
    return CellScores(
        cells=log.cells,
        **scores,
        recorded=recorded[whole] > 0,
        weight=1.0 / share[whole],
        row=rows_of_turn[whole],
        episode=log.episode[rows_of_turn][whole],
        task=log.task[rows_of_turn][whole],
        complexity=log.complexity[rows_of_turn][whole],
        incomplete=int((~whole).sum()),
    )


def _other_episodes(value: np.ndarray, log: Outcomes, rows: np.ndarray) -> np.ndarray:
    """`[T, K]`: means by cell and task type, without the turn's own episode."""
    shape = log.episode.max() + 1, log.task.max() + 1, len(log.cells)
    sums, counts = np.zeros((2, *shape))
    at = log.episode, log.task, log.cell
    np.add.at(sums, at, value)
    np.add.at(counts, at, 1.0)

    def without_own(total: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums and counts over all episodes but the turn's own; the arguments are by episode."""
        return total.sum(0) - total[log.episode[rows]], number.sum(0) - number[log.episode[rows]]

    by_task = [part[np.arange(len(rows)), log.task[rows]] for part in without_own(sums, counts)]
    by_cell = without_own(sums.sum(1), counts.sum(1))
    overall = value.mean()
    spare = np.where(by_cell[1] > 0, by_cell[0] / np.maximum(by_cell[1], 1), overall)
    return np.where(by_task[1] > 0, by_task[0] / np.maximum(by_task[1], 1), spare)
