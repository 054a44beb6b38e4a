"""stackjax on followers: `best_response`, one `vmap`, one `value_and_grad`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import stackjax as sj
from experiments.speed.contender import Contender, Prepared, compiled
from experiments.speed.problems import Problem


def contenders(problem: Problem) -> list[Contender]:
    """The library as a user finds it."""
    return [Contender("stackjax", "best_response, its defaults, jit(vmap(value_and_grad))", _whole)]


def game(problem: Problem) -> sj.Game:
    """The problem as a game of two utilities."""
    polyhedron = lambda: sj.Polyhedron(lambda u, x: x["G"], lambda u, x: x["h"] + x["T"] @ u)
    sets = {"box": lambda: sj.Box(0.0, 1.0), "simplex": sj.Simplex, "polyhedron": polyhedron}
    follower = lambda u, y, x: -problem.cost(u, y, x)
    return sj.Game(problem.gain, follower, response_set=sets[problem.kind]())


def _one(problem: Problem) -> Any:
    played, start = game(problem), problem.start

    def value(u: jax.Array, x: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        answer = sj.best_response(played, u, x, response=start)
        return problem.gain(u, answer.value, x), (answer.steps, answer.converged)

    return jax.value_and_grad(value, has_aux=True)


def _whole(inputs: Any) -> Prepared:
    problem, u, x = inputs
    return compiled(jax.vmap(_one(problem)), u, x, read=_read, report=_report)


def _read(result: Any) -> tuple[np.ndarray, np.ndarray]:
    (value, _), gradient = result
    return np.asarray(value), np.asarray(gradient)


def _report(result: Any) -> dict[str, Any]:
    steps, converged = (np.asarray(out) for out in result[0][1])
    return {
        "steps": {int(k): int(count) for k, count in enumerate(np.bincount(steps)) if count},
        "converged": float(converged.mean()),
    }
