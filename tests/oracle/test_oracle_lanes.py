"""Falsifies: a lane of a batch answers as the single call does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj
from experiments.oracle.boxes import BOXES
from experiments.oracle.draws import draw
from experiments.oracle.polyhedra import POLYHEDRA
from experiments.oracle.shares import SHARES

KINDS = {kind.name: kind for kind in (*BOXES, *POLYHEDRA, *SHARES)}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        "box, d = 3, mixed bounds",
        pytest.param("polyhedron, d = 3", marks=pytest.mark.slow),
        pytest.param("simplex, d = 3", marks=pytest.mark.slow),
    ],
)
def test_a_lane_is_the_single_call(name, dtype):
    kind, games = KINDS[name], 40
    params = draw(kind, dtype, games, seed=7)

    def answer(p):
        game, action, context = kind.game(p)
        found = sj.best_response(game, action, context, response=p["start"])
        return found.value, found.converged, found.unique

    with jax.enable_x64(dtype == "float64"):
        given = {k: jnp.asarray(v, dtype) for k, v in params.items()}
        batch = jax.jit(jax.vmap(answer))(given)
        single = jax.jit(answer)
        alone = [single({k: v[i] for k, v in given.items()}) for i in range(games)]
    value, *flags = (np.stack([np.asarray(one[i]) for one in alone]) for i in range(3))
    atol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(np.asarray(batch[0]), value, atol=atol, rtol=atol)
    for together, apart in zip(batch[1:], flags):
        np.testing.assert_array_equal(np.asarray(together), apart)
