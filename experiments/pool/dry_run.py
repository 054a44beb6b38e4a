"""The analysis on the pilot, whose turns are known under all cells: exploratory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.results import environment, format_table, sha256, write_json
from experiments.pool.analysis import analyse, compare, right_of, savings
from experiments.pool.arms import LOADS, POOLS, freeze
from experiments.pool.choose import best_cell, least_price
from experiments.pool.replay import replay
from experiments.pool.sessions import CELLS
from experiments.pool.table import Table, table_of
from experiments.pool.tuning import conservative, tune, tune_table
from stackjax.agents.log._log import read_log

NOTE = (
    "Exploratory: the pilot's turns, policies from the tuning turns that were there. No test of "
    "the protocol; eight sessions make intervals rough."
)


def dry_run(data: Path, tuning: Path, *, names: tuple[str, ...], seed: int) -> dict[str, Any]:
    """The analysis of each model that has a pilot in `data` and tuning turns in `tuning`."""
    found: dict[str, Any] = {}
    for name in names:
        pilot = data / f"pilot-{name}.jsonl.gz"
        logs = [tuning / f"tune-{name}.jsonl{end}" for end in (".gz", "")]
        log = next((path for path in logs if path.exists()), None)
        if log is None or not pilot.exists():
            continue
        tuned = tune(read_log(log).records, seed=seed)
        policies = freeze(tuned, seed=seed)
        table = table_of(read_log(pilot).records)
        found[name] = {
            "tuning": {
                "turns": len(tuned.table),
                "sessions": len(np.unique(tuned.table.session)),
                "sha256": sha256(log),
                "log_loss": tuned.report(),
            },
            "conservative": {
                "cell": CELLS[policies.base],
                "right": policies.base_right,
                "tokens": policies.base_tokens,
            },
            "policies": {
                "sha256": policies.digest(),
                "prices": policies.prices,
                "caps": policies.caps,
                "stretch": policies.stretch,
                "constant": policies.constant,
                "by_load": policies.by_load,
                "learned": policies.learned,
            },
            **analyse(table, policies, seed=seed, tuning=tuned),
            "checks": {
                "other text": without_information(tuned.table, table, seed=seed),
                "nothing": nothing(table, policies.base),
            },
        }
    return found


def without_information(
    tuning: Table, table: Table, *, seed: int, penalty: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Falsification: an executor that reads other turns' text, less direct control; no gain.

    Both have their own price by load, set on the tuning turns, and no floor.
    """
    fitted = tune_table(tuning.with_other_text(seed), seed=seed, penalty=penalty)
    shuffled = table.with_other_text(seed)
    base = conservative(fitted)
    unit = fitted.value(np.full(len(tuning), base))[1]
    cross = (fitted.quality, fitted.tokens), (fitted.leader_quality, fitted.leader_tokens)
    fresh = fitted.executor(shuffled), fitted.leader(table)
    right = []
    for (q, t), (new_q, new_t) in zip(cross, fresh):
        used = lambda p, q=q, t=t: fitted.value(best_cell(q, t / unit, p))[1] / unit
        plays = {}
        for load in LOADS:
            price = least_price(used, POOLS[load], 20.0)
            plays[load] = replay(table, best_cell(new_q, new_t / unit, price), POOLS[load] * unit)
        right.append(right_of(plays))
    return compare(right[0] - right[1], table.session, seed=seed)


def nothing(table: Table, base: int) -> dict[str, float]:
    """Conservative against itself: exactly nothing is saved, and nothing is lost."""
    played = replay(table, np.full(len(table), base), None)
    plays = {name: {8: played} for name in ("main", "conservative")}
    found = savings(table, plays, seed=0)
    return {"saved": 1 - found["tokens"].estimate, "lost": -found["right"]["estimate"]}


def write(found: dict[str, Any], target: Path, *, seed: int) -> dict[str, Any]:
    """Writes the results with what they depend on."""
    written = {"note": NOTE, "seed": seed, "environment": environment(), "executors": found}
    write_json(target, written)
    return written


def text_of(found: dict[str, Any]) -> str:
    """Tables for each model."""
    return "\n\n".join([NOTE, *(_model(name, result) for name, result in found.items())])


def _model(name: str, result: dict[str, Any]) -> str:
    tuning, tests = result["tuning"], result["tests"]
    loss = tuning["log_loss"]
    lines = [
        f"{name}: {result['turns']} turns of {result['sessions']} sessions; tuned on "
        f"{tuning['turns']} turns of {tuning['sessions']} sessions",
        f"log loss, other sessions: executor {loss['executor']:.3f}, leader {loss['leader']:.3f}, "
        f"cells' means {loss['cells']:.3f}",
        f"all arms at all loads need {result['cells_a_turn']:.1f} cells a turn",
        _arms(result["arms"]),
        _compared("hypothesis", {key: tests[key] for key in ("H1", "H2")}),
        _savings(tests["H3"]),
        _compared("price of", result["prices"]),
        _compared("check", {"other text": result["checks"]["other text"]}),
        f"conservative against itself saves {result['checks']['nothing']['saved']:g}",
        "falsifiers that are true: "
        + (
            ", ".join(key for key, value in result["falsifiers"].items() if value is True) or "none"
        ),
        _rule(result["rule"]),
    ]
    return "\n".join(lines)


def _arms(arms: dict[str, Any]) -> str:
    header = ["arm: right (tokens)", "mean", *(f"load {load}" for load in LOADS)]
    rows = []
    for name, arm in arms.items():
        loads = {int(load): row for load, row in arm["loads"].items()}
        cells = [f"{100 * loads[n]['right']:.1f} ({loads[n]['tokens']:.2f})" for n in LOADS]
        rows.append([name, f"{100 * arm['right']:.1f}", *cells])
    return format_table(header, rows)


def _compared(title: str, found: dict[str, Any]) -> str:
    header = [title, "points", "low", "high", "p, one-sided", "turns for +3"]
    points = lambda value: f"{100 * value:+.1f}"
    rows = [
        [
            name,
            *(points(row[key]) for key in ("estimate", "low", "high")),
            f"{row['p_one_sided']:.3f}",
            str(row["turns_for_3_points"]),
        ]
        for name, row in found.items()
    ]
    return format_table(header, rows)


def _savings(found: dict[str, Any]) -> str:
    ratio, low, high = found["tokens"].values()
    lost, bound = 100 * found["right"]["estimate"], 100 * found["low_right"]
    return (
        f"H3: {ratio:.3f} [{low:.3f}, {high:.3f}] of the tokens, p {found['p_tokens']:.3f}; right "
        f"{lost:+.1f} points, lower bound {bound:+.1f}"
    )


def _rule(found: dict[str, Any]) -> str:
    header = ["load", "rule", "main", "spread", "grid", "mu", "multiplier", "main - rule"]
    rows = []
    for load, row in found.items():
        numbers = [row[key] for key in ("rule", "main", "main_spread", "grid", "shadow_price")]
        multiplier = "" if row["multiplier"] is None else f"{row['multiplier']:.3f}"
        gain = f"{100 * row['gain']['estimate']:+.1f}"
        rows.append([load, *(f"{value:.3f}" for value in numbers), multiplier, gain])
    return format_table(header, rows)
