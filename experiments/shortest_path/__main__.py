"""Predict costs, then take the shortest path: losses that know of the path, compared.

The benchmark of Elmachtoub and Grigas, 'Smart predict, then optimize' (Management Science 68,
2022): a grid of 5 x 5 nodes, costs of its 40 edges that are polynomial in five features, linear
predictors. The path is a follower with a linear utility, whose answer has no slope: SPO+ replaces
the loss, `Perturbed` and `Regularised` smooth the follower.

    python -m experiments.shortest_path               # 55 minutes on two very busy cores
    python -m experiments.shortest_path --quick       # compiles, then seconds: does it run?

Prints tables and writes them to one JSON file. A run that is stopped goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import stackjax as sj
from experiments.common.args import check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.phases import Kept, Phases, usual_seconds
from experiments.common.results import environment, format_table, plain, run_of, write_json
from experiments.shortest_path.methods import MOMENTS, compare

DEGREES, WIDTHS, ROWS = (1, 2, 4, 6, 8), (0.0, 0.5), (100, 1000)
PEER = "SPO+"


@dataclasses.dataclass(frozen=True)
class Args:
    """Compares ways to train a predictor of costs for the path that they lead to.

    Attributes:
      seeds: Data sets of each kind, at least 2.
      seed: The first of these; also of the draws.
      steps: Steps of Adam.
      samples: Draws of each perturbed answer, even.
      out: File of the results.
      quick: Two seeds, few steps and one degree, to see that it runs.
    """

    seeds: int = 10
    seed: int = 0
    steps: int = 500
    samples: int = 8
    out: Path = Path("results/shortest_path.json")
    quick: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2, got {self.seeds}")
        if self.steps < MOMENTS:
            raise ValueError(f"steps must be at least {MOMENTS}, got {self.steps}")
        if self.samples < 2 or self.samples % 2:
            raise ValueError(f"samples must be even and at least 2, got {self.samples}")
        check_seed(self.seed)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the whole study; returns what the results file holds."""
    args = parse(Args, argv)
    if args.quick:
        args = dataclasses.replace(args, seeds=2, steps=20)
    check_out("out", args.out)
    kept = Kept(args.out.with_name(f".{args.out.stem}.unfinished"), run_of(args))
    degrees = DEGREES[-1:] if args.quick else DEGREES
    kinds = [(rows, width, degree) for rows in ROWS for width in WIDTHS for degree in degrees]
    phases = Phases(total=len(kinds), usual=usual_seconds("shortest_path.json"), kept=kept)
    options = {name: getattr(args, name) for name in ("seeds", "steps", "samples", "seed")}
    cells = []
    for rows, width, degree in kinds:
        methods = phases.job(
            f"{rows} rows, noise {width}, degree {degree}",
            lambda kind=(degree, width, rows): compare(
                float(kind[0]), float(kind[1]), kind[2], **options
            ),
        )
        cells.append(summary(rows, width, degree, methods, args.seed))
    results = {
        "args": {**plain(args), "out": args.out.name},
        "environment": environment(),
        "cells": cells,
        "seconds": {**phases.seconds, "total": sum(phases.seconds.values())},
    }
    write_json(args.out, results)
    phases.finish()
    print(report(results))
    print(f"\nwrote {args.out}")
    return results


def summary(
    rows: int, width: float, degree: int, methods: dict[str, dict[str, Any]], seed: int
) -> dict[str, Any]:
    """A cell of the results: means over seeds, and paired differences from SPO+, with intervals."""
    own = {name: np.asarray(one["regret"]) for name, one in methods.items()}
    mean = lambda values: sj.stats.clustered_ratio(values, np.ones(len(values)), seed=seed)
    return {
        "rows": rows,
        "width": width,
        "degree": degree,
        "methods": {
            name: {
                **methods[name],
                "mean": mean(values),
                "minus_spo": mean(values - own[PEER]),
            }
            for name, values in own.items()
        },
    }


def report(results: dict[str, Any]) -> str:
    """Normalised regret in percent, a table for each number of rows and width of the noise."""
    parts, cells = [], results["cells"]
    for rows in ROWS:
        for width in WIDTHS:
            those = [c for c in cells if (c["rows"], c["width"]) == (rows, width)]
            names = list(those[0]["methods"])
            header = (f"{rows} rows, noise {width}", *(f"degree {c['degree']}" for c in those))
            lines = [(name, *(_entry(c["methods"][name]) for c in those)) for name in names]
            parts.append("\n" + format_table(header, lines))
    note = (
        f"Normalised regret in percent, mean of {results['args']['seeds']} seeds [95%]; + worse "
        f"and - better than {PEER} where the interval of the paired difference excludes 0"
    )
    return "\n".join([*parts, note])


def _entry(one: dict[str, Any]) -> str:
    mean, low, high = (100 * x for x in plain(one["mean"]).values())
    _, below, above = plain(one["minus_spo"]).values()
    sign = "+" if below > 0 else "-" if above < 0 else " "
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]{sign}"


if __name__ == "__main__":
    launch(main)
