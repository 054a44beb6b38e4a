"""A concave term next to a follower's utility: a unique answer that moves with the slope."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.arguments import check_choice, check_number, check_within, shown
from stackjax._arrays.finite import shield
from stackjax.sets import FeasibleSet, Simplex
from stackjax.solvers._interior_point import InteriorPoint
from stackjax.solvers._solver import Maximum, Problem, Quality, Solver
from stackjax.solvers.smoothed._linear import is_linear


@dataclasses.dataclass(frozen=True)
class Regularised(Solver):
    """The answer of a follower with a strictly concave term added to its utility.

    A linear utility is largest at a vertex, which does not move with the slope. With the term

        -(weight / 2) |r - centre|^2                           (quadratic, in any set)
        -weight sum(r log(r / total))                          (entropic, in a Simplex)

    the answer is unique and continuous, and its derivatives are exact for that follower. The
    quadratic answer, of a linear utility the projection of `centre + slope / weight`, keeps faces:
    where it is at a vertex its derivative is zero. The entropic one, `total softmax(slope /
    weight)`, is inside the simplex, with no zero derivative; it is that of `Perturbed` with Gumbel
    noise, without draws.

    Bias: it is no best response. It costs the follower at least 0 and at most `weight` times the
    range of the term over the set:

    - quadratic: `weight / 2` times the largest minus the smallest squared distance from `centre`,
      at most `weight / 2 * diameter^2` if `centre` is in the set;
    - entropic: `weight total log(k)`, summed over the simplices, of k shares each.

    `Response.converged`, the other measures and the multipliers are of the regularised follower.
    The closed forms, entropic, and quadratic in a Box, a Simplex or a Ball, are those of a linear
    utility; with another one they do not converge: give a `solver`.

    Args:
      weight: of the term, positive. The quadratic one is in units of the slope per unit of
        response, the entropic one in units of the slope.
      kind: "quadratic" or "entropic".
      centre: of the quadratic term, the same number in each coordinate. (For another centre write
        the term into the utility.)
      solver: of the quadratic form; if None, the projection where the set has one, for linear
        utilities, and `InteriorPoint()` in other sets.

    Raises:
      TypeError: `weight` or `centre` is not a Python number, or `solver` not a solver.
      ValueError: `weight` is not positive and finite, `centre` not finite, `kind` none of the two,
        or `solver` or `centre` is given with the entropic form.

    Source: Wilder, Dilkina and Tambe, 'Melding the data-decisions pipeline', AAAI 2019 (quadratic);
    Blondel, Martins and Niculae, Journal of Machine Learning Research 21(35), 2020 (the losses of
    both).

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: r[1], lambda a, r, x: a @ r, response_set=sj.Simplex()
      ... )
      >>> worth, start = jnp.array([1.0, 0.5]), jnp.full(2, 0.5)
      >>> for kind in ("quadratic", "entropic"):
      ...     solver = sj.solvers.Regularised(1.0, kind=kind)
      ...     found = sj.best_response(game, worth, None, response=start, solver=solver)
      ...     print([f"{r:.2f}" for r in found.value], found.converged)
      ['0.75', '0.25'] True
      ['0.62', '0.38'] True
    """

    smoothed: ClassVar[bool] = True

    weight: float
    _: dataclasses.KW_ONLY
    kind: str = "quadratic"
    centre: float = 0.0
    solver: Solver | None = None

    def __post_init__(self) -> None:
        for name, interval in (("weight", "(0, inf)"), ("centre", "(-inf, inf)")):
            check_number(name, getattr(self, name), owner="Regularised: ")
            check_within(name, getattr(self, name), interval, owner="Regularised: ")
        check_choice("kind", self.kind, ("quadratic", "entropic"))
        if self.solver is not None and (
            not isinstance(self.solver, Solver) or self.solver.smoothed
        ):
            raise TypeError(
                "Regularised: `solver` must be stackjax.Newton(...), InteriorPoint(...), "
                f"ProjectedGradient(...), your own or None; got {shown(self.solver)}."
            )
        if self.kind == "entropic" and (self.solver is not None or self.centre != 0):
            raise ValueError(
                "Regularised: `solver` and `centre` are of the quadratic form; the entropic one "
                "has a closed form."
            )

    def refuses(self, feasible: FeasibleSet) -> str | None:
        """Of the quadratic form what its solver refuses, of the entropic one all but a Simplex."""
        if self.kind == "quadratic":
            return None if self.solver is None else self.solver.refuses(feasible)
        own, plain = type(feasible), Simplex
        if issubclass(own, plain) and (own.bounds, own.residuals) == (
            plain.bounds,
            plain.residuals,
        ):
            return None
        return (
            "Regularised(kind='entropic') needs a Simplex for the response set; for a "
            f"{own.__name__} use kind='quadratic'."
        )

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`, of the regularised utility."""
        if self.kind == "entropic":
            return _softmax(problem, start, self.weight)

        def utility(y: jax.Array) -> jax.Array:
            return problem.utility(y) - self.weight / 2 * jnp.sum((y - self.centre) ** 2)

        if self.solver is None and problem.project is not None and problem.held is not None:
            return _projected(problem, start, self.weight, self.centre)._replace(utility=utility)
        solver = InteriorPoint() if self.solver is None else self.solver
        return solver.maximise(problem._replace(utility=utility), start)._replace(utility=utility)


def _projected(problem: Problem, start: jax.Array, weight: float, centre: float) -> Maximum:
    """The quadratic answer in a set with a projection."""
    project, held = problem.project, problem.held
    assert project is not None and held is not None
    read = _read(problem, start)
    value = project(centre + read.slope / weight)
    finite = read.finite & jnp.all(jnp.isfinite(lax.stop_gradient(value)))
    value = jnp.where(finite, value, lax.stop_gradient(start))
    at = held(value, jnp.where(finite, read.slope - weight * (value - centre), 0))
    return Maximum(
        value,
        jnp.where(finite, at.equality, 0),
        jnp.where(finite, at.inequality, 0),
        at.lower & finite,
        at.upper & finite,
        _quality(finite, read.linear(value[None]), at.degeneracy),
    )


class _Read(NamedTuple):
    """A utility at the start: its slope, differentiable, if finite; the check of other points."""

    slope: jax.Array
    finite: jax.Array
    linear: Callable[[jax.Array], jax.Array]


def _read(problem: Problem, start: jax.Array) -> _Read:
    start = lax.stop_gradient(start)
    utility, theta = jax.closure_convert(problem.utility, start)
    plain = lax.stop_gradient(theta)
    slope = jax.grad(utility)(start, *plain)
    finite = jnp.all(jnp.isfinite(slope))
    differentiable = jnp.where(finite, jax.grad(utility)(start, *shield(theta, finite)), 0)

    def linear(points: jax.Array) -> jax.Array:
        return is_linear(lambda y: utility(y, *plain), slope, lax.stop_gradient(points))

    return _Read(differentiable, finite, linear)


def _quality(finite: jax.Array, linear: jax.Array, degeneracy: jax.Array) -> Quality:
    dtype = degeneracy.dtype
    return Quality(
        residual=jnp.where(finite, 0, jnp.inf).astype(dtype),
        steps=jnp.zeros((), dtype),
        converged=(finite & linear).astype(dtype),
        degeneracy=jnp.where(finite, lax.stop_gradient(degeneracy), jnp.inf),
        curvature=finite.astype(dtype),
    )


def _softmax(problem: Problem, start: jax.Array, weight: float) -> Maximum:
    """The entropic answer in a product of simplices, `sum(y) = total` each."""
    start = lax.stop_gradient(start)
    sums, pull = jax.vjp(lambda y: problem.constraints(y)[0], jnp.zeros_like(start))
    count, totals = len(sums), -sums
    numbered = jnp.arange(1, count + 1, dtype=start.dtype)
    at = lax.stop_gradient(jnp.round(pull(numbered)[0])).astype(jnp.int32) - 1

    read = _read(problem, start)
    scaled = read.slope / weight
    top = lax.stop_gradient(jax.ops.segment_max(scaled, at, count))
    risen = jnp.exp(scaled - top[at])
    mass = jax.ops.segment_sum(risen, at, count)
    value = jnp.where(read.finite, totals[at] * risen / mass[at], start)
    price = weight * (jnp.log(mass) + top - 1)
    equal = totals[at] / jax.ops.segment_sum(jnp.ones_like(start), at, count)[at]

    quality = _quality(read.finite, read.linear(jnp.stack([value, equal])), jnp.min(value))
    none = jnp.zeros(len(start), bool)
    return Maximum(value, price, jnp.zeros(0, start.dtype), none, none, quality)
