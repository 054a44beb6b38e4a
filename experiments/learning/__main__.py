"""Train a leader's policy in four ways: implicit gradients, unrolled ones, evolution, PPO.

Measures the leader's value on held-out contexts against seconds of training (compilation apart)
and against samples, which are (context, action) pairs for which the follower was solved; and
compares three ways to learn a follower from its play.

    python -m experiments.learning                # ten seeds, about six minutes on two cores
    python -m experiments.learning --quick        # two seeds, two minutes: does it work?
    python -m experiments.learning --draw         # the figure alone, from the kept result

Prints tables and writes results.json and learning.png. A run that is stopped goes on where it
stopped.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import stackjax as sj
from experiments.common.args import check_out, check_result, parse
from experiments.common.command import launch
from experiments.common.compile import unoptimised
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS, Kept, Phases, usual_seconds
from experiments.common.results import environment, plain, run_of, write_json
from experiments.learning import evolution as _evolution
from experiments.learning import gail as _gail
from experiments.learning import ppo as _ppo
from experiments.learning import unrolled as _unrolled
from experiments.learning.figure import figure
from experiments.learning.problems import PROBLEMS, Problem, resource, snapshot_steps
from experiments.learning.report import Curves, summarise, table, targets

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Implicit:
    """Settings of `stackjax.fit_leader`; `batch` samples a step.

    Attributes:
      steps: of Adam.
      batch: contexts a step.
      learning_rate: Adam's; falls to 0 by a cosine.
    """

    steps: int = 400
    batch: int = 64
    learning_rate: float = 0.01

    @property
    def samples(self) -> int:
        """Samples a step."""
        return self.batch


# Chosen with seeds from 1000 on, which the experiment does not use.
# The longer a run of PPO the higher it ends, and the later: it was given what it took to end within
# 0.2% of the gain of the best that was seen of it.
SETTINGS: dict[str, dict[str, Any]] = {
    "toll road": {
        "implicit": Implicit(steps=1000, batch=32, learning_rate=0.02),
        "unrolled": _unrolled.Settings(steps=1000, batch=32, learning_rate=0.02, rate=0.3),
        "ES": _evolution.Settings(generations=600, learning_rate=0.01, sigma=0.03),
        "PPO": _ppo.Settings(environments=1024),
    },
    "quadratic": {
        "implicit": Implicit(steps=1000, batch=16, learning_rate=0.03),
        "unrolled": _unrolled.Settings(steps=1000, batch=16, learning_rate=0.03, rate=0.3),
        "ES": _evolution.Settings(generations=1000, learning_rate=0.01, sigma=0.03),
        "PPO": _ppo.Settings(environments=1024, learning_rate=1e-2),
    },
    "resource game": {
        "implicit": Implicit(steps=1000, batch=32, learning_rate=0.03),
        "unrolled": _unrolled.Settings(steps=1000, batch=32, learning_rate=0.03, rate=0.1),
        "ES": _evolution.Settings(),
        "PPO": _ppo.Settings(updates=800, environments=256, learning_rate=0.02, log_std=0.0),
    },
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Trains leaders by implicit gradients and by what else is used, and compares.

    Attributes:
      quick: Two seeds, two problems, short runs, a rough surrogate; the numbers mean little.
      seeds: Seeds of each method on each problem.
      out: Folder of results.json and learning.png.
      draw: Only draw the figure of a result again, beside it; nothing is run.
      result: Result that draw reads; by default the kept one.
    """

    quick: bool = False
    seeds: int = 10
    out: Path = Path("results/learning")
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2, got {self.seeds}")
        check_result(self.draw, self.result)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the whole job; returns what results.json holds."""
    args = parse(Args, argv)
    if args.draw:
        return redraw(args.result or KEPT_RESULTS / "learning.json", figure)
    check_out("out", args.out, folder=True)
    seeds = min(args.seeds, 2) if args.quick else args.seeds
    problems = {n: p for n, p in PROBLEMS.items() if not (args.quick and n == "quadratic")}
    kept = Kept(args.out / ".unfinished", run_of(args))
    phases = Phases(len(problems) * 5 + 1, usual=usual_seconds("learning.json"), kept=kept)
    results, curves, settings = {}, {}, {}
    for name, make in problems.items():
        with phases(f"{name}: set up"):
            if args.quick and make is resource:
                make = partial(resource, surrogate_steps=100, starts=4)
            problem = make()
            simple = problem.middle, problem.constant
        settings[name] = {m: shortened(s, args.quick) for m, s in SETTINGS[name].items()}
        for method, chosen in settings[name].items():
            curves[name, method] = phases.job(
                f"{name}: {method}",
                partial(measure, problem, method, chosen, seeds, rough=args.quick),
            )
        found = {method: curves[name, method] for method in settings[name]}
        results[name] = summarise(problem, *simple, found)
    followers = phases.job("followers from play", lambda: _gail.compare(quick=args.quick))
    report = {
        "args": args,
        "environment": environment(),
        "settings": settings,
        "seeds": list(range(seeds)),
        "problems": results,
        "targets": targets(results),
        "followers": followers,
        "curves": {f"{name}, {method}": found for (name, method), found in curves.items()},
        "seconds": {**phases.seconds, "total": sum(phases.seconds.values())},
    }
    write_json(args.out / "results.json", report)
    figure(args.out / "learning.png", plain(report))
    phases.finish()
    print(table(results), *report["targets"], _gail.table(followers), sep="\n\n")
    print(f"\nwrote {args.out / 'results.json'} and {args.out / 'learning.png'}")
    return report


def shortened(settings: Any, quick: bool) -> Any:
    """The same settings, with a fifth of the steps if `quick`."""
    if not quick:
        return settings
    name = step_name(settings)
    return dataclasses.replace(settings, **{name: getattr(settings, name) // 5})


def step_name(settings: Any) -> str:
    """What the settings call their steps."""
    return next(n for n in ("steps", "generations", "updates") if hasattr(settings, n))


def measure(
    problem: Problem, method: str, settings: Any, seeds: int, *, first: int = 0, rough: bool = False
) -> Curves:
    """Compiles once, runs once to warm up, then times each seed; evaluates afterwards.

    Args:
      problem: the game.
      method: a key of `PREPARE`.
      settings: of the method.
      seeds: how many.
      first: the first of them.
      rough: compile fast, for a run whose times do not matter.
    """
    times = snapshot_steps(getattr(settings, step_name(settings)))
    starts = [start(problem, settings, first + seed) for seed in range(seeds)]
    begin = time.perf_counter()
    function, snapshots_of = PREPARE[method](problem, settings, times, starts[0])
    lowered = jax.jit(function).lower(*starts[0])
    run = unoptimised(lowered) if rough else lowered.compile()
    compile_seconds = time.perf_counter() - begin
    jax.block_until_ready(run(*starts[0]))
    seconds, values = [], []
    for start_ in starts:
        begin = time.perf_counter()
        out = jax.block_until_ready(run(*start_))
        seconds.append(time.perf_counter() - begin)
        values.append(problem.evaluate(snapshots_of(start_, out)))
    return Curves(times, np.stack(values), np.array(seconds), settings.samples, compile_seconds)


def start(problem: Problem, settings: Any, seed: int) -> tuple[PyTree, jax.Array]:
    """What a run of a seed begins with: a policy, the same for all methods, and a key."""
    policy, rngs = problem.policy(nnx.Rngs(seed)), nnx.Rngs(seed + 10_000)
    if isinstance(settings, _ppo.Settings):
        policy = _ppo.new_agent(problem, policy, settings, rngs)
    return policy, jax.random.key(seed)


# What to time, `(policy, key) -> out`, and the policies `[S, ...]` of one start and its `out`.
Prepared = tuple[Callable, Callable[[tuple, PyTree], PyTree]]


def prepare_implicit(
    problem: Problem, settings: Implicit, times: np.ndarray, example: tuple
) -> Prepared:
    """`stackjax.fit_leader`; its snapshots are of a second run, which is not timed."""
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    seen: dict[int, list[np.ndarray]] = {}

    def keep(step: np.ndarray, *arrays: np.ndarray) -> None:
        seen[int(step)] = [np.asarray(x) for x in arrays]

    def fit(optimizer: optax.GradientTransformation, policy: PyTree, key: jax.Array) -> PyTree:
        return sj.fit_leader(
            policy, problem.game, problem.contexts, response=problem.response, key=key,
            steps=settings.steps, batch_size=settings.batch, optimizer=optimizer,
        )[0]  # fmt: skip

    adam = optax.adam(schedule)

    @cache
    def watched() -> Any:
        return unoptimised(jax.jit(partial(fit, reporting(adam, times, keep))).lower(*example))

    def snapshots_of(start_: tuple, out: PyTree) -> PyTree:
        seen.clear()
        jax.block_until_ready(watched()(*start_))
        jax.effects_barrier()
        # The last one is of the run that was timed.
        seen[int(times[-1])] = jax.tree.leaves(out)
        stacked = [jnp.stack(parts) for parts in zip(*(seen[int(step)] for step in times))]
        return jax.tree.unflatten(jax.tree.structure(out), stacked)

    return partial(fit, adam), snapshots_of


def reporting(
    optimizer: optax.GradientTransformation, times: np.ndarray, keep: Callable[..., None]
) -> optax.GradientTransformation:
    """The same optimiser, which calls `keep(step, *parameters)` before the steps in `times`."""

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        step, inner = state
        report = lambda: jax.debug.callback(keep, step, *jax.tree.leaves(params))
        jax.lax.cond(jnp.isin(step, jnp.asarray(times)), report, lambda: None)
        updates, inner = optimizer.update(updates, inner, params)
        return updates, (step + 1, inner)

    return optax.GradientTransformation(
        lambda params: (jnp.zeros((), jnp.int32), optimizer.init(params)), update
    )


def prepare_scan(module: Any) -> Callable[..., Prepared]:
    """A trainer that keeps its snapshots itself."""

    def prepare(problem: Problem, settings: Any, times: np.ndarray, example: tuple) -> Prepared:
        if module is _ppo:
            environment = _ppo.stage_game(problem)
            train = _ppo.make_train(environment, problem.logits, settings, times)
        else:
            train = module.make_train(problem, settings, times)
        return train, lambda start_, out: out[0]

    return prepare


PREPARE: dict[str, Callable[..., Prepared]] = {
    "implicit": prepare_implicit,
    "unrolled": prepare_scan(_unrolled),
    "ES": prepare_scan(_evolution),
    "PPO": prepare_scan(_ppo),
}


if __name__ == "__main__":
    launch(main)
