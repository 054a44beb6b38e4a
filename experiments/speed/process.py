"""One workload in a process of its own, so that memory, flags and hangs are its own too.

Called by `experiments.speed` with one JSON argument; writes a JSON file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.common.results import write_json
from experiments.speed.contender import Contender
from experiments.speed.timing import Runner, interleave, start, summary
from experiments.speed.workloads import Workload, workloads


def main(task: dict[str, Any]) -> None:
    """Measures a workload, or only tries one contender.

    Args:
      task: `workload`, `contenders` (names, or None), `rounds`, `budget`, `limit`, `seed`,
        `cache`, `out`; and `probe`, a contender's name, in order to run nothing else, once.
    """
    warnings.simplefilter("ignore")
    workload = next(w for w in workloads() if w.name == task["workload"])
    # The first program pays for starting the backend.
    jax.block_until_ready(jax.jit(jax.vmap(jnp.sin))(jnp.ones((2, 2))))
    if task.get("probe") is not None:
        contender = next(c for c in workload.contenders if c.name == task["probe"])
        start(contender, workload.inputs(task["seed"]))
        return
    write_json(Path(task["out"]), measure(workload, task))


def measure(workload: Workload, task: dict[str, Any]) -> dict[str, Any]:
    """All contenders on one workload."""
    load, clock = os.getloadavg()[0], time.perf_counter()
    skipped: dict[str, str] = {}
    runners: list[Runner] = []
    inputs = workload.inputs(task["seed"])
    for contender in workload.contenders:
        reason = _reason(contender, workload, task)
        if reason is None:
            try:
                runners.append(start(contender, inputs))
                print(
                    f"  {contender.name}: {runners[-1].first:.1f} s to the first result", flush=True
                )
            except Exception as error:
                traceback.print_exc()
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if reason is not None:
            skipped[contender.name] = reason
            print(f"  {contender.name}: skipped, {reason}", flush=True)
    interleave(runners, task["rounds"], task["budget"])
    facts, judge = workload.judge(task["seed"], Path(task["cache"]))
    results = {}
    for runner in runners:
        results[runner.contender.name] = {
            **summary(runner),
            **judge(runner.prepared.read(runner.result)),
        }
    return {
        "workload": workload.name,
        "group": workload.group,
        "contexts": workload.contexts,
        "facts": facts,
        "results": results,
        "skipped": skipped,
        "load": [load, os.getloadavg()[0]],
        "seconds": time.perf_counter() - clock,
    }


def _reason(contender: Contender, workload: Workload, task: dict[str, Any]) -> str | None:
    """Why a contender does not take part; None if it does."""
    if task["contenders"] is not None and contender.name not in task["contenders"]:
        return "not asked for"
    if contender.missing():
        return f"not installed: {', '.join(contender.missing())}"
    if contender.largest is not None and workload.contexts > contender.largest:
        return f"{contender.why} above N={contender.largest}"
    if contender.risky:
        return _probe(contender, task)
    return None


def _probe(contender: Contender, task: dict[str, Any]) -> str | None:
    command = [
        sys.executable,
        "-m",
        "experiments.speed.process",
        json.dumps({**task, "probe": contender.name}),
    ]
    try:
        done = subprocess.run(command, timeout=task["limit"], capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"no answer within {task['limit']:g} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1][:200]
    return None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
