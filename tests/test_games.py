"""The solver against closed forms: equilibria, sensitivities, batches, dtypes, the Nash floor."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

N = 64
GAMES = {
    "duopoly": sj.games.duopoly,
    "duopoly, dear follower": lambda: sj.games.duopoly(
        slope=0.7, leader_cost=0.5, follower_cost=4.0
    ),
    "quadratic": lambda: sj.games.quadratic(jax.random.key(3)),
    "toll": sj.games.toll,
    "principal-agent": sj.games.principal_agent,
}


every_game = pytest.mark.parametrize("build", GAMES.values(), ids=GAMES)


def start(known, dtype):
    return jax.tree.map(lambda y: y.astype(dtype), (known.action, known.response))


def solve(known, contexts, dtype):
    action, response = start(known, dtype)
    one = lambda x: sj.solve(known.game, action=action, response=response, context=x)
    return jax.jit(jax.vmap(one))(contexts)


@every_game
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_equilibrium(build, dtype):
    wide = dtype == jnp.float64
    with jax.enable_x64(wide):
        known = build()
        contexts = known.contexts(jax.random.key(0), N)
        action, response = jax.vmap(known.equilibrium)(contexts)
        found = solve(known, contexts, dtype)
        assert found.action.dtype == found.leader_utility.dtype == dtype
        # A leader's optimum on a kink of its own utility (the follower just deterred, the road
        # just full) has no zero gradient: it is found, and reported as not converged.
        inside = known.game.response_set.contains
        smooth = jax.vmap(lambda r: inside(r, tol=-1e-3))(response)
        assert smooth.mean() > 0.5
        assert found.converged[smooth].all()
        tol = {"rtol": 0, "atol": 1e-6} if wide else {"rtol": 1e-3, "atol": 1e-3}
        chex.assert_trees_all_close(found.action[smooth], action[smooth], **tol)
        chex.assert_trees_all_close(found.response[smooth], response[smooth], **tol)
        chex.assert_trees_all_close(found.action, action, rtol=0, atol=1e-3)


@every_game
def test_response_and_sensitivity(build, x64):
    known = build()
    contexts = known.contexts(jax.random.key(0), N)
    _, response = start(known, jnp.float64)
    shape = (N, *known.action.shape)
    low, high = known.game.action_set.bounds(known.action)
    low, high = (jnp.where(jnp.isfinite(b), b, s) for b, s in ((low, -2.0), (high, 6.0)))
    actions = jax.random.uniform(jax.random.key(2), shape, jnp.float64, low, high)
    answer = lambda a, x: sj.best_response(known.game, a, x, response=response).value
    wanted = jax.vmap(known.best_response)(actions, contexts)
    slope = jax.vmap(known.sensitivity)(actions, contexts)
    chex.assert_trees_all_close(jax.jit(jax.vmap(answer))(actions, contexts), wanted, atol=1e-7)
    for jacobian in (jax.jacfwd, jax.jacrev):
        measured = jax.jit(jax.vmap(jacobian(answer)))(actions, contexts)
        chex.assert_trees_all_close(measured, slope, atol=1e-5)


@every_game
def test_commitment_is_worth_at_least_nash(build):
    """The leader could commit to its Nash action; so the equilibrium pays it no less."""
    known = build()
    contexts = known.contexts(jax.random.key(3), N)

    def nash(x):
        swapped = sj.Game(
            known.game.follower_utility,
            lambda r, a, x: known.game.leader_utility(a, r, x),
            response_set=known.game.action_set,
        )

        def round_(_, pair):
            a, r = pair
            answer = sj.best_response(swapped, r, x, response=a).value
            a = jax.tree.map(lambda old, new: 0.7 * old + 0.3 * new, a, answer)
            return a, known.best_response(a, x)

        return jax.lax.fori_loop(0, 60, round_, (known.action, known.response))

    a, r = jax.jit(jax.vmap(nash))(contexts)
    at_nash = jax.vmap(known.game.leader_utility)(a, r, contexts)
    action, response = jax.vmap(known.equilibrium)(contexts)
    value = jax.vmap(known.game.leader_utility)(action, response, contexts)
    assert np.all(value >= at_nash - 1e-4 * (1 + np.abs(at_nash)))
    found = solve(known, contexts, jnp.float32)
    assert np.all(found.leader_utility >= at_nash - 1e-3 * (1 + np.abs(at_nash)))


@every_game
def test_equilibrium_is_the_best_action_on_a_grid(build):
    """The closed form itself, against brute force over the leader's actions."""
    known = build()
    contexts = known.contexts(jax.random.key(4), 16)
    action, response = jax.vmap(known.equilibrium)(contexts)
    value = jax.vmap(known.game.leader_utility)(action, response, contexts)

    def best_of(x, a):
        moves = jax.random.uniform(jax.random.key(5), (4000, *jnp.shape(a)), minval=-1, maxval=1)
        tries = known.game.action_set.project(a[None] + moves * (1 + jnp.max(jnp.abs(a))))
        gains = jax.vmap(lambda b: known.game.leader_utility(b, known.best_response(b, x), x))(
            tries
        )
        return jnp.max(gains)

    best = jax.jit(jax.vmap(best_of))(contexts, action)
    assert np.all(value >= best - 1e-5 * (1 + np.abs(value)))
    assert np.all(value <= best + 0.1 * (1 + np.abs(value)))


def test_batch_of_a_thousand():
    """README's promise: within 1e-4 of (demand - 1) / 2."""
    demand = jnp.linspace(5.0, 20.0, 1000)
    found = solve(sj.games.duopoly(), demand, jnp.float32)
    assert found.converged.all()
    assert np.max(np.abs(found.action - (demand - 1) / 2)) < 1e-4


def test_bad_slope():
    with pytest.raises(ValueError, match="`slope` must be positive; got -1"):
        sj.games.duopoly(slope=-1)
