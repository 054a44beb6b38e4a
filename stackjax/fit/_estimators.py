"""How a follower's play is explained: frozen settings, one class for each estimator."""

import dataclasses
from typing import Any

from stackjax._arrays.arguments import check_number, check_type, check_within
from stackjax._arrays.typing import PyTree


@dataclasses.dataclass(frozen=True)
class ResponseRegression:
    """Least squares on the best response, with the gradient through it.

    Minimises the mean of `||response_n - response*(action_n, context_n)||^2`. Right for a follower
    that answers best but for errors of mean zero and of one size in all channels.

    Source: arXiv 2606.23026, Section 6.

    Example:
      >>> pull = jax.tree_util.Partial(lambda w, a, r, x: -((r - w * a) ** 2), jnp.array(1.0))
      >>> seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
      >>> how = {"estimator": sj.fit.ResponseRegression(), "steps": 300, "key": jax.random.key(0)}
      >>> fitted, _ = sj.fit_follower(pull, seen, **how)
      >>> print(f"{fitted.args[0]:.2f}")
      0.50
    """


@dataclasses.dataclass(frozen=True)
class GaussianResponse:
    """Maximum likelihood of a best response with Gaussian errors.

        response_i ~ N(response*_i(action, context), std_i^2), channel by channel

    With learned standard deviations, channels count by how precisely they are followed, whatever
    their units. They are reported in `History.noise`.

    Args:
      std: the standard deviation of all channels; one for each channel is learned if None,
        starting at the spread of the recorded responses.
      censored: recorded responses at a bound of the response set (a Box) stand for all that lie
        beyond: their likelihood is the probability of the tail (Tobit). Right where errors are
        clipped to the box, which biases the regression towards its inside.

    Raises:
      TypeError: `std` is not a number or None, or `censored` not a bool.
      ValueError: `std` is not positive and finite.

    Source: Tobin, Econometrica 26(1), 1958 (the tails).

    Example:
      >>> pull = jax.tree_util.Partial(lambda w, a, r, x: -((r - w * a) ** 2), jnp.array(1.0))
      >>> noisy = 0.5 + jnp.array([0.1, -0.1, 0.1, -0.1])
      >>> seen = sj.Observations(jnp.zeros(4), jnp.ones(4), noisy)
      >>> how = {"estimator": sj.fit.GaussianResponse(), "steps": 1000, "key": jax.random.key(0)}
      >>> fitted, history = sj.fit_follower(pull, seen, **how)
      >>> print(f"{fitted.args[0]:.2f} {history.noise:.2f}")
      0.50 0.10
    """

    std: float | None = None
    censored: bool = False

    def __post_init__(self) -> None:
        _check_positive("std", self.std)
        check_type("censored", self.censored, bool, "True or False")


@dataclasses.dataclass(frozen=True, eq=False)
class GibbsResponse:
    """Maximum likelihood of a quantal response: a better response is a more likely one.

        P(response = g_k | action, context) = exp(U(g_k) / T) / sum_j exp(U(g_j) / T)

    over the points `g_1 .. g_K` of a grid. A recorded response counts as the nearest point (as
    either of two equally near); where some of its numbers are missing, as all the points that are
    nearest in the others. No best response is solved, so the utility may have any shape, and its
    scale is learned too: followers err more where it costs them less. Where the errors do not
    come from indifference (a follower that is sloppy everywhere alike), the fitted utility is
    bent to explain them; use `GaussianResponse` there.

    Args:
      grid: `[K, ...]` the responses that the follower chose from, with the structure of one
        response and a leading axis.
      temperature: T, in units of the utility; learned, from 1 on, if None, and reported in
        `History.noise`. Learn it only for a module that cannot scale its utility itself: utility
        and temperature are known up to a common factor.

    Raises:
      TypeError: `temperature` is not a number or None.
      ValueError: `temperature` is not positive and finite.

    Source: McKelvey and Palfrey, Games and Economic Behavior 10, 1995 (logit responses).

    Example:
      >>> taste = jax.tree_util.Partial(lambda w, a, r, x: w * r, jnp.array(0.0))
      >>> seen = sj.Observations(jnp.zeros(4), jnp.zeros(4), jnp.array([1.0, 1.0, 1.0, 0.0]))
      >>> how = {"estimator": sj.fit.GibbsResponse(jnp.array([0.0, 1.0])), "key": jax.random.key(0)}
      >>> fitted, _ = sj.fit_follower(taste, seen, **how)
      >>> print(f"{fitted.args[0]:.2f}")  # yes three times as often as no: log 3
      1.10
    """

    grid: PyTree
    temperature: float | None = 1.0

    def __post_init__(self) -> None:
        _check_positive("temperature", self.temperature)


@dataclasses.dataclass(frozen=True)
class BehaviourCloning:
    """Least squares on a module `(action, context) -> response`: no utility and no game.

    A baseline. It needs no best response and cannot fail to converge, but nothing says what the
    follower wants: its answers to signals unlike the recorded ones are extrapolated by the
    network's shape, not by a motive, and its regret is unknown. In a game it can play as the
    utility `-||response - module(action, context)||^2`.

    Source: Pomerleau, Neural Computation 3(1), 1991.

    Example:
      >>> rule = jax.tree_util.Partial(lambda w, action, context: w * action, jnp.array(0.0))
      >>> seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
      >>> how = {"estimator": sj.fit.BehaviourCloning(), "steps": 300, "key": jax.random.key(0)}
      >>> fitted, _ = sj.fit_follower(rule, seen, **how)
      >>> print(f"{fitted.args[0]:.2f}")
      0.50
    """


Estimator = ResponseRegression | GaussianResponse | GibbsResponse | BehaviourCloning


def check_estimator(estimator: Any) -> None:
    """Raises TypeError unless `estimator` is one of this module's settings."""
    wanted = (
        "stackjax.fit.ResponseRegression(), stackjax.fit.GaussianResponse(...), "
        "stackjax.fit.GibbsResponse(...) or stackjax.fit.BehaviourCloning()"
    )
    check_type("estimator", estimator, Estimator, wanted)


def _check_positive(name: str, value: Any) -> None:
    if value is None:
        return
    check_number(name, value, otherwise=" or None")
    check_within(name, value, "(0, inf)")
