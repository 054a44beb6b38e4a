"""Values of `experiments.repair`: off-policy estimates, and sessions on the predictors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.govern.arms import FIRST_ACTION, FULL, MIDDLE
from experiments.repair.fit import Studied, decide, rows_of
from stackjax.agents.control._environment import SurrogateSession, scripts_of
from stackjax.agents.evaluation._off_policy import off_policy
from stackjax.agents.log._cell_scores import cell_scores
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.surrogate._diagnostics import r_squared
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.stats._bootstrap import Interval


def estimates(studied: Studied, seed: int, *, draws: int = 200) -> dict[str, Any]:
    """Off-policy estimates from the later turns, and from random logs beside the truth.

    The latter are drawn out of the held-out factorial turns, whose outcomes are all known.
    """
    found: dict[str, Any] = {"later": {}, "drawn from factorial": {}}
    made = studied.controllers()
    arms = {name: made[name] for name in made if name.startswith("learned")}
    held_out = studied.log(studied.held_out)
    scores = cell_scores(held_out)
    turns = turn_arrays([held_out.records[row] for row in scores.row])
    rows: dict[str, np.ndarray] = {
        name: studied.plays[name].along(scores, held_out, studied.table) for name in arms
    }
    base = held_out.row(studied.reference)
    rows["Conservative"] = np.full(len(scores), base)
    grid = predict_grid(studied.free, turns, scores.cells)
    for name, cells in rows.items():
        found["drawn from factorial"][name] = _against_truth(scores, cells, grid, seed, draws)
    if len({record.episode for record in studied.later}) < 2:
        return found
    later = studied.log(studied.later)
    if not np.array_equal(later.cells, studied.table.cells):
        return found  # a cell was never drawn: the later turns say nothing about it
    arrays = turn_arrays(studied.later)
    grid = predict_grid(studied.free, arrays, later.cells)
    row = np.arange(len(later))
    before = jnp.tile(jnp.asarray(FIRST_ACTION, jnp.float32), (len(later), 1))
    for name in rows:
        if name == "Conservative":
            played = np.full(len(later), later.row(studied.reference))
        else:
            played = rows_of(
                np.asarray(decide(arms[name], arrays.state, before).response), studied.table
            )
        both = {}
        for target, outcome in ((0, later.correct), (1, later.tokens)):
            both[("correct", "tokens")[target]] = off_policy(
                outcome,
                later.propensity,
                (later.cell == played).astype(float),
                later.episode,
                seed=seed,
                predicted=grid[target][row, later.cell],
                predicted_target=grid[target][row, played],
            )
        found["later"][name] = both
    return found


def environment_probe(studied: Studied, seed: int, *, sessions: int = 512) -> dict[str, Any]:
    """Sessions on the predictors under fixed cells, beside the recorded ones."""
    records = [*studied.choosing, *studied.held_out]
    scripts = scripts_of(records)
    length = scripts.script.task.shape[1]
    found: dict[str, Any] = {"turns": length, "sessions": sessions}
    keys = jax.random.split(jax.random.key(seed), sessions)
    cells = {"Conservative": studied.reference, "Middle": MIDDLE, "Full": FULL}
    for forget in (False, True):
        env = SurrogateSession(studied.free, scripts, forget=forget)
        run = jax.jit(
            jax.vmap(lambda key, cell, env=env: _session(env, key, cell, length), (0, None))
        )
        for name, cell in cells.items():
            result = run(keys, jnp.asarray(cell, jnp.float32))
            taken = np.asarray(result.taken)
            tokens, correct = np.asarray(result.tokens), np.asarray(result.correct)
            entry = {
                "tokens": tokens.sum() / taken.sum(),
                "correct": correct.sum() / taken.sum(),
                "by_turn": (tokens.sum(0) / np.maximum(taken.sum(0), 1)).tolist(),
                "linear_r2": _cumulative_r2(tokens, taken),
            }
            if not forget:
                entry["recorded"] = _recorded(records, cell)
            found[name + (", compaction" if forget else "")] = entry
    return found


def _session(env: SurrogateSession, key: jax.Array, cell: jax.Array, length: int) -> Any:
    first, rest = jax.random.split(key)
    _, now = env.reset(first)

    def step(now: Any, luck: jax.Array) -> tuple[Any, Any]:
        _, now, result = env.step(luck, now, cell)
        return now, result

    return jax.lax.scan(step, now, jax.random.split(rest, length))[1]


def _cumulative_r2(tokens: np.ndarray, taken: np.ndarray) -> float:
    """Mean R^2 of a straight line through a session's cumulative tokens; sessions of 4 turns on."""
    found = []
    for row, mask in zip(tokens, taken):
        if mask.sum() >= 4:
            total = np.cumsum(row[mask])
            turn = np.arange(1, len(total) + 1)
            line = np.polyval(np.polyfit(turn, total, 1), turn)
            found.append(r_squared(line, total))
    return float(np.mean(found)) if found else float("nan")


def _recorded(records: list[TurnRecord], cell: tuple[float, ...]) -> dict[str, Any]:
    rows = [record for record in records if np.allclose(record.executed, cell)]
    spent = [record.prompt_tokens + record.completion_tokens for record in rows]
    width = max(record.turn for record in rows) + 1
    names = sorted({record.episode for record in rows})
    tokens, taken = np.zeros((2, len(names), width))
    for record, amount in zip(rows, spent):
        tokens[names.index(record.episode), record.turn] = amount
        taken[names.index(record.episode), record.turn] = 1
    return {
        "tokens": np.mean(spent),
        "correct": np.mean([record.correct for record in rows]),
        "by_turn": (tokens.sum(0) / np.maximum(taken.sum(0), 1)).tolist(),
        "linear_r2": _cumulative_r2(tokens, taken > 0),
    }


def predict_grid(
    surrogate: Surrogate, turns: Turns, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted quality and tokens of every turn under every cell, `[N, K]` each."""
    over = jax.vmap(surrogate.predict, in_axes=(None, 0))
    both = jax.jit(jax.vmap(over, in_axes=(0, None)))(turns.state, jnp.asarray(cells, jnp.float32))
    return np.asarray(both[0], float), np.asarray(both[1], float)


def _judged(made: list[Interval], truth: float) -> dict[str, float]:
    """How far estimates are off, and how often an interval, where there is one, holds the truth."""
    rows = np.array(made, float).reshape(-1, 3)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return {"intervals": 0, "coverage": np.nan, "width": np.nan, "rmse": np.nan}
    estimate, low, high = rows.T
    return {
        "intervals": len(rows),
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "width": float((high - low).mean()),
        "rmse": float(((estimate - truth) ** 2).mean() ** 0.5),
    }


def _against_truth(
    scores: Any, played: np.ndarray, grid: tuple[np.ndarray, np.ndarray], seed: int, draws: int
) -> dict[str, Any]:
    """Estimates from random logs of one cell a turn, against the recorded truth."""
    turn, count = np.arange(len(scores)), len(scores.cells)
    generator = np.random.default_rng(seed)
    found = {}
    for target, values in ((0, scores.correct), (1, scores.tokens)):
        truth = values[turn, played].mean()
        names = "weighted", "self_normalised", "doubly_robust"
        made = []
        for draw in range(draws):
            cell = generator.integers(0, count, len(scores))
            match = (cell == played).astype(float)
            if match.any():
                one = off_policy(
                    values[turn, cell],
                    np.full(len(scores), 1 / count),
                    match,
                    scores.episode,
                    seed=draw,
                    predicted=grid[target][turn, cell],
                    predicted_target=grid[target][turn, played],
                )
                made.append((one.effective, *(getattr(one, name) for name in names)))
        found[("correct", "tokens")[target]] = {
            "truth": truth,
            "draws": draws,
            "without_a_match": draws - len(made),
            "effective": np.mean([one[0] for one in made]) if made else 0.0,
            **{name: _judged([one[i + 1] for one in made], truth) for i, name in enumerate(names)},
        }
    return found
