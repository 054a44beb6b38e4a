"""How fast, and how right, is the library against its peers?

Every contender returns, for each of N contexts, the leader's utility and its total derivative
through the follower's best response. Times are medians over interleaved rounds in one process for
each workload; gradients are checked against float64 central differences.

    python -m experiments.speed                     # an hour; --rounds 5 --budget 3: 11 min
    python -m experiments.speed --workloads R1 --max-n 4096 --no-flags
    python -m experiments.speed --draw              # the figure alone, from the kept result

Needs the extra `bench`; contenders that are not installed are left out. Prints tables and writes
bench.json and bench.png. A run that is stopped goes on with the next workload.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.args import check_out, check_result, check_seed, parse
from experiments.common.command import launch
from experiments.common.compile import known_flags
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS, Kept, Phases
from experiments.common.results import environment, run_of, write_json
from experiments.speed.contender import version
from experiments.speed.figure import figure
from experiments.speed.report import PACKAGES, tables
from experiments.speed.workloads import Workload, workloads

# It helps elementwise programs, and no default of XLA's: the user's to set.
XLA_FLAGS = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"
GROUPS = ("R1", "R2", "R3", "R4", "R5", "R6", "S1")


@dataclasses.dataclass(frozen=True)
class Args:
    """Compare the speed and the gradients of stackjax with those of its peers.

    Attributes:
      workloads: Groups to run, separated by commas: R1, R2, R3, R4, R5, R6, S1.
      contenders: Names to run, separated by commas, such as "stackjax,jaxopt PG"; all if not given.
      rounds: Interleaved rounds of timing.
      budget: Seconds of timing after which a contender sits out further rounds of a workload.
      limit: Seconds within which a contender that may hang has to answer once.
      max_n: Leave out workloads of more contexts.
      flags: Run R1 a second time with an XLA flag that small programs gain from.
      seed: Of contexts and actions.
      out: Folder to write bench.json and bench.png in.
      draw: Only draw the figure of a result again, beside it; nothing is run.
      result: Result that draw reads; by default the kept one.
    """

    workloads: str = ",".join(GROUPS)
    contenders: str | None = None
    rounds: int = 15
    budget: float = 20.0
    limit: float = 90.0
    max_n: int = 1048576
    flags: bool = True
    seed: int = 0
    out: Path = Path("results/bench")
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        wrong = set(self.workloads.split(",")) - set(GROUPS)
        if wrong:
            raise ValueError(f"workloads must be among {', '.join(GROUPS)}, got {wrong.pop()!r}")
        for name in ("rounds", "max_n"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (self.budget > 0 and self.limit > 0):
            raise ValueError("budget and limit must be positive")
        check_seed(self.seed)
        check_result(self.draw, self.result)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(Args, argv)
    if args.draw:
        redraw(args.result or KEPT_RESULTS / "bench.json", figure)
        return
    wanted = args.workloads.split(",")
    chosen = [w for w in workloads() if w.group in wanted and w.contexts <= args.max_n]
    every = sorted({c.name for w in chosen for c in w.contenders})
    names = None if args.contenders is None else args.contenders.split(",")
    for name in names or []:
        if name not in every:
            raise ValueError(f"contenders: none is called {name!r} in {every}")
    check_out("out", args.out, folder=True)
    runs = [(w, False) for w in chosen]
    if args.flags:
        runs += [(w, True) for w in chosen if w.group == "R1"]
    report: dict[str, Any] = {
        "environment": environment(),
        "packages": {name: version(name) for name in PACKAGES},
        "args": args,
        "xla_flags": XLA_FLAGS,
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        kept = Kept(args.out / ".unfinished", run_of(args))
        phases = Phases(len(runs), usual=usual(runs), kept=kept)
        for workload, flags in runs:
            found = phases.job(
                label(workload, flags),
                lambda w=workload, f=flags: measure(w, f, names, args, Path(scratch)),
            )
            report["runs"].append(found)
    report["seconds"] = phases.seconds
    write_json(args.out / "bench.json", report)
    phases.finish()
    # Read back: the tables say what the file says.
    report = json.loads((args.out / "bench.json").read_text())
    print(tables(report))
    figure(args.out / "bench.png", report)
    print(f"Written to {args.out}")


def label(workload: Workload, flags: bool) -> str:
    """What a run is called."""
    return f"{workload.name}{' with an XLA flag' if flags else ''}"


def usual(runs: Sequence[tuple[Workload, bool]]) -> dict[str, float]:
    """Seconds that each run took in the results that are kept, by label; the others their mean."""
    known: dict[tuple[str, bool], float] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        rows = json.loads((KEPT_RESULTS / "bench.json").read_text())["runs"]
        known = {(row["workload"], row["flags"]): float(row["seconds"]) for row in rows}
    found = {label(w, f): known.get((w.name, f)) for w, f in runs}
    mean = sum(known.values()) / max(len(known), 1)
    return {name: mean if s is None else s for name, s in found.items()} if known else {}


def measure(
    workload: Workload, flags: bool, names: list[str] | None, args: Args, scratch: Path
) -> dict[str, Any]:
    """One workload in a process of its own, with or without the flag."""
    out = scratch / "result.json"
    out.unlink(missing_ok=True)
    task = {
        "workload": workload.name,
        "contenders": names,
        "seed": args.seed,
        "cache": str(scratch),
        "out": str(out),
        **{name: getattr(args, name) for name in ("rounds", "budget", "limit")},
    }
    inherited = os.environ.get("XLA_FLAGS", "")
    # where this jaxlib has the flag: one that it has not would end the process
    added = {"XLA_FLAGS": " ".join([inherited, *known_flags([XLA_FLAGS])]).strip()} if flags else {}
    command = [sys.executable, "-m", "experiments.speed.process", json.dumps(task)]
    done = subprocess.run(command, env=os.environ | added, stdout=subprocess.PIPE, text=True)
    print(f"\n{done.stdout.rstrip()}", end=" ", flush=True)
    found = json.loads(out.read_text()) if out.exists() else {"error": done.returncode}
    return {"workload": workload.name, "group": workload.group, "flags": flags, **found}


if __name__ == "__main__":
    launch(main)
