"""What `experiments.repair` fits for one model, and which turns each fit may see.

=========  ==========================  ==========================================================
part       designs                     used for
=========  ==========================  ==========================================================
fitting    random, heuristic           predictors of the game, follower, leaders, candidate sets
choosing   first 2/3 of the factorial  choice of the action set, need head, second predictors
           episodes
held out   the other factorial ones    confirmation and every reported figure
later      later                       drift, off-policy estimates
=========  ==========================  ==========================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.govern import __main__ as govern
from experiments.govern.arms import FIRST_ACTION, Fitted
from stackjax.agents.control._controller import Controller, Decision
from stackjax.agents.evaluation._replay import Factorial, Replay, factorial, replay
from stackjax.agents.game._state import State
from stackjax.agents.log._cell_scores import CellScores
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._outcomes import Outcomes, outcomes
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.repair._cells import STRATA
from stackjax.agents.repair._choice import ActionSetChoice
from stackjax.agents.repair._need_head import NeedHead
from stackjax.agents.surrogate._fit import fit_surrogate
from stackjax.agents.surrogate._predictors import Surrogate

SAMPLE = 1200  # choosing rows that the second predictors are fitted on, beside the fitting ones


@dataclasses.dataclass(frozen=True)
class Studied:
    """One model's turns and what was made of them.

    Attributes:
      fitting: records. choosing: records. held_out: records. later: records.
      table: the held-out turns under all cells.
      fitted: predictors (concave and convex), reference, follower, leaders.
      free: predictors without a shape, fitted on more turns; for calibration and sessions.
      choice: the action set, once chosen.
      head: the need head, once fitted.
      plays: the governed arms' paths through the held-out turns, once played.
    """

    fitting: list[TurnRecord]
    choosing: list[TurnRecord]
    held_out: list[TurnRecord]
    later: list[TurnRecord]
    table: Factorial
    fitted: Fitted
    free: Surrogate
    choice: ActionSetChoice | None = None
    head: NeedHead | None = None
    plays: dict[str, Played] = dataclasses.field(default_factory=dict)

    @property
    def chosen(self) -> ActionSetChoice:
        assert self.choice is not None
        return self.choice

    @property
    def reference(self) -> tuple[float, float, float]:
        """The baseline's cell: Conservative."""
        return self.fitted.reference_response

    def log(self, records: Sequence[TurnRecord]) -> Outcomes:
        """Records as outcomes."""
        return outcomes(records)

    @property
    def everything(self) -> sj.ActionSet:
        """All cells in every stratum: no repair but rounding to the adapter's levels."""
        cells = jnp.asarray(self.table.cells, jnp.float32)
        return sj.ActionSet(jnp.tile(cells[None], (STRATA, 1, 1)))

    def controllers(self) -> dict[str, Controller]:
        """The governed arms, each leader raw, repaired, and with the need head."""
        made = {}
        for name, controller in self.fitted.controllers.items():
            made[f"{name} follower, raw"] = controller.replace(actions=self.everything)
            made[f"{name} follower, repaired"] = controller.replace(actions=self.chosen.sets)
            if self.head is not None:
                sets = self.head.restrict(self.chosen.sets)
                made[f"{name} follower, repaired, need"] = controller.replace(actions=sets)
        return made


def prepare(
    records: Sequence[TurnRecord], *, seed: int, steps: int
) -> tuple[Studied, dict[str, Any]]:
    """Split the records and fit what needs fitting; also the turns of each part, to report.

    Raises:
      ValueError: a design is missing, or there are fewer than 3 complete factorial episodes.
    """
    fitting, evaluation = govern.split(records)
    later = [record for record in records if record.design == "later"]
    whole = factorial(evaluation).episodes
    if len(whole) < 3:
        raise ValueError(f"data: {len(whole)} complete factorial episodes, need at least 3")
    first = set(whole[: -(-2 * len(whole) // 3)])
    choosing = [record for record in evaluation if record.episode in first]
    held_out = [record for record in evaluation if record.episode in set(whole) - first]
    quiet = lambda name: contextlib.nullcontext()
    options = govern.Args(seed=seed, surrogate_steps=steps)
    fitted, _ = govern.fit(options, quiet, fitting, held_out)
    rows = np.random.default_rng(seed).permutation(len(choosing))[:SAMPLE]
    more = [*fitting, *(choosing[row] for row in rows)]
    free, _ = fit_surrogate(
        turn_arrays(more), key=jax.random.key(seed + 1), steps=steps, shape="free", members=4
    )
    parts = {"fitting": fitting, "choosing": choosing, "held_out": held_out, "later": later}
    table = factorial(held_out)
    studied = Studied(fitting, choosing, held_out, later, table, fitted, free)
    sizes = {
        name: {
            "rows": len(part),
            "turns": len({(record.episode, record.turn) for record in part}),
            "episodes": len({record.episode for record in part}),
        }
        for name, part in parts.items()
    }
    return studied, {
        "turns": {"all": len(records), **sizes},
        "fallbacks": sum(record.fallback is not None for record in records),
        "replayed": sum(record.replayed for record in records),
        "reference": fitted.reference_response,
    }


@dataclasses.dataclass(frozen=True)
class Played:
    """A controller's path through the held-out turns, in the order of the turns.

    Attributes:
      decisions: leaves `[T, ...]`. states: leaves `[T]`. previous: `[T, 2]`, the signals before.
      replay: tokens and correctness.
      episode: `[T]`, row of the table's episodes. turn: `[T]`, position in the episode.
      cell: `[T]`, row of the table's cells.
    """

    decisions: Decision
    states: State
    previous: np.ndarray
    replay: Replay
    episode: np.ndarray
    turn: np.ndarray
    cell: np.ndarray

    def along(self, scores: CellScores, log: Outcomes, table: Factorial) -> np.ndarray:
        """`[T]`: the cells played, in the order of the scores of the same turns."""
        names = zip((table.episodes[e] for e in self.episode), self.turn)
        cell = dict(zip(names, self.cell))
        rows = (log.records[row] for row in scores.row)
        return np.array([cell[record.episode, record.turn] for record in rows])


def play(controller: Controller, table: Factorial) -> Played:
    """Replay a controller on the table and remember what it saw and decided."""
    seen: list[tuple[Any, ...]] = []

    def policy(state: State, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        made = decide(controller, state, jnp.asarray(previous, jnp.float32))
        seen.append((made, state, previous))
        return rows_of(np.asarray(made.response), table), np.asarray(made.action)

    found = replay(table, policy, first_action=FIRST_ACTION)
    present = table.present.T
    pick = lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves])[present]
    decisions, states, previous = jax.tree.map(pick, *seen)
    turn, episode = np.nonzero(present)
    return Played(
        jax.tree.map(jnp.asarray, decisions),
        jax.tree.map(jnp.asarray, states),
        previous,
        found,
        episode,
        turn,
        found.cell.T[present],
    )


@jax.jit  # compiled once for all arms that differ in their sets only
def decide(controller: Controller, states: State, previous: jax.Array) -> Decision:
    """Decisions at N states with the signals before, `[N, 2]`."""
    return jax.vmap(controller)(states, previous)


def rows_of(responses: np.ndarray, table: Factorial) -> np.ndarray:
    """Rows of the table's cells nearest to responses `[N, 3]`."""
    apart = ((responses[:, None] - table.cells[None]) ** 2).sum(2)
    return apart.argmin(axis=1)
