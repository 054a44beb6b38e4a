"""Labels under a budget: LLF-StackSL against baselines, on synthetic streams and on real votes.

Regret at equal labels, held-out accuracy as a share of full information, coverage of the confidence
set, rates in T and B, 10^6 rounds in bounded memory, the gate tuned by gradient, and the last-layer
learner. All options are chosen on other seeds (synthetic), or on look-aheads that see no label
(votes); the held-out questions are used once, for the accuracies.

    python -m experiments.labels               # six minutes on two cores
    python -m experiments.labels --quick       # does it run?
    python -m experiments.labels --draw        # the figure alone, from the kept result

Prints tables and writes labels.json and labels.png. A run that is stopped goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common.args import check_file, check_out, check_result, parse
from experiments.common.command import launch
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS, Kept, Phases, usual_seconds
from experiments.common.results import environment, plain, run_of, sha256, write_json
from experiments.labels import extensions as extensions
from experiments.labels import real as real
from experiments.labels import synthetic as synthetic
from experiments.labels.figure import figure
from experiments.labels.report import first_b, report, targets

DATA = Path(__file__).parents[1] / "data" / "mmlu_redux_votes.csv.gz"


@dataclasses.dataclass(frozen=True)
class Args:
    """Compares rules that ask for labels, at equal budgets.

    Attributes:
      data: Table of votes (.csv.gz); by default the one in the repository.
      rounds: Rounds of each synthetic stream.
      seeds: Test seeds of the synthetic streams; a quarter of these, at least 10, of the votes.
      tuning: Other seeds, on which options are chosen.
      long: Rounds of the long run, at d = 128.
      out: Folder of labels.json and labels.png.
      quick: Few seeds and rounds, to see that it runs.
      draw: Only draw the figure of a result again, beside it; nothing is run.
      result: Result that draw reads; by default the kept one.
    """

    data: Path = DATA
    rounds: int = 5000
    seeds: int = 40
    tuning: int = 6
    long: int = 1_000_000
    out: Path = Path("results/labels")
    quick: bool = False
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("rounds", 100), ("seeds", 2), ("tuning", 1), ("long", 100)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        check_file("data", self.data)
        check_result(self.draw, self.result)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the whole study; returns what labels.json holds."""
    args = parse(Args, argv)
    if args.draw:
        return redraw(args.result or KEPT_RESULTS / "labels.json", figure)
    quick = args.quick
    if quick:
        args = dataclasses.replace(args, rounds=200, seeds=2, tuning=1, long=2000)
    check_out("out", args.out, folder=True)
    results: dict[str, Any] = {
        "args": {**dataclasses.asdict(args), "data": args.data.name, "out": args.out.name},
        "environment": environment(),
        "data": {"file": args.data.name, "sha256": sha256(args.data)},
        "settings": {
            "dim": synthetic.DIM, "noise": synthetic.NOISE, "share": synthetic.SHARE,
            "forget": synthetic.FORGET, "first_seeds": [synthetic.TESTING, synthetic.TUNING],
        },
    }  # fmt: skip
    jobs: dict[str, Callable[[], Any]] = {
        "synthetic": lambda: synthetic.compare(
            list(synthetic.FORGET), args.rounds, args.seeds, args.tuning
        ),
        "real": lambda: real.study(
            args.data, 2 if quick else max(10, args.seeds // 4), 1 if quick else 2,
            rounds=120 if quick else None,
        ),
        "rates": lambda: synthetic.rates(
            (100, 200) if quick else (1000, 2000, 4000, 8000, 16_000),
            min(args.seeds, 20), min(args.tuning, 4), 50 if quick else 250,
        ),
        "long_run": lambda: synthetic.long_run(args.long, 16 if quick else 128),
        "tuned_gate": lambda: extensions.tuned_gates(
            rounds=60 if quick else 400, steps=2 if quick else 60, seeds=2 if quick else 200,
            tuning=2 if quick else 16,
        ),
        "last_layer": lambda: extensions.last_layer(
            rounds=60 if quick else 3000, seeds=2 if quick else 10, steps=2 if quick else 200
        ),
    }  # fmt: skip
    kept = Kept(args.out / ".unfinished", run_of(args, args.data))
    phases = Phases(total=len(jobs), usual=usual_seconds("labels.json"), kept=kept)
    for name, job in jobs.items():
        results[name] = phases.job(name.replace("_", " "), job)
    results["targets"] = targets(results)
    results["first_b"] = first_b(results)
    results["seconds"] = {**phases.seconds, "total": sum(phases.seconds.values())}
    write_json(args.out / "labels.json", results)
    figure(args.out / "labels.png", plain(results))
    phases.finish()
    print(report(results))
    print(f"\nwrote {args.out / 'labels.json'} and {args.out / 'labels.png'}")
    return results


if __name__ == "__main__":
    launch(main)
