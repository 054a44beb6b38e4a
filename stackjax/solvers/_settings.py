"""Settings of the solvers: frozen, hashable, checked where they are made."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from stackjax._arrays.reads import first_made

# The most unknowns for which a Hessian is formed by default: of a follower's utility (conjugate
# gradients take half the time at 8, and a tenth at 64, but coordinates in very different units need
# it), and where a product with it is expensive.
SMALL, DENSE = 15, 64


@dataclasses.dataclass(frozen=True)
class Complementarity:
    """The leader's problem with the follower's optimality conditions as constraints.

    For any sets, for followers with several best responses (the leader's favourite is taken) and
    for optima at a kink of the follower's response. An interior-point method, finished by Newton
    steps on the active set it finds.

    Args:
      tol: as in `Newton`; the last Newton step on the active set.
      max_steps: cap on interior-point iterations from one starting point, accepted or not.
      barrier: the first weight of the barrier.

    Raises:
      TypeError: `tol` or `barrier` is not a number, or `max_steps` not an integer.
      ValueError: `tol` or `barrier` is not positive, or `max_steps` is below 1.

    Source: Leyffer, Lopez-Calva and Nocedal, SIAM Journal on Optimization 17, 2006.

    Example:
      >>> sj.games.posted_price().solver  # the buyer is indifferent at the best price
      Complementarity(tol=None, max_steps=150, barrier=0.1)
      >>> sj.Complementarity(barrier=1e-3)  # for a warm start, as `solver` of `solve`
      Complementarity(tol=None, max_steps=150, barrier=0.001)
    """

    tol: float | None = None
    max_steps: int = 150
    barrier: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class FirstOrder:
    """The leader's projected gradient ascent, with any optax optimiser, finished by Newton steps.

    For long actions. The gradient goes through the best response; after each update the action is
    projected onto its set. Where the updates are short, Newton steps without a Hessian finish the
    search and judge its answer, as they do in `Newton` and `ProjectedGradient`.

    Args:
      optimizer: such as `optax.adam(0.01)`; it receives the gradient of minus the utility, 0 where
        that leads out of a bound. If None, `optax.lbfgs()`, a quasi-Newton method with a line
        search.
      tol: as in `Newton`; of the last Newton step.
      max_steps: cap on updates.

    Raises:
      TypeError: `optimizer` is not optax's, `tol` is not a number, or `max_steps` not an integer.
      ValueError: `tol` is not positive, or `max_steps` is below 1.

    Source: Bertsekas, IEEE Transactions on Automatic Control 21(2), 1976 (projected gradients); Liu
    and Nocedal, Mathematical Programming 45, 1989 (limited-memory BFGS).

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> found = sj.solve(
      ...     duopoly.game, action=duopoly.action, response=duopoly.response,
      ...     context=jnp.array(13.0), solver=sj.FirstOrder(),
      ... )
      >>> print(found.action, found.converged)
      6.0 True
    """

    optimizer: optax.GradientTransformation | None = None
    tol: float | None = None
    max_steps: int = 1000

    def __post_init__(self) -> None:
        if self.optimizer is not None:
            if not isinstance(self.optimizer, optax.GradientTransformation):
                raise TypeError(
                    "FirstOrder: `optimizer` must be an optax.GradientTransformation such as "
                    f"optax.adam(0.01), or None; got {self.optimizer!r}."
                )
            object.__setattr__(self, "optimizer", first_made(self.optimizer))
        check_settings(self)


def tolerance(settings: Any, dtype: Any) -> float:
    """The settings' `tol`, or the default of the dtype."""
    return float(jnp.finfo(dtype).eps) ** (2 / 3) if settings.tol is None else settings.tol


def check_settings(settings: Any) -> None:
    name = type(settings).__name__
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.type is int or field.type == "int":
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}: `{field.name}` must be an integer; got {value!r}.")
            if value < 1:
                raise ValueError(f"{name}: `{field.name}` must be at least 1; got {value}.")
        elif field.name == "linear_solve":
            if value is not None and not callable(value):
                raise TypeError(
                    f"{name}: `linear_solve` must be callable as linear_solve(product, b), or "
                    f"None; got {value!r}."
                )
        elif field.type == bool | None:
            if value is not None and not isinstance(value, bool):
                raise TypeError(
                    f"{name}: `{field.name}` must be True, False or None; got {value!r}."
                )
        elif field.type in (float, float | None):
            optional = field.type != float  # noqa: E721
            if not isinstance(value, int | float) and not (optional and value is None):
                allowed = "a Python number or None" if optional else "a Python number"
                raise TypeError(f"{name}: `{field.name}` must be {allowed}; got {value!r}.")
            if value is not None and not value > 0:
                allowed = "positive or None" if optional else "positive"
                raise ValueError(f"{name}: `{field.name}` must be {allowed}; got {value}.")
