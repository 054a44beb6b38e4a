"""Predictors that are concave in other coordinates, or of no shape at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from payoff_draws import draw, signals
from quick import quick
from synthetic_turns import synthetic_log

import stackjax as sj
from stackjax.agents.game._payoffs import concavity_bound, resource_game
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.surrogate._fit import fit_surrogate
from stackjax.agents.surrogate._shapes import FreeModel, Warp

SHIFT = jnp.array([-2.0, 0.0, 1.5])


@pytest.fixture(scope="module")
def turns():
    return turn_arrays(synthetic_log(0, random=40, heuristic=0, factorial=0))


def test_a_warp_maps_the_box_onto_itself_and_back(x64):
    shift = jnp.array([[-2.0, 0.0, 1.5], [-800.0, 800.0, 0.1]])
    points = jnp.linspace(0.0, 1.0, 33)[:, None] * jnp.ones((1, 3))
    warped = jax.jit(jax.vmap(Warp(shift[0])))(points)
    assert (jnp.diff(warped, axis=0) > 0).all()
    np.testing.assert_allclose(warped[0], 0.0, atol=0)
    np.testing.assert_allclose(warped[-1], 1.0, rtol=1e-15)
    np.testing.assert_allclose(jax.vmap(Warp(shift[0]).inverse)(warped), points, atol=1e-12)
    np.testing.assert_allclose(warped[:, 1], points[:, 1], rtol=1e-15)
    np.testing.assert_allclose(warped[16], jax.nn.sigmoid(shift[0]))
    assert jnp.isfinite(Warp(shift[1])(points[5])).all()


def test_gradient_of_the_warp_against_finite_differences(x64):
    way = jnp.array([0.3, -0.5, 0.8])
    along = lambda t: Warp(SHIFT + t * way)(0.4 + 0.5 * t * way) @ way
    central = (along(1e-6) - along(-1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(along)(0.0), central, rtol=1e-8)


def test_a_game_is_played_in_the_warped_coordinates(x64):
    """Its answer, mapped back, is the best response to the surfaces seen through the warp."""
    warp, contexts, actions = Warp(SHIFT), draw(30, jnp.float64), signals(30, jnp.float64)
    game = resource_game()
    through = sj.Game(
        game.leader_utility,
        lambda a, r, x: game.follower_utility(a, warp(r), x),
        response_set=game.response_set,
    )
    start = jnp.full(3, 0.5)
    found = quick(
        jax.vmap(lambda a, x: sj.best_response(game, a, x, response=start).value), actions, contexts
    )
    back = jax.vmap(warp.inverse)(found)
    axis = jnp.linspace(0.0, 1.0, 9)
    grid = jnp.stack(jnp.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)

    def gain(a, r, x):
        value = lambda r: through.follower_utility(a, r, x)
        return value(r) - jnp.max(jax.vmap(value)(grid))

    assert (jax.jit(jax.vmap(gain))(actions, back, contexts) >= -1e-9).all()
    assert (jnp.abs(back - found).max(0) > 0.1)[jnp.array([0, 2])].all()


def test_a_channel_that_pays_late_is_straightened(turns):
    """Tokens and quality that depend on r^3 are convex: the warp bends that channel alone."""
    rng = np.random.default_rng(0)
    grid = jnp.asarray(rng.integers(0, 3, turns.executed.shape) / 2, jnp.float32)
    late = grid.at[:, 0].set(grid[:, 0] ** 3)
    tokens = 300 * (0.5 + late.sum(1))
    correct = 0.1 + 0.25 * late.sum(1)
    data = turns.replace(executed=grid, tokens=tokens, correct=correct)
    fitted = {
        shape: fit_surrogate(data, key=jax.random.key(0), members=2, steps=500, shape=shape)[0]
        for shape in ("concave", "warped")
    }
    warp = fitted["warped"].warp
    assert warp is not None and fitted["concave"].warp is None
    # (1/2)^3 = 1/8 is logit^-1(-1.95)
    assert warp.shift[0] < -1.0 and jnp.abs(warp.shift[1:]).max() < 0.5 * -warp.shift[0]
    error = {}
    for shape, surrogate in fitted.items():
        quality, _ = jax.jit(jax.vmap(surrogate.predict))(data.state, data.executed)
        error[shape] = float(jnp.mean((quality - correct) ** 2))
    assert error["warped"] < 0.5 * error["concave"]


def test_free_predictors_are_fitted_and_make_contexts(turns):
    surrogate, history = fit_surrogate(
        turns, key=jax.random.key(0), members=2, steps=60, shape="free"
    )
    assert (history.tokens.min(0) < history.tokens[0]).all()
    quality, tokens = jax.jit(jax.vmap(surrogate.predict))(turns.state, turns.executed)
    assert ((quality >= 0) & (quality <= 1)).all() and jnp.isfinite(tokens).all()
    one = jax.tree.map(lambda leaf: leaf[3], (turns.state, turns.executed))
    np.testing.assert_allclose(surrogate.predict(*one)[1], tokens[3], rtol=1e-4)
    bound = concavity_bound(draw(1, jnp.float32).replace(
        quality=surrogate.quality(surrogate.encode(one[0])),
    ))  # fmt: skip
    assert bound.shape == (1,) and bound[0] == -jnp.inf


def test_gradient_of_a_free_surface_against_finite_differences(x64):
    model = FreeModel(level=0.5, scale=2.0, hidden=6, members=3, rngs=nnx.Rngs(0))
    model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
    surface = jax.jit(model)(jnp.linspace(-1.0, 1.0, 14))
    r, steps = jnp.array([0.2, 0.9, 0.4]), 1e-5 * jnp.eye(3)
    central = jax.vmap(lambda d: (surface(r + d) - surface(r - d)) / 2e-5)(steps)
    np.testing.assert_allclose(jax.grad(surface)(r), central, rtol=1e-7)
    each = jax.vmap(lambda one: one(r))(surface.members)
    assert each.shape == (3,)
    np.testing.assert_allclose(surface(r), each.mean(), rtol=1e-12)


def test_other_shapes_are_refused(turns):
    with pytest.raises(
        ValueError, match="`shape` must be one of 'concave', 'warped', 'free'; got 'convex'"
    ):
        fit_surrogate(turns, key=jax.random.key(0), shape="convex")
