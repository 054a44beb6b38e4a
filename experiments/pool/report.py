"""The pilot's results as text."""

from __future__ import annotations

from typing import Any

from experiments.common.results import format_table
from experiments.pool.pilot import CONSERVATIVE_RANGE, MIN_ENTROPY, MIN_GAIN
from stackjax.agents.executor._adapter import CONTEXTS


def report(found: dict[str, Any]) -> str:
    """Tables of cells, criteria and budgets for each model of `pool_pilot.json`."""
    return "\n\n".join(_model(name, result) for name, result in found["executors"].items())


def _model(name: str, result: dict[str, Any]) -> str:
    r, bits, base = (result[key] for key in ("r_squared", "entropy_bits", "conservative"))
    low, high = r["interval"]
    passed = {key: "met" if met else "NOT met" for key, met in result["criteria"].items()}
    return "\n".join(
        [
            f"{name}: {result['turns']} turns of {result['sessions']} sessions under all cells, "
            f"{result['incomplete']} turns incomplete",
            _cells(result["cells"]),
            f"R^2, cross-validated by session: executor {r['executor']:.3f}, "
            f"leader {r['leader']:.3f}",
            f"gain {r['gain']:.3f} [{low:.3f}, {high:.3f}], at least {MIN_GAIN}: "
            + passed["information"],
            f"needed cell given the leader's state: {bits['given_state']:.2f} bits, without the "
            f"bias of few turns {bits['corrected']:.2f}, "
            f"from other sessions {bits['cross_entropy']:.2f}",
            f"at least {MIN_ENTROPY} bits: {passed['entropy']}",
            f"Conservative is {_name(base['cell'])}: {base['right']:.1%} right, within "
            f"{CONSERVATIVE_RANGE[0]:.0%} to {CONSERVATIVE_RANGE[1]:.0%}: {passed['conservative']}",
            _budgets(result["power"]),
            f"{name}: {'go' if result['go'] else 'no-go'}",
        ]
    )


def _name(cell: list[float]) -> str:
    c, p, u = cell
    return f"({CONTEXTS['3'][round(4 * c)]}, {p:g}, {u:g})"


def _cells(cells: list[dict[str, Any]]) -> str:
    header = ["cell", "right", "tokens", "needed by"]
    rows = [
        [_name(row["cell"]), f"{row['right']:.1%}", f"{row['tokens']:.0f}", str(row["needed"])]
        for row in cells
    ]
    return format_table(header, rows)


def _budgets(budgets: list[dict[str, Any]]) -> str:
    header = ["budget", "direct", "executor", "difference", "turns for +3", "turns for +5"]
    rows = [
        [
            f"{row['share']:.0%}",
            f"{row['right']['direct']:.1%}",
            f"{row['right']['executor']:.1%}",
            f"{100 * row['difference']:+.1f} +- {100 * row['standard_error']:.1f}",
            str(row["turns"]["0.03"]),
            str(row["turns"]["0.05"]),
        ]
        for row in budgets
    ]
    return format_table(header, rows)
