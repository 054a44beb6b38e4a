"""The numbers of README's table of claims are those of the result files.

Each claim's numbers are computed here from `experiments/results`, and looked up in the rows of
README's table that name the study, and in the study's own README, where there is one.
"""

import functools
import json
import pathlib
import re
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
README = (ROOT / "README.md").read_text()


@functools.cache
def result(name: str) -> Any:
    text = (RESULTS / name).read_text()
    return [json.loads(x) for x in text.splitlines()] if name.endswith("l") else json.loads(text)


def numbers(text):
    """The numbers in a text, without `+` and thousands separators: `-0.2`, `12.7%`, `1019`."""
    text = text.replace("\N{MINUS SIGN}", "-")
    found = re.findall(r"(?<![\w.])(?:(?<![\w%])-)?\d+(?:,\d{3})*(?:\.\d+)?%?", text)
    return {number.replace(",", "") for number in found}


def percent(share, digits):
    return f"{100 * share:.{digits}f}"


def agents():
    found = result("main.json")["executors"]["qwen"]["primary"]["all"]
    saved, points, test = found["saving"], found["correct"], found["non_inferiority"][0]
    assert test["margin"] == 0.02
    return [
        percent(saved["estimate"], 1) + "%",
        *(percent(saved[side], 1) for side in ("low", "high")),
        *(percent(points[side], 1) for side in ("estimate", "low", "high")),
        f"{test['p']:.3f}",
        str(found["turns"]),
    ]


def classical():
    problems = result("classical.jsonl")[1:]
    concave = [one["solved"] for one in problems if one["kind"] in ("strong", "convex")]
    assert all(concave)
    solved = sum(one["solved"] for one in problems)
    proofs, smd = (result(f"{name}.jsonl")[1:] for name in ("classical_proofs", "multimodal"))
    assert not [one for one in proofs if one["converged"] and not one["solved"]]
    assert all(one["proven"] for one in smd)
    right = sum(one["solved"] for one in proofs)
    names = {one["name"] for one in smd}
    others = names - {one["name"] for one in smd if not one["solved"]}
    counts = solved, len(problems), len(concave), right, len(proofs), len(others), len(names)
    return [*map(str, counts)]


def labels():
    orders = result("labels.json")["real"]["orders"]
    share = lambda order: orders[order]["methods"]["LLF gap"]["accuracy_share"]
    budget = result("labels.json")["settings"]["share"]
    return [
        percent(budget, 0) + "%",
        percent(share("random"), 1) + "%",
        percent(share("by subject"), 1) + "%",
    ]


def speed_run():
    """4,096 followers of three numbers in a box, without XLA flags."""
    runs = result("bench.json")["runs"]
    (run,) = (x for x in runs if x["workload"] == "R1 N=4096" and not x["flags"])
    return run


def speed():
    results = speed_run()["results"]
    milliseconds = lambda name: 1e3 * results[name]["cpu"]
    return [
        str(speed_run()["contexts"]),
        f"{milliseconds('stackjax'):.1f}",
        f"{milliseconds('naive Newton'):.0f}",
        percent(results["jaxopt PG"]["wrong"], 0) + "%",
        percent(results["unrolled gradient"]["wrong"], 0) + "%",
    ]


def learning():
    problems = result("learning.json")["problems"]
    fewer = lambda game: problems[game]["methods"]["implicit"]["samples_ratio_ppo_final"][
        "estimate"
    ]
    gain = lambda way: problems["resource game"]["methods"][way]["gain"]["estimate"]
    return [
        f"{fewer('toll road'):.0f}",
        f"{fewer('quadratic'):.0f}",
        percent(gain("PPO") - gain("implicit"), 1) + "%",
    ]


def equilibria():
    """Of games with an equilibrium how many are right, and of those without how many accepted."""
    rows = result("equilibria.json")["equilibria"]
    without = "no equilibrium"
    right = lambda who: sum(x["right"] for x in rows if x["solver"] == who)
    accepted = lambda who: sum(
        x["false"] for x in rows if x["solver"] == who and x["games"] == without
    )
    games = sum(x["number"] for x in rows if x["solver"] == "stackjax" and x["games"] != without)
    empty = sum(x["number"] for x in rows if x["solver"] == "stackjax" and x["games"] == without)
    assert right("stackjax") == games and accepted("stackjax") == 0
    assert not [x for x in rows if x["false"] and (x["solver"], x["games"]) != ("nashopt", without)]
    assert accepted("nashopt") == empty
    return [str(games), str(right("nashopt")), str(empty)]


CLAIMS = {
    "equilibria": equilibria,
    "confirmatory": agents,
    "classical": classical,
    "labels": labels,
    "speed": speed,
    "learning": learning,
}


def rows(study):
    """The rows of README's tables that name a study."""
    named = re.compile(rf"experiments[./]{study}\b")
    return "\n".join(x for x in README.splitlines() if x.startswith("|") and named.search(x))


@pytest.mark.parametrize("study", CLAIMS)
def test_readme_has_the_numbers(study):
    missing = [number for number in CLAIMS[study]() if number not in numbers(rows(study))]
    assert not missing, f"not in README's row on {study}: {missing}"


@pytest.mark.parametrize("study", ["confirmatory", "labels"])
def test_the_study_has_the_numbers(study):
    text = (ROOT / "experiments" / study / "README.md").read_text()
    missing = [number for number in CLAIMS[study]() if number not in numbers(text)]
    assert not missing


def test_the_failure_of_labels_is_reported():
    found = result("labels.json")["real"]["orders"]["hardest first"]["methods"]["LLF gap"]
    share = percent(found["accuracy_share"], 0) + "%"
    for page in (README, (ROOT / "experiments/labels/README.md").read_text()):
        assert share in numbers(page)


def test_no_gradient_is_wrong():
    """Of 4,096 none; and naive Newton is the fastest other JAX program with right gradients."""
    results = speed_run()["results"]
    assert results["stackjax"]["wrong"] == 0
    right = {name: x["cpu"] for name, x in results.items() if x["wrong"] == 0}
    torch = {"PyTorch", "TorchOpt"}
    peers = {name: cpu for name, cpu in right.items() if name not in {"stackjax", "C", *torch}}
    assert min(peers, key=peers.__getitem__) == "naive Newton"


def test_no_random_game_is_wrong():
    """The oracle's claim: of random games none is wrong though converged, nor its derivative."""
    rows = [row["tally"] for row in result("oracle.json")["rows"]]
    assert len(rows) > 100 and all(row["games"] for row in rows)
    for wrong in ("wrong", "wrong_slopes", "wrong_seconds"):
        assert not [row["kind"] for row in rows if row[wrong]]


def test_numbers_are_found():
    row = "| 12.7% [11.5, 13.8], -0.2 points [-1.4,+1.0], 1,019 turns of 0.5B (p = 0.002), 8-26 |"
    wanted = "12.7% 11.5 13.8 -0.2 -1.4 1.0 1019 0.5 0.002 8 26"
    assert numbers(row) == set(wanted.split())
    assert numbers("R1, 2.") == {"2"}
