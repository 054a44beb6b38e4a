"""`FirstOrder`: gradient steps that Newton steps finish and judge, on games solved by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stackjax as sj
from tests.quick import quick

# One log-penalty for each of 12 weights, of orthogonal designs: with the least-squares weights z
# of the training data and z' of the validation data, w_j = z_j / (1 + exp(a_j)), and the best
# penalty has 1 / (1 + exp(a_j)) = z'_j / z_j, clipped into what the bounds of a allow.
WIDTH = 12
rng = np.random.default_rng(5)
Z = rng.normal(size=(3, WIDTH)) + 2.0
Z_VALID = Z * rng.uniform(-0.2, 1.2, size=Z.shape)
ridge = sj.Game(
    lambda a, w, x: -jnp.sum((w - x["valid"]) ** 2) / 2,
    lambda a, w, x: -jnp.sum((w - x["train"]) ** 2 + jnp.exp(a) * w**2) / 2,
    action_set=sj.Box(-3.0, 3.0),
)


def penalties(context, solver):
    return sj.solve(
        ridge, action=jnp.zeros(WIDTH), response=jnp.zeros(WIDTH), context=context, solver=solver
    )


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "solver", [sj.FirstOrder(), sj.FirstOrder(optax.adam(0.1))], ids=["default", "adam"]
)
def test_twelve_penalties_by_hand(solver, double):
    with jax.enable_x64(double):
        context = jax.tree.map(jnp.asarray, {"train": Z, "valid": Z_VALID})
        found = jax.jit(jax.vmap(lambda x: penalties(x, solver)))(context)
    kept = np.clip(Z_VALID / Z, 1 / (1 + np.exp(3.0)), 1 / (1 + np.exp(-3.0)))
    np.testing.assert_allclose(found.action, np.log(1 / kept - 1), atol=1e-9 if double else 1e-4)
    np.testing.assert_allclose(found.response, Z * kept, rtol=1e-9 if double else 1e-4)
    assert 0 < np.mean(np.abs(found.action) == 3.0) < 1  # bounds are active in part
    # an entry near 0 can be right and, by rounding, not known to be
    assert found.converged.sum() >= 2


def test_its_solution_is_differentiable():
    value = lambda train: (
        penalties({"train": train, "valid": jnp.asarray(Z_VALID[0])}, sj.FirstOrder()).action
    )
    found = quick(jax.jacobian(value), jnp.asarray(Z[0]))
    ratio = Z_VALID[0] / Z[0]
    inside = (ratio > 1 / (1 + np.exp(3.0))) & (ratio < 1 / (1 + np.exp(-3.0)))
    slope = np.where(inside, 1 / (Z[0] * (1 - ratio)), 0.0)  # of log(z / z' - 1) in z
    np.testing.assert_allclose(found, np.diag(slope), atol=1e-2)


def test_a_ball_in_float64():
    """The nearest point of the unit ball to an aim outside of it, and its derivative."""
    with jax.enable_x64():
        game = sj.Game(
            lambda a, r, aim: -jnp.sum((r - aim) ** 2),
            lambda a, r, aim: -jnp.sum((r - a) ** 2),
            action_set=sj.Ball(radius=1.0),
        )
        aim = jnp.array([3.0, 4.0])

        def solve(aim):
            return sj.solve(
                game, action=jnp.zeros(2), response=jnp.zeros(2), context=aim,
                solver=sj.FirstOrder(),
            )  # fmt: skip

        found = quick(solve, aim)
        assert found.converged
        np.testing.assert_allclose(found.action, [0.6, 0.8], rtol=1e-10)
        chex.assert_trees_all_close(
            quick(jax.jacobian(lambda aim: solve(aim).action), aim),
            (jnp.eye(2) - jnp.outer(aim, aim) / 25) / 5, rtol=1e-7,
        )  # fmt: skip


def test_a_saddle_and_a_plateau_are_no_optimum():
    """Gradient steps are short at both; a judge that asked only for that would be wrong."""
    follower = lambda a, r, x: -jnp.sum((r - a) ** 2)
    saddle = sj.Game(lambda a, r, x: r[0] ** 2 - r[1] ** 2, follower, action_set=sj.Box(-1.0, 1.0))
    slope = sj.Game(lambda a, r, x: jnp.sum(jax.nn.sigmoid(r - 14.0)), follower)
    for game in (saddle, slope):
        found = sj.solve(
            game, action=jnp.zeros(2), response=jnp.zeros(2), context=None,
            solver=sj.FirstOrder(optax.sgd(0.1)),
        )  # fmt: skip
        stays = np.allclose(found.action, 0.0, atol=1e-3)
        assert not (stays and found.converged)


def test_a_saddle_inside_a_ball_is_no_optimum():
    """A start at which the gradient is 0 leaves the search without a rate."""
    follower = lambda a, r, x: -((r - a[0]) ** 2)
    signs = jnp.array([[1.0, -1.0], [-1.0, 1.0], [0.1, -1.0], [-1.0, 0.1], [-1.0, -1.0]])
    game = sj.Game(
        lambda a, r, x: x @ a**2 + 0 * r, follower, action_set=sj.Ball(radius=1.0)
    )  # fmt: skip
    solve = lambda x: sj.solve(
        game, action=jnp.zeros(2), response=jnp.array(0.0), context=x, solver=sj.FirstOrder()
    )
    found = jax.jit(jax.vmap(solve))(signs)
    np.testing.assert_array_equal(found.converged, [False] * 4 + [True])
