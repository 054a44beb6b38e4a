"""The same code lowers for GPU and TPU, without callbacks or library calls at small sizes."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import stackjax as sj

known = sj.games.duopoly()
DEMAND = jax.ShapeDtypeStruct((64,), jnp.float32)


def batched_solve(demand):
    one = lambda x: sj.solve(known.game, action=known.action, response=known.response, context=x)
    return jax.vmap(one)(demand)


def total_derivative(demand):
    def value(action, x):
        answer = sj.best_response(known.game, action, x, response=known.response)
        return known.game.leader_utility(action, answer.value, x)

    return jax.vmap(jax.value_and_grad(value))(demand / 2, demand)


def training(demand):
    policy = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    game = sj.Game(
        lambda a, r, x: known.game.leader_utility(a[0], r, x[0]),
        lambda a, r, x: known.game.follower_utility(a[0], r, x[0]),
    )
    return sj.fit_leader(
        policy, game, demand[:, None], response=known.response, key=jax.random.key(0), steps=3
    )[1]


@pytest.mark.parametrize("program", [batched_solve, total_derivative, training])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers(program, platform):
    text = jax.export.export(jax.jit(program), platforms=[platform])(DEMAND).mlir_module()
    for word in ("callback", "lapack", "cusolver", "cublas"):
        assert word not in text.lower()


def constrained(demand):
    """The dense solvers: their linear algebra must at least lower."""
    disc = sj.Constrained(lambda a, r, x: jnp.sum(r**2) - x)
    game = sj.Game(
        lambda a, r, x: jnp.sum(r) - a**2,
        lambda a, r, x: r[0] + a * r[1],
        action_set=sj.Box(0.0, 1.0),
        response_set=disc,
    )
    start: dict[str, Any] = {"action": jnp.array(0.5), "response": jnp.zeros(2)}
    solved = jax.vmap(lambda x: sj.solve(game, **start, context=x, starts=2))(demand)
    answer = lambda a, x: sj.best_response(game, a, x, response=jnp.zeros(2)).value[0]
    return solved, jax.vmap(jax.grad(answer))(demand, demand)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_constrained_solvers_lower(platform):
    text = jax.export.export(jax.jit(constrained), platforms=[platform])(DEMAND).mlir_module()
    assert "callback" not in text.lower() and "lapack" not in text.lower()
