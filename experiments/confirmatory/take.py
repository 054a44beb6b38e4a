"""Taking the turns: a model's tuning questions, then the confirmatory sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.collect.__main__ import record_environment, served_environment
from experiments.common.results import sha256, write_json
from experiments.common.serving import check_resumable, executor_for
from experiments.confirmatory.arms import CONSERVATIVE, MAIN, make_arms
from experiments.confirmatory.fit import Fitted, fit, need_head, recalibrate
from experiments.confirmatory.log import digest, hold, order_of
from experiments.confirmatory.predict import predictions
from experiments.confirmatory.tuning import candidate_means, tuning_records
from experiments.confirmatory.turns import (
    Arm,
    confirmatory_sessions,
    read_questions,
    take_arms,
    take_tuning,
    tell,
)
from stackjax.agents.log._log import TurnLog, TurnRecord, read_log
from stackjax.agents.tasks._tasks import TASK_TYPES

DATA = Path(__file__).parents[1] / "data"
EXECUTORS = {"qwen": "-qwen", "smollm2": ""}
"""The primary model and the second one, with the ending of their files."""
PRIMARY = "qwen"


def tuning_logs(executor: str, data: Path = DATA) -> list[Path]:
    """The logs that a model's fits may see (their confirmatory items are left out)."""
    ending = EXECUTORS[executor]
    return [data / f"turns{ending}.jsonl.gz", data / f"questions{ending}.jsonl.gz"]


def take(args: Any) -> None:
    """Take the turns of one model; `args` are those of `experiments.confirmatory`.

    Raises:
      ValueError: the tuning turns are of another model than the one that is served, or `args.out`
        holds a run that rests on something else.
    """
    name, out = args.executor, args.out
    questions = read_questions(args.gsm8k, args.hotpotqa)
    served = executor_for(
        args.base_url, "default", args.model_path, out / "cache", timeout=args.timeout
    )
    with served as (executor, model):
        logs = tuning_logs(name)
        tuned = {record.model for record in read_log(logs[0]).records}
        if tuned != {executor.model}:
            raise ValueError(
                f"executor: {name} was tuned on {', '.join(sorted(tuned))}, but {executor.model} "
                "is served (give model-path, the file that it serves, with base-url)"
            )
        entry = served_environment(model, args.server, local=args.base_url is None)
        record_environment(out / f"environment-{name}.json", entry | {"workers": args.workers})
        if not logs[1].exists():
            logs[1] = out / f"questions-{name}.jsonl"
            with TurnLog(logs[1]) as log:
                check_resumable(log, executor)
                take_tuning(executor, questions.tuning, log, args.workers)
        records = tuning_records(logs)
        fitted = fit(records, seed=args.seed, steps=args.steps)
        sessions = confirmatory_sessions(questions.confirmatory, args.turns)
        ends = np.cumsum([len(session.turns) for session in sessions])
        first = sessions[: int(np.searchsorted(ends, args.all_arms)) + 1]
        sessions = sessions if name == PRIMARY else first
        hold(
            out / f"run-{name}.json",
            {
                "turns": args.turns,
                "all_arms": args.all_arms,
                "seed": args.seed,
                "steps": args.steps,
                "gsm8k": sha256(args.gsm8k),
                "hotpotqa": sha256(args.hotpotqa),
                "controller": digest(fitted.controller("rational", repaired=True)),
                "sessions": order_of(sessions),
                "all_arms_sessions": len(first),
            },
        )
        need = need_head(records, fitted)
        if args.part != "arms":
            arms = make_arms(fitted, need)
            main_arms = {arm: arms[arm] for arm in (CONSERVATIVE, MAIN)}
            with TurnLog(out / f"main-{name}-primary.jsonl") as log:
                check_resumable(log, executor)
                take_arms(executor, sessions, main_arms, log, args.workers)
        if args.part != "primary":
            arms = make_arms(fitted, need, *_moved(args, records))
            before = out / f"main_before_{name}.json"
            if not before.exists():
                write_json(before, _before(fitted, arms, records, args.seed))
            for arm in (CONSERVATIVE, MAIN):
                del arms[arm]
            with TurnLog(out / f"main-{name}-arms.jsonl") as log:
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


def _moved(args: Any, records: Sequence[TurnRecord]) -> tuple[Any, Any]:
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
