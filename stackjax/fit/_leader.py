"""Learning a leader's policy through its follower's best response."""

import copy
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import as_start
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import respond
from stackjax._follower.arguments import check_game, check_one_follower, game_settings
from stackjax._game import Game, evaluate
from stackjax.fit._constraints import (
    Average,
    check_averages,
    margins,
    penalty_unit,
    values_of,
)
from stackjax.fit._history import History
from stackjax.fit._horizon import Horizon, act, check_horizon, check_projectable, play
from stackjax.fit._options import Options, Score
from stackjax.fit._robust import (
    Ensemble,
    Follower,
    Suboptimal,
    answer_to,
    check_follower,
    count_members,
    worst_share,
)
from stackjax.fit._rows import as_batch, mean_of
from stackjax.fit._training import Callback, train
from stackjax.solvers._solver import Solver


def fit_leader(
    policy: PyTree,
    game: Game,
    contexts: PyTree,
    *,
    response: PyTree,
    key: jax.Array,
    horizon: Horizon | None = None,
    constraints: Sequence[Average] = (),
    dual_rate: float | None = None,
    follower: Follower | None = None,
    steps: int = 1000,
    batch_size: int | None = 256,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | jax.Array | None = None,
    solver: Solver | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    every: int | None = None,
    checkpoint: str | Path | None = None,
) -> tuple[PyTree, History]:
    """Fits a leader's policy through the follower's best response.

    Maximises `mean_n U_L(l_n, response*(l_n, x_n), x_n)` with `l_n = policy(x_n)`, by stochastic
    gradient ascent; the gradient is the total derivative, through the best response. Each
    context's follower is solved from its own last response.

    With a `horizon` the mean is over sessions, of the discounted sum over their turns; a session
    with a follower that failed at any turn is left out and counted.

    With `constraints` the policy must keep bounds on averages of the play, over the same contexts,
    and over all turns of a horizon, undiscounted. Their multipliers are raised while a bound is
    broken and lowered while there is room, at every step, beside a quadratic penalty that damps
    their swings; both are over the minibatch, whose noise a small `batch_size` lets in. At the end
    `History.multipliers` says what the leader's utility would gain for each unit of a bound. (A
    penalty at a price of your own needs none of this: write it into the leader's utility.)

    Args:
      policy: `context -> action`, an `nnx.Module` or other callable pytree, trained as in
        `fit_follower`. Its output is projected onto the game's action set; outside the set that
        has no gradient, so let the policy end in a squashing function.
      game: the game.
      contexts: `[N, ...]` pytree of contexts; with a `horizon`, of sessions' first states.
      response: the follower's first starting point, for one context.
      key: for the minibatches, and for the sessions' outcomes: one draw for a session at a step.
      horizon: turns of a session, see `Horizon`; None for one decision in each context.
      constraints: bounds on averages, see `Average`.
      dual_rate: by how much a multiplier moves in a step for a unit by which its bound is broken,
        in units of utility over units of the average squared; the penalty's curvature is
        `max(10, steps / 20)` times it. None takes the curvature from the first step, as the
        spread of the utility over the mean square of what is constrained, less its bound; a
        quarter of it with minibatches. It grows where a bound stays broken.
      follower: what is known of the follower: it answers best if None; `Suboptimal(delta)` for the
        worst of its nearly best responses; `Ensemble(...)` if it is one of several.
      steps: optimiser steps.
      batch_size: rows a step, drawn with replacement; all of them, in order, if None or >= N.
      optimizer: any optax optimiser; Adam with a cosine decay from 0.01 if None.
      learning_rate: what the optimiser's updates are multiplied by, a number or scalar array, so
        that a sweep over it compiles once and can be vmapped. 1 if None; of Adam with the default
        decay, its first rate, 0.01.
      solver: settings of the best response.
      progress: show a progress bar.
      callback: called as `callback(step, policy, history)` with what there is by then.
      every: steps between two calls of `callback`, writes of `checkpoint` or moves of the progress
        bar; a twentieth of `steps` if None.
      checkpoint: a folder for the fit's state (policy, optimiser, followers' answers, history),
        written now and then. If it holds the state of this very fit, the fit goes on from
        there, and ends with the same numbers, bit for bit, as if it had not been interrupted. More
        `steps` may be asked for where nothing else depends on their number: with an `optimizer`
        whose rate does not, no constraints and no validation rows.

    Returns:
      The fitted policy, and the `History`, whose `status` says how the fit ended.

    Raises:
      ValueError: no contexts, leading axes that differ, values that are not numbers, a policy
        with state that is not a parameter, with tied parameters or none, `steps` or `batch_size`
        below 1, `dual_rate` not positive, an Ensemble without members.
      TypeError: the policy is not callable, `game` is not a Game, `key` is not a key, `response`
        is not floating point, the horizon's functions do not fit together, an option is of the
        wrong type.

    Source: arXiv 2606.23026, eq. (9), (16).

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> policy = jax.tree_util.Partial(lambda w, demand: w * (demand - 1), jnp.array(0.2))
      >>> demands = jnp.array([9.0, 13.0])
      >>> policy, history = sj.fit_leader(
      ...     policy, duopoly.game, demands, response=duopoly.response, steps=200,
      ...     key=jax.random.key(0),
      ... )
      >>> print(f"{policy.args[0]:.2f} {history.converged[-1]:.0%}")  # sells (demand - 1) / 2
      0.50 100%
    """
    check_game(game)
    contexts = as_batch(contexts, "contexts")
    response = as_start(response, "response")
    check_projectable(game)
    averages = check_averages(constraints, dual_rate)
    check_follower(follower)
    if follower is not None:
        check_one_follower(game, "fit_leader(follower=...)")
    options = Options.checked(
        policy, "policy", key, steps, batch_size, optimizer, learning_rate, dual_rate, len(averages)
    )
    settings = game_settings(solver, game, "solver", response)
    count = len(jax.tree.leaves(contexts)[0])
    plain = horizon is None and not averages and follower is None
    if plain:
        objective, rows, lead = _Stage(game, settings), contexts, (count,)
    else:
        members = (count_members(game),) if isinstance(follower, Ensemble) else ()
        objective = _Leadership(game, horizon, averages, follower, settings)
        rows, lead = (jnp.arange(count), contexts), (count, *members)
        if horizon is not None:
            first = jax.tree.map(lambda x: x[0], contexts)
            check_horizon(horizon, policy, game, first, response)
    starts = jax.tree.map(lambda y: jnp.broadcast_to(y, (*lead, *y.shape)), response)
    return train(
        policy, objective, rows, starts, options,
        progress=progress, callback=callback, every=every, checkpoint=checkpoint,
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


class _Leadership(struct.PyTreeNode):
    """The same over a horizon, under constraints, or against a follower known only roughly."""

    game: Game
    horizon: Horizon | None
    averages: tuple[Average, ...]
    follower: Follower | None
    settings: Solver = struct.field(pytree_node=False)

    def __call__(self, policy: PyTree, rows: PyTree, starts: PyTree, key: jax.Array) -> Score:
        members = isinstance(self.follower, Ensemble)
        each = self.follower.each if isinstance(self.follower, Ensemble) else self.follower

        def one(row: PyTree, start: PyTree) -> PyTree:
            number, context = row
            # Luck belongs to the row: the same whatever the policy, the minibatch, the member.
            luck = jax.random.fold_in(key, number)
            alone = lambda game, start: self._one(policy, game, each, context, start, luck)
            if not members:
                return alone(self.game, start)
            return jax.vmap(lambda utility, start: alone(_with(self.game, utility), start))(
                self.game.follower_utility, start
            )

        found = jax.vmap(one)(rows, starts)
        if not members:  # an ensemble of one
            found = jax.tree.map(lambda x: x[:, None], found)
        tail = self.follower.tail if isinstance(self.follower, Ensemble) else 1.0
        utility, values, counts, nearby = found
        score = _score(utility, values, counts, self.averages, tail)
        responses = nearby if members else jax.tree.map(lambda x: x[:, 0], nearby)
        return score.replace(starts=jax.lax.stop_gradient(responses))

    def _one(
        self,
        policy: PyTree,
        game: Game,
        follower: Suboptimal | None,
        context: PyTree,
        start: PyTree,
        key: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array, PyTree]:
        """Utility, what is constrained `[k]`, whether the row counts, and its next start."""
        if self.horizon is not None:
            played = play(
                policy, game, self.horizon, context, start, key, follower, self.averages,
                self.settings,
            )  # fmt: skip
            whole = played.trajectory
            return whole.value, played.averages, jnp.all(whole.converged), played.start
        action = act(policy, game, context)
        value, valid, nearby = answer_to(follower, game, action, context, start, self.settings)
        utility = evaluate(game.leader_utility, "leader_utility", action, value, context)
        values = values_of(self.averages, action, value, context, utility.dtype)
        counts = valid & jnp.isfinite(utility) & jnp.all(jnp.isfinite(values))
        keep = lambda new, old: jnp.where(counts, new, old)
        return utility, values, counts, jax.tree.map(keep, nearby, start)


def _with(game: Game, follower_utility: PyTree) -> Game:
    """The game with another follower."""
    game = copy.copy(game)
    game.follower_utility = follower_utility
    return game


def _score(
    utility: jax.Array,
    values: jax.Array,
    counts: jax.Array,
    averages: tuple[Average, ...],
    tail: float,
) -> Score:
    """Means over the rows that count, then over the worst members.

    Args:
      utility: `[N, M]`.
      values: `[N, M, k]`.
      counts: `[N, M]` bool.
      averages: the k constraints.
      tail: share of the members.
    """
    number = jnp.sum(counts, axis=0)
    mean = lambda x, counts: (
        jnp.sum(jnp.where(counts, x, 0), axis=0) / jnp.maximum(jnp.sum(counts, axis=0), 1)
    )
    present, each = number > 0, mean(utility, counts)
    kept = jax.vmap(lambda row: margins(averages, row))(mean(values, counts[..., None]))
    worst = lambda x: worst_share(x, present, tail)
    return Score(
        utility=worst(each),
        converged=jnp.mean(counts, dtype=utility.dtype),
        starts=None,
        constraints=jax.vmap(worst, in_axes=1)(kept) if averages else jnp.zeros(0, utility.dtype),
        units=penalty_unit(utility, values, counts, averages) if averages else None,
    )
