"""What a log says of policies that did not run: off-policy estimates and shadow bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from stackjax._arrays.arguments import check_all_within, check_same_shape
from stackjax.runtime.governor._comparison import SessionOutcome


@dataclasses.dataclass(frozen=True)
class ArmValue:
    """A policy's value by inverse propensities.

    Attributes:
      ips: Inverse-propensity estimate: unbiased, noisy.
      snips: Self-normalised estimate; NaN if no session matches the policy.
      low: Of the interval around `snips`: linearisation, Student's t, sessions as units.
      high: Likewise; infinite below two effective sessions.
      effective: Effective sample size, (sum w)^2 / sum w^2.
      sessions: Sessions that were weighted, those with weight 0 among them.

    Example:
      >>> ArmValue(1.0, 1.0, 0.5, 1.5, 8.0, 10).effective
      8.0
    """

    ips: float
    snips: float
    low: float
    high: float
    effective: float
    sessions: int


def arm_value(outcome: np.ndarray, weights: np.ndarray, *, level: float = 0.95) -> ArmValue:
    """The value of a policy from sessions that another one ran.

    Args:
      outcome: `[n]`, one a session.
      weights: `[n]`, probability of what was done under the policy asked about, over that under
        the one that ran; not negative.
      level: Confidence level.

    Raises:
      ValueError: If shapes differ, a number is not finite, or a weight is negative.

    Source: Swaminathan and Joachims, NeurIPS 2015 (self-normalised estimator).

    Example:
      >>> found = arm_value(np.array([1.0, 3.0, 9.0]), np.array([2.0, 2.0, 0.0]))
      >>> found.snips, found.effective
      (2.0, 2.0)
    """
    y, w = np.asarray(outcome, float), np.asarray(weights, float)
    check_same_shape("[n]", outcome=y, weights=w)
    check_all_within("outcome", y, "(-inf, inf)")
    check_all_within("weights", w, "[0, inf)")
    total = w.sum()
    if total == 0:
        return ArmValue(0.0 if y.size else np.nan, np.nan, -np.inf, np.inf, 0.0, y.size)
    effective = float(total**2 / (w**2).sum())
    value = float((w * y).sum() / total)
    spread = float(np.sqrt((w**2 * (y - value) ** 2).sum()) / total)
    if effective < 2:
        return ArmValue(float((w * y).mean()), value, -np.inf, np.inf, effective, y.size)
    # Sum of squared residuals misses one degree of freedom, as for a plain mean.
    spread *= np.sqrt(effective / (effective - 1))
    half = float(stats.t.ppf(0.5 + level / 2, effective - 1)) * spread
    return ArmValue(float((w * y).mean()), value, value - half, value + half, effective, y.size)


def arm_values(
    outcomes: Sequence[SessionOutcome], *, level: float = 0.95
) -> dict[str, dict[str, ArmValue]]:
    """Mean tokens a turn and mean quality if all sessions were governed, and if none were.

    Args:
      outcomes: Sessions with their assignment and its probability.
      level: Confidence level of each interval.

    Returns:
      By policy (``"all governed"``, ``"all untouched"``) and outcome (``"tokens"``,
      ``"quality"``), over the sessions that have one.

    Example:
      >>> rows = [SessionOutcome(i % 2 == 0, 0.5, 50.0, 1.0) for i in range(8)]
      >>> arm_values(rows)["all governed"]["tokens"].snips
      50.0
    """
    found = {}
    for name, arm in (("all governed", True), ("all untouched", False)):
        rows = {
            what: [o for o in outcomes if getattr(o, what) is not None]
            for what in ("tokens", "quality")
        }
        found[name] = {}
        for what, chosen in rows.items():
            weights = [
                (1.0 / (o.share if arm else 1.0 - o.share)) if o.governed is arm else 0.0
                for o in chosen
            ]
            values = np.array([getattr(o, what) for o in chosen], float)
            found[name][what] = arm_value(values, np.array(weights, float), level=level)
    return found


@dataclasses.dataclass(frozen=True)
class ShadowBounds:
    """What shadow turns say of a policy that touched none of them.

    Attributes:
      turns: Shadow turns with a recommendation.
      agreement: Share of them where the recommendation is what the agent did anyway.
      quality_low: Mean quality under the policy if every other turn would have failed.
      quality_high: The same if every other turn would have succeeded. Both are None if no turn
        has a quality; turns without one count as unknown.
      predicted_saving: Predicted 1 - sum(T) / sum(T_0), a model's number, not a measurement.

    Example:
      >>> ShadowBounds(10, 0.5, 0.4, 0.9, 0.2).agreement
      0.5
    """

    turns: int
    agreement: float
    quality_low: float | None
    quality_high: float | None
    predicted_saving: float | None


def shadow_bounds(
    agree: np.ndarray,
    quality: np.ndarray,
    predicted: np.ndarray,
    reference: np.ndarray,
) -> ShadowBounds:
    """Bounds without assumptions on the turns whose outcome was not seen.

    Args:
      agree: `[n]`, whether the recommendation is what was executed.
      quality: `[n]` in [0, 1], of what was executed; NaN where none was told.
      predicted: `[n]`, predicted tokens of the recommendation.
      reference: `[n]`, predicted tokens of the reference policy, `T_0`.

    Raises:
      ValueError: If the shapes differ or a quality is outside of [0, 1].

    Source: Manski, American Economic Review 80(2), 1990.

    Example:
      >>> told = np.array([1.0, 0.0])
      >>> found = shadow_bounds(np.array([True, False]), told, np.full(2, 30.0), np.full(2, 40.0))
      >>> found.quality_low, found.quality_high, found.predicted_saving
      (0.5, 1.0, 0.25)
    """
    same, q = np.asarray(agree, bool), np.asarray(quality, float)
    used, base = np.asarray(predicted, float), np.asarray(reference, float)
    check_same_shape("[n]", agree=same, quality=q, predicted=used, reference=base)
    told = np.isfinite(q)
    check_all_within("quality", q[told], "[0, 1]")
    if not same.size:
        return ShadowBounds(0, float("nan"), None, None, None)
    known = same & told
    sure = float(np.where(known, np.nan_to_num(q), 0.0).mean())
    return ShadowBounds(
        turns=same.size,
        agreement=float(same.mean()),
        quality_low=sure if told.any() else None,
        quality_high=sure + float((~known).mean()) if told.any() else None,
        predicted_saving=float(1 - used.sum() / base.sum()) if base.sum() > 0 else None,
    )
