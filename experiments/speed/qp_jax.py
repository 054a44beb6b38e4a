"""Quadratic programs in JAX: jaxopt's OSQP, qpax, and moreau by way of JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.contender import Contender, Prepared, compiled, through


def contenders() -> list[Contender]:
    """For workload R4."""
    kappa = "explicit backend, float32, target_kappa"
    return [
        Contender("jaxopt OSQP", "tol 1e-4, maxiter 4000", _osqp, ("jaxopt",), risky=True),
        Contender("qpax", f"{kappa} at its default", _qpax({}), ("qpax",), risky=True),
        Contender(
            "qpax 1e-5", f"{kappa} 1e-5", _qpax({"target_kappa": 1e-5}), ("qpax",), risky=True
        ),
        Contender(
            "moreau.jax", "active set, float64, jit(vmap(value_and_grad))", _moreau, ("moreau",)
        ),
    ]


def _linear(u: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
    return x["c"] + x["C"] @ u, x["h"] + x["T"] @ u


def _osqp(inputs: Any) -> Prepared:
    from jaxopt import OSQP  # pyright: ignore[reportMissingImports]

    problem, u, x = inputs
    solver = OSQP(tol=1e-4, maxiter=4000)

    def respond(u: jax.Array, x: Any) -> jax.Array:
        c, b = _linear(u, x)
        found = solver.run(params_obj=(x["Q"], c), params_ineq=(x["G"], b))
        return found.params.primal

    return compiled(through(problem.gain, respond), u, x)


def _qpax(options: dict[str, Any]) -> Any:
    def prepare(inputs: Any) -> Prepared:
        import qpax  # pyright: ignore[reportMissingImports]

        problem, u, x = inputs

        def respond(u: jax.Array, x: Any) -> jax.Array:
            c, b = _linear(u, x)
            none = jnp.zeros((0, problem.d)), jnp.zeros(0)
            return qpax.solve_qp_primal(x["Q"], c, *none, x["G"], b, **options)

        return compiled(through(problem.gain, respond), u, x)

    return prepare


def _moreau(inputs: Any) -> Prepared:
    from moreau import Cones, Settings  # pyright: ignore[reportMissingImports]
    from moreau.jax import Solver  # pyright: ignore[reportMissingImports]

    problem, u, x = inputs
    m, n = x["G"].shape[1:]
    full = lambda rows: (np.arange(0, rows * n + 1, n), np.tile(np.arange(n), rows))
    settings = Settings(solver="active_set", device="cpu")
    with jax.enable_x64(True):  # it knows no other
        u, x = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), float), (u, x))
        cones = Cones(num_nonneg_cones=m)
        solver = Solver(n, m, *full(n), *full(m), cones, settings, jit=False)

        def respond(u: jax.Array, x: Any) -> jax.Array:
            return solver.solve(x["Q"].ravel(), x["G"].ravel(), *_linear(u, x)).x

        prepared = compiled(through(problem.gain, respond), u, x)

    def call() -> Any:
        assert solver is not None  # its registry holds solvers by weak references only
        with jax.enable_x64(True):
            return prepared.call()

    return dataclasses.replace(prepared, call=call)
