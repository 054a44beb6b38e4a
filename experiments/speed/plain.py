"""What one writes without a library: a batched Newton method, and unrolled gradient steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.speed.contender import Contender, Prepared, compiled, through
from experiments.speed.problems import Problem

STEPS, UNROLLED = 12, 50


def contenders() -> list[Contender]:
    """For followers in a box."""
    newton = f"{STEPS} projected Newton steps, jax.hessian and jnp.linalg.solve, implicit gradient"
    unrolled = f"{UNROLLED} projected gradient steps of the rate 1/L, differentiated through"
    return [
        Contender("naive Newton", newton, _newton, largest=65536),
        Contender("unrolled gradient", unrolled, _unrolled, largest=65536),
    ]


def _newton(inputs: Any) -> Prepared:
    problem, u, x = inputs
    return compiled(through(problem.gain, lambda u, x: newton(problem, u, x)), u, x)


def newton(problem: Problem, u: jax.Array, x: Any) -> jax.Array:
    """A differentiable best response in the unit box."""

    def step(y: jax.Array, u: jax.Array, x: Any) -> jax.Array:
        at = lambda y: problem.cost(u, y, x)
        g, H = jax.grad(at)(y), lax.stop_gradient(jax.hessian(at)(y))
        free = ~(((y <= 0) & (g > 0)) | ((y >= 1) & (g < 0)))
        masked = jnp.where(free[:, None] & free, H, jnp.eye(problem.d))
        moved = y - jnp.linalg.solve(masked, jnp.where(free, g, 0))
        # Held coordinates do not move, and a clip would halve the derivative at the bounds.
        return jnp.where(free, moved, y)

    clipped = lambda _, y: jnp.clip(step(y, lax.stop_gradient(u), x), 0, 1)
    y = lax.stop_gradient(lax.fori_loop(0, STEPS, clipped, problem.start))
    # At the optimum, the derivative of one more step is that of the implicit function theorem.
    return step(y, u, x)


def _unrolled(inputs: Any) -> Prepared:
    problem, u, x = inputs
    slope = jax.grad(problem.cost, 1)

    def respond(u: jax.Array, x: Any) -> jax.Array:
        step = lambda y, _: (jnp.clip(y - problem.rate * slope(u, y, x), 0, 1), None)
        return lax.scan(step, problem.start, None, length=UNROLLED)[0]

    return compiled(through(problem.gain, respond), u, x)
