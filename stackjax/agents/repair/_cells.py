"""Which grid cells may be played: the empirical action sets, and the reference cell.

Both are chosen on fitting turns only, by simple rules that carry no confidence level. Strata are
the task types, each in two: complexity up to 1/2, and above. Mean quality and tokens of a cell are
the predictors' means over all fitting states: every cell is judged on the same states, though each
was recorded on a few of them only.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stackjax.agents.game._state import State
from stackjax.agents.log._turns import Turns
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.sets._empirical import ActionSet

STRATA = 2 * len(TASK_TYPES)


def stratum(state: State) -> jax.Array:
    """Number of a state's stratum, `[]`: twice the task type, one more if it is complex.

    Example:
      >>> numbers = {name: jnp.array(0.8) for name in sj.agents.game.FIELDS}
      >>> print(sj.agents.repair.stratum(sj.agents.game.State(task=jnp.array(2), **numbers)))
      5
    """
    return 2 * state.task + (state.task_complexity > 0.5)


@dataclasses.dataclass(frozen=True)
class CellSummary:
    """The K cells of the grid on the fitting turns, over all and by the S = 12 strata.

    Attributes:
      cells: `[K, 3]`, in lexicographic order.
      count: `[K]`, recorded turns.
      measured_quality: `[K]`, share of right answers among these.
      measured_tokens: `[K]`, their mean tokens.
      quality: `[K]`, mean predicted quality over all fitting states.
      tokens: `[K]`, mean predicted tokens over all fitting states.
      stratum_quality: `[S, K]`, mean predicted quality over the states of each stratum; NaN
        without any.
      stratum_count: `[S]`, fitting states in each stratum.
    """

    cells: np.ndarray
    count: np.ndarray
    measured_quality: np.ndarray
    measured_tokens: np.ndarray
    quality: np.ndarray
    tokens: np.ndarray
    stratum_quality: np.ndarray
    stratum_count: np.ndarray


def summarise_cells(surrogate: Surrogate, turns: Turns) -> CellSummary:
    """Summarise every cell that was executed at least once in N fitting turns.

    Args:
      surrogate: predictors of quality and tokens.
      turns: N fitting turns.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, design="random"))
      >>> summary = sj.agents.repair.summarise_cells(known_world.surrogate(), turns)
      >>> print(summary.count, summary.tokens[[0, 7]], summary.quality[[0, 7]].round(3))
      [2 2 2 2 2 2 2 2] [100. 330.] [0.125 0.725]
    """
    executed = np.round(np.asarray(turns.executed, float), 6)
    cells, cell = np.unique(executed, axis=0, return_inverse=True)
    cell = cell.ravel()
    count = np.bincount(cell, minlength=len(cells))

    @jax.jit
    def predict(state: State, cells: jax.Array) -> tuple[jax.Array, jax.Array]:
        over_cells = jax.vmap(surrogate.predict, in_axes=(None, 0))
        return jax.vmap(over_cells, in_axes=(0, None))(state, cells)

    predicted = predict(turns.state, jnp.asarray(cells, jnp.float32))
    quality, tokens = (np.asarray(x, float) for x in predicted)
    strata = np.asarray(stratum(turns.state))
    by_stratum = np.full((STRATA, len(cells)), np.nan)
    for number in np.unique(strata):
        by_stratum[number] = quality[strata == number].mean(0)

    def mean(values: jax.Array) -> np.ndarray:
        return np.bincount(cell, np.asarray(values, float), len(cells)) / count

    return CellSummary(
        cells=cells,
        count=count,
        measured_quality=mean(turns.correct),
        measured_tokens=mean(turns.tokens),
        quality=quality.mean(0),
        tokens=tokens.mean(0),
        stratum_quality=by_stratum,
        stratum_count=np.bincount(strata, minlength=STRATA),
    )


def reference_cell(summary: CellSummary, *, margin: float = 0.02, support: int = 5) -> int:
    """The row of the cheapest cell within `margin` of the best mean quality.

    Args:
      summary: the cells.
      margin: quality that may be given up.
      support: recorded turns that a cell needs to be considered.

    Raises:
      ValueError: no cell has enough turns.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, design="random"))
      >>> summary = sj.agents.repair.summarise_cells(known_world.surrogate(), turns)
      >>> print(summary.cells[sj.agents.repair.reference_cell(summary, margin=0.15, support=1)])
      [1. 0. 1.]
    """
    known = summary.count >= support
    if not known.any():
        raise ValueError(
            f"`support` must be at most the turns of a cell, {summary.count.max()}; got {support}."
        )
    good = np.flatnonzero(known & (summary.quality >= summary.quality[known].max() - margin))
    return int(good[np.argmin(summary.tokens[good])])


def admissible_cells(
    summary: CellSummary, reference: int, *, margin: float = 0.05, support: int = 5
) -> np.ndarray:
    """`[S, K]` mask: the cells that may be played in each stratum; the reference, if it is empty.

    Args:
      summary: the cells.
      reference: row of the reference cell.
      margin: mean quality that a cell may lie below the reference's, at the stratum's states.
      support: recorded turns, of any stratum, that a cell needs.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, design="random"))
      >>> summary = sj.agents.repair.summarise_cells(known_world.surrogate(), turns)
      >>> mask = sj.agents.repair.admissible_cells(summary, reference=7, margin=0.2, support=1)
      >>> print(mask[2].astype(int), mask[0].astype(int))  # nobody asked a turn of stratum 0
      [0 0 0 1 0 1 0 1] [0 0 0 0 0 0 0 1]
    """
    floor = summary.stratum_quality[:, reference, None] - margin
    mask = (summary.stratum_quality >= floor) & (summary.count >= support)
    mask[:, reference] = True
    return mask


def action_sets(summary: CellSummary, admissible: np.ndarray, reference: int) -> ActionSet:
    """One action set for each stratum, stacked: actions `[S, K, 3]`.

    A cell that is not admissible is replaced by the reference, so that all sets have K rows and
    `jax.tree.map(lambda leaf: leaf[stratum(state)], sets)` is the set at a state.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, design="random"))
      >>> summary = sj.agents.repair.summarise_cells(known_world.surrogate(), turns)
      >>> mask = sj.agents.repair.admissible_cells(summary, reference=7, margin=0.2, support=1)
      >>> sj.agents.repair.action_sets(summary, mask, reference=7).actions.shape
      (12, 8, 3)
    """
    cells = np.where(admissible[..., None], summary.cells, summary.cells[reference])
    return ActionSet(jnp.asarray(cells, jnp.float32))
