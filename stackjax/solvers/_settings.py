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
class Newton:
    """The projected Newton method: the follower's in a box, the leader's where both sets are.

    Args:
      tol: the largest Newton step at which a point may count as solved, each coordinate relative
        to its distance from the nearest bound, or from 0 if that is nearer; the step must also be
        at most a quarter of the one before. It is still taken, so the error left is of second
        order in it. Default: eps^(2/3) of the dtype, 2.4e-5 in float32 and 3.7e-11
        in float64.
      max_steps: cap on iterations, accepted or not.
      dense: True forms the Hessian and factorises it; False takes truncated conjugate-gradient
        steps from Hessian-vector products, with the memory of a few vectors. None is True for up
        to 15 unknowns of the follower's, and up to 64 of the leader's. Conjugate gradients have no
        more than row norms for a preconditioner: give coordinates units in which they are curved
        alike.

    Raises:
      TypeError: `tol` is not a number, `max_steps` not an integer, or `dense` not a bool.
      ValueError: `tol` is not positive, or `max_steps` is below 1.

    Source: Bertsekas, SIAM Journal on Control and Optimization 20(2), 1982; Steihaug, SIAM Journal
    on Numerical Analysis 20(3), 1983 (the conjugate gradients).

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> start = jnp.array(1.0)
      >>> solver = sj.Newton(tol=1e-6, max_steps=5)
      >>> sj.best_response(duopoly.game, 6.0, 13.0, response=start, solver=solver).value
      Array(3., dtype=float32)
    """

    tol: float | None = None
    max_steps: int = 100
    dense: bool | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclasses.dataclass(frozen=True)
class InteriorPoint:
    """A primal-dual interior-point method, finished by Newton steps on the active set it finds.

    For any set; dense, for a response and constraints of a few dozen numbers. Before it, sequential
    quadratic programming with a dual active-set method is tried, much faster for strictly concave
    utilities; its answer counts where every optimality condition is verified.

    Args:
      tol: as in `Newton`; the last Newton step on the active set.
      max_steps: cap on the iterations, accepted or not, of either search.
      barrier: the interior-point method's first weight of the barrier. Smaller after a warm start.

    Raises:
      TypeError: `tol` or `barrier` is not a number, or `max_steps` not an integer.
      ValueError: `tol` or `barrier` is not positive, or `max_steps` is below 1.

    Source: Waechter and Biegler, Mathematical Programming 106, 2006 (the method); Hintermueller,
    Ito and Kunisch, SIAM Journal on Optimization 13, 2002 (the active set); Goldfarb and Idnani,
    Mathematical Programming 27, 1983 (the dual method).

    Example:
      >>> budget = sj.Polyhedron(jnp.ones((1, 2)), jnp.ones(1))  # r[0] + r[1] <= 1
      >>> game = sj.Game(
      ...     lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2, response_set=budget
      ... )
      >>> push = jnp.array([2.0, 1.0])
      >>> solver = sj.InteriorPoint(max_steps=50)
      >>> found = sj.best_response(game, push, None, response=jnp.zeros(2), solver=solver)
      >>> print(found.value, found.multipliers.inequality)
      [1. 0.] [1.]
    """

    tol: float | None = None
    max_steps: int = 100
    barrier: float = 0.1

    def __post_init__(self) -> None:
        _check(self)


@dataclasses.dataclass(frozen=True)
class ProjectedGradient:
    """Accelerated projected gradients, finished by Newton steps on the face they find.

    For a large response in a Box, a Simplex or a Ball: it needs gradients, Hessian-vector products
    and projections, and the memory of a few vectors. Without a preconditioner, so give the
    response a unit in which its coordinates are curved alike.

    Args:
      tol: as in `Newton`; the last Newton step on the face. Gradient steps go on until such a
        step is that small.
      max_steps: cap on gradient steps, accepted or not.

    Raises:
      TypeError: `tol` is not a number, or `max_steps` not an integer.
      ValueError: `tol` is not positive, or `max_steps` is below 1.

    Source: Beck and Teboulle, SIAM Journal on Imaging Sciences 2(1), 2009; O'Donoghue and Candes,
    Foundations of Computational Mathematics 15, 2015 (the restart).

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2,
      ...     response_set=sj.Ball(radius=1.0),
      ... )
      >>> push, solver = jnp.array([3.0, 4.0]), sj.ProjectedGradient(max_steps=200)
      >>> found = sj.best_response(game, push, None, response=jnp.zeros(2), solver=solver)
      >>> print([f"{r:.2f}" for r in found.value], found.converged)
      ['0.60', '0.80'] True
    """

    tol: float | None = None
    max_steps: int = 5000

    def __post_init__(self) -> None:
        _check(self)


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
        _check(self)


@dataclasses.dataclass(frozen=True)
class FirstOrder:
    """The leader's projected gradient ascent, with any optax optimiser.

    For actions of many coordinates, where Newton's method is too dear. The gradient goes through
    the best response; after each update the action is projected onto its set.

    Args:
      optimizer: such as `optax.adam(0.01)`; it is handed the gradient of minus the utility.
      tol: the projected gradient step `P(l + gradient) - l` at which to stop, each coordinate
        relative to `1 + |l|`. Default: eps^(1/2) of the dtype, 3.5e-4 in float32 and 1.5e-8 in
        float64.
      max_steps: cap on updates.

    Raises:
      TypeError: `optimizer` is not optax's, `tol` is not a number, or `max_steps` not an integer.
      ValueError: `tol` is not positive, or `max_steps` is below 1.

    Source: Bertsekas, IEEE Transactions on Automatic Control 21(2), 1976 (projected gradients).

    Example:
      >>> import optax
      >>> duopoly = sj.games.duopoly()
      >>> found = sj.solve(
      ...     duopoly.game, action=duopoly.action, response=duopoly.response,
      ...     context=jnp.array(13.0), solver=sj.FirstOrder(optax.sgd(0.5)),
      ... )
      >>> print(f"{found.action:.2f} {found.converged}")
      6.00 True
    """

    optimizer: optax.GradientTransformation
    tol: float | None = None
    max_steps: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, optax.GradientTransformation):
            raise TypeError(
                "FirstOrder: `optimizer` must be an optax.GradientTransformation such as "
                f"optax.adam(0.01); got {self.optimizer!r}."
            )
        object.__setattr__(self, "optimizer", first_made(self.optimizer))
        _check(self)


def tolerance(settings: Any, dtype: Any) -> float:
    """The settings' `tol`, or the default of the dtype."""
    return float(jnp.finfo(dtype).eps) ** (2 / 3) if settings.tol is None else settings.tol


def _check(settings: Any) -> None:
    name = type(settings).__name__
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.type is int or field.type == "int":
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}: `{field.name}` must be an integer; got {value!r}.")
            if value < 1:
                raise ValueError(f"{name}: `{field.name}` must be at least 1; got {value}.")
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
