"""What is fitted on one model's tuning turns: predictors, sets, followers, leaders.

Nothing here sees a confirmatory item. Tuning turns are the recorded turns of earlier experiments
and the tuning questions, less every turn whose item's hash is confirmatory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stackjax as sj
from experiments.confirmatory.tuning import MARGIN, Cell, conservative_row, fitting_sample
from experiments.govern import __main__ as govern
from experiments.govern.arms import cell_utilities
from experiments.repair.values import predict_grid
from stackjax.agents.control._controller import Controller, contexts_of
from stackjax.agents.game._networks import Leader, LearnedFollower
from stackjax.agents.game._payoffs import (
    ACTION_LOWER,
    ACTION_UPPER,
    ResourceContext,
    leader_utility,
    resource_game,
)
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._outcomes import outcomes
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.repair._cells import (
    STRATA,
    CellSummary,
    action_sets,
    admissible_cells,
    reference_cell,
    stratum,
    summarise_cells,
)
from stackjax.agents.repair._need_head import NeedHead, fit_need
from stackjax.agents.surrogate._calibration_maps import CalibratedSurrogate, fit_map
from stackjax.agents.surrogate._fit import fit_surrogate
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.agents.tasks._tasks import TASK_TYPES


@dataclasses.dataclass(frozen=True)
class Fitted:
    """All that one model's tuning turns give.

    Attributes:
      surrogate: concave predictors that read the task type, of the game.
      scalar: the same that read it as one number.
      free: predictors without a shape, for sets, baselines and the arms that need no concavity.
      summary: the cells by the free predictors.
      reference: row of Conservative.
      admissible: `[12, K]`, the action sets.
      contexts: the game at the tuning states. scalar_contexts: by the scalar predictors.
      strata: `[N]`, of the tuning states.
      turns: the tuning turns that the predictors were fitted on.
      learned: the follower fitted on the rule-based executor's turns.
      leaders: by name: trained against the rational follower ("rational", and "scalar" on the
        scalar predictors), the learned one ("learned"), or obeyed ("direct").
    """

    surrogate: Surrogate
    scalar: Surrogate
    free: Surrogate
    summary: CellSummary
    reference: int
    admissible: np.ndarray
    contexts: ResourceContext
    scalar_contexts: ResourceContext
    strata: np.ndarray
    turns: Turns
    learned: LearnedFollower
    leaders: dict[str, Callable[[ResourceContext], jax.Array]]

    @property
    def conservative(self) -> Cell:
        return self.cell(self.reference)

    @property
    def actions(self) -> sj.ActionSet:
        """The action sets, `[12, K, 3]`."""
        return action_sets(self.summary, self.admissible, self.reference)

    @property
    def everything(self) -> sj.ActionSet:
        """All cells in every stratum: no repair but rounding to the adapter's levels."""
        cells = jnp.asarray(self.summary.cells, jnp.float32)
        return sj.ActionSet(jnp.tile(cells[None], (STRATA, 1, 1)))

    def cell(self, row: int) -> Cell:
        """A cell of the grid."""
        c, p, u = (float(x) for x in self.summary.cells[row])
        return c, p, u

    def controller(self, name: str, *, repaired: bool) -> Controller:
        """A governed arm: the leader and the follower `name`, with or without repair."""
        return Controller(
            self.scalar if name == "scalar" else self.surrogate,
            self.leaders[name],
            resource_game(self.learned if name == "learned" else None),
            self.actions if repaired else self.everything,
            jnp.asarray(self.conservative, jnp.float32),
        )

    def best_by_type(self, margin: float = MARGIN) -> np.ndarray:
        """`[6]`: for each task type the cheapest cell within `margin` of its best, tuned alike."""
        quality, tokens = self.predicted
        found = []
        for kind in range(len(TASK_TYPES)):
            here = self.strata // 2 == kind
            if not here.any():
                found.append(self.reference)
                continue
            q, t = quality[here].mean(0), tokens[here].mean(0)
            good = np.flatnonzero(q >= q.max() - margin)
            found.append(int(good[np.argmin(t[good])]))
        return np.array(found)

    @property
    def predicted(self) -> tuple[np.ndarray, np.ndarray]:
        """Quality and tokens of every tuning state under every cell, `[N, K]`, by `free`."""
        return predict_grid(self.free, self.turns, self.summary.cells)

    def best_constant(self) -> int:
        """The cell that every stratum admits with the highest mean predicted leader's utility."""
        everywhere = self.admissible[np.unique(self.strata)].all(0)
        utility = cell_utilities(self.contexts, jnp.asarray(self.summary.cells, jnp.float32)).mean(
            0
        )
        return int(np.argmax(np.where(everywhere, np.asarray(utility, float), -np.inf)))

    def best_signal(self) -> tuple[float, float]:
        """The one signal that the leader would give everywhere, out of a grid of 8 by 11."""
        low, high = ACTION_LOWER, ACTION_UPPER
        grid = [(q, a) for q in np.linspace(low[0], high[0], 8) for a in np.linspace(0, 1, 11)]
        rows = np.random.default_rng(0).permutation(len(self.strata))[:256]
        seen = jax.tree.map(lambda leaf: leaf[rows], self.contexts)
        worth = _worth_of_signals(seen, jnp.asarray(grid, jnp.float32))
        q, alpha = grid[int(np.argmax(np.asarray(worth, float)))]
        return float(q), float(alpha)


@jax.jit
def _worth_of_signals(contexts: ResourceContext, signals: jax.Array) -> jax.Array:
    """Mean leader's utility `[S]` of constant signals `[S, 2]`; the rational follower answers."""
    game = resource_game()

    def one(signal: jax.Array, x: ResourceContext) -> jax.Array:
        answer = sj.best_response(game, signal, x, response=jnp.full(3, 0.5)).value
        return leader_utility(signal, answer, x.replace(previous=signal))

    return jax.vmap(lambda s: jnp.mean(jax.vmap(lambda x: one(s, x))(contexts)))(signals)


def obedient() -> sj.Game:
    """A follower that does what it is told: direct control as a game, without incentives."""
    return sj.Game(
        _direct_utility, _obey, action_set=sj.Box(0.0, 1.0), response_set=sj.Box(0.0, 1.0)
    )


def _direct_utility(action: jax.Array, response: jax.Array, context: ResourceContext) -> jax.Array:
    return leader_utility(context.previous, response, context)


def _obey(action: jax.Array, response: jax.Array, context: ResourceContext) -> jax.Array:
    return -jnp.sum((response - action) ** 2)


class Direct(nnx.Module):
    """The leader's network with three outputs: the action (c, p, u) itself."""

    def __init__(self, inputs: int = 14, *, hidden: int = 32, rngs: nnx.Rngs) -> None:
        self.inner = nnx.Linear(inputs + 2, hidden, rngs=rngs)
        self.outer = nnx.Linear(hidden, 3, kernel_init=nnx.initializers.normal(0.1), rngs=rngs)

    def __call__(self, context: ResourceContext) -> jax.Array:
        """The action `[3]` at one context."""
        features = jnp.concatenate([context.features, context.previous])
        return jax.nn.sigmoid(self.outer(jnp.tanh(self.inner(features))))


def fit(
    records: Sequence[TurnRecord], *, seed: int = 0, steps: int = 800, margin: float = 0.05
) -> Fitted:
    """Fit everything on tuning records of one model.

    Args:
      records: tuning turns.
      seed: of the fits.
      steps: optimiser steps of the predictors; followers and leaders take half as many.
      margin: mean predicted quality that a cell of the action set may lie below Conservative's.
    """
    keys = jax.random.split(jax.random.key(seed), 8)
    sample = fitting_sample(records, seed)
    turns = turn_arrays(sample)
    surrogate, _ = fit_surrogate(turns, key=keys[0], steps=steps)
    scalar, _ = fit_surrogate(turns, key=keys[1], steps=steps, size=9)
    free, _ = fit_surrogate(turns, key=keys[2], steps=steps, shape="free", members=4)
    summary = summarise_cells(free, turns)
    reference = conservative_row(records, summary)
    admissible = admissible_cells(summary, reference, margin=margin)
    base = jnp.asarray(summary.cells[reference], jnp.float32)
    uniform = jax.random.uniform(keys[3], (len(sample), 2))
    lower, upper = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])
    previous = lower + (upper - lower) * uniform
    contexts = contexts_of(surrogate, base, turns.state, previous)
    scalar_contexts = contexts_of(scalar, base, turns.state, previous)
    options = govern.Args(follower_steps=steps // 2)
    learned, _ = govern.fit_demonstrations(options, turns, contexts, keys[4])
    leaders: dict[str, Any] = {}
    for name, module, game, seen in (
        ("learned", Leader(rngs=nnx.Rngs(keys[5])), resource_game(learned), contexts),
        ("rational", Leader(rngs=nnx.Rngs(keys[5])), resource_game(), contexts),
        (
            "scalar",
            Leader(9, rngs=nnx.Rngs(keys[5])),
            resource_game(),
            scalar_contexts,
        ),
        ("direct", Direct(rngs=nnx.Rngs(keys[5])), obedient(), contexts),
    ):
        leaders[name], _ = sj.fit_leader(
            module, game, seen, response=jnp.full(3, 0.5), key=keys[6], steps=steps // 2
        )
    return Fitted(
        surrogate,
        scalar,
        free,
        summary,
        reference,
        admissible,
        contexts,
        scalar_contexts,
        np.asarray(stratum(turns.state)),
        turns,
        learned,
        leaders,
    )


def need_head(records: Sequence[TurnRecord], fitted: Fitted, seed: int = 0) -> NeedHead:
    """The need head from the tuning turns whose propensity is known, over the sets' cells."""
    known = {}
    for record in records:
        if record.propensity is not None:  # of a question's several random cells, the first
            cell = record.executed if record.design == "factorial" else None
            known.setdefault((record.episode, record.turn, cell), record)
    return fit_need(outcomes(known.values()), among=fitted.admissible, seed=seed)[0]


def recalibrate(other: Fitted, records: Sequence[TurnRecord], *, turns: int = 60) -> Controller:
    """The other model's controller, its predictions calibrated on a few random turns of this one.

    Tokens by a linear map, quality by a logistic one; the latter moves Conservative and the action
    sets, the former the game too. Nothing is fitted again.
    """
    few = [record for record in records if record.design == "random"][:turns]
    seen = turn_arrays(few)

    def calibrated(surrogate: Surrogate) -> CalibratedSurrogate:
        quality, tokens = jax.jit(jax.vmap(surrogate.predict))(seen.state, seen.executed)
        return CalibratedSurrogate(
            surrogate,
            fit_map("linear", np.asarray(tokens), np.asarray(seen.tokens)),
            fit_map("logistic", np.asarray(quality), np.asarray(seen.correct)),
        )

    summary = summarise_cells(calibrated(other.free), other.turns)  # pyright: ignore[reportArgumentType]
    reference = reference_cell(summary, margin=MARGIN)
    sets = action_sets(summary, admissible_cells(summary, reference), reference)
    return other.controller("rational", repaired=True).replace(
        surrogate=calibrated(other.surrogate).for_game(),
        actions=sets,
        reference=jnp.asarray(summary.cells[reference], jnp.float32),
    )
