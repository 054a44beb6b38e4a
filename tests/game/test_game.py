"""`Game` and `Box`: validation, structure, projection."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import stackjax as sj


def utility(action, response, context):
    return jnp.sum(response)


def test_vmap_over_a_game():
    """A game without sets has nothing but its module's arrays to batch over."""
    games = jax.vmap(lambda k: sj.Game(utility, Pull(nnx.Rngs(k))))(
        jax.random.split(jax.random.key(0), 3)
    )
    respond = lambda g: sj.best_response(g, 1.0, None, response=jnp.array(0.0)).value
    chex.assert_trees_all_close(
        jax.vmap(respond)(games), games.follower_utility.weight[...], rtol=1e-5
    )


class Pull(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), ()))

    def __call__(self, action, response, context):
        return -((response - self.weight * action) ** 2)


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, action, response, context):
        return jnp.sum(self.norm(response[None]))


def test_game_is_a_pytree_of_its_arrays():
    follower = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    game = sj.Game(utility, follower, response_set=sj.Box(0.0, jnp.ones(2)))
    leaves, structure = jax.tree.flatten(game)
    assert len(leaves) == 4  # kernel, bias and the bounds of one set
    again = jax.tree.unflatten(structure, leaves)
    assert again.leader_utility is utility and structure == jax.tree.structure(again)
    doubled = jax.jit(lambda g: jax.tree.map(lambda x: 2 * x, g))(game)
    chex.assert_trees_all_close(doubled.follower_utility.kernel[...], 2 * follower.kernel[...])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3, utility), {}, TypeError, "`leader_utility` must be callable.*got int"),
        ((utility, None), {}, TypeError, "`follower_utility` must be callable.*got NoneType"),
        ((utility, utility), {"response_set": (0, 1)}, TypeError,
         r"`response_set` must be one set unless .* got a tuple of 2"),
        ((utility, utility), {"response_set": {"lower": 0}}, TypeError,
         r"`response_set` must be one of stackjax's sets \(Box, Simplex, .*got dict"),
        ((utility, utility), {"action_set": 3}, TypeError,
         "`action_set` must be one of stackjax's sets.*got int"),
        ((utility, Normalised(nnx.Rngs(0))), {}, ValueError,
         "`follower_utility` holds state that is not a parameter: BatchStat at "
         "`follower_utility.norm.mean`"),
        ((nnx.Dropout(0.5, rngs=nnx.Rngs(0)), utility), {}, ValueError, "`leader_utility` holds"),
    ],
)  # fmt: skip
def test_wrong_games(arguments, options, error, message):
    with pytest.raises(error, match=message):
        sj.Game(*arguments, **options)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (1.0, 0.0, r"`lower` must not exceed `upper`, but lower=1.0 > upper=0.0\."),
        (jnp.zeros(3), jnp.array([1.0, -1.0, 1.0]), r"lower=0.0 > upper=-1.0 at index \(1,\)"),
        (float("nan"), 1.0, "`lower` holds NaN"),
        (jnp.zeros(3), jnp.ones(2), "do not broadcast against each other"),
        (jnp.inf, jnp.inf, "`lower` holds inf"),
    ],
)
def test_wrong_boxes(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        sj.Box(lower, upper)


def test_box_that_does_not_fit_its_point():
    with pytest.raises(ValueError, match=r"lower=2.0 > upper=1.0"):
        sj.Box(2.0, {"a": 1.0}).project({"a": jnp.array(0.0)})
    with pytest.raises(TypeError, match="`lower` must hold numbers; got 'a'"):
        sj.Box("a", 1.0)
    with pytest.raises(ValueError, match=r"`lower` of shape \(3,\) does not broadcast.*\(2,\)"):
        sj.Box(jnp.zeros(3), jnp.ones(3)).project(jnp.zeros(2))
    with pytest.raises(ValueError, match="structure of `lower`.*is not a prefix"):
        sj.Box({"a": 0.0}, {"a": 1.0}).project(jnp.zeros(2))


def test_box_broadcasts_over_pytrees_and_leaves_sides_open():
    point = {"a": jnp.array([-2.0, 2.0]), "b": jnp.array(5.0)}
    wanted = {"a": jnp.array([-1.0, 2.0]), "b": jnp.array(5.0)}
    chex.assert_trees_all_close(sj.Box(lower=-1.0).project(point), wanted)
    chex.assert_trees_all_close(sj.Box().project(point), point)
    assert sj.Box().contains(point) and not sj.Box(upper=4.0).contains(point)
    assert sj.Box(-1.0, {"a": 2.0, "b": 5.0}).contains(wanted)


numbers = st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(numbers, numbers, numbers, numbers)
def test_projection(y, other, first, second):
    """Feasible, idempotent, non-expansive, closest among samples; under jit and vmap alike."""
    y, other, first, second = (np.array(v, np.float32) for v in (y, other, first, second))
    box = sj.Box(jnp.asarray(np.minimum(first, second)), jnp.asarray(np.maximum(first, second)))
    at, at_other = box.project(y), box.project(other)
    assert box.contains(at)
    chex.assert_trees_all_equal(box.project(at), at)
    assert np.linalg.norm(at - at_other) <= np.linalg.norm(y - other) + 1e-5
    assert np.linalg.norm(at - y) <= np.linalg.norm(at_other - y) + 1e-5
    chex.assert_trees_all_equal(jax.jit(box.project)(y), at)
    both = jax.vmap(box.project)(jnp.stack([y, other]))
    chex.assert_trees_all_equal(both, jnp.stack([at, at_other]))
    low, high = box.bounds(jnp.asarray(y))
    inside = (y > low) & (y < high)
    slope = jax.grad(lambda y: jnp.sum(box.project(y)))(jnp.asarray(y))
    assert np.all(slope[inside] == 1)
