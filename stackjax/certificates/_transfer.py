"""From the surrogate to reality: discrepancies, support, and how many turns a bound needs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stackjax._arrays.verdict import Verdict
from stackjax.certificates._certificate import Constant, Statement
from stackjax.certificates._real_turns import RealTurns
from stackjax.stats._interval import Interval
from stackjax.stats._mean import draws_needed, mean_interval

SHARES = {
    "surrogate regret, Monte Carlo": 0.1,
    "surrogate regret": 0.1,
    "projection": 0.1,
    "transfer": 0.3,
    "transfer, follower": 0.1,
    "support": 0.1,
    "baseline": 0.15,
    "paired regret": 0.15,
}
"""How `1 - level` is split; what a certificate does not need is given to the others."""

_SOURCE = "Thm 5.4"


class Discrepancies(NamedTuple):
    """`surrogate value - real value` of P policies, with limits that hold for all at once.

    Attributes:
      mean: `[P]`.
      low: `[P]` lower limits, the bias of clipping included.
      high: `[P]` upper limits.
      bias: `[P]` bound of the bias of clipping, 0 without.
      deviation: `[P]` standard deviation of an episode's number.

    Source: arXiv 2606.23026, Thm 5.4.

    Example:
      >>> mean, low, high, bias, deviation = np.array([[0.1], [-0.1], [0.3], [0.0], [0.5]])
      >>> sj.certificates.Discrepancies(mean, low, high, bias, deviation).delta
      0.3
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bias: np.ndarray
    deviation: np.ndarray

    @property
    def delta(self) -> float:
        """Upper limit of the largest absolute discrepancy of the class."""
        return float(np.maximum(np.abs(self.low), np.abs(self.high)).max())

    @property
    def least_delta(self) -> float:
        """Lower limit of it."""
        return float(np.maximum(np.maximum(self.low, -self.high), 0.0).max())


def discrepancies(
    turns: RealTurns, *, alpha: float, method: str = "betting", policies: int | None = None
) -> Discrepancies:
    """Simultaneous limits of every policy's discrepancy (Thm 5.4's delta is their largest size).

    Each episode gives one number a policy, the mean over its turns of `value - estimate`. The
    union bound gives each of P policies `alpha / P`; with clipped weights half of that pays for
    the limit of the bias. Where nothing bounds the weights (`RealTurns.limited`), nothing bounds
    the discrepancies, and their limits are infinite.

    Args:
      turns: the real turns.
      alpha: probability that any limit is wrong.
      method: as in `mean_interval`.
      policies: P of the union bound, if the class has more than are in `turns`.

    Source: arXiv 2606.23026, Thm 5.4.

    Example:
      >>> turns = sj.certificates.RealTurns(
      ...     utility=np.zeros((1, 200)), value=np.zeros((1, 200)), episode=np.arange(200),
      ...     low=0.0, high=1.0,
      ... )
      >>> sj.certificates.discrepancies(turns, alpha=0.05).delta < 0.1
      True
    """
    count = len(turns.value) if policies is None else policies
    each = alpha / count
    units = turns.per_episode(turns.value - turns.estimates)
    bias = np.zeros(len(units))
    deviation = units.std(1, ddof=1) if units.shape[1] > 1 else np.full(len(units), np.inf)
    if not turns.limited:
        nothing = np.full(len(units), np.inf)
        return Discrepancies(units.mean(1), -nothing, nothing, bias, deviation)
    if turns.clipped:
        each /= 2
        weights = turns.per_episode(turns.weights)
        kept = mean_interval(weights, low=0, high=turns.most_weight, alpha=2 * each, method=method)
        bias = turns.residual_size * np.clip(1 - kept.low, 0, 1)
    low, high = turns.discrepancy_bounds
    found = mean_interval(units, low=low, high=high, alpha=each, method=method)
    return Discrepancies(found.estimate, found.low - bias, found.high + bias, bias, deviation)


def unsupported(turns: RealTurns, *, alpha: float, method: str = "betting") -> list[str]:
    """Policies that play what the log does not have: their mean weight is not 1."""
    if turns.propensity is None or turns.clipped or not turns.limited:
        return []
    weights, most = turns.per_episode(turns.weights), turns.most_weight
    if most <= 1:
        return []
    each = alpha / len(weights)
    found = mean_interval(weights, low=0, high=most, alpha=each, method=method)
    wrong = (found.high < 1 - 1e-9) | (found.low > 1 + 1e-9)
    return [name for name, bad in zip(turns.labels, wrong) if bad]


def transfer_statement(
    logs: Sequence[RealTurns],
    *,
    alpha: float,
    support_alpha: float,
    method: str,
    tolerance: float | None,
    player: str,
) -> tuple[Statement, Discrepancies, bool]:
    """The statement on delta, the first log's discrepancies, and whether its limits are sound.

    They are not where a utility is out of its bounds or the log lacks an action that is played; a
    discrepancy above the tolerance makes the statement fail, with limits that are right. Where
    nothing bounds the weights, nothing is checked.
    """
    name = "Transfer" if player == "leader" else "Transfer, follower"
    assumption = "independent episodes, bounded utilities, right propensities"
    policies = sum(len(turns.value) for turns in logs)
    found = [discrepancies(turns, alpha=alpha, method=method, policies=policies) for turns in logs]
    if not all(turns.limited for turns in logs):
        note = (
            "nothing bounds the importance weights: state the logging policy's "
            "`least_propensity`, or clip them with `clip`"
        )
        return Statement(name, _SOURCE, assumption, note=note), found[0], False
    width = max(turns.width for turns in logs)
    extra = max((t.lipschitz or 0.0) * (t.radius or 0.0) for t in logs)
    delta = max(d.delta for d in found) + extra
    least = max(d.least_delta for d in found)
    where = max(
        ((d, turns, p) for d, turns in zip(found, logs) for p in range(len(d.mean))),
        key=lambda item: max(abs(item[0].low[item[2]]), abs(item[0].high[item[2]])),
    )
    worst, turns, p = where
    outside = [turns for turns in logs if not turns.bounded]
    missing = [name for t in logs for name in unsupported(t, alpha=support_alpha, method=method)]
    designs = ", ".join(dict.fromkeys(t.design for t in logs))
    episodes = sum(t.episodes for t in logs)
    note = f"{policies} policies, {designs}, {episodes} episodes; worst is {turns.labels[p]!r}"
    needed = math.nan
    if outside:
        verdict, note = Verdict.FAILS, "a utility or value is outside of its stated bounds"
    elif missing:
        verdict = Verdict.FAILS
        note = f"the log lacks what they play: {', '.join(missing[:3])}"
    elif tolerance is not None and least > tolerance:
        verdict = Verdict.FAILS
        note += f"; the largest discrepancy exceeds the tolerance {tolerance:.3g}"
    elif delta >= width:
        verdict = Verdict.VACUOUS
        target = width - extra - abs(float(worst.mean[p])) - float(worst.bias[p])
        needed = turns_for(turns, target, float(worst.deviation[p]), alpha / policies, method)
    else:
        verdict = Verdict.HOLDS
    constants = {
        "delta": Constant(max(float(np.abs(d.mean).max()) for d in found), least, delta),
        "range": Constant(width, width, width),
    }
    if any(t.clipped for t in logs):
        constants["bias of clipping"] = Constant(max(float(d.bias.max()) for d in found))
    if extra:
        constants["between the net's points"] = Constant(extra, extra, extra)
    statement = Statement(
        name=name,
        source=_SOURCE,
        assumption=assumption,
        how="from real turns",
        constants=constants,
        bound=delta,
        measured=constants["delta"].value,
        quantity="largest |surrogate value - real value|",
        verdict=verdict,
        note=note,
        turns_needed=needed,
    )
    return statement, found[0], not (outside or missing)


def turns_for(
    turns: RealTurns,
    target: float,
    deviation: float,
    alpha: float,
    method: str,
    *,
    bounds: tuple[float, float] | None = None,
) -> float:
    """Turns at which a half-width is at most `target`: episodes needed times their mean length."""
    low, high = turns.discrepancy_bounds if bounds is None else bounds
    draws = draws_needed(target, width=high - low, deviation=deviation, alpha=alpha, method=method)
    return draws * len(turns.episode) / turns.episodes


def one_sided(
    values: np.ndarray, bounds: tuple[float, float], alpha: float, method: str
) -> Interval:
    """Limits of which each alone is wrong with probability at most `alpha`, for each row."""
    return mean_interval(values, low=bounds[0], high=bounds[1], alpha=2 * alpha, method=method)
