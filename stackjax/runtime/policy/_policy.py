"""A controller ready to serve: compiled once, with the calibration of its predictions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_all_within, check_choice, check_shape, check_within
from stackjax.agents.control._controller import Controller
from stackjax.agents.game._state import FIELDS, State
from stackjax.agents.log._log import TurnRecord, latest
from stackjax.agents.log._turns import Turns, turn_arrays
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.sets._empirical import ActionSet

_WIDTH = 1 + len(FIELDS) + 2
_COMPLEXITY = "task_complexity"

UNKNOWN_COMPLEXITY = 0.5
"""What the predictors are given where the complexity is unknown: the middle of its range."""


def answered(numbers: Mapping[str, float]) -> dict[str, float]:
    """The features as the predictors read them: an unknown complexity is the middle one."""
    unknown = math.isnan(numbers.get(_COMPLEXITY, 0.0))
    return {**numbers, **({_COMPLEXITY: UNKNOWN_COMPLEXITY} if unknown else {})}


def at_either(controller: Controller) -> ActionSet:
    """Sets that do not depend on the complexity: the cells that both strata of a task have."""
    cells = controller.actions.actions
    simple, complex_ = cells[0::2, :, None], cells[1::2, None]
    shared = (jnp.abs(simple - complex_).max(-1) < 1e-6).any(2)[..., None]
    both = jnp.where(shared, cells[0::2], jnp.asarray(controller.reference, cells.dtype))
    return controller.actions.replace(actions=jnp.repeat(both, 2, axis=0))


@dataclass(frozen=True)
class Residuals:
    """How well the predictors did on turns that were not fitted, and where they were fitted.

    Attributes:
      token_mean: Mean of log(used / predicted tokens).
      token_spread: Its standard deviation.
      quality_mean: Mean of measured minus predicted quality.
      quality_spread: Its standard deviation.
      turns: Turns behind the four numbers.
      low: The least value of each numeric feature (order of `FIELDS`) among these turns.
      high: The largest.
      time: When it was made, ISO 8601 with a time zone.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a number is not finite, a spread not positive, or the time not as said.

    Example:
      >>> low, high, time = (0.0,) * 8, (1.0,) * 8, "2026-01-05T00:00:00+00:00"
      >>> found = Residuals(0.0, 0.3, 0.0, 0.4, 90, low, high, time)
      >>> found.outside(dict.fromkeys(FIELDS, 0.5) | {"budget": 3.0}, 1.0)
      ('budget',)
    """

    token_mean: float
    token_spread: float
    quality_mean: float
    quality_spread: float
    turns: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    time: str

    def __post_init__(self) -> None:
        for name in ("token", "quality"):
            check_within(f"{name}_mean", getattr(self, f"{name}_mean"), "(-inf, inf)")
            check_within(f"{name}_spread", getattr(self, f"{name}_spread"), "(0, inf)")
        for name in ("low", "high"):
            check_shape(name, getattr(self, name), (len(FIELDS),))
            check_all_within(name, getattr(self, name), "(-inf, inf)")
        if datetime.fromisoformat(self.time).tzinfo is None:
            raise ValueError(f"`time` must name its zone; got {self.time!r}.")

    def age(self, now: datetime | None = None) -> float:
        """Seconds since it was made."""
        now = datetime.now(UTC) if now is None else now
        return (now - datetime.fromisoformat(self.time)).total_seconds()

    def outside(self, numbers: Mapping[str, float], slack: float) -> tuple[str, ...]:
        """The features that lie outside of the calibrated range by more than `slack` ranges.

        A complexity that is unknown (NaN) is not.
        """
        found = []
        for name, low, high in zip(FIELDS, self.low, self.high, strict=True):
            if name == _COMPLEXITY and math.isnan(numbers[name]):
                continue
            room = slack * max(high - low, 1e-6)
            if not low - room <= numbers[name] <= high + room:
                found.append(name)
        return tuple(found)


def measure_residuals(surrogate: Surrogate, turns: Turns, *, time: str | None = None) -> Residuals:
    """Measures the residuals of the predictors on N turns that they were not fitted to.

    Args:
      surrogate: The predictors.
      turns: At least 2 turns with positive tokens; `correct` is NaN where no quality is known.
      time: ISO 8601 with a zone; now if None.

    Raises:
      ValueError: If there are fewer than 2 turns, or with a quality, or a turn without tokens.

    Example:
      >>> held_out = turn_arrays(known_world.records())
      >>> found = measure_residuals(known_world.surrogate(), held_out)
      >>> found.turns, abs(found.token_mean) < 1e-3  # this world's predictors are right
      (128, True)
    """
    tokens = np.asarray(turns.tokens, float)
    if len(tokens) < 2 or not (tokens > 0).all():
        raise ValueError(f"`turns` must hold at least 2 with positive tokens; got {len(tokens)}.")
    quality, predicted = jax.jit(jax.vmap(surrogate.predict))(turns.state, turns.executed)
    ratio = np.log(tokens) - np.log(np.maximum(np.asarray(predicted, float), 1.0))
    gap = np.asarray(turns.correct, float) - np.asarray(quality, float)
    gap = gap[~np.isnan(np.asarray(turns.correct, float))]
    if len(gap) < 2:
        raise ValueError(
            f"`turns` must hold at least 2 with a quality; got {len(gap)} of {len(tokens)}."
        )
    numbers = np.stack([np.asarray(getattr(turns.state, name), float) for name in FIELDS])
    return Residuals(
        token_mean=float(ratio.mean()),
        token_spread=float(max(ratio.std(ddof=1), 1e-3)),
        quality_mean=float(gap.mean()),
        quality_spread=float(max(gap.std(ddof=1), 1e-3)),
        turns=len(tokens),
        low=tuple(numbers.min(1).tolist()),
        high=tuple(numbers.max(1).tolist()),
        time=datetime.now(UTC).isoformat(timespec="seconds") if time is None else time,
    )


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

    @property
    def finite(self) -> bool:
        """Whether all numbers are finite, and signal and response in [0, 1]."""
        unit = (*self.signal, *self.response)
        rest = (self.distance, self.tokens, self.reference_tokens)
        rest += (self.quality, self.reference_quality)
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

    Attributes:
      traces: How often the controller has been traced: 1.

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
    ) -> None:
        if fingerprint is None:
            from stackjax.runtime.policy._store import fingerprint_of

            fingerprint = fingerprint_of(controller, calibration)
        self.controller, self.calibration = controller, calibration
        self.fingerprint = dict(fingerprint)
        self.traces = 0
        example = jax.ShapeDtypeStruct((_WIDTH,), jnp.float32)
        self._program: Any = jax.jit(self._decide).lower(example).compile()
        self.recommend({name: 0.5 for name in FIELDS}, TASK_TYPES[0], (0.775, 0.5))

    def __repr__(self) -> str:
        return f"Policy({self.fingerprint})"

    def _decide(self, row: jax.Array) -> jax.Array:
        """All numbers of a `Recommendation` as one array `[11]`, so that one copy brings them."""
        self.traces += 1
        numbers = {name: row[1 + i] for i, name in enumerate(FIELDS)}
        unknown = jnp.isnan(numbers[_COMPLEXITY])
        numbers[_COMPLEXITY] = jnp.where(unknown, UNKNOWN_COMPLEXITY, numbers[_COMPLEXITY])
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
        rest = [made.converged, made.distance, tokens, base_tokens, quality, base_quality]
        rest = jnp.stack([jnp.asarray(x, row.dtype) for x in rest])
        return jnp.concatenate([made.action, made.response, rest])

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
        return Recommendation((q, alpha), (c, p, u), converged > 0.5, *rest)


def recalibrated(policy: Policy, records: Iterable[TurnRecord]) -> Policy:
    """The same controller with a calibration from a runtime's turns; nothing is compiled again.

    Turns that failed, whose tokens the upstream did not count, or that lack a feature are left out;
    turns that nobody rated count for the tokens and not for the quality.

    Args:
      policy: The policy.
      records: Turns of a runtime.

    Raises:
      TypeError: If they are arrays: those do not say which turns were rated.
      ValueError: If a turn is not a runtime's, or fewer than 2 remain, or 2 with a quality.

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
    rows = latest(records)
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
    if not rows:
        raise ValueError("`records` must hold at least 2 complete turns; got none.")
    told = [row.extra.get("quality") for row in rows]
    quality = jnp.asarray([math.nan if q is None else q for q in told], jnp.float32)
    turns = turn_arrays(rows).replace(correct=quality)
    made = copy.copy(policy)  # the compiled program does not depend on the calibration
    made.calibration = measure_residuals(policy.controller.surrogate, turns)
    made.fingerprint = fingerprint_of(policy.controller, made.calibration)
    return made
