"""PyTorch on followers in a box: torch.func derivatives, and TorchOpt's implicit ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.speed.contender import Contender, Prepared

STEPS = 12


def contenders() -> list[Contender]:
    """On one thread: with more, small batched operations are slower."""
    functorch = f"{STEPS} projected Newton steps, torch.func hessian and linalg.solve under vmap"
    implicit = f"custom_root on {STEPS} Newton steps, adjoint by conjugate gradients"
    return [
        Contender("PyTorch", functorch, _functorch, ("torch",), largest=65536),
        Contender("TorchOpt", implicit, _torchopt, ("torch", "torchopt"), largest=4096),
    ]


def cost(u: Any, y: Any, x: Any) -> Any:
    """`_problems.box_cost` in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    (q, s), (w, a, p) = u, x.chunk(3)
    short = torch.nn.functional.softplus(4 * (q - (a * torch.log1p(4 * y)).sum())) / 4
    return -0.6 * torch.log1p(w @ y) + short + (1 - s) * (p @ y) + 0.3 / len(y) * (y @ y)


def gain(u: Any, y: Any, x: Any) -> Any:
    """`_problems.box_gain` in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    (q, s), (w, a, p) = u, x.chunk(3)
    quality = 1.5 * (a * torch.log1p(4 * y)).sum() + 0.3 * torch.log1p(w @ y)
    return quality - s * (p @ y) - 0.1 * q**2


def _tensors(inputs: Any) -> tuple[Any, Any, int]:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    problem, u, x = inputs
    return torch.tensor(np.asarray(u)), torch.tensor(np.asarray(x)), problem.d


def _newton_step(u: Any, y: Any, x: Any) -> tuple[Any, Any, Any]:
    """One step for one context; the free coordinates and their Hessian."""
    import torch  # pyright: ignore[reportMissingImports]

    g, H = torch.func.grad(cost, 1)(u, y, x), torch.func.hessian(cost, 1)(u, y, x)
    free = ~(((y <= 0) & (g > 0)) | ((y >= 1) & (g < 0)))
    masked = torch.where(free[:, None] & free, H, torch.eye(len(y)))
    step = torch.linalg.solve(masked, torch.where(free, g, 0.0))
    return (y - step).clamp(0, 1), free, masked


def _functorch(inputs: Any) -> Prepared:
    import torch  # pyright: ignore[reportMissingImports]

    u, x, d = _tensors(inputs)

    def total(u: Any, y: Any, x: Any) -> tuple[Any, Any]:
        _, free, masked = _newton_step(u, y, x)
        direct, along = torch.func.grad(gain, (0, 1))(u, y, x)
        adjoint = torch.linalg.solve(masked, torch.where(free, along, 0.0))
        cross = torch.func.vjp(lambda u: torch.func.grad(cost, 1)(u, y, x), u)[1](adjoint)[0]
        return gain(u, y, x), direct - cross

    step = torch.func.vmap(lambda u, y, x: _newton_step(u, y, x)[0])
    finish = torch.func.vmap(total)

    def call() -> tuple[Any, Any]:
        with torch.no_grad():
            y = torch.full((len(u), d), 0.5)
            for _ in range(STEPS):
                y = step(u, y, x)
            return finish(u, y, x)

    return Prepared(call, read=lambda out: (out[0].numpy(), out[1].numpy()))


def _torchopt(inputs: Any) -> Prepared:
    import torch  # pyright: ignore[reportMissingImports]
    from torchopt.diff.implicit import custom_root  # pyright: ignore[reportMissingImports]
    from torchopt.linear_solve import solve_normal_cg  # pyright: ignore[reportMissingImports]

    u, x, d = _tensors(inputs)
    slope, step = torch.func.vmap(torch.func.grad(cost, 1)), torch.func.vmap(_newton_step)
    conditions = lambda y, u, x: y - (y - slope(u, y, x)).clamp(0, 1)

    @custom_root(conditions, argnums=1, solve=solve_normal_cg(maxiter=50, atol=1e-7))
    def respond(y: Any, u: Any, x: Any) -> Any:
        with torch.no_grad():
            for _ in range(STEPS):
                y = step(u, y, x)[0]
        return y

    def call() -> tuple[Any, Any]:
        action = u.clone().requires_grad_()
        y = respond(torch.full((len(u), d), 0.5), action, x)
        values = torch.func.vmap(gain)(action, y, x)
        return values.detach(), torch.autograd.grad(values.sum(), action)[0]

    return Prepared(call, read=lambda out: (out[0].numpy(), out[1].numpy()))
