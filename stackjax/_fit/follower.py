"""Learning a follower from its play."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._checks import Solver, as_start, follower_settings
from stackjax._fit.rows import as_batch, mean_of
from stackjax._fit.training import Callback, History, Options, Score, train
from stackjax._game import Game
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
    checkpoint: str | Path | None = None,
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
      callback: called as `callback(step, module, history)` about twenty times in the fit, with
        what there is by then.
      checkpoint: a folder for the fit's state (module, optimiser, followers' answers, history),
        written about twenty times. If it holds the state of this very fit, the fit goes on from
        there, and ends with the same numbers, bit for bit, as if it had not been interrupted.

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
    observations = as_batch(observations, "observations")
    game = Game(unused, unused, response_set=response_set)
    warm = as_start(observations.response, "observations.response")
    response = jax.tree.map(lambda y: y[0], warm)
    options = Options.checked(module, "module", key, steps, batch_size, optimizer)
    settings = follower_settings(solver, game.response_set, "solver", response)
    objective = _Regression(game.response_set, settings)
    return train(
        module, objective, observations, warm, options,
        progress=progress, callback=callback, checkpoint=checkpoint,
    )  # fmt: skip


class _Regression(struct.PyTreeNode):
    """Minus the squared error of the best response."""

    response_set: FeasibleSet
    settings: Solver = struct.field(pytree_node=False)

    def __call__(self, module: PyTree, rows: Observations, starts: PyTree, key: jax.Array) -> Score:
        def one(row: Observations, start: PyTree) -> tuple[jax.Array, jax.Array, PyTree]:
            modelled = Game(unused, module, response_set=self.response_set)
            value, found = respond(modelled, row.action, row.context, start, self.settings)
            errors = jax.tree.map(lambda y, seen: jnp.sum((y - seen) ** 2), value, row.response)
            utility = -jnp.sum(jnp.stack(jax.tree.leaves(errors)))
            return utility, (found.converged > 0) & jnp.isfinite(utility), value

        return mean_of(one, rows, starts)


def unused(action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
    raise AssertionError("a follower's fit asks for no utility but that of the module it fits")
