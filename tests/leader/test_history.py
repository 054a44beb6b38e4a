"""What a leader's search did: entries against closed forms, and the callback against the table."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stackjax as sj


def leader(action, response, context):
    return -((action - context) ** 4) - (action - 2) ** 2 + action * response


def follower(action, response, context):
    return -((response - jnp.sin(action)) ** 2)


GAME = sj.Game(leader, follower, action_set=sj.Box(-5.0, 5.0))
START: dict[str, Any] = {"action": jnp.array(4.0), "response": jnp.array(0.0)}
SOLVERS = {
    "newton": sj.Newton(),
    "adam": sj.FirstOrder(optax.adam(0.1), max_steps=30),
}


def read(found):
    assert found.history is not None
    return found.history


def worth(action, context):
    """By hand: the follower answers sin(action)."""
    return -((action - context) ** 4) - (action - 2) ** 2 + action * np.sin(action)


@pytest.mark.parametrize("name", ["newton", "adam"])
def test_every_entry_is_the_utility_at_the_followers_answer(name):
    found = sj.solve(GAME, **START, context=jnp.array(1.0), solver=SOLVERS[name], history=True)
    path = read(found)
    steps = int(path.steps)
    assert found.converged and 0 < steps <= found.steps
    assert path.action[0] == 4.0
    np.testing.assert_allclose(path.utility, worth(np.asarray(path.action), 1.0), rtol=1e-4)
    # the best point by enumeration, and the way there
    grid = np.linspace(-5, 5, 200_001)
    best = grid[np.argmax(worth(grid, 1.0))]
    np.testing.assert_allclose(found.action, best, atol=1e-4)
    np.testing.assert_allclose(path.action[steps], best, atol=1e-3)
    assert path.residual[steps] < 1e-3 < path.residual[steps - 2]
    # after the end the last entry is repeated
    for table in (path.action, path.utility, path.residual):
        assert np.all(np.asarray(table)[steps:] == table[steps])


def test_complementarity_shows_its_iterates_in_the_users_units():
    far = sj.Game(
        lambda a, r, x: leader(a / 100, r, x) * 1e3, lambda a, r, x: follower(a / 100, r, x),
        action_set=sj.Box(-500.0, 500.0),
    )  # fmt: skip
    found = sj.solve(
        far, action=jnp.array(400.0), response=jnp.array(0.0), context=jnp.array(1.0),
        solver=sj.Complementarity(), starts=1, history=True,
    )  # fmt: skip
    path = read(found)
    steps = int(path.steps)
    # the interior-point method ends near the answer; Newton steps finish it
    np.testing.assert_allclose(path.action[steps], found.action, rtol=3e-2)
    np.testing.assert_allclose(path.utility[steps], found.leader_utility, rtol=3e-2)
    assert path.residual[steps] < path.residual[0]


def test_the_callback_sees_what_the_table_holds():
    rows = []
    found = sj.solve(
        GAME, **START, context=jnp.array(1.0), solver=sj.Newton(), starts=1, history=True,
        callback=lambda *row: rows.append(row),
    )  # fmt: skip
    jax.effects_barrier()
    steps, actions, utilities, residuals = zip(*sorted(rows, key=lambda row: row[0]))
    n = int(read(found).steps) + 1
    assert steps == tuple(range(n))
    np.testing.assert_array_equal(np.asarray(actions), read(found).action[:n])
    np.testing.assert_array_equal(np.asarray(utilities, np.float32), read(found).utility[:n])
    np.testing.assert_array_equal(np.asarray(residuals, np.float32), read(found).residual[:n])


def test_jit_vmap_and_gradient():
    rows = []

    def run(context, callback=None):
        return sj.solve(GAME, **START, context=context, history=True, callback=callback)

    contexts = jnp.array([0.0, 1.0, 2.5])
    every = jax.jit(jax.vmap(run))(contexts)
    for i, context in enumerate(contexts):
        one = run(context)
        assert read(every).steps[i] == read(one).steps
        np.testing.assert_allclose(read(every).action[i], read(one).action, rtol=1e-4)
    with_history = jax.grad(lambda x: run(x).action)(1.0)
    plain = sj.solve(GAME, **START, context=jnp.array(1.0))
    assert plain.history is None and plain.action == run(jnp.array(1.0)).action
    # by hand: the slope of the stationarity condition, its numbers at the optimum
    a = float(plain.action)
    bend = -12 * (a - 1) ** 2 - 2 + 2 * np.cos(a) - a * np.sin(a)
    np.testing.assert_allclose(with_history, -12 * (a - 1) ** 2 / bend, rtol=1e-3)
    # numbers of the way carry no derivative
    assert jax.grad(lambda x: read(run(x)).utility.sum())(1.0) == 0
    jax.vmap(lambda x: run(x, callback=lambda *row: rows.append(row)))(contexts)
    jax.effects_barrier()
    assert {row[0] for row in rows} >= {0, 1} and sum(row[0] == 0 for row in rows) >= 3


def test_an_action_of_several_parts_keeps_its_structure():
    game = sj.Game(
        lambda a, r, x: -jnp.sum((a["price"] - r) ** 2) - (a["tax"] - x) ** 2,
        lambda a, r, x: -jnp.sum((r - a["tax"]) ** 2),
    )
    start = {"price": jnp.ones(2), "tax": jnp.array(3.0)}
    seen = []
    found = sj.solve(
        game, action=start, response=jnp.zeros(2), context=jnp.array(0.5), starts=1,
        solver=sj.Newton(), history=True, callback=lambda step, action, *_: seen.append(action),
    )  # fmt: skip
    jax.effects_barrier()
    assert read(found).action["price"].shape == (101, 2)
    assert read(found).action["tax"].shape == (101,)
    assert seen[0]["price"].shape == (2,) and seen[0]["tax"].shape == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"history": 1}, "`history` must be True or False; got 1"),
        ({"callback": "print"}, "`callback` must be callable or None; got 'print'"),
    ],
)
def test_wrong_arguments(wrong, said):
    with pytest.raises(TypeError, match=said):
        sj.solve(GAME, **START, context=jnp.array(1.0), **wrong)
