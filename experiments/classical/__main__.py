"""Classical bilevel problems: does `solve` find the published optimum, and does it know?

The problems are those of `tests/bilevel`, with their sources. Each is written as a game of two
utilities and two sets and solved by one call of `stackjax.solve` with `Complementarity()`, from the
problem's own starting point, in float64.

    python -m experiments.classical                     # all 151, a quarter of an hour
    python -m experiments.classical --kind strong       # 38 of them
    python -m experiments.classical --kind nonconvex --proof --out results/classical_proofs.jsonl
    python -m experiments.classical --kind multimodal --proof --out results/multimodal.jsonl

With `--proof`, followers of up to three numbers in a bounded box are proven to answer best, and the
leader's search gets value-function cuts; others are solved as without. The multimodal problems are
SMD1 to SMD8 of two and three variables, each from several starting points at random.

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
KINDS = ("strong", "convex", "nonconvex", "multimodal")
# Proofs are asked for where a follower has no more numbers than that.
PROVABLE = 3


@dataclasses.dataclass(frozen=True)
class Args:
    """Solve classical bilevel problems and compare with their published optima.

    Attributes:
      kind: Only problems of this kind: strong, convex, nonconvex or, which are not among the
        others, multimodal.
      name: Only the problem of this name.
      starts: Starting points of `solve`.
      proof: Ask for a proof of the follower's response, where it is in reach.
      gap: The proof's tolerance, as a share of the range of the follower's utility.
      draws: Starting points at random of each multimodal problem, besides its own.
      optimise: Let XLA optimise the programs: runs are faster, compilation takes four times as
        long, and each program runs only twice.
      out: File to write, one JSON line for each problem after one of the environment.
    """

    kind: str | None = None
    name: str | None = None
    starts: int = 16
    proof: bool = False
    gap: float = 1e-7
    draws: int = 2
    optimise: bool = False
    out: Path = Path("results/classical.jsonl")

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind}")
        if self.starts < 1:
            raise ValueError(f"starts must be at least 1, got {self.starts}")
        if not 0 < self.gap < 1:
            raise ValueError(f"gap must be between 0 and 1, got {self.gap}")
        if self.draws < 0:
            raise ValueError(f"draws must be at least 0, got {self.draws}")


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


def provable(problem: Any) -> bool:
    """Whether a proof is in reach: a few numbers in a bounded box."""
    free = problem.follower_constraints is None and problem.follower_equalities is None
    bounded = np.isfinite([*problem.y_lower, *problem.y_upper]).all()
    return bool(free and bounded and len(problem.y) <= PROVABLE)


def run(problem: Any, args: Args) -> list[dict[str, Any]]:
    """Solves one problem twice from each start: with its compilation, and without."""
    game = as_game(problem)
    starts = [{"action": jnp.asarray(problem.x, float), "response": jnp.asarray(problem.y, float)}]
    if args.kind == "multimodal":
        rng = np.random.default_rng(0)
        sides = (problem.x_lower, problem.x_upper), (problem.y_lower, problem.y_upper)
        for _ in range(args.draws):
            x, y = (jnp.asarray(rng.uniform(low, high), float) for low, high in sides)
            starts.append({"action": x, "response": y})
    proof = sj.solvers.Global(gap=args.gap) if args.proof and provable(problem) else None
    options = {"solver": sj.Complementarity(), "starts": args.starts, "proof": proof}
    clock = time.perf_counter()
    lowered = jax.jit(lambda begin: sj.solve(game, context=None, **begin, **options)).lower(
        starts[0]
    )
    call = lowered.compile() if args.optimise else unoptimised(lowered)
    compiled = time.perf_counter() - clock
    return [_row(problem, call, begin, compiled, args) for begin in starts]


def _row(
    problem: Any, call: Any, begin: dict[str, Any], compiled: float, args: Args
) -> dict[str, Any]:
    seconds = []
    for _ in range(2):
        clock = time.perf_counter()
        found = jax.block_until_ready(call(begin))
        seconds.append(time.perf_counter() - clock)
    value = -float(found.leader_utility)
    error = abs(value - problem.value) / max(1.0, abs(problem.value))
    return {
        "name": problem.name,
        "kind": "multimodal" if args.kind == "multimodal" else problem.kind,
        "source": problem.source,
        "published": problem.value,
        "value": value,
        "error": error,
        "solved": bool(error < 1e-3 and found.regret < 1e-3),
        "action": np.asarray(found.action).tolist(),
        "response": np.asarray(found.response).tolist(),
        **{name: getattr(found, name).item() for name in REPORT},
        "status": str(found.status),
        "proven": None if found.proof is None else bool(found.proof.proven),
        "compile_seconds": compiled,
        "seconds": seconds[1],
    }


REPORT = ("converged", "residual", "regret", "steps", "agreeing_starts", "local", "unique")


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each kind; a problem counts once for each starting point."""
    header = ["follower", "problems", "solved", "proven", "converged", "converged elsewhere"]
    header += ["median s"]
    lines = []
    for kind in KINDS:
        of = [row for row in rows if row["kind"] == kind]
        if of:
            wrong = sum(row["converged"] and row["error"] >= 1e-3 for row in of)
            solved, sure = (sum(row[name] for row in of) for name in ("solved", "converged"))
            middle = f"{np.median([row['seconds'] for row in of]):.3f}"
            proven = sum(bool(row["proven"]) for row in of)
            lines.append([kind, *map(str, (len(of), solved, proven, sure, wrong)), middle])
    return format_table(header, lines)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(Args, argv)
    sys.path.insert(0, str(ROOT / "tests"))
    from bilevel import MULTIMODAL, PROBLEMS

    of = [p for p in PROBLEMS if args.kind in (None, p.kind)]
    of = MULTIMODAL if args.kind == "multimodal" else of
    chosen = [p for p in of if args.name in (None, p.name)]
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
            "proof": args.proof,
            "optimised": args.optimise,
        }
        file.write(json.dumps(header) + "\n")
        for number, problem in enumerate(watched(chosen, len(chosen), "problems"), 1):
            with stopping(kept):
                those = kept.get(problem.name, lambda p=problem: run(p, args))
            rows += those
            for row in those:
                file.write(json.dumps(row) + "\n")
                file.flush()
                verdict = "solved" if row["solved"] else f"published {row['published']:.6g}"
                proven = {True: "proven, ", False: "not proven, ", None: ""}[row["proven"]]
                sure = "converged" if row["converged"] else f"not converged ({row['status']})"
                print(
                    f"[{number}/{len(chosen)}] {row['name']} ({row['kind']}): "
                    f"{row['value']:.6g}, {verdict}, {proven}{sure}",
                    flush=True,
                )
    kept.clear()
    print(table(rows))
    print(f"Written to {args.out}")


if __name__ == "__main__":
    launch(main)
