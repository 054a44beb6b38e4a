"""The recorded turns' side of `certificate.py`: a controller, a class of policies, evidence."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stackjax as sj
from stackjax.agents.control._controller import Controller, contexts_of
from stackjax.agents.evaluation._policies import (
    PolicyOfStates,
    constant_cell,
    constant_signal,
    deployed_controller,
    governed,
)
from stackjax.agents.evaluation._real_turns import executed_turns, logged_turns
from stackjax.agents.evaluation._replay import factorial
from stackjax.agents.game._networks import Leader
from stackjax.agents.game._payoffs import (
    ACTION_LOWER,
    ACTION_UPPER,
    ResourceContext,
    Weights,
    resource_game,
)
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.repair._cells import (
    action_sets,
    admissible_cells,
    reference_cell,
    summarise_cells,
)
from stackjax.agents.surrogate._fit import fit_surrogate
from stackjax.certificates import Deployed, RealTurns, discrepancies
from stackjax.stats._mean import METHODS

DEPLOYED, BASELINE = "deployed", "Conservative"

_SIGNALS = tuple(itertools.product((ACTION_LOWER[0], ACTION_UPPER[0]), (0.0, 1.0)))
_CELLS = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (1.0, 0.5, 0.0))
_DRAWN = 27  # cells from which the design 'random' draws (`experiments.collect`)
_FRUGAL = Weights(savings=2.0)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What the fitting turns of one model give, and what is held out of them.

    Attributes:
      controller: the deployed controller, against the rational follower.
      frugal: another leader, trained with twice the weight of savings.
      contexts: of the fitting turns.
      states: of the fitting turns.
      held: random turns that no fit saw.
      propensity: of the held turns.
    """

    controller: Controller
    frugal: Any
    contexts: ResourceContext
    turns: Turns
    held: Turns | None
    propensity: np.ndarray


def fit(
    records: Sequence[TurnRecord], *, seed: int, surrogate_steps: int, leader_steps: int
) -> Fitted:
    """Fits on the heuristic turns and every second random episode of one model."""
    random = sorted({r.episode for r in records if r.design == "random"})
    held_names = set(random[1::2])
    seen = [
        r for r in records if r.design in ("random", "heuristic") and r.episode not in held_names
    ]
    held = [r for r in records if r.episode in held_names and r.propensity is not None]
    turns = turn_arrays(seen)
    keys = jax.random.split(jax.random.key(seed), 4)
    surrogate, _ = fit_surrogate(turns, key=keys[0], steps=surrogate_steps)
    summary = summarise_cells(surrogate, turns)
    reference = reference_cell(summary)
    actions = action_sets(summary, admissible_cells(summary, reference), reference)
    cell = jnp.asarray(summary.cells[reference], jnp.float32)
    uniform = jax.random.uniform(keys[1], (len(seen), 2))
    low, high = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])
    contexts = contexts_of(surrogate, cell, turns.state, low + (high - low) * uniform)

    few = jax.tree.map(lambda leaf: leaf[:: max(len(seen) // 128, 1)], contexts)

    def train(game: sj.Game, key: jax.Array) -> Any:
        leader, _ = sj.fit_leader(
            Leader(rngs=nnx.Rngs(key)), game, few, response=jnp.full(3, 0.5), key=key,
            steps=leader_steps,
        )  # fmt: skip
        return leader

    return Fitted(
        controller=Controller(
            surrogate, train(resource_game(), keys[2]), resource_game(), actions, cell
        ),
        frugal=train(resource_game(weights=_FRUGAL), keys[3]),
        contexts=contexts,
        turns=turns,
        held=turn_arrays(held) if held else None,
        propensity=np.asarray([r.propensity for r in held], float),
    )


def policy_class(fitted: Fitted) -> dict[str, PolicyOfStates]:
    """The finite class: the deployed policy, other leaders, constant signals, constant cells."""
    made = fitted.controller
    reference = tuple(float(x) for x in made.reference)
    signals = {
        f"signal ({q:g}, {alpha:g})": constant_signal(made, (q, alpha)) for q, alpha in _SIGNALS
    }
    cells = {f"cell {cell}": constant_cell(cell) for cell in _CELLS if cell != reference}
    return {
        DEPLOYED: governed(made),
        BASELINE: constant_cell(reference),
        "frugal leader": governed(made.replace(leader=fitted.frugal)),
        **signals,
        **cells,
    }


def evidence(fitted: Fitted, records: Sequence[TurnRecord]) -> dict[str, RealTurns]:
    """Real turns by name: executed (leader's and follower's score) and logged at random."""
    table = factorial(records)
    made = fitted.controller
    roles: dict[str, Any] = {
        "deployed": DEPLOYED,
        "baseline": BASELINE,
        "proposed": governed(made, repaired=False),
    }
    surrogate, reference = made.surrogate, tuple(float(x) for x in made.reference)
    policies = policy_class(fitted)
    answers = {DEPLOYED: policies[DEPLOYED]} | {
        f"answer {cell}": constant_cell(cell, policies[DEPLOYED]) for cell in (*_CELLS, reference)
    }
    found = {
        "executed": executed_turns(policies, table, surrogate, reference, **roles),
        "executed, follower": executed_turns(
            answers, table, surrogate, reference, deployed=DEPLOYED, player="follower"
        ),
    }
    if fitted.held is not None:
        found["logged"] = logged_turns(
            policies, fitted.held, fitted.propensity, surrogate, reference,
            least_propensity=1 / _DRAWN, **roles,
        )  # fmt: skip
    return found


def some_contexts(fitted: Fitted, count: int) -> ResourceContext:
    """`[count]` contexts, spread over the fitting turns."""
    total = len(fitted.turns.tokens)
    rows = np.linspace(0, total - 1, min(count, total)).astype(int)
    return jax.tree.map(lambda leaf: leaf[rows], fitted.contexts)


def deployed_policy(fitted: Fitted) -> Deployed:
    """The controller in its game, with the other leader as an alternative."""
    return deployed_controller(fitted.controller, alternatives={"frugal": fitted.frugal})


def thresholds(turns: RealTurns, *, level: float) -> dict[str, float]:
    """Delta of the whole class at `level` by each interval, given all of `1 - level`."""
    return {
        method: discrepancies(turns, alpha=1 - level, method=method).delta for method in METHODS
    }
