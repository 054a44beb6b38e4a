"""What the main job shows: the table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.common.results import format_table
from stackjax.agents.surrogate._diagnostics import Reliability, SurrogateReport
from stackjax.stats._bootstrap import Interval

Arms = Mapping[str, Mapping[str, Mapping[str, Interval]]]


def report(results: Mapping[str, Any]) -> str:
    """The numbers of results.json as text."""
    data, follower, leader = results["data"], results["follower"], results["leader"]
    chosen, arms = results["action_set"], results["evaluation"]["arms"]
    parts = [
        f"\nFitted on {data['fitting_turns']} turns of {data['fitting_episodes']} episodes "
        f"(models: {', '.join(data['models'])}).",
        predictors(results["predictors"]),
        f"Conservative is {cell(chosen['conservative'])}: {chosen['conservative_rule']}.\n"
        f"Action sets, of {len(chosen['cells'].cells)} cells: "
        + ", ".join(f"{len(cells)} ({name})" for name, cells in chosen["admissible"].items())
        + f"; {chosen['rule']}.",
        f"Follower, {follower['turns_test']} held-out demonstrations: RMSE "
        f"{vector(follower['rmse'])}, R^2 {vector(follower['r2'])} for (context, prompt, tools); "
        f"regret against the rational executor: heuristic {follower['regret_heuristic']:.4f}, "
        f"learned {follower['regret_learned']:.4f}.",
        "Strong concavity of the rational follower, over the fitting contexts: "
        f"mu >= {leader['strong_concavity_bound']['least']:.3f}.",
        f"Evaluation: {results['evaluation']['method']}.",
        *(arm_table(arms, base) for base in arms["Conservative"]),
        "Intervals: 95%, episode-clustered bootstrap; correctness in points of 100.",
        f"{results['seconds']['total']:.0f} s in all.",
    ]
    if results["evaluation"]["projection"]:
        parts.insert(5, projection_table(results["evaluation"]["projection"]))
    return "\n\n".join(parts)


def projection_table(prices: Mapping[str, Mapping[str, Any]]) -> str:
    """What projection costs each leader, in its own predicted utility, and what it signals."""
    header = ("leader against", "U_L before", "after", "price", "distance", "q", "alpha")
    rows = [
        (
            name,
            f"{row['utility_before']:.3f}",
            f"{row['utility_after']:.3f}",
            f"{row['price']:.3f}",
            f"{row['distance_mean']:.2f}",
            *(f"{m:.2f}+-{s:.2f}" for m, s in zip(row["action_mean"], row["action_std"])),
        )
        for name, row in prices.items()
    ]
    return format_table(header, rows)


def predictors(scores: SurrogateReport) -> str:
    """Held-out scores and the reliability table."""
    table: Reliability = scores.reliability
    return (
        f"Predictors on {scores.turns} held-out turns of {scores.episodes} episodes\n"
        f"  tokens   R^2 {scores.token_r2:.3f} (without convexity {scores.token_free_r2:.3f}), "
        f"MAE {scores.token_mae:.1f} tokens, bias {100 * scores.token_bias:+.1f}%\n"
        f"  quality  R^2 {scores.quality_r2:.3f} turn by turn (means by task type and cell reach "
        f"{scores.quality_ceiling:.3f}, without concavity {scores.quality_free_r2:.3f}),\n"
        f"           {scores.quality_cell_r2:.3f} of cell means, "
        f"{scores.quality_task_cell_r2:.3f} of task-and-cell means\n"
        f"           MAE {scores.quality_mae:.3f}, Brier {scores.brier:.3f} "
        f"(constant {scores.brier_constant:.3f}), calibration error {table.error:.3f}\n"
        + format_table(
            ("  predicted", *(f"{x:.2f}" for x in table.predicted)),
            [("  observed", *(f"{x:.2f}" for x in table.observed))],
        )
    )


def arm_table(arms: Arms, baseline: str) -> str:
    """One row an arm, with paired differences to a baseline."""
    rows = []
    for name, versus in arms.items():
        found = versus[baseline]
        rows.append(
            (
                name,
                f"{found['tokens'].estimate:.0f}",
                f"{100 * found['correct'].estimate:.1f}",
                *(
                    ("-", "-", "-")
                    if name == baseline
                    else (
                        interval(found["tokens_difference"], 1, 0),
                        interval(found["correct_difference"], 100, 1),
                        f"{100 * found['saving'].estimate:.1f}%",
                    )
                ),
            )
        )
    header = ("arm", "tokens/turn", "correct", f"tokens - {baseline}", f"correct - {baseline}")
    return format_table((*header, "saved"), rows)


def interval(value: Interval, scale: float, digits: int) -> str:
    """`estimate [low, high]`, scaled."""
    middle, low, high = (f"{scale * x:+.{digits}f}" for x in value)
    return f"{middle} [{low}, {high}]"


def cell(response: Any) -> str:
    """`(c, p, u)` with as few digits as they need."""
    return "(" + ", ".join(f"{float(x):g}" for x in response) + ")"


def vector(values: Any) -> str:
    """Numbers to three digits, side by side."""
    return " / ".join(f"{float(x):.3f}" for x in values)
