"""The tuning turns, and the fixed action that is tuned on them: Conservative."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.confirmatory.turns import confirmatory
from stackjax.agents.log._log import TurnRecord, latest, read_log
from stackjax.agents.repair._cells import CellSummary

Cell = tuple[float, float, float]
MARGIN = 0.02  # of quality, wherever a fixed action is tuned
FACTORIAL_CELLS = 4  # cells of each factorial turn that the predictors see


def tuning_records(paths: Sequence[Path]) -> list[TurnRecord]:
    """The records of the logs whose item is not confirmatory."""
    records = [record for path in paths for record in latest(read_log(path).records)]
    return [record for record in records if not confirmatory(record.item)]


def fitting_sample(records: Sequence[TurnRecord], seed: int) -> list[TurnRecord]:
    """All turns taken once, and a few random cells of each turn that was run under all of them."""
    rng = np.random.default_rng(seed)
    once = [record for record in records if record.design != "factorial"]
    turns: dict[tuple[str, int], list[TurnRecord]] = {}
    for record in records:
        if record.design == "factorial":
            turns.setdefault((record.episode, record.turn), []).append(record)
    for rows in turns.values():
        once += [rows[i] for i in rng.permutation(len(rows))[:FACTORIAL_CELLS]]
    return once


def candidate_means(records: Sequence[TurnRecord]) -> dict[Cell, tuple[float, float, int]]:
    """Correctness, tokens and turns of every fixed action played on the tuning sessions."""
    rows: dict[Cell, list[TurnRecord]] = {}
    for record in records:
        if record.design == "candidate":
            rows.setdefault(record.executed, []).append(record)
    spent = lambda record: record.prompt_tokens + record.completion_tokens
    return {
        cell: (
            float(np.mean([record.correct for record in mine])),
            float(np.mean([spent(record) for record in mine])),
            len(mine),
        )
        for cell, mine in sorted(rows.items())
    }


def conservative_row(records: Sequence[TurnRecord], summary: CellSummary) -> int:
    """The row of the cheapest fixed action within `MARGIN` of the best on the tuning sessions."""
    means = candidate_means(records)
    if not means:
        raise ValueError('records: no turn of design "candidate", to tune Conservative on')
    best = max(correct for correct, _, _ in means.values())
    good = {cell: tokens for cell, (right, tokens, _) in means.items() if right >= best - MARGIN}
    cell = min(good, key=lambda name: good[name])
    return int(np.abs(summary.cells - np.array(cell)).sum(1).argmin())
