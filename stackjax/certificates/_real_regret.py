"""What it adds up to: the deployed policy's regret on the real system, and against a baseline."""

from __future__ import annotations

import math

import numpy as np

from stackjax._arrays.verdict import Verdict
from stackjax.certificates._certificate import Constant, Statement
from stackjax.certificates._real_turns import RealTurns
from stackjax.certificates._transfer import Discrepancies, one_sided, turns_for
from stackjax.stats._mean import half_width

_FROM = "from real turns"


def regret_statement(
    turns: RealTurns,
    found: Discrepancies,
    *,
    delta: float,
    alpha: dict[str, float],
    method: str,
    sound: bool,
) -> Statement:
    """`regret <= eps + projection + 2 delta` over the class of `turns`.

    `eps` is how much more than the proposed policy (before repair) the best of the class gets in
    the surrogate, the projection term what repair costs there, each an upper confidence limit from
    the surrogate's values at the real turns; their sampling is part of the level.
    """
    source, quantity = "Thm 5.4", "real regret of the deployed policy"
    assumption = "as for the transfer; values of the class in the surrogate"
    if not sound:
        return Statement(
            "Real regret",
            source,
            assumption,
            quantity=quantity,
            note="the transfer is not certified",
        )
    bounds = (-turns.width, turns.width)
    deployed = turns.value[turns.deployed]
    proposed = deployed if turns.proposed is None else turns.proposed
    gains = turns.per_episode(turns.value - proposed[None])
    each = alpha["surrogate regret"] / len(gains)
    eps = one_sided(gains, bounds, each, method)
    price, price_up, price_unit = 0.0, 0.0, np.zeros((1, gains.shape[1]))
    if turns.proposed is not None:
        price_unit = turns.per_episode((proposed - deployed)[None])
        limit = one_sided(price_unit, bounds, alpha["projection"], method)
        price, price_up = float(limit.estimate[0]), float(limit.high[0])
    upper = eps.high.copy()
    if turns.proposed is None:
        upper[turns.deployed] = 0.0  # the policy against itself
    eps_up = float(upper.max())
    bound = eps_up + price_up + 2 * delta
    real = turns.per_episode(turns.estimates).mean(1)
    measured = float((real - real[turns.deployed]).max())
    needed = math.nan
    if bound >= turns.width:
        needed = _turns_for_sum(turns, found, gains, price_unit, delta, alpha, method)
    return Statement(
        name="Real regret",
        source=source,
        assumption=assumption,
        how=_FROM,
        constants={
            "eps": Constant(float(eps.estimate.max()), float(eps.low.max()), eps_up),
            "delta": Constant(float(np.abs(found.mean).max()), found.least_delta, delta),
            "projection": Constant(price, math.nan, price_up),
        },
        bound=bound,
        measured=measured,
        quantity=f"{quantity}, eps + projection + 2 delta",
        verdict=Verdict.VACUOUS if bound >= turns.width else Verdict.HOLDS,
        note=f"over {len(turns.value)} policies; the trivial bound is {turns.width:.3g}",
        turns_needed=needed,
    )


def _turns_for_sum(
    turns: RealTurns,
    found: Discrepancies,
    gains: np.ndarray,
    price: np.ndarray,
    delta: float,
    alpha: dict[str, float],
    method: str,
) -> float:
    """Turns at which the sum's limits would be below the range, every variance as measured."""
    low, high = turns.discrepancy_bounds
    count, span = len(gains), 2 * turns.width
    extra = (turns.lipschitz or 0.0) * (turns.radius or 0.0)
    spread = lambda rows: rows.std(1, ddof=1) if rows.shape[1] > 1 else np.full(len(rows), np.inf)
    gain_deviation, price_deviation = spread(gains), spread(price)

    def bound(n: float) -> float:
        half = half_width(n, high - low, found.deviation, alpha["transfer"] / count, method)
        sizes = np.abs(found.mean) + half + found.bias
        eps = half_width(n, span, gain_deviation, 2 * alpha["surrogate regret"] / count, method)
        total = 2 * (float(sizes.max()) + extra) + float((gains.mean(1) + eps).max())
        if turns.proposed is not None:
            tail = half_width(n, span, price_deviation, 2 * alpha["projection"], method)
            total += float(price.mean() + tail[0])
        return total

    if not bound(1e15) < turns.width:
        return math.inf
    lower, upper = 1.0, 2.0
    while bound(upper) >= turns.width:
        lower, upper = upper, 2 * upper
    while upper - lower > max(1.0, 1e-3 * upper):
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if bound(middle) < turns.width else (middle, upper)
    return math.ceil(upper) * len(turns.episode) / turns.episodes


def paired_statement(
    turns: RealTurns, found: Discrepancies, *, alpha: float, method: str, sound: bool
) -> Statement:
    """Regret from the same turns' differences between policies; no surrogate, no delta."""
    name, source, quantity = "Real regret, paired", "direct", "real regret of the deployed policy"
    assumption = "independent episodes, bounded utilities, right propensities"
    if not sound or len(turns.value) == 1:
        note = "the transfer is not certified" if not sound else "the class has no other policy"
        return Statement(name, source, assumption, quantity=quantity, note=note)
    others = np.delete(np.arange(len(turns.value)), turns.deployed)
    estimates = turns.estimates
    units = turns.per_episode(estimates[others] - estimates[turns.deployed][None])
    limit = one_sided(units, turns.difference_bounds, alpha / len(others), method)
    upper = limit.high + found.bias[others] + found.bias[turns.deployed]
    bound, worst = max(float(upper.max()), 0.0), int(np.argmax(upper))
    needed = math.nan
    if bound >= turns.width:
        deviation = float(units[worst].std(ddof=1)) if units.shape[1] > 1 else math.inf
        target = turns.width - max(float(limit.estimate[worst]), 0.0)
        each = 2 * alpha / len(others)
        needed = turns_for(turns, target, deviation, each, method, bounds=turns.difference_bounds)
    return Statement(
        name=name,
        source=source,
        assumption=assumption,
        how=_FROM,
        bound=bound,
        measured=max(float(limit.estimate.max()), 0.0),
        quantity=quantity,
        verdict=Verdict.VACUOUS if bound >= turns.width else Verdict.HOLDS,
        note=f"over {len(turns.value)} policies; nearest rival {turns.labels[others[worst]]!r}",
        turns_needed=needed,
    )


def baseline_statement(
    turns: RealTurns,
    found: Discrepancies,
    *,
    alpha: float,
    method: str,
    margin: float,
    sound: bool,
) -> Statement:
    """'Better than the baseline by at least m': the lower limit of the mean difference."""
    name, source = "Better than the baseline", "direct"
    assumption = "independent episodes, bounded utilities, right propensities"
    quantity = "real gain over the baseline, at least"
    if turns.baseline is None or not sound:
        note = "no baseline is named" if turns.baseline is None else "the transfer is not certified"
        return Statement(name, source, assumption, quantity=quantity, note=note)
    if turns.baseline == turns.deployed:
        note = "the baseline is the deployed policy"
        return Statement(name, source, assumption, quantity=quantity, note=note)
    estimates = turns.estimates
    units = turns.per_episode((estimates[turns.deployed] - estimates[turns.baseline])[None])
    # Both sides are read: the lower one to affirm, the upper one to deny.
    limit = one_sided(units, turns.difference_bounds, alpha / 2, method)
    bias = float(found.bias[turns.deployed] + found.bias[turns.baseline])
    mean = float(limit.estimate[0])
    low, high = float(limit.low[0]) - bias, float(limit.high[0]) + bias
    verdict = (
        Verdict.HOLDS if low > margin else Verdict.FAILS if high <= margin else Verdict.VACUOUS
    )
    needed = math.nan
    if verdict == Verdict.VACUOUS:
        deviation = float(units.std(ddof=1)) if units.shape[1] > 1 else math.inf
        target = mean - margin - bias
        needed = turns_for(turns, target, deviation, alpha, method, bounds=turns.difference_bounds)
    note = f"against {turns.labels[turns.baseline]!r}, margin {margin:.3g}"
    if verdict == Verdict.VACUOUS:
        note += "; the turns do not decide"
    return Statement(
        name=name,
        source=source,
        assumption=assumption,
        how=_FROM,
        constants={"gain": Constant(mean, low, high)},
        bound=low,
        measured=mean,
        quantity=quantity,
        verdict=verdict,
        note=note,
        turns_needed=needed,
    )
