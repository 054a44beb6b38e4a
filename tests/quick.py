"""Compilation without optimisation, for large programs that a test runs a few times."""

from collections.abc import Callable
from typing import Any

import jax

_OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def quick_jit(function: Callable) -> Callable:
    """`jax.jit(function)`, for one signature, compiled in a quarter of the time; it runs slower."""
    compiled = []

    def call(*arguments: Any) -> Any:
        if not compiled:
            lowered = jax.jit(function).lower(*arguments)
            try:
                compiled.append(lowered.compile(compiler_options=_OPTIONS))
            except Exception:  # another compiler, other options
                compiled.append(lowered.compile())
        return compiled[0](*arguments)

    return call


def quick(function: Callable, *arguments: Any) -> Any:
    """One call of `quick_jit(function)`."""
    return quick_jit(function)(*arguments)
