"""The arms that are evaluated on recorded turns: governed ones, fixed ones, ablations."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from stackjax.agents.control._controller import Controller, Decision, greedy_cell
from stackjax.agents.evaluation._replay import Factorial, Policy, Replay, constant, replay
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.game._networks import LearnedFollower
from stackjax.agents.game._payoffs import ResourceContext, leader_utility
from stackjax.agents.game._state import FIELDS, State
from stackjax.agents.repair._cells import STRATA, CellSummary, admissible_cells, stratum
from stackjax.agents.surrogate._predictors import Surrogate

FIRST_ACTION = (0.775, 0.5)
MIDDLE = (0.5, 0.5, 0.5)
FULL = (1.0, 1.0, 1.0)
BASELINES = ("Conservative", "Middle", "Everything (1, 1, 1)")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """All that the fitting turns give."""

    surrogate: Surrogate
    summary: CellSummary
    reference: int
    admissible: np.ndarray
    actions: sj.ActionSet
    learned: LearnedFollower
    contexts: ResourceContext
    strata: np.ndarray
    controllers: dict[str, Controller]

    @property
    def reference_response(self) -> tuple[float, float, float]:
        c, p, u = (float(x) for x in self.summary.cells[self.reference])
        return c, p, u


def recorded_replays(
    fitted: Fitted, table: Factorial
) -> tuple[dict[str, Replay], dict[str, Any], str]:
    """Every arm played through the factorial records, and what projection cost the leaders."""
    governed = {name: Governed(made, table) for name, made in fitted.controllers.items()}
    replays = {
        name: replay(table, policy, first_action=FIRST_ACTION)
        for name, policy in policies(fitted, table, governed).items()
    }
    prices = {name: policy.price() for name, policy in governed.items()}
    turns, episodes = int(table.present.sum()), len(table.episodes)
    return (
        replays,
        prices,
        (
            f"recorded turns, exact matching: each of {turns} held-out turns of {episodes} "
            f"episodes was run under all {len(table.cells)} cells, so every decision of every arm "
            "has its own record; no weights"
        ),
    )


def policies(fitted: Fitted, table: Factorial, governed: dict[str, Governed]) -> dict[str, Policy]:
    """The arms of the recorded evaluation, by name."""
    cells = fitted.summary.cells
    best, by_stratum = best_cells(fitted)
    rows = np.array([table.cell(cell) for cell in cells[by_stratum]])

    def lookup(state: State, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rows[np.asarray(stratum(state))], np.full(previous.shape, np.nan)

    arms = {
        "Conservative": constant(table, fitted.reference_response),
        "Middle": constant(table, MIDDLE),
        "Stackelberg, learned follower": governed["learned"],
        "Stackelberg, rational follower": governed["rational"],
        "Stackelberg, heuristic executor": heuristic(governed["learned"], table, fitted.actions),
        "Best cell": constant(table, cells[best]),
        "Best cell by stratum": lookup,
        "Direct control": direct(fitted.controllers["rational"], table),
    }
    if fitted.reference_response != FULL:
        arms[BASELINES[2]] = constant(table, FULL)
    return arms


class Governed:
    """A controller as a policy over the table's cells; remembers its decisions."""

    def __init__(self, controller: Controller, table: Factorial) -> None:
        self._jitted = jax.jit(jax.vmap(controller))
        self._table = table
        self._decisions: list[Decision] = []

    def decide(self, state: State, previous: np.ndarray) -> Decision:
        """Decisions for E episodes, not remembered."""
        return self._jitted(state, jnp.asarray(previous, jnp.float32))

    def __call__(self, state: State, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cells and signals for E episodes; called once a turn."""
        made = self.decide(state, previous)
        self._decisions.append(made)
        return rows_of(made.response, self._table), np.asarray(made.action)

    def price(self) -> dict[str, Any]:
        """Leader's utility before and after projection, over the turns that were played."""
        present = self._table.present.T
        made = jax.tree.map(lambda *x: np.stack(x).astype(float)[present], *self._decisions)
        return {
            "turns": len(made.utility),
            "utility_before": made.utility_before.mean(),
            "utility_after": made.utility.mean(),
            "price": (made.utility_before - made.utility).mean(),
            "distance_mean": made.distance.mean(),
            "distance_max": made.distance.max(),
            "converged": made.converged.mean(),
            "action_mean": made.action.mean(0),
            "action_std": made.action.std(0),
            "answer_mean": made.answer.mean(0),
        }


def heuristic(leader: Governed, table: Factorial, actions: sj.ActionSet) -> Policy:
    """The leader trained on the learned follower, answered by the executor it was learned from."""
    executor = HeuristicExecutor()
    repair = jax.jit(
        jax.vmap(lambda r, row: sj.project(r, jax.tree.map(lambda x: x[row], actions)).action)
    )

    def policy(state: State, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        signals = np.asarray(leader.decide(state, previous).action, float)
        answers = []
        for e, (q, alpha) in enumerate(signals):
            seen = {name: float(getattr(state, name)[e]) for name in FIELDS}
            stream = random.Random(f"{table.episodes[e]}-{seen['turn_index']}")
            answers.append(executor.respond((q, alpha), seen, stream))
        cells = repair(jnp.asarray(answers, jnp.float32), stratum(state))
        return rows_of(cells, table), signals

    return policy


def direct(controller: Controller, table: Factorial) -> Policy:
    """The admissible cell with the highest predicted leader's utility, set without incentives."""
    decide = jax.jit(jax.vmap(lambda state, before: greedy_cell(controller, state, before)))

    def policy(state: State, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = decide(state, jnp.asarray(previous))
        return rows_of(cells, table), np.full(previous.shape, np.nan)

    return policy


def by_task(replays: dict[str, Replay], table: Factorial) -> dict[str, Any]:
    """Turns, tokens per turn and correctness of every arm by task type."""
    kinds = np.full(table.present.shape, "", dtype=object)
    for e, tasks in enumerate(table.tasks):
        kinds[e, : len(tasks)] = tasks
    return {
        task: {
            name: {
                "turns": int((kinds == task).sum()),
                "tokens": arm.tokens[kinds == task].mean(),
                "correct": arm.correct[kinds == task].mean(),
            }
            for name, arm in replays.items()
        }
        for task in sorted(set(kinds[table.present]))
    }


def rows_of(responses: jax.Array, table: Factorial) -> np.ndarray:
    """Rows of the table's cells for responses `[E, 3]`."""
    return np.array([table.cell(response) for response in np.asarray(responses)])


@jax.jit
def cell_utilities(contexts: ResourceContext, cells: jax.Array) -> jax.Array:
    """The leader's utility `[N, K]` of N contexts at K cells `[K, 3]`, its signal as it was."""
    one = lambda x, cell: leader_utility(x.previous, cell, x)
    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(contexts, cells)


def best_cells(fitted: Fitted) -> tuple[int, np.ndarray]:
    """Cells with the highest mean predicted leader's utility: one for all turns, `[S]` by stratum.

    Each is taken among the cells that the action set's rule admits, applied to all turns or to
    those of the stratum. Rows of the summary.
    """
    summary = fitted.summary
    cells = jnp.asarray(summary.cells, jnp.float32)

    utility = np.asarray(cell_utilities(fitted.contexts, cells), float)
    sums = np.stack([utility[fitted.strata == number].sum(0) for number in range(STRATA)])
    overall = dataclasses.replace(summary, stratum_quality=summary.quality[None])
    admitted = admissible_cells(overall, fitted.reference)[0]
    best = int(np.argmax(np.where(admitted, utility.mean(0), -np.inf)))
    return best, np.argmax(np.where(fitted.admissible, sums, -np.inf), axis=1)
