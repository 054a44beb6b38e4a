"""Real turns of bounded utility, and each policy's value on them: executed, or off-policy.

The value of a policy p is the mean, over episodes, of the episode's mean utility under p: each
episode counts once, however long it is. Episodes are independent, turns within one need not be.
With weights `w = target / propensity`, the surrogate's value `v_p` at a turn's state and its
prediction `q` of the turn that was executed, the estimate of the utility under p at a turn is

    executed      u_p                     the turn was taken under every policy of the class
    weighted      w u                     no predictor
    doubly robust v_p + w (u - q)         unbiased for any predictor that other episodes fixed

All are unbiased if the propensities are right and the log has every action that p plays. Clipped at
c, `min(w, c)` is biased by at most `max |u - q| (1 - E min(w, c))`, as `E w = 1`.

A limit with a confidence level needs a bound of the weights. It cannot be read off the log: an
action too rare to be there has the largest weight. So it is stated, or the weights are clipped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape, check_within


@dataclasses.dataclass(frozen=True)
class RealTurns:
    """What was really earned, and what the surrogate says, for a finite class of P policies.

    Two designs. Without `propensity`, N turns were taken under every policy (in parallel arms, or
    by a factorial design). With it, N turns were taken once, by a randomised policy.

    Attributes:
      utility: `[P, N]` utilities as executed by each policy, or `[N]`, as logged.
      value: `[P, N]` the surrogate's expected utility of each policy. For `[N]` logged utilities:
        at the logged turn's state.
      episode: `[N]` labels, equal for turns of one episode.
      low: the least utility possible, by its definition and not from the data.
      high: the largest.
      propensity: `[N]` probability of the logged action, positive.
      target: `[P, N]` probability of the logged action under each policy.
      predicted: `[N]` the surrogate's prediction for the logged action (doubly robust), made
        without these episodes; None for plain importance weights.
      clip: largest weight, or None.
      least_propensity: the least probability with which the logging policy takes, in any state, an
        action that a policy of the class plays; it bounds the weights. With neither this nor
        `clip` estimates have no limits, and a certificate leaves them unchecked.
      names: of the P policies.
      deployed: row of the policy that is, or is to be, deployed: as played, after repair.
      baseline: row of the policy that it is compared with, or None.
      proposed: `[N]` the surrogate's utility of the deployed policy before repair, or None.
      lipschitz: how much |surrogate value - real value| can change per unit of a continuous
        family's parameter of which the P policies are a net; None for the finite class alone.
      radius: the net's covering radius, in that unit.

    Raises:
      ValueError: shapes that do not match, an empty class or log, a number that is not finite,
        bounds not in order, probabilities that are none, or a row that does not exist. (A utility
        out of its bounds is not refused: the certificate says that they fail.)

    Source: arXiv 2606.23026, Thm 5.4.

    Example:
      >>> turns = sj.certificates.RealTurns(
      ...     utility=np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
      ...     value=np.full((2, 3), 0.5), episode=np.array([0, 0, 1]), low=0.0, high=1.0,
      ... )
      >>> turns.per_episode(turns.estimates).tolist()
      [[0.5, 1.0], [0.0, 1.0]]
    """

    utility: np.ndarray
    value: np.ndarray
    episode: np.ndarray
    low: float
    high: float
    propensity: np.ndarray | None = None
    target: np.ndarray | None = None
    predicted: np.ndarray | None = None
    clip: float | None = None
    least_propensity: float | None = None
    names: Sequence[str] | None = None
    deployed: int = 0
    baseline: int | None = None
    proposed: np.ndarray | None = None
    lipschitz: float | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        for name in ("utility", "value", "propensity", "target", "predicted", "proposed"):
            given = getattr(self, name)
            if given is not None:
                array = np.asarray(given, float)
                check_all_within(name, array, "(-inf, inf)")
                object.__setattr__(self, name, array)
        object.__setattr__(self, "episode", np.asarray(self.episode))
        if self.value.ndim != 2 or 0 in self.value.shape:
            raise ValueError(
                f"`value` must be [P, N], neither empty; got shape {self.value.shape}."
            )
        policies, turns = self.value.shape
        logged = self.propensity is not None
        shapes = {
            "utility": (turns,) if logged else (policies, turns),
            "episode": (turns,),
            "propensity": (turns,),
            "target": (policies, turns),
            "predicted": (turns,),
            "proposed": (turns,),
        }
        for name, shape in shapes.items():
            given = getattr(self, name)
            if given is not None:
                check_shape(name, given, shape)
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"`low` and `high` must be finite and in order; got {self.low} and {self.high}."
            )
        if logged:
            self._check_probabilities()
        elif self.target is not None or self.predicted is not None or self.clip is not None:
            raise ValueError(
                "`propensity` must be given with `target`, `predicted` or `clip`, which are of "
                "logged turns; got None."
            )
        rows = {"deployed": self.deployed, "baseline": self.baseline}
        for name, row in rows.items():
            if row is not None and not 0 <= row < policies:
                raise ValueError(
                    f"`{name}` must be a row of the {policies} policies; got row {row}."
                )
        if self.names is None:
            object.__setattr__(self, "names", tuple(f"policy {p}" for p in range(policies)))
        elif len(self.names) != policies:
            raise ValueError(
                f"`names` must be as many as the {policies} policies; got {len(self.names)}."
            )
        if (self.lipschitz is None) != (self.radius is None):
            raise ValueError("`lipschitz` and `radius` must be given together; got one of them.")
        if min(self.lipschitz or 0.0, self.radius or 0.0) < 0:
            raise ValueError(
                f"`lipschitz` and `radius` must not be negative; got {self.lipschitz} and "
                f"{self.radius}."
            )

    def _check_probabilities(self) -> None:
        propensity, target = self.propensity, self.target
        assert propensity is not None
        if target is None:
            raise ValueError(
                "`target`, every policy's probability of the action, must be given for logged "
                "turns; got None."
            )
        check_all_within("propensity", propensity, "(0, 1]")
        check_all_within("target", target, "[0, 1]")
        if self.clip is not None:
            check_within("clip", self.clip, "(0, inf]")
        least = self.least_propensity
        if least is not None and not 0 < least <= propensity.min() * (1 + 1e-9):
            raise ValueError(
                f"`least_propensity` must be positive and at most the least that is recorded, "
                f"{propensity.min()}; got {least}."
            )

    @property
    def design(self) -> str:
        """'executed', 'weighted' or 'doubly robust'."""
        if self.propensity is None:
            return "executed"
        return "weighted" if self.predicted is None else "doubly robust"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the P policies."""
        return tuple(self.names or ())

    @property
    def width(self) -> float:
        """`high - low`."""
        return self.high - self.low

    @property
    def bounded(self) -> bool:
        """Whether all utilities and the surrogate's values are inside their bounds."""
        every = [self.utility, self.value, self.predicted, self.proposed]
        slack = 1e-5 * self.width
        return all(
            bool(((x >= self.low - slack) & (x <= self.high + slack)).all())
            for x in every
            if x is not None
        )

    @property
    def episodes(self) -> int:
        """E, the number of episodes."""
        return len(np.unique(self.episode))

    @property
    def most_weight(self) -> float:
        """The largest weight that the design allows, 1 for executed policies; inf if not stated."""
        if self.propensity is None:
            return 1.0
        most = math.inf if self.least_propensity is None else 1 / self.least_propensity
        return most if self.clip is None else min(most, self.clip)

    @property
    def limited(self) -> bool:
        """Whether the weights have a bound, so that estimates have limits."""
        return math.isfinite(self.most_weight)

    @property
    def weights(self) -> np.ndarray:
        """`[P, N]`, clipped; ones for executed policies."""
        if self.propensity is None or self.target is None:
            return np.ones(self.value.shape)
        return np.minimum(self.target / self.propensity[None], self.most_weight)

    @property
    def clipped(self) -> bool:
        """Whether clipping changes what the design's largest weight would be."""
        if self.propensity is None or self.clip is None:
            return False
        return self.least_propensity is None or self.clip < 1 / self.least_propensity

    @property
    def estimates(self) -> np.ndarray:
        """`[P, N]`: estimates of the utility under each policy at each turn."""
        if self.propensity is None:
            return self.utility
        if self.predicted is None:
            return self.weights * self.utility[None]
        return self.value + self.weights * (self.utility - self.predicted)[None]

    @property
    def estimate_bounds(self) -> tuple[float, float]:
        """Bounds of one turn's estimate."""
        if self.propensity is None:
            return self.low, self.high
        most = self.most_weight
        if not self.limited:
            return -math.inf, math.inf
        if self.predicted is None:
            return most * min(self.low, 0.0), most * max(self.high, 0.0)
        return self.low - most * self.width, self.high + most * self.width

    @property
    def discrepancy_bounds(self) -> tuple[float, float]:
        """Bounds of one turn's `value - estimate`."""
        if self.design == "doubly robust":  # it is -w (u - q)
            return -self.most_weight * self.width, self.most_weight * self.width
        low, high = self.estimate_bounds
        return self.low - high, self.high - low

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """Bounds of the difference of two policies' estimates at one turn."""
        if self.design == "doubly robust":
            most = self.width * (1 + self.most_weight)
        else:
            low, high = self.estimate_bounds
            most = high - low
        return -most, most

    @property
    def residual_size(self) -> float:
        """What one weight multiplies, at most in size."""
        if self.predicted is None:
            return max(abs(self.low), abs(self.high))
        return self.width

    def per_episode(self, values: np.ndarray) -> np.ndarray:
        """`[..., N]` numbers of turns -> `[..., E]` means, in the order of first appearance."""
        labels, first, index = np.unique(self.episode, return_index=True, return_inverse=True)
        rank = np.empty(len(labels), int)
        rank[np.argsort(first)] = np.arange(len(labels))
        place = rank[index.ravel()]
        counts = np.bincount(place)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        order = np.argsort(place, kind="stable")
        return np.add.reduceat(values[..., order], starts, axis=-1) / counts
