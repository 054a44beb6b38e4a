"""Workload R5: a leader's policy trained end to end through a learned follower.

The policy and what the follower likes are `flax.nnx` networks; the follower is R1's, in a box.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

import stackjax as sj
from experiments.speed.contender import Contender, Prepared, compiled
from experiments.speed.contender_jaxopt import dense, projected
from experiments.speed.oracle import answers, gains
from experiments.speed.problems import ACTION_LOWER, ACTION_UPPER, R1, box_cost

STEPS, RATE = 50, 0.01
INITIAL_SEED = 7


class Policy(nnx.Module):
    """Contexts `[9]` to actions `[2]` within their bounds."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.out = nnx.Linear(9, 16, rngs=rngs), nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        share = jax.nn.sigmoid(self.out(jnp.tanh(self.hidden(x))))
        return jnp.asarray(ACTION_LOWER) + jnp.asarray(ACTION_UPPER - ACTION_LOWER) * share


class Follower(nnx.Module):
    """R1's follower, whose weights are a network's reading of the context."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.line = nnx.Linear(9, 3, rngs=rngs)

    def seen(self, x: jax.Array) -> jax.Array:
        """The context as R1 has it."""
        return jnp.concatenate([x[:3] * (0.5 + jax.nn.sigmoid(self.line(x))), x[3:]])

    def __call__(self, u: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
        return -box_cost(u, y, self.seen(x))


def parts() -> tuple[Policy, Follower]:
    """The networks that every contender starts with."""
    return Policy(nnx.Rngs(INITIAL_SEED)), Follower(nnx.Rngs(INITIAL_SEED + 1))


def contenders() -> list[Contender]:
    """The same training with the library and with jaxopt; warm starts in both."""
    how = f"{STEPS} steps of Adam, all contexts in each, from the last responses"
    fixed = {"stepsize": R1.rate, "tol": 1e-5, "maxiter": 1000}
    return [
        Contender("stackjax", f"fit_leader, {how}", _ours),
        Contender(
            "jaxopt PG", f"defaults, one scan, {how}", _theirs(lambda: {}), ("jaxopt",), risky=True
        ),
        Contender(
            "jaxopt PG fixed step",
            f"stepsize {R1.rate:.3g}, tol 1e-5, dense adjoint, one scan, {how}",
            _theirs(lambda: {**fixed, "implicit_diff_solve": dense()}),
            ("jaxopt",),
            risky=True,
        ),
    ]


def _ours(inputs: Any) -> Prepared:
    x = inputs
    policy, follower = parts()
    # Defined once: a game of the same functions does not compile again.
    gain = lambda u, y, x: R1.gain(u, y, follower.seen(x))
    game = sj.Game(gain, follower, response_set=sj.Box(0.0, 1.0))
    options = {"steps": STEPS, "batch_size": None, "optimizer": optax.adam(RATE)}

    def call() -> Any:
        fitted, _ = sj.fit_leader(
            policy, game, x, response=R1.start, key=jax.random.key(0), **options
        )
        return jax.block_until_ready(nnx.state(fitted))

    return Prepared(call, read=_actions(policy, x))


def _theirs(options: Callable[[], dict[str, Any]]) -> Callable[[Any], Prepared]:
    def prepare(inputs: Any) -> Prepared:
        x = inputs
        policy, follower = parts()
        definition, weights = nnx.split(policy)
        own = R1.__class__("R5", 3, "box", lambda u, y, x: -follower(u, y, x), R1.gain, R1.draw)
        solve, adam = projected(own, **options()), optax.adam(RATE)

        def loss(weights: Any, warm: jax.Array) -> tuple[jax.Array, jax.Array]:
            u = jax.vmap(nnx.merge(definition, weights))(x)
            y = jax.vmap(solve)(u, x, warm)
            gain = jax.vmap(lambda u, y, x: R1.gain(u, y, follower.seen(x)))(u, y, x)
            return -jnp.mean(gain), y

        def train(weights: Any) -> Any:
            def step(carry: Any, _: None) -> Any:
                weights, state, warm = carry
                slope, warm = jax.grad(loss, has_aux=True)(weights, warm)
                update, state = adam.update(slope, state)
                return (optax.apply_updates(weights, update), state, warm), None

            begin = weights, adam.init(weights), jnp.broadcast_to(R1.start, (len(x), 3))
            return lax.scan(step, begin, None, length=STEPS)[0][0]

        return compiled(train, weights, read=_actions(policy, x))

    return prepare


def _actions(policy: Policy, x: jax.Array) -> Callable[[Any], np.ndarray]:
    definition = nnx.graphdef(policy)
    return lambda weights: np.asarray(jax.vmap(nnx.merge(definition, weights))(x))


def score(inputs: Any) -> Callable[[np.ndarray], dict[str, Any]]:
    """The leader's mean utility, in float64, of the actions that a contender's policy takes."""
    seen = np.asarray(jax.vmap(parts()[1].seen)(inputs), float)

    def of(actions: np.ndarray) -> dict[str, Any]:
        u = np.asarray(actions, float)
        return {"utility": gains(R1, u, answers(R1, u, seen).y, seen).mean()}

    return of
