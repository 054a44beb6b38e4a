"""Learning: a follower from observed play, and a leader's policy through its best response.

Both fits are one jitted scan over optimiser steps, deterministic for a key, and can themselves be
`jax.jit`ted or `jax.vmap`ped (over keys, say) when no progress bar or callback is asked for.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from stackjax._checks import (
    Solver,
    as_start,
    check_game,
    check_key,
    concrete,
    follower_settings,
)
from stackjax._game import Game, evaluate, shield
from stackjax._modules import check_stateless, check_untied, partition
from stackjax._progress import chunks
from stackjax._response import respond
from stackjax._sets import FeasibleSet

PyTree = Any


class Observations(struct.PyTreeNode):
    """Recorded play. Every leaf has the same leading axis, N.

    Attributes:
      context: `[N, ...]` contexts.
      action: `[N, ...]` what the leader committed to.
      response: `[N, ...]` what the follower answered.
    """

    context: PyTree
    action: PyTree
    response: PyTree


class History(struct.PyTreeNode):
    """How a fit went, one entry a step (T steps).

    Attributes:
      utility: `[T]` what was maximised: the leader's mean utility over the minibatch, or minus
        the mean squared error of the follower's predicted response.
      gradient_norm: `[T]` Euclidean norm of the gradient. A step whose gradient is not finite
        changes nothing.
      converged: `[T]` share of the minibatch whose follower converged; the others are left out.
    """

    utility: jax.Array
    gradient_norm: jax.Array
    converged: jax.Array


Callback = Callable[[int, History], None]


def fit_follower(
    module: PyTree,
    observations: Observations,
    *,
    key: jax.Array,
    response_set: FeasibleSet | None = None,
    steps: int = 1000,
    batch_size: int | None = 256,
    optimizer: optax.GradientTransformation | None = None,
    solver: Solver | None = None,
    progress: bool = False,
    callback: Callback | None = None,
) -> tuple[PyTree, History]:
    """Fits a follower's utility to its play: least squares on the best response.

    Minimises `mean_n ||response*(action_n, context_n; module) - response_n||^2`, with the
    gradient through the best response. Only what the best response reveals can be learned: a
    utility is known at most up to scale and to terms without the response.

    Args:
      module: the follower's utility, `(action, response, context) -> scalar`, an `nnx.Module` or
        other callable pytree. `nnx.Param`s are trained (in a pytree without `nnx.Variable`s, all
        floating-point leaves).
      observations: the play, N rows.
      key: for the minibatches.
      response_set: where the follower chose from; the whole space if None.
      steps: optimiser steps.
      batch_size: rows a step, drawn with replacement; all of them, in order, if None or >= N.
      optimizer: any optax optimiser; Adam with a cosine decay from 0.01 if None.
      solver: settings of the best response.
      progress: show a progress bar.
      callback: called as `callback(step, history_so_far)` about twenty times in the fit.

    Returns:
      The fitted module, and the `History`.

    Raises:
      ValueError: no observations, leading axes that differ, values that are not numbers, a module
        with state that is not a parameter, with tied parameters or none, `steps` or `batch_size`
        below 1.
      TypeError: the module is not callable, `key` is not a key, observations are not an
        `Observations`, an option is of the wrong type.

    Source: arXiv 2606.23026, Section 6; the paper imitates with an adversary (eq. 15) instead.
    """
    if not isinstance(observations, Observations):
        raise TypeError(
            f"`observations` must be a stackjax.Observations; got {type(observations).__name__}."
        )
    observations = _as_batch(observations, "observations")
    game = Game(_unused, _unused, response_set=response_set)
    warm = as_start(observations.response, "observations.response")
    response = jax.tree.map(lambda y: y[0], warm)
    options = _Options.checked(
        module, "module", key, steps, batch_size, optimizer, solver, game.response_set, response
    )
    return _fit(_follower_fit, module, game, observations, warm, options, progress, callback)


def fit_leader(
    policy: PyTree,
    game: Game,
    contexts: PyTree,
    *,
    response: PyTree,
    key: jax.Array,
    steps: int = 1000,
    batch_size: int | None = 256,
    optimizer: optax.GradientTransformation | None = None,
    solver: Solver | None = None,
    progress: bool = False,
    callback: Callback | None = None,
) -> tuple[PyTree, History]:
    """Fits a leader's policy through the follower's best response.

    Maximises `mean_n U_L(l_n, response*(l_n, x_n), x_n)` with `l_n = policy(x_n)`, by stochastic
    gradient ascent; the gradient is the total derivative, through the best response. Each
    context's follower is solved from its own last response.

    Args:
      policy: `context -> action`, an `nnx.Module` or other callable pytree, trained as in
        `fit_follower`. Its output is projected onto the game's action set; outside the set that
        has no gradient, so let the policy end in a squashing function.
      game: the game.
      contexts: `[N, ...]` pytree of contexts.
      response: the follower's first starting point, for one context.
      key: for the minibatches.
      steps: optimiser steps.
      batch_size: rows a step, drawn with replacement; all of them, in order, if None or >= N.
      optimizer: any optax optimiser; Adam with a cosine decay from 0.01 if None.
      solver: settings of the best response.
      progress: show a progress bar.
      callback: called as `callback(step, history_so_far)` about twenty times in the fit.

    Returns:
      The fitted policy, and the `History`.

    Raises:
      ValueError: no contexts, leading axes that differ, values that are not numbers, a policy
        with state that is not a parameter, with tied parameters or none, `steps` or `batch_size`
        below 1.
      TypeError: the policy is not callable, `game` is not a Game, `key` is not a key, `response`
        is not floating point, an option is of the wrong type.

    Source: arXiv 2606.23026, eq. (9), (16), stage-wise.
    """
    check_game(game)
    contexts = _as_batch(contexts, "contexts")
    response = as_start(response, "response")
    if not game.action_set.projectable:
        raise TypeError(
            "`game.action_set` must be a Box, Simplex or Ball, onto which the policy's output is "
            f"projected; got a {type(game.action_set).__name__}."
        )
    options = _Options.checked(
        policy, "policy", key, steps, batch_size, optimizer, solver, game.response_set, response
    )
    rows = len(jax.tree.leaves(contexts)[0])
    warm = jax.tree.map(lambda y: jnp.broadcast_to(y, (rows, *y.shape)), response)
    return _fit(_leader_fit, policy, game, contexts, warm, options, progress, callback)


def _follower_fit(
    module: PyTree, game: Game, row: Observations, warm: PyTree, settings: Solver
) -> tuple[jax.Array, jax.Array, PyTree]:
    """One observation: minus its squared error, whether it counts, the response."""
    modelled = Game(_unused, module, response_set=game.response_set)
    value, found = respond(modelled, row.action, row.context, warm, settings)
    errors = jax.tree.map(lambda y, seen: jnp.sum((y - seen) ** 2), value, row.response)
    utility = -jnp.sum(jnp.stack(jax.tree.leaves(errors)))
    return utility, (found.converged > 0) & jnp.isfinite(utility), value


def _leader_fit(
    policy: PyTree, game: Game, row: PyTree, warm: PyTree, settings: Solver
) -> tuple[jax.Array, jax.Array, PyTree]:
    """One context: the leader's utility, whether it counts, the response."""
    # A policy that is not a number here must not reach the parameters: 0 x NaN is NaN.
    leaves = jax.tree.leaves(jax.lax.stop_gradient(policy(row)))
    valid = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    action = game.action_set.project(jax.tree.map(jnp.asarray, shield(policy, valid)(row)))
    value, found = respond(game, action, row, warm, settings)
    utility = evaluate(game.leader_utility, "leader_utility", action, value, row)
    return utility, (found.converged > 0) & jnp.isfinite(utility), value


class _Options(struct.PyTreeNode):
    """What the scan is compiled for, and its key."""

    key: jax.Array
    steps: int = struct.field(pytree_node=False)
    batch_size: int | None = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    settings: Solver = struct.field(pytree_node=False)

    @classmethod
    def checked(
        cls, module: Any, name: str, key: Any, steps: int, batch_size: Any, optimizer: Any,
        solver: Any, response_set: FeasibleSet, response: PyTree,
    ) -> "_Options":  # fmt: skip
        if not callable(module):
            raise TypeError(f"`{name}` must be callable; got {type(module).__name__}.")
        check_stateless(module, name)
        check_untied(module, name)
        if not partition(module)[0]:
            raise ValueError(f"`{name}` has no parameters to train.")
        check_key(key)
        for option, value in (("steps", steps), ("batch_size", batch_size)):
            if value is None and option == "batch_size":
                continue
            if not isinstance(value, int):
                raise TypeError(f"`{option}` must be an integer; got {value!r}.")
            if value < 1:
                raise ValueError(f"`{option}` must be at least 1; got {value}.")
        if not isinstance(optimizer, optax.GradientTransformation | None):
            raise TypeError(
                "`optimizer` must be an optax.GradientTransformation such as optax.adam(0.01), or "
                f"None; got {optimizer!r}."
            )
        return cls(
            key,
            steps,
            batch_size,
            _default_optimizer(steps) if optimizer is None else optimizer,
            follower_settings(solver, response_set, "solver", response),
        )


@lru_cache
def _default_optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))


def _fit(
    objective: Callable,
    module: PyTree,
    game: Game,
    data: PyTree,
    warm: PyTree,
    options: _Options,
    progress: bool,
    callback: Callback | None,
) -> tuple[PyTree, History]:
    state = options.optimizer.init(partition(module)[0])
    carry, histories = (module, state, warm), []
    for first, length in chunks(options.steps, progress, callback is not None):
        carry, history = _steps(objective, carry, game, data, options, first, length)
        histories.append(history)
        if callback is not None:
            so_far = jax.tree.map(lambda *parts: jnp.concatenate(parts), *histories)
            callback(first + length, so_far)
    return carry[0], jax.tree.map(lambda *parts: jnp.concatenate(parts), *histories)


@partial(jax.jit, static_argnums=(0, 6))
def _steps(
    objective: Callable,
    carry: tuple,
    game: Game,
    data: PyTree,
    options: _Options,
    first: int,
    length: int,
) -> tuple[tuple, History]:
    rows = len(jax.tree.leaves(data)[0])
    size = rows if options.batch_size is None else min(options.batch_size, rows)

    def step(carry: tuple, number: jax.Array) -> tuple[tuple, History]:
        module, state, warm = carry
        arrays, combine = partition(module)
        index = jnp.arange(rows)
        if size < rows:
            index = jax.random.randint(jax.random.fold_in(options.key, number), (size,), 0, rows)
        batch, starts = jax.tree.map(lambda x: x[index], (data, warm))

        def loss(arrays: list[jax.Array]) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
            def one(row: PyTree, start: PyTree) -> tuple[jax.Array, jax.Array, PyTree]:
                module = combine(arrays)
                utility, counts, response = objective(module, game, row, start, options.settings)
                # A failed follower begins again where it began, not where it got lost.
                kept = lambda new, old: jnp.where(counts, new, old)
                return utility, counts, jax.tree.map(kept, response, start)

            utility, counts, response = jax.vmap(one)(batch, starts)
            total = jnp.sum(jnp.where(counts, utility, 0)) / jnp.maximum(jnp.sum(counts), 1)
            return -total, (jnp.mean(counts, dtype=total.dtype), response)

        (value, (share, response)), slope = jax.value_and_grad(loss, has_aux=True)(arrays)
        norm = optax.tree.norm(slope)
        # Line-search optimisers want the objective, others ignore it.
        optimizer = optax.with_extra_args_support(options.optimizer)
        extra = {"value": value, "grad": slope, "value_fn": lambda arrays: loss(arrays)[0]}
        updates, new_state = optimizer.update(slope, state, arrays, **extra)
        new = optax.apply_updates(arrays, updates), new_state
        arrays, state = jax.tree.map(
            lambda new, old: jnp.where(jnp.isfinite(norm), new, old), new, (arrays, state)
        )
        warm = jax.tree.map(lambda table, y: table.at[index].set(y), warm, response)
        return (combine(arrays), state, warm), History(-value, norm, share)

    return jax.lax.scan(step, carry, first + jnp.arange(length))


def _as_batch(data: PyTree, name: str) -> PyTree:
    """Arrays with one leading axis in common, all of them numbers."""
    data = jax.tree.map(jnp.asarray, data)
    leaves = jax.tree_util.tree_leaves_with_path(data)
    sizes = {name + jax.tree_util.keystr(path): jnp.shape(leaf)[:1] for path, leaf in leaves}
    if not sizes or (0,) in sizes.values():
        raise ValueError(f"`{name}` is empty: there is nothing to fit.")
    if () in sizes.values() or len(set(sizes.values())) > 1:
        listed = ", ".join(f"{k}: {v[0] if v else 'none'}" for k, v in sizes.items())
        raise ValueError(f"`{name}` must share one leading axis (rows); got {listed}.")
    for path, leaf in leaves if concrete(data) else ():
        inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        if inexact and not (finite := np.isfinite(np.asarray(leaf))).all():
            row = int(np.argwhere(~finite)[0][0])
            raise ValueError(
                f"`{name}{jax.tree_util.keystr(path)}` is not finite, first in row {row}."
            )
    return data


def _unused(action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
    raise AssertionError("a follower's fit asks for no utility but that of the module it fits")
