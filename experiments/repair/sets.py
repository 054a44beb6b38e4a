"""Sets of `experiments.repair`: choice, confirmation, need head, price of projection, audit."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.govern.arms import FULL, MIDDLE
from experiments.repair.fit import Played, Studied, play, rows_of
from stackjax.agents.control._controller import Controller, contexts_of
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.log._cell_scores import cell_scores
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._turns import turn_arrays
from stackjax.agents.repair._audit import audit
from stackjax.agents.repair._candidates import (
    nested_boxes,
    predicted_quality,
    single_cells,
    support_ellipsoids,
)
from stackjax.agents.repair._cells import stratum, summarise_cells
from stackjax.agents.repair._choice import Requirements
from stackjax.agents.repair._need_head import fit_need, tool_misses
from stackjax.agents.repair._selection import confirm_action_set, select_action_set, strata
from stackjax.agents.tasks._tasks import TASK_TYPES


def action_set(
    studied: Studied, requirements: Requirements, seed: int
) -> tuple[Studied, dict[str, Any]]:
    """Choose the set on the choosing turns, confirm it on the held-out ones."""
    choosing, held_out = studied.log(studied.choosing), studied.log(studied.held_out)
    summary = summarise_cells(studied.fitted.surrogate, turn_arrays(studied.fitting))
    baseline = choosing.row(studied.reference)
    if not np.allclose(summary.cells, choosing.cells):
        raise ValueError("data: the fitting turns and the factorial ones have other cells")
    intended = np.array([record.intended for record in studied.fitting], float)
    candidates = [
        *nested_boxes(choosing.cells),
        *single_cells(choosing.cells),
        *support_ellipsoids(choosing.cells, intended),
        *predicted_quality(summary, baseline),
    ]
    options: dict[str, Any] = {
        "baseline": studied.reference,
        "requirements": requirements,
        "candidates": candidates,
        "seed": seed,
    }
    choice = select_action_set(choosing, **options)
    apart = select_action_set(choosing, **options, by_task=True)
    half = dataclasses.replace(requirements, margin=requirements.margin / 2)
    stricter = select_action_set(choosing, **{**options, "requirements": half})
    studied = dataclasses.replace(studied, choice=choice)
    judged = sorted(choice.judged, key=lambda one: (not one.passes, one.tokens_high))
    return studied, {
        "requirements": requirements,
        "baseline": studied.reference,
        "candidates": len(candidates),
        "passing": sum(one.passes for one in choice.judged),
        "chosen_on": {"turns": choice.turns, "episodes": choice.episodes},
        "reasons": dict(zip(TASK_TYPES, choice.reasons)),
        "fallen_back": choice.fallen_back,
        "members": choice.members,
        "cells": choice.cells,
        "best": [_short(one) for one in judged[:10]],
        "at_half_the_margin": {
            "passing": sum(one.passes for one in stricter.judged),
            "reasons": dict(zip(TASK_TYPES, stricter.reasons)),
        },
        "by_task": {"reasons": dict(zip(TASK_TYPES, apart.reasons))},
        "confirmation": confirm_action_set(choice, held_out, seed=seed),
    }


def need(studied: Studied, level: float, cap: float, seed: int) -> tuple[Studied, dict[str, Any]]:
    """Fit the need head on the choosing turns; count low-tool misses on the held-out ones."""
    head, report = fit_need(studied.log(studied.choosing), level=level, cap=cap, seed=seed)
    studied = dataclasses.replace(studied, head=head)
    plays = {name: play(made, studied.table) for name, made in studied.controllers().items()}
    studied = dataclasses.replace(studied, plays=plays)
    held_out = studied.log(studied.held_out)
    scores = cell_scores(held_out)
    arms = {name: one.along(scores, held_out, studied.table) for name, one in plays.items()}
    fixed = {"Conservative": studied.reference, "Middle": MIDDLE, "No tools": (1.0, 0.5, 0.0)}
    for name, cell in fixed.items():
        cells = np.tile(np.asarray(cell), (len(scores), 1))
        rows = rows_of(cells, studied.table)
        arms[name] = rows
        least = np.asarray(head.least)[strata(scores)]
        cells[:, 2] = np.maximum(cells[:, 2], least)
        arms[f"{name}, need"] = rows_of(cells, studied.table)
    return studied, {
        "level": level,
        "cap": cap,
        "report": report,
        "arms": {name: tool_misses(scores, rows, seed=seed) for name, rows in arms.items()},
    }


def prices(studied: Studied) -> dict[str, Any]:
    """What repair costs the leader in its own utility, by set; both kinds of projection."""
    return {
        name: _price_of(studied, controller, studied.plays[f"{name} follower, raw"])
        for name, controller in studied.fitted.controllers.items()
    }


def _price_of(studied: Studied, controller: Controller, raw: Played) -> dict[str, Any]:
    game, half = controller.game, jnp.full(3, 0.5)
    contexts = contexts_of(
        controller.surrogate, controller.reference, raw.states, jnp.asarray(raw.previous)
    )
    signal, answer = raw.decisions.action, raw.decisions.answer
    scale = sj.repair.sensitivity_scale(
        lambda r, a, x: game.leader_utility(a, r, x), answer, signal, contexts
    )
    cells = studied.chosen.sets.actions[stratum_of(raw)]
    sets = {
        "box": lambda k: sj.Box(jnp.min(k, axis=0), jnp.max(k, axis=0)),
        "cells": sj.ActionSet,
        "cells, by sensitivity": lambda k: sj.ActionSet(k, scale=scale),
        "convex hull": sj.sets.ConvexHull,
    }
    pay = lambda a, r, p, x: sj.repair.price_of_response_projection(game, a, r, p, x)
    found: dict[str, Any] = {"executed action": {}}
    for kind, make in sets.items():
        onto = lambda r, k, make=make: sj.project(r, make(k))
        where = jax.jit(jax.vmap(onto))(answer, cells)
        paid = jax.jit(jax.vmap(pay))(signal, answer, where.action, contexts)
        found["executed action"][kind] = {
            "distance": np.mean(where.distance),
            "converged": np.mean(where.converged),
            "before": np.mean(paid.leader_before),
            "after": np.mean(paid.leader_after),
            "price": np.mean(paid.leader),
        }
    tried = np.array([r.signal for r in studied.fitting if r.signal is not None], np.float32)
    recorded = sj.ActionSet(jnp.asarray(tried))
    played = jax.vmap(lambda a: sj.project(a, recorded))(signal)
    answered = lambda a, p, x: sj.repair.price_of_projection(game, a, p, x, response=half)
    paid = jax.jit(jax.vmap(answered))(signal, played.action, contexts)
    found["signal, to a recorded one"] = {
        "distance": np.mean(played.distance),
        "converged": np.mean(paid.converged),
        "before": np.mean(paid.leader_before),
        "held": np.mean(paid.leader_held),
        "after": np.mean(paid.leader_after),
        "price": np.mean(paid.leader),
    }
    return found


def stratum_of(played: Played) -> jax.Array:
    """`[T]`, the strata of the turns played."""
    return jax.vmap(stratum)(played.states)


def audits(studied: Studied, seed: int) -> dict[str, Any]:
    """How often what is asked for lies outside of the chosen sets; tokens and correctness."""
    sets = studied.chosen.sets
    found = {}
    first = next(iter(studied.plays.values()))
    for name, played in studied.plays.items():
        asked = played.decisions.answer if "raw" in name else played.decisions.response
        found[name] = _audited(studied, played, asked, seed)
    executor = HeuristicExecutor(noise=0.0)
    features = [record.state for record in _in_order(studied, first)]
    signals = np.asarray(first.decisions.action, float)
    answers = [executor.mean((q, alpha), seen) for (q, alpha), seen in zip(signals, features)]
    rules = audit(jnp.asarray(answers), first.states, sets, first.episode, seed=seed)
    found["rule-based executor, raw"] = {"audit": rules}
    for name, cell in {"Conservative": studied.reference, "Middle": MIDDLE, "Full": FULL}.items():
        fixed = jnp.tile(jnp.asarray(cell), (len(first.episode), 1))
        found[name] = {"audit": audit(fixed, first.states, sets, first.episode, seed=seed)}
    return found


def _audited(studied: Studied, played: Played, asked: jax.Array, seed: int) -> dict[str, Any]:
    present = studied.table.present.T
    return {
        "audit": audit(asked, played.states, studied.chosen.sets, played.episode, seed=seed),
        "tokens": played.replay.tokens.T[present].mean(),
        "correct": played.replay.correct.T[present].mean(),
    }


def _in_order(studied: Studied, played: Played) -> list[TurnRecord]:
    """A record of each turn played, in the same order."""
    known = {(record.episode, record.turn): record for record in studied.held_out}
    names = (studied.table.episodes[e] for e in played.episode)
    return [known[name, int(turn)] for name, turn in zip(names, played.turn)]


def _short(one: Any) -> dict[str, Any]:
    return {
        "candidate": one.candidate.name,
        "kind": one.candidate.kind,
        **{f.name: getattr(one, f.name) for f in dataclasses.fields(one) if f.name != "candidate"},
    }
