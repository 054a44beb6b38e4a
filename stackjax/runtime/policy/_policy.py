"""A controller ready to serve: compiled once, with the calibration of its predictions."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_choice
from stackjax.agents.control._controller import Controller
from stackjax.agents.game._state import FIELDS, State
from stackjax.agents.log._log import TurnRecord
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.repair._cells import stratum
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.chat._request import CHAT_ADAPTER_VERSION
from stackjax.runtime.policy._behaviour import measure_behaviour
from stackjax.runtime.policy._residuals import COMPLEXITY, Residuals, measure_residuals
from stackjax.runtime.policy._written import written_turns
from stackjax.sets._empirical import ActionSet

_WIDTH = 1 + len(FIELDS) + 2

UNITS = ("turn", "call")
UNTOUCHED = (1.0, 1.0, 1.0)
"""The cell of a request as it came."""
UNKNOWN_COMPLEXITY = 0.5
"""What the predictors are given where the complexity is unknown: the middle of its range."""


def answered(numbers: Mapping[str, float]) -> dict[str, float]:
    """The features as the predictors read them: an unknown complexity is the middle one."""
    unknown = math.isnan(numbers.get(COMPLEXITY, 0.0))
    return {**numbers, **({COMPLEXITY: UNKNOWN_COMPLEXITY} if unknown else {})}


def at_either(controller: Controller) -> ActionSet:
    """Sets that do not depend on the complexity: the cells that both strata of a task have."""
    cells = controller.actions.actions
    simple, complex_ = cells[0::2, :, None], cells[1::2, None]
    shared = (jnp.abs(simple - complex_).max(-1) < 1e-6).any(2)[..., None]
    both = jnp.where(shared, cells[0::2], jnp.asarray(controller.reference, cells.dtype))
    return controller.actions.replace(actions=jnp.repeat(both, 2, axis=0))


def floor_of(controller: Controller) -> tuple[float, float, float] | None:
    """The lowest of the cells that every stratum has."""
    cells = np.asarray(controller.actions.actions, float)
    shared = [x for x in cells[0] if (np.abs(cells - x).max(-1) < 1e-6).any(1).all()]
    c, p, u = min(map(tuple, shared), key=sum, default=(math.nan,) * 3)
    return None if math.isnan(c) else (float(c), float(p), float(u))


class Recommendation(NamedTuple):
    """What a policy advises for one turn, in plain numbers.

    Attributes:
      signal: (q, alpha).
      response: The cell (c, p, u).
      converged: Whether the follower's solver did.
      distance: From the follower's answer to the cell.
      tokens: Predicted for the cell.
      reference_tokens: `T_0`, predicted for the reference policy at the same state.
      quality: Predicted for the cell, clipped to [0, 1].
      reference_quality: Predicted for the reference policy.
      untouched_tokens: Predicted for the request as it came, `UNTOUCHED`; None if the policy does
        not say.
      untouched_quality: Likewise.
      cheapest: The allowed cell with the fewest predicted tokens, likewise.

    Example:
      >>> Recommendation((0.8, 0.5), (0.5, 0.0, 0.0), True, 0.1, 60.0, 90.0, 0.7, 0.7).finite
      True
    """

    signal: tuple[float, float]
    response: tuple[float, float, float]
    converged: bool
    distance: float
    tokens: float
    reference_tokens: float
    quality: float
    reference_quality: float
    untouched_tokens: float | None = None
    untouched_quality: float | None = None
    cheapest: tuple[float, float, float] | None = None

    @property
    def finite(self) -> bool:
        """Whether all numbers are finite, and signal and response in [0, 1]."""
        unit = (*self.signal, *self.response, *(self.cheapest or ()))
        rest = (self.distance, self.tokens, self.reference_tokens)
        rest += (self.quality, self.reference_quality)
        rest += tuple(x for x in (self.untouched_tokens, self.untouched_quality) if x is not None)
        return (
            len(self.signal) == 2
            and len(self.response) == 3
            and all(0.0 <= x <= 1.0 for x in unit)
            and all(map(math.isfinite, rest))
        )


class Policy:
    """A controller compiled for one turn at a time.

    Compilation takes seconds and happens here, once; `recommend` runs the compiled program and
    cannot trace again.

    Args:
      controller: The controller.
      calibration: Of its predictors.
      fingerprint: Of its parts, see `stackjax.runtime.policy._store`; computed if None.
      adapter: Version of the adapter that carries out its responses.
      unit: What one decision is for, as in the turns that it was fitted on: ``"turn"``, all model
        calls up to the next user message, or ``"call"``, one model call.

    Attributes:
      traces: How often the controller has been traced: 1.
      floor: The cheapest cell that is allowed whatever the state; None if there is none.

    Raises:
      ValueError: If the unit is neither of the two.

    Example:
      >>> policy = known_policy()  # Policy(controller, measure_residuals(surrogate, turns))
      >>> advice = policy.recommend(dict.fromkeys(FIELDS, 0.5), "simple_qa", (0.775, 0.5))
      >>> advice.response, advice.tokens, advice.reference_tokens, policy.traces
      ((1.0, 1.0, 1.0), 330.0, 330.0, 1)
    """

    def __init__(
        self,
        controller: Controller,
        calibration: Residuals,
        fingerprint: Mapping[str, str] | None = None,
        *,
        adapter: str = CHAT_ADAPTER_VERSION,
        unit: str = "turn",
    ) -> None:
        check_choice("unit", unit, UNITS)
        if fingerprint is None:
            from stackjax.runtime.policy._store import fingerprint_of

            fingerprint = fingerprint_of(controller, calibration, adapter=adapter, unit=unit)
        self.controller, self.calibration = controller, calibration
        self.adapter, self.unit = adapter, unit
        self.floor = floor_of(controller)
        self.fingerprint = dict(fingerprint)
        self.traces = 0
        example = jax.ShapeDtypeStruct((_WIDTH,), jnp.float32)
        self._program: Any = jax.jit(self._decide).lower(example).compile()
        self.recommend({name: 0.5 for name in FIELDS}, TASK_TYPES[0], (0.775, 0.5))

    def __repr__(self) -> str:
        return f"Policy({self.fingerprint})"

    def _decide(self, row: jax.Array) -> jax.Array:
        """All numbers of a `Recommendation` as one array `[16]`, so that one copy brings them."""
        self.traces += 1
        numbers = {name: row[1 + i] for i, name in enumerate(FIELDS)}
        unknown = jnp.isnan(numbers[COMPLEXITY])
        numbers[COMPLEXITY] = jnp.where(unknown, UNKNOWN_COMPLEXITY, numbers[COMPLEXITY])
        state = State(task=row[0].astype(jnp.int32), **numbers)
        sets = jax.tree.map(
            lambda new, old: jnp.where(unknown, new, old),
            at_either(self.controller),
            self.controller.actions,
        )
        made = self.controller.replace(actions=sets)(state, row[-2:])
        quality, tokens = self.controller.surrogate.predict(state, made.response)
        base_quality, base_tokens = self.controller.surrogate.predict(
            state, self.controller.reference
        )
        as_it_came = jnp.asarray(UNTOUCHED, made.response.dtype)
        own_quality, own_tokens = self.controller.surrogate.predict(state, as_it_came)
        rest = [made.converged, made.distance, tokens, base_tokens, quality, base_quality]
        rest = jnp.stack([jnp.asarray(x, row.dtype) for x in [*rest, own_tokens, own_quality]])
        cells = sets.actions[stratum(state)]
        costs = jax.vmap(lambda cell: self.controller.surrogate.predict(state, cell)[1])(cells)
        return jnp.concatenate([made.action, made.response, rest, cells[jnp.argmin(costs)]])

    def recommend(
        self, numbers: Mapping[str, float], task: str, previous: Sequence[float]
    ) -> Recommendation:
        """The advice at one state.

        A complexity of NaN is unknown: the predictors are given the middle of its range, and only
        cells that are allowed at either complexity are advised, or the reference.

        Args:
          numbers: The eight numeric features, by the names in `FIELDS`.
          task: Task type.
          previous: The session's last signal (q, alpha).

        Raises:
          ValueError: If the task is unknown.
          KeyError: If a feature is missing.
        """
        check_choice("task", task, TASK_TYPES)
        row = np.array(
            [TASK_TYPES.index(task), *(numbers[name] for name in FIELDS), *previous], np.float32
        )
        q, alpha, c, p, u, converged, *rest = np.asarray(self._program(row)).tolist()
        *found, least_c, least_p, least_u = rest
        least = (least_c, least_p, least_u)
        return Recommendation((q, alpha), (c, p, u), converged > 0.5, *found, cheapest=least)


def recalibrated(policy: Policy, records: Iterable[TurnRecord]) -> Policy:
    """The same controller with a calibration from a runtime's turns; nothing is compiled again.

    Turns that failed, whose tokens the upstream did not count, or that lack a feature are left out;
    turns that nobody rated count for the tokens and not for the quality, and no turn need be rated.

    Args:
      policy: The policy.
      records: Turns of a runtime.

    Raises:
      TypeError: If they are arrays: those do not say which turns were rated.
      ValueError: If a turn is not a runtime's, or fewer than 2 remain.

    Example:
      >>> import dataclasses
      >>> told = {"exact_tokens": True, "quality": 1.0}
      >>> log = [  # of a runtime: `read_log("runtime.jsonl").records`
      ...     dataclasses.replace(record, design="runtime", extra=told)
      ...     for record in known_world.records(episodes=2, design="random")
      ... ]
      >>> found = recalibrated(known_policy(), log).calibration
      >>> found.turns, round(math.exp(found.token_mean), 2)
      (4, 1.0)
    """
    from stackjax.runtime.policy._decision import FALLBACKS
    from stackjax.runtime.policy._store import fingerprint_of

    if isinstance(records, Turns):
        raise TypeError("`records` must be turn records; got Turns: pass read_log(path).records.")
    rows = written_turns(records)
    if any(row.design != "runtime" for row in rows):
        raise ValueError(
            "`records` must be of a runtime; got others: see `measure_residuals` for them."
        )
    rows = [
        row
        for row in rows
        if row.extra.get("exact_tokens")
        and row.prompt_tokens + row.completion_tokens > 0
        and (row.fallback is None or row.fallback in FALLBACKS)
        and row.task in TASK_TYPES
        and set(FIELDS) <= set(row.state)
    ]
    if len(rows) < 2:
        raise ValueError(
            f"`records` must hold at least 2 complete turns; got {len(rows) or 'none'}."
        )
    told = [row.extra.get("quality") for row in rows]
    quality = jnp.asarray([math.nan if q is None else q for q in told], jnp.float32)
    turns = turn_arrays(rows).replace(correct=quality)
    made = copy.copy(policy)  # the compiled program does not depend on the calibration
    found = measure_residuals(policy.controller.surrogate, turns)
    made.calibration = dataclasses.replace(found, behaviour=measure_behaviour(rows))
    made.fingerprint = fingerprint_of(
        policy.controller, made.calibration, adapter=policy.adapter, unit=policy.unit
    )
    return made
