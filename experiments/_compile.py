"""Compilation without optimisation, for large programs that run only a few times."""

from typing import Any

_OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def unoptimised(lowered: Any) -> Any:
    """`lowered.compile()` in a quarter of the time; the program runs slower."""
    try:
        return lowered.compile(compiler_options=_OPTIONS)
    except Exception:  # another compiler, other options
        return lowered.compile()
