"""A search that starts from an earlier answer's multipliers: the same answer, in fewer steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

N, M = 6, 9


def draw(seed, count=24):
    """Programs with about half of their constraints active; rows and variables in odd units."""
    rng = np.random.default_rng(seed)
    units = 10.0 ** rng.uniform(-2, 2, M)
    rows = rng.normal(size=(M, N)) * units[:, None]
    push = rng.normal(size=(count, N)) * 3
    half = rng.normal(size=(N, N))
    return jnp.asarray(rows), jnp.asarray(units), half @ half.T / N + np.eye(N), jnp.asarray(push)


def game_of(rows, limits, bend, power=0.0):
    def utility(action, response, context):
        bent = response @ jnp.asarray(bend, response.dtype) @ response / 2
        return action @ response - bent - power * jnp.sum(response**4)

    return sj.Game(
        lambda action, response, context: response.sum(),
        utility,
        response_set=sj.Polyhedron(rows, limits, box=sj.Box(-0.3, 1.0)),
    )


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_answer_is_the_cold_ones_in_fewer_steps(power):
    with jax.enable_x64(True):
        rows, limits, bend, push = draw(0)
        game = game_of(rows, limits, bend, power)

        def answer(action, start):
            return sj.best_response(game, action, None, response=start)

        solve = jax.jit(jax.vmap(answer))
        nowhere = jnp.zeros((len(push), N))
        cold = solve(push, nowhere)
        assert cold.converged.all() and (cold.multipliers.inequality > 0).any()
        again = solve(push, cold)
        assert again.converged.all() and (again.steps == 1).all()
        np.testing.assert_allclose(again.value, cold.value, atol=1e-9)
        np.testing.assert_allclose(
            again.multipliers.inequality, cold.multipliers.inequality, atol=1e-7
        )
        moved = push + 0.05 * jnp.roll(push, 1, axis=1)
        near, afresh = solve(moved, cold), solve(moved, nowhere)
        assert near.converged.all()
        # a quadratic program saves exchanges of active constraints, which are no steps
        assert near.steps.mean() < afresh.steps.mean() + (0 if power else 0.5)
        np.testing.assert_allclose(near.value, afresh.value, atol=1e-9)
        # of multipliers that belong to something else, nothing but steps is lost
        wrong = cold.replace(multipliers=jax.tree.map(lambda x: jnp.roll(x, 1), cold.multipliers))
        lost = solve(moved, wrong)
        assert lost.converged.all()
        np.testing.assert_allclose(lost.value, afresh.value, atol=1e-9)
        if power:
            slope = lambda start: jax.jit(
                jax.grad(lambda action: answer(action, start).value.sum())
            )(moved[0])
            first = jax.tree.map(lambda x: x[0], cold)
            np.testing.assert_allclose(slope(first), slope(nowhere[0]), atol=1e-7)


def test_a_guess_whose_constraints_repeat_each_other():
    rows, limits, bend, push = draw(1, count=1)
    rows, limits = jnp.tile(rows, (2, 1)), jnp.tile(limits, 2)
    game = game_of(rows.astype(jnp.float32), limits.astype(jnp.float32), bend)
    action = push[0].astype(jnp.float32)
    cold = sj.best_response(game, action, None, response=jnp.zeros(N))
    twice = cold.multipliers.inequality
    both = jnp.maximum(twice, jnp.roll(twice, M)) / 2  # each copy holds half
    assert int((both > 0).sum()) == 2 * int((twice > 0).sum()) > 0
    start = cold.replace(multipliers=cold.multipliers.replace(inequality=both))
    again = sj.best_response(game, action, None, response=start)
    assert again.converged == cold.converged
    np.testing.assert_allclose(again.value, cold.value, atol=1e-5)


def test_other_methods_take_the_value():
    duopoly = sj.games.duopoly()
    first = sj.best_response(duopoly.game, 6.0, 13.0, response=jnp.array(1.0))
    again = sj.best_response(duopoly.game, 6.0, 13.0, response=first)
    assert again.value == first.value and again.steps <= first.steps
    several = sj.best_response(duopoly.game, 6.0, 13.0, response=first, starts=4)
    np.testing.assert_allclose(several.value, 3.0, rtol=1e-5)
