"""`solve`: derivatives of the equilibrium, dtypes, bounds, failures, wrong input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import stackjax as sj

duopoly = sj.games.duopoly().game


def solve(demand, game=duopoly, **options):
    one = jnp.ones((), jnp.result_type(demand))
    return sj.solve(game, action=one, response=one, context=demand, **options)


def test_equilibrium_is_differentiable(x64):
    """d action / d demand = 1/2, d profit / d demand = action / 2; jit, vmap, both modes."""
    demand = jnp.linspace(5.0, 20.0, 4)

    def both(demand):
        found = solve(demand)
        return found.action, found.leader_utility

    for jacobian in (jax.jacfwd, jax.jacrev):
        slope = jax.jit(jax.vmap(jacobian(both)))
        wanted = jnp.full(4, 0.5), (demand - 1) / 4
        chex.assert_trees_all_close(slope(demand), wanted, rtol=1e-9)


def test_eager_jit_and_vmap_agree():
    demand = jnp.array([5.0, 13.0, 20.0])
    eager = [solve(d) for d in demand]
    loop = jax.tree.map(lambda *x: jnp.stack(x), *eager)
    chex.assert_trees_all_close(loop, jax.jit(jax.vmap(solve))(demand), rtol=1e-5)
    chex.assert_trees_all_close(eager[1], jax.jit(solve)(demand[1]), rtol=1e-5)


def test_leader_at_its_bound():
    """A capacity of 2 binds: the follower answers it, and the solution moves with it."""

    def action(capacity):
        game = sj.Game(
            duopoly.leader_utility, duopoly.follower_utility, action_set=sj.Box(0.0, capacity)
        )
        solution = solve(jnp.array(13.0), game)
        return solution.action, solution.response

    chex.assert_trees_all_close(action(2.0), (2.0, 5.0), rtol=1e-6)
    chex.assert_trees_all_close(jax.jacrev(action)(2.0), (1.0, -0.5), rtol=1e-5)


def test_failed_context_is_reported_and_harmless():
    demand = jnp.array([13.0, jnp.nan, 9.0])

    def utility(demand):
        found = solve(demand)
        return found.leader_utility, found

    slope, solution = jax.jit(jax.vmap(jax.grad(utility, has_aux=True)))(demand)
    assert solution.converged.tolist() == [True, False, True]
    chex.assert_trees_all_close(solution.action[::2], jnp.array([6.0, 4.0]), rtol=1e-6)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves((solution, slope)))
    assert slope[1] == 0 and np.isneginf(solution.leader_utility[1])


def test_learned_leader_survives_a_failed_context():
    class Learned(nnx.Module):
        def __init__(self):
            self.cost = nnx.Param(jnp.array(1.0))

        def __call__(self, q1, q2, demand):
            return q1 * (demand - q1 - q2 - self.cost)

    def total(leader):
        game = sj.Game(leader, duopoly.follower_utility)
        solutions = jax.vmap(lambda d: solve(d, game))(jnp.array([13.0, jnp.nan]))
        return jnp.sum(jnp.where(solutions.converged, solutions.leader_utility, 0))

    chex.assert_trees_all_close(jax.grad(total)(Learned()).cost[...], -6.0, rtol=1e-5)


def test_pytree_action():
    def leader(action, response, x):
        return -((action["u"] - x) ** 2) - jnp.sum((action["v"] + response) ** 2)

    game = sj.Game(leader, lambda a, r, x: -jnp.sum((r - a["u"]) ** 2))
    start = {"u": jnp.array(0.0), "v": jnp.ones(2)}
    solution = sj.solve(game, action=start, response=jnp.zeros(2), context=jnp.array(3.0))
    chex.assert_trees_all_close(solution.action, {"u": 3.0, "v": jnp.full(2, -3.0)}, rtol=1e-5)
    assert solution.converged


@pytest.mark.parametrize(
    ("game", "options", "error", "message"),
    [
        (None, {}, TypeError, "`game` must be a stackjax.Game; got NoneType"),
        (duopoly, {"action": jnp.array(1)}, TypeError, "`action` must be floating point"),
        (duopoly, {"follower_solver": 3}, TypeError, "`follower_solver` must be stackjax.Newton"),
        (sj.Game(lambda a, r, x: a * jnp.ones(2), duopoly.follower_utility), {}, ValueError,
         r"`leader_utility` must return a scalar \(shape \(\)\); it returned shape \(2,\)"),
        (sj.Game(lambda a, r, x: jnp.log(-r), duopoly.follower_utility), {}, ValueError,
         "`leader_utility` returned nan"),
    ],
)  # fmt: skip
def test_wrong_input(game, options, error, message):
    given = {"action": jnp.array(1.0), "response": jnp.array(1.0), "context": jnp.array(13.0)}
    with pytest.raises(error, match=message):
        sj.solve(game, **(given | options))
