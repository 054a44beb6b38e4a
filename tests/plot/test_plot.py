"""stackjax.plot: what is drawn, where, and what is refused. No image is compared."""

import ast
import pathlib
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

pytest.importorskip("matplotlib")
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_hex

from stackjax import plot
from stackjax.agents.surrogate import Reliability
from stackjax.stats import Interval


@pytest.fixture(scope="module")
def answers():
    """The response is max(action, 0), in [0, 1] and with a flat utility at actions above 2."""

    def utility(action, response, context):
        return jnp.where(action > 2, 0.0, -((response - action) ** 2))

    game = sj.Game(utility, utility, response_set=sj.Box(0.0, 1.0))
    actions = jnp.array([-1.0, 0.5, 0.25, 2.0, 3.0])
    one = lambda a: sj.best_response(game, a, None, response=jnp.array(0.25))
    return actions, jax.vmap(one)(actions)


def legend(ax):
    return ax.get_legend_handles_labels()[1]


def paint(artist):
    return to_hex(artist.get_color())


def line(ax, label):
    return next(found for found in ax.lines if found.get_label() == label)


def test_response_curve_draws_the_answers_of_a_solver(ax, answers):
    actions, found = answers
    assert plot.response_curve(actions, found, bounds=(0.0, 1.0), xlabel="price", ax=ax) is ax
    drawn = ax.lines[0]
    np.testing.assert_array_equal(drawn.get_xdata(), np.sort(actions))
    np.testing.assert_allclose(drawn.get_ydata()[:4], [0.0, 0.25, 0.5, 1.0], atol=1e-5)
    assert paint(drawn) == plot.COLORS["follower"]
    assert {float(b.get_ydata()[0]) for b in ax.lines[1:3]} == {0.0, 1.0}
    several = line(ax, "not unique")
    assert list(several.get_xdata()) == [3.0] and several.get_markerfacecolor() == "none"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("price", "follower's response")


def test_response_curve_has_gaps_where_the_follower_failed(ax):
    x, y = np.arange(5.0), np.stack([np.arange(5.0), -np.arange(5.0)], axis=1)
    known = np.array([True, True, False, True, False])
    both = {"a": y[:, 0], "b": y[:, 1]}
    plot.response_curve(x, both, converged=known, labels=["one", "two"], ax=ax)
    for name, column in (("one", y[:, 0]), ("two", y[:, 1])):
        drawn = line(ax, name).get_ydata()
        np.testing.assert_array_equal(drawn[known], column[known])
        assert np.isnan(drawn[~known]).all()
    failed = line(ax, "not converged")
    assert sorted(zip(failed.get_xdata(), failed.get_ydata())) == [(2, -2), (2, 2), (4, -4), (4, 4)]
    assert paint(failed) == plot.COLORS["warning"]
    lonely = [one for one in ax.lines if one.get_marker() == "."]
    assert [list(one.get_xdata()) for one in lonely] == [[3.0], [3.0]]
    assert line(ax, "one").get_linestyle() != line(ax, "two").get_linestyle()


def test_response_curve_of_one_point(ax):
    plot.response_curve([1.0], [2.0], bounds=(-np.inf, np.inf), ax=ax)
    assert any(one.get_marker() == "." and list(one.get_ydata()) == [2.0] for one in ax.lines)
    assert len(ax.lines) == 2  # infinite bounds are not drawn


def test_response_surface_covers_the_grid_and_leaves_failures_out(ax):
    x, y = np.linspace(0.6, 0.95, 6), np.linspace(0.0, 1.0, 5)
    z = x[:, None] + y
    known = np.ones((6, 5), bool)
    known[0, 4] = known[1, 4] = False
    alone = np.ones((6, 5), bool)
    alone[5, 0] = False
    plot.response_surface(
        x, y, z, converged=known, unique=alone, limits=(0.0, 2.0), label="u", ax=ax
    )
    failed, several = line(ax, "not converged"), line(ax, "not unique")
    assert sorted(failed.get_xdata()) == pytest.approx([x[0], x[1]])
    assert list(failed.get_ydata()) == [1.0, 1.0]
    assert (several.get_xdata()[0], several.get_ydata()[0]) == (x[5], 0.0)
    filled = ax.collections[0]
    np.testing.assert_allclose(filled.levels, np.linspace(0.0, 2.0, 11))
    assert filled.zmax < z[0, 4] + x[5] and filled.zmax == pytest.approx(z.max())
    assert ax.get_xlim() == pytest.approx((0.6, 0.95)) and ax.get_ylim() == (0.0, 1.0)
    assert ax.figure.axes[1].get_ylabel() == "u"


@pytest.mark.parametrize("value", [0.0, 3.0, -2e-12])
def test_constant_surface_and_no_answer_at_all(ax, value):
    grid = np.arange(3.0)
    plot.response_surface(grid, grid, np.full((3, 3), value), ax=ax)
    assert len(ax.collections) == 1
    plot.response_surface(grid, grid, np.ones((3, 3)), converged=np.zeros((3, 3), bool), ax=ax)
    assert line(ax, "not converged").get_xdata().size == 9


@pytest.mark.parametrize("limits", [(0.0, 10.0), (5.0, 6.0), None])
def test_surfaces_without_a_contour_inside_do_not_warn(ax, limits):
    nearly = np.array([[0.1, 0.2], [0.1, 0.1 + 1e-13]])
    plot.response_surface([0, 1], [0, 1], nearly, limits=limits, ax=ax)
    plot.leader_path([0, 1], [0, 1], 1 + 1e-13 * np.eye(2), [[0, 0]], ax=ax)
    ax.figure.canvas.draw()


def test_response_surface_reads_a_solver(ax, answers):
    _, found = answers
    grid = jax.tree.map(lambda leaf: jnp.tile(leaf[None], (2, 1)), found)
    plot.response_surface([0.0, 1.0], jnp.arange(5.0), grid, ax=ax)
    assert line(ax, "not unique").get_xydata().tolist() == [[0.0, 4.0], [1.0, 4.0]]


def test_policy_surface_of_numbers_and_of_categories(ax):
    x, y = np.arange(3.0), np.arange(4.0)
    plot.policy_surface(x, y, x[:, None] * y, label="q", ax=ax)
    assert ax.collections[0].zmax == 6.0 and not ax.texts
    ax.clear()
    plot.policy_surface(["chat", "code"], [0.5, 1.0, 2.0], [[1, 2, 3], [4, 5, 6]], ax=ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["chat", "code"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.5", "1", "2"]
    np.testing.assert_array_equal(ax.collections[0].get_array(), [[1, 4], [2, 5], [3, 6]])
    at = {text.get_position(): text.get_text() for text in ax.texts}
    assert at[(0, 2)] == "3.00" and at[(1, 0)] == "4.00" and len(at) == 6


def test_many_cells_bear_no_numbers_and_one_cell_will_do(ax):
    names = [str(i) for i in range(20)]
    plot.policy_surface(names, names, np.eye(20), ax=ax)
    assert not ax.texts
    plot.policy_surface(["a"], ["b"], [[0.3]], ax=ax)
    assert [text.get_text() for text in ax.texts] == ["0.30"]


def arm(tokens, correct, wide=0.02):
    middle = lambda x, half: Interval(x, x - half, x + half)
    return {
        "tokens": middle(tokens, 10),
        "correct": middle(correct, wide),
        "tokens_difference": middle(tokens - 300, 5),
        "correct_difference": middle(correct - 0.6, wide),
    }


ARMS = {"base": arm(300, 0.6), "governed": arm(260, 0.62), "poor": arm(280, 0.5)}


def test_pareto_draws_estimates_and_intervals_by_role(ax):
    cells = np.array([100.0, 290.0]), np.array([0.2, 0.4])
    assert plot.pareto(ARMS, cells=cells, roles={"base": "baseline"}, front=True, ax=ax) is ax
    bars = {bar.get_label(): bar for bar in ax.containers}
    for name, found in ARMS.items():
        data, _, (across, up) = bars[name]
        assert data.get_xydata()[0] == pytest.approx(
            [found["tokens"][0], 100 * found["correct"][0]]
        )
        assert across.get_segments()[0][:, 0] == pytest.approx(found["tokens"][1:])
        assert up.get_segments()[0][:, 1] == pytest.approx([100 * x for x in found["correct"][1:]])
    assert paint(bars["base"][0]) == plot.COLORS["baseline"]
    assert paint(bars["poor"][0]) == plot.COLORS["leader"]
    assert bars["poor"][0].get_marker() != bars["governed"][0].get_marker()
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[100, 20], [290, 40]])
    assert line(ax, "front").get_xydata().tolist() == [[100, 20], [260, 62]]
    assert set(ARMS) <= {text.get_text() for text in ax.get_legend().get_texts()}


def test_pareto_of_differences_and_of_json(ax):
    plain = {
        name: {key: value._asdict() for key, value in found.items()} for name, found in ARMS.items()
    }
    plot.pareto(plain, difference=True, intervals=False, names=False, ax=ax)
    assert ax.containers[1][0].get_xydata()[0] == pytest.approx([-40, 2])
    assert not ax.containers[1].has_xerr and ax.get_legend() is None
    assert "difference" in ax.get_xlabel() and "points" in ax.get_ylabel()


def test_front_keeps_the_best_of_equally_cheap_ones(ax):
    same = {"a": arm(200, 0.5), "b": arm(200, 0.7), "c": arm(300, 0.7), "d": arm(400, 0.8)}
    plot.pareto(same, front=True, ax=ax)
    assert line(ax, "front").get_xydata()[:, 0].tolist() == [200, 400]


def test_reliability_draws_bins_counts_and_one_diagonal(ax):
    table = Reliability(np.array([0.8, 0.2]), np.array([0.72, 0.4]), np.array([30, 10]), 0.11)
    plot.reliability_diagram(table, label="first", ax=ax)
    plot.reliability_diagram(table, role="baseline", ax=ax)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[0.8, 0.72], [0.2, 0.4]])
    large, small = ax.collections[0].get_sizes()
    assert large > small > 0
    assert list(ax.lines[1].get_xdata()) == [0.2, 0.8]  # the line goes from left to right
    assert legend(ax) == ["first: error 0.11, 10 to 30 a bin", "error 0.11, 10 to 30 a bin"]
    assert sum(list(one.get_xdata()) == [0, 1] for one in ax.lines) == 1
    assert paint(ax.lines[2]) == plot.COLORS["baseline"]


def test_action_set_marks_allowed_excluded_baseline_and_moves(ax):
    cells = np.array([[5.0, 0.0, 0.0], [6.0, 1.0, 0.0], [7.0, 1.0, 1.0], [8.0, 0.0, 1.0]])
    plot.action_set(
        sj.ActionSet(jnp.asarray(cells)),
        allowed=[0.5, 1.0, 0.0, 1.0],
        baseline=3,
        ax=ax,
    )
    parts = {part.get_label(): part for part in ax.collections}
    np.testing.assert_array_equal(parts["excluded"].get_offsets(), [[7, 1]])
    np.testing.assert_array_equal(parts["allowed"].get_offsets(), [[5, 0], [6, 1], [8, 0]])
    assert parts["allowed"].get_sizes()[0] < parts["allowed"].get_sizes()[1]
    np.testing.assert_array_equal(parts["baseline"].get_offsets(), [[8, 0]])


def test_action_set_projects_as_the_library_does(ax):
    rng = np.random.default_rng(0)
    rows = sj.ActionSet(
        {"q": jnp.asarray(rng.uniform(size=6)), "a": jnp.asarray(rng.uniform(size=6))},
        scale={"q": 0.1, "a": 1.0},
    )
    proposed = {"q": jnp.asarray(rng.uniform(size=9)), "a": jnp.asarray(rng.uniform(size=9))}
    pair = tuple(proposed.values())
    plot.action_set(rows, proposed=proposed, ax=ax)
    ends = np.array(ax.collections[0].get_segments())
    wanted = jax.vmap(lambda action: sj.project(action, rows).action)(proposed)
    np.testing.assert_allclose(ends[:, 1], np.stack([wanted["a"], wanted["q"]], axis=1))
    np.testing.assert_allclose(ends[:, 0], np.stack([proposed["a"], proposed["q"]], axis=1))
    plot.action_set(pair, ax=ax)  # any pytree of arrays is a batch of actions
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), np.stack(pair, axis=1))


def test_step_histogram_counts_every_context_once(ax):
    steps, known = np.array([[2, 2], [3, 5]]), np.array([[True, True], [True, False]])
    plot.step_histogram(SimpleNamespace(steps=steps, converged=known), ax=ax)
    good, bad = ax.containers
    assert [bar.get_height() for bar in good] == [50, 25, 0, 0]
    assert [bar.get_height() for bar in bad] == [0, 0, 0, 25]
    assert [bar.get_x() + bar.get_width() / 2 for bar in good] == pytest.approx([2, 3, 4, 5])
    assert to_hex(bad[0].get_facecolor()) == plot.COLORS["warning"]


def test_step_histogram_of_one_number_and_of_a_wide_range(ax):
    plot.step_histogram(np.full(7, 4), ax=ax)
    assert [bar.get_height() for bar in ax.patches] == [100]
    ax.clear()
    plot.step_histogram(np.array([0, 1000, 1000]), ax=ax)
    assert len(ax.patches) <= 60 and sum(bar.get_height() for bar in ax.patches) == 100


def test_leader_path_runs_from_start_to_end(ax):
    x, y = np.linspace(-1, 1, 7), np.linspace(-1, 1, 5)
    path = np.array([[-1.0, 1.0], [0.0, 0.5], [0.2, 0.1]])
    plot.leader_path(x, y, -(x[:, None] ** 2) - y**2, path, optimum=[0.0, 0.0], ax=ax)
    np.testing.assert_array_equal(line(ax, "leader's search").get_xydata(), path)
    ends = [one for one in ax.lines if one.get_marker() == "o"]
    assert [one.get_xydata()[0].tolist() for one in ends] == [[-1.0, 1.0], [0.2, 0.1]]
    assert ends[0].get_markerfacecolor() == "white"
    assert line(ax, "optimum").get_xydata().tolist() == [[0.0, 0.0]]
    assert ax.collections[0].zmin == -2.0
    plot.leader_path([0, 1], [0, 1], np.zeros((2, 2)), path[:1], ax=ax)  # flat, and one point


GOOD = {
    "response_curve": ([0.0, 1.0], [1.0, 2.0]),
    "response_surface": ([0.0, 1.0], [0.0, 1.0, 2.0], np.zeros((2, 3))),
    "policy_surface": ([0.0, 1.0], ["a", "b", "c"], np.zeros((2, 3))),
    "pareto": (ARMS,),
    "reliability_diagram": (SimpleNamespace(predicted=[0.5], observed=[0.4], count=[3]),),
    "action_set": (np.eye(2),),
    "step_histogram": ([1, 2],),
    "leader_path": ([0.0, 1.0], [0.0, 1.0], np.eye(2), [[0.0, 0.0]]),
    "comparative_statics": ([0.0, 1.0], [1.0, 2.0]),
}


def test_axes_are_made_where_none_are_given_and_settings_left_alone():
    before, opened = dict(matplotlib.rcParams), plt.get_fignums()
    assert set(GOOD) | {"COLORS"} == set(plot.__all__)
    for name, arguments in GOOD.items():
        drawn = getattr(plot, name)(*arguments)
        assert drawn.get_xlabel() and drawn.get_ylabel(), name
        drawn.figure.canvas.draw()
        plt.close(drawn.figure)
        with pytest.raises(TypeError, match="`ax` must be a matplotlib Axes"):
            getattr(plot, name)(*arguments, ax=plt)
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == opened


table = lambda **columns: SimpleNamespace(
    **{"predicted": [0.5, 0.6], "observed": [0.4, 0.5], "count": [3, 3]} | columns
)
square, two = np.zeros((2, 2)), [0.0, 1.0]
WRONG = [
    ("response_curve", ([], []), {}, "`actions` must have at least 1"),
    (
        "response_curve",
        ([np.nan, 1.0], two),
        {},
        "`actions` must be finite; got nan at index 0, 1 of 2",
    ),
    ("response_curve", (two, [1.0]), {}, "`responses` must have a leading axis of 2"),
    (
        "response_curve",
        (two, two),
        {"unique": [True]},
        r"`unique` must have shape \(2,\) for `actions`",
    ),
    ("response_curve", (two, two), {"bounds": (1.0, 0.0)}, "`bounds` must be .* in order"),
    ("response_curve", (two, two), {"bounds": 1.0}, "`bounds` must be a pair"),
    ("response_curve", (two, two), {"labels": ["a", "b"]}, "`labels` must be 1 strings"),
    ("response_surface", ([0.0], two, np.zeros((1, 2))), {}, "`first` must have at least 2"),
    ("response_surface", (two, [1.0, 0.0], square), {}, "`second` must increase"),
    ("response_surface", (two, two, np.zeros((2, 3))), {}, "`values` must have shape"),
    ("response_surface", (two, two, square), {"limits": (1, 1)}, "`limits` must be"),
    (
        "response_surface",
        (two, two, square * np.nan),
        {},
        "`values` must be finite.*4 of 4 numbers",
    ),
    ("policy_surface", ([], two, square), {}, "`first` must have at least 1"),
    ("policy_surface", (["a", "b"], [1.0, 1.0], square), {}, "`second` must increase"),
    ("policy_surface", (["a"], ["b"], square), {}, "`values` must have shape"),
    ("pareto", ({},), {}, "`arms` must map"),
    ("pareto", ({"a": {"tokens": (1, 0, 2)}},), {}, "must have 'correct'"),
    (
        "pareto",
        ({"a": ARMS["base"] | {"tokens": (1, 3, 2)}},),
        {},
        "its low at most its high; got 3 and 2",
    ),
    ("pareto", ({"a": ARMS["base"] | {"tokens": (1, 2)}},), {}, "must have shape"),
    ("pareto", (ARMS,), {"roles": {"bse": "leader"}}, "`roles` must name arms, .*; got .'bse'."),
    (
        "pareto",
        (ARMS,),
        {"roles": {"base": "king"}},
        "`roles.'base'.` must be one of .*; got 'king'",
    ),
    ("pareto", (ARMS,), {"cells": (two, [0.5])}, "`cells` must have shape"),
    ("pareto", (ARMS,), {"cells": 3}, "`cells` must be a pair"),
    ("pareto", (ARMS,), {"front": True, "difference": True}, "`difference` must be False"),
    ("reliability_diagram", (table(count=[3]),), {}, "`table.count` must have shape"),
    ("reliability_diagram", (table(count=[0, 3]),), {}, "`table.count` must be positive"),
    ("reliability_diagram", (table(observed=[0.4, 1.5]),), {}, "`table.observed` must lie in"),
    ("reliability_diagram", (table(),), {"role": "x"}, "`role` must be one of .*; got 'x'"),
    ("action_set", (np.zeros((0, 2)),), {}, "`actions` must have at least 1"),
    ("action_set", (np.zeros((3, 1)),), {}, "`actions` must have 2 numbers"),
    ("action_set", (np.eye(2),), {"allowed": [2.0, 0.0]}, r"`allowed` must lie in \[0, 1\]"),
    ("action_set", (np.eye(2),), {"allowed": [True]}, "`allowed` must have shape"),
    ("action_set", (np.eye(2),), {"baseline": 2}, "`baseline` must be a row in 0..1"),
    ("action_set", (np.eye(2),), {"projected": np.eye(2)}, "`projected` must come with"),
    ("action_set", (np.eye(2),), {"proposed": np.zeros((1, 3))}, "`proposed` must have 2 numbers"),
    (
        "action_set",
        (np.eye(2),),
        {"proposed": np.eye(2), "allowed": [False, False]},
        "`allowed` must allow an action",
    ),
    ("step_histogram", ([],), {}, "`steps` must have at least 1"),
    ("step_histogram", ([1.5],), {}, "`steps` must be integers of at least 0; got 1.5"),
    ("step_histogram", ([-1],), {}, "`steps` must be integers of at least 0; got -1"),
    ("step_histogram", ([1, 2],), {"converged": [True]}, "`converged` must have shape"),
    ("leader_path", (two, two, square, [[0.0]]), {}, "`path` must have shape"),
    ("leader_path", (two, two, square, []), {}, r"`path` must have shape \(any, any\)"),
    ("leader_path", (two, two, np.zeros((3, 2)), [[0, 0]]), {}, "`utility` must have shape"),
    ("leader_path", (two, two, square, [[0, 0]]), {"optimum": [1.0]}, "`optimum` must have"),
    ("leader_path", (two, two, square, [[0, np.inf]]), {}, "`path` must be finite; got inf"),
]
WRONG_KIND = [
    ("response_curve", (two, "ab"), {}, "`responses` must be an array of numbers"),
    ("response_curve", (two, two), {"converged": [1, 1]}, "`converged` must be booleans; got int"),
    ("policy_surface", (["a", 1], two, square), {}, "`first` must be an array of numbers"),
    (
        "reliability_diagram",
        (np.zeros(3),),
        {},
        "`table` must have .*; got ndarray without predicted",
    ),
    ("action_set", ([[1.0, 2.0], [1.0]],), {}, "`actions` must be an array of numbers"),
]


@pytest.mark.parametrize(
    ("error", "name", "arguments", "options", "message"),
    [(ValueError, *wrong) for wrong in WRONG] + [(TypeError, *wrong) for wrong in WRONG_KIND],
)
def test_bad_input_is_refused_before_anything_is_drawn(error, name, arguments, options, message):
    opened = plt.get_fignums()
    with pytest.raises(error, match=message):
        getattr(plot, name)(*arguments, **options)
    assert plt.get_fignums() == opened


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("stackjax.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "stackjax\[plot\]"'):
        __import__("stackjax.plot")


def test_the_library_alone_does_not_import_matplotlib():
    folder = pathlib.Path(sj.__file__).parent
    modules = [path for path in folder.rglob("*.py") if path.parent.name != "plot"]
    assert len(modules) > 100
    for path in modules:
        for node in ast.parse(path.read_text()).body:  # within a function it may be imported
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            source = getattr(node, "module", None) or ""
            found = [f"{source}.{name}" for name in names]
            assert not any("matplotlib" in name or "stackjax.plot" in name for name in found), path
