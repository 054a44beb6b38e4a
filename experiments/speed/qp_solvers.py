"""Quadratic programs outside of JAX: moreau, proxsuite, qpth and cvxpylayers, in float64.

Each gives the derivatives of a loss of the solution with respect to the linear term and the
right-hand side; the leader's action enters through these two.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments.speed.contender import Contender, Prepared


def contenders() -> list[Contender]:
    """For workload R4."""
    one = lambda name, settings, prepare, *packages: Contender(name, settings, prepare, packages)
    return [
        one("moreau", "CompiledSolver, batched, active set", _moreau, "moreau"),
        one("proxsuite", "dense BatchQP, eps_abs 1e-9, one thread", _proxsuite, "proxsuite"),
        one("qpth", "QPFunction, batched interior point, eps 1e-12", _qpth, "torch", "qpth"),
        one("cvxpylayers", "CvxpyLayer for PyTorch, its defaults", _cvx, "torch", "cvxpylayers"),
    ]


def _arrays(inputs: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    _, u, x = inputs
    return jax.tree.map(lambda leaf: np.array(leaf, float), (u, x))


def _times(M: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (M @ v[:, :, None])[..., 0]


def _gain(u: np.ndarray, y: np.ndarray, x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_problems._worth` and its two partial derivatives, by hand."""
    value = np.sum(x["v"] * y, 1) - 0.5 * np.sum(y * y, 1) - 0.1 * np.sum(u * u, 1)
    return value, -0.2 * u, x["v"] - y


def _total(direct: np.ndarray, dc: np.ndarray, db: np.ndarray, x: Any) -> np.ndarray:
    """The derivative for the action from those for the linear term and the right-hand side."""
    return direct + _times(x["C"].swapaxes(1, 2), dc) + _times(x["T"].swapaxes(1, 2), db)


def _moreau(inputs: Any) -> Prepared:
    import moreau  # pyright: ignore[reportMissingImports]

    u, x = _arrays(inputs)
    (count, m, n), full = (
        x["G"].shape,
        lambda k, n: (np.arange(0, k * n + 1, n), np.tile(np.arange(n), k)),
    )
    settings = moreau.Settings(
        solver="active_set", device="cpu", batch_size=count, enable_grad=True
    )
    solver = moreau.CompiledSolver(
        n, m, *full(n, n), *full(m, n), moreau.Cones(num_nonneg_cones=m), settings
    )

    def call() -> tuple[np.ndarray, np.ndarray]:
        solver.setup(x["Q"].reshape(count, -1), x["G"].reshape(count, -1))
        c, b = x["c"] + _times(x["C"], u), x["h"] + _times(x["T"], u)
        y = np.asarray(solver.solve(c, b).x)
        value, direct, along = _gain(u, y, x)
        back = solver.backward(along)
        return value, _total(direct, np.asarray(back["dq"]), np.asarray(back["db"]), x)

    return Prepared(call, read=lambda out: out)


def _proxsuite(inputs: Any) -> Prepared:
    from proxsuite import proxqp  # pyright: ignore[reportMissingImports]

    u, x = _arrays(inputs)
    count, m, n = x["G"].shape
    low = np.full(m, -1e20)

    def call() -> tuple[np.ndarray, np.ndarray]:
        c, b = x["c"] + _times(x["C"], u), x["h"] + _times(x["T"], u)
        batch = proxqp.dense.BatchQP()
        for k in range(count):
            qp = batch.init_qp_in_place(n, 0, m)
            qp.settings.eps_abs = 1e-9
            qp.settings.initial_guess = proxqp.NO_INITIAL_GUESS
            qp.init(x["Q"][k], c[k], None, None, x["G"][k], low, b[k])
        proxqp.dense.solve_in_parallel(batch, 1)
        y = np.stack([batch.get(k).results.x for k in range(count)])
        value, direct, along = _gain(u, y, x)
        losses = proxqp.dense.VectorLossDerivatives()
        for row in along:
            losses.append(np.concatenate([row, np.zeros(m)]))
        proxqp.dense.solve_backward_in_parallel(1, batch, losses, 1e-9, 1e-9, 1e-9)
        data = [batch.get(k).model.backward_data for k in range(count)]
        dc, db = np.stack([d.dL_dg for d in data]), np.stack([d.dL_du for d in data])
        return value, _total(direct, dc, db, x)

    return Prepared(call, read=lambda out: out)


def _through_torch(inputs: Any, build: Any) -> Prepared:
    """`build(n, m)` makes `(Q, c, G, b) -> y` for tensors with a batch axis."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    u, x = _arrays(inputs)
    _, m, n = x["G"].shape
    action, tensors = torch.tensor(u), {name: torch.tensor(leaf) for name, leaf in x.items()}
    respond = build(n, m)
    times = lambda M, v: (M @ v[:, :, None])[..., 0]

    def call() -> tuple[Any, Any]:
        a, t = action.clone().requires_grad_(), tensors
        y = respond(t["Q"], t["c"] + times(t["C"], a), t["G"], t["h"] + times(t["T"], a))
        value = (t["v"] * y).sum(1) - 0.5 * (y * y).sum(1) - 0.1 * (a * a).sum(1)
        return value.detach(), torch.autograd.grad(value.sum(), a)[0]

    return Prepared(call, read=lambda out: (out[0].numpy(), out[1].numpy()))


def _qpth(inputs: Any) -> Prepared:
    def build(n: int, m: int) -> Any:
        import torch  # pyright: ignore[reportMissingImports]
        from qpth.qp import QPFunction  # pyright: ignore[reportMissingImports]

        none = torch.zeros(0, dtype=torch.float64)
        return lambda Q, c, G, b: QPFunction(verbose=-1)(Q, c, G, b, none, none)

    return _through_torch(inputs, build)


def _cvx(inputs: Any) -> Prepared:
    def build(n: int, m: int) -> Any:
        import cvxpy as cp  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]
        from cvxpylayers.torch import CvxpyLayer  # pyright: ignore

        y, root, c = cp.Variable(n), cp.Parameter((n, n)), cp.Parameter(n)
        G, b = cp.Parameter((m, n)), cp.Parameter(m)
        program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(root @ y) + c @ y), [G @ y <= b])
        layer = CvxpyLayer(program, parameters=[root, c, G, b], variables=[y])
        # Its language wants a factor of Q, whose derivative nobody asks for.
        factor = lambda Q: torch.linalg.cholesky(Q).mT
        return lambda Q, c, G, b: layer(factor(Q), c, G, b)[0]

    return _through_torch(inputs, build)
