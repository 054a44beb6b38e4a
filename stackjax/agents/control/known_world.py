"""A small world whose answers are known: records, predictors and a controller without a model.

For examples and first tries. Quality and tokens of a response `r = (c, p, u)` are the same at every
state,

    Q(r) = 0.5 + (0.2, 0.1, 0.3) . (r - 1/2) - 0.1 |r - 1/2|^2
    T(r) = 100 + (100, 50, 50) . r + 10 |r|^2

and whether a recorded turn is right follows from Q without chance, so that all numbers repeat.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_choice, check_count
from stackjax.agents.control._controller import Controller
from stackjax.agents.control._dynamics import Session, begin_session
from stackjax.agents.control._environment import scripts_of
from stackjax.agents.executor._session import TURN_BUDGET
from stackjax.agents.game._payoffs import ResourceContext, resource_context, resource_game
from stackjax.agents.game._state import State, state_of
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.sets._empirical import ActionSet

TASKS = (("simple_qa", 0.3), ("complex_reasoning", 0.8))
"""Task type and complexity of even and of odd turns."""

_SLOPE, _BEND = np.array([0.2, 0.1, 0.3]), 0.2
_BASE, _RISE, _GROWTH = 100.0, np.array([100.0, 50.0, 50.0]), 20.0
_GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill [0, 1] evenly


class Constant(struct.PyTreeNode):
    """What gives one value at every input: a predictor, or a leader.

    Attributes:
      value: what is given.
    """

    value: Any

    def __call__(self, features: Any) -> Any:
        return self.value


def quality(response: Sequence[float]) -> float:
    """Probability of a right answer under a response `[3]`."""
    z = np.asarray(response, float) - 0.5
    return float(0.5 + _SLOPE @ z - 0.5 * _BEND * z @ z)


def tokens(response: Sequence[float]) -> int:
    """Tokens of a turn under a response `[3]`, rounded."""
    r = np.asarray(response, float)
    return round(float(_BASE + _RISE @ r + 0.5 * _GROWTH * r @ r))


def records(
    episodes: int = 8,
    turns: int = 2,
    *,
    levels: Sequence[float] = (0.0, 1.0),
    design: str = "factorial",
) -> list[TurnRecord]:
    """Recorded turns of this world.

    Args:
      episodes: how many sessions.
      turns: turns of each.
      levels: of each channel; the cells are their grid.
      design: "factorial", every cell at every turn; or "random", one cell a turn, each in its turn.

    Raises:
      TypeError: `episodes` or `turns` is not an integer.
      ValueError: `design` is neither of the two, or `episodes` or `turns` is below 1.

    Example:
      >>> record = known_world.records(design="random")[7]
      >>> record.executed, record.prompt_tokens + record.completion_tokens, record.correct
      ((1.0, 1.0, 1.0), 330, False)
    """
    check_choice("design", design, ("factorial", "random"))
    check_count("episodes", episodes)
    check_count("turns", turns)
    axis = [float(level) for level in levels]
    cells = [(c, p, u) for c in axis for p in axis for u in axis]
    made = []
    for number, turn in itertools.product(range(episodes), range(turns)):
        task, complexity = TASKS[turn % 2]
        count = number * turns + turn
        luck = (count + 1) * _GOLDEN % 1
        usual = tokens(cells[0])
        state = {
            "task_complexity": complexity,
            "context_tokens": 40.0 * (turn + 1),
            "turn_index": turn,
            "mean_tokens": float(usual * (turn > 0)),
            "recent_quality": 0.5,
            "token_trend": 0.0,
            "model_condition": 1.0,
            "budget": 1.0 - usual * turn / (TURN_BUDGET * turns),
        }
        for cell in cells if design == "factorial" else [cells[count % len(cells)]]:
            made.append(
                TurnRecord(
                    episode=f"{design}-{number}",
                    turn=turn,
                    task=task,
                    family=task,
                    item=f"{number}-{turn}",
                    policy=design,
                    design=design,
                    state=state,
                    signal=None,
                    intended=cell,
                    executed=cell,
                    propensity=1.0 if design == "factorial" else 1.0 / len(cells),
                    prompt_tokens=tokens(cell) - 10,
                    completion_tokens=10,
                    latency=0.1,
                    tool_calls=0,
                    answer="an answer",
                    gold="",
                    correct=luck < quality(cell),
                    fallback=None,
                    replayed=False,
                    model="known world",
                    adapter="0",
                    seed=0,
                    time="2000-01-01T00:00:00Z",
                )
            )
    return made


def state(turn: int = 0) -> State:
    """The state before a turn of a session's two, as `records` has it.

    Example:
      >>> print(known_world.state(1).task_complexity, known_world.state(1).budget)
      0.8 0.875
    """
    record = records(1, 2, design="random")[turn]
    return state_of(record.state, record.task)


def session(token_budget: float | None = None) -> Session:
    """A session of two turns before its first, after the signal (0.8, 0.5).

    Example:
      >>> print(known_world.session().token_budget)
      800.0
    """
    scripts = scripts_of(records(1, 2)).script
    script = jax.tree.map(lambda leaf: leaf[0], scripts)
    return begin_session(script, signal=jnp.array([0.8, 0.5]), token_budget=token_budget)


def surfaces() -> tuple[QualitySurface, TokenSurface]:
    """Quality and tokens as surfaces.

    Example:
      >>> quality, tokens = known_world.surfaces()
      >>> print(quality(jnp.full(3, 0.5)), tokens(jnp.ones(3)))
      0.5 330.0
    """
    number = lambda value: jnp.asarray(value, jnp.float32)
    quality = QualitySurface(
        level=number(0.5), slope=number(_SLOPE), curvature=_BEND * jnp.eye(3), rise=jnp.zeros(3)
    )
    tokens = TokenSurface(base=number(_BASE), slope=number(_RISE), curvature=_GROWTH * jnp.eye(3))
    return quality, tokens


def surrogate() -> Surrogate:
    """Predictors that are right at every state.

    Example:
      >>> print(*known_world.surrogate().predict(known_world.state(), jnp.full(3, 0.5)))
      0.5 207.5
    """
    quality, tokens = surfaces()
    return Surrogate(Constant(quality), Constant(tokens))


def context(reference: Sequence[float] = (1.0, 1.0, 1.0)) -> ResourceContext:
    """The game's context at a turn, after the signal (0.8, 0.5) and with a whole budget.

    Args:
      reference: `[3]`, the reference response, which sets `T_0` and `tau_Q`.

    Example:
      >>> print(known_world.context().reference_tokens)
      330.0
    """
    return resource_context(
        jnp.zeros(14),
        *surfaces(),
        previous=jnp.array([0.8, 0.5]),
        budget=jnp.array(1.0),
        reference=jnp.asarray(reference, jnp.float32),
    )


def controller(signal: Sequence[float] = (0.8, 0.5)) -> Controller:
    """A controller with a constant signal and the rational follower; all 8 corners may be played.

    Args:
      signal: `[2]`, (q, alpha).

    Example:
      >>> print(known_world.controller().actions.actions.shape)
      (12, 8, 3)
    """
    cells = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=3)), jnp.float32)
    return Controller(
        surrogate=surrogate(),
        leader=Constant(jnp.asarray(signal, jnp.float32)),
        game=resource_game(),
        actions=ActionSet(jnp.tile(cells, (12, 1, 1))),
        reference=jnp.ones(3),
    )
