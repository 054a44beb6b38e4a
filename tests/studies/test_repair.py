"""`experiments/repair`: what it refuses, and, slowly, the whole of it on a made-up log."""

import dataclasses
import json

import pytest
from synthetic_turns import synthetic_log

from experiments.repair import __main__ as repair  # pyright: ignore[reportMissingImports]
from experiments.repair.fit import prepare  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "data: no such file or folder: nowhere"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--level", "1"], "`level` must lie in (0, 1); got 1.0"),
        (["--tool-cap", "2"], "tool-cap must lie in [0, 1], got 2.0"),
        (["--margin", "-1"], "`margin` must lie in [0, 1]; got -1.0"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        repair.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_logs_that_do_not_suffice(tmp_path):
    with pytest.raises(ValueError, match="holds no turns"):
        repair.read(tmp_path)
    records = synthetic_log(0, random=3, heuristic=2, factorial=2)
    with pytest.raises(ValueError, match="2 complete factorial episodes, need at least 3"):
        prepare(records, seed=0, steps=1)
    with pytest.raises(ValueError, match='no turn of design "random"'):
        prepare([r for r in records if r.design != "random"], seed=0, steps=1)


def test_logs_are_read_by_model(tmp_path):
    records = synthetic_log(0, random=2, heuristic=0, factorial=0)
    for name, model in (("turns.jsonl", "one"), ("turns-two.jsonl", "two")):
        rows = [dataclasses.replace(record, model=model) for record in records]
        text = "".join(row.to_json() + "\n" for row in rows)
        (tmp_path / name).write_text(text[: -9 if model == "two" else None])
    files, logs = repair.read(tmp_path)
    assert [file.name for file in files] == ["turns-two.jsonl", "turns.jsonl"]
    assert {model: len(rows) for model, rows in logs.items()} == {
        "one": len(records),
        "two": len(records) - 1,  # the last was torn
    }


@pytest.mark.slow
def test_the_whole_of_it(tmp_path):
    records = synthetic_log(0, random=80, heuristic=24, factorial=18)
    drawn = list(dict.fromkeys(r.episode for r in records if r.design == "random"))[40:]
    records = [dataclasses.replace(r, design="later") if r.episode in drawn else r for r in records]
    (tmp_path / "turns.jsonl").write_text("".join(r.to_json() + "\n" for r in records))
    out = tmp_path / "out"
    repair.main(["--data", str(tmp_path), "--out", str(out), "--steps", "60"])
    found = json.loads((out / "results.json").read_text())["models"]["synthetic"]
    assert found["turns"]["all"] == len(records) and found["turns"]["later"]["episodes"] == 40
    assert found["off_policy"]["later"]["Conservative"]["tokens"]["matched"] > 0
    raw, repaired = (found["audit"][f"learned follower, {name}"] for name in ("raw", "repaired"))
    assert repaired["audit"]["outside"]["estimate"] == 0 <= raw["audit"]["outside"]["estimate"]
    assert (out / "repair.png").read_bytes()[:4] == b"\x89PNG"
