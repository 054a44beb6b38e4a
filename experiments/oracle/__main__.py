"""Thousands of random games a kind: is the library ever wrong beside `converged`?

Each game is answered twice, by the library and by the oracles of this folder, which share no code
with it: enumeration of active sets, bisection, linear programs, closed forms, finite
differences. Counted are values and derivatives that are wrong though converged, what did not
converge, and, with the same games in other units of utilities and responses, flags that change.

    python -m experiments.oracle                            # 10,000 games a kind, about an hour
    python -m experiments.oracle --games 500 --kind box     # a minute

Writes a row for each kind, precision and choice of units, with the smallest failing game, and
prints them as Markdown. A run that is stopped goes on where it stopped. Kinds whose oracles or
solvers are slow have fewer games; the table says how many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.common.args import check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.phases import Kept, Phases
from experiments.common.results import environment, run_of, write_json
from experiments.oracle.boxes import BOXES
from experiments.oracle.checks import Kind, Tally, forget, judge
from experiments.oracle.curved import CURVED
from experiments.oracle.finite import FINITE, judge_finite
from experiments.oracle.leaders import LEADERS, judge_leader
from experiments.oracle.polyhedra import POLYHEDRA
from experiments.oracle.shares import SHARES
from experiments.oracle.smooth import SMOOTH
from experiments.oracle.traps import TRAPS, Trap, caught

DTYPES = ("float32", "float64")
BATCH = 1000
"""Games of one call: of one compiled program, so that a smaller run has its own."""

FEWER = {"d = 64": 20, "d = 80": 20, "1000": 10, "two equalities": 5, "slab": 2}
"""By what to divide the number of games, by a part of the kind's name."""

LEADER_GAMES, FINITE_GAMES, TRAP_GAMES = 50, 500, 2000
"""The most that are asked of these: their oracles run game by game, or each game starts often."""


@dataclasses.dataclass(frozen=True)
class Args:
    """Compare answers with oracles on random games.

    Attributes:
      games: Games of each kind, in each precision and choice of units.
      kind: Only kinds whose name contains this.
      dtype: Only this precision, float32 or float64.
      seed: Of the draws.
      out: File to write.
    """

    games: int = 10_000
    kind: str = ""
    dtype: str | None = None
    seed: int = 0
    out: Path = Path("experiments/results/oracle.json")

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.games < 1:
            raise ValueError(f"games must be at least 1, got {self.games}")
        if self.dtype not in (None, *DTYPES):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")


@dataclasses.dataclass(frozen=True)
class Part:
    """A row of the table: which games, and how to count them."""

    name: str
    dtype: str
    units: bool
    count: Callable[[], Tally]

    @property
    def title(self) -> str:
        """What the row is called while it runs."""
        return f"{self.name}, {self.dtype}{', other units' if self.units else ''}"


def parts(args: Args) -> Iterator[Part]:
    """Every row that is asked for."""
    for dtype in DTYPES if args.dtype is None else (args.dtype,):
        for kind in (*BOXES, *CURVED, *POLYHEDRA, *SHARES, *SMOOTH):
            for units in (False, True):
                count = lambda k=kind, d=dtype, u=units: of_followers(k, d, u, args)
                yield Part(kind.name, dtype, units, count)
        for trap in TRAPS:
            yield Part(trap.name, dtype, False, lambda t=trap, d=dtype: of_traps(t, d, args))
        for kind in LEADERS:
            games = min(args.games, LEADER_GAMES)
            for units in (False, True):
                count = lambda k=kind, d=dtype, u=units, n=games: judge_leader(
                    k, d, n, args.seed, units=u
                )
                yield Part(kind.name, dtype, units, count)
    if args.dtype != "float32":
        for sort in FINITE:
            games = min(args.games, FINITE_GAMES)
            count = lambda s=sort, n=games: judge_finite(s, n, args.seed)
            yield Part(f"finite, {sort}", "float64", False, count)


def of_followers(kind: Kind, dtype: str, units: bool, args: Args) -> Tally:
    """Batch after batch; a failing game is made small once."""
    share = max([by for part, by in FEWER.items() if part in kind.name], default=1)
    games = max(1, args.games // share)
    size = min(BATCH, games)
    total: Tally | None = None
    for batch in range(games // size):
        shrink = total is None or total.smallest is None
        seed = args.seed + 1000 * batch
        tally = judge(kind, dtype, size, seed, units=units, shrink=shrink)
        total = tally if total is None else total + tally
    assert total is not None
    return total


def of_traps(trap: Trap, dtype: str, args: Args) -> Tally:
    """Whatever converges is wrong."""
    games = min(args.games, TRAP_GAMES)
    silent, params = caught(trap, dtype, games, args.seed)
    wrong = int(silent.sum())
    first = {k: v[silent.argmax()].tolist() for k, v in params.items()} if wrong else None
    # All that a trap asks is that nothing converges: what does not is as it should be.
    return Tally(trap.name, dtype, games, converged=wrong, wrong=wrong, smallest=first)


HEADER = (
    "kind",
    "dtype",
    "units",
    "games",
    "converged",
    "wrong though converged",
    "unconverged",
    "wrong derivative",
    "degenerate (skipped)",
    "local, a better exists",
    "flags changed",
    "no oracle",
    "not finite",
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [" | ".join(HEADER), " | ".join("---" for _ in HEADER)]
    for row in rows:
        t = Tally(**row["tally"])
        derivatives = t.wrong_slopes + t.wrong_seconds
        counts = (t.games, t.converged, t.wrong, t.unconverged, derivatives, t.degenerate)
        counts += (t.missed, t.flags, t.unproved, t.not_finite)
        units = "other" if row["units"] else "own"
        lines.append(" | ".join((t.kind, t.dtype, units, *map(str, counts))))
    return "\n".join(f"| {line} |" for line in lines)


FAMILIES = {
    "quadratic in boxes, d = 1 to 64": BOXES,
    "logarithms, powers, exponentials, softplus, networks in boxes": CURVED,
    "polyhedra: redundant, thin, badly scaled": POLYHEDRA,
    "simplices, products, balls": SHARES,
    "smooth constraints": SMOOTH,
    "empty, unbounded, flat: nothing may converge": TRAPS,
    "linear and quadratic bilevel games": LEADERS,
}


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each family and precision, own and other units together, in Markdown."""
    header = ("followers and games", "precision", "asked", *HEADER[5:8])
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for family, kinds in FAMILIES.items():
        names = {kind.name for kind in kinds}
        for dtype in DTYPES:
            tallies = [Tally(**row["tally"]) for row in rows]
            of = [t for t in tallies if t.kind in names and t.dtype == dtype]
            counts = [
                sum(t.games for t in of),
                sum(t.wrong for t in of),
                sum(t.unconverged for t in of),
                sum(t.wrong_slopes + t.wrong_seconds for t in of),
            ]
            if of:
                lines.append(" | ".join((family, dtype, *(f"{n:,}" for n in counts))))
    return "\n".join(f"| {line} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(Args, argv)
    check_out("out", args.out)
    chosen = [part for part in parts(args) if args.kind in part.name]
    if not chosen:
        raise ValueError(f"kind: no kind's name contains {args.kind!r}")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    kept = Kept(args.out.with_name(f".{args.out.stem}.unfinished"), run_of(args))
    phases = Phases(len(chosen), kept=kept)
    rows = []
    for before, part in zip((None, *chosen), chosen):
        if before is not None and before.name != part.name:
            # A process may hold some thousands of compiled functions, not tens of thousands.
            forget()
            jax.clear_caches()
        tally = phases.job(part.title, part.count)
        rows.append({"units": part.units, "tally": dataclasses.asdict(tally)})
        bad = tally.wrong + tally.wrong_slopes + tally.wrong_seconds + tally.not_finite
        if bad:
            print(f"  {bad} of {tally.games} are wrong beside converged", flush=True)
    result = {
        "environment": environment(),
        "args": args,
        "seconds": phases.seconds,
        "rows": rows,
    }
    write_json(args.out, result)
    phases.finish()
    print(table(rows))
    print(summary(rows))
    print(f"Written to {args.out}")


if __name__ == "__main__":
    launch(main)
