"""`ConcaveUtility` and `probe_concavity`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from quick import quick

import stackjax as sj

COUNT = 40


def wild(module, scale=2.0, seed=0):
    """The module with parameters far from those of the initialisation, in float64."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda w: jnp.asarray(w + scale * rng.normal(size=w.shape)), module)


def plays(seed=0, count=COUNT):
    """Actions `[2]`, responses (a pair of `[2]` and a scalar) and contexts of two arrays."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(2 * rng.normal(size=(count, *shape)))
    return draw(2), (draw(2), draw()), {"size": draw(), "kind": draw(2)}


def concave(**options: Any):
    return sj.fit.ConcaveUtility(2, 3, 3, hidden=20, **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("layers", [1, 3])
def test_concave_in_every_direction_whatever_the_weights(layers, x64):
    """Along random lines, and by eigenvalues against the bound."""
    utility = wild(concave(layers=layers))
    action, response, context = plays()
    _, other, _ = plays(1)

    def both(a, r, s, x):
        middle = jax.tree.map(lambda y, z: (y + z) / 2, r, s)
        apart = sum(jnp.sum((y - z) ** 2) for y, z in zip(jax.tree.leaves(r), jax.tree.leaves(s)))
        gain = utility(a, middle, x) - (utility(a, r, x) + utility(a, s, x)) / 2
        return gain, utility.concavity_bound * apart / 8

    gain, least = quick(jax.vmap(both), action, response, other, context)
    assert gain.dtype == jnp.float64
    assert (gain >= least * (1 - 1e-9)).all()
    seen = quick(sj.fit.probe_concavity, utility, action, response, context)
    assert seen.share == 0 and utility.concavity_bound >= 0.1
    assert (seen.largest <= -utility.concavity_bound * (1 - 1e-9)).all()


def test_the_bound_is_reached(x64):
    """Without the network's own curvature nothing but the bowl is left."""
    utility = concave(floor=0.3)
    still = jax.tree.map(jnp.zeros_like, utility)
    still.floor = 0.3
    _, response, _ = plays()
    one = jax.tree.map(lambda leaf: leaf[0], (jnp.zeros((1, 2)), response, jnp.zeros((1, 3))))
    seen = sj.fit.probe_concavity(still, *jax.tree.map(lambda leaf: leaf[None], one))
    np.testing.assert_allclose(seen.largest[0], -still.concavity_bound, rtol=1e-9)
    np.testing.assert_allclose(still.concavity_bound, 0.3 + 1)


def test_of_any_shape_in_action_and_context(x64):
    """Some line of actions is convex, another concave: nothing constrains these paths."""
    utility = wild(concave())
    action, response, context = plays()
    hessian = lambda a, r, x: jnp.linalg.eigvalsh(jax.hessian(utility)(a, r, x))
    values = quick(jax.vmap(hessian), action, response, context)
    assert values.min() < 0 < values.max()


def test_gradients_against_finite_differences(x64):
    """In the play and in the parameters; a batch equals a loop."""
    utility = wild(sj.fit.ConcaveUtility(2, 3, 3, hidden=6, rngs=nnx.Rngs(0)), 0.3)
    play = plays(count=4)
    rng = np.random.default_rng(5)
    way = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), utility)
    ways = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape[1:])), play)

    def both(a, r, x):
        along = lambda t: jax.tree.map(lambda w, d: w + t * d, utility, way)(
            *jax.tree.map(lambda y, d: y + t * d, (a, r, x), ways)
        )
        return jax.grad(along)(0.0), (along(1e-5) - along(-1e-5)) / 2e-5, along(0.0)

    exact, central, value = quick(jax.vmap(both), *play)
    np.testing.assert_allclose(exact, central, rtol=1e-7)
    loop = [utility(*jax.tree.map(lambda leaf, i=i: leaf[i], play)) for i in range(4)]
    np.testing.assert_allclose(value, loop, rtol=1e-12)


def test_a_best_response_and_its_derivative(x64):
    """Newton finds the one maximum from anywhere; its slope is the finite difference."""
    utility = wild(concave(layers=1), 0.5)
    game = sj.Game(lambda a, r, x: 0.0, utility)
    action, response, context = plays(count=3)

    def answer(a, r, x):
        return sj.best_response(game, a, x, response=r)

    def both(a, r, x):
        way = jnp.array([0.6, -0.8])
        value = lambda t: answer(a + t * way, r, x).value[0]
        near = (value(1e-5) - value(-1e-5)) / 2e-5
        other = answer(a, jax.tree.map(lambda y: -y - 1, r), x).value[0]
        return answer(a, r, x), other, jax.jacfwd(value)(0.0), near

    found, other, slope, near = quick(jax.vmap(both), action, response, context)
    assert found.converged.all() and (found.curvature > 0).all()
    np.testing.assert_allclose(found.value[0], other, atol=1e-8)
    np.testing.assert_allclose(slope, near, atol=1e-7)
    # the stability bound of the docstring
    assert (jnp.linalg.norm(slope, axis=1) > 0).all()


def test_a_utility_is_caught_where_it_is_not_concave(x64):
    wave = lambda a, r, x: jnp.sin(a[0] * r[1]) * x["size"] - jnp.sum(r[0] ** 2)
    utility = jax.tree_util.Partial(wave)
    seen = quick(sj.fit.probe_concavity, utility, *plays())
    assert 0 < seen.share <= 1 and (seen.largest > 0).any()
    broken = sj.fit.probe_concavity(lambda a, r, x: jnp.sqrt(a) * -(r**2), jnp.array([1.0, -1.0]),
                                jnp.ones(2), None)  # fmt: skip
    assert broken.share == 0.5 and jnp.isnan(broken.largest[1])


def test_a_concave_utility_learns_a_rule():
    """A tanh of action and context, up to the noise."""
    keys = jax.random.split(jax.random.key(0), 3)
    action, context, noise = (jax.random.normal(k, (400,)) for k in keys)
    rule = jnp.stack([jnp.tanh(action + context), jnp.tanh(context)], axis=1)
    seen = sj.Observations(context, action, rule + 0.05 * noise[:, None])
    fitted, history = sj.fit_follower(
        sj.fit.ConcaveUtility(1, 2, 1, hidden=24, rngs=nnx.Rngs(0)),
        seen, key=keys[0], response_set=sj.Box(-2.0, 2.0), steps=300, batch_size=64,
    )  # fmt: skip
    # twice the errors' variance is left
    assert history.converged.min() == 1 and history.utility[-20:].mean() > -2.0 * 2 * 0.05**2
    assert fitted.concavity_bound > 0.1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sj.fit.ConcaveUtility(1, 0, 1, rngs=nnx.Rngs(0)), ValueError,
         "`response_size` must be at least 1; got 0"),
        (lambda: sj.fit.ConcaveUtility(0, 1, 0, rngs=nnx.Rngs(0)), ValueError,
         "must be positive; got 0 for both"),
        (lambda: sj.fit.ConcaveUtility(-1, 1, 0, rngs=nnx.Rngs(0)), ValueError,
         "`action_size` must be at least 0; got -1"),
        (lambda: concave(floor=0.0), ValueError, "`floor` must be positive; got 0.0"),
        (lambda: concave(floor="a"), TypeError, "`floor` must be a Python number; got 'a'"),
        (lambda: concave(layers=1.5), TypeError, "`layers` must be an integer; got 1.5"),
        (lambda: concave()(jnp.zeros(2), jnp.zeros(2), None), ValueError,
         r"sizes .* must be \(2, 3, 3\), .*; got \(2, 2, 0\)"),
        (lambda: sj.fit.probe_concavity(3, jnp.zeros(1), jnp.zeros(1), None), TypeError,
         "`utility` must be callable; got 3"),
    ],
)  # fmt: skip
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
