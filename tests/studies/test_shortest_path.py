"""The benchmark's graph, data and losses, against other ways to compute them."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from experiments.shortest_path import grid
from experiments.shortest_path.methods import FLOWS, SHARES, Play, losses


@pytest.fixture(scope="module")
def costs():
    return jax.random.uniform(jax.random.key(0), (20, len(grid.EDGES)), minval=0.5, maxval=2.0)


def test_the_oracle_is_dijkstra(costs):
    nodes = np.array([[grid.NODES.index(a), grid.NODES.index(b)] for a, b in grid.EDGES])
    for row in np.asarray(costs):
        graph = csr_matrix((row, nodes.T), shape=(len(grid.NODES), len(grid.NODES)))
        _, before = dijkstra(graph, indices=0, return_predecessors=True)
        path, at = np.zeros(len(grid.EDGES)), len(grid.NODES) - 1
        while at:
            path[np.all(nodes == [before[at], at], 1)] = 1
            at = before[at]
        np.testing.assert_array_equal(grid.best_path(-jnp.asarray(row)), path)


def test_paths_are_flows():
    assert grid.PATHS.shape == (70, 40) and len(np.unique(grid.PATHS, axis=0)) == 70
    np.testing.assert_array_equal(grid.PATHS @ grid.FLOW.T, np.tile(grid.NET, (70, 1)))


def test_costs_have_the_paper_s_form():
    """Without noise each edge is one polynomial of a sum of some features; with noise around it."""
    key = jax.random.key(1)
    sharp, noisy = (grid.draw(key, 400, 3.0, width) for width in (0.0, 0.5))
    base = np.cbrt(np.asarray(sharp.costs, float) * 3.5**3 - 1) - 3
    mixing, left, *_ = np.linalg.lstsq(np.asarray(sharp.features, float), base * 5**0.5)
    np.testing.assert_allclose(mixing, np.round(mixing), atol=1e-3)
    assert set(np.round(mixing).ravel()) <= {0.0, 1.0} and (left < 1e-3).all()
    ratio = noisy.costs / sharp.costs
    assert 0.5 <= ratio.min() < 0.51 and 1.49 < ratio.max() <= 1.5


def test_spo_plus_has_the_paper_s_subgradient_and_bounds_the_regret(costs):
    loss, _ = losses(8, 0)["SPO+"]
    paths = jnp.asarray(grid.PATHS)
    least = lambda c: paths[jnp.argmin(paths @ c)]
    for true, predicted in zip(costs[:10], costs[10:]):
        value, slope = jax.value_and_grad(loss)(predicted, true, jnp.ones(()))
        right = 2 * (least(true) - least(2 * predicted - true))
        np.testing.assert_allclose(slope, right, atol=1e-6)
        regret = true @ (least(predicted) - least(true))
        assert value >= regret - 1e-5
    assert abs(loss(costs[0], costs[0], jnp.ones(()))) < 1e-5


@pytest.mark.parametrize("name", ["Fenchel-Young, perturbed", "regret, entropic"])
def test_smoothed_losses_have_the_gradient_of_their_definition(costs, name):
    """Fenchel-Young: path minus mean answer; entropic: the cost of softmax shares of the paths."""
    loss, _ = losses(4000, 0)[name]
    true, predicted, paths = costs[0], costs[1], jnp.asarray(grid.PATHS)
    found = jax.jit(jax.grad(loss))(predicted, true, 0.5)
    if name == "regret, entropic":
        exact = lambda p: true @ (jax.nn.softmax(-(paths @ p) / 0.5) @ paths)
        np.testing.assert_allclose(found, jax.grad(exact)(predicted), atol=1e-4)
        return
    noise = np.random.default_rng(0).normal(size=(20_000, 40))
    chosen = np.argmin((np.asarray(predicted) + 0.5 * noise) @ grid.PATHS.T, 1)
    right = np.asarray(grid.best_path(-true)) - grid.PATHS[chosen].mean(0)
    np.testing.assert_allclose(found, right, atol=0.03)


def test_the_leader_pays_the_true_costs(costs):
    play = Play(costs[0], jnp.array(1.0))
    path = grid.best_path(-costs[1])
    shares = jnp.asarray(np.all(grid.PATHS == np.asarray(path), 1), jnp.float32)
    for game, response in ((FLOWS, path), (SHARES, shares)):
        np.testing.assert_allclose(
            game.leader_utility(costs[1], response, play), -costs[0] @ path, rtol=1e-6
        )


def test_the_readme_has_the_stored_numbers():
    """Each entry of its tables, and what it says of `Perturbed`."""
    study = pathlib.Path(grid.__file__).parent
    cells = json.loads((study.parent / "results" / "shortest_path.json").read_text())["cells"]
    text = (study / "README.md").read_text()
    assert len(cells) == 20
    for cell in cells:
        for name, one in cell["methods"].items():
            mean, low, high = (100 * one["mean"][key] for key in ("estimate", "low", "high"))
            assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in text
            assert "perturbed" not in name or one["minus_spo"]["high"] > 0
