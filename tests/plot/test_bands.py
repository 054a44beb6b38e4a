"""Bands: around responses, and around an optimum by the delta method. No image is compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stackjax as sj

pytest.importorskip("matplotlib")
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_hex

from stackjax import plot


def corners(collection):
    """The points of a filled band, of all its parts."""
    return np.concatenate([path.vertices for path in collection.get_paths()])


def line(ax, label):
    return next(found for found in ax.lines if found.get_label() == label)


def test_a_band_is_drawn_around_the_response_and_not_where_the_follower_failed(ax):
    x, y = np.array([3.0, 0.0, 1.0, 2.0, 4.0]), np.array([3.0, 0.0, 1.0, 9.0, 4.0])
    known = np.array([True, True, True, False, True])
    plot.response_curve(x, y, low=y - 0.5, high=y + 1.0, converged=known, ax=ax)
    (band,) = ax.collections
    points = corners(band)
    assert points[:, 1].max() == 5.0 and points[:, 1].min() == -0.5
    assert not (points[:, 0] == 2.0).any()
    assert to_hex(band.get_facecolor()[0]) == plot.COLORS["follower"]
    assert list(line(ax, "not converged").get_xdata()) == [2.0]


def test_bands_of_several_curves_and_of_a_point_without_neighbours(ax):
    y = np.stack([np.arange(3.0), -np.arange(3.0)], axis=1)
    low = {"a": y[:, 0] - 1, "b": y[:, 1] - 2}
    high = {"a": y[:, 0] + 1, "b": y[:, 1]}
    known = np.array([True, False, True])
    plot.response_curve(np.arange(3.0), y, low=low, high=high, converged=known, ax=ax)
    segments = [c.get_segments() for c in ax.collections if hasattr(c, "get_segments")]
    assert [[part[:, 1].tolist() for part in found] for found in segments] == [
        [[-1.0, 1.0], [1.0, 3.0]],
        [[-2.0, 0.0], [-4.0, -2.0]],
    ]


@pytest.fixture(scope="module")
def estimated():
    """Leader's quantity (a - c) / (2 b) of a duopoly with estimated a and b, along the cost c."""
    theta, covariance = jnp.array([10.0, 2.0]), jnp.array([[0.09, 0.01], [0.01, 0.0016]])

    def profit(own, other, context):
        theta, cost = context
        return own * (theta[0] - theta[1] * (own + other) - cost)

    game = sj.Game(profit, lambda action, response, context: profit(response, action, context))
    one = jnp.array(1.0)
    solve = lambda theta, cost: sj.solve(game, action=one, response=one, context=(theta, cost))
    costs = jnp.array([4.0, 0.0, 2.0])
    jacobian = jax.jacobian(lambda theta, cost: solve(theta, cost).action)
    J = jax.vmap(jacobian, in_axes=(None, 0))(theta, costs)
    error = jnp.sqrt(jnp.einsum("ni,ij,nj->n", J, covariance, J))
    return theta, covariance, costs, jax.vmap(solve, in_axes=(None, 0))(theta, costs), error


def test_delta_method_of_a_solution_is_the_closed_form(ax, estimated):
    theta, covariance, costs, found, error = estimated
    assert plot.comparative_statics(costs, found, standard_error=error, level=0.9, ax=ax) is ax
    (a, b), c = np.asarray(theta, float), np.sort(costs).astype(float)
    J = np.stack([np.full(3, 1 / (2 * b)), -(a - c) / (2 * b**2)], axis=1)
    exact = (a - c) / (2 * b)
    half = stats.norm.ppf(0.95) * np.sqrt(np.einsum("ni,ij,nj->n", J, np.asarray(covariance), J))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), exact, rtol=1e-5)
    points = corners(ax.collections[0])
    for place, middle, reach in zip(c, exact, half):
        drawn = points[np.isclose(points[:, 0], place), 1]
        assert drawn.min() == pytest.approx(middle - reach, rel=1e-4)
        assert drawn.max() == pytest.approx(middle + reach, rel=1e-4)
    assert to_hex(ax.lines[0].get_color()) == plot.COLORS["leader"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("parameter", "leader's optimum")


def test_what_solve_did_not_reach_is_marked(ax, estimated):
    _, _, costs, found, error = estimated
    failed = found.replace(converged=jnp.array([True, True, False]))
    plot.comparative_statics(costs, failed, standard_error=error, ax=ax)
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, False]
    assert list(line(ax, "not converged").get_xdata()) == [2.0]


def test_given_ends_and_several_numbers(ax):
    optimum = {"price": np.arange(3.0), "share": np.ones(3)}
    lower, upper = ({k: v + by for k, v in optimum.items()} for by in (-1.0, 0.5))
    plot.comparative_statics(
        np.arange(3.0), optimum, low=lower, high=upper, labels=["price", "share"], ax=ax
    )
    assert [corners(one)[:, 1].min() for one in ax.collections] == [-1.0, 0.0]
    assert ax.get_legend_handles_labels()[1] == ["price", "share"]


two = [0.0, 1.0]
WRONG = [
    ("response_curve", (two, two), {"low": two}, "`high` must be given with `low`"),
    ("response_curve", (two, two), {"high": two}, "`low` must be given with `high`"),
    (
        "response_curve",
        (two, two),
        {"low": [0.0], "high": two},
        "`low` must have a leading axis of 2",
    ),
    ("response_curve", (two, two), {"low": np.eye(2), "high": two}, "`low` must have 1 numbers"),
    (
        "response_curve",
        (two, two),
        {"low": [0.0, 2.0], "high": two},
        "must not exceed `high`; it does at 1 of 2",
    ),
    (
        "response_curve",
        (two, two),
        {"low": [0.0, np.nan], "high": two},
        "`low` must be finite.*1 of 2 numbers",
    ),
    ("comparative_statics", ([], []), {}, "`parameters` must have at least 1"),
    ("comparative_statics", (two, [1.0]), {}, "`optimum` must have a leading axis of 2"),
    ("comparative_statics", (two, two), {"standard_error": [-1.0, 1.0]}, "not negative; got -1 at"),
    ("comparative_statics", (two, two), {"standard_error": np.eye(2)}, "must have 1 numbers"),
    (
        "comparative_statics",
        (two, two),
        {"standard_error": [1.0, np.inf]},
        "finite; got inf at index 1, 1 of 2 numbers",
    ),
    (
        "comparative_statics",
        (two, two),
        {"standard_error": two, "level": 1.0},
        r"`level` must lie in \(0, 1\); got 1.0",
    ),
    (
        "comparative_statics",
        (two, two),
        {"standard_error": two, "low": two, "high": two},
        "`standard_error` must come without",
    ),
    ("comparative_statics", (two, two), {"low": two}, "`high` must be given with `low`"),
    ("comparative_statics", (two, two), {"labels": ["a", "b"]}, "`labels` must be 1 strings"),
]
WRONG_KIND = [
    ("comparative_statics", (two, two), {"level": "high"}, "`level` must be a number; got 'high'"),
    (
        "comparative_statics",
        (two, two),
        {"converged": [1, 1]},
        "`converged` must be booleans; got int",
    ),
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
