"""The confirmatory experiment: does the repaired controller save tokens without losing quality?

What is asked, of how many turns, and how it is judged was fixed beforehand in PROTOCOL.md.

    python -m experiments.confirmatory                      # the analysis, from the recorded turns
    python -m experiments.confirmatory --power              # the sample size, from the pilot
    python -m experiments.confirmatory --certificate        # of the deployed controller
    python -m experiments.confirmatory --take ...           # new turns of one model; resumes
    python -m experiments.confirmatory --draw               # the figure alone, from main.json

Taking the turns wants a served model and two files of questions that others wrote: GSM8K's test
set (github.com/openai/grade-school-math) and HotpotQA's development set in the distractor setting,
as JSON lines.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.args import check_file, check_out, check_result, check_seed, parse
from experiments.common.command import launch
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS
from experiments.common.results import environment, plain, sha256, write_json
from experiments.confirmatory.analysis import (
    by_arm,
    off_policy_truth,
    primary,
    secondary,
    shared_turns,
)
from experiments.confirmatory.arms import CONSERVATIVE, MAIN
from experiments.confirmatory.certificate import certificate
from experiments.confirmatory.figure import figure
from experiments.confirmatory.fit import fit
from experiments.confirmatory.log import final_records, finished, pack
from experiments.confirmatory.power import power
from experiments.confirmatory.report import report
from experiments.confirmatory.take import DATA, EXECUTORS, PRIMARY, take, tuning_logs
from experiments.confirmatory.tuning import tuning_records
from stackjax.agents.log._log import TurnRecord, read_log

RESULTS = Path(__file__).parents[1] / "results"


@dataclasses.dataclass(frozen=True)
class Args:
    """The confirmatory experiment: analyses the recorded turns, or takes new ones.

    Attributes:
      power: Compute the sample size from the pilot instead, about five minutes for both models.
      certificate: Certify the controller on the recorded turns, about four minutes.
      pack: Put the logs taken in `out` into the recorded turns, for the analysis.
      take: Take turns instead of analysing: first the tuning questions, if they are not recorded,
        then the confirmatory turns. Kill it and start it again; nothing is taken twice.
      executor: Which of the two models: qwen (the primary one) or smollm2.
      part: Which arms to take: both, or primary or arms (all others) alone, each with its own log.
      turns: Confirmatory turns of the primary comparison, at least; whole sessions.
      all_arms: Turns that every arm plays, at least; the first sessions.
      gsm8k: File of GSM8K's test questions (.jsonl or .jsonl.gz).
      hotpotqa: File of HotpotQA's questions in the distractor setting (.jsonl or .jsonl.gz).
      out: Folder of the new logs and of the reply cache.
      model_path: GGUF file to serve, or that the server at base-url serves.
      base_url: Server to use instead of a local one. The key comes from OPENAI_API_KEY.
      server: What serves the model at base-url (name, version, build), for the record.
      workers: Sessions that are taken side by side.
      timeout: Seconds for one request.
      seed: Of fits and bootstrap.
      steps: Optimiser steps of the predictors.
      draw: Only draw the figure of a result again, beside it; nothing is run.
      result: Result that draw reads; by default the kept one.
    """

    power: bool = False
    certificate: bool = False
    pack: bool = False
    take: bool = False
    executor: str = PRIMARY
    part: str = "both"
    turns: int = 2025
    all_arms: int = 330
    gsm8k: Path | None = None
    hotpotqa: Path | None = None
    out: Path = Path("results/main")
    model_path: Path | None = None
    base_url: str | None = None
    server: str = ""
    workers: int = 1
    timeout: float = 180.0
    seed: int = 0
    steps: int = 800
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}: {self.executor!r}")
        if self.part not in ("both", "primary", "arms"):
            raise ValueError(f"part must be both, primary or arms: {self.part!r}")
        if self.take + self.power + self.certificate + self.pack + self.draw > 1:
            raise ValueError("take, power, certificate, pack, draw: give one of them")
        check_result(self.draw, self.result)
        for name in ("gsm8k", "hotpotqa"):
            path = getattr(self, name)
            if self.take and path is None:
                raise ValueError(f"{name} is needed to take turns: the file of questions")
            if path is not None:
                check_file(name, path)
        for name in ("turns", "all_arms", "workers", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', '-')} must be at least 1")
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout must be positive and finite, got {self.timeout}")
        if self.take:
            check_out("out", self.out, folder=True)
        check_seed(self.seed)


def recorded(executor: str, data: Path = DATA) -> list[TurnRecord]:
    """The confirmatory turns of one model that count.

    The primary arms' in the sessions that were finished, in the order of the run; the other arms'
    as far as they go.

    Raises:
      FileNotFoundError: there are none.
      ValueError: an arm took a turn twice, or a primary arm has no finished session.
    """
    ending = EXECUTORS[executor]
    records = final_records(read_log(data / f"main{ending}.jsonl.gz").records)
    order = json.loads((data / f"main-run{ending}.json").read_text())["sessions"]
    both = finished(records, (CONSERVATIVE, MAIN), order)
    if not both:
        raise ValueError(f"data: no session of {executor} is finished under both primary arms")
    return [*both, *(r for r in records if r.policy not in (CONSERVATIVE, MAIN))]


def analyse(seed: int, data: Path = DATA, results: Path = RESULTS) -> dict[str, Any]:
    """Analyse the recorded turns of both models; writes `main.json` and `main.png`.

    Raises:
      FileNotFoundError, ValueError: as `recorded`, for the primary model.
    """
    found: dict[str, Any] = {}
    for name, ending in EXECUTORS.items():
        path = data / f"main{ending}.jsonl.gz"
        if name != PRIMARY and not path.exists():
            continue
        records = recorded(name, data)
        arms = by_arm(records)
        planned = json.loads((data / f"main-run{ending}.json").read_text())
        found[name] = {
            "model": ", ".join(sorted({record.model for record in records})),
            "file": path.name,
            "sha256": sha256(path),
            "records": len(records),
            "turns_planned": sum(turns for _, turns in planned["sessions"]),
            "turns_by_arm": {arm: len(rows) for arm, rows in arms.items()},
            "primary": primary(arms, seed=seed),
            "secondary": secondary(arms, seed=seed),
        }
        before = results / f"main_before_{name}.json"
        if before.exists():
            estimates = json.loads(before.read_text())["off_policy"]
            found[name]["off_policy"] = off_policy_truth(estimates, shared_turns(arms))
    written = {"seed": seed, "environment": environment(), "executors": found}
    write_json(results / "main.json", written)
    figure(results / "main.png", plain(written))
    print(report(written))
    print(f"wrote {results / 'main.json'} and {results / 'main.png'}")
    return written


def certify_deployed(args: Args) -> None:
    """Fit the controller again, and certify it on the turns that all arms took."""
    fitted = fit(tuning_records(tuning_logs(args.executor)), seed=args.seed, steps=args.steps)
    path = RESULTS / f"main_certificate_{args.executor}.json"
    made = certificate(recorded(args.executor), fitted, seed=args.seed)
    write_json(path, {**made, "seed": args.seed, "environment": environment()})
    print(f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse(Args, argv)
    if args.draw:
        redraw(args.result or KEPT_RESULTS / "main.json", figure)
    elif args.take:
        take(args)
    elif args.pack:
        path = pack(args.out, args.executor, DATA, EXECUTORS[args.executor])
        before = f"main_before_{args.executor}.json"
        if (args.out / before).exists():
            shutil.copy(args.out / before, RESULTS / before)
        print(f"wrote {path}")
    elif args.power:
        found = power(tuning_logs(args.executor), seed=args.seed, steps=args.steps)
        path = RESULTS / f"main_power_{args.executor}.json"
        write_json(path, {**found, "seed": args.seed, "environment": environment()})
        print(f"{found['turns']} turns are needed; wrote {path}")
    elif args.certificate:
        certify_deployed(args)
    else:
        analyse(args.seed)


if __name__ == "__main__":
    launch(main)
