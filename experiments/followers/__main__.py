"""Learn a follower: which estimator finds whom, and what a concave shape costs.

Compares the shapes of the predictors (concave, warped, free) on held-out recorded turns, and the
estimators of `fit_follower` on two kinds of play: a rule-based executor's recorded demonstrations,
and simulated play of the rational follower, whose response and slopes are known.

    python -m experiments.followers               # about ten minutes on two cores
    python -m experiments.followers --quick       # three minutes, one seed: does it run?

Prints tables and writes them to one JSON file. A run that is stopped goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.args import check_file, check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.phases import Kept, Phases, usual_seconds
from experiments.common.results import environment, format_table, run_of, sha256, write_json
from experiments.followers.estimators import compare_estimators, rational_play, rule_play
from experiments.followers.shapes import study_shapes
from experiments.govern.__main__ import DATA, split
from stackjax.agents.control._controller import contexts_of
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER
from stackjax.agents.log._log import latest, read_log
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.repair._cells import reference_cell, summarise_cells


@dataclasses.dataclass(frozen=True)
class Args:
    """Compares ways to learn a follower, and shapes of the predictors.

    Attributes:
      data: Turn log (.jsonl or .jsonl.gz); by default the recorded turns.
      seeds: Fits of each shape; three fifths of these of each estimator.
      seed: Seed of everything.
      surrogate_steps: Optimiser steps of the predictors.
      follower_steps: Optimiser steps of the followers.
      rows: Simulated observations to fit on.
      out: File of the results.
      quick: One seed and few steps, to see that it runs.
    """

    data: Path = DATA
    seeds: int = 5
    seed: int = 0
    surrogate_steps: int = 800
    follower_steps: int = 400
    rows: int = 2000
    out: Path = Path("results/followers.json")
    quick: bool = False

    def __post_init__(self) -> None:
        for name in ("seeds", "surrogate_steps", "follower_steps", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', '-')} must be at least 1")
        check_seed(self.seed)
        check_file("data", self.data)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the whole study; returns what the results file holds."""
    args = parse(Args, argv)
    if args.quick:
        args = dataclasses.replace(
            args, seeds=1, surrogate_steps=100, follower_steps=60, rows=min(args.rows, 500)
        )
    check_out("out", args.out)
    kept = Kept(args.out.with_name(f".{args.out.stem}.unfinished"), run_of(args, args.data))
    phases = Phases(total=4, usual=usual_seconds("followers.json"), kept=kept)
    with phases("read turns"):
        fitting, evaluation = split(latest(read_log(args.data)[0]))
        turns, held_out = turn_arrays(fitting), turn_arrays(evaluation)
    shapes, surrogate = phases.job(
        "shapes of the predictors",
        lambda: study_shapes(
            turns, held_out, seeds=args.seeds, steps=args.surrogate_steps, seed=args.seed
        ),
    )
    summary = summarise_cells(surrogate, turns)
    base = jnp.asarray(summary.cells[reference_cell(summary)], jnp.float32)
    keys = jax.random.split(jax.random.key(args.seed), 2)
    lower, upper = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])
    previous = lower + (upper - lower) * jax.random.uniform(keys[0], (len(fitting), 2))
    contexts = contexts_of(surrogate, base, turns.state, previous)
    options = {
        "seeds": max(1, 3 * args.seeds // 5),
        "steps": args.follower_steps,
        "seed": args.seed,
        "quick": args.quick,
    }
    rules = phases.job(
        "followers: recorded rules",
        lambda: compare_estimators(rule_play(fitting, contexts), **options),
    )
    simulated = lambda: rational_play(contexts, keys[1], args.rows, max(args.rows // 2, 200))
    rational = phases.job(
        "followers: simulated rational", lambda: compare_estimators(simulated(), **options)
    )
    results = {
        "args": {**dataclasses.asdict(args), "data": args.data.name},
        "environment": environment(),
        "data": {"file": args.data.name, "sha256": sha256(args.data)},
        "shapes": shapes,
        "estimators": {"recorded rules": rules, "simulated rational": rational},
        "seconds": {**phases.seconds, "total": sum(phases.seconds.values())},
    }
    write_json(args.out, results)
    phases.finish()
    print(report(results))
    print(f"\nwrote {args.out}")
    return results


def report(results: dict[str, Any]) -> str:
    """The results as tables."""
    shapes = results["shapes"]
    rows = []
    for name, by_shape in shapes["scores"].items():
        for shape, one in by_shape.items():
            low, high = one["interval"]
            apart = f"{one['minus_concave']:+.3f} [{low:+.3f}, {high:+.3f}]"
            spread = "" if one["over_seeds"] is None else f"{one['over_seeds']:.3f}"
            label = name if shape == "concave" else ""
            last = "" if shape == "concave" else apart
            rows.append((label, shape, f"{one['mean']:.3f}", spread, last))
    header = ("held-out score", "shape", "mean", "sd over seeds", "minus concave [95 %]")
    parts = [
        f"\nPredictors: {shapes['turns']} held-out turns of {shapes['episodes']} episodes, "
        f"{shapes['seeds']} seeds; intervals over episodes\n\n" + format_table(header, rows),
        *(f"{shape}: {verdict}" for shape, verdict in shapes["verdict"].items()),
    ]
    for name, table in results["estimators"].items():
        q, alpha = table["slopes"]
        rows = [("truth", "1.000", "0.000", f"{q:+.3f}", f"{alpha:+.3f}", "")]
        rows.append(("constant", f"{table['constant']:.3f}", "", "", "", ""))
        for method, one in table.items():
            if not isinstance(one, dict):
                continue
            noise = "" if one["noise"] is None else " ".join(f"{x:.3f}" for x in one["noise"])
            dq, da = one["slopes"]
            rows.append((method, f"{one['error']:.3f}", f"{one['to_truth']:.3f}",
                         f"{dq:+.3f}", f"{da:+.3f}", noise))  # fmt: skip
        header = ("estimator", "RMSE / floor", "RMSE to truth", "dr/dq", "dr/dalpha", "noise")
        parts.append(
            f"\nFollower, {name}: {table['rows_fit']} rows, {table['rows_test']} held out, noise "
            f"floor {table['noise_floor']:.3f}; slopes are means over rows and channels\n\n"
            + format_table(header, rows)
        )
    return "\n".join(parts)


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    launch(main)
