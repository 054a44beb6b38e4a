"""Turns as they are recorded, read and aggregated."""

from stackjax.agents.log._cell_scores import CellScores, cell_scores
from stackjax.agents.log._log import LogContents, TurnLog, TurnRecord, latest, read_log
from stackjax.agents.log._outcomes import Outcomes, outcomes
from stackjax.agents.log._turns import Turns, turn_arrays

__all__ = [
    "CellScores",
    "LogContents",
    "Outcomes",
    "TurnLog",
    "TurnRecord",
    "Turns",
    "cell_scores",
    "latest",
    "outcomes",
    "read_log",
    "turn_arrays",
]
