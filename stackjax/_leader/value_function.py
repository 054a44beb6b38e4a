"""The leader's utility as a function of its action alone, and Newton's method on it."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.search_history import UNWATCHED, SearchHistory, Watch
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import respond
from stackjax._follower.vectors import at_least_float32, flat
from stackjax._game import Game, evaluate
from stackjax._leader.peaks import highest
from stackjax.solvers._newton import Newton, on_box
from stackjax.solvers._projected_gradient import ProjectedGradient, on_projectable
from stackjax.solvers._settings import FirstOrder
from stackjax.solvers._solver import Quality, Solver

# Gradient steps end where each coordinate moves by less than this part of its size: Newton's, of
# which there are at most so many, are faster from there on.
_SHORT, _FINISH = 1e-3, 50


class Optimum(struct.PyTreeNode):
    """A local optimum of the leader's, with the follower's answer; `action` is differentiable.

    `slope` is that of the leader's utility in its action, zeros where it has no constraints;
    `others` is 1 if other peaks were seen, else 0; `history` is of vectors.
    """

    action: PyTree
    response: PyTree
    slope: PyTree
    leader: Quality
    follower: Quality
    others: jax.Array
    history: SearchHistory | None = None


class Through(struct.PyTreeNode):
    """The leader's utility through the follower's answer.

    `worth` is what a search maximises: an action whose follower has no answer is worth nothing, so
    that the search turns back.
    """

    game: Game
    context: PyTree
    follower: Solver
    nested: bool = struct.field(pytree_node=False, default=False)

    def utility(self, action: PyTree, warm: PyTree) -> tuple[jax.Array, tuple[PyTree, Quality]]:
        """It, and the answer, searched from `warm`, with its report."""
        answer, report = respond(
            self.game, action, self.context, warm, self.follower, nested=self.nested
        )
        value = evaluate(self.game.leader_utility, "leader_utility", action, answer, self.context)
        return value, (answer, report)

    def worth(self, action: PyTree, warm: PyTree) -> tuple[jax.Array, PyTree]:
        """It where the follower's search converged, else -inf; and the answer."""
        value, (answer, report) = self.utility(action, warm)
        dtype = jnp.result_type(*jax.tree.leaves(action))
        return jnp.where(report.converged > 0, value.astype(dtype), -jnp.inf), answer

    def slope(self, action: PyTree, warm: PyTree) -> tuple[PyTree, tuple[PyTree, Quality]]:
        """Its slope in the action, zeros where that is free, and the answer with its report."""
        free = self.game.action_set.only_bounds and self.game.action_set.open_sides == (True, True)
        if free:
            return jax.tree.map(jnp.zeros_like, action), self.utility(action, warm)[1]
        return jax.grad(self.utility, has_aux=True)(action, warm)


def climb(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Newton,
    follower: Solver,
    *,
    widely: bool = False,
    watch: Watch = UNWATCHED,
) -> Optimum:
    """Newton's method from `action`, for a box of actions; pytrees in float32 or float64.

    `widely`: other peaks that are seen from the answer are climbed too. `watch` looks at each step.

    Exact first and second derivatives through the best response, which is solved again, from
    where it was, at every action tried.
    """
    start, unravel = ravel_pytree(at_least_float32(action))
    start_response, unravel_response = ravel_pytree(at_least_float32(response))
    bounds = map(flat, game.action_set.bounds(unravel(start)))
    through = Through(game, context, follower, nested=True)

    def utility(y: jax.Array, warm: jax.Array) -> tuple[jax.Array, jax.Array]:
        gain, answer = through.worth(unravel(y), unravel_response(warm))
        return gain, lax.stop_gradient(flat(answer))

    y, found = on_box(
        utility, start, *bounds, settings=settings, aux=start_response, nested=True,
        around=highest if widely else None, watch=dataclasses.replace(watch, unravel=unravel),
    )  # fmt: skip
    best = unravel(y)
    slope, (answer, report) = through.slope(best, unravel_response(found.aux))
    return Optimum(best, answer, slope, found.quality, report, found.others, found.history)


def ascend(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: FirstOrder,
    follower: Solver,
    watch: Watch = UNWATCHED,
) -> Optimum:
    """As `climb`, from where projected gradient ascent ends, and over a Box, Simplex or Ball.

    Products with the Hessian finish and judge what gradients have found: their own steps are short
    on a plateau as well as at an optimum.
    """
    action, response, steps, history = _gradient_steps(
        game, action, response, context, settings, follower, watch
    )
    if game.action_set.only_bounds:
        newton = Newton(settings.tol, max_steps=_FINISH, dense=False)
        found = climb(game, action, response, context, newton, follower, watch=watch)
    else:
        finish = ProjectedGradient(settings.tol, max_steps=_FINISH)
        found = _finish_on_set(game, action, response, context, finish, follower)
    if history is not None and found.history is not None:
        history = history.followed_by(found.history)
    steps = steps.astype(found.leader.steps.dtype)
    return found.replace(
        leader=found.leader.replace(steps=found.leader.steps + steps), history=history
    )


def _finish_on_set(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: ProjectedGradient,
    follower: Solver,
) -> Optimum:
    """Of a set with a projection; the response is warm-started from `response` throughout."""
    start, unravel = ravel_pytree(at_least_float32(action))
    warm = at_least_float32(response)
    through = Through(game, context, follower, nested=True)
    utility = lambda y: through.worth(unravel(y), warm)[0]
    lower, upper = map(flat, game.action_set.bounds(unravel(start)))
    project = lambda y: flat(game.action_set.project(unravel(y)))
    y, found = on_projectable(utility, project, start, upper - lower, settings=settings)
    best = unravel(y)
    slope, (answer, report) = through.slope(best, warm)
    none = jnp.zeros((), y.dtype)
    return Optimum(best, answer, slope, found.quality, report, none)


def _gradient_steps(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: FirstOrder,
    follower: Solver,
    watch: Watch,
) -> tuple[PyTree, PyTree, jax.Array, SearchHistory | None]:
    """The action and response where the optimiser's steps are short, how many, and of what kind."""
    action, response = at_least_float32(action), at_least_float32(response)
    project = game.action_set.project
    dtype = jnp.result_type(*jax.tree.leaves(action))
    through = Through(game, context, follower)
    low, high = game.action_set.bounds(action)
    optimizer = optax.lbfgs() if settings.optimizer is None else settings.optimizer
    optimizer = optax.with_extra_args_support(optimizer)

    def loss(action: PyTree, warm: PyTree) -> tuple[jax.Array, PyTree]:
        gain, answer = through.worth(action, warm)
        return -gain, answer

    def free(slope: PyTree, action: PyTree) -> PyTree:
        """The slope, 0 where it leads out of a bound: memory of it would bend other directions."""
        stays = lambda s, y, lo, hi: jnp.where((y <= lo) & (s > 0) | (y >= hi) & (s < 0), 0, s)
        return jax.tree.map(stays, slope, action, low, high)

    def body(state: tuple) -> tuple:
        action, response, memory, steps, last, history, _ = state
        (value, answer), slope = jax.value_and_grad(loss, has_aux=True)(action, response)
        slope = free(slope, action)
        updates, memory = optimizer.update(
            slope, memory, action, value=value, grad=slope,
            value_fn=lambda a: loss(project(a), answer)[0],
        )  # fmt: skip
        moved = project(optax.apply_updates(action, updates))
        history = watch.see(history, steps, flat(action), -value, last)
        last = _longest(action, moved, low, high).astype(dtype)
        done = ~jnp.isfinite(value) | (last <= _SHORT)
        # The last, short step is left to Newton's method, which judges an answer by its own.
        moved = jax.tree.map(lambda new, old: jnp.where(done, old, new), moved, action)
        return moved, answer, memory, steps + 1, last, history, done

    begin = project(action)
    number, far = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, dtype)
    vector, unravel = ravel_pytree(begin)
    watch = dataclasses.replace(watch, unravel=unravel)
    table = watch.begin(vector, settings.max_steps)
    state = begin, response, optimizer.init(begin), number, far, table, jnp.zeros((), bool)
    state = lax.while_loop(lambda s: ~s[-1] & (s[3] < settings.max_steps), body, state)
    return lax.stop_gradient((state[0], state[1], state[3], state[5]))


def _longest(old: PyTree, new: PyTree, low: PyTree, high: PyTree) -> jax.Array:
    """The largest step of a coordinate, relative to its size or, if smaller, to its set's."""

    def one(old: jax.Array, new: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        size = jnp.minimum(jnp.maximum(jnp.abs(old), jnp.abs(new)), high - low)
        return jnp.max(jnp.abs(new - old) / jnp.where(size > 0, size, 1))

    return jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(one, old, new, low, high))))
