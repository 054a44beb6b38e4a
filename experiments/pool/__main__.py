"""A common pool of tokens: do prices help when only the executor reads the request?

What is asked and how it is judged is in PROTOCOL.md.

    python -m experiments.pool                             # all that is recorded, some minutes
    python -m experiments.pool --pilot                     # go or no-go, in under a minute
    python -m experiments.pool --pilot --take ...          # take the pilot's turns; resumes
    python -m experiments.pool --tune --take ...           # take the tuning turns; resumes
    python -m experiments.pool --main --take ...           # take the confirmatory turns; resumes
    python -m experiments.pool --fill                      # the protocol's numbers in brackets
    python -m experiments.pool --pack ...                  # put logs into experiments/data/pool

Taking turns wants a served model and HotpotQA's development set in the distractor setting, as JSON
lines, whose passages are the tool outputs.
"""

from __future__ import annotations

import dataclasses
import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.args import check_file, check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.results import environment, plain, sha256, write_json
from experiments.pool import dry_run
from experiments.pool.main_part import (
    cells_of_arms,
    freeze_file,
    protocol_numbers,
    read_frozen,
)
from experiments.pool.pilot import Pilot, judge
from experiments.pool.power import power
from experiments.pool.report import report
from experiments.pool.take import take
from stackjax.agents.log._log import read_log

RESULTS = Path(__file__).parents[1] / "results"
DATA = Path(__file__).parents[1] / "data" / "pool"
EXECUTORS = ("smollm2", "qwen")
PARTS = ("pilot", "tune", "main", "fill", "pack")


@dataclasses.dataclass(frozen=True)
class Args:
    """A common pool of tokens: takes turns, or analyses the recorded ones.

    Attributes:
      pilot: The pilot: every turn under all 18 cells. Without take: go or no-go from the recorded
        turns, under a minute; no option adds the analysis of the pilot as a dry run, some minutes.
      tune: The tuning turns: every turn under five random cells; needs take.
      main: The confirmatory turns: every turn under the cells that some arm chooses; needs take.
        The arms are frozen first, from the recorded tuning turns.
      fill: Print the protocol's numbers in brackets, from the recorded tuning turns.
      take: Take the turns that the log lacks. Kill it and start it again; nothing is taken twice.
      pack: Put the logs of both models in `out` into the recorded turns, for the analysis.
      executor: Which of the two models is served: smollm2 or qwen.
      sessions: Sessions to take; by default all of the part.
      hotpotqa: File of HotpotQA's questions in the distractor setting (.jsonl or .jsonl.gz).
      tuning: Folder of the tuning turns; by default the recorded ones.
      out: Folder of the new logs and of the reply cache.
      model_path: GGUF file to serve, or that the server at base-url serves.
      base_url: Server to use instead of a local one. The key comes from OPENAI_API_KEY.
      server: What serves the model at base-url (name, version, build), for the record.
      timeout: Seconds for one request.
      seed: Of the folds and of the bootstrap.
    """

    pilot: bool = False
    tune: bool = False
    main: bool = False
    fill: bool = False
    take: bool = False
    pack: bool = False
    executor: str = "smollm2"
    sessions: int | None = None
    hotpotqa: Path | None = None
    tuning: Path | None = None
    out: Path = Path("results/pool")
    model_path: Path | None = None
    base_url: str | None = None
    server: str = ""
    timeout: float = 180.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"`timeout` must be positive and finite; got {self.timeout}")
        check_seed(self.seed)
        if self.sessions is not None and self.sessions < 1:
            raise ValueError(f"`sessions` must be at least 1; got {self.sessions}")
        if self.executor not in EXECUTORS:
            raise ValueError(
                f"`executor` must be one of {', '.join(EXECUTORS)}; got {self.executor!r}"
            )
        given = [name for name in PARTS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(
                f"`pilot`, `tune`, `main`, `fill`, `pack` must not be combined; got {given}"
            )
        if self.take and given not in (["pilot"], ["tune"], ["main"]):
            raise ValueError(f"`take` must be given with `pilot`, `tune` or `main`; got {given}")
        if (self.tune or self.main) and not self.take:
            raise ValueError(f"`{given[0]}` must come with `take`: it has no analysis of its own")
        if self.take and self.hotpotqa is None:
            raise ValueError("`hotpotqa` must be given with `take`: the file of passages")
        if self.hotpotqa is not None:
            check_file("hotpotqa", self.hotpotqa)
        if self.take:
            check_out("out", self.out, folder=True)


def analyse_pilot(seed: int, data: Path = DATA, results: Path = RESULTS) -> dict[str, Any]:
    """Judges the recorded pilot of each model; writes `pool_pilot.json`.

    Raises:
      FileNotFoundError: No pilot is recorded.
    """
    found: dict[str, Any] = {}
    for name in EXECUTORS:
        path = data / f"pilot-{name}.jsonl.gz"
        if path.exists():
            records = read_log(path).records
            found[name] = {
                "model": records[0].model,
                "sha256": sha256(path),
                **judge(records, seed=seed),
                "power": power(Pilot(records), seed=seed),
            }
    if not found:
        raise FileNotFoundError(f"no pilot in {data}: take one with --pilot --take, then --pack")
    written = {"seed": seed, "environment": environment(), "executors": found}
    write_json(results / "pool_pilot.json", written)
    print(report(plain(written)))
    print(f"wrote {results / 'pool_pilot.json'}")
    return written


def pack(folder: Path, data: Path = DATA) -> list[Path]:
    """Compresses the logs in `folder` into the recorded turns, with their environments.

    Raises:
      FileNotFoundError: There is no log.
    """
    data.mkdir(parents=True, exist_ok=True)
    packed = []
    for log in sorted(folder.glob("*.jsonl")):
        lines = [record.to_json() for record in read_log(log).records]  # a torn line stays out
        target = data / f"{log.name}.gz"
        with gzip.GzipFile(target, "wb", mtime=0) as file:
            file.write(("\n".join(lines) + "\n").encode())
        shutil.copy(folder / f"environment-{log.stem}.json", data / f"environment-{log.stem}.json")
        packed.append(target)
    if not packed:
        raise FileNotFoundError(f"`out` must have a log; got {folder}, which has none")
    return packed


def take_main(args: Args, tuning: Path) -> None:
    """Freezes the arms of one model, if they are not, and takes the confirmatory turns.

    Raises:
      FileNotFoundError: There are no recorded tuning turns.
    """
    log = tuning / f"tune-{args.executor}.jsonl.gz"
    if not log.exists():
        raise FileNotFoundError(f"no tuning turns in {tuning}: take them, then --pack")
    frozen = DATA / f"policies-{args.executor}.json.gz"
    print(f"policies {freeze_file(log, frozen, seed=args.seed)}")
    take(args, "main", cells_of=cells_of_arms(read_frozen(frozen)))


def analyse_dry(seed: int, tuning: Path, data: Path = DATA, results: Path = RESULTS) -> None:
    """The analysis on the pilot, if tuning turns are there; writes `pool_dry_run.json`."""
    found = dry_run.dry_run(data, tuning, names=EXECUTORS, seed=seed)
    if found:
        written = dry_run.write(found, results / "pool_dry_run.json", seed=seed)
        print(dry_run.text_of(plain(written)["executors"]))
        print(f"wrote {results / 'pool_dry_run.json'}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = parse(Args, argv)
    tuning = DATA if args.tuning is None else args.tuning
    if args.main:
        take_main(args, tuning)
    elif args.take:
        take(args, "pilot" if args.pilot else "tune")
    elif args.pack:
        for path in pack(args.out):
            print(f"wrote {path}")
    elif args.fill:
        print(protocol_numbers(tuning, EXECUTORS, seed=args.seed))
    else:
        analyse_pilot(args.seed)
        if not args.pilot:
            analyse_dry(args.seed, tuning)


if __name__ == "__main__":
    launch(main)
