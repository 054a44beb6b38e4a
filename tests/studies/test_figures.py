"""Figures are drawn from results alone; the picture of one game against its closed form."""

import itertools
import json
import math

import pytest

from experiments.common import figures
from experiments.common.phases import KEPT_RESULTS
from experiments.confirmatory import __main__ as confirmatory
from experiments.govern import __main__ as govern
from experiments.labels import __main__ as labels
from experiments.learning import __main__ as learning
from experiments.one_game import __main__ as one_game
from experiments.repair import __main__ as repair
from experiments.speed import __main__ as speed

STUDIES = {
    "main": confirmatory,
    "bench": speed,
    "labels": labels,
    "govern": govern,
    "repair": repair,
    "learning": learning,
    "one_game": one_game,
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_figure_is_drawn_again_from_its_result(name, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    result = tmp_path / f"{name}.json"
    result.write_bytes((KEPT_RESULTS / f"{name}.json").read_bytes())
    STUDIES[name].main(["--draw", "--result", str(result)])
    path = result.with_suffix(".png")
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert set(tmp_path.iterdir()) == {result, path}  # nothing else is written
    assert path.stat().st_size < 250_000
    with image.open(path) as drawn:
        assert drawn.size[0] == 200 * figures.WIDTH


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_no_result_is_refused(name, tmp_path):
    for content, said in (("{", "is not JSON"), ("{}", "no result of this study")):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(ValueError, match=said):
            STUDIES[name].main(["--draw", "--result", str(tmp_path / "wrong.json")])


def test_result_and_draw_come_together(tmp_path, capsys):
    for arguments, said in (
        (["--result", str(tmp_path)], "give --draw with it"),
        (["--draw", "--result", str(tmp_path / "none.json")], "no such file"),
    ):
        with pytest.raises(SystemExit):
            govern.main(arguments)
        assert said in capsys.readouterr().err


def test_a_study_of_other_workloads_has_a_figure(tmp_path):
    """Of a run of one workload, of none that the figure knows, and of none at all."""
    report = json.loads((KEPT_RESULTS / "bench.json").read_text())
    for wanted in ("R1 N=256", "R4 N=512", "nothing"):
        runs = [run for run in report["runs"] if run["workload"] == wanted]
        speed.figure(tmp_path / "some.png", {**report, "runs": runs})
        assert (tmp_path / "some.png").exists()


def test_names_at_the_ends_of_curves_do_not_overlap():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    ax.set_ylim(0, 10)
    figures.ends(ax, [("a", "leader"), ("b", "tried"), ("c", "tried")], 1.0, [5.0, 5.0, 5.1])
    figure.draw_without_rendering()
    places = sorted(text.get_window_extent().y0 for text in ax.texts)
    height = ax.texts[0].get_window_extent().height
    assert all(high - low >= 0.99 * height for low, high in itertools.pairwise(places))


def test_signed():
    assert [figures.signed(x) for x in (-0.24, 1.0, -0.01)] == ["\N{MINUS SIGN}0.2", "+1.0", "0.0"]


def test_one_game_is_its_closed_form(tmp_path, capsys):
    demand, cost, capacity = 9.0, 0.5, 1.5
    found = one_game.main(
        [
            *("--demand", "9", "--cost", "0.5", "--capacity", "1.5", "--points", "18"),
            *("--out", str(tmp_path)),
        ]
    )
    assert json.loads((tmp_path / "one_game.json").read_text()) == found
    assert (tmp_path / "one_game.png").exists() and "optimum" in capsys.readouterr().out
    margin = demand - cost
    best, led = (margin - capacity) / 2, (margin - capacity) / 1.5
    assert found["optimum"]["converged"] is True
    assert found["optimum"]["action"] == pytest.approx(best, rel=1e-6)
    assert found["optimum"]["utility"] == pytest.approx(best**2, rel=1e-6)
    assert found["without_bound"]["action"] == pytest.approx(led, rel=1e-6)
    assert found["kink"] == pytest.approx(margin - 2 * capacity)
    curve = found["curve"]
    for action, response, utility, gradient, wrong in zip(
        *(curve[k] for k in ("action", "response", "utility", "gradient", "gradient_without_bound"))
    ):
        answer = min(max((margin - action) / 2, 0.0), capacity)
        assert response == pytest.approx(answer, abs=1e-6)
        assert utility == pytest.approx(action * (margin - action - answer), abs=1e-5)
        if math.isclose(action, found["kink"]) or math.isclose(action, margin):
            continue
        slope = 0.0 if action < found["kink"] else -0.5
        assert gradient == pytest.approx(margin - 2 * action - answer - action * slope, abs=1e-4)
        assert wrong == pytest.approx(margin - 2 * action - answer + 0.5 * action, abs=1e-4)
    assert found["between"]["gradient"] < 0 < found["between"]["gradient_without_bound"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--capacity", "3"], "capacity must lie between"),
        (["--demand", "1"], "demand must exceed"),
        (["--cost", "-1"], "cost must be at least 0"),
        (["--points", "2"], "points must be at least 3"),
    ],
)
def test_a_game_without_the_kink_is_refused(wrong, said, capsys):
    with pytest.raises(SystemExit):
        one_game.main(wrong)
    assert said in capsys.readouterr().err
