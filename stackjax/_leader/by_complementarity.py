"""`Complementarity`: the game in units of its own, as one program for `_leader/mpcc.py`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.modules import call
from stackjax._arrays.search_history import Watch
from stackjax._arrays.starts import shift
from stackjax._arrays.typing import PyTree
from stackjax._follower.multipliers import of_bounds
from stackjax._follower.response import Multipliers
from stackjax._follower.vectors import at_least_float32, filled_bounds, vector_bounds
from stackjax._game import Game, scalar
from stackjax._leader.complementarity import search
from stackjax._leader.mpcc import Bilevel
from stackjax.solvers._settings import Complementarity
from stackjax.solvers.constrained._scales import scales_at, utility_scale, within


def by_complementarity(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Complementarity,
    starts: int,
    key: jax.Array | None,
    watch: Watch,
) -> tuple[PyTree, PyTree, dict[str, Any]]:
    """The action, the response, and what `Solution` reports of them."""
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
    own_g, own_h = jax.eval_shape(lambda z: residuals(game.action_set, z, True), z)
    k, e = own_g.shape[0], own_h.shape[0]
    joined = lambda a, r: jnp.concatenate([a, r]) * scales.variables

    def follower_residuals(a: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        g, h = residuals(game.response_set, joined(a, r), False)
        return g * scales.inequality[:m], h * scales.equality[:p]

    def leader_residuals(a: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        g, h = residuals(game.action_set, joined(a, r), True)
        return g * scales.inequality[m:], h * scales.equality[p:]

    action_unit, response_unit = scales.variables[:size], scales.variables[size:]
    start, begin = start / action_unit, begin / response_unit
    scaled = lambda side: None if side is None else side / response_unit
    program = Bilevel(
        lambda a, r: utility("leader_utility")(joined(a, r)) * leads,
        lambda a, r: utility("follower_utility")(joined(a, r)) * scales.value,
        leader_residuals,
        follower_residuals,
        (lower.astype(dtype) / action_unit, upper.astype(dtype) / action_unit),
        (scaled(own[0]), scaled(own[1])),
        (start, begin),
    )
    w, outcome = search(
        program,
        start,
        begin,
        settings=settings,
        starts=starts,
        rotation=shift(key, jnp.concatenate([start, begin])),
        # in the user's units
        watch=dataclasses.replace(watch, unravel=lambda a: unravel(a * action_unit)),
        unit=leads,
    )
    path = outcome.history
    if path is not None:
        path = path.replace(action=path.action * action_unit[None])
    parts = program.split(w)
    best, best_answer, _ = parts_of(
        jnp.concatenate(
            [
                jnp.clip(parts.action * action_unit, lower, upper),
                jnp.clip(parts.response * response_unit, *filled),
            ]
        )
    )
    open_sides = game.action_set.open_sides
    sides = jnp.zeros_like(start), jnp.zeros_like(start)
    if open_sides != (True, True):
        z, own, rows = jnp.split(w, [len(w) - k - program.equalities, len(w) - k])
        _, pull = jax.vjp(program.evaluate, z)
        slope = program.split(pull((jnp.ones((), dtype), own, rows))[0]).action
        at = outcome.point.linearised
        sides = of_bounds(
            -slope, at.at_lower[:size] > 0, at.at_upper[:size] > 0, program.action_bounds
        )
    prices = w[len(w) - k - e :] * jnp.concatenate([scales.equality[p:], scales.inequality[m:]])
    prices = prices / leads
    lower_price, upper_price = (unravel(side / action_unit / leads) for side in sides)
    report = {
        "multipliers": Multipliers(lower_price, upper_price, prices[e:], prices[:e]),
        "settled": outcome.settled > 0,
        "converged": outcome.converged > 0,
        "residual": outcome.point.length,
        "regret": outcome.regret,
        "steps": outcome.steps.astype(jnp.int32),
        "other_peaks": outcome.others > 0,
        "agreeing_starts": outcome.agreeing_starts.astype(jnp.int32),
        "local": outcome.local > 0,
        "unique": outcome.unique > 0,
        "history": path,
    }
    return best, best_answer, report
