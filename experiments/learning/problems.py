"""Three contextual games on which leaders' policies are trained and compared.

A policy maps a context to unbounded logits `[a]`, which `Problem.squash` takes into the leader's
box. All trainers start from the same policy, draw from the same contexts and are judged on the same
held-out ones.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import stackjax as sj
from experiments.common.compile import unoptimised
from experiments.govern.__main__ import DATA, split
from stackjax.agents.control._controller import contexts_of
from stackjax.agents.game._networks import Leader
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER, ResourceContext, resource_game
from stackjax.agents.log._log import TurnRecord, latest, read_log
from stackjax.agents.log._turns import Turns, take, turn_arrays
from stackjax.agents.repair._cells import reference_cell, summarise_cells
from stackjax.agents.surrogate._fit import fit_surrogate

PyTree = Any
TRAINING, HELD_OUT = 4096, 1024


@dataclasses.dataclass(frozen=True)
class Problem:
    """One game with its contexts, and what a trainer needs to know of it.

    Attributes:
      name: of the problem.
      game: both utilities, both sets.
      contexts: `[N, ...]`, to train on.
      held_out: `[E, ...]`, to evaluate on; no trainer sees them.
      response: the follower's starting point, for one context.
      policy: `rngs -> policy`, a callable pytree `context -> action`.
      logits: `(policy, context) -> [a]`, the policy's output before `squash`.
      squash: `[a] -> action` inside the leader's box; 0 is its middle.
      features: `context -> [F]`, what the policy's network reads; of order 1.
      answer: `(action, context) -> response`, exact where a formula is known.
      optimum: the largest mean utility of the leader on the held-out contexts.
      source: where `optimum` comes from.
    """

    name: str
    game: sj.Game
    contexts: PyTree
    held_out: PyTree
    response: jax.Array
    policy: Callable[[nnx.Rngs], Any]
    logits: Callable[[Any, PyTree], jax.Array]
    squash: Callable[[jax.Array], jax.Array]
    features: Callable[[PyTree], jax.Array]
    answer: Callable[[PyTree, PyTree], PyTree]
    optimum: float
    source: str

    @property
    def size(self) -> int:
        """N, the number of contexts to train on."""
        return len(jax.tree.leaves(self.contexts)[0])

    def utility(self, action: PyTree, context: PyTree) -> jax.Array:
        """The leader's utility at the follower's best response, without a derivative, `[]`."""
        found = sj.best_response(self.game, action, context, response=self.response)
        value = jax.lax.stop_gradient(found.value)
        return self.game.leader_utility(action, value, context)

    @functools.cached_property
    def _held_out_mean(self) -> Callable[[Callable], jax.Array]:
        return jax.jit(lambda policy: _mean_utility(self, policy))

    def evaluate(self, policies: PyTree) -> np.ndarray:
        """Mean utility on the held-out contexts of a stack of policies `[S, ...]`, `[S]`."""
        count = len(jax.tree.leaves(policies)[0])
        rows = (jax.tree.map(lambda x, i=i: x[i], policies) for i in range(count))
        return np.array([self._held_out_mean(policy) for policy in rows])

    @property
    def middle(self) -> float:
        """Mean utility on the held-out contexts of the constant action in the middle of the box."""
        size = len(self.logits(self.policy(nnx.Rngs(0)), jax.tree.map(_first, self.held_out)))
        constant = lambda context: self.squash(jnp.zeros(size))
        return float(_mean_utility(self, constant))

    @property
    def constant(self) -> float:
        """Mean utility on the held-out contexts of the best action that is the same in all."""
        size = len(self.logits(self.policy(nnx.Rngs(0)), jax.tree.map(_first, self.held_out)))
        value = jax.value_and_grad(lambda z: -_mean_utility(self, lambda _: self.squash(z)))
        adam = optax.adam(0.05)

        def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
            loss, slope = value(carry[0])
            change, state = adam.update(slope, carry[1])
            return (optax.apply_updates(carry[0], change), state), -loss

        def climb(start: jax.Array) -> jax.Array:
            return jnp.max(jax.lax.scan(step, (start, adam.init(start)), length=300)[1])

        # From several places: the utility of a constant action has local maxima.
        starts = 2 * jax.random.normal(jax.random.key(0), (8, size)).at[0].set(0)
        search = jax.jit(lambda starts: jnp.max(jax.lax.map(climb, starts)))
        return float(unoptimised(search.lower(starts))(starts))


class Policy(nnx.Module):
    """Two hidden layers of 32, tanh; the last layer starts small, near the middle of the box.

    Args:
      features: `context -> [inputs]`.
      squash: `[outputs] -> action`.
      inputs: length of the features.
      outputs: length of the action.
      rngs: initialisation.
    """

    def __init__(
        self, features: Callable, squash: Callable, inputs: int, outputs: int, rngs: nnx.Rngs
    ) -> None:
        self.features, self.squash = features, squash
        self.first, self.second = nnx.Linear(inputs, 32, rngs=rngs), nnx.Linear(32, 32, rngs=rngs)
        small = nnx.initializers.normal(0.01)
        self.last = nnx.Linear(32, outputs, kernel_init=small, rngs=rngs)

    def logits(self, context: PyTree) -> jax.Array:
        hidden = jnp.tanh(self.first(self.features(context)))
        return self.last(jnp.tanh(self.second(hidden)))

    def __call__(self, context: PyTree) -> PyTree:
        return self.squash(self.logits(context))


def toll_road() -> Problem:
    """One price for a follower who is often at a bound.

    The toll's box [0, 4.5] is that of all tolls at which somebody, somewhere, still takes the road.
    In its middle about half of the tolled roads are empty, where the utility is flat.
    """
    return _closed_form("toll road", sj.games.toll(), np.zeros(1), np.full(1, 4.5))


def quadratic() -> Problem:
    """Four coupled coordinates for a follower in four, which is never at a bound."""
    sizes = {"action_size": 4, "response_size": 4, "context_size": 4}
    exact = sj.games.quadratic(jax.random.key(0), **sizes)
    return _closed_form("quadratic", exact, np.full(4, -4.0), np.full(4, 4.0))


def resource(*, surrogate_steps: int = 800, starts: int = 8) -> Problem:
    """The resource game on predictors fitted to the recorded turns, with the rational follower.

    Trained on the fitting turns and evaluated on the states of the held-out episodes, each once.
    The optimum is not known: in its place, the best of several starts of `stackjax.solve` in each
    context.

    Args:
      surrogate_steps: optimiser steps of the predictors.
      starts: starting points of the reference.
    """
    (_, turns), (_, evaluation) = recorded_turns()
    first = np.unique(
        np.stack([evaluation.episode, evaluation.state.turn_index], axis=1),
        axis=0,
        return_index=True,
    )[1]
    contexts_for = fitted_contexts(surrogate_steps)
    contexts = contexts_for(turns, jax.random.key(1))
    held_out = contexts_for(take(evaluation, first), jax.random.key(2))
    game, response = resource_game(), jnp.full(3, 0.5)
    squash = _squash(np.asarray(ACTION_LOWER), np.asarray(ACTION_UPPER), (2,))
    middle = squash(jnp.zeros(2))

    def solve(context: ResourceContext) -> jax.Array:
        found = sj.solve(
            game, action=middle, response=response, context=context, solver=sj.Newton(),
            starts=starts,
        )  # fmt: skip
        return found.leader_utility

    def features(context: ResourceContext) -> jax.Array:
        return jnp.concatenate([context.features, context.previous])

    return Problem(
        "resource game",
        game,
        contexts,
        held_out,
        response,
        policy=lambda rngs: Leader(rngs=rngs),
        logits=lambda leader, context: leader.network(features(context)),
        squash=squash,
        features=features,
        answer=lambda action, x: sj.best_response(game, action, x, response=response).value,
        optimum=float(jnp.mean(unoptimised(jax.jit(jax.vmap(solve)).lower(held_out))(held_out))),
        source=f"best of {starts} starts of stackjax.solve",
    )


Recorded = tuple[Sequence[TurnRecord], Turns]


@functools.cache
def recorded_turns(path: Path = DATA) -> tuple[Recorded, Recorded]:
    """The recorded turns to fit on, and the held-out ones; as records and as arrays."""
    fitting, evaluation = split(latest(read_log(path)[0]))
    return (fitting, turn_arrays(fitting)), (evaluation, turn_arrays(evaluation))


@functools.cache
def fitted_contexts(steps: int) -> Callable[[Turns, jax.Array], ResourceContext]:
    """Fits the predictors; returns `(turns, key) -> contexts`, with previous actions drawn."""
    turns = recorded_turns()[0][1]
    surrogate, _ = fit_surrogate(turns, key=jax.random.key(0), steps=steps)
    summary = summarise_cells(surrogate, turns)
    base = jnp.asarray(summary.cells[reference_cell(summary)], jnp.float32)
    lower, upper = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])

    def contexts(turns: Turns, key: jax.Array) -> ResourceContext:
        share = jax.random.uniform(key, (len(turns.tokens), 2))
        return contexts_of(surrogate, base, turns.state, lower + (upper - lower) * share)

    return contexts


def snapshot_steps(steps: int, count: int = 40) -> np.ndarray:
    """About `count` numbers of finished steps from 0 to `steps`, denser at first."""
    spaced = np.geomspace(1, steps + 1, count) - 1
    return np.unique(np.concatenate([np.round(spaced).astype(int), [0, steps]]))


def empty_snapshots(policy: PyTree, times: np.ndarray) -> PyTree:
    """Room for a policy at each of the times `[S]`; the first is the policy itself."""
    room = lambda leaf: jnp.zeros((len(times), *leaf.shape), leaf.dtype).at[0].set(leaf)
    return jax.tree.map(room, policy)


def take_snapshot(
    snapshots: PyTree, policy: PyTree, times: np.ndarray, finished: jax.Array
) -> PyTree:
    """Keeps the policy if `finished`, the number of steps done, is one of the times `[S]`."""
    place = jnp.searchsorted(jnp.asarray(times), finished)
    # Elsewhere than in the room: dropped.
    place = jnp.where(jnp.isin(finished, jnp.asarray(times)), place, len(times))
    return jax.tree.map(lambda room, x: room.at[place].set(x, mode="drop"), snapshots, policy)


def _closed_form(
    name: str, exact: sj.games.ClosedFormGame, lower: np.ndarray, upper: np.ndarray
) -> Problem:
    """A problem of a game with known answers, with a box around its optimal actions `[a]`."""
    contexts = exact.contexts(jax.random.key(1), TRAINING)
    held_out = exact.contexts(jax.random.key(2), HELD_OUT)
    action, response = jax.vmap(exact.equilibrium)(held_out)
    if not np.all((np.asarray(action) >= lower.min()) & (np.asarray(action) <= upper.max())):
        raise ValueError(f"{name}: an optimal action is outside of the box")
    shape = jnp.shape(exact.action)
    flat = _flatten(contexts)
    mean, scale = np.asarray(flat.mean(0)), np.asarray(flat.std(0))
    features = lambda context: (_concatenate(context) - mean) / scale
    squash = _squash(lower, upper, shape)
    box = sj.Box(jnp.asarray(lower.reshape(shape), jnp.float32),
                 jnp.asarray(upper.reshape(shape), jnp.float32))  # fmt: skip
    game = sj.Game(
        exact.game.leader_utility,
        exact.game.follower_utility,
        action_set=box,
        response_set=exact.game.response_set,
    )
    return Problem(
        name,
        game,
        contexts,
        held_out,
        exact.response,
        policy=lambda rngs: Policy(features, squash, len(mean), len(lower), rngs),
        logits=lambda policy, context: policy.logits(context),
        squash=squash,
        features=features,
        answer=exact.best_response,
        optimum=float(jnp.mean(jax.vmap(game.leader_utility)(action, response, held_out))),
        source="closed form",
    )


def _mean_utility(problem: Problem, policy: Callable) -> jax.Array:
    def one(context: PyTree) -> jax.Array:
        action = policy(context)
        response = problem.answer(action, context)
        return problem.game.leader_utility(action, response, context)

    return jnp.mean(jax.vmap(one)(problem.held_out))


def _squash(
    lower: np.ndarray, upper: np.ndarray, shape: tuple[int, ...]
) -> Callable[[jax.Array], jax.Array]:
    low, width = lower.astype(np.float32), (upper - lower).astype(np.float32)
    return lambda logits: jnp.reshape(low + width * jax.nn.sigmoid(logits), shape)


def _concatenate(context: PyTree) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(context)])


def _flatten(contexts: PyTree) -> jax.Array:
    return jax.vmap(_concatenate)(contexts)


def _first(leaf: jax.Array) -> jax.Array:
    return leaf[0]


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "toll road": toll_road,
    "quadratic": quadratic,
    "resource game": resource,
}
