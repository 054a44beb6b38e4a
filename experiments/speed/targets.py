"""What the library should reach, and what it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

OURS, C = "stackjax", "C"


@dataclasses.dataclass(frozen=True)
class Target:
    """A peer's time over ours, for one context, from process time.

    Attributes:
      workload: Its name.
      peers: Beginning of the peers' names; the fastest of them counts. "" is every peer.
      ratio: At least this.
      flags: With the XLA flag.
    """

    workload: str
    peers: str
    ratio: float
    flags: bool = False


TARGETS = [
    *(
        Target("R1 N=4096", peers, ratio, flags)
        for flags, ratios in ((False, (70, 70, 12, 1 / 6)), (True, (250, 250, 30, 1 / 2)))
        for peers, ratio in zip(("jaxopt PG", "optimistix Dogleg", "naive Newton", C), ratios)
    ),
    Target("R1 N=256", "jaxopt PG", 15),
    Target("R1 N=1", "", 1),
    Target("R2 d=16", "jaxopt PG", 9),
    Target("R2 d=16", "optimistix Dogleg", 30),
    Target("R2 d=64", "jaxopt PG", 5),
    Target("R3 quadratic", "jaxopt PG", 22),
    Target("R3 quadratic", "optimistix", 5),
    Target("R3 entropic", "jaxopt MD", 6),
    Target("R3 entropic", "optimistix Dogleg", 20),
    Target("R4 N=512", "moreau", 1),
    *(
        Target("R4 N=512", peer, 4)
        for peer in ("jaxopt OSQP", "qpax", "proxsuite", "qpth", "cvxpylayers")
    ),
    Target("R5 N=512", "jaxopt", 20),
    Target("R6 N=1024, T=32", "jaxopt", 20),
    Target("S1 N=1024", "nashopt", 10_000),
]


def reached(report: dict[str, Any]) -> list[list[str]]:
    """A row for each target: what, where, wanted, got, and whether that is enough."""
    runs = {(run["workload"], run["flags"]): run for run in report["runs"] if "results" in run}
    rows = []
    for target in TARGETS:
        run = runs.get((target.workload, target.flags))
        if run is None or OURS not in run["results"]:
            continue
        peers = {name: each(run, name) for name in run["results"] if _is_peer(name, target.peers)}
        where = target.workload + (" flag" if target.flags else "")
        what = f"{target.peers or 'any peer'} / stackjax, CPU"
        if not peers:
            rows.append([where, what, f">= {target.ratio:.3g}", "", "not run"])
            continue
        best = min(peers, key=lambda name: peers[name])
        got = peers[best] / each(run, OURS)
        verdict = "yes" if got >= target.ratio else "no"
        if target.peers == C:
            row = [where, "stackjax / C, CPU", f"<= {1 / target.ratio:.3g}", f"{1 / got:.3g}"]
        else:
            row = [where, what, f">= {target.ratio:.3g}", f"{got:.3g} ({best})"]
        rows.append([*row, verdict])
    return rows + _flat(runs) + _compile(runs) + _gap(runs)


def each(run: dict[str, Any], name: str, clock: str = "cpu") -> float:
    """Seconds for one context."""
    result = run["results"][name]
    return result[clock] / (result["contexts"] or run["contexts"])


def _is_peer(name: str, start: str) -> bool:
    if start == C:
        return name == C
    return name.startswith(start) and name != C and not name.startswith(OURS)


Runs = dict[tuple[str, bool], dict[str, Any]]


def _flat(runs: Runs) -> list[list[str]]:
    ends = [runs.get((f"R1 N={n}", False)) for n in (4096, 1048576)]
    if not all(run is not None and OURS in run["results"] for run in ends):
        return []
    small, large = (each(run, OURS) for run in ends if run is not None)
    verdict = "yes" if large <= 1.5 * small else "no"
    what = "stackjax a context, N=1048576 / N=4096"
    return [["R1", what, "<= 1.5", f"{large / small:.3g}", verdict]]


def _compile(runs: Runs) -> list[list[str]]:
    run = runs.get(("R1 N=4096", False))
    if run is None or OURS not in run["results"]:
        return []
    jitted: Callable[[dict[str, Any]], bool] = lambda result: result["scratch_bytes"] is not None
    seconds = {name: r["compile"] for name, r in run["results"].items() if jitted(r)}
    ours = seconds[OURS]
    peers = {name: s for name, s in seconds.items() if not name.startswith(OURS)}
    rows = [["R1 N=4096", "compile, s", "<= 4", f"{ours:.3g}", "yes" if ours <= 4 else "no"]]
    if peers:
        best = min(peers, key=lambda name: peers[name])
        verdict = "yes" if ours <= peers[best] else "no"
        got = f"{ours:.3g} vs {peers[best]:.3g} ({best})"
        rows.append(["R1 N=4096", "compile, s, below every peer in JAX", "<= peers", got, verdict])
    return rows


def _gap(runs: Runs) -> list[list[str]]:
    run = runs.get(("S1 N=1024", False))
    if run is None or not {OURS, "nashopt"} <= set(run["results"]):
        return []
    ours, theirs = (run["results"][name]["gap_shared"] for name in (OURS, "nashopt"))
    verdict = "yes" if ours <= theirs + 1e-6 else "no"
    return [["S1 N=1024", "largest gap", "<= nashopt", f"{ours:.2g} vs {theirs:.2g}", verdict]]
