"""Tests in order, guards, falsifiers and prices of the parts, from turns under all arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from experiments.confirmatory.tests import LEVEL, clustered_t, difference, non_inferiority
from experiments.pool.arms import (
    CAP,
    CONSERVATIVE,
    CONSTANT,
    DIRECT,
    GRID,
    LOADS,
    MAIN,
    PLANNER,
    POOLS,
    RULE,
    Policies,
    needed_cells,
)
from experiments.pool.choose import COST
from experiments.pool.power import clustered_variance, turns_needed
from experiments.pool.replay import Played, replay
from experiments.pool.table import Table
from experiments.pool.tuning import Tuning
from stackjax.agents.tasks._research import RESEARCH_TYPES
from stackjax.stats._bootstrap import clustered_ratio

MARGIN, TYPE_LOSS, SAVED, PLANNER_LEAD, ON_BOUND = 0.02, 0.10, 0.70, 0.03, 0.20
FALSIFIED_BELOW = 0.01
H3_LOAD, GUARD_LOAD = 8, 2
Plays = Mapping[str, Mapping[int, Played]]


def play_all(table: Table, policies: Policies) -> dict[str, dict[int, Played]]:
    """Every arm at every load within its pool."""
    plays: dict[str, dict[int, Played]] = {}
    for load in LOADS:
        for name, cells in policies.choose(table, load).items():
            pool = POOLS[load] * policies.base_tokens
            plays.setdefault(name, {})[load] = replay(table, cells, pool)
    return plays


def analyse(
    table: Table, policies: Policies, *, seed: int, tuning: Tuning | None = None
) -> dict[str, Any]:
    """Everything about one model.

    Args:
      table: evaluated turns, in the order of the run.
      policies: frozen before.
      seed: of the bootstrap.
      tuning: to compare its estimates with what came out.
    """
    plays = play_all(table, policies)
    main = right_of(plays[MAIN])
    tests: dict[str, Any] = {
        "H1": compare(main - right_of(plays[DIRECT]), table.session, seed=seed),
        "H2": compare(main - right_of(plays[CONSTANT]), table.session, seed=seed),
        "H3": savings(table, plays, seed=seed),
    }
    tests["met"] = in_order([tests[name]["met"] for name in ("H1", "H2", "H3")])
    guards = by_type(table, plays[MAIN][GUARD_LOAD], plays[CONSERVATIVE][GUARD_LOAD])
    return {
        "turns": len(table),
        "sessions": len(np.unique(table.session)),
        "base_tokens": policies.base_tokens,
        "cells_a_turn": float(np.mean([len(row) for row in needed_cells(policies, table)])),
        "arms": {name: describe(table, arm, policies) for name, arm in plays.items()},
        "estimates": {} if tuning is None else off_policy(table, tuning, policies, plays),
        "tests": tests,
        "guards": {"by_type": guards, "kept": min(guards.values()) >= -TYPE_LOSS},
        "prices": prices(table, plays, seed=seed),
        "falsifiers": falsifiers(table, policies, plays),
        "rule": against_rule(table, policies, plays, seed=seed),
    }


def right_of(arm: Mapping[int, Played]) -> np.ndarray:
    """`[T]`: right answers within the pool, the mean over loads."""
    return np.mean([arm[load].correct for load in LOADS], axis=0)


def compare(values: np.ndarray, session: np.ndarray, *, seed: int) -> dict[str, Any]:
    """A paired difference: one-sided test of at most 0, its bounds, intervals, and the power."""
    found = difference(values, session)
    one_sided = non_inferiority(values, session, 0.0)
    names, number = np.unique(session, return_inverse=True)
    total = lambda x: np.bincount(number, x, len(names))
    variance = clustered_variance(values, number)
    _, error, freedom = clustered_t(values, session)
    return {
        **found,
        "p_one_sided": one_sided["p"],
        "low_95": one_sided["low_95"],
        "high_95": found["estimate"] + float(stats.t.ppf(1 - LEVEL, freedom)) * error,
        "bootstrap": clustered_ratio(total(values), total(np.ones(len(values))), seed=seed),
        "turns_for_3_points": turns_needed(variance, 0.03),
        "turns_for_estimate": turns_needed(variance, max(abs(found["estimate"]), 1e-3)),
        "met": one_sided["p"] < LEVEL,
    }


def savings(table: Table, plays: Plays, *, seed: int) -> dict[str, Any]:
    """H3: tokens against 70% of Conservative's at load 8, correctness at the margin, task types.

    Conservative is played without a pool: the tokens are compared with what it would use.
    """
    main, base = plays[MAIN][H3_LOAD], plays[CONSERVATIVE][H3_LOAD]
    excess = main.tokens - SAVED * base.free_tokens
    cheaper = non_inferiority(-excess, table.session, 0.0)
    right = main.correct - base.free_correct
    quality = non_inferiority(right, table.session, MARGIN)
    names, number = np.unique(table.session, return_inverse=True)
    total = lambda x: np.bincount(number, x, len(names))
    types = by_type(table, main, base)
    kept = min(types.values()) >= -TYPE_LOSS
    return {
        "tokens": clustered_ratio(total(main.tokens), total(base.free_tokens), seed=seed),
        "p_tokens": cheaper["p"],
        "right": difference(right, table.session),
        "p_right": quality["p"],
        "low_right": quality["low_95"],
        "by_type": types,
        "met": cheaper["p"] < LEVEL and quality["low_95"] > -MARGIN and kept,
    }


def by_type(table: Table, arm: Played, base: Played) -> dict[str, float]:
    """Right answers by task type, an arm within its pool less a base without one."""
    lost = arm.correct - base.free_correct
    kinds = [(i, name) for i, name in enumerate(RESEARCH_TYPES) if (table.task == i).any()]
    return {name: float(lost[table.task == i].mean()) for i, name in kinds}


def in_order(met: list[bool]) -> list[bool]:
    """Which of the hypotheses are met, each tested only if those before are."""
    return [all(met[: i + 1]) for i in range(len(met))]


def describe(table: Table, arm: Mapping[int, Played], policies: Policies) -> dict[str, Any]:
    """Right answers, tokens in units of `T_bar` and charged turns at each load; by task type."""
    kinds = [(i, name) for i, name in enumerate(RESEARCH_TYPES) if (table.task == i).any()]
    right = right_of(arm)
    return {
        "right": float(right.mean()),
        "by_type": {name: float(right[table.task == i].mean()) for i, name in kinds},
        "loads": {
            load: {
                "right": float(played.correct.mean()),
                "tokens": float(played.tokens.mean() / policies.base_tokens),
                "free_right": float(played.free_correct.mean()),
                "free_tokens": float(played.free_tokens.mean() / policies.base_tokens),
                "charged": float(played.charged.mean()),
            }
            for load, played in arm.items()
        },
    }


def prices(table: Table, plays: Plays, *, seed: int) -> dict[str, Any]:
    """What the parts are worth, in right answers within the pool, the mean over loads."""
    pairs = {
        "information": (PLANNER, DIRECT),
        "pool": (MAIN, CONSTANT),
        "pool, best signal by load": (GRID, CONSTANT),
        "repair": (MAIN, "main, repaired"),
        "repair of direct": (DIRECT, "direct, repaired"),
        "concavity": (PLANNER, "planner, concave"),
        "price against cap": (MAIN, CAP),
        "learning against rule": (MAIN, RULE),
        "any price": (MAIN, "no price"),
        "over conservative": (MAIN, CONSERVATIVE),
    }
    return {
        name: compare(right_of(plays[a]) - right_of(plays[b]), table.session, seed=seed)
        for name, (a, b) in pairs.items()
    }


def falsifiers(table: Table, policies: Policies, plays: Plays) -> dict[str, Any]:
    """The protocol's: each is a statement that is true if the study's idea fails there.

    Where a pool is so large that its shadow price is 0, a subsidy of 1 is no corner of the weights:
    bounds count at the loads whose pool binds on the tuning turns.
    """
    gap = lambda name: compare(right_of(plays[MAIN]) - right_of(plays[name]), table.session, seed=0)
    binding = [load for load in LOADS if policies.prices[RULE][load] > 0]
    bound = np.mean([_on_bound(policies, table, load) for load in binding]) if binding else 0.0
    lead = right_of(plays[PLANNER]).mean() - right_of(plays[MAIN]).mean()
    return {
        "the state tells all": gap(DIRECT)["high_95"] < FALSIFIED_BELOW,
        "a constant price is enough": gap(CONSTANT)["high_95"] < FALSIFIED_BELOW,
        "worse than a cap": gap(CAP)["high_95"] < 0,
        "the planner leads": bool(lead > PLANNER_LEAD),
        "the corner is back": bool(bound > ON_BOUND),
        "planner's lead": float(lead),
        "on a bound": float(bound),
    }


def _on_bound(policies: Policies, table: Table, load: int, near: float = 1e-3) -> float:
    """Share of turns whose subsidy is 0 or 1."""
    alpha = 1 - policies.signal(table, load)[1] / COST
    return float(((alpha < near) | (alpha > 1 - near)).mean())


def against_rule(table: Table, policies: Policies, plays: Plays, *, seed: int) -> dict[str, Any]:
    """Does the learned leader find the closed rule? By load, subsidies and right answers."""
    found: dict[str, Any] = {}
    for load in LOADS:
        floor, price = policies.signal(table, load)
        mu = policies.prices[RULE][load]
        gain = plays[MAIN][load].correct - plays[RULE][load].correct
        found[str(load)] = {
            "rule": max(1 - mu / COST, 0.0),
            "main": float((1 - price / COST).mean()),
            "main_spread": float((price / COST).std()),
            "floor": float(floor.mean()),
            "grid": 1 - policies.by_load[load][1] / COST,
            "shadow_price": mu,
            "multiplier": policies.learned["multipliers"].get(
                load, policies.learned["multipliers"].get(str(load))
            ),
            "gain": difference(gain, table.session),
        }
    return found


def off_policy(
    table: Table, tuning: Tuning, policies: Policies, plays: Plays
) -> dict[str, dict[str, float]]:
    """Estimates from the tuning turns, without a pool, next to what came out; means over loads."""
    found: dict[str, dict[str, float]] = {}
    for load in LOADS:
        for name, cells in policies.choose(tuning.table, load).items():
            right, used = tuning.value(cells)
            row = found.setdefault(name, dict.fromkeys(("right", "tokens"), 0.0))
            row["right"] += right / len(LOADS)
            row["tokens"] += used / policies.base_tokens / len(LOADS)
    for name, row in found.items():
        arm = plays[name].values()
        row["right_truth"] = float(np.mean([played.free_correct.mean() for played in arm]))
        tokens = np.mean([played.free_tokens.mean() for played in arm])
        row["tokens_truth"] = float(tokens / policies.base_tokens)
    return found
