"""The confirmatory experiment: does the repaired controller save tokens without losing quality?

What is asked, of how many turns, and how it is judged was fixed beforehand in PROTOCOL.md.

    python experiments/main.py                      # the analysis, from the recorded turns
    python experiments/main.py --power              # the sample size, from the pilot
    python experiments/main.py --certificate        # the certificate of the deployed controller
    python experiments/main.py --take ...           # new turns of one model; resumes

Taking the turns wants a served model and two files of questions that others wrote: GSM8K's test
set (github.com/openai/grade-school-math) and HotpotQA's development set in the distractor setting,
as JSON lines.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _args import parse
from _main_analysis import by_arm, off_policy_truth, primary, secondary, shared_turns
from _main_arms import CONSERVATIVE, MAIN, make_arms
from _main_certificate import certificate
from _main_fit import Fitted, fit, need_head, recalibrate
from _main_power import power
from _main_predict import predictions
from _main_report import figure, report
from _main_tuning import candidate_means, tuning_records
from _main_turns import Arm, confirmatory_sessions, read_questions, take_arms, take_tuning, tell
from _results import environment, sha256, write_json
from _serving import check_resumable, executor_for
from collect import record_environment, served_environment

from stackjax.agents.tasks import TASK_TYPES
from stackjax.agents.turn_log import TurnLog, TurnRecord, latest, read_log

DATA = Path(__file__).parent / "data"
RESULTS = Path(__file__).parent / "results"
EXECUTORS = {"qwen": "-qwen", "smollm2": ""}
"""The primary model and the second one, with the ending of their files."""
PRIMARY = "qwen"


@dataclasses.dataclass(frozen=True)
class Args:
    """The confirmatory experiment: analyses the recorded turns, or takes new ones.

    Attributes:
      power: Compute the sample size from the pilot instead, about five minutes for both models.
      certificate: Certify the controller on the recorded turns, about four minutes.
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
    """

    power: bool = False
    certificate: bool = False
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

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}: {self.executor!r}")
        if self.part not in ("both", "primary", "arms"):
            raise ValueError(f"part must be both, primary or arms: {self.part!r}")
        if self.take + self.power + self.certificate > 1:
            raise ValueError("take, power, certificate: give one of them")
        for name in ("gsm8k", "hotpotqa"):
            path = getattr(self, name)
            if self.take and (path is None or not path.is_file()):
                raise ValueError(f"{name}: needs the file of questions, got {path}")
        for name in ("turns", "all_arms", "workers", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', '-')} must be at least 1")
        if self.timeout <= 0 or not 0 <= self.seed < 2**32:
            raise ValueError("timeout must be positive and seed between 0 and 2^32 - 1")


def tuning_logs(executor: str, data: Path = DATA) -> list[Path]:
    """The logs that a model's fits may see (their confirmatory items are left out)."""
    ending = EXECUTORS[executor]
    return [data / f"turns{ending}.jsonl.gz", data / f"questions{ending}.jsonl.gz"]


def take(args: Args) -> None:
    """Take the turns of one model.

    Raises:
      ValueError: the tuning turns are of another model than the one that is served.
    """
    assert args.gsm8k is not None and args.hotpotqa is not None
    questions = read_questions(args.gsm8k, args.hotpotqa)
    args.out.mkdir(parents=True, exist_ok=True)
    served = executor_for(
        args.base_url, "default", args.model_path, args.out / "cache", timeout=args.timeout
    )
    with served as (executor, model):
        entry = served_environment(model, args.server, local=args.base_url is None)
        entry |= {"turns": args.turns, "all_arms": args.all_arms, "workers": args.workers}
        record_environment(args.out / f"environment-{args.executor}.json", entry)
        logs = tuning_logs(args.executor)
        if not logs[1].exists():
            logs[1] = args.out / f"questions-{args.executor}.jsonl"
            with TurnLog(logs[1]) as log:
                check_resumable(log, executor)
                take_tuning(executor, questions.tuning, log, args.workers)
        records = tuning_records(logs)
        others = {record.model for record in records} - {executor.model}
        if others:
            raise ValueError(
                f"executor: {args.executor} was tuned on {', '.join(others)}, but "
                f"{executor.model} is served"
            )
        fitted = fit(records, seed=args.seed, steps=args.steps)
        sessions = confirmatory_sessions(questions.confirmatory, args.turns)
        ends = np.cumsum([len(session.turns) for session in sessions])
        first = sessions[: int(np.searchsorted(ends, args.all_arms)) + 1]
        if args.executor != PRIMARY:
            sessions = first
        need, name = need_head(records, fitted), args.executor
        if args.part != "arms":
            arms = make_arms(fitted, need)
            main_arms = {arm: arms[arm] for arm in (CONSERVATIVE, MAIN)}
            with TurnLog(args.out / f"main-{name}-primary.jsonl") as log:
                check_resumable(log, executor)
                take_arms(executor, sessions, main_arms, log, args.workers)
        if args.part != "primary":
            arms = make_arms(fitted, need, *_moved(args, records))
            before = args.out / f"main_before_{name}.json"
            write_json(before, _before(fitted, arms, records, args.seed))
            for arm in (CONSERVATIVE, MAIN):
                del arms[arm]
            with TurnLog(args.out / f"main-{name}-arms.jsonl") as log:
                check_resumable(log, executor)
                take_arms(executor, first, arms, log, args.workers)


def _before(
    fitted: Fitted, arms: dict[str, Arm], records: Sequence[TurnRecord], seed: int
) -> dict[str, Any]:
    """What is known before the turns are taken: choices, and off-policy estimates."""
    strata = [f"{task}, {level}" for task in TASK_TYPES for level in ("simple", "complex")]
    return {
        "conservative": fitted.conservative,
        "candidates": {str(cell): mean for cell, mean in candidate_means(records).items()},
        "best_fixed_by_type": {
            task: fitted.cell(int(row)) for task, row in zip(TASK_TYPES, fitted.best_by_type())
        },
        "constant_signal": fitted.best_signal(),
        "sets": {
            name: [fitted.cell(int(k)) for k in np.flatnonzero(fitted.admissible[row])]
            for row, name in enumerate(strata)
        },
        "off_policy": predictions(fitted, arms, records, seed=seed),
    }


def analyse(seed: int, data: Path = DATA, results: Path = RESULTS) -> dict[str, Any]:
    """Analyse the recorded turns of both models; writes `main.json` and `main.png`.

    Raises:
      FileNotFoundError: the primary model's turns are not there.
    """
    found: dict[str, Any] = {}
    for name, ending in EXECUTORS.items():
        path = data / f"main{ending}.jsonl.gz"
        if name != PRIMARY and not path.exists():
            continue
        records = latest(read_log(path).records)
        arms = by_arm(records)
        found[name] = {
            "model": ", ".join(sorted({record.model for record in records})),
            "file": path.name,
            "sha256": sha256(path),
            "turns": len(records),
            "primary": primary(arms, seed=seed),
            "secondary": secondary(arms, seed=seed),
        }
        before = results / f"main_before_{name}.json"
        if before.exists():
            estimates = json.loads(before.read_text())["off_policy"]
            found[name]["off_policy"] = off_policy_truth(estimates, shared_turns(arms))
    written = {
        "seed": seed,
        "environment": environment(),
        "executors": found,
    }
    write_json(results / "main.json", written)
    figure(results / "main.png", found)
    print(report(written))
    print(f"wrote {results / 'main.json'} and {results / 'main.png'}")
    return written


def _moved(args: Args, records: Sequence[TurnRecord]) -> tuple[Any, Any]:
    """The other model's fits, and its controller recalibrated on this model's turns.

    None and None while the other model's tuning turns are not recorded: its arms are then taken
    by a later run, which resumes this one's log.
    """
    other = next(name for name in EXECUTORS if name != args.executor)
    logs = tuning_logs(other)
    if not all(log.exists() for log in logs):
        tell(f"no tuning turns of {other} yet: its controllers are left for a later run")
        return None, None
    there: Fitted = fit(tuning_records(logs), seed=args.seed, steps=args.steps)
    return there, recalibrate(there, records)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parse(Args, argv)
    try:
        if args.take:
            take(args)
        elif args.power:
            found = power(tuning_logs(args.executor), seed=args.seed, steps=args.steps)
            path = RESULTS / f"main_power_{args.executor}.json"
            write_json(path, {**found, "seed": args.seed, "environment": environment()})
            print(f"{found['turns']} turns are needed; wrote {path}")
        elif args.certificate:
            records = latest(read_log(DATA / f"main{EXECUTORS[args.executor]}.jsonl.gz").records)
            fitted = fit(
                tuning_records(tuning_logs(args.executor)), seed=args.seed, steps=args.steps
            )
            path = RESULTS / f"main_certificate_{args.executor}.json"
            made = certificate(records, fitted, seed=args.seed)
            write_json(path, {**made, "seed": args.seed, "environment": environment()})
            print(f"wrote {path}")
        else:
            analyse(args.seed)
    except KeyboardInterrupt:
        print(
            "main: interrupted; the log keeps every finished turn, run again to go on",
            file=sys.stderr,
        )
        return 130
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"main: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
