"""What the runtime costs and withstands: decision latency, a proxy under load and under faults.

Trains and saves a policy on the recorded turns (a minute), measures `decide`, then runs
``python -m stackjax.runtime.proxy`` as a process of its own between local clients and a local
upstream, with 64 sessions and with faults. Everything stays on 127.0.0.1.

    python -m experiments.runtime                       # all, about four minutes
    python -m experiments.runtime --only-policy         # train and save the policy, no more

Writes one JSON file. A run that is stopped goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.args import check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.phases import Kept, Phases, usual_seconds
from experiments.common.results import environment, run_of, sha256, write_json
from experiments.govern import __main__ as govern
from experiments.runtime.bench import bench_decide, bench_proxy, bench_sequences, faults
from stackjax.agents.log._log import latest, read_log
from stackjax.agents.log._turns import turn_arrays
from stackjax.runtime import Policy, load_policy, measure_residuals, save_policy

SERVERS = ("starlette", "uvicorn", "httpx", "openai")
"""Packages of the proxy and the client, whose versions decide the latencies."""


@dataclasses.dataclass(frozen=True)
class Args:
    """Measures the runtime on this machine.

    Attributes:
      policy: Folder of the policy; trained on the recorded turns and saved there if it is absent.
      only_policy: Train and save the policy, and measure nothing.
      controller: Which of the two controllers to save: "learned" or "rational" follower.
      seed: Seed of the fits and of the load.
      decisions: Decisions to time.
      sessions: Sessions at the same time.
      turns: Turns of each.
      connections: Connections open at the same time.
      out: File of the results.
    """

    policy: Path = Path("results/policy")
    only_policy: bool = False
    controller: str = "learned"
    seed: int = 0
    decisions: int = 5000
    sessions: int = 64
    turns: int = 12
    connections: int = 1000
    out: Path = Path("results/runtime.json")

    def __post_init__(self) -> None:
        for name in ("decisions", "sessions", "turns", "connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.controller not in ("learned", "rational"):
            raise ValueError(f"controller must be learned or rational, got {self.controller!r}")
        check_seed(self.seed)


def train(args: Args, phases: Phases) -> Policy:
    """The controller of `experiments.govern`, calibrated on the held-out turns."""
    settings = govern.Args(seed=args.seed)
    with phases("read turns"):
        fitting, evaluation = govern.split(latest(read_log(settings.data).records))
    fitted, _ = govern.fit(settings, phases, fitting, evaluation)
    with phases("measure_residuals and compile"):
        controller = fitted.controllers[args.controller]
        calibration = measure_residuals(controller.surrogate, turn_arrays(evaluation))
        policy = Policy(controller, calibration)
        save_policy(policy, args.policy)
    print(f"saved {args.policy}, leader {policy.fingerprint['leader'][:12]}")
    return policy


def server_versions() -> dict[str, str | None]:
    """Versions of `SERVERS`, None for one that is not installed."""
    found: dict[str, str | None] = dict.fromkeys(SERVERS)
    for name in SERVERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run all; returns what the results file holds."""
    args = parse(Args, argv)
    if not args.only_policy:
        check_out("out", args.out)
    known = (args.policy / "policy.json").is_file()
    usual = usual_seconds("runtime.json") | usual_seconds("govern.json")
    count = 6 if args.only_policy else 5 if known else 10
    phases = Phases(count, usual=usual)
    if known and not args.only_policy:
        with phases("load the policy"):
            policy = load_policy(args.policy)
    else:
        check_out("policy", args.policy, folder=True)
        policy = train(args, phases)
    results: dict[str, Any] = {
        "args": dataclasses.asdict(args),
        "environment": {**environment(), **server_versions()},
        "data_sha256": sha256(govern.DATA),
        "fingerprint": policy.fingerprint,
    }
    if args.only_policy:
        return results
    run = run_of(args, args.policy / "policy.json")
    phases.kept = Kept(args.out.with_name(f".{args.out.stem}.unfinished"), run)
    measures = {
        "decide": lambda: bench_decide(policy, args.decisions),
        "proxy": lambda: bench_proxy(args.policy, args.sessions, args.turns, args.seed),
        "faults": lambda: faults(args.policy, args.connections, args.seed),
        "sequences": lambda: bench_sequences(args.seed),
    }
    for name, measure in measures.items():
        results[name] = phases.job(name, measure)
    results["seconds"] = phases.seconds
    results["load_average_after"] = environment()["load_average"]
    write_json(args.out, results)
    phases.finish()
    for name in ("decide", "proxy", "faults", "sequences"):
        print(f"{name}:")
        for key, value in results[name].items():
            print(f"  {key}: {value}")
    print(f"wrote {args.out}")
    return results


if __name__ == "__main__":
    launch(main)
