"""The same code lowers for GPU and TPU, without callbacks or library calls at small sizes."""

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
