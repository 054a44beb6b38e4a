"""Workload S1: the leader's best action for each of many contexts of R1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.speed.contender import Contender, Prepared, compiled
from experiments.speed.oracle import answers, gains
from experiments.speed.problems import ACTION_LOWER, ACTION_UPPER, R1, box_cost, box_gain

STARTS, GRID, SCORED, SHARED = 4, 41, 32, 3


def contenders() -> list[Contender]:
    """The library on all contexts, nashopt on as many as one waits for."""
    nashopt = "ParametricGNEP, float64, one start, {}; it compiles for each context"
    one = lambda name, how, **options: Contender(
        name,
        nashopt.format(how),
        _nashopt(options),
        ("nashopt", "qpsolvers"),
        contexts=SHARED,
    )
    return [
        Contender("stackjax", f"solve, Newton(max_steps=15), {STARTS} starts, jit(vmap)", _ours),
        one("nashopt", "maxiter 2000", maxiter=2000),
        one("nashopt defaults", "its defaults"),
    ]


def _ours(inputs: Any) -> Prepared:
    _, _, x = inputs
    lower, upper = (np.asarray(side, np.float32) for side in (ACTION_LOWER, ACTION_UPPER))
    follower = lambda u, y, x: -R1.cost(u, y, x)
    sets = {"action_set": sj.Box(lower, upper), "response_set": sj.Box(0.0, 1.0)}
    game, middle = sj.Game(R1.gain, follower, **sets), jnp.asarray((lower + upper) / 2)
    begin: dict[str, Any] = {"action": middle, "response": R1.start}

    def solve(x: jax.Array) -> Any:
        # A leader whose optimum lies on a kink is never proven, and would take every step.
        solver = sj.Newton(max_steps=15)
        found = sj.solve(game, **begin, context=x, starts=STARTS, solver=solver)
        return found.action, found.converged, found.steps

    def report(out: Any) -> dict[str, Any]:
        converged, steps = (np.asarray(leaf) for leaf in out[1:])
        histogram = {int(k): int(count) for k, count in enumerate(np.bincount(steps)) if count}
        return {"converged": float(converged.mean()), "steps": histogram}

    return compiled(jax.vmap(solve), x, read=lambda out: np.asarray(out[0]), report=report)


def _nashopt(options: dict[str, Any]) -> Callable[[Any], Prepared]:
    def prepare(inputs: Any) -> Prepared:
        contexts = np.asarray(inputs[2], float)[:SHARED]

        def call() -> np.ndarray:
            with jax.enable_x64(True):
                return np.stack([_design(jnp.asarray(x), options) for x in contexts])

        return Prepared(call, read=lambda out: out)

    return prepare


def _design(x: jax.Array, options: dict[str, Any]) -> np.ndarray:
    """The action that nashopt finds for one context."""
    from nashopt import ParametricGNEP  # pyright: ignore[reportMissingImports]

    cost, gain = (lambda y, u: box_cost(u, y, x)), (lambda y, u: -box_gain(u, y, x))
    follower = ParametricGNEP(sizes=[3], npar=2, f=[cost], lb=np.zeros(3), ub=np.ones(3))
    begin = {"p0": (ACTION_LOWER + ACTION_UPPER) / 2, "x0": np.full(3, 0.5)}
    found = follower.solve(gain, ACTION_LOWER, ACTION_UPPER, **begin, **options, verbose=False)
    return np.clip(found.p, ACTION_LOWER, ACTION_UPPER)


def score(inputs: Any) -> Callable[[np.ndarray], dict[str, Any]]:
    """By how much a contender's actions fall short of the best of a fine grid, in float64.

    Negative: better than the grid. `gap_shared` is over the contexts that everybody does.
    """
    x = np.asarray(inputs[2], float)[:SCORED]
    sides = np.linspace(ACTION_LOWER, ACTION_UPPER, GRID).T
    points = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
    worth = lambda u, x: gains(R1, u, answers(R1, u, x).y, x)
    grid = worth(np.tile(points, (len(x), 1)), np.repeat(x, len(points), 0))
    best = grid.reshape(len(x), -1).max(1)

    def of(actions: np.ndarray) -> dict[str, Any]:
        u = np.asarray(actions, float)[:SCORED]
        gap = best[: len(u)] - worth(u, x[: len(u)])
        return {"gap": gap.max(), "mean_gap": gap.mean(), "gap_shared": gap[:SHARED].max()}

    return of
