"""One game in one context as functions of vectors: `a [m]` the action, `r [n]` the response."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from stackjax._arrays.typing import PyTree, Vector
from stackjax._follower.best_response import best_response
from stackjax._follower.response import Response
from stackjax._follower.vectors import at_least_float32, flat
from stackjax._game import Game, evaluate, scalar
from stackjax.solvers._optimality import row_sizes
from stackjax.solvers._solver import Solver
from stackjax.solvers.constrained._scales import scales_at, utility_scale


class Thresholds:
    """What counts as small, for a dtype; in float64 and float32:

    Attributes:
      exact: 1.5e-8, 3.5e-4: violations, distances, regret, curvatures.
      gain: 4.1e-10, 7.0e-5: what the leader may miss.
      gradient: 1.2e-4, 1.9e-2: the relative error of a central difference.
      step: 6.1e-6, 4.9e-3: the relative step of one, and how near a kink it must not be.
    """

    def __init__(self, dtype: Any) -> None:
        eps = float(jnp.finfo(dtype).eps)
        self.exact, self.gain = eps**0.5, eps**0.6
        self.gradient, self.step = eps**0.25, eps ** (1 / 3)


class Play:
    """The game's functions, in float32 or float64.

    Args:
      game: the game.
      action: the leader's action, also `.action` as a vector.
      response: the follower's response, also `.response`.
      context: the context.
      solver: the follower's settings.
    """

    def __init__(
        self, game: Game, action: PyTree, response: PyTree, context: PyTree, solver: Solver
    ) -> None:
        action, response = at_least_float32(action), at_least_float32(response)
        self.game, self.context, self.solver = game, context, solver
        self.action, self._unravel_action = ravel_pytree(action)
        self.response, self._unravel_response = ravel_pytree(response)
        self.action_bounds = _vectors(game.action_set.bounds(action))
        self.response_bounds = _vectors(game.response_set.bounds(response))
        low, high = (
            jnp.concatenate([a, r]) for a, r in zip(self.action_bounds, self.response_bounds)
        )
        joint = jnp.concatenate([self.action, self.response])
        scales = scales_at(self._parts, joint, low, high)
        leads = lambda z: self._number("leader_utility", z)
        m = len(self.action)
        self.action_unit, self.response_unit = (
            unit_of(y, *bounds, unit)
            for y, bounds, unit in zip(
                (self.action, self.response),
                (self.action_bounds, self.response_bounds),
                (scales.variables[:m], scales.variables[m:]),
            )
        )
        # By what utilities are multiplied to change by about one where variables do by a unit.
        unit = jnp.concatenate([self.action_unit, self.response_unit])
        follows = lambda z: self._number("follower_utility", z)
        self.per_leader = utility_scale(leads, joint, unit)
        self.per_follower = utility_scale(follows, joint, unit)
        dtypes = self.action.dtype, self.response.dtype
        self.dtype = max(dtypes, key=lambda dtype: float(jnp.finfo(dtype).eps))  # the coarser
        self.limits = Thresholds(self.dtype)

    def _pytrees(self, a: Vector, r: Vector) -> tuple[PyTree, PyTree, PyTree]:
        return self._unravel_action(a), self._unravel_response(r), self.context

    def _number(self, name: str, z: Vector) -> Vector:
        m = len(self.action)
        a, r = z[:m].astype(self.action.dtype), z[m:].astype(self.response.dtype)
        return scalar(getattr(self.game, name)(*self._pytrees(a, r)), name).astype(z.dtype)

    def _parts(self, z: Vector) -> tuple[Vector, Vector, Vector]:
        """The follower's utility and all constraints, of both variables."""
        m = len(self.action)
        a, r = z[:m].astype(self.action.dtype), z[m:].astype(self.response.dtype)
        (g, h), (k, e) = self.response_residuals(a, r), self.action_residuals(a, r)
        join = lambda *parts: jnp.concatenate([part.astype(z.dtype) for part in parts])
        return self._number("follower_utility", z), join(h, e), join(g, k)

    def leader(self, a: Vector, r: Vector) -> Vector:
        """U_L; -inf where it is not finite."""
        return evaluate(self.game.leader_utility, "leader_utility", *self._pytrees(a, r))

    def follower(self, a: Vector, r: Vector) -> Vector:
        """U_F; -inf where it is not finite."""
        return evaluate(self.game.follower_utility, "follower_utility", *self._pytrees(a, r))

    def answer(self, a: Vector, start: Vector) -> tuple[Vector, Response]:
        """The follower's best response found from `start`, `[n]`, and the report."""
        action, response, context = self._pytrees(a, start)
        found = best_response(self.game, action, context, response=response, solver=self.solver)
        return flat(found.value), found

    def action_residuals(self, a: Vector, r: Vector) -> tuple[Vector, Vector]:
        """Those of the action set, to be <= 0 and to be 0."""
        action, response, context = self._pytrees(a, r)
        return self.game.action_set.residuals(action, action, response, context)

    def response_residuals(self, a: Vector, r: Vector) -> tuple[Vector, Vector]:
        """Those of the response set."""
        action, response, context = self._pytrees(a, r)
        return self.game.response_set.residuals(response, action, response, context)

    def action_violation(self, a: Vector, r: Vector) -> Vector:
        """The action set's largest, beside the terms of each constraint."""
        rows = lambda a: jnp.concatenate(self.action_residuals(a, r))
        return _violation(a, self.action_bounds, self.action_residuals(a, r), rows)

    def response_violation(self, a: Vector, r: Vector) -> Vector:
        """The response set's largest, beside the terms of each constraint."""
        rows = lambda r: jnp.concatenate(self.response_residuals(a, r))
        return _violation(r, self.response_bounds, self.response_residuals(a, r), rows)

    def project(self, a: Vector) -> Vector:
        """Onto the action set; where that is not cheap, only onto its bounds."""
        if self.game.action_set.projectable:
            return flat(self.game.action_set.project(self._unravel_action(a)))
        return jnp.clip(a, *self.action_bounds)


def _vectors(bounds: tuple[PyTree, PyTree]) -> tuple[Vector, Vector]:
    lower, upper = bounds
    return flat(lower), flat(upper)


def _violation(
    y: Vector, bounds: tuple[Vector, Vector], residuals: tuple[Vector, Vector], rows: Any
) -> Vector:
    """Of each bound and row, relative to its terms; `inf` where it is not a number."""
    (lower, upper), (inequality, equality) = bounds, residuals
    values = jnp.concatenate([inequality, equality])
    normals = jax.jacrev(rows)(y) if len(values) else jnp.zeros((0, len(y)), y.dtype)
    sizes = row_sizes(jnp.where(jnp.isfinite(normals), normals, 0), values, y)
    over = jnp.concatenate([jnp.maximum(inequality, 0), jnp.abs(equality)])
    over = jnp.where(over > 0, over / jnp.where(sizes > 0, sizes, 1), over)
    side = jnp.maximum(lower - y, y - upper)
    nearest = jnp.maximum(jnp.abs(y), jnp.abs(jnp.clip(y, lower, upper)))
    outside = jnp.where(side > 0, side / jnp.where(nearest > 0, nearest, 1), 0)
    worst = jnp.max(jnp.concatenate([outside, over]), initial=0)
    return jnp.where(jnp.isnan(worst), jnp.inf, worst)


def unit_of(y: Vector, lower: Vector, upper: Vector, natural: Vector) -> Vector:
    """What counts as a length of 1 in each coordinate: `|y|`, or next to 0 what is natural."""
    width = jnp.where(upper > lower, upper - lower, jnp.inf)
    size = jnp.abs(y)
    return jnp.minimum(jnp.where(size > 1e-3 * natural, size, natural), width)


def pressing(report: Response) -> Vector:
    """Which of the follower's constraints have a multiplier, `[k]` bool."""
    prices = report.multipliers
    every = flat((prices.lower, prices.upper, prices.inequality))
    return every > jnp.finfo(every.dtype).eps
