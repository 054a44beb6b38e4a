"""Two arms that learn as they go: LinUCB and budget-paced dual mirror descent."""

from __future__ import annotations

import random
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.confirmatory.fit import Fitted
from stackjax.agents.executor._session import Choice, Policy, SessionState
from stackjax.agents.game._payoffs import DEFAULT
from stackjax.agents.game._state import encode_task, state_of
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._tasks import Turn


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
