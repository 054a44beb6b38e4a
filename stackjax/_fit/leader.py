"""Learning a leader's policy through its follower's best response."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._checks import Solver, as_start, check_game, follower_settings
from stackjax._fit.rows import as_batch, mean_of
from stackjax._fit.training import Callback, History, Options, Score, train
from stackjax._game import Game, evaluate, shield
from stackjax._response import respond

PyTree = Any


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
    checkpoint: str | Path | None = None,
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
      callback: called as `callback(step, policy, history)` about twenty times in the fit, with
        what there is by then.
      checkpoint: a folder for the fit's state (policy, optimiser, followers' answers, history),
        written about twenty times. If it holds the state of this very fit, the fit goes on from
        there, and ends with the same numbers, bit for bit, as if it had not been interrupted.

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
    contexts = as_batch(contexts, "contexts")
    response = as_start(response, "response")
    if not game.action_set.projectable:
        raise TypeError(
            "`game.action_set` must be a Box, Simplex or Ball, onto which the policy's output is "
            f"projected; got a {type(game.action_set).__name__}."
        )
    options = Options.checked(policy, "policy", key, steps, batch_size, optimizer)
    objective = _Stage(game, follower_settings(solver, game.response_set, "solver", response))
    rows = len(jax.tree.leaves(contexts)[0])
    starts = jax.tree.map(lambda y: jnp.broadcast_to(y, (rows, *y.shape)), response)
    return train(
        policy, objective, contexts, starts, options,
        progress=progress, callback=callback, checkpoint=checkpoint,
    )  # fmt: skip


class _Stage(struct.PyTreeNode):
    """The leader's mean utility, one decision a context."""

    game: Game
    settings: Solver = struct.field(pytree_node=False)

    def __call__(self, policy: PyTree, rows: PyTree, starts: PyTree, key: jax.Array) -> Score:
        game = self.game

        def one(row: PyTree, start: PyTree) -> tuple[jax.Array, jax.Array, PyTree]:
            action = act(policy, game, row)
            value, found = respond(game, action, row, start, self.settings)
            utility = evaluate(game.leader_utility, "leader_utility", action, value, row)
            return utility, (found.converged > 0) & jnp.isfinite(utility), value

        return mean_of(one, rows, starts)


def act(policy: PyTree, game: Game, context: PyTree) -> PyTree:
    """The policy's action at a context, projected onto the game's action set."""
    # A policy that is not a number here must not reach the parameters: 0 x NaN is NaN.
    leaves = jax.tree.leaves(jax.lax.stop_gradient(policy(context)))
    valid = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    return game.action_set.project(jax.tree.map(jnp.asarray, shield(policy, valid)(context)))
