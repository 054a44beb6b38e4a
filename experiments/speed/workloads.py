"""The workloads: what is done, by whom, and how an answer is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from experiments.speed import contender_jaxopt as _jaxopt
from experiments.speed import contender_optimistix as _optimistix
from experiments.speed import inline_c as _inline_c
from experiments.speed import leader as _leader
from experiments.speed import ours as _ours
from experiments.speed import plain as _plain
from experiments.speed import problems as _problems
from experiments.speed import pytorch as _pytorch
from experiments.speed import qp_jax as _qp_jax
from experiments.speed import qp_solvers as _qp_solvers
from experiments.speed import rollout as _rollout
from experiments.speed import training as _training
from experiments.speed.contender import Contender
from experiments.speed.oracle import reference, score
from experiments.speed.problems import Problem

# Contexts whose gradients are checked, the first ones; each takes five float64 solves.
CHECKED = 4096


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row of the benchmark.

    Attributes:
      group: R1 to R6 or S1.
      variant: What tells it from others of its group, such as "N=4096".
      contexts: How many contexts one call does.
      inputs: `seed -> inputs`, what contenders are handed.
      contenders: In the order of the tables; the first is stackjax.
      judge: `(seed, cache) -> (facts about the right answers, a contender's output -> scores)`.
    """

    group: str
    variant: str
    contexts: int
    inputs: Callable[[int], Any]
    contenders: list[Contender]
    judge: Callable[[int, Path], tuple[dict[str, Any], Callable[[Any], dict[str, Any]]]]

    @property
    def name(self) -> str:
        """Unique, such as "R1 N=4096"."""
        return f"{self.group} {self.variant}"


def workloads() -> list[Workload]:
    """All of them, in the order of the tables."""
    box = lambda p: [
        *_ours.contenders(p),
        *_plain.contenders(),
        *_jaxopt.contenders(p),
        *_optimistix.contenders(p),
        *_pytorch.contenders(),
    ]
    shares = lambda p: [
        *_ours.contenders(p),
        *_jaxopt.contenders(p),
        *_optimistix.contenders(p),
    ]
    first = [*_ours.contenders(_problems.R1), *_inline_c.contenders()]
    first += box(_problems.R1)[1:]
    programs = [
        *_ours.contenders(_problems.R4),
        *_qp_jax.contenders(),
        *_qp_solvers.contenders(),
    ]
    sizes = (1, 256, 4096, 65536, 1048576)
    return [
        *(_followers("R1", f"N={n}", _problems.R1, n, first) for n in sizes),
        *(_followers("R2", name, p, 1024, box(p)) for name, p in _problems.R2.items()),
        *(_followers("R3", name, p, 1024, shares(p)) for name, p in _problems.R3.items()),
        _followers("R4", "N=512", _problems.R4, 512, programs),
        _special("R5", "N=512", 512, _contexts(512), _training),
        _special("R6", f"N=1024, T={_rollout.TURNS}", 1024, _rollout_inputs, _rollout),
        _special("S1", "N=1024", 1024, lambda seed: _problems.R1.inputs(1024, seed), _leader),
    ]


def _followers(
    group: str, variant: str, problem: Problem, n: int, contenders: list[Contender]
) -> Workload:
    """Values and total derivatives of the leader's utility for `n` contexts."""

    def judge(seed: int, cache: Path) -> tuple[dict[str, Any], Callable[[Any], dict[str, Any]]]:
        right = reference(problem, min(n, CHECKED), seed, cache)
        facts = {name: getattr(right, name).item() for name in ("kinks", "unsolved", "active")}
        return {**facts, "checked": len(right.sure)}, lambda out: score(right, out[1])

    return Workload(group, variant, n, lambda seed: problem.inputs(n, seed), contenders, judge)


def _special(
    group: str, variant: str, n: int, inputs: Callable[[int], Any], module: Any
) -> Workload:
    judge = lambda seed, cache: ({}, module.score(inputs(seed)))
    return Workload(group, variant, n, inputs, module.contenders(), judge)


def _contexts(n: int) -> Callable[[int], Any]:
    return lambda seed: _problems.R1.inputs(n, seed)[2]


def _rollout_inputs(seed: int) -> Any:
    return jnp.asarray(_rollout.weights(), jnp.float32), _problems.R1.inputs(1024, seed)[2]
