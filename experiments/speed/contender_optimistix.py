"""optimistix: root finding on the optimality conditions, with its implicit derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.contender import Contender, Prepared, compiled, through
from experiments.speed.problems import Problem

TOL, STEPS = 1e-5, 64


def contenders(problem: Problem) -> list[Contender]:
    """For followers in a box or on a simplex.

    The conditions are the projected gradient step `y - P(y - grad)`; with an entropy, the logits'
    fixed point, which is smooth. `throw=False`: a batch does not stop at its first failure.
    """
    names = ["Dogleg", "LevenbergMarquardt", *(["Newton"] if problem.kind == "box" else [])]
    how = f"root_find on optimality, rtol = atol = {TOL}, at most {STEPS} steps"

    def one(name: str) -> Contender:
        settings = f"{name}, {how}{', clipped to the box' if name == 'Newton' else ''}"
        largest = 65536 if problem.d < 8 else 1024
        return Contender(
            f"optimistix {name}",
            settings,
            _prepare(name),
            ("optimistix",),
            largest=largest,
            risky=True,
        )

    return [one(name) for name in names]


def _prepare(name: str) -> Callable[[Any], Prepared]:
    def prepare(inputs: Any) -> Prepared:
        import optimistix  # pyright: ignore[reportMissingImports]

        problem, u, x = inputs
        solver = getattr(optimistix, name)(rtol=TOL, atol=TOL)
        residual, begin, finish = _conditions(problem)
        bounds = {"lower": jnp.zeros(problem.d), "upper": jnp.ones(problem.d)}

        def respond(u: jax.Array, x: Any) -> jax.Array:
            found = optimistix.root_find(
                residual,
                solver,
                begin,
                args=(u, x),
                options=bounds if name == "Newton" else None,
                max_steps=STEPS,
                throw=False,
            )
            return finish(found.value)

        return compiled(through(problem.gain, respond), u, x)

    return prepare


def _conditions(problem: Problem) -> tuple[Callable[..., jax.Array], jax.Array, Any]:
    """The residual of the unknowns, their start, and the response that they stand for."""
    from optax.projections import projection_simplex

    slope = jax.grad(problem.cost, 1)
    if problem.name == "entropic":

        def logits(z: jax.Array, args: Any) -> jax.Array:
            u, x = args
            g = slope(u, jax.nn.softmax(z), x)
            return g - jnp.mean(g) + jnp.mean(z)

        return logits, jnp.zeros(problem.d), jax.nn.softmax
    project = (lambda y: jnp.clip(y, 0, 1)) if problem.kind == "box" else projection_simplex
    residual = lambda y, args: y - project(y - slope(args[0], y, args[1]))
    return residual, problem.start, lambda y: y
