"""Compilation without optimisation, for large programs that a test runs a few times."""

from collections.abc import Callable
from typing import Any

import jax

from experiments.common.compile import unoptimised


def quick_jit(function: Callable) -> Callable:
    """`jax.jit(function)`, for one signature, compiled in a quarter of the time; it runs slower."""
    compiled = []

    def call(*arguments: Any) -> Any:
        if not compiled:
            compiled.append(unoptimised(jax.jit(function).lower(*arguments)))
        return compiled[0](*arguments)

    return call


def quick(function: Callable, *arguments: Any) -> Any:
    """One call of `quick_jit(function)`."""
    return quick_jit(function)(*arguments)
