"""Who is compared: LLF-StackSL in its readings, and baselines that share all but the gate."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax import labels


def plain(candidate: Any) -> Any:
    """A fixed threshold."""
    return candidate["threshold"]


def root(candidate: Any) -> Any:
    """A threshold that falls as the square root of time; the number is that of round 99."""
    return labels.decaying(10 * candidate["threshold"], 0.5)


def power(candidate: Any) -> Any:
    """The BBQ rule's threshold, of which the number is the power."""
    return labels.decaying(1.0, candidate["threshold"])


@dataclasses.dataclass(frozen=True)
class Method:
    """A learner with options to be calibrated.

    Attributes:
      gate: rounds -> gate.
      thresholds: candidates.
      scales: candidates for the factor on the confidence radius.
      budgeted: whether the budget applies.
      optimistic: LinUCB's choice instead of the best score.
      schedule: candidate -> threshold, a number or a schedule.
      ours: whether it is a reading of LLF-StackSL.
    """

    gate: Callable[[int], labels.Gate]
    thresholds: Sequence[float] = (0.0,)
    scales: Sequence[float] = (1.0,)
    budgeted: bool = True
    optimistic: bool = False
    schedule: Callable[[Any], Any] = plain
    ours: bool = False

    def candidates(self, budget: int, forget: float) -> list[dict[str, float]]:
        """The grid."""
        return [
            {
                "threshold": threshold,
                "scale": scale,
                "forget": forget,
                "budget": budget if self.budgeted else np.inf,
            }
            for threshold, scale in itertools.product(self.thresholds, self.scales)
        ]

    def learner(self, candidate: Any, rounds: int, shared: dict[str, Any]) -> labels.Learner:
        """The learner of one candidate."""
        return labels.budgeted_learner(
            self.gate(rounds),
            budget=candidate["budget"],
            threshold=self.schedule(candidate),
            scale=candidate["scale"],
            forget=candidate["forget"],
            optimistic=self.optimistic,
            **shared,
        )


SCALES = (0.1, 0.3, 1.0)
# The lowest threshold of every grid asks in each round, or nearly so: 'first B' is in all of them.
METHODS: dict[str, Method] = {
    "LLF gap": Method(
        lambda T: labels.largest_gap(),
        (0.0, 0.05, 0.1, 0.15, 0.22, 0.33, 0.5, 0.75, 1.1, 1.7),
        SCALES,
        ours=True,
    ),
    "LLF gap, decaying": Method(
        lambda T: labels.largest_gap(), (0.0, 0.05, 0.1, 0.2, 0.4, 0.8), SCALES,
        schedule=root, ours=True,
    ),
    "LLF pool": Method(
        lambda T: labels.waiting_pool(size=8), (0.0, 0.3, 3.0, 30.0), SCALES, ours=True
    ),
    "LLF age": Method(
        lambda T: labels.oldest_direction(horizon=float(T)),
        (0.0, 100.0, 300.0, 1000.0, 2000.0, 5000.0), SCALES, ours=True,
    ),
    "label all": Method(lambda T: labels.every_round(), budgeted=False),
    "label none": Method(lambda T: labels.at_random(), (2.0,), budgeted=False),
    "first B": Method(lambda T: labels.every_round()),
    "random": Method(lambda T: labels.at_random(), (0.0, 0.6, 0.8, 0.9)),
    "margin": Method(
        lambda T: labels.margin(),
        (-np.inf, -0.7, -0.35, -0.2, -0.14, -0.09, -0.05, -0.035, -0.02),
    ),
    "entropy": Method(
        lambda T: labels.entropy(temperature=0.1),
        (-1.0, 0.3, 0.6, 0.8, 0.95, 1.1, 1.2, 1.3, 1.36),
    ),
    "BBQ width": Method(
        lambda T: labels.width(),
        (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 2.0),
        schedule=power,
    ),
    "LinUCB, capped": Method(
        lambda T: labels.every_round(), (0.0,), (0.03, *SCALES), optimistic=True
    ),
}  # fmt: skip
REFERENCES = ("label all", "label none")
OURS = tuple(name for name, method in METHODS.items() if method.ours)
BASELINES = tuple(name for name in METHODS if name not in OURS + REFERENCES)


def stack(items: Sequence[Any]) -> Any:
    """Pytrees of one structure, side by side along a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *items)


def as_floats(candidates: Sequence[dict[str, float]]) -> dict[str, jax.Array]:
    """A grid as arrays, `[C]` each."""
    return {name: jnp.asarray([c[name] for c in candidates], float) for name in candidates[0]}


def paired(difference: np.ndarray) -> dict[str, Any]:
    """Mean over seeds `[S]` of a difference, with a 95 % t interval.

    Raises:
      ValueError: there are fewer than two seeds.
    """
    from scipy import stats

    difference = np.asarray(difference, float)
    if difference.size < 2:
        raise ValueError(f"difference: got {difference.size} seeds, need at least 2")
    error = difference.std(ddof=1) / np.sqrt(difference.size)
    half = stats.t.ppf(0.975, difference.size - 1) * error
    mean = float(difference.mean())
    return {"mean": mean, "interval": [mean - float(half), mean + float(half)]}
