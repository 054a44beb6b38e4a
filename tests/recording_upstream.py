"""What the runtime's tests share: an upstream that records, and policies that misbehave."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import jax
import jax.numpy as jnp
from flax import nnx

import stackjax as sj
from experiments.runtime.upstream import RecordingUpstream, Reply, chunks, completion, stream  # noqa: F401
from stackjax.agents.control._controller import Controller
from stackjax.agents.game._networks import Leader, LearnedFollower
from stackjax.agents.game._payoffs import resource_game
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.runtime.policy._policy import Recommendation, Residuals

LEAN = (0.0, 0.0, 0.0)


def calibration(**changes) -> Residuals:
    """A calibration that is fresh and wide."""
    fields: dict = {
        "token_mean": 0.0,
        "token_spread": 0.5,
        "quality_mean": 0.0,
        "quality_spread": 0.5,
        "turns": 100,
        "low": (0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0, -1.0),
        "high": (1.0, 1000.0, 20.0, 1000.0, 1.0, 2.0, 1.0, 1.0),
        "time": datetime.now(UTC).isoformat(),
    }
    return Residuals(**{**fields, **changes})


class StubPolicy:
    """Always the same advice, after a while, unless it raises or is no advice at all."""

    def __init__(self, response=LEAN, *, seconds=0.0, advice=None, error=None, **changes):
        self.calibration = calibration(**changes)
        self.fingerprint = {"leader": "0" * 64, "surrogate": "1" * 64}
        self._seconds, self._error, self.calls = seconds, error, 0
        self._advice = advice or Recommendation(
            (0.8, 0.5), response, True, 0.0, 40.0, 100.0, 0.7, 0.7
        )

    def recommend(self, numbers, task, previous):
        self.calls += 1
        time.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        return self._advice


def controller(seed=0, *, learned=True, hidden=4) -> Controller:
    """A small controller with arbitrary weights."""
    keys = jax.random.split(jax.random.key(seed), 4)
    surrogate = Surrogate(
        QualityModel(hidden=hidden, members=2, rngs=nnx.Rngs(keys[0])),
        TokenModel(hidden=hidden, members=2, rngs=nnx.Rngs(keys[1])),
    )
    follower = LearnedFollower(hidden=hidden, rngs=nnx.Rngs(keys[2])) if learned else None
    cells = jnp.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 1.0, 1.0]])
    return Controller(
        surrogate,
        Leader(hidden=hidden, rngs=nnx.Rngs(keys[3])),
        resource_game(follower),
        sj.ActionSet(jnp.tile(cells[None], (12, 1, 1))),
        cells[2],
    )


def eventually(condition, seconds=5.0) -> bool:
    """Whether a condition comes true within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())
