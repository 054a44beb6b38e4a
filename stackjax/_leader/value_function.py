"""The leader's utility as a function of its action alone, and Newton's method on it."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import respond
from stackjax._follower.vectors import at_least_float32, flat
from stackjax._game import Game, evaluate
from stackjax.solvers._newton import Newton, on_box
from stackjax.solvers._settings import FirstOrder
from stackjax.solvers._solver import Quality, Solver


class Optimum(struct.PyTreeNode):
    """A local optimum of the leader's, with the follower's answer; `action` is differentiable.

    `slope` is that of the leader's utility in its action, zeros where it has no constraints.
    """

    action: PyTree
    response: PyTree
    slope: PyTree
    leader: Quality
    follower: Quality


def climb(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Newton,
    follower: Solver,
) -> Optimum:
    """Newton's method from `action`, for a box of actions; pytrees in float32 or float64.

    Exact first and second derivatives through the best response, which is solved again, from
    where it was, at every action tried.
    """
    start, unravel = ravel_pytree(at_least_float32(action))
    start_response, unravel_response = ravel_pytree(at_least_float32(response))
    bounds = map(flat, game.action_set.bounds(unravel(start)))

    def utility(y: jax.Array, warm: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, quality = respond(
            game, unravel(y), context, unravel_response(warm), follower, nested=True
        )
        gain = evaluate(game.leader_utility, "leader_utility", unravel(y), value, context)
        # An action whose follower has no answer is worth nothing: the search turns back.
        gain = jnp.where(quality.converged > 0, gain.astype(y.dtype), -jnp.inf)
        return gain, lax.stop_gradient(flat(value))

    y, found = on_box(utility, start, *bounds, settings=settings, aux=start_response, nested=True)
    best = unravel(y)
    warm = unravel_response(found.aux)
    slope, (answer, report) = _slope(game, best, context, warm, follower, nested=True)
    return Optimum(best, answer, slope, found.quality, report)


def _slope(
    game: Game,
    action: PyTree,
    context: PyTree,
    warm: PyTree,
    follower: Solver,
    *,
    nested: bool = False,
) -> tuple[PyTree, tuple[PyTree, Quality]]:
    """The slope of the leader's utility in its action, and the follower's answer to that."""

    def utility(action: PyTree) -> tuple[jax.Array, tuple[PyTree, Quality]]:
        answer, report = respond(game, action, context, warm, follower, nested=nested)
        value = evaluate(game.leader_utility, "leader_utility", action, answer, context)
        return value, (answer, report)

    if game.action_set.only_bounds and game.action_set.open_sides == (True, True):
        return jax.tree.map(jnp.zeros_like, action), utility(action)[1]
    return jax.grad(utility, has_aux=True)(action)


@jax.custom_jvp
def _not_differentiable(tree: PyTree) -> PyTree:
    return tree


@_not_differentiable.defjvp
def _refuse(primals: tuple, tangents: tuple) -> tuple:
    raise NotImplementedError(
        "The result of FirstOrder(...) cannot be differentiated: it stops short of the optimum. "
        "Use stackjax.Newton() or stackjax.Complementarity()."
    )


def ascend(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: FirstOrder,
    follower: Solver,
) -> Optimum:
    """Projected gradient ascent from `action`; as `climb`, but not differentiable."""
    action, response = at_least_float32(action), at_least_float32(response)
    dtype = jnp.result_type(*jax.tree.leaves(action))
    tol = float(jnp.finfo(dtype).eps) ** 0.5 if settings.tol is None else settings.tol
    project = game.action_set.project
    optimizer = optax.with_extra_args_support(settings.optimizer)

    def loss(action: PyTree, warm: PyTree) -> tuple[jax.Array, tuple[PyTree, Quality]]:
        value, quality = respond(game, action, context, warm, follower)
        gain = evaluate(game.leader_utility, "leader_utility", action, value, context)
        gain = jnp.where(quality.converged > 0, gain, -jnp.inf)
        return -gain.astype(dtype), (value, quality)

    low, high = game.action_set.bounds(action)

    def residual_of(action: PyTree, slope: PyTree, before: tuple[PyTree, PyTree]) -> jax.Array:
        """The way left, from the curvature along the last step: an estimate, no proof."""
        old, old_slope = before
        moved, turned = (jax.tree.map(jnp.subtract, *pair) for pair in
                         ((action, old), (slope, old_slope)))  # fmt: skip
        squared, along = (jnp.asarray(optax.tree.vdot(moved, x)) for x in (moved, turned))
        bent = jnp.where(squared > 0, along / jnp.where(squared > 0, squared, 1), 0)
        rate = 1 / jnp.where(bent > 0, bent, 1)
        ahead = project(jax.tree.map(lambda y, s: y - rate * s, action, slope))

        def one(y: jax.Array, new: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
            size = jnp.minimum(jnp.maximum(jnp.abs(y), jnp.abs(new)), upper - lower)
            return jnp.max(jnp.abs(new - y) / jnp.where(size > 0, size, 1))

        way = jax.tree.leaves(jax.tree.map(one, action, ahead, low, high))
        way = jnp.max(jnp.stack(way)).astype(dtype)
        return jnp.where((bent > 0) | (way == 0), way, jnp.inf)

    def body(state: tuple) -> tuple:
        action, response, memory, steps, _, done, _, before = state
        (value, (answer, _)), slope = jax.value_and_grad(loss, has_aux=True)(action, response)
        residual = residual_of(action, slope, before)
        finite = jnp.isfinite(value)
        updates, memory = optimizer.update(
            slope, memory, action, value=value, grad=slope, value_fn=lambda a: loss(a, answer)[0]
        )
        moved = project(optax.apply_updates(action, updates))
        converged = (residual <= tol) & finite
        done = converged | ~finite
        keep = lambda new, old: jnp.where(done, old, new)
        return (
            jax.tree.map(keep, moved, action), answer, memory, steps + 1,
            jnp.where(finite, residual, jnp.inf), done, converged, (action, slope),
        )  # fmt: skip

    begin = project(action)
    no, zero = jnp.zeros((), bool), jax.tree.map(jnp.zeros_like, begin)
    state = (begin, response, optimizer.init(begin), jnp.zeros((), jnp.int32),
             jnp.full((), jnp.inf, dtype), no, no, (begin, zero))  # fmt: skip
    state = jax.lax.while_loop(lambda s: ~s[5] & (s[3] < settings.max_steps), body, state)
    action, response, _, steps, residual, _, converged, _ = lax.stop_gradient(state)
    slope, (answer, report) = _slope(game, action, context, response, follower)
    blank = jnp.zeros((), dtype)
    quality = Quality(residual, steps.astype(dtype), converged.astype(dtype), blank, blank)
    best, answer, slope = _not_differentiable((action, answer, slope))
    return Optimum(best, answer, slope, quality, report)
