"""What is compared: a contender prepares a workload's inputs into one repeatable call."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One contender on one workload, ready to be timed.

    Attributes:
      call: Runs once and waits for the result.
      read: What `call` returned, as the numpy arrays that the workload scores.
      memory: Bytes of scratch memory of the compiled program, None where nobody can tell.
      report: More numbers from what `call` returned, such as a histogram of steps.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Any]
    memory: int | None = None
    report: Callable[[Any], dict[str, Any]] = lambda result: {}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way to do a workload.

    Attributes:
      name: As the tables show it.
      settings: One sentence on how it is used.
      prepare: From a workload's inputs to a `Prepared`, compilation included.
      packages: Import names, all of which it needs.
      largest: The most contexts at which it is run.
      why: Why not at more of them.
      risky: It may not return; it is first tried in a process of its own, under a time limit.
      contexts: How many contexts one call does, if not all of the workload's.
    """

    name: str
    settings: str
    prepare: Callable[[Any], Prepared]
    packages: tuple[str, ...] = ()
    largest: int | None = None
    why: str = "too slow"
    risky: bool = False
    contexts: int | None = None

    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


def compiled(function: Callable[..., Any], *inputs: Any, **options: Any) -> Prepared:
    """A JAX function, compiled ahead of time so that its memory is known."""
    program = jax.jit(function).lower(*inputs).compile()
    scratch = program.memory_analysis()
    options.setdefault("read", lambda out: (np.asarray(out[0]), np.asarray(out[1])))
    return Prepared(
        call=lambda: jax.block_until_ready(program(*inputs)),
        memory=None if scratch is None else int(scratch.temp_size_in_bytes),
        **options,
    )


def through(gain: Callable[..., Any], respond: Callable[..., Any]) -> Callable[..., Any]:
    """`(u, x) -> (values [N], total derivatives [N, a])` through a differentiable response."""
    return jax.vmap(jax.value_and_grad(lambda u, x: gain(u, respond(u, x), x)))


def version(package: str) -> str | None:
    """The installed version of an import name's distribution, None if there is none."""
    if importlib.util.find_spec(package) is None:
        return None
    names = importlib.metadata.packages_distributions().get(package, [package])
    return importlib.metadata.version(names[0])
