"""Off-policy estimates of the arms, made from tuning turns before the confirmatory run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.confirmatory.analysis import source_of
from experiments.confirmatory.fit import Fitted
from experiments.confirmatory.turns import Arm
from experiments.repair.values import predict_grid
from stackjax.agents.evaluation._off_policy import off_policy
from stackjax.agents.executor._adapter import executed_action
from stackjax.agents.executor._session import SessionState
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._outcomes import outcomes
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.tasks._tasks import Turn


def predictions(
    fitted: Fitted, arms: dict[str, Arm], records: Sequence[TurnRecord], *, seed: int
) -> dict[str, Any]:
    """Tokens and correctness of each arm on our own sessions, from uniformly random turns.

    What an arm would have done at each recorded state (its signal before taken as the first one)
    is compared with the cell that was drawn. The model's mean and the doubly robust estimate use
    the predictors that were fitted on these turns too, so that they may be somewhat sure of
    themselves; arms that learn as they go are estimated as they begin.
    """
    rows = [record for record in records if record.design in ("random", "later")]
    rows = [record for record in rows if source_of(record) == "own"]
    turns, log = turn_arrays(rows), outcomes(rows)
    cells = fitted.summary.cells
    index = {tuple(cell): k for k, cell in enumerate(cells)}
    drawn = np.array([index[record.executed] for record in rows])
    grid: dict[str, np.ndarray] = {}
    grid["correct"], grid["tokens"] = predict_grid(fitted.free, turns, cells)
    found: dict[str, Any] = {"turns": len(rows), "episodes": len(np.unique(log.episode))}
    at = np.arange(len(rows))
    for name, arm in arms.items():
        played = np.array([index[_decision(arm, record)] for record in rows])
        found[name] = {}
        for target, outcome in (("correct", log.correct), ("tokens", log.tokens)):
            estimate = off_policy(
                outcome,
                log.propensity,
                (drawn == played).astype(float),
                log.episode,
                seed=seed,
                predicted=grid[target][at, drawn],
                predicted_target=grid[target][at, played],
            )
            found[name][target] = {
                "model": float(grid[target][at, played].mean()),
                "doubly_robust": estimate.doubly_robust,
                "self_normalised": estimate.self_normalised,
                "effective": estimate.effective,
            }
    return found


def _decision(arm: Arm, record: TurnRecord) -> tuple[float, ...]:
    """The cell that an arm would have played at a recorded state."""
    stub = Turn(record.task, record.family, (), "", "", "word", record.state["task_complexity"], "")
    choice = arm.session()(_Recorded(record.state), stub, random.Random(record.item))
    return executed_action(choice.action)


class _Recorded(SessionState):
    """A session whose features are those of a record."""

    def __init__(self, features: dict[str, float]) -> None:
        super().__init__(1.0)
        self._features = features

    def features(self, turn: Turn) -> dict[str, float]:
        return self._features
