"""Transport plans: a follower with hundreds of variables and constraints, without a matrix.

The follower ships goods from n places to n others: n^2 amounts, 2 n totals, amounts >= 0. Its
utility has a quadratic or an entropic term. AugmentedLagrangian, which only multiplies, and where
that is feasible InteriorPoint, which forms the matrix of the optimality conditions, answer one
context and many; a derivative with respect to all n^2 costs comes with each answer. References are
Sinkhorn's iterations and a Newton method on the dual, in numpy alone; derivatives are compared with
their differences along a random direction.

    python -m experiments.transport               # some minutes
    python -m experiments.transport --size 10 --contexts 8

Prints a table and writes transport.json.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.common.args import check_out, check_seed, parse
from experiments.common.command import launch
from experiments.common.results import environment, format_table, plain, write_json
from experiments.transport import references

Market = tuple[jax.Array, jax.Array]
PLANS = {"quadratic": references.quadratic, "entropic": references.entropic}


@dataclasses.dataclass(frozen=True)
class Args:
    """Solves transport problems with two solvers, and compares them with references.

    Attributes:
      size: Places of origin, and of destination.
      dense: Largest size that InteriorPoint solves, too.
      contexts: Of a batch; each has costs of its own.
      heat: Weight of the quadratic or entropic term; costs are between 0 and 1.
      rounds: Calls that are timed; the fastest counts.
      seed: Of totals and costs.
      out: Folder of transport.json.
    """

    size: int = 30
    dense: int = 10
    contexts: int = 64
    heat: float = 0.1
    rounds: int = 3
    seed: int = 0
    out: Path = Path("results/transport")

    def __post_init__(self) -> None:
        for name in ("size", "dense", "contexts", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.heat < float("inf"):
            raise ValueError(f"heat must be positive and finite, got {self.heat}")
        check_seed(self.seed)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Solve, compare and print; returns what transport.json holds."""
    args = parse(Args, argv)
    check_out("out", args.out, folder=True)
    args.out.mkdir(parents=True, exist_ok=True)
    solvers: dict[str, sj.solvers.Solver] = {
        "AugmentedLagrangian": sj.solvers.AugmentedLagrangian()
    }
    if args.size <= args.dense:
        solvers["InteriorPoint"] = sj.InteriorPoint()
    with jax.enable_x64(True):
        rows = [
            measure(args, kind, name, solver, count)
            for kind in PLANS
            for name, solver in solvers.items()
            for count in sorted({1, args.contexts})
        ]
    results = {"args": plain(args), "environment": environment(), "rows": plain(rows)}
    write_json(args.out / "transport.json", results)
    header = (
        "utility, solver, contexts", "error", "slope error", "converged", "memory MB", "compile s",
        "run s",
    )  # fmt: skip
    print(
        format_table(
            header,
            [
                (
                    f"{r['utility']}, {r['solver']}, {r['contexts']}", f"{r['error']:.1e}",
                    f"{r['slope_error']:.1e}", f"{r['converged']}/{r['contexts']}",
                    f"{r['memory'] / 2**20:.1f}", f"{r['compile_s']:.1f}", f"{r['run_s']:.3f}",
                )
                for r in rows
            ],
        )
    )  # fmt: skip
    print(f"\nwrote {args.out / 'transport.json'}")
    return results


def measure(
    args: Args, kind: str, name: str, solver: sj.solvers.Solver, count: int
) -> dict[str, Any]:
    """One solver's answers to `count` contexts, beside the references of the first four."""
    rng, n = np.random.default_rng(args.seed), args.size
    supply, demand = rng.uniform(0.5, 1.5, (2, n))
    demand *= supply.sum() / demand.sum()
    way, weights = rng.normal(size=(2, n, n))
    costs = rng.uniform(0, 1, (count, n, n))
    # Plans have entries of about 1 / n: then both terms weigh alike.
    heat = args.heat * n if kind == "quadratic" else args.heat
    market = supply, demand
    loss = follower(kind, solver, n, heat, weights)
    run: Any = jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True), in_axes=(0, None)))
    begun = time.perf_counter()
    compiled = run.lower(costs, market).compile()
    built = time.perf_counter() - begun
    times = []
    found: Any = None
    for _ in range(args.rounds):
        begun = time.perf_counter()
        found = jax.block_until_ready(compiled(costs, market))
        times.append(time.perf_counter() - begun)
    (_, answer), slopes = found
    errors, slope_errors = [], []
    for i in range(min(count, 4)):
        plan = lambda cost: PLANS[kind](cost, supply, demand, heat)
        errors.append(np.abs(answer.value[i] - plan(costs[i])).max())
        step = 1e-3 * args.heat if kind == "entropic" else 1e-6
        wanted = references.slope(plan, costs[i], way, weights, step)
        slope_errors.append(abs(np.sum(slopes[i] * way) - wanted) / abs(wanted))
    memory = compiled.memory_analysis()
    return {
        "utility": kind,
        "solver": name,
        "size": n,
        "contexts": count,
        "error": float(max(errors)),
        "slope_error": float(max(slope_errors)),
        "converged": int(answer.converged.sum()),
        "steps": float(answer.steps.mean()),
        "memory": int(memory.temp_size_in_bytes + memory.output_size_in_bytes),
        "compile_s": built,
        "run_s": min(times),
    }


def follower(
    kind: str,
    solver: sj.solvers.Solver,
    n: int,
    heat: float,
    weights: np.ndarray,
) -> Callable[[jax.Array, Market], tuple[jax.Array, sj.Response]]:
    """`costs [n, n], (supply [n], demand [n]) -> (weights . plan, Response)`."""
    plans = sj.Constrained(
        equality=lambda a, r, x: jnp.concatenate([r.sum(1) - x[0], r.sum(0) - x[1]]),
        box=sj.Box(lower=0.0),
    )
    terms = {
        "quadratic": lambda r: jnp.sum(r**2) / 2,
        "entropic": lambda r: jnp.sum(r * jnp.log(r)),
    }
    worth = lambda a, r, x: -jnp.sum(a * r) - heat * terms[kind](r)
    game = sj.Game(worth, worth, response_set=plans)
    start = jnp.full((n, n), 1 / n)

    def loss(cost: jax.Array, market: Market) -> tuple[jax.Array, sj.Response]:
        found = sj.best_response(game, cost, market, response=start, solver=solver)
        return jnp.sum(weights * found.value), found

    return loss


if __name__ == "__main__":
    launch(main)
