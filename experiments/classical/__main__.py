"""Classical bilevel problems: does `solve` find the published optimum, and does it know?

The problems are those of `tests/bilevel`, with their sources. Each is written as a game of two
utilities and two sets and solved by one call of `stackjax.solve` with `Complementarity()`, from the
problem's own starting point, in float64.

    python -m experiments.classical                     # all 151, a quarter of an hour
    python -m experiments.classical --kind strong       # 38 of them

Prints a line a problem and writes one JSON line for each. A run that is stopped goes on where it
stopped.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.common.args import check_out, parse
from experiments.common.command import launch
from experiments.common.compile import unoptimised
from experiments.common.phases import Kept, stopping, watched
from experiments.common.results import environment, format_table, run_of

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("strong", "convex", "nonconvex")


@dataclasses.dataclass(frozen=True)
class Args:
    """Solve classical bilevel problems and compare with their published optima.

    Attributes:
      kind: Only problems of this kind: strong, convex or nonconvex.
      name: Only the problem of this name.
      starts: Starting points of `solve`.
      optimise: Let XLA optimise the programs: runs are faster, compilation takes four times as
        long, and each program runs only twice.
      out: File to write, one JSON line for each problem after one of the environment.
    """

    kind: str | None = None
    name: str | None = None
    starts: int = 16
    optimise: bool = False
    out: Path = Path("results/classical.jsonl")

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind}")
        if self.starts < 1:
            raise ValueError(f"starts must be at least 1, got {self.starts}")


def as_game(problem: Any) -> sj.Game:
    """The problem's minimisations as utilities, its constraints as sets."""

    def side(bound: Sequence[float]) -> jax.Array | None:
        return None if np.all(np.isinf(bound)) else jnp.asarray(bound, float)

    def feasible(inequality: Any, equality: Any, lower: Any, upper: Any) -> sj.Box | sj.Constrained:
        box = sj.Box(side(lower), side(upper))
        if inequality is None and equality is None:
            return box
        three = lambda f: None if f is None else lambda x, y, _: f(x, y)
        return sj.Constrained(three(inequality), three(equality), box=box)

    p = problem
    return sj.Game(
        lambda x, y, _: -jnp.reshape(p.leader(x, y), ()),
        lambda x, y, _: -jnp.reshape(p.follower(x, y), ()),
        action_set=feasible(p.leader_constraints, p.leader_equalities, p.x_lower, p.x_upper),
        response_set=feasible(p.follower_constraints, p.follower_equalities, p.y_lower, p.y_upper),
    )


def run(problem: Any, starts: int, optimise: bool) -> dict[str, Any]:
    """Solves one problem twice: with its compilation, and without."""
    game = as_game(problem)
    begin = {"action": jnp.asarray(problem.x, float), "response": jnp.asarray(problem.y, float)}
    options = {"context": None, "solver": sj.Complementarity(), "starts": starts}
    clock = time.perf_counter()
    lowered = jax.jit(lambda begin: sj.solve(game, **begin, **options)).lower(begin)
    call = lowered.compile() if optimise else unoptimised(lowered)
    seconds = [time.perf_counter() - clock]
    for _ in range(2):
        clock = time.perf_counter()
        found = jax.block_until_ready(call(begin))
        seconds.append(time.perf_counter() - clock)
    value = -float(found.leader_utility)
    error = abs(value - problem.value) / max(1.0, abs(problem.value))
    return {
        "name": problem.name,
        "kind": problem.kind,
        "source": problem.source,
        "published": problem.value,
        "value": value,
        "error": error,
        "solved": bool(error < 1e-3 and found.regret < 1e-3),
        "action": np.asarray(found.action).tolist(),
        "response": np.asarray(found.response).tolist(),
        **{name: getattr(found, name).item() for name in REPORT},
        "compile_seconds": seconds[0],
        "seconds": seconds[2],
    }


REPORT = ("converged", "residual", "regret", "steps", "agreeing_starts", "local", "unique")


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each kind."""
    header = ["follower", "problems", "solved", "converged", "converged elsewhere", "median s"]
    lines = []
    for kind in KINDS:
        of = [row for row in rows if row["kind"] == kind]
        if of:
            wrong = sum(row["converged"] and row["error"] >= 1e-3 for row in of)
            solved, sure = (sum(row[name] for row in of) for name in ("solved", "converged"))
            middle = f"{np.median([row['seconds'] for row in of]):.3f}"
            lines.append([kind, *map(str, (len(of), solved, sure, wrong)), middle])
    return format_table(header, lines)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(Args, argv)
    sys.path.insert(0, str(ROOT / "tests"))
    from bilevel import PROBLEMS

    chosen = [
        p for p in PROBLEMS if args.kind in (None, p.kind) and args.name in (None, p.name)
    ]  # fmt: skip
    if not chosen:
        of = "" if args.kind is None else f" of kind {args.kind}"
        raise ValueError(f"name: no such problem{of}: {args.name}")
    check_out("out", args.out)
    kept = Kept(args.out.with_name(f".{args.out.stem}.unfinished"), run_of(args))
    rows = []
    with jax.enable_x64(True), args.out.open("w") as file:
        header = {
            "environment": environment(),
            "starts": args.starts,
            "dtype": "float64",
            "optimised": args.optimise,
        }
        file.write(json.dumps(header) + "\n")
        for number, problem in enumerate(watched(chosen, len(chosen), "problems"), 1):
            with stopping(kept):
                row = kept.get(problem.name, lambda p=problem: run(p, args.starts, args.optimise))
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            verdict = "solved" if row["solved"] else f"published {row['published']:.6g}"
            sure = "converged" if row["converged"] else "not converged"
            print(
                f"[{number}/{len(chosen)}] {row['name']} ({row['kind']}): {row['value']:.6g}, "
                f"{verdict}, {sure}",
                flush=True,
            )
    kept.clear()
    print(table(rows))
    print(f"Written to {args.out}")


if __name__ == "__main__":
    launch(main)
