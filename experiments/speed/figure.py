"""The figure of `experiments.speed`: CPU time over that of the fastest right contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.common.figures import SMALL, Row, listed, picture, readable, title
from experiments.speed.targets import OURS, C, each
from stackjax.plot import COLORS

RIGHT = 0.01  # share of gradients that may be off by more than 1%
MOST = 8  # bars in a panel
LEFT = 90  # points that names take


class Panel(NamedTuple):
    """A workload: its name in the results, its title, who is left out of it."""

    workload: str
    text: str
    without: Sequence[str] = ()


PANELS = (
    Panel(
        "R1 N=4096",
        "3 numbers in a box, 4,096 contexts",
        ("optimistix Dogleg", "optimistix Newton", "TorchOpt"),
    ),
    Panel("R4 N=512", "quadratic programs, 512 contexts"),
    Panel("R2 d=64", "64 numbers in a box, 1,024 contexts"),
    Panel("R3 quadratic", "8 shares, quadratic, 1,024 contexts"),
    Panel("R3 entropic", "8 shares, entropic, 1,024 contexts"),
)
JOBS = {
    "R5 N=512": "leader's training",
    "R6 N=1024, T=32": "32-turn sessions",
    "S1 N=1024": "leader's optimum",
}
NAMES = {
    C: "C by hand",
    "naive Newton": "Newton in plain JAX",
    "unrolled gradient": "50 unrolled steps",
    "jaxopt PG": "jaxopt",
    "jaxopt PG fixed step": "jaxopt, fixed step",
    "jaxopt MD": "jaxopt mirror",
    "jaxopt MD 1e-5": "jaxopt mirror, 1e-5",
    "jaxopt OSQP": "jaxopt OSQP",
    "optimistix Dogleg": "optimistix Dogleg",
    "optimistix LevenbergMarquardt": "optimistix LM",
    "moreau.jax": "moreau from JAX",
}


def figure(path: Path, report: dict[str, Any]) -> None:
    """Bars of CPU time, a panel for each workload; hatched: wrong gradients."""
    runs = {
        run["workload"]: run for run in report["runs"] if run.get("results") and not run["flags"]
    }
    panels = [panel for panel in PANELS if panel.workload in runs]
    panels = panels or [Panel(name, name) for name in runs][:MOST]
    jobs = {
        name: text for name, text in JOBS.items() if len(runs.get(name, {}).get("results", ())) > 1
    }
    count = len(panels) + bool(jobs)
    sizes = [min(len(runs[p.workload]["results"]) - len(p.without), MOST) for p in panels]
    sizes += [len(jobs)] * bool(jobs)
    heights = [max(sizes[2 * line : 2 * line + 2]) + 1.8 for line in range(-(-count // 2))] or [1.0]
    note = (
        "Hatched: more than 1% of the gradients are off by more than 1% (their share is beside the "
        "bar). CPU time over that of the fastest right contender; value and total derivative of "
        "each context. All workloads and contenders are in bench.json."
    )
    with picture(path, 1.0 + 0.185 * sum(heights), headline=headline(runs), note=note) as drawing:
        axes = drawing.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
        for number, ax in enumerate(axes.flat):
            if number < len(panels):
                _bars(ax, runs[panels[number].workload], panels[number].without)
                title(ax, "abcdefgh"[number], panels[number].text, left=LEFT)
            elif number < count:
                _jobs(ax, runs, jobs)
                title(
                    ax,
                    "abcdefgh"[number],
                    "the best peer, stackjax is 1\N{MULTIPLICATION SIGN}",
                    left=LEFT,
                )
            else:
                ax.set_axis_off()


def headline(runs: dict[str, Any]) -> str:
    """How many times faster than the next right JAX program, and than C."""
    run = runs.get("R1 N=4096", {"results": {}})
    if not {OURS, C} <= set(run["results"]):
        return ""
    peers = {n: each(run, n) for n in run["results"] if n not in (OURS, C) and _right(run, n)}
    if not peers:
        return ""
    ours = each(run, OURS)
    return (
        f"Right gradients {min(peers.values()) / ours:.0f} times faster than the next right "
        f"program in JAX; C is {ours / each(run, C):.0f} times faster still"
    )


def _right(run: dict[str, Any], name: str) -> bool:
    return (run["results"][name].get("wrong") or 0.0) <= RIGHT


def _bars(ax: Axes, run: dict[str, Any], without: Sequence[str]) -> None:
    names = [name for name in run["results"] if name not in without]
    names = sorted(names, key=lambda name: each(run, name))[:MOST]
    best = min((each(run, name) for name in names if _right(run, name)), default=None)
    best = each(run, names[0]) if best is None else best
    ratios = [each(run, name) / best for name in names]
    rows, texts, wrong = [], [], []
    for name, ratio in zip(names, ratios):
        role = "leader" if name == OURS else "reference" if name == C else "tried"
        rows.append(Row(NAMES.get(name, name), ratio, ratio, ratio, role))
        share = run["results"][name].get("wrong") or 0.0
        wrong.append(not _right(run, name))
        texts.append(f"{_times(ratio)}, {100 * share:.2g}% wrong" if wrong[-1] else _times(ratio))
    _draw(ax, rows, texts, wrong)


def _jobs(ax: Axes, runs: dict[str, Any], jobs: dict[str, str]) -> None:
    rows, texts = [], []
    for name, text in jobs.items():
        run = runs[name]
        peer = min((n for n in run["results"] if n != OURS), key=lambda n: each(run, n))
        ratio = each(run, peer) / each(run, OURS)
        rows.append(Row(text, ratio, ratio, ratio))
        texts.append(f"{_times(ratio)}, {peer.split()[0]}")
    _draw(ax, rows, texts, [False] * len(rows))


def _draw(ax: Axes, rows: Sequence[Row], texts: Sequence[str], wrong: Sequence[bool]) -> None:
    ratios = [row.estimate for row in rows]
    start = 0.6 * min(ratios)
    for at, (row, text, bad) in enumerate(zip(rows, texts, wrong)):
        fill: dict[str, Any] = {"facecolor": COLORS[row.role]}
        if bad:
            fill = {"facecolor": "white", "edgecolor": COLORS["warning"], "hatch": "/////"}
        ax.barh(at, row.estimate - start, 0.72, left=start, **fill)
        label = ax.annotate(
            text,
            (row.estimate, at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=COLORS["warning"] if bad else readable(row.role),
        )
        label.set_in_layout(False)
    listed(ax, rows)
    ax.set_xscale("log")
    ax.set_xlim(start, start * (max(ratios) / start) ** 2.2)
    ax.xaxis.set_major_locator(LogLocator(numticks=5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _times(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    ax.spines["bottom"].set_visible(False)


def _times(ratio: float) -> str:
    """A ratio, as short as it is exact enough: 1.3, 15, 2,400."""
    return (
        f"{ratio:.2g}\N{MULTIPLICATION SIGN}"
        if ratio < 10
        else f"{ratio:,.0f}\N{MULTIPLICATION SIGN}"
    )
