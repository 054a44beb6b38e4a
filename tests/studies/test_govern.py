import json

import pytest
from synthetic_turns import synthetic_log

from experiments.govern import __main__ as govern  # pyright: ignore[reportMissingImports]
from stackjax.agents.evaluation._replay import factorial


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "turns.jsonl"
    records = synthetic_log(0, random=40, heuristic=24, factorial=6)
    path.write_text("".join(record.to_json() + "\n" for record in records))
    return path, records


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    short = ["--surrogate-steps", "150", "--follower-steps", "40", "--leader-steps", "40"]
    returned = govern.main(["--data", str(log[0]), "--out", str(out), "--seed", "3", *short])
    return out, returned, json.loads((out / "results.json").read_text())


def test_results_hold_what_is_needed_to_repeat_the_run(run, log):
    _, _, results = run
    assert results["args"]["seed"] == 3
    assert len(results["data"]["sha256"]) == 64
    named = {"jax", "flax", "optax", "numpy", "python", "cpu", "cores"}
    assert named <= set(results["environment"])
    assert results["data"]["adapters"] == ["0"]
    held = {r.episode for r in log[1] if r.design == "factorial"}
    assert results["data"]["fitting_episodes"] == 70 - len(held)
    assert results["weights"]["degradation"] == 3.0
    assert set(results["seconds"]) > {"fit predictors", "fit follower", "train leader", "total"}


def test_fixed_arms_are_the_recorded_columns(run, log):
    _, _, results = run
    table = factorial(log[1])
    column = table.tokens[:, :, table.cell((0.5, 0.5, 0.5))]
    middle = results["evaluation"]["arms"]["Middle"]["Conservative"]
    assert middle["tokens"]["estimate"] == pytest.approx(column.sum() / table.present.sum())
    assert "exact matching" in results["evaluation"]["method"]
    reference = results["evaluation"]["arms"]["Conservative"]["Conservative"]
    assert reference["tokens_difference"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}


def test_governed_arms_play_admissible_cells_and_report_their_price(run):
    _, _, results = run
    for row in results["evaluation"]["projection"].values():
        assert row["converged"] == 1.0
        assert row["price"] == pytest.approx(row["utility_before"] - row["utility_after"], abs=1e-5)
        assert 0 < row["distance_mean"] <= row["distance_max"]
    admissible = results["action_set"]["admissible"]
    assert all(results["action_set"]["conservative"] in cells for cells in admissible.values())
    follower = results["follower"]
    assert follower["regret_heuristic"] >= 0
    assert follower["regret_learned"] >= 0


def test_figure_and_table_are_written(run, capsys):
    out, returned, results = run
    assert (out / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    text = govern.report(returned)
    for arm, versus in results["evaluation"]["arms"].items():
        assert arm in text
        assert f"{versus['Middle']['tokens']['estimate']:.0f}" in text


def test_bad_arguments_and_logs_are_refused(tmp_path, log, capsys):
    for wrong in (["--leader-steps", "0"], ["--live", "--turns", "3"]):
        with pytest.raises(SystemExit):
            govern.main(wrong)
    assert "at least" in capsys.readouterr().err
    with pytest.raises(ValueError, match="heuristic"):
        govern.split([r for r in log[1] if r.design != "heuristic"])
    with pytest.raises(ValueError, match="both sides"):
        twin = next(r for r in log[1] if r.design == "random")
        govern.split([*log[1], type(twin)(**{**vars(twin), "design": "factorial"})])
