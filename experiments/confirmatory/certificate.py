"""The certificate of the controller that was evaluated, from the confirmatory turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.confirmatory.analysis import by_arm, shared_turns, tokens_of
from experiments.confirmatory.arms import CONSERVATIVE, MAIN
from experiments.confirmatory.fit import Fitted
from experiments.govern.arms import FIRST_ACTION
from stackjax.agents.control._controller import contexts_of
from stackjax.agents.evaluation._policies import deployed_controller
from stackjax.agents.evaluation._real_turns import score_bounds, turn_score
from stackjax.agents.game._payoffs import DEFAULT
from stackjax.agents.game._state import stack_states
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.surrogate._predictors import Surrogate

ONLINE = ("LinUCB", "dual mirror descent")  # no fixed policies, which the statements are about


def certificate(records: Sequence[TurnRecord], fitted: Fitted, *, seed: int) -> dict[str, Any]:
    """Certify the deployed controller among the arms, at 95%, on the turns that all arms took.

    A policy's real utility is the leader's score of its own turns; the surrogate's is the expected
    score of the same responses at the same states. So the statements are about turns at states
    that the policies met, not about sessions that the surrogate makes up.
    """
    arms = {name: rows for name, rows in by_arm(records).items() if name not in ONLINE}
    arms = shared_turns(arms)
    scores = {name: _scores(rows, fitted) for name, rows in arms.items()}
    names = list(arms)
    low, high = score_bounds("leader", DEFAULT)
    turns = sj.certificates.RealTurns(
        utility=np.stack([real for real, _ in scores.values()]),
        value=np.stack([expected for _, expected in scores.values()]),
        episode=np.array([r.episode for r in arms[MAIN]]),
        low=low,
        high=high,
        names=names,
        deployed=names.index(MAIN),
        baseline=names.index(CONSERVATIVE),
    )
    rows = np.linspace(0, len(fitted.strata) - 1, 64).astype(int)
    made = sj.certify(
        deployed_controller(fitted.controller("rational", repaired=True)),
        jax.tree.map(lambda leaf: leaf[rows], fitted.contexts),
        turns,
        level=0.95,
        key=jax.random.key(seed),
        samples=128,
        steps=15,
        pairs=16,
    )
    print(made)
    return {
        "policies": names,
        "turns": len(arms[MAIN]),
        "values": {
            name: {"real": real.mean(), "surrogate": expected.mean()}
            for name, (real, expected) in scores.items()
        },
        "certificate": json.loads(made.to_json()),
    }


def _scores(rows: Sequence[TurnRecord], fitted: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """The leader's score of each turn as it came out, and as the surrogate expects it, `[N]`."""
    states = stack_states([r.state for r in rows], [r.task for r in rows])
    signals = {(r.episode, r.turn): r.signal or FIRST_ACTION for r in rows}
    before = [signals.get((r.episode, r.turn - 1), FIRST_ACTION) for r in rows]
    real, expected = _both(
        fitted.surrogate,
        contexts_of(
            fitted.surrogate,
            jnp.asarray(fitted.conservative, jnp.float32),
            states,
            jnp.asarray(before, jnp.float32),
        ),
        states,
        jnp.asarray([r.executed for r in rows], jnp.float32),
        jnp.asarray([tokens_of(r) for r in rows], jnp.float32),
        jnp.asarray([r.correct for r in rows], jnp.float32),
    )
    return np.asarray(real, float), np.asarray(expected, float)


@jax.jit
def _both(
    surrogate: Surrogate,
    contexts: Any,
    states: Any,
    executed: jax.Array,
    tokens: jax.Array,
    correct: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    none = jnp.zeros(2)  # the leader's score does not read the signal

    def one(context: Any, state: Any, r: jax.Array, t: jax.Array, y: jax.Array) -> tuple:
        quality, usual = surrogate.predict(state, r)
        right = turn_score(context, none, usual, jnp.ones(()))
        wrong = turn_score(context, none, usual, jnp.zeros(()))
        return turn_score(context, none, t, y), quality * right + (1 - quality) * wrong

    return jax.vmap(one)(contexts, states, executed, tokens, correct)
