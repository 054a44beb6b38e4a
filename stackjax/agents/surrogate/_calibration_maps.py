"""Calibration maps: what corrects a prediction, one number at a time.

Each is a frozen pytree, called elementwise on predictions, inside of any JAX transformation; its
`fit` takes NumPy arrays on the host.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import optimize, special

from stackjax._arrays.arguments import check_all_within, check_choice, check_same_shape, check_type
from stackjax.agents.game._state import State
from stackjax.agents.game._surfaces import TokenSurface
from stackjax.agents.surrogate._predictors import Surrogate

Kind = Literal["linear", "isotonic", "logistic", "beta"]

_EDGE = 1e-3  # probabilities nearer to 0 or 1 than this have no finite logit that is to be believed


class LinearMap(struct.PyTreeNode):
    """`intercept + slope * x`, with a positive slope: for tokens.

    The only map that keeps a convex token surface convex and linear in its coefficients, so that
    the game can be played on the calibrated surface (`CalibratedSurrogate.for_game`). With a
    negative intercept, predictions below `-intercept / slope` become negative: check the smallest.

    Attributes:
      slope: `[]`, positive. intercept: `[]`, in the units of the outcome.

    Example:
      >>> float(LinearMap(jnp.array(2.0), jnp.array(1.0))(jnp.array(3.0)))
      7.0
    """

    slope: jax.Array
    intercept: jax.Array

    kind: ClassVar[Kind] = "linear"

    def __call__(self, predicted: jax.Array) -> jax.Array:
        """Calibrated values, elementwise."""
        return self.intercept + self.slope * predicted

    @classmethod
    def fit(cls, predicted: np.ndarray, observed: np.ndarray) -> LinearMap:
        """Least squares of `observed: [N]` on `predicted: [N]`; totals are kept.

        Raises:
          ValueError: the slope is not positive.
        """
        centred = predicted - predicted.mean()
        slope = float(centred @ observed / (centred @ centred))
        if not slope > 0:
            raise ValueError(
                "`observed` must rise with `predicted` for a linear map, in every fold; "
                f"got slope {slope:.3g}."
            )
        intercept = observed.mean() - slope * predicted.mean()
        return cls(jnp.asarray(np.asarray(slope)), jnp.asarray(np.asarray(intercept)))


class MonotoneMap(struct.PyTreeNode):
    """The non-decreasing function nearest to the data, linear between its knots.

    For tokens and for quality, for reports and for the simulated environment. Outside of the knots
    it is constant, and it keeps neither convexity nor strict monotonicity: do not put it into the
    utilities of a game.

    Attributes:
      knots: `[M]`, predictions, increasing. values: `[M]`, outcomes, non-decreasing.

    Source: pool adjacent violators, Barlow et al. 1972, 'Statistical inference under order
    restrictions'; as a calibration, Zadrozny and Elkan, KDD 2002.

    Example:
      >>> float(MonotoneMap(jnp.array([0.0, 2.0]), jnp.array([0.0, 1.0]))(jnp.array(1.0)))
      0.5
    """

    knots: jax.Array
    values: jax.Array

    kind: ClassVar[Kind] = "isotonic"

    def __call__(self, predicted: jax.Array) -> jax.Array:
        """Calibrated values, elementwise."""
        return jnp.interp(predicted, self.knots, self.values)

    @classmethod
    def fit(cls, predicted: np.ndarray, observed: np.ndarray) -> MonotoneMap:
        """Isotonic regression of `observed: [N]` on `predicted: [N]`; equal predictions are one."""
        knots, group = np.unique(predicted, return_inverse=True)
        count = np.bincount(group)
        means = np.bincount(group, observed) / count
        values = optimize.isotonic_regression(means, weights=count).x
        # A level run needs its two ends only.
        ends = np.ones(len(knots), bool)
        ends[1:-1] = (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:])
        return cls(jnp.asarray(knots[ends]), jnp.asarray(values[ends]))


class LogOddsMap(struct.PyTreeNode):
    """`sigmoid(intercept + rise log p - fall log(1 - p))`: for probabilities.

    With `rise = fall` it is Platt's logistic map of the log odds, otherwise the beta map. Both are
    increasing; p counts as at least 0.001 and at most 0.999. Not concave where quality is: for
    reports and for the simulated environment.

    Attributes:
      rise: `[]`, non-negative. fall: `[]`, non-negative. intercept: `[]`.
      kind: 'logistic' or 'beta', how it was fitted.

    Source: Platt 1999, 'Probabilistic outputs for support vector machines' (also the targets that
    keep the fit finite when outcomes are separable); Kull, Silva Filho and Flach, AISTATS 2017.

    Example:
      >>> same = LogOddsMap(jnp.array(1.0), jnp.array(1.0), jnp.array(0.0))
      >>> print(same(jnp.array([0.25, 0.9])))
      [0.25 0.9 ]
    """

    rise: jax.Array
    fall: jax.Array
    intercept: jax.Array
    kind: Kind = struct.field(pytree_node=False, default="beta")

    def __call__(self, predicted: jax.Array) -> jax.Array:
        """Calibrated probabilities, elementwise."""
        p = jnp.clip(predicted, _EDGE, 1 - _EDGE)
        return jax.nn.sigmoid(self.intercept + self.rise * jnp.log(p) - self.fall * jnp.log1p(-p))

    @classmethod
    def fit(cls, predicted: np.ndarray, observed: np.ndarray, kind: Kind = "beta") -> LogOddsMap:
        """Maximum likelihood of `observed: [N]` in [0, 1] given `predicted: [N]` in [0, 1]."""
        p = np.clip(predicted, _EDGE, 1 - _EDGE)
        right, wrong = observed.sum(), (1 - observed).sum()
        target = observed * (right + 1) / (right + 2) + (1 - observed) / (wrong + 2)
        inputs = np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)], axis=1)
        if kind == "logistic":
            inputs = np.stack([inputs[:, 0] + inputs[:, 1], inputs[:, 2]], axis=1)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            z = inputs @ weights
            value = np.mean(np.logaddexp(0, z) - target * z)
            return float(value), inputs.T @ (special.expit(z) - target) / len(z)

        start = np.r_[np.ones(inputs.shape[1] - 1), 0.0]
        bounds = [(0, None)] * (len(start) - 1) + [(None, None)]
        options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
        found = optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).x
        rise, fall = (found[0], found[0]) if kind == "logistic" else found[:2]
        rise, fall, intercept = (jnp.asarray(np.asarray(x)) for x in (rise, fall, found[-1]))
        return cls(rise, fall, intercept, kind)


CalibrationMap = LinearMap | MonotoneMap | LogOddsMap
"""Any of the maps.

>>> issubclass(sj.agents.surrogate.LinearMap, sj.agents.surrogate.CalibrationMap)
True
"""
"""Any of the maps."""


def fit_map(kind: Kind, predicted: np.ndarray, observed: np.ndarray) -> CalibrationMap:
    """Fit a map of a kind to `predicted: [N]` and `observed: [N]`, both finite.

    Raises:
      ValueError: the kind is unknown, lengths differ, a number is not finite or, for 'logistic' and
        'beta', not in [0, 1], predictions are constant, or as the kind's `fit`.

    Example:
      >>> found = fit_map("linear", np.array([0.0, 1.0]), np.array([1.0, 3.0]))
      >>> print(found.slope, found.intercept)
      2.0 1.0
    """
    check_choice("kind", kind, get_args(Kind))
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    check_same_shape("[N]", predicted=predicted, observed=observed)
    if not len(predicted):
        raise ValueError("`predicted` must have at least 1 turn; got none.")
    interval = "[0, 1]" if kind in ("logistic", "beta") else "(-inf, inf)"
    for name, values in (("predicted", predicted), ("observed", observed)):
        check_all_within(name, values, interval)
    if np.ptp(predicted) == 0:
        raise ValueError(
            f"`predicted` must vary; got {predicted[0]:.4g} for all {len(predicted)} turns."
        )
    if kind == "linear":
        return LinearMap.fit(predicted, observed)
    if kind == "isotonic":
        return MonotoneMap.fit(predicted, observed)
    return LogOddsMap.fit(predicted, observed, kind)


class CalibratedSurrogate(struct.PyTreeNode):
    """A surrogate whose predictions pass through calibration maps.

    Attributes:
      surrogate: the predictors.
      token_map: for tokens; None leaves them as they are.
      quality_map: for quality; None likewise.

    Example:
      >>> raw = known_world.surrogate()
      >>> doubled = CalibratedSurrogate(raw, LinearMap(jnp.array(2.0), jnp.array(0.0)))
      >>> print(*(s.predict(known_world.state(), jnp.ones(3))[1] for s in (raw, doubled)))
      330.0 660.0
    """

    surrogate: Surrogate
    token_map: Any = None
    quality_map: Any = None

    def encode(self, state: State) -> jax.Array:
        """As the surrogate's."""
        return self.surrogate.encode(state)

    def predict(self, state: State, response: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Calibrated probability of a right answer, in [0, 1], and tokens, two scalars."""
        quality, tokens = self.surrogate.predict(state, response)
        if self.quality_map is not None:
            quality = jnp.clip(self.quality_map(quality), 0.0, 1.0)
        return quality, tokens if self.token_map is None else self.token_map(tokens)

    def for_game(self) -> Surrogate:
        """A surrogate with calibrated token surfaces, convex as before, to play a game on.

        Quality stays as it was fitted: a map that is not linear would cost its concavity.

        Raises:
          TypeError: the token map is neither linear nor None.
        """
        if self.token_map is None:
            return self.surrogate
        wanted = "a LinearMap, which keeps surfaces convex, in a game"
        check_type("token_map", self.token_map, LinearMap, wanted)
        return self.surrogate.replace(tokens=_MappedTokens(self.surrogate.tokens, self.token_map))


class _MappedTokens(struct.PyTreeNode):
    """Encoded state -> token surface under a linear map."""

    model: Any
    map: LinearMap

    def __call__(self, features: jax.Array) -> TokenSurface:
        surface = self.model(features)
        if not isinstance(surface, TokenSurface):
            raise TypeError(
                f"`surrogate.tokens` must return a TokenSurface; got {type(surface).__name__}."
            )
        return TokenSurface(
            base=self.map(surface.base),
            slope=self.map.slope * surface.slope,
            curvature=self.map.slope * surface.curvature,
        )
