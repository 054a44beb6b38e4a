"""The leader's utility as a function of its action alone, and Newton's method on it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._argmax import on_box
from stackjax._checks import Solver
from stackjax._game import Game, evaluate, scalar
from stackjax._implicit import detached
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
    answer, report = respond(game, action, context, response, follower)
    blank = jnp.zeros((), dtype)
    quality = Quality(residual, steps.astype(dtype), converged.astype(dtype), blank, blank)
    best, answer = _not_differentiable((action, answer))
    return Optimum(best, answer, quality, report)


_SAMPLES, _PARTS, _SEARCHES = 32, 9, 4


class Shape(NamedTuple):
    """How the follower's utility looks at a sample of plays. Scalars.

    Attributes:
      concave: bool, its Hessian was negative semidefinite wherever it was looked at.
      quasiconcave: bool, on no segment that was looked at did it fall below both ends, and no
        level set that was looked at bends outwards (Arrow and Enthoven, Econometrica 29, 1961).
      regret: how much more than at `response` it is at some other response to `action`, relative
        to its range among them.
    """

    concave: jax.Array
    quasiconcave: jax.Array
    regret: jax.Array


def shape_of(game: Game, action: PyTree, response: PyTree, context: PyTree) -> Shape:
    """How the follower's utility looks as a function of the response, in boxes.

    Quasi-random responses, uniform between bounds and around `response` where there are none; half
    of them at `action`, half at actions drawn likewise, where both bounds are finite. Where the
    utility is not a number it is not looked at. Up to 64 coordinates the whole Hessian, above one
    random direction a point.
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

    def bends(action: jax.Array, y: jax.Array, direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether the utility is concave here, and whether it is along its own level set."""
        utility = lambda y: game.follower_utility(unravel_action(action), unravel(y), context)
        slope = jax.grad(lambda y: -scalar(utility(y), "follower_utility").astype(y.dtype))
        push = lambda e: jax.jvp(slope, (y,), (e,))
        if whole:
            gradients, hessian = jax.vmap(push)(jnp.eye(size, dtype=y.dtype))
            gradient = gradients[0]
        else:
            gradient, product = push(direction)
            squared = jnp.sum(gradient**2)
            share = (direction @ gradient) / jnp.where(squared > 0, squared, 1)
            level = direction - share * gradient
            hessian = jnp.reshape(direction @ product, (1, 1)) / size
        finite = jnp.all(jnp.isfinite(hessian))
        hessian = jnp.where(finite, (hessian + hessian.T) / 2, 0)
        concave = ~finite | factorise(hessian).semidefinite
        if not whole:
            _, product = push(level)
            bent = jnp.reshape(level @ product, (1, 1)) / size
            finite &= jnp.all(jnp.isfinite(bent))
            return concave, ~finite | factorise(jnp.where(finite, bent, 0)).semidefinite
        # Across it the second derivative may have any sign.
        squared = jnp.sum(gradient**2)
        stiff = 1e3 * jnp.max(jnp.abs(hessian)) / jnp.where(squared > 0, squared, 1)
        across = stiff * gradient[:, None] * gradient[None]
        across = jnp.where(jnp.all(jnp.isfinite(across)), across, 0)
        return concave, ~finite | factorise(hessian + across).semidefinite

    actions, points, directions = lax.stop_gradient((actions, points, directions))
    middles = (points + centre[None]) / 2
    concave, level = jax.vmap(bends)(
        jnp.concatenate([actions, jnp.broadcast_to(own, actions.shape)]),
        jnp.concatenate([points, middles]),
        jnp.concatenate([directions, directions]),
    )
    concave, level = jnp.all(concave), jnp.all(level)

    def height(action: jax.Array, y: jax.Array) -> jax.Array:
        value = game.follower_utility(unravel_action(action), unravel(y), context)
        return lax.stop_gradient(scalar(value, "follower_utility").astype(centre.dtype))

    # Segments between the points, and from the answer to each of them.
    ends = jnp.concatenate([jnp.roll(points, 7, axis=0), jnp.broadcast_to(centre, points.shape)])
    begins, both = jnp.concatenate([points, points]), jnp.concatenate([actions, actions])
    parts = jnp.linspace(0, 1, _PARTS, dtype=centre.dtype)
    between = lambda a, b: a[None] * (1 - parts)[:, None] + b[None] * parts[:, None]
    heights = jax.vmap(lambda a, b, e: jax.vmap(lambda y: height(a, y))(between(b, e)))(
        both, begins, ends
    )
    eps = float(jnp.finfo(centre.dtype).eps)
    known = jnp.where(jnp.isfinite(heights), heights, 0)
    noise = 64 * eps * jnp.max(jnp.abs(known), axis=1, keepdims=True)
    lowest = jnp.minimum(heights[:, :1], heights[:, -1:])
    quasi = level & jnp.all(~(heights < lowest - noise) | ~jnp.isfinite(lowest))
    fresh = jax.vmap(lambda y: height(own, y))(points)
    at, valid = height(own, centre), jnp.isfinite(fresh)
    top, bottom = jnp.max(jnp.where(valid, fresh, -jnp.inf)), jnp.min(jnp.where(valid, fresh, at))
    spread_ = jnp.maximum(jnp.maximum(top, at) - bottom, jnp.finfo(centre.dtype).tiny)
    gain = jnp.maximum(top - at - 64 * eps * jnp.abs(at), 0)
    return Shape(concave, quasi, jnp.where(jnp.isfinite(at), gain / spread_, jnp.inf))


def fresh_gain(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Solver,
    needed: jax.Array,
) -> jax.Array:
    """What the follower gains over `response` when it searches afresh, from four other starts.

    Args:
      game: the game.
      action: the leader's.
      response: the follower's.
      context: of the game.
      settings: the follower's solver.
      needed: scalar bool; if not, nothing is searched.

    Returns:
      Scalar, in the utility's units; 0 where rounding could be all of it.
    """
    action, response = at_least_float32(action), at_least_float32(response)
    centre, unravel = ravel_pytree(response)
    lower, upper = map(flat, game.response_set.bounds(response))
    begins = spread(_SEARCHES + 1, centre, lower, upper, jnp.full_like(centre, 0.25))[1:]
    eps = float(jnp.finfo(centre.dtype).eps)

    def height(response: PyTree) -> jax.Array:
        value = evaluate(game.follower_utility, "follower_utility", action, response, context)
        return value.astype(centre.dtype)

    def search(_: tuple) -> tuple[jax.Array, jax.Array]:
        answers, quality = jax.vmap(
            lambda y: respond(game, action, context, unravel(y), settings)
        )(begins)  # fmt: skip
        reached, at = jax.vmap(height)(answers), height(response)
        top = jnp.max(jnp.where(quality.converged > 0, reached, -jnp.inf))
        return jnp.maximum(top - at - 64 * eps * jnp.abs(at), 0), jnp.zeros((), bool)

    # The body of a loop of at most one turn: batches of concave followers do not pay for it.
    nothing = jnp.zeros((), centre.dtype)
    run = lambda _: jax.lax.while_loop(lambda state: state[1], search, (nothing, needed))[0]
    return detached(lambda _: (nothing, run(None)), nothing)[1]
