import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj
from stackjax.repair._price import price_of_projection, price_of_response_projection
from stackjax.sets._empirical import ActionSet, project


def leader(a, r, x):
    return a * (x - a - r)


def follower(a, r, x):
    return r * (x - a - r)


DUOPOLY = sj.Game(leader, follower, response_set=sj.Box(0.0, 10.0))
START = jnp.array(1.0)


def price(action, projected, demand):
    return price_of_projection(DUOPOLY, action, projected, demand, response=jnp.ones_like(demand))


def by_hand(a, b, x):
    """Answers (x - a) / 2; the leader before, held, after, and the follower likewise."""
    old, new = (x - a) / 2, (x - b) / 2
    plays = [(a, old), (b, old), (b, new)]
    return [leader(*p, x) for p in plays] + [follower(*p, x) for p in plays]


def utilities(found):
    return [
        found.leader_before,
        found.leader_held,
        found.leader_after,
        found.follower_before,
        found.follower_held,
        found.follower_after,
    ]


def test_the_duopoly_by_hand_eager_jit_vmap(x64):
    a, b, x = (jnp.array(v) for v in ([6.0, 5.0, 2.0], [5.0, 5.0, 6.0], [13.0, 12.0, 13.0]))
    wanted = by_hand(a, b, x)
    batch = jax.jit(jax.vmap(price))(a, b, x)
    np.testing.assert_allclose(utilities(batch), wanted, rtol=1e-9)
    np.testing.assert_allclose(batch.leader, wanted[0] - wanted[2], atol=1e-9)
    np.testing.assert_allclose(batch.follower, wanted[3] - wanted[5], atol=1e-9)
    assert batch.converged.all()
    assert batch.leader[1] == 0  # nothing moved
    assert batch.leader[2] < 0  # towards the optimum
    np.testing.assert_allclose(batch.response_after, (x - b) / 2, rtol=1e-9)
    for i in range(3):
        one = price(a[i], b[i], x[i])
        jax.tree.map(lambda u, v, i=i: np.testing.assert_allclose(u, v[i], atol=1e-9), one, batch)


def test_gradients_of_the_price_against_finite_differences(x64):
    at = jnp.array([6.0, 4.5, 13.0])

    def prices(v):
        found = price(*v)
        return jnp.stack([found.leader, found.leader_before - found.leader_held, found.follower])

    slope = jax.jit(jax.jacrev(prices))(at)
    steps = 1e-5 * jnp.eye(3)
    wanted = [(prices(at + step) - prices(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(slope.T, jnp.stack(wanted), rtol=1e-6, atol=1e-8)


def test_the_price_is_within_the_bound_of_proposition_5_3(x64):
    """With L_U the largest slope of the leader's value: U_L(R(a)) >= U_L(a) - L_U |R(a) - a|."""
    tried = ActionSet(jnp.linspace(0.0, 12.0, 7))
    proposed = jnp.linspace(0.0, 12.0, 25)
    demand = jnp.array(13.0)
    value = lambda a: leader(a, (demand - a) / 2, demand)
    bound = jnp.max(jnp.abs(jax.vmap(jax.grad(value))(proposed)))

    @jax.jit
    @jax.vmap
    def both(a):
        moved = project(a, tried)
        return price(a, moved.action, demand).leader, moved.distance

    paid, distance = both(proposed)
    assert (paid <= bound * distance + 1e-9).all()
    assert (paid > 0.5 * bound * distance).any()  # a bound of some use


def test_the_followers_executed_response_is_projected(x64):
    answered, executed = jnp.array([3.5, 2.0]), jnp.array([3.0, 3.0])
    action, demand = jnp.array([6.0, 6.0]), jnp.array([13.0, 13.0])
    run = lambda a, r, p, x: price_of_response_projection(DUOPOLY, a, r, p, x)
    found = jax.jit(jax.vmap(run))(action, answered, executed, demand)
    np.testing.assert_allclose(found.leader, leader(6.0, answered, 13) - leader(6.0, executed, 13))
    np.testing.assert_allclose(found.leader_held, found.leader_before)
    wanted = follower(6.0, answered, 13) - follower(6.0, executed, 13)
    np.testing.assert_allclose(found.follower, wanted)
    assert found.follower[0] > 0  # 3.5 was the best response
    assert found.converged.all()
    value = lambda v: run(6.0, v[0], v[1], 13.0).leader
    slope = jax.grad(value)(jnp.array([3.5, 3.0]))
    np.testing.assert_allclose(slope, [-6.0, 6.0])


def test_pytrees_and_a_projection_in_the_loop():
    """The price of `project` itself, for an action of two parts."""
    game = sj.Game(
        lambda a, r, x: a["q"] * r[0] - a["s"] @ r,
        lambda a, r, x: a["s"] @ r - jnp.sum((r - x) ** 2),
        response_set=sj.Box(0.0, 1.0),
    )
    tried = ActionSet({"q": jnp.array([0.0, 1.0]), "s": jnp.array([[0.0, 0.0], [0.4, 0.0]])})
    action, x = {"q": jnp.array(0.8), "s": jnp.array([0.2, 0.0])}, jnp.array([0.5, 0.3])

    @jax.jit
    def run(action):
        moved = project(action, tried).action
        return price_of_projection(game, action, moved, x, response=jnp.array([0.5, 0.5]))

    found = run(action)
    assert found.converged
    np.testing.assert_allclose(found.response_before, [0.6, 0.3], rtol=1e-5)
    np.testing.assert_allclose(found.response_after, [0.7, 0.3], rtol=1e-5)
    np.testing.assert_allclose(found.leader, 0.8 * 0.6 - 0.2 * 0.6 - (0.7 - 0.28), rtol=1e-4)


def test_failure_is_data():
    wrong = sj.Game(lambda a, r, x: jnp.log(a) + r, lambda a, r, x: r**2 - a * r)
    found = jax.jit(lambda a: price_of_projection(wrong, a, a + 1, 0.0, response=START))(-0.5)
    assert not found.converged  # the follower's utility is convex and unbounded
    assert jnp.isneginf(found.leader_before)
    executed = price_of_response_projection(wrong, jnp.array(-0.5), START, START + 1, 0.0)
    assert not executed.converged_before
    slope = jax.grad(lambda r: price_of_response_projection(wrong, -0.5, r, r, 0.0).follower)(START)
    assert jnp.isfinite(slope)


def test_bad_input():
    with pytest.raises(TypeError, match="must be a stackjax.Game"):
        price_of_projection(None, 1.0, 2.0, 3.0, response=START)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="must be a stackjax.Game"):
        price_of_response_projection(leader, 1.0, START, START, 3.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`projected` must be shaped as `action`, \(\); got \(2,"):
        price_of_projection(DUOPOLY, 1.0, jnp.zeros(2), 3.0, response=START)
    with pytest.raises(ValueError, match="`projected` must be shaped as `response`"):
        price_of_response_projection(DUOPOLY, 1.0, START, jnp.zeros(1), 3.0)
    with pytest.raises(TypeError, match="`response` must be floating point"):
        price_of_response_projection(DUOPOLY, 1.0, jnp.array(1), START, 3.0)
    with pytest.raises(TypeError, match="`response` must be floating point"):
        price_of_projection(DUOPOLY, 1.0, 2.0, 3.0, response=1)
