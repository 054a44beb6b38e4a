"""Compilation without optimisation, for large programs that run only a few times."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

# To start a client is what reads the flags; jaxlib does it in a quarter of the time JAX takes.
_START = """
try:
    from jaxlib import xla_client
    xla_client.make_cpu_client()
except (ImportError, AttributeError, TypeError):
    import jax
    jax.devices("cpu")
"""


def unoptimised(lowered: Any) -> Any:
    """`lowered.compile()` in a quarter of the time; the program runs slower."""
    for options in (_OPTIONS, dict([*_OPTIONS.items()][:1])):
        try:
            return lowered.compile(compiler_options=options)
        except Exception:  # another compiler, other options
            continue
    return lowered.compile()


def unoptimised_flags() -> str:
    """`XLA_FLAGS` that say the same for all of a process, to be set before JAX starts.

    What they are set to already, if they are.
    """
    if "XLA_FLAGS" in os.environ:
        return os.environ["XLA_FLAGS"]
    flags = [f"--{name}={str(value).lower()}" for name, value in _OPTIONS.items()]
    return " ".join(known_flags(flags))


def known_flags(flags: Sequence[str]) -> list[str]:
    """Those that this jaxlib has; one that it has not would end the process.

    Asked of another process, since names come and go between versions; it takes a second.
    """
    if _starts(flags):
        return list(flags)
    return [flag for flag in flags if _starts([flag])] if len(flags) > 1 else []


def _starts(flags: Sequence[str]) -> bool:
    env = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    asked = subprocess.run([sys.executable, "-c", _START], env=env, capture_output=True)
    return asked.returncode == 0
