"""`solve` by complementarity: derivatives, batches, kinks, coupled constraints, several starts."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import quick

import stackjax as sj


def leader_utility(price, amount, context):
    """Revenue less a cost; the follower buys at most what it can store."""
    return price * jnp.sum(amount) - 0.1 * price**2


def follower_utility(price, amount, context):
    return context["taste"] @ amount - price * jnp.sum(amount) - 0.5 * amount @ amount


def store(price, amount, context):
    return jnp.sum(amount) - context["room"]


shop = sj.Game(
    leader_utility,
    follower_utility,
    action_set=sj.Box(0.0, 10.0),
    response_set=sj.Constrained(store, box=sj.Box(lower=0.0)),
)
CONTEXT = {"taste": jnp.array([3.0, 1.0]), "room": jnp.array(10.0)}


def solve(context, game=shop, **options):
    start: dict[str, Any] = {"action": jnp.asarray(1.0), "response": jnp.ones(2), "starts": 4}
    return sj.solve(game, context=context, **(start | options))


def widened(context):
    return jax.tree.map(lambda x: x.astype(jnp.float64), context)


def test_derivatives_of_the_solution(x64):
    """Room for 10 never binds: the utility is p (3 - p) - p^2/10. Room for 1: the kink p = 2."""
    contexts = jax.tree.map(lambda x: jnp.stack([x, x]), widened(CONTEXT))
    contexts["room"] = jnp.array([10.0, 1.0])

    def answers(t, contexts):
        def one(context):
            moved = {"taste": context["taste"] + t * jnp.array([1.0, 0.3]),
                     "room": context["room"] + 0.5 * t}  # fmt: skip
            found = solve(moved)
            return jnp.concatenate([found.action[None], found.response]), found

        return jax.vmap(one)(contexts)

    h = 1e-5
    value = lambda t: answers(t, contexts)
    (here, found), up, down, slope, curve = quick(
        lambda t: (
            value(t), value(t + h)[0], value(t - h)[0], jax.jacfwd(lambda t: value(t)[0])(t),
            jax.jacfwd(jax.jacrev(lambda t: value(t)[0]))(t),
        ),
        jnp.array(0.0),
    )  # fmt: skip
    assert found.converged.all() and found.unique.all() and not found.local.any()
    chex.assert_trees_all_close(here[0, 0], 3 / 2.2, atol=1e-8)
    chex.assert_trees_all_close(here[1], jnp.array([2.0, 1.0, 0.0]), atol=1e-7)
    chex.assert_trees_all_close(slope, (up - down) / (2 * h), atol=1e-6)
    chex.assert_trees_all_close(curve, (up - 2 * here + down) / h**2, atol=1e-4)


@pytest.mark.slow
def test_batch_equals_loop_with_a_failing_member():
    rooms = jnp.array([10.0, -1.0, 2.0, jnp.nan])
    at = lambda room: solve(CONTEXT | {"room": room})
    batch = quick(jax.vmap(at), rooms)
    slope = quick(jax.vmap(jax.grad(lambda room: at(room).leader_utility)), rooms)
    assert batch.converged.tolist() == [True, False, True, False]
    for i in (0, 2):
        alone = at(rooms[i])
        assert alone.converged
        chex.assert_trees_all_close(alone.action, batch.action[i], rtol=1e-3)
        chex.assert_trees_all_close(alone.leader_utility, batch.leader_utility[i], rtol=1e-4)
    finite = (batch.action, batch.response, slope)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(finite))


def test_coupled_constraint_of_the_leader():
    """It must leave the follower at least one unit in all: 4 - 2 p >= 2 with room enough."""
    fair = sj.Constrained(lambda p, r, x: 2.0 - jnp.sum(r), box=sj.Box(0.0, 10.0))
    dear = sj.Game(
        lambda p, r, x: p, follower_utility, action_set=fair, response_set=shop.response_set
    )
    found = quick(lambda x: solve(x, dear), CONTEXT)
    assert found.converged
    chex.assert_trees_all_close(found.action, jnp.array(1.0), atol=1e-3)
    assert fair.contains(found.action, response=found.response, context=CONTEXT, tol=1e-3)


@pytest.mark.slow
def test_the_key_shifts_the_starts_and_not_the_answer():
    found = quick(
        lambda keys: jax.vmap(lambda key: solve(CONTEXT, key=key))(keys),
        jax.random.split(jax.random.key(0), 3),
    )
    assert found.converged.all() and np.all(found.agreeing_starts >= 2)
    chex.assert_trees_all_close(found.action, jnp.full(3, 3 / 2.2), rtol=1e-3)


box_game = sj.games.duopoly().game
one: dict[str, Any] = {
    "action": jnp.array(1.0),
    "response": jnp.array(1.0),
    "context": jnp.array(13.0),
}


@pytest.mark.slow
def test_first_order_and_several_starts():
    """The duopoly, 6 and 3, with optax; a two-peaked leader needs several starts."""
    ascent = sj.FirstOrder(optax.adam(0.3), max_steps=400)
    found = sj.solve(box_game, **one, solver=ascent)
    assert found.converged and found.residual < 1e-4
    chex.assert_trees_all_close((found.action, found.response), (6.0, 3.0), rtol=1e-5)

    peaks = sj.Game(
        lambda a, r, x: jnp.exp(-((a - 4) ** 2)) + 0.5 * jnp.exp(-((a + 4) ** 2)) + 0 * r,
        lambda a, r, x: -((r - a) ** 2),
        action_set=sj.Box(-6.0, 6.0),
    )
    start: dict[str, Any] = {"action": jnp.array(-3.5), "response": jnp.array(0.0), "context": None}
    few = sj.solve(peaks, **start, starts=1)
    many = sj.solve(peaks, **start, solver=sj.Newton(), starts=12)
    chex.assert_trees_all_close((few.action, many.action), (-4.0, 4.0), atol=1e-2)
    assert many.converged and 1 <= many.agreeing_starts < 12


def test_a_follower_that_is_not_concave_is_called_local():
    wells = sj.Game(
        lambda a, r, x: -((a - 0.3) ** 2) + 0.1 * r,
        lambda a, r, x: -((r**2 - 1) ** 2) + 0.1 * a * r,
        action_set=sj.Box(-1.0, 1.0),
        response_set=sj.Box(-2.0, 2.0),
    )
    found = sj.solve(wells, action=jnp.array(0.0), response=jnp.array(-1.0), context=None)
    assert found.local and not found.converged and np.isfinite(found.leader_utility)
    # concave at the solution a = 1, but not at a = -1
    turning = sj.Game(
        lambda a, r, x: -((a - 1) ** 2) + 0 * r,
        lambda a, r, x: -a * r**2 + 0.1 * r,
        action_set=sj.Box(-1.0, 2.0),
        response_set=sj.Box(-2.0, 2.0),
    )
    found = sj.solve(turning, action=jnp.array(1.2), response=jnp.array(0.0), context=None)
    assert found.local and not found.converged
    chex.assert_trees_all_close(found.action, 1.0, atol=1e-4)
    assert not sj.solve(box_game, **one).local


def test_a_flat_follower_is_not_called_converged_by_newton():
    flat = sj.Game(
        lambda a, r, x: -(a**2) + r,
        lambda a, r, x: 0.0 * r,
        action_set=sj.Box(-1.0, 1.0),
        response_set=sj.Box(0.0, 1.0),
    )
    begin: dict[str, Any] = {"action": jnp.array(0.5), "response": jnp.array(0.3), "context": None}
    found = sj.solve(flat, **begin)
    assert not found.unique and not found.converged
    best = quick(lambda a: sj.solve(flat, **(begin | {"action": a}), starts=4), jnp.array(0.5))
    assert best.converged and not best.unique
    chex.assert_trees_all_close((best.action, best.response), (0.0, 1.0), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"starts": 0}, ValueError, "`starts` must be at least 1; got 0"),
        ({"starts": 2.0}, TypeError, "`starts` must be an integer; got 2.0"),
        ({"solver": 3}, TypeError, "`solver` must be stackjax.Newton"),
        ({"solver": sj.Newton()}, TypeError, "Newton needs a Box for the action set; for a Const"),
        ({"solver": sj.FirstOrder(optax.sgd(0.1))}, TypeError,
         "FirstOrder needs a Box, Simplex or Ball for the action set"),
    ],
)  # fmt: skip
def test_wrong_input(options, error, message):
    coupled = sj.Game(
        leader_utility, follower_utility, action_set=sj.Constrained(lambda p, r, x: p - 1.0)
    )
    with pytest.raises(error, match=message):
        solve(CONTEXT, coupled, **options)


def test_settings():
    with pytest.raises(TypeError, match="FirstOrder: `optimizer` must be an optax"):
        sj.FirstOrder("adam")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Complementarity: `tol` must be positive or None; got -1"):
        sj.Complementarity(tol=-1.0)


def test_a_follower_with_several_peaks_is_seen_from_one_start(x64):
    """Three bumps; at the leader's choice a narrow one is higher than where the follower stands."""
    w, s = jnp.array([0.47, 1.68, 1.43]), jnp.array([1.52, 1.08, 10.95])
    k = jnp.array([1.40, -1.56, -0.47])
    bumps = lambda a, r: jnp.sum(w * jnp.exp(-0.5 * (s * (r - k - 0.49 * a)) ** 2)) + 0.29 * a * r
    game = sj.Game(
        lambda a, r, x: -((a + 0.11) ** 2) - 0.5 * (r + 1.04) ** 2,
        lambda a, r, x: bumps(a, r),
        action_set=sj.Box(-1.0, 1.0),
        response_set=sj.Box(-2.4, 2.6),
    )
    found = sj.solve(
        game, action=jnp.array(0.0), response=jnp.array(-1.15), context=None,
        solver=sj.Complementarity(), starts=1,
    )  # fmt: skip
    grid = jnp.linspace(-2.4, 2.6, 20_001)
    best = jnp.max(jax.vmap(lambda r: bumps(found.action, r))(grid))
    assert found.local
    assert not found.converged or bumps(found.action, found.response) >= best - 1e-6


def test_the_higher_of_two_nearly_equal_peaks_in_float32():
    """Both peaks satisfy every condition, but 0.1% of the leader's utility apart."""
    game = sj.Game(
        lambda a, r, tilt: -((a**2 - 1) ** 2) + tilt * r,
        lambda a, r, tilt: -((r - a) ** 2),
        action_set=sj.Box(-2.0, 2.0),
        response_set=sj.Box(-3.0, 3.0),
    )

    def one(tilt):
        return sj.solve(
            game, action=jnp.float32(0.1), response=jnp.float32(0.0), context=tilt,
            solver=sj.Complementarity(), starts=8,
        )  # fmt: skip

    tilts = jnp.array([-2e-3, -1.5e-3, -1e-3, 1e-3, 1.5e-3, 2e-3], jnp.float32)
    found = quick(jax.vmap(one), tilts)
    assert found.converged.all()
    np.testing.assert_array_equal(jnp.sign(found.action), jnp.sign(tilts))


def test_a_point_that_the_follower_would_leave_does_not_hide_the_optimum_in_float32():
    """A contract with a risk-averse agent; its outside option has no effect where it is slack."""

    def agent(wages, effort, outside):
        expected = effort * jnp.sqrt(wages["win"]) + (1 - effort) * jnp.sqrt(wages["lose"])
        return expected - 0.75 * effort**2

    contract = sj.Game(
        lambda wages, effort, outside: effort * (4 - wages["win"]) - (1 - effort) * wages["lose"],
        agent,
        action_set=sj.Constrained(
            lambda wages, effort, outside: outside - agent(wages, effort, outside),
            box=sj.Box(1e-4, 10.0),
        ),
        response_set=sj.Box(0.0, 1.0),
    )

    def one(outside):
        start = {"win": jnp.float32(1.0), "lose": jnp.float32(0.3)}
        response = jnp.float32(0.5)
        return sj.solve(contract, action=start, response=response, context=outside)

    found = quick(jax.vmap(one), jnp.linspace(0.35, 0.44, 8, dtype=jnp.float32))
    assert found.converged.all()
    # The least is paid for failure, and effort is the difference of the roots over 1.5.
    win = np.linspace(0.5, 3.0, 200_001)
    effort = (np.sqrt(win) - np.sqrt(1e-4)) / 1.5
    best = np.max(effort * (4 - win) - (1 - effort) * 1e-4)
    np.testing.assert_allclose(found.leader_utility, best, rtol=1e-4)
