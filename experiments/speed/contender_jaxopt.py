"""jaxopt: projected gradients, L-BFGS-B, mirror descent, each with its implicit derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.contender import Contender, Prepared, compiled, through
from experiments.speed.problems import Problem

Respond = Callable[[jax.Array, Any], jax.Array]


def contenders(problem: Problem) -> list[Contender]:
    """For followers in a box or on a simplex."""

    def one(name: str, settings: str, build: Callable[[Problem], Respond], **more: Any):
        return Contender(f"jaxopt {name}", settings, _prepare(build), ("jaxopt",), **more)

    # Below a tolerance of about 1e-3 the line search stalls in float32, and may never return.
    rate = f"{problem.rate:.3g}"
    gradients = [
        one("PG", "ProjectedGradient, its defaults", _defaults, risky=True, largest=4096),
        one(
            "PG fixed step",
            f"ProjectedGradient, stepsize {rate}, tol 1e-5, maxiter 1000, dense adjoint",
            _fixed,
            risky=True,
            largest=65536,
        ),
    ]
    if problem.kind == "box":
        settings = "LBFGSB, tol 1e-6, maxiter 100, dense adjoint"
        return [*gradients, one("LBFGSB", settings, _lbfgsb, risky=True, largest=256)]
    mirror_rate = f"MirrorDescent, stepsize {problem.mirror:.3g}, "
    mirror = [
        one("MD", mirror_rate + "its defaults", _mirror_defaults, risky=True),
        one("MD 1e-5", mirror_rate + "tol 1e-5, maxiter 2000, dense adjoint", _mirror, risky=True),
    ]
    # The slope of an entropy is infinite on the boundary, where projections land.
    return mirror if problem.name == "entropic" else gradients + mirror[1:]


def _prepare(build: Callable[[Problem], Respond]) -> Callable[[Any], Prepared]:
    def prepare(inputs: Any) -> Prepared:
        problem, u, x = inputs
        return compiled(through(problem.gain, build(problem)), u, x)

    return prepare


def projected(problem: Problem, **options: Any) -> Any:
    """`(u, x, start) -> y` by jaxopt's ProjectedGradient."""
    from jaxopt import ProjectedGradient  # pyright: ignore[reportMissingImports]
    from jaxopt.projection import (  # pyright: ignore[reportMissingImports]
        projection_box,
        projection_simplex,
    )

    on_box = problem.kind == "box"
    projection, sizes = (projection_box, (0.0, 1.0)) if on_box else (projection_simplex, 1.0)
    cost = lambda y, u, x: problem.cost(u, y, x)
    solver = ProjectedGradient(cost, projection, **options)
    return lambda u, x, start: solver.run(start, hyperparams_proj=sizes, u=u, x=x).params


def dense() -> Any:
    """A direct solve of the adjoint system."""
    from jaxopt.linear_solve import solve_lu  # pyright: ignore[reportMissingImports]

    return solve_lu


def _defaults(problem: Problem) -> Respond:
    solve = projected(problem)
    return lambda u, x: solve(u, x, problem.start)


def _fixed(problem: Problem) -> Respond:
    options = {"stepsize": problem.rate, "tol": 1e-5, "maxiter": 1000}
    solve = projected(problem, **options, implicit_diff_solve=dense())
    return lambda u, x: solve(u, x, problem.start)


def _lbfgsb(problem: Problem) -> Respond:
    from jaxopt import LBFGSB  # pyright: ignore[reportMissingImports]

    cost = lambda y, u, x: problem.cost(u, y, x)
    solver = LBFGSB(cost, tol=1e-6, maxiter=100, implicit_diff_solve=dense())
    zero, one = jnp.zeros(problem.d), jnp.ones(problem.d)
    return lambda u, x: solver.run(problem.start, bounds=(zero, one), u=u, x=x).params


def _mirror_defaults(problem: Problem) -> Respond:
    return _descend(problem)


def _mirror(problem: Problem) -> Respond:
    return _descend(problem, tol=1e-5, maxiter=2000, implicit_diff_solve=dense())


def _descend(problem: Problem, **options: Any) -> Respond:
    from jaxopt import MirrorDescent  # pyright: ignore[reportMissingImports]

    def multiply(y: jax.Array, g: jax.Array, rate: Any, _: Any) -> jax.Array:
        return jax.nn.softmax(jnp.log(jnp.maximum(y, 1e-30)) - rate * g)

    cost = lambda y, u, x: problem.cost(u, y, x)
    solver = MirrorDescent(cost, projection_grad=multiply, stepsize=problem.mirror, **options)
    return lambda u, x: solver.run(problem.start, None, u=u, x=x).params
