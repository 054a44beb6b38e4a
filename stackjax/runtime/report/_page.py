"""A runtime's summary as text, figures and one HTML page."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stackjax.runtime.report._summary import RolloutSummary

Row = tuple[str, str]


def rows_of(summary: RolloutSummary) -> list[Row]:
    """Names and values, as they are printed."""
    kinds = ("input", "cached input", "output")
    rows: list[Row] = [*_savings(summary)]
    rows += [
        ("turns, calls, sessions", f"{summary.turns}, {summary.calls}, {summary.sessions}"),
        ("from, to", ", ".join(summary.period)),
        ("models", ", ".join(summary.models) or "unknown"),
        ("policies", ", ".join(summary.policies)),
        ("turns by arm", _counts(summary.arms)),
        ("mean tokens by arm", _counts({k: round(v, 1) for k, v in summary.tokens.items()})),
    ]
    rows += [
        (f"mean tokens, {arm}", ", ".join(f"{k} {v:.1f}" for k, v in zip(kinds, parts)))
        for arm, parts in summary.kinds.items()
    ]
    if summary.cost is not None:
        costs = ", ".join(f"{arm} {value:.6g}" for arm, value in sorted(summary.cost.items()))
        rows.append(("mean cost of a turn by arm", costs))
    rows.append(("fallbacks and failures", _counts(summary.fallbacks) or "none"))
    if summary.bounds is not None:
        bounds = summary.bounds
        rows += [
            ("recommendations not carried out", str(bounds.turns)),
            ("of them what the agent did anyway", f"{bounds.agreement:.1%}"),
        ]
        if bounds.quality_low is not None and bounds.quality_high is not None:
            known = f"[{bounds.quality_low:.3f}, {bounds.quality_high:.3f}]"
            rows.append(("quality, bounds without assumptions", known))
    if summary.comparison is not None:
        found = summary.comparison
        rows += [
            ("sessions governed, untouched", f"{found.sessions[0]}, {found.sessions[1]}"),
            ("of them rated", f"{found.rated[0]}, {found.rated[1]}"),
            ("effect on quality, valid at any time", _interval(found.quality.last, 3)),
            ("effect on tokens a turn, valid at any time", _interval(found.tokens.last, 1)),
            ("effect on failed turns, valid at any time", _interval(found.failures.last, 3)),
            ("verdict", found.verdict + _at(found.stopped_at)),
        ]
    for policy, outcomes in (summary.off_policy or {}).items():
        for what, made in outcomes.items():
            if made.sessions:
                digits = 1 if what == "tokens" else 3
                value = _interval((made.snips, made.low, made.high), digits)
                text = f"{value}, effective sessions {made.effective:.1f} of {made.sessions}"
                rows.append((f"off-policy {what}, {policy}", text))
    return [(printable(name), printable(value)) for name, value in rows]


def _savings(summary: RolloutSummary) -> list[Row]:
    """The headline: what was measured, and what a model estimates."""
    rows = []
    if summary.saving is not None:
        against = "measured against sessions left alone, valid at any time"
        rows.append((f"tokens saved, {against}", _percent(summary.saving)))
        if summary.cost_saving is not None:
            rows.append((f"cost saved, {against}", _percent(summary.cost_saving)))
    else:
        rows.append(("tokens saved", "not measured: no session was left alone by chance"))
    if summary.estimate is not None:
        text = "tokens saved, a model's estimate: predicted as sent against predicted as it came"
        rows.append((text, _percent(summary.estimate)))
    return rows


def printable(text: str) -> str:
    r"""The text with control characters and other unprintable ones spelled out.

    A log may be forged: nothing in it may reach a terminal as an escape.

    Example:
      >>> print(printable("a" + chr(27) + "[2J"))
      a\x1b[2J
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def as_text(summaries: Sequence[RolloutSummary], shadow: Mapping[str, Any] | None) -> str:
    """The report as it is printed."""
    parts = []
    for summary in summaries:
        rows = rows_of(summary)
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name.ljust(width)}  {value}" for name, value in rows]
        parts.append("\n".join([f"roll-out {printable(summary.label)}", *lines]))
    if shadow is not None:
        parts.append(_shadow_text(shadow))
    return "\n\n".join(parts)


def _shadow_text(shadow: Mapping[str, Any]) -> str:
    lines = [f"shadow records, cells of at least {shadow['minimum']}"]
    for cell in shadow["cells"]:
        action = "none" if cell["action"] is None else " ".join(f"{x:g}" for x in cell["action"])
        row = f"  {cell['day']}  {cell['task']}  ({action})  {cell['count']}"
        lines.append(printable(row))
    other = shadow["other"]
    lines.append(f"  in smaller cells: {'fewer than the minimum' if other is None else other}")
    return "\n".join(lines)


def figures(summaries: Sequence[RolloutSummary]) -> dict[str, bytes]:
    """PNG files by name: one of the confidence sequences for each comparison, one of fallbacks.

    Raises:
      ImportError: If matplotlib is not installed (extra `plot`).
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('The figures need matplotlib: `pip install "stackjax[plot]"`.') from error
    made = {}
    for summary in summaries:
        if summary.comparison is None or not sum(summary.comparison.sessions):
            continue
        figure, axes = pyplot.subplots(1, 2, figsize=(9.0, 3.2), layout="constrained")
        for axis, name, sequence in (
            (axes[0], "quality", summary.comparison.quality),
            (axes[1], "tokens a turn", summary.comparison.tokens),
        ):
            count = range(1, len(sequence) + 1)
            bounded = [math.isfinite(x) for x in sequence.low]
            low = [x if ok else math.nan for x, ok in zip(sequence.low, bounded)]
            high = [x if ok else math.nan for x, ok in zip(sequence.high, bounded)]
            axis.fill_between(count, low, high, alpha=0.25, label="valid at any time")
            axis.plot(count, sequence.estimate, label="estimate")
            axis.axhline(0.0, color="black", linewidth=0.8)
            axis.set_xlabel("sessions" if name != "quality" else "rated sessions")
            axis.set_title(f"effect of governing on {name}")
        axes[0].legend()
        made[f"comparison-{_slug(summary.label)}"] = _png(figure, pyplot)
    reasons: dict[str, int] = {}
    for summary in summaries:
        for reason, count in summary.fallbacks.items():
            reasons[reason] = reasons.get(reason, 0) + count
    if reasons:
        figure, axis = pyplot.subplots(
            figsize=(6.0, 0.6 + 0.4 * len(reasons)), layout="constrained"
        )
        names = sorted(reasons, key=lambda name: reasons[name])
        shown = [printable(name)[:60].replace("$", r"\$") for name in names]  # no mathematics
        axis.barh(range(len(names)), [reasons[name] for name in names], tick_label=shown)
        axis.set_xlabel("turns")
        axis.set_title("fallbacks and failures by reason")
        made["fallbacks"] = _png(figure, pyplot)
    return made


def as_html(
    summaries: Sequence[RolloutSummary],
    shadow: Mapping[str, Any] | None,
    images: Mapping[str, bytes],
) -> str:
    """One page that needs no other file."""
    parts = []
    for summary in summaries:
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
            for name, value in rows_of(summary)
        )
        parts.append(f"<h2>roll-out {html.escape(summary.label)}</h2><table>{cells}</table>")
    for name, content in images.items():
        data = base64.b64encode(content).decode()
        alt = html.escape(name, quote=True)
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    if shadow is not None:
        parts.append(f"<pre>{html.escape(_shadow_text(shadow))}</pre>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Runtime report</title>'
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}"
        "td{padding:.2em 1em .2em 0;border-bottom:1px solid #ddd}img{max-width:100%}</style>"
        f"<h1>Runtime report</h1>{''.join(parts)}</html>\n"
    )


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(counts.items()))


def _percent(interval: tuple[float, float, float]) -> str:
    estimate, low, high = (f"{x:.1%}" if math.isfinite(x) else "unknown" for x in interval)
    return f"{estimate} [{low}, {high}]"


def _interval(values: tuple[float, float, float], digits: int) -> str:
    estimate, low, high = (f"{x:.{digits}f}" if math.isfinite(x) else "unknown" for x in values)
    return f"{estimate} [{low}, {high}]"


def _at(stopped: int | None) -> str:
    return "" if stopped is None else f", first at session {stopped}"


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label[:60])


def _png(figure: Any, pyplot: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()
