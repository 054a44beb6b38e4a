"""Estimators of a follower compared: a rule-based executor's play, and a rational one's."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stackjax as sj
from experiments.common.compile import unoptimised
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.game._networks import LearnedFollower
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER, ResourceContext, resource_game
from stackjax.agents.log._log import TurnRecord

BOX = resource_game().response_set
NOISE, STEP = 0.1, 0.02
AXIS = jnp.linspace(0.0, 1.0, 5)
GRID = jnp.stack(jnp.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), axis=-1).reshape(-1, 3)
Answer = Callable[[Any, jax.Array, ResourceContext], jax.Array]


@dataclasses.dataclass(frozen=True)
class Play:
    """Observed play, and what is known of who played.

    Attributes:
      seen: rows to fit on. held: rows to test on.
      mean: `[n, 3]`, the expected response in the held-out rows.
      slopes: `[2, 3]`, the mean over these of its derivative in (q, alpha).
    """

    seen: sj.Observations
    held: sj.Observations
    mean: np.ndarray
    slopes: np.ndarray


class Clone(LearnedFollower):
    """The habit of a learned follower alone, as a policy."""

    def __call__(self, action: jax.Array, context: ResourceContext) -> jax.Array:  # type: ignore
        """Response `[3]` to `action: [2]`."""
        return self.habit(action, context)


def best(module: LearnedFollower, action: jax.Array, context: ResourceContext) -> jax.Array:
    """The best response under a fitted utility."""
    return sj.best_response(resource_game(module), action, context, response=jnp.full(3, 0.5)).value


def quantal(module: LearnedFollower, action: jax.Array, context: ResourceContext) -> jax.Array:
    """The expected response of the Gibbs follower on the grid."""
    utility = jax.vmap(lambda r: module(action, r, context))(GRID)
    return jax.nn.softmax(utility) @ GRID


METHODS: dict[str, tuple[Any, Any, dict[str, Answer]]] = {
    "regression": (sj.fit.ResponseRegression(), LearnedFollower, {"": best}),
    "Gaussian": (sj.fit.GaussianResponse(), LearnedFollower, {"": best}),
    "Gaussian, censored": (sj.fit.GaussianResponse(censored=True), LearnedFollower, {"": best}),
    "Gibbs": (
        sj.fit.GibbsResponse(GRID),
        LearnedFollower,
        {"": quantal, ", best response": best},
    ),
    "cloning": (sj.fit.BehaviourCloning(), Clone, {"": lambda module, a, x: module(a, x)}),
}


def rational_play(contexts: ResourceContext, key: jax.Array, rows: int, held: int) -> Play:
    """The rational follower on recorded contexts, under random signals, with noise in the box."""
    which, signal, noise = jax.random.split(key, 3)
    count = len(contexts.budget)
    index = jax.random.randint(which, (rows + held,), 0, count)
    context = jax.tree.map(lambda leaf: leaf[index], contexts)
    lower, upper = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])
    action = lower + (upper - lower) * jax.random.uniform(signal, (rows + held, 2))
    game = resource_game()
    one = lambda a, x: sj.best_response(game, a, x, response=jnp.full(3, 0.5)).value
    answer = jax.jit(jax.vmap(one))
    error = NOISE * jax.random.normal(noise, (rows + held, 3))
    seen = sj.Observations(context, action, jnp.clip(answer(action, context) + error, 0, 1))
    part = lambda rows: jax.tree.map(lambda leaf: leaf[rows], seen)
    test = part(slice(rows, None))

    def expected(action: jax.Array) -> np.ndarray:
        # of the noisy, clipped answer, with errors in common
        noises = NOISE * np.random.default_rng(0).normal(size=(500, 1, 1))
        clean = np.asarray(answer(action, test.context))
        return np.clip(clean[None] + noises, 0, 1).mean(0)

    return Play(part(slice(rows)), test, expected(test.action), slopes(expected, test.action))


def rule_play(records: Sequence[TurnRecord], contexts: ResourceContext) -> Play:
    """The heuristic executor's recorded turns, every fourth episode held out."""
    shown = np.array([r.signal is not None for r in records])
    names = sorted({r.episode for r in records if r.signal is not None})
    test = np.array([r.episode in set(names[3::4]) for r in records]) & shown

    def part(mask: np.ndarray) -> sj.Observations:
        rows = np.flatnonzero(mask)
        chosen = [record for record, wanted in zip(records, mask) if wanted]
        column = lambda name: jnp.asarray([getattr(r, name) for r in chosen], jnp.float32)
        context = jax.tree.map(lambda leaf: leaf[rows], contexts)
        return sj.Observations(context, column("signal"), column("intended"))

    executor, states = HeuristicExecutor(), [r.state for r, held in zip(records, test) if held]

    def expected(action: jax.Array) -> np.ndarray:
        def one(signal: np.ndarray, state: Any) -> np.ndarray:
            draw, pair = random.Random(0), (float(signal[0]), float(signal[1]))
            return np.mean([executor.respond(pair, state, draw) for _ in range(200)], axis=0)

        inside = np.clip(np.asarray(action, float), 0, 1)
        return np.array([one(a, s) for a, s in zip(inside, states)])

    held = part(test)
    return Play(part(shown & ~test), held, expected(held.action), slopes(expected, held.action))


def slopes(answer: Callable[[jax.Array], Any], action: jax.Array) -> np.ndarray:
    """Mean derivative of answers `[n, 3, ...]` in (q, alpha) by central differences.

    Returns:
      `[2, 3, ...]`.
    """
    rows = []
    for i in range(2):
        move = STEP * jnp.eye(2)[i][None]
        change = np.asarray(answer(action + move)) - np.asarray(answer(action - move))
        rows.append(change.mean(0) / (2 * STEP))
    return np.stack(rows)


@lru_cache
def _everywhere(answer: Answer) -> Callable:
    """Answers `[seeds, n, 3]` of modules `[seeds]` to n signals in n contexts."""
    over = jax.vmap(answer, in_axes=(None, 0, 0))
    return jax.jit(jax.vmap(over, in_axes=(0, None, None)))


def _turned(every: Callable, context: ResourceContext) -> Callable[[jax.Array], np.ndarray]:
    return lambda action: np.moveaxis(np.asarray(every(action, context)), 0, -1)


def _fit(module: Any, seen: sj.Observations, options: dict[str, Any]) -> Callable:
    return lambda key: sj.fit_follower(
        module(rngs=nnx.Rngs(key)), seen, key=key, batch_size=256, **options
    )


def compare_estimators(
    play: Play, *, seeds: int, steps: int, seed: int, quick: bool
) -> dict[str, Any]:
    """Fit every estimator under every seed; errors on held-out rows, and slopes.

    `quick` spares the compiler's optimisation, which takes longer than a few steps.
    """
    held, response = play.held, np.asarray(play.held.response)
    rmse = lambda apart: float(np.sqrt(np.mean(np.asarray(apart) ** 2)))
    floor = rmse(response - play.mean)
    keys = jax.random.split(jax.random.key(seed), seeds)
    report: dict[str, Any] = {
        "rows_fit": len(play.seen.action),
        "rows_test": len(response),
        "noise_floor": floor,
        "slopes": play.slopes.mean(1),
        "constant": rmse(response - np.asarray(play.seen.response).mean(0)) / floor,
    }
    for name, (estimator, module, answers) in METHODS.items():
        options: dict[str, Any] = {"estimator": estimator, "steps": steps}
        if isinstance(estimator, sj.fit.ResponseRegression | sj.fit.GaussianResponse):
            options["response_set"] = BOX

        fit = _fit(module, play.seen, options)
        lowered = jax.jit(jax.vmap(fit)).lower(keys)
        fitted, history = (unoptimised(lowered) if quick else lowered.compile())(keys)
        for kind, answer in answers.items():
            every = partial(_everywhere(answer), fitted)
            value = np.asarray(every(held.action, held.context))
            errors = [rmse(response - one) / floor for one in value]
            change = slopes(_turned(every, held.context), held.action).mean(1)  # [2, seeds]
            report[name + kind] = {
                "error": np.mean(errors),
                "to_truth": np.mean([rmse(play.mean - one) for one in value]),
                "slopes": change.mean(1),
                "slopes_over_seeds": change.std(1),
                "noise": None if history.noise is None else np.asarray(history.noise).mean(0),
                "converged": float(np.asarray(history.converged)[:, -1].mean()),
            }
    return report
