"""The certificate, validated: known truths first, then the recorded turns.

    python -m experiments.certificate              # two to five minutes on two cores
    python -m experiments.certificate --quick      # fewer logs and games, less than one

Writes one JSON file: how often each bound held on simulated logs and games with a known
truth, and how loose it was; how often broken followers, leaky sets, missing actions and shifted
environments were caught; and, for each model in the turn log, the certificate of a controller that
was fitted on part of its turns. A run that is stopped goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.compile import unoptimised_flags

# Most programs here run once: unoptimised they compile in half the time.
os.environ.setdefault("XLA_FLAGS", unoptimised_flags())

import jax

from experiments.certificate.games import broken_followers, known_constants, repair_known
from experiments.certificate.real import deployed_policy, evidence, fit, some_contexts, thresholds
from experiments.certificate.simulation import caught, coverage, net_coverage
from experiments.common.args import check_file, check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.phases import Kept, Phases, usual_seconds
from experiments.common.results import environment, format_table, run_of, sha256, write_json
from stackjax.agents.log._log import latest, read_log
from stackjax.certificates import certify

DATA = Path(__file__).parents[1] / "data"
_DESIGNS = (
    ("executed", None, "hoeffding"),
    ("executed", None, "bernstein"),
    ("executed", None, "betting"),
    ("weighted", None, "betting"),
    ("doubly robust", None, "betting"),
    ("doubly robust", 4.0, "betting"),
)


@dataclasses.dataclass(frozen=True)
class Args:
    """Validates the certificate on known truths and issues it for recorded turns.

    Attributes:
      data: Turn log (.jsonl or .jsonl.gz) with designs random, heuristic and factorial.
      out: File of the results.
      quick: A tenth of the logs and games, short fits.
      seed: Seed of everything.
      level: Confidence level.
      logs: Simulated logs of each design.
      episodes: Episodes of a simulated log.
      games: Random games with known constants.
      surrogate_steps: Optimiser steps of the predictors.
      leader_steps: Optimiser steps of each leader.
    """

    data: Path = DATA / "turns.jsonl.gz"
    out: Path = Path("results/certificate.json")
    quick: bool = False
    seed: int = 0
    level: float = 0.95
    logs: int = 1000
    episodes: int = 60
    games: int = 20
    surrogate_steps: int = 300
    leader_steps: int = 100

    def __post_init__(self) -> None:
        check_file("data", self.data)
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}")
        for name in ("logs", "episodes", "games", "surrogate_steps", "leader_steps"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name.replace('_', '-')} must be at least 2")
        check_seed(self.seed)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run everything; returns what the results file holds."""
    args = parse(Args, argv)
    if args.quick:
        args = dataclasses.replace(
            args, logs=max(args.logs // 10, 2), games=max(args.games // 10, 2),
            surrogate_steps=50, leader_steps=20,
        )  # fmt: skip
    records, torn = read_log(args.data)
    models = sorted({record.model for record in records})
    check_out("out", args.out)
    kept = Kept(args.out.with_name(f".{args.out.stem}.unfinished"), run_of(args, args.data))
    total = 4 + len(models)
    phases = Phases(total=total, usual=usual_seconds("certificate.json"), kept=kept)
    given = {"episodes": args.episodes, "level": args.level}
    results: dict[str, Any] = {
        "args": {**dataclasses.asdict(args), "data": args.data.name, "out": args.out.name},
        "environment": environment(),
        "data": {"file": args.data.name, "sha256": sha256(args.data), "torn": torn},
        "recorded turns": {},
    }

    def simulated() -> dict[str, Any]:
        """Coverage of every design, and of a net."""
        return {
            "coverage": [
                coverage(
                    logs=args.logs, seed=args.seed + number, method=method, design=design,
                    clip=clip, **given,
                )
                for number, (design, clip, method) in enumerate(_DESIGNS)
            ],
            "net": net_coverage(logs=args.logs, points=8, seed=args.seed, **given),
        }  # fmt: skip

    def known_games() -> dict[str, Any]:
        """Games with known constants, and followers that are not concave."""
        return {
            "games": known_constants(games=args.games, seed=args.seed),
            "broken followers": broken_followers(games=max(args.games // 2, 2), seed=args.seed),
        }

    results |= phases.job("coverage on simulated logs", simulated)
    for model in models:
        chosen = [record for record in latest(records) if record.model == model]
        results["recorded turns"][model] = phases.job(
            f"recorded turns of {model}", lambda chosen=chosen: issue(chosen, args)
        )
    results["breaches"] = phases.job(
        "breaches on simulated logs",
        lambda: caught(
            trials=max(args.logs // 20, 2), episodes=200, level=args.level, seed=args.seed
        ),
    )
    results |= phases.job("games with known constants", known_games)
    results["repair"] = phases.job(
        "repair in turns and sessions", lambda: repair_known(contexts=200, seed=args.seed)
    )
    results["seconds"] = {**phases.seconds, "total": sum(phases.seconds.values())}
    write_json(args.out, results)
    phases.finish()
    print(summary(results))
    print(f"\nwrote {args.out}")
    return results


def issue(records: Sequence[Any], args: Args) -> dict[str, Any]:
    """The certificates of one model's controller, and the bound by each interval."""
    fitted = fit(
        records, seed=args.seed, surrogate_steps=args.surrogate_steps,
        leader_steps=args.leader_steps,
    )  # fmt: skip
    found = evidence(fitted, records)
    key = jax.random.key(args.seed)
    contexts = some_contexts(fitted, 64)
    settings = {"level": args.level, "key": key, "samples": 128, "steps": 15, "pairs": 16}
    executed = {"leader": found["executed"], "follower": found["executed, follower"]}
    certificate = certify(deployed_policy(fitted), contexts, executed, **settings)
    print(f"\n{certificate}")
    result = {
        "policies": found["executed"].labels,
        "executed": json.loads(certificate.to_json()),
        "delta by interval": thresholds(found["executed"], level=args.level),
        "values": {
            name: {
                "real": found["executed"].per_episode(utility).mean(),
                "surrogate": found["executed"].per_episode(value).mean(),
            }
            for name, utility, value in zip(
                found["executed"].labels, found["executed"].estimates, found["executed"].value
            )
        },
    }
    if "logged" in found:
        logged = certify(fitted.controller.game, contexts, found["logged"], **settings)
        wanted = ("Transfer", "Real regret", "Real regret, paired", "Better than the baseline")
        rows = json.loads(logged.to_json())["statements"]
        result["logged"] = [row for row in rows if row["name"] in wanted]
        print("\n".join(str(logged[name]) for name in wanted))
    return result


def summary(results: dict[str, Any]) -> str:
    """The validation's numbers as a table."""
    rows = []
    for run in results["coverage"]:
        for name, row in run["statements"].items():
            design = (
                run["design"] if run["clip"] is None else f"{run['design']}, clip {run['clip']:g}"
            )
            rows.append(
                [
                    f"{design}, {run['method']}: {name}",
                    f"{row['holds']:.3f}",
                    f"{row['bound_mean']:.3f}",
                    f"{row['truth_mean']:.3f}",
                    f"{row['vacuous']:.2f}",
                ]
            )
    net, broken = results["net"], results["broken followers"]["fails"]
    rows.append(
        [
            "net of 8 points: delta",
            *(f"{net[k]:.3f}" for k in ("holds", "bound_mean", "truth_mean")),
            "",
        ]
    )
    table = format_table(["limit", "holds", "mean bound", "mean truth", "vacuous"], rows)
    breaches = results["breaches"]
    lines = [
        f"{name}: {share:.3f}"
        for name, share in {
            **{f"caught, {k}": v for k, v in breaches["frequency"].items()},
            **{f"missing action, {k}": v for k, v in breaches["missing action"].items()},
            **{f"follower fails, {k}": v for k, v in broken.items()},
        }.items()
    ]
    games = results["games"]
    lines += [
        f"{name}: {row['least']:.3f} to {row['largest']:.3f}, mean {row['mean']:.3f}"
        for name, row in games.items()
        if isinstance(row, dict)
    ]
    return "\n".join(["", table, "", *lines])


if __name__ == "__main__":
    launch(main)
