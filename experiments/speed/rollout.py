"""Workload R6: a policy's gradient through sessions of many turns.

At every turn the follower answers the policy's action with its best response, and what it did moves
the next turn's context; one `lax.scan` over turns, all sessions at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import stackjax as sj
from experiments.speed.contender import Contender, Prepared, compiled
from experiments.speed.contender_jaxopt import dense, projected
from experiments.speed.oracle import answers, gains
from experiments.speed.ours import game
from experiments.speed.problems import ACTION_LOWER, ACTION_UPPER, R1

TURNS = 32
STEP = 1e-5


def contenders() -> list[Contender]:
    """The library and jaxopt, each starting from the last turn's response."""
    fixed = {"stepsize": R1.rate, "tol": 1e-5, "maxiter": 1000}
    settings = f"ProjectedGradient, stepsize {R1.rate:.3g}, tol 1e-5, dense adjoint, in one scan"
    return [
        Contender("stackjax", "best_response, its defaults, in one scan", _ours),
        Contender(
            "jaxopt PG",
            "ProjectedGradient, its defaults, in one scan",
            _theirs(lambda: {}),
            ("jaxopt",),
            risky=True,
        ),
        Contender(
            "jaxopt PG fixed step",
            settings,
            _theirs(lambda: {**fixed, "implicit_diff_solve": dense()}),
            ("jaxopt",),
            risky=True,
        ),
    ]


def weights() -> np.ndarray:
    """The policy's, `[2, 10]`."""
    return np.random.default_rng(7).normal(size=(2, 10)) * 0.5


def policy(theta: Any, x: Any, sigmoid: Callable[[Any], Any]) -> Any:
    """Actions `[..., 2]` of contexts `[..., 9]`, in numpy or JAX."""
    share = sigmoid(x @ theta[:, :9].T + theta[:, 9])
    return (
        ACTION_LOWER.astype(share.dtype) + (ACTION_UPPER - ACTION_LOWER).astype(share.dtype) * share
    )


def _ours(inputs: Any) -> Prepared:
    played = game(R1)
    return _prepared(inputs, lambda u, x, warm: sj.best_response(played, u, x, response=warm).value)


def _theirs(options: Callable[[], dict[str, Any]]) -> Callable[[Any], Prepared]:
    return lambda inputs: _prepared(inputs, projected(R1, **options()))


def _prepared(inputs: Any, respond: Callable[..., jax.Array]) -> Prepared:
    theta, x = inputs

    def total(theta: jax.Array) -> jax.Array:
        def one(x: jax.Array) -> jax.Array:
            def turn(carry: Any, _: None) -> Any:
                x, warm = carry
                u = policy(theta, x, jax.nn.sigmoid)
                y = respond(u, x, lax.stop_gradient(warm))
                moved = 0.9 * x[:3] + 0.1 * (0.1 + 0.9 * y)
                return (jnp.concatenate([moved, x[3:]]), y), R1.gain(u, y, x)

            return jnp.mean(lax.scan(turn, (x, R1.start), None, length=TURNS)[1])

        return jnp.mean(jax.vmap(one)(x))

    return compiled(jax.value_and_grad(total), theta)


def score(inputs: Any) -> Callable[[Any], dict[str, Any]]:
    """The error along three random directions against differences of float64 rollouts."""
    theta, contexts = (np.asarray(leaf, float) for leaf in inputs)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))

    def total(theta: np.ndarray) -> float:
        x, sums = contexts, 0.0
        for _ in range(TURNS):
            u = policy(theta, x, sigmoid)
            y = answers(R1, u, x).y
            sums += gains(R1, u, y, x).mean() / TURNS
            x = np.concatenate([0.9 * x[:, :3] + 0.1 * (0.1 + 0.9 * y), x[:, 3:]], 1)
        return sums

    ways = np.random.default_rng(0).normal(size=(3, *theta.shape))
    right = np.array([total(theta + STEP * way) - total(theta - STEP * way) for way in ways])
    right = right / (2 * STEP)

    def of(out: Any) -> dict[str, Any]:
        found = np.tensordot(ways, np.asarray(out[1], float), 2)
        return {"median_error": np.linalg.norm(found - right) / np.linalg.norm(right)}

    return of
