"""Tables and targets of the label experiment."""

from __future__ import annotations

from typing import Any

from experiments.common.results import format_table
from experiments.labels.methods import OURS


def number(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"


def level(threshold: float | None) -> str:
    """A threshold; JSON knows no minus infinity, the one that asks always, and holds None."""
    return "-inf" if threshold is None else f"{threshold:g}"


def table(title: str, found: dict[str, Any]) -> str:
    """One kind of stream."""
    rows = []
    for name, one in found["methods"].items():
        low, high = one["minus_best_baseline"]["interval"]
        apart = f"[{low:+.1f}, {high:+.1f}]" if name != found["best_baseline"] else "best baseline"
        rows.append(
            (
                name,
                number(one["regret"]),
                number(one["standard_error"]),
                f"{one['labels']:.0f}",
                f"{one['accuracy']:.3f}",
                f"{100 * one['accuracy_share']:.1f} %",
                level(one["chosen"]["threshold"]),
                f"{one['chosen']['scale']:g}",
                apart,
            )
        )
    header = ("method", "regret", "s.e.", "labels", "accuracy", "of full", "threshold", "scale",
              "minus best baseline [95 %]")  # fmt: skip
    return f"\n{title}\n\n" + format_table(header, rows)


def verdict(one: dict[str, Any]) -> str:
    """How a difference to a baseline is to be read."""
    low, high = one["interval"]
    if high < 0:
        return "better"
    return "worse" if low > 0 else "not distinguishable"


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets set beforehand, what was measured, and whether they are met."""
    out = []
    for name, found in results["real"]["orders"].items():
        share = found["methods"]["LLF gap"]["accuracy_share"]
        out.append(
            {
                "target": f"votes, {name}: accuracy at 10 % labels >= 97 % of full information",
                "measured": f"{100 * share:.1f} %",
                "met": share >= 0.97,
            }
        )
    rate = results["rates"]["full feedback, in T"]
    low, high = rate["interval"]
    out.append(
        {
            "target": "slope of log regret in log T with full feedback <= 0.55",
            "measured": f"{rate['slope']:.2f} [{low:.2f}, {high:.2f}]",
            "met": high <= 0.55,
        }
    )
    for name, found in results["synthetic"].items():
        one = found["methods"]["LLF gap"]["minus_best_baseline"]
        equal = name == "iid"
        said = verdict(one)
        ahead = [n for n in OURS if verdict(found["methods"][n]["minus_best_baseline"]) == "better"]
        out.append(
            {
                "target": f"{name}: regret of LLF gap "
                + ("no worse than" if equal else "less than")
                + " the best baseline's",
                "measured": f"{said} ({one['mean']:+.1f} against {found['best_baseline']}, "
                f"[{one['interval'][0]:+.1f}, {one['interval'][1]:+.1f}]); "
                f"readings that are better: {', '.join(ahead) or 'none'}",
                "met": said != "worse" if equal else said == "better",
            }
        )
    return out


def first_b(results: dict[str, Any]) -> list[str]:
    """Where labelling the first rounds is at least as good as the default gate."""
    kinds = {
        **results["synthetic"],
        **{f"votes, {k}": v for k, v in results["real"]["orders"].items()},
    }
    return [
        f"{name}: LLF gap is {verdict(one)} than first B"
        if verdict(one) != "not distinguishable"
        else f"{name}: LLF gap and first B are not distinguishable"
        for name, one in (
            (name, found["methods"]["LLF gap"]["minus_first_B"]) for name, found in kinds.items()
        )
    ]


def shares(one: Any) -> str:
    """An accuracy, or one for each share of labels."""
    if not isinstance(one, dict):
        return f"{one:.3f}"
    return ", ".join(f"{float(share):.0%} {value:.3f}" for share, value in one.items())


def report(results: dict[str, Any]) -> str:
    """All of it as text."""
    parts = [table(f"Stream: {n}", f) for n, f in results["synthetic"].items()]
    parts += [table(f"Votes, order: {n}", f) for n, f in results["real"]["orders"].items()]
    parts.append("\nHeld-out accuracy on the votes, by share of labels drawn at random\n")
    parts += [f"{name}: {shares(one)}" for name, one in results["real"]["labels_matter"].items()]
    parts.append("\nTargets\n")
    parts += [f"{'met   ' if t['met'] else 'missed'} {t['target']}: {t['measured']}"
              for t in results["targets"]]  # fmt: skip
    parts.append("\nFirst B\n")
    parts += results["first_b"]
    tuned, long = results["tuned_gate"], results["long_run"]
    best = min(h["regret"] for h in tuned["hand_set"])
    parts.append(f"\nTuned by gradient; best of {len(tuned['hand_set'])} hand-set: {best:.1f}")
    for one in tuned["tuned"]:
        low, high = one["minus_best_hand_set"]["interval"]
        parts.append(
            f"from threshold {one['start']['threshold']:g}, scale {one['start']['scale']:g}: "
            f"regret {one['start_regret']:.1f} -> {one['regret']:.1f}, minus the best hand-set "
            f"[{low:+.1f}, {high:+.1f}]"
        )
    parts.append(
        f"{long['rounds']:,} rounds, d = {long['dim']}: {long['seconds']:.0f} s, "
        f"{long['megabytes']:.1f} MB, inverse off by {long['inverse_relative_error']:.1e}"
    )
    for name, one in results["last_layer"].items():
        if isinstance(one, dict):
            line = ", ".join(
                f"{k} {v['regret']:.0f} +- {v['standard_error']:.0f}" for k, v in one.items()
            )
            parts.append(f"Bent rewards, {name}: {line}")
    return "\n".join(parts)
