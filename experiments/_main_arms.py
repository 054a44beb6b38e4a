"""The arms of `main.py`: governed ones, their ablations, fixed actions and two online learners."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _govern_arms import FIRST_ACTION, MIDDLE
from _main_fit import Cell, Fitted
from _main_turns import Arm

import stackjax as sj
from stackjax.agents.controllers import Controller, context_of
from stackjax.agents.need import NeedHead
from stackjax.agents.payoffs import ACTION_LOWER, ACTION_UPPER, DEFAULT, ResourceContext
from stackjax.agents.predictors import Surrogate
from stackjax.agents.repair import stratum
from stackjax.agents.session import Choice, Policy, SessionState
from stackjax.agents.state import State, encode_task, state_of
from stackjax.agents.tasks import TASK_TYPES, Turn
from stackjax.agents.turn_log import TurnRecord

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
    """A controller; with `scatter`, its leader's signal is drawn uniformly from the box."""

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
            return Choice((c, p, u), (q, alpha), 1.0, self.name, "policy")

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


class LinUCB:
    """LinUCB with one ridge regression for each cell (Li et al. 2010, algorithm 1).

    Reads the task-aware encoding and a constant. The reward is the leader's utility of what
    happened: savings against Conservative's usual tokens, less `w_D tau_Q` for a wrong answer.
    Begins with the tuning turns and learns on, session by session.

    Args:
      name: of the arm.
      fitted: the model's tuning turns and Conservative.
      width: of the confidence bound, `alpha` in the paper.
    """

    online = True

    def __init__(self, name: str, fitted: Fitted, *, width: float = 0.2) -> None:
        self.name, self._width = name, width
        self._cells = fitted.summary.cells
        self._usual = float(fitted.summary.tokens[fitted.reference])
        self._loss = DEFAULT.degradation * float(fitted.summary.quality[fitted.reference])
        size = encode_task(jax.tree.map(lambda leaf: leaf[0], fitted.turns.state)).shape[0] + 1
        self._gram = np.tile(np.eye(size), (len(self._cells), 1, 1))
        self._sum = np.zeros((len(self._cells), size))
        features = np.asarray(jax.vmap(encode_task)(fitted.turns.state), float)
        executed = np.asarray(fitted.turns.executed, float)
        tokens, correct = np.asarray(fitted.turns.tokens), np.asarray(fitted.turns.correct)
        for row in range(len(features)):
            self._add(features[row], executed[row], float(tokens[row]), float(correct[row]))

    def _add(self, features: np.ndarray, cell: np.ndarray, tokens: float, correct: float) -> None:
        x = np.append(features, 1.0)
        k = int(np.abs(self._cells - cell).sum(1).argmin())
        saved = np.clip(1.0 - tokens / self._usual, -DEFAULT.kappa, 1.0)
        self._gram[k] += np.outer(x, x)
        self._sum[k] += x * (DEFAULT.savings * saved - self._loss * (1.0 - correct))

    def session(self) -> Policy:
        def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
            seen = state_of(state.features(turn), turn.task)
            x = np.append(np.asarray(encode_task(seen), float), 1.0)
            inverse = np.linalg.solve(self._gram, np.tile(x[:, None], (len(self._cells), 1, 1)))
            mean = np.einsum("kij,ki->k", inverse, self._sum)
            bound = mean + self._width * np.sqrt(np.einsum("i,kij->k", x, inverse))
            c, p, u = (float(v) for v in self._cells[int(np.argmax(bound))])
            return Choice((c, p, u), None, 1.0, self.name, "policy")

        return policy

    def learn(self, records: Sequence[TurnRecord]) -> None:
        for record in records:
            features = np.asarray(encode_task(state_of(record.state, record.task)), float)
            tokens = record.prompt_tokens + record.completion_tokens
            self._add(features, np.array(record.executed), float(tokens), float(record.correct))


class Paced:
    """Budget-paced dual mirror descent (Balseiro, Lu and Mirrokni 2023) on fitted predictions.

    Plays the cell with the highest predicted quality less `mu` times its predicted tokens, in units
    of Conservative's usual ones; after a session `mu` moves by `mu exp(eta (spent - share))` a
    turn, the mirror step of the negative entropy.

    Args:
      name: of the arm.
      fitted: the model's predictors and Conservative.
      share: tokens a turn that may be spent, in units of Conservative's usual ones.
      price: `mu` at the start.
      rate: `eta`.
    """

    online = True

    def __init__(
        self,
        name: str,
        fitted: Fitted,
        *,
        share: float = 0.7,
        price: float = 0.1,
        rate: float = 0.1,
    ) -> None:
        self.name, self._fitted = name, fitted
        self._share, self._price, self._rate = share, price, rate
        self._usual = float(fitted.summary.tokens[fitted.reference])
        cells = jnp.asarray(fitted.summary.cells, jnp.float32)
        over = jax.vmap(fitted.free.predict, in_axes=(None, 0))
        self._predict = jax.jit(lambda state: over(state, cells))

    def session(self) -> Policy:
        def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
            quality, tokens = self._predict(state_of(state.features(turn), turn.task))
            worth = np.asarray(quality) - self._price * np.asarray(tokens) / self._usual
            c, p, u = self._fitted.cell(int(np.argmax(worth)))
            return Choice((c, p, u), None, 1.0, self.name, "policy")

        return policy

    def learn(self, records: Sequence[TurnRecord]) -> None:
        for record in records:
            spent = (record.prompt_tokens + record.completion_tokens) / self._usual
            self._price *= float(np.exp(self._rate * (spent - self._share)))


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
