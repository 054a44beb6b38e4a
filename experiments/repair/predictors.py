"""Predictors of `experiments.repair`: held-out quality, probes, calibration."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.repair.fit import Studied
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.surrogate._calibration import check_drift, fit_calibration
from stackjax.agents.surrogate._calibration_maps import Kind
from stackjax.agents.surrogate._diagnostics import group_means, r_squared, surrogate_report
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.agents.surrogate._probes import Probe, probe

MAPS: tuple[tuple[str, int, Kind], ...] = (
    ("tokens", 1, "linear"),
    ("tokens", 1, "isotonic"),
    ("quality", 0, "logistic"),
)


def predicted(surrogate: Surrogate, turns: Turns) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a right answer and tokens of N recorded turns."""
    both = jax.jit(jax.vmap(surrogate.predict))(turns.state, turns.executed)
    return np.asarray(both[0], float), np.asarray(both[1], float)


def predictors(studied: Studied) -> dict[str, Any]:
    """Held-out quality of both kinds of predictors, and what binary outcomes allow."""
    held_out = turn_arrays(studied.held_out)
    fitted = turn_arrays(studied.fitting)
    found = {}
    for name, surrogate in surrogates(studied).items():
        report = surrogate_report(surrogate, fitted, held_out)
        _, tokens = predicted(surrogate, held_out)
        kind = np.array([f"{r.task} {r.executed}" for r in studied.held_out])
        found[name] = {
            **dataclasses.asdict(report),
            "token_task_cell_r2": r_squared(
                group_means(tokens, kind), group_means(np.asarray(held_out.tokens, float), kind)
            ),
        }
    return found


def surrogates(studied: Studied) -> dict[str, Surrogate]:
    """The game's predictors, and those without a shape."""
    return {"concave": studied.fitted.surrogate, "free": studied.free}


def probes(studied: Studied, seed: int) -> list[Probe]:
    """The three probes over all factorial turns, and by task type."""
    return list(probe(studied.log([*studied.choosing, *studied.held_out]), seed=seed))


def calibration(studied: Studied, seed: int) -> dict[str, Any]:
    """Maps fitted on held-out turns, before and after; and whether they hold on the later turns."""
    fresh, later = turn_arrays(studied.held_out), None
    if len({record.episode for record in studied.later}) >= 5:
        later = turn_arrays(studied.later)
    found: dict[str, Any] = {}
    for name, surrogate in surrogates(studied).items():
        now = predicted(surrogate, fresh)
        after = predicted(surrogate, later) if later is not None else None
        parts = {}
        for target, column, kind in MAPS:
            observed = lambda turns, at=column: np.asarray(
                turns.tokens if at else turns.correct, float
            )
            old = fit_calibration(
                now[column],
                observed(fresh),
                np.asarray(fresh.episode),
                kind=kind,
                folds=min(5, len(np.unique(fresh.episode))),
                seed=seed,
            )
            entry = {
                "before": old.before,
                "after": old.after,
                "mae_gain": old.mae_gain,
                "mse_gain": old.mse_gain,
            }
            if after is not None and later is not None:
                entry["drift"] = check_drift(
                    old, after[column], observed(later), np.asarray(later.episode), seed=seed
                )
            parts[f"{target}, {kind}"] = entry
        found[name] = parts
    return found
