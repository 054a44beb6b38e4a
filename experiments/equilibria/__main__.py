"""Several followers: Nash equilibria by stackjax and by nashopt, on games with known answers.

Cournot's market in closed form, random linear-quadratic games with bounds and with shared
constraints against enumeration, games without an equilibrium, and a leader who taxes 20 firms.
An answer is right within 1e-5 of the largest entry; it is false where it is called an equilibrium
and is none. Both solvers run in float64, one game after another in turn.

    python -m experiments.equilibria              # a minute; with nashopt, ten minutes
    python -m experiments.equilibria --games 5

nashopt is compared where it is installed (`pip install -e ".[bench]"`). Writes equilibria.json.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import stackjax as sj
from experiments.common.args import check_out, parse
from experiments.common.command import launch
from experiments.common.results import environment, format_table, plain, write_json
from experiments.equilibria.games import (
    LinearQuadratic,
    chase,
    cournot,
    cournot_quantities,
    random_game,
)
from experiments.equilibria.solvers import Answer, by_nashopt, by_stackjax

_RIGHT = 1e-5


@dataclasses.dataclass(frozen=True)
class Args:
    """Compares solvers of several followers.

    Attributes:
      games: random games of each kind.
      seed: of the random games.
      out: file to write.
    """

    games: int = 30
    seed: int = 0
    out: Path = Path("results/equilibria.json")

    def __post_init__(self) -> None:
        if self.games < 1:
            raise ValueError(f"games must be at least 1, got {self.games}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run and print; returns what equilibria.json holds."""
    args = parse(Args, argv)
    check_out("out", args.out)
    solvers: dict[str, Callable[[LinearQuadratic], Answer]] = {"stackjax": by_stackjax}
    if importlib.util.find_spec("nashopt") is not None:
        solvers["nashopt"] = by_nashopt
    else:
        print("nashopt is not installed: stackjax alone")
    with jax.enable_x64(True):
        rows = [
            row for name, games in _kinds(args).items() for row in _compare(name, games, solvers)
        ]
        leader = _leader()
    results: dict[str, Any] = {
        "args": plain(args),
        "environment": environment(),
        "nashopt": importlib.metadata.version("nashopt") if "nashopt" in solvers else None,
        "equilibria": rows,
        "leader": leader,
    }
    table = lambda rows: format_table(list(rows[0]), [list(map(str, r.values())) for r in rows])
    print(table(rows))
    print(table([leader]))
    write_json(args.out, results)
    print(f"wrote {args.out}")
    return results


def _kinds(args: Args) -> dict[str, list[LinearQuadratic]]:
    rng = np.random.default_rng(args.seed)
    many = range(args.games)
    return {
        "Cournot, 2 firms": [cournot(2)],
        "Cournot, 5 firms": [cournot(5)],
        "Cournot, 20 firms": [cournot(20)],
        "bounds, 3 followers of 1": [random_game(rng, (1, 1, 1)) for _ in many],
        "bounds, followers of 1, 2, 2": [random_game(rng, (1, 2, 2)) for _ in many],
        "2 shared constraints, followers of 1, 2": [random_game(rng, (1, 2), 2) for _ in many],
        "no equilibrium": [chase(rng) for _ in many],
    }


def _compare(
    name: str, games: list[LinearQuadratic], solvers: dict[str, Callable[..., Answer]]
) -> list[dict[str, Any]]:
    """A row for each solver; the solvers take turns."""
    seconds: dict[str, list[float]] = {solver: [] for solver in solvers}
    counts = {solver: {"right": 0, "false": 0, "not converged": 0} for solver in solvers}
    for game in games:
        for solver, solve in solvers.items():
            began = time.perf_counter()
            answer = solve(game)
            seconds[solver].append(time.perf_counter() - began)
            right = game.exact is not None and bool(
                np.max(np.abs(answer.value - game.exact)) <= _RIGHT * np.max(np.abs(game.exact))
            )
            kind = ("right" if right else "false") if answer.converged else "not converged"
            counts[solver][kind] += 1
    if len(games) == 1:  # what a second call of the same game takes
        for solver, solve in solvers.items():
            began = time.perf_counter()
            solve(games[0])
            seconds[solver].append(time.perf_counter() - began)
    return [
        {
            "games": name,
            "solver": solver,
            "number": len(games),
            **counts[solver],
            "first_s": round(seconds[solver][0], 2),
            "later_ms": round(1e3 * float(np.median(seconds[solver][1:] or [np.nan])), 3),
        }
        for solver in solvers
    ]


def _leader(count: int = 20) -> dict[str, Any]:
    """A tax on the firms of Cournot's market, for revenue, against a search without derivatives."""
    costs = np.linspace(1.0, 2.0, count)
    firms = sj.Followers(
        lambda tax, own, r, demand, cost: own * (demand - jnp.sum(r) - cost - tax),
        jnp.asarray(costs),
    )
    game = sj.Game(
        lambda tax, r, demand: tax * jnp.sum(r),
        firms,
        action_set=sj.Box(0.0, 10.0),
        response_set=sj.Box(lower=0.0),
    )
    solve = jax.jit(
        lambda demand: sj.solve(
            game, action=jnp.array(1.0), response=jnp.ones(count), context=demand
        )
    )
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        found = jax.block_until_ready(solve(10.0))
        seconds.append(time.perf_counter() - began)
    revenue = lambda tax: tax * cournot_quantities(costs + tax).sum()
    grid = np.linspace(0, 9, 2001)
    best = grid[np.argmax([revenue(tax) for tax in grid])]
    exact: Any = scipy.optimize.minimize_scalar(
        lambda tax: -revenue(tax), bounds=(best - 0.01, best + 0.01), options={"xatol": 1e-10}
    )
    return {
        "followers": count,
        "tax": float(found.action),
        "revenue": float(found.leader_utility),
        "exact_tax": float(exact.x),
        "exact_revenue": -float(exact.fun),
        "converged": bool(found.converged),
        "first_s": round(seconds[0], 2),
        "later_ms": round(1e3 * float(np.median(seconds[1:])), 3),
    }


if __name__ == "__main__":
    launch(main)
