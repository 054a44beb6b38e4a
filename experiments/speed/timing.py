"""Interleaved timing: in every round each contender runs once, so that all meet the same load."""

from __future__ import annotations

import dataclasses
import resource
import time
from typing import Any

import numpy as np

from experiments.speed.contender import Contender, Prepared

# A shorter call is repeated until a round has taken this long. Before it, everything is idle for a
# while: threads of the contender before still spin, and process time counts them.
ROUND, PAUSE = 0.05, 0.05


@dataclasses.dataclass
class Runner:
    """A contender, prepared, and its times so far, in seconds for one call.

    Attributes:
      contender: Who.
      prepared: Its call.
      first: Seconds of preparing, compiling and the first call.
      growth: Bytes by which the process's peak memory grew in the meantime.
      result: What the first call returned.
      cpu: Process time of each round.
      wall: Time on the clock of each round.
    """

    contender: Contender
    prepared: Prepared
    first: float
    growth: int
    result: Any
    cpu: list[float] = dataclasses.field(default_factory=list)
    wall: list[float] = dataclasses.field(default_factory=list)


def start(contender: Contender, inputs: Any) -> Runner:
    """Prepares a contender and runs it once."""
    before, clock = _peak(), time.perf_counter()
    prepared = contender.prepare(inputs)
    result = prepared.call()
    first = time.perf_counter() - clock
    return Runner(contender, prepared, first, _peak() - before, result)


def interleave(runners: list[Runner], rounds: int, budget: float) -> None:
    """Times all of them, round by round, in a rotating order.

    Args:
      runners: Their times are appended to.
      rounds: The most rounds.
      budget: Seconds; whoever has used them up sits out the later rounds.
    """
    repeats = {id(runner): _repeats(runner) for runner in runners}
    for number in range(rounds):
        shift = number % max(len(runners), 1)
        for runner in runners[shift:] + runners[:shift]:
            count = repeats[id(runner)]
            if sum(runner.wall) * count <= budget:
                time.sleep(PAUSE)
                if count > 1:
                    runner.prepared.call()
                wall, cpu = _time(runner, count)
                runner.wall.append(wall)
                runner.cpu.append(cpu)


def summary(runner: Runner) -> dict[str, Any]:
    """What is reported of one contender."""
    spread = np.quantile(runner.cpu, [0.25, 0.75]) if runner.cpu else [None, None]
    wall = float(np.median(runner.wall)) if runner.wall else None
    return {
        "settings": runner.contender.settings,
        "contexts": runner.contender.contexts,
        "cpu": float(np.median(runner.cpu)) if runner.cpu else None,
        "cpu_quartiles": list(spread),
        "wall": wall,
        "rounds": len(runner.wall),
        "compile": None if wall is None else max(runner.first - wall, 0.0),
        "scratch_bytes": runner.prepared.memory,
        "growth_bytes": runner.growth,
        **runner.prepared.report(runner.result),
    }


def _repeats(runner: Runner) -> int:
    """From a second call: the first one is not steady."""
    wall, _ = _time(runner, 1)
    if wall > ROUND:
        return 1
    wall, _ = _time(runner, max(1, round(ROUND / 10 / max(wall, 1e-6))))
    return max(1, round(ROUND / max(wall, 1e-6)))


def _time(runner: Runner, count: int) -> tuple[float, float]:
    call = runner.prepared.call
    clock, busy = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    wall, cpu = time.perf_counter() - clock, time.process_time() - busy
    return wall / count, cpu / count


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
