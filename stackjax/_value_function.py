"""The leader's utility as a function of its action alone, and Newton's method on it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._argmax import on_box
from stackjax._checks import Solver
from stackjax._game import Game, evaluate, scalar
from stackjax._linear import factorise
from stackjax._quality import Quality
from stackjax._response import at_least_float32, flat, respond
from stackjax._settings import DENSE, FirstOrder, Newton
from stackjax._starts import spread

PyTree = Any


class Optimum(struct.PyTreeNode):
    """A local optimum of the leader's, with the follower's answer; `action` is differentiable."""

    action: PyTree
    response: PyTree
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
    answer, report = respond(game, best, context, warm, follower, nested=True)
    return Optimum(best, answer, found.quality, report)


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

    def body(state: tuple) -> tuple:
        action, response, memory, steps, *_ = state
        (value, (answer, _)), slope = jax.value_and_grad(loss, has_aux=True)(action, response)
        downhill = project(jax.tree.map(lambda y, s: y - s, action, slope))
        moves = jax.tree.map(
            lambda y, new: jnp.max(jnp.abs(new - y) / (1 + jnp.abs(y))), action, downhill
        )
        residual = jnp.max(jnp.stack(jax.tree.leaves(moves)))
        finite = jnp.isfinite(value) & jnp.isfinite(residual)
        updates, memory = optimizer.update(
            slope, memory, action, value=value, grad=slope, value_fn=lambda a: loss(a, answer)[0]
        )
        moved = project(optax.apply_updates(action, updates))
        done = (residual <= tol) | ~finite
        keep = lambda new, old: jnp.where(done, old, new)
        return (
            jax.tree.map(keep, moved, action), answer, memory, steps + 1,
            jnp.where(finite, residual, jnp.inf), done, (residual <= tol) & finite,
        )  # fmt: skip

    begin = project(action)
    no = jnp.zeros((), bool)
    state = (begin, response, optimizer.init(begin), jnp.zeros((), jnp.int32),
             jnp.full((), jnp.inf, dtype), no, no)  # fmt: skip
    state = jax.lax.while_loop(lambda s: ~s[5] & (s[3] < settings.max_steps), body, state)
    action, response, _, steps, residual, _, converged = lax.stop_gradient(state)
    answer, report = respond(game, action, context, response, follower)
    blank = jnp.zeros((), dtype)
    quality = Quality(residual, steps.astype(dtype), converged.astype(dtype), blank, blank)
    best, answer = _not_differentiable((action, answer))
    return Optimum(best, answer, quality, report)


_SAMPLES = 32


def seems_concave(game: Game, action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
    """Whether the follower's utility is concave in the response at a sample of plays, in boxes.

    Quasi-random responses, uniform between bounds and around `response` where there are none; half
    of them at `action`, half at actions drawn likewise, where both bounds are finite. Where the
    utility is not a number it is not looked at. Up to 64 coordinates the whole Hessian, above one
    random direction a point. A scalar bool.
    """
    own, unravel_action = ravel_pytree(at_least_float32(action))
    centre, unravel = ravel_pytree(at_least_float32(response))
    low, high = map(flat, game.action_set.bounds(unravel_action(own)))
    lower, upper = map(flat, game.response_set.bounds(unravel(centre)))
    points = spread(_SAMPLES, centre, lower, upper, jnp.zeros_like(centre))
    actions = spread(_SAMPLES, own, low, high, jnp.zeros_like(own))
    moved = (jnp.isfinite(low) & jnp.isfinite(high))[None]
    moved = moved & (jnp.arange(_SAMPLES)[:, None] % 2 == 1)
    actions = jnp.where(moved, actions, own[None])
    size, whole = len(centre), len(centre) <= DENSE
    ones = jnp.ones_like(centre)
    directions = spread(_SAMPLES, 0 * centre, -ones, ones, 0.3 * ones)

    def bends(action: jax.Array, y: jax.Array, direction: jax.Array) -> jax.Array:
        utility = lambda y: game.follower_utility(unravel_action(action), unravel(y), context)
        slope = jax.grad(lambda y: -scalar(utility(y), "follower_utility").astype(y.dtype))
        push = lambda e: jax.jvp(slope, (y,), (e,))[1]
        if whole:
            hessian = jax.vmap(push)(jnp.eye(size, dtype=y.dtype))
        else:
            hessian = jnp.reshape(direction @ push(direction), (1, 1)) / size
        finite = jnp.all(jnp.isfinite(hessian))
        return ~finite | factorise(jnp.where(finite, (hessian + hessian.T) / 2, 0)).semidefinite

    return jnp.all(jax.vmap(bends)(*lax.stop_gradient((actions, points, directions))))
