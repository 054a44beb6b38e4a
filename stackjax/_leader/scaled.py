"""The game in units of its own, as a program for `_leader/mpcc.py`, and the way back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.modules import call
from stackjax._arrays.search_history import SearchHistory, Watch
from stackjax._arrays.typing import PyTree, Vector
from stackjax._follower.multipliers import of_bounds
from stackjax._follower.response import Multipliers
from stackjax._follower.vectors import at_least_float32, filled_bounds, vector_bounds
from stackjax._game import Game, scalar
from stackjax._leader.mpcc import Bilevel
from stackjax._leader.outcome import Outcome
from stackjax.solvers.constrained._scales import scales_at, utility_scale, within

Rows = Callable[[Vector, Vector], Vector]


class Scaled:
    """One context's game on vectors, in the units of `_scales.py`.

    Attributes:
      start: `[a]` the leader's starting point.
      begin: `[r]` the follower's.
      response_bounds: `[r]` each, -inf and inf where there is none.
      gains: scalar, by which the leader's utility is multiplied.
    """

    def __init__(self, game: Game, action: PyTree, response: PyTree, context: PyTree) -> None:
        start, unravel = ravel_pytree(at_least_float32(action))
        begin, unravel_response = ravel_pytree(at_least_float32(response))
        dtype = jnp.promote_types(start.dtype, begin.dtype)
        start, begin = start.astype(dtype), begin.astype(dtype)
        number = lambda value, name: scalar(value, name).astype(dtype)

        lower, upper = filled_bounds(game.action_set, unravel(start))
        own = [
            None if side is None else side.astype(dtype)
            for side in vector_bounds(game.response_set, unravel_response(begin))
        ]
        size = len(start)

        def parts_of(z: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
            a, r = z[:size].astype(start.dtype), z[size:].astype(begin.dtype)
            return unravel(a), unravel_response(r), context

        def residuals(feasible: Any, z: jax.Array, of_action: bool) -> tuple[jax.Array, jax.Array]:
            action, response, x = parts_of(z)
            g, h = feasible.residuals(action if of_action else response, action, response, x)
            return g.astype(dtype), h.astype(dtype)

        def utility(name: str) -> Any:
            return lambda z: number(call(getattr(game, name), name, *parts_of(z)), name)

        def everything(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            (g, h), (k, e) = (
                residuals(game.response_set, z, False),
                residuals(game.action_set, z, True),
            )
            return utility("follower_utility")(z), jnp.concatenate([h, e]), jnp.concatenate([g, k])

        # The search is in units of its own: see _scales.py.
        z = jnp.concatenate([start, begin])
        filled = [
            side.astype(dtype) for side in filled_bounds(game.response_set, unravel_response(begin))
        ]
        low, high = jnp.concatenate([lower, filled[0]]), jnp.concatenate([upper, filled[1]])
        scales = lax.stop_gradient(scales_at(everything, z, low, high))
        at = within(jnp.clip(z, low, high), low, high, scales.variables)
        # The leader gains little in a unit, so that the follower's optimality comes first.
        gains = utility_scale(utility("leader_utility"), at, scales.variables)
        leads = lax.stop_gradient(gains / 8)
        g, h = jax.eval_shape(lambda z: residuals(game.response_set, z, False), z)
        m, p = g.shape[0], h.shape[0]
        joined = lambda a, r: jnp.concatenate([a, r]) * scales.variables

        def follower_residuals(a: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
            g, h = residuals(game.response_set, joined(a, r), False)
            return g * scales.inequality[:m], h * scales.equality[:p]

        def leader_residuals(a: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
            g, h = residuals(game.action_set, joined(a, r), True)
            return g * scales.inequality[m:], h * scales.equality[p:]

        action_unit, response_unit = scales.variables[:size], scales.variables[size:]
        scaled = lambda side: None if side is None else side / response_unit
        self.start, self.begin = start / action_unit, begin / response_unit
        self.response_bounds = filled[0] / response_unit, filled[1] / response_unit
        self._leader = lambda a, r: utility("leader_utility")(joined(a, r)) * leads
        self._follower = lambda a, r: utility("follower_utility")(joined(a, r)) * scales.value
        self._residuals = leader_residuals, follower_residuals
        self._action_bounds = lower.astype(dtype) / action_unit, upper.astype(dtype) / action_unit
        self._response_bounds = scaled(own[0]), scaled(own[1])
        self._ends, self._unravel, self._parts_of = (low, high), unravel, parts_of
        self._scales, self.gains, self._own_rows = scales, leads, (m, p)
        self._open = game.action_set.open_sides == (True, True)

    def program(
        self, rows: Rows | None = None, used: Vector | None = None, margin: Rows | None = None
    ) -> Bilevel:
        """The program, with more inequalities of the leader's: `rows(a, r) <= 0`, see `Bilevel`."""
        leader_residuals, follower_residuals = self._residuals
        example = self.start, self.begin

        def own(a: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
            k, e = leader_residuals(a, r)
            return (k if rows is None else jnp.concatenate([k, rows(a, r)])), e

        return Bilevel(
            self._leader, self._follower, own, follower_residuals,
            self._action_bounds, self._response_bounds, example, used, margin,
        )  # fmt: skip

    def action(self, scaled: Vector) -> PyTree:
        """An action `[a]` of the program, in the user's units."""
        z = jnp.concatenate([scaled, self.begin]) * self._scales.variables
        return self._parts_of(jnp.clip(z, *self._ends))[0]

    def shown(self, watch: Watch) -> Watch:
        """One who sees the program's actions in the user's units."""
        return dataclasses.replace(watch, unravel=self.action)

    def history(self, seen: SearchHistory | None) -> SearchHistory | None:
        """The same of its history, whose actions stay vectors."""
        if seen is None:
            return None
        return seen.replace(action=seen.action * self._scales.variables[None, : len(self.start)])

    def played(self, program: Bilevel, w: Vector) -> tuple[PyTree, PyTree]:
        """The action and the response of a point `[n + p + k]`, in the user's units."""
        parts = program.split(w)
        z = jnp.concatenate([parts.action, parts.response]) * self._scales.variables
        return self._parts_of(jnp.clip(z, *self._ends))[:2]

    def multipliers(self, program: Bilevel, w: Vector, outcome: Outcome) -> Multipliers:
        """What the leader's own constraints are worth, in the user's units."""
        (m, p), scales, leads = self._own_rows, self._scales, self.gains
        size, rows = len(self.start), scales.inequality[m:]
        e, k = len(scales.equality) - p, len(rows) + program.eased
        sides = jnp.zeros_like(self.start), jnp.zeros_like(self.start)
        if not self._open:
            z, own, prices = jnp.split(w, [len(w) - k - program.equalities, len(w) - k])
            _, pull = jax.vjp(program.evaluate, z)
            slope = program.split(pull((jnp.ones((), w.dtype), own, prices))[0]).action
            at = outcome.point.linearised
            sides = of_bounds(
                -slope, at.at_lower[:size] > 0, at.at_upper[:size] > 0, program.action_bounds
            )
        prices = w[len(w) - k - e : len(w) - program.eased]
        prices = prices * jnp.concatenate([scales.equality[p:], rows]) / leads
        unit = scales.variables[:size]
        lower_price, upper_price = (self._unravel(side / unit / leads) for side in sides)
        return Multipliers(lower_price, upper_price, prices[e:], prices[:e])
