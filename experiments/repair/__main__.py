"""From recorded turns to a repaired policy: surrogate, calibration, action set, need head, audit.

Reruns the paper's middle part from the shipped logs, for each model on its own: predictors and
their held-out quality, the three probes and elasticities, calibration on later turns and whether it
still holds, the empirical action set with its confirmation, what projection costs the leader, the
need head, how often policies leave the supported region, and off-policy estimates beside the truth.

    python -m experiments.repair                # four minutes on two cores for two models
    python -m experiments.repair --draw         # the figure alone, from the kept result

Prints tables and writes results.json and repair.png. A run that is stopped goes on with the model
that it was at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.args import check_file, check_out, check_result, check_seed, parse
from experiments.common.command import launch
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS, Kept, Phases, usual_seconds
from experiments.common.results import environment, plain, run_of, sha256, write_json
from experiments.repair.figure import figure
from experiments.repair.fit import prepare
from experiments.repair.predictors import calibration, predictors, probes
from experiments.repair.report import report
from experiments.repair.sets import action_set, audits, need, prices
from experiments.repair.values import environment_probe, estimates
from stackjax.agents.log._log import TurnRecord, latest, read_log
from stackjax.agents.repair._choice import Requirements

DATA = Path(__file__).parents[1] / "data"


@dataclasses.dataclass(frozen=True)
class Args:
    """Repairs policies with what recorded turns support, and measures what that costs.

    Attributes:
      data: Folder of turn logs (turns*.jsonl.gz), or one log.
      seed: Seed of fits and bootstraps.
      out: Folder of results.json and repair.png.
      steps: Optimiser steps of the predictors.
      margin: Quality that the action set may lose against the baseline. With M bounds from n turns
        nothing below log(M / (1 - level)) / n can be shown: 6 points for 141 turns.
      max_failure: Largest share of turns without an answer.
      level: Probability that all bounds of a choice hold.
      support: Recorded turns that a member of the action set needs in a task type.
      tool_cap: Largest tool budget that the need head asks for.
      draw: Only draw the figure of a result again, beside it; nothing is run.
      result: Result that draw reads; by default the kept one.
    """

    data: Path = DATA
    seed: int = 0
    out: Path = Path("results/repair")
    steps: int = 800
    margin: float = 0.1
    max_failure: float = 0.1
    level: float = 0.95
    support: int = 5
    tool_cap: float = 1.0
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")
        check_seed(self.seed)
        if not self.data.exists():
            raise ValueError(f"data: no such file or folder: {self.data}")
        if not self.data.is_dir():
            check_file("data", self.data)
        if not 0 <= self.tool_cap <= 1:
            raise ValueError(f"tool-cap must lie in [0, 1], got {self.tool_cap}")
        check_result(self.draw, self.result)
        _ = self.requirements

    @property
    def requirements(self) -> Requirements:
        """What the action set must be shown to do."""
        return Requirements(
            margin=self.margin,
            max_failure=self.max_failure,
            level=self.level,
            support=self.support,
        )


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run everything for each model; returns what results.json holds."""
    args = parse(Args, argv)
    if args.draw:
        return redraw(args.result or KEPT_RESULTS / "repair.json", figure)
    check_out("out", args.out, folder=True)
    files, logs = read(args.data)
    kept = Kept(args.out / ".unfinished", run_of(args, *files))
    results: dict[str, Any] = {
        "args": {**dataclasses.asdict(args), "data": args.data.name},
        "environment": environment(),
        "data": {file.name: sha256(file) for file in files},
        "models": {},
    }
    for model, records in logs.items():
        note = " (kept)" if model in kept else ""
        print(f"\n{model}: {len(records)} turns{note}", flush=True)
        results["models"][model] = kept.get(
            model, lambda records=records: study(args, records, kept)
        )
    figure(args.out / "repair.png", plain(results))
    write_json(args.out / "results.json", results)
    kept.clear()
    print(report(results))
    print(f"\nwrote {args.out / 'results.json'} and {args.out / 'repair.png'}")
    return results


def read(data: Path) -> tuple[list[Path], dict[str, list[TurnRecord]]]:
    """The log files, and their records by model.

    Raises:
      ValueError: There is no log.
    """
    files = sorted(data.glob("turns*.jsonl*")) if data.is_dir() else [data]
    if not files:
        raise ValueError(f"data: {data} holds no turns*.jsonl or turns*.jsonl.gz")
    logs: dict[str, list[TurnRecord]] = {}
    for file in files:
        records, torn = read_log(file)
        if torn is not None:
            print(f"({file.name}: torn last record left out: {torn})")
        for record in latest(records):
            logs.setdefault(record.model, []).append(record)
    return files, logs


def study(args: Args, records: list[TurnRecord], kept: Kept | None = None) -> dict[str, Any]:
    """All parts for one model; `kept` has the models before it."""
    usual = usual_seconds("repair.json", "models", records[0].model, "seconds")
    phases = Phases(total=9, usual=usual, kept=kept)
    with phases("fit predictors, follower and leaders"):
        studied, numbers = prepare(records, seed=args.seed, steps=args.steps)
    with phases("held-out predictions"):
        numbers["predictors"] = predictors(studied)
    with phases("probes and elasticities"):
        numbers["probes"] = probes(studied, args.seed)
    with phases("calibration and drift"):
        numbers["calibration"] = calibration(studied, args.seed)
    with phases("action set"):
        studied, numbers["action_set"] = action_set(studied, args.requirements, args.seed)
    with phases("need head"):
        studied, numbers["need"] = need(studied, args.level, args.tool_cap, args.seed)
    with phases("projection and audit"):
        numbers["prices"] = prices(studied)
        numbers["audit"] = audits(studied, args.seed)
    with phases("off-policy estimates"):
        numbers["off_policy"] = estimates(studied, args.seed)
    with phases("sessions"):
        numbers["sessions"] = environment_probe(studied, args.seed)
    numbers["seconds"] = {**phases.seconds, "total": sum(phases.seconds.values())}
    return numbers


if __name__ == "__main__":
    launch(main)
