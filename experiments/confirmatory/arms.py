"""The arms: governed ones, their ablations and fixed actions."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.confirmatory.fit import Fitted
from experiments.confirmatory.online import LinUCB, Paced
from experiments.confirmatory.tuning import Cell
from experiments.confirmatory.turns import Arm
from experiments.govern.arms import FIRST_ACTION, MIDDLE
from stackjax.agents.control._controller import Controller, context_of
from stackjax.agents.executor._session import Choice, Policy, SessionState
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER, ResourceContext
from stackjax.agents.game._state import State, state_of
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.repair._cells import stratum
from stackjax.agents.repair._need_head import NeedHead
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.agents.tasks._tasks import TASK_TYPES, Turn

CONSERVATIVE, MAIN = "conservative", "task-aware repaired"
DIRECT = "direct control"

_decide = jax.jit(lambda controller, state, previous: controller(state, previous))


class _Offline:
    """An arm that learns nothing as it goes."""

    online = False

    def learn(self, records: Sequence[TurnRecord]) -> None:
        return


@dataclasses.dataclass(frozen=True)
class Fixed(_Offline):
    """An action for each of the 12 strata (or one for all), without a signal."""

    name: str
    cells: tuple[Cell, ...]

    def session(self) -> Policy:
        def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
            cell = self.cells[0]
            if len(self.cells) > 1:
                cell = self.cells[2 * TASK_TYPES.index(turn.task) + (turn.complexity > 0.5)]
            return Choice(cell, None, 1.0, self.name, "policy")

        return policy


@dataclasses.dataclass(frozen=True)
class RandomInside(_Offline):
    """A cell of the stratum's set, drawn uniformly."""

    name: str
    sets: tuple[tuple[Cell, ...], ...]

    def session(self) -> Policy:
        def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
            cells = self.sets[2 * TASK_TYPES.index(turn.task) + (turn.complexity > 0.5)]
            return Choice(rng.choice(cells), None, 1 / len(cells), self.name, "policy")

        return policy


@dataclasses.dataclass(frozen=True)
class Governed(_Offline):
    """A controller; with `scatter`, its leader's signal is drawn uniformly from the box.

    The subsidy is then smoothed and limited in its rate (12) as any other leader's.
    """

    name: str
    controller: Controller
    scatter: bool = False

    def session(self) -> Policy:
        previous = jnp.asarray(FIRST_ACTION, jnp.float32)

        def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
            nonlocal previous
            controller = self.controller
            if self.scatter:
                low, high = ACTION_LOWER, ACTION_UPPER
                signal = [rng.uniform(a, b) for a, b in zip(low, high)]
                controller = controller.replace(leader=Signal(jnp.asarray(signal, jnp.float32)))
            made = _decide(controller, state_of(state.features(turn), turn.task), previous)
            previous = made.action
            q, alpha = (float(x) for x in made.action)
            c, p, u = (float(x) for x in made.response)
            return Choice((c, p, u), (q, alpha), None if self.scatter else 1.0, self.name, "policy")

        return policy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signal:
    """A leader that always gives one signal `[2]`."""

    signal: jax.Array

    def __call__(self, context: ResourceContext) -> jax.Array:
        return self.signal


@dataclasses.dataclass(frozen=True)
class Direct(_Offline):
    """The leader's network with the action itself as its output, projected onto the set."""

    name: str
    policy: Callable[[ResourceContext], jax.Array]
    surrogate: Surrogate
    reference: jax.Array
    actions: sj.ActionSet

    def session(self) -> Policy:
        def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
            seen = state_of(state.features(turn), turn.task)
            cell = _direct(self.policy, self.surrogate, self.reference, self.actions, seen)
            c, p, u = (float(x) for x in cell)
            return Choice((c, p, u), None, 1.0, self.name, "policy")

        return policy


@jax.jit
def _direct(
    policy: Callable[[ResourceContext], jax.Array],
    surrogate: Surrogate,
    reference: jax.Array,
    actions: sj.ActionSet,
    state: State,
) -> jax.Array:
    context = context_of(surrogate, reference, state, jnp.asarray(FIRST_ACTION, jnp.float32))
    allowed = jax.tree.map(lambda leaf: leaf[stratum(state)], actions)
    return sj.project(policy(context), allowed).action


def make_arms(
    fitted: Fitted,
    need: NeedHead,
    other: Fitted | None = None,
    recalibrated: Controller | None = None,
) -> dict[str, Arm]:
    """All arms by name; the first two are the primary comparison.

    Args:
      fitted: of the model that is evaluated.
      need: its need head.
      other: of the other model, whose controller is also played here without any refit.
      recalibrated: the other model's controller on predictions calibrated for this one.
    """
    governed = lambda name, leader, **options: Governed(name, fitted.controller(leader, **options))
    main = fitted.controller("rational", repaired=True)
    sets = tuple(
        tuple(dict.fromkeys((c, p, u) for c, p, u in row))
        for row in np.asarray(fitted.actions.actions).tolist()
    )
    by_type = fitted.best_by_type()
    arms: list[Arm] = [
        Fixed(CONSERVATIVE, (fitted.conservative,)),
        Governed(MAIN, main),
        Fixed("middle", (MIDDLE,)),
        Fixed("best fixed by task type", tuple(fitted.cell(by_type[s // 2]) for s in range(12))),
        RandomInside("random inside the set", sets),
        Fixed("constant inside the set", (fitted.cell(fitted.best_constant()),)),
        Direct(
            DIRECT,
            fitted.leaders["direct"],
            fitted.surrogate,
            jnp.asarray(fitted.conservative, jnp.float32),
            fitted.actions,
        ),
        governed("scalar-state raw", "scalar", repaired=False),
        governed("scalar-state repaired", "scalar", repaired=True),
        governed("task-aware raw", "rational", repaired=False),
        Governed(f"{MAIN}, need head", main.replace(actions=need.restrict(fitted.actions))),
        governed(f"{MAIN}, learned follower", "learned", repaired=True),
        Governed(
            f"{MAIN}, constant signal",
            main.replace(leader=Signal(jnp.asarray(fitted.best_signal(), jnp.float32))),
        ),
        Governed("random leader repaired", main, scatter=True),
        LinUCB("LinUCB", fitted),
        Paced("dual mirror descent", fitted),
    ]
    if other is not None:
        arms.append(
            Governed("other model's controller", other.controller("rational", repaired=True))
        )
    if recalibrated is not None:
        arms.append(Governed("other model's controller, recalibrated", recalibrated))
    return {arm.name: arm for arm in arms}
