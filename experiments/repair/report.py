"""The tables of `experiments.repair`."""

from __future__ import annotations

from typing import Any

from experiments.common.results import format_table


def report(results: dict[str, Any]) -> str:
    """All tables as text."""
    parts = []
    for model, found in results["models"].items():
        turns = found["turns"]
        parts.append(
            f"\n== {model}: {turns['all']} recorded rows; predictors from "
            f"{turns['fitting']['rows']}, sets chosen on {turns['choosing']['turns']} turns, "
            f"figures from {turns['held_out']['turns']} held-out turns under all cells; "
            f"{turns['later']['rows']} later ones"
        )
        parts += [_predictors(found), _probes(found), _calibration(found), _set(found)]
        parts += [_need(found), _prices(found), _audit(found), _off_policy(found), _sessions(found)]
        parts.append(f"({found['seconds']['total']:.0f} s)")
    return "\n\n".join(parts)


def _predictors(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found["predictors"].items():
        numbers = [one[key] for key in ("token_r2", "token_task_cell_r2")]
        rows.append(
            [name, *(f"{x:.3f}" for x in numbers), f"{one['token_mae']:.0f}"]
            + [f"{one[key]:.3f}" for key in ("quality_r2", "quality_ceiling", "quality_cell_r2")]
            + [f"{one['reliability']['error']:.3f}"]
        )
    head = ["predictors", "token R2", "of means", "MAE", "quality R2", "means known"]
    return format_table([*head, "of cell means", "calibration error"], rows)


def _probes(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{p.channel} {p.low:g} -> {p.high:g}",
            _interval(p.tokens, 0),
            _interval(p.correct, 1, 100),
            _interval(p.elasticity, 2),
        ]
        for p in found["probes"]
        if p.task is None
    ]
    return format_table(["probe, all turns", "tokens", "correct, points", "elasticity"], rows)


def _calibration(found: dict[str, Any]) -> str:
    rows = []
    for name, kinds in found["calibration"].items():
        for kind, one in kinds.items():
            drift = one.get("drift")
            rows.append(
                [
                    f"{name}: {kind}",
                    f"{one['before'].mae.estimate:.3g}",
                    f"{one['after'].mae.estimate:.3g}",
                    f"{one['before'].correlation.estimate:.3f}",
                    "no later turns" if drift is None else drift.verdict,
                    "" if drift is None else _interval(drift.bias, 1, 100),
                    "" if drift is None else _interval(drift.slope, 2),
                ]
            )
    head = ["calibration", "MAE before", "after", "correlation", "later", "bias, %", "slope"]
    return format_table(head, rows)


def _set(found: dict[str, Any]) -> str:
    one = found["action_set"]
    lines = [
        f"Action set: {one['passing']} of {one['candidates']} candidates pass at a margin of "
        f"{100 * one['requirements'].margin:g} points, {one['at_half_the_margin']['passing']} at "
        "half of it; baseline "
        f"{tuple(float(x) for x in one['baseline'])}"
    ]
    lines += [f"  {task}: {reason}" for task, reason in one["reasons"].items()]
    sure = one["confirmation"]
    lines.append(
        f"  held out: quality {100 * sure.quality:+.1f} points (at least "
        f"{100 * sure.quality_low:+.1f}), failures {100 * sure.failure:.1f}% (at most "
        f"{100 * sure.failure_high:.1f}%), tokens {sure.tokens:+.0f} of "
        f"{sure.baseline_tokens:.0f} (at most {sure.tokens_high:+.0f}): "
        + ("confirmed" if sure.confirmed else "not confirmed")
        + (" (the baseline alone)" if one["members"].sum() == len(one["members"]) else "")
    )
    return "\n".join(lines)


def _need(found: dict[str, Any]) -> str:
    rows = [
        [name, _interval(one.share, 1, 100), f"{100 * one.correct:.1f}", f"{one.tokens:.0f}"]
        for name, one in found["need"]["arms"].items()
    ]
    return format_table(["low-tool misses", "% of turns", "% correct", "tokens"], rows)


def _prices(found: dict[str, Any]) -> str:
    rows = []
    for name, kinds in found["prices"].items():
        for kind, one in {
            **kinds["executed action"],
            "signal to a recorded one": kinds["signal, to a recorded one"],
        }.items():
            held = f"{one['held']:.4f}" if "held" in one else ""
            numbers = [f"{one[key]:.4f}" for key in ("before", "after", "price")]
            rows.append(
                [f"{name}: {kind}", f"{one['distance']:.3f}", numbers[0], held, *numbers[1:]]
            )
    head = ["price of projection", "distance", "before", "held", "after", "price"]
    return format_table(head, rows)


def _audit(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            _interval(one["audit"].outside, 1, 100),
            f"{one['audit'].distance:.2f}",
            f"{one['tokens']:.0f}" if "tokens" in one else "",
            f"{100 * one['correct']:.1f}" if "correct" in one else "",
        ]
        for name, one in found["audit"].items()
    ]
    head = ["audit", "% outside of the set", "distance", "tokens", "% correct"]
    return format_table(head, rows)


def _off_policy(found: dict[str, Any]) -> str:
    rows = []
    for name, both in found["off_policy"]["drawn from factorial"].items():
        for target, one in both.items():
            rows.append(
                [
                    f"{name}: {target}",
                    f"{one['truth']:.3g}",
                    f"{one['effective']:.1f}",
                    *[
                        f"{one[k]['rmse']:.2g} ({100 * one[k]['coverage']:.0f}%)"
                        for k in ("weighted", "self_normalised", "doubly_robust")
                    ],
                ]
            )
    head = ["off policy: error (coverage)", "truth", "effective", "weighted"]
    text = format_table([*head, "self-normalised", "doubly robust"], rows)
    rows = []
    for name, both in found["off_policy"]["later"].items():
        robust = {target: one.doubly_robust for target, one in both.items()}
        rows.append(
            [
                name,
                f"{both['tokens'].effective:.1f} of {both['tokens'].turns}",
                _interval(both["tokens"].self_normalised, 0),
                _interval(robust["tokens"], 0),
                _interval(robust["correct"], 1, 100),
            ]
        )
    if rows:
        head = ["later turns", "effective", "tokens, weighted", "doubly robust"]
        text += "\n\n" + format_table([*head, "% correct, doubly robust"], rows)
    return text


def _sessions(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found["sessions"].items():
        if isinstance(one, dict):
            real = one.get("recorded")
            rows.append(
                [name, f"{one['tokens']:.0f}", f"{100 * one['correct']:.1f}"]
                + [f"{one['linear_r2']:.3f}"]
                + (
                    []
                    if real is None
                    else [f"{real['tokens']:.0f}", f"{100 * real['correct']:.1f}"]
                )
                + ([] if real is None else [f"{real['linear_r2']:.3f}"])
                + (["", "", ""] if real is None else [])
            )
    head = ["sessions", "tokens", "% correct", "linear R2", "recorded tokens"]
    return format_table([*head, "% correct", "linear R2"], rows)


def _interval(value: Any, digits: int, factor: float = 1.0) -> str:
    estimate, low, high = (factor * x for x in value)
    return f"{estimate:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
