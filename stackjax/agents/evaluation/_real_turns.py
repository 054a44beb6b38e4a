"""Recorded turns as evidence for a certificate: scored, and beside the surrogate's sessions.

A turn's payoffs are scored on what really came out, tokens T and a checked answer Y of 0 or 1, by
equations 8 to 11 with Y for Q: with T_0 and tau_Q predicted, t = T / T_0,

    leader      w_S clip(1 - t, -kappa, 1) - w_D sp(tau_Q - Y) - w_B sp(tau_B - B) sp(t - tau_T)
    follower    w_Q Y - w_C (1 - alpha) t - w_G sp(q - Y)

clipped to bounds that the weights alone give. The drift penalty is left out: it needs no outcome.
The surrogate's value of a turn is the mean of the same score over an answer that is right with the
predicted probability, at the predicted tokens. (The hinge of a mean is not the mean of the hinge:
this is not the payoff that a leader is trained on, but what its turns will be scored by.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_choice
from stackjax.agents.control._controller import contexts_of
from stackjax.agents.control._dynamics import Script, Session, begin_session
from stackjax.agents.evaluation._policies import PolicyOfStates
from stackjax.agents.evaluation._replay import Factorial
from stackjax.agents.executor._session import TURN_BUDGET
from stackjax.agents.game._payoffs import (
    DEFAULT,
    ResourceContext,
    Weights,
    follower_payoff,
    leader_payoff,
)
from stackjax.agents.game._state import State, stack_states
from stackjax.agents.log._turns import Turns
from stackjax.agents.surrogate._predictors import Surrogate
from stackjax.certificates._real_turns import RealTurns


def score_bounds(player: str, weights: Weights = DEFAULT) -> tuple[float, float]:
    """The least and the largest score of a turn; scores are clipped to them.

    Raises:
      ValueError: `player` is neither 'leader' nor 'follower'.

    Example:
      >>> score_bounds("leader")
      (-4.0, 1.0)
    """
    check_choice("player", player, ("leader", "follower"))
    if player == "leader":
        return -(weights.savings * weights.kappa + weights.degradation), weights.savings
    return -(weights.cost * (1 + weights.kappa) + weights.gap), weights.quality


@partial(jax.jit, static_argnames=("player", "weights"))
def turn_score(
    context: ResourceContext,
    signal: jax.Array,
    tokens: jax.Array,
    correct: jax.Array,
    *,
    player: str = "leader",
    weights: Weights = DEFAULT,
) -> jax.Array:
    """One player's score `[]` of one turn as it came out; the module's formulas. Unbatched.

    Args:
      context: the turn's context.
      signal: `[2]`, (q, alpha); read for the follower only.
      tokens: `[]`, as spent.
      correct: `[]`, 1 or 0.
      player: 'leader' or 'follower'.
      weights: of the payoffs.

    Raises:
      ValueError: `player` is neither 'leader' nor 'follower'.

    Source: arXiv 2606.23026, eq. (8) to (11), with outcomes for expectations.

    Example:
      >>> context, signal = known_world.context(), jnp.array([0.8, 0.5])  # T_0 is 330 tokens
      >>> tokens, right = jnp.array(165.0), jnp.array(1.0)
      >>> print(round(float(sj.agents.evaluation.turn_score(context, signal, tokens, right)), 3))
      0.5
    """
    share = tokens / context.reference_tokens
    if player == "leader":
        score = leader_payoff(correct, share, context, weights)
    else:
        score = follower_payoff(signal, correct, share, weights)
    return jnp.clip(score, *score_bounds(player, weights))


def executed_turns(
    policies: Mapping[str, PolicyOfStates],
    table: Factorial,
    surrogate: Surrogate,
    reference: Sequence[float],
    *,
    deployed: str,
    baseline: str | None = None,
    proposed: PolicyOfStates | None = None,
    player: str = "leader",
    first_signal: Sequence[float] = (0.775, 0.5),
    weights: Weights = DEFAULT,
) -> RealTurns:
    """Every policy executed on factorial records, beside its sessions in the surrogate.

    Scores of all policies at the present turns, real and predicted, as `certify` takes them. The
    records hold every cell at every turn, so every policy's session can be taken turn by turn
    with its own outcomes; in the surrogate the same sessions go on with predicted ones. The
    surrogate must not have been fitted on these episodes.

    Args:
      policies: P policies by name; real sessions need responses that are cells of the table.
      table: the records, of one model.
      surrogate: predictors.
      reference: `[3]`, the reference response, which sets `T_0` and `tau_Q`.
      deployed: name of the deployed policy.
      baseline: name of the one to compare with.
      proposed: the deployed policy before repair; played in the surrogate only.
      player: whose score.
      first_signal: `[2]`, what counts as the signal before a session.
      weights: of the payoffs.

    Raises:
      ValueError: an unknown player or name, or a response that is not a cell.

    Example:
      >>> from stackjax.agents import evaluation
      >>> cells = {"all": (1, 1, 1), "none": (0, 0, 0)}
      >>> policies = {name: evaluation.constant_cell(cell) for name, cell in cells.items()}
      >>> table = evaluation.factorial(known_world.records(4, 2))
      >>> found = evaluation.executed_turns(
      ...     policies, table, known_world.surrogate(), (1, 1, 1), deployed="none", baseline="all"
      ... )
      >>> print(found.utility.shape, found.utility.mean(axis=1).round(2))
      (2, 8) [-0.54 -1.21]
    """
    names = _names(policies, deployed, baseline)
    low, high = score_bounds(player, weights)
    play = partial(
        _play, table=table, surrogate=surrogate, reference=jnp.asarray(reference, jnp.float32),
        player=player, first_signal=first_signal, weights=weights,
    )  # fmt: skip
    rows = np.nonzero(table.present)
    return RealTurns(
        utility=np.stack([play(policies[name], real=True)[rows] for name in names]),
        value=np.stack([play(policies[name], real=False)[rows] for name in names]),
        episode=rows[0],
        low=low,
        high=high,
        names=names,
        deployed=names.index(deployed),
        baseline=None if baseline is None else names.index(baseline),
        proposed=None if proposed is None else play(proposed, real=False)[rows],
    )


def logged_turns(
    policies: Mapping[str, PolicyOfStates],
    turns: Turns,
    propensity: np.ndarray,
    surrogate: Surrogate,
    reference: Sequence[float],
    *,
    deployed: str,
    baseline: str | None = None,
    proposed: PolicyOfStates | None = None,
    player: str = "leader",
    first_signal: Sequence[float] = (0.775, 0.5),
    clip: float | None = None,
    least_propensity: float | None = None,
    weights: Weights = DEFAULT,
) -> RealTurns:
    """Policies valued off-policy on randomised turns, doubly robust with the surrogate.

    A policy's value is that of its single turns at the states which the log met, not of sessions
    of its own. The surrogate must not have been fitted on these episodes. Other arguments, and what
    is returned, as in `executed_turns`: `policies` are deterministic, `turns` N recorded turns of
    one model, `propensity: [N]` the probability of each executed response, `clip` the largest
    importance weight. `least_propensity` is the logging policy's least probability of a response
    that a policy plays, by its design: `1 / K` for one that draws from K cells. Without it or
    `clip` nothing is certified.

    Raises:
      ValueError: an unknown player or name, or what `RealTurns` refuses.

    Example:
      >>> from stackjax.agents import evaluation, log
      >>> cells = {"all": (1, 1, 1), "none": (0, 0, 0)}
      >>> policies = {name: evaluation.constant_cell(cell) for name, cell in cells.items()}
      >>> turns = log.turn_arrays(known_world.records(8, 2, design="random"))
      >>> found = evaluation.logged_turns(
      ...     policies, turns, np.full(16, 1 / 8), known_world.surrogate(), (1, 1, 1),
      ...     deployed="all", least_propensity=1 / 8,
      ... )
      >>> print(found.value.shape, found.target.sum(axis=1))
      (2, 16) [2. 2.]
    """
    names = _names(policies, deployed, baseline)
    low, high = score_bounds(player, weights)
    count = len(turns.tokens)
    previous = jnp.tile(jnp.asarray(first_signal, jnp.float32), (count, 1))
    contexts = contexts_of(surrogate, jnp.asarray(reference, jnp.float32), turns.state, previous)
    choices = {name: policy(turns.state, previous) for name, policy in policies.items()}
    given = {"player": player, "weights": weights}
    signal = choices[deployed][1]  # the follower's score is that under the deployed leader
    value = lambda response: np.asarray(
        _expected(surrogate, contexts, turns.state, response, signal, **given), float
    )
    match = lambda response: np.abs(np.asarray(response - turns.executed)).max(1) < 1e-4
    return RealTurns(
        utility=np.asarray(_scored(contexts, signal, turns.tokens, turns.correct, **given), float),
        value=np.stack([value(choices[name][0]) for name in names]),
        episode=np.asarray(turns.episode),
        low=low,
        high=high,
        propensity=np.asarray(propensity, float),
        target=np.stack([match(choices[name][0]) for name in names]).astype(float),
        predicted=value(turns.executed),
        clip=clip,
        least_propensity=least_propensity,
        names=names,
        deployed=names.index(deployed),
        baseline=None if baseline is None else names.index(baseline),
        proposed=None if proposed is None else value(proposed(turns.state, previous)[0]),
    )


@partial(jax.jit, static_argnames=("player", "weights"))
def _expected(
    surrogate: Surrogate,
    contexts: ResourceContext,
    states: State,
    response: jax.Array,
    signal: jax.Array,
    *,
    player: str,
    weights: Weights,
) -> jax.Array:
    """`[N]` mean scores in the surrogate."""

    def one(context: ResourceContext, state: State, r: jax.Array, sign: jax.Array) -> jax.Array:
        quality, tokens = surrogate.predict(state, r)
        score = partial(turn_score, context, sign, tokens, player=player, weights=weights)
        return quality * score(jnp.ones(())) + (1 - quality) * score(jnp.zeros(()))

    return jax.vmap(one)(contexts, states, response, signal)


@partial(jax.jit, static_argnames=("player", "weights"))
def _scored(
    contexts: ResourceContext,
    signal: jax.Array,
    tokens: jax.Array,
    correct: jax.Array,
    *,
    player: str,
    weights: Weights,
) -> jax.Array:
    """`[N]` scores."""
    score = partial(turn_score, player=player, weights=weights)
    return jax.vmap(score)(contexts, signal, tokens, correct)


@jax.jit
def _predict(surrogate: Surrogate, states: State, response: jax.Array) -> tuple:
    return jax.vmap(surrogate.predict)(states, response)


@jax.jit
def _begin(scripts: Script, budgets: jax.Array, signal: jax.Array) -> Session:
    begin = lambda script, budget, first: begin_session(script, signal=first, token_budget=budget)
    return jax.vmap(begin)(scripts, budgets, signal)


@jax.jit
def _look(sessions: Session) -> State:
    return jax.vmap(lambda session: session.state)(sessions)


_update = jax.jit(jax.vmap(Session.update))


def _play(
    policy: PolicyOfStates,
    *,
    real: bool,
    table: Factorial,
    surrogate: Surrogate,
    reference: jax.Array,
    player: str,
    first_signal: Sequence[float],
    weights: Weights,
) -> np.ndarray:
    """`[E, T]` scores of a policy's sessions: with recorded outcomes, or the surrogate's."""
    count, length = table.present.shape
    rows, scores = np.arange(count), np.zeros((count, length))
    scripts, budgets = _scripts(table)
    previous = jnp.tile(jnp.asarray(first_signal, jnp.float32), (count, 1))
    sessions = _begin(scripts, budgets, previous)
    given = {"player": player, "weights": weights}
    for t in range(length):
        states, here = _look(sessions), table.present[:, t]
        response, signal = policy(states, previous)
        contexts = contexts_of(surrogate, reference, states, previous)
        if real:
            cell = np.array([table.cell(r) for r in np.asarray(response)])
            tokens = jnp.asarray(table.tokens[rows, t, cell], jnp.float32)
            correct = jnp.asarray(table.correct[rows, t, cell], jnp.float32)
            fell = jnp.asarray(table.fallback[rows, t, cell], jnp.float32)
            score = _scored(contexts, signal, tokens, correct, **given)
        else:
            correct, tokens = _predict(surrogate, states, response)
            fell = jnp.zeros(count)
            score = _expected(surrogate, contexts, states, response, signal, **given)
        scores[:, t] = np.where(here, np.asarray(score, float), 0)
        previous = jnp.where(jnp.isnan(signal), previous, signal).astype(jnp.float32)
        sessions = _update(sessions, previous, tokens, correct, fell)
    return scores


def _scripts(table: Factorial) -> tuple[Script, jax.Array]:
    """Scripts with `[E, T]` leaves, short ones ending in their last turn, and token budgets."""
    length = table.present.shape[1]
    states, tasks = [], []
    for episode, kinds in zip(table.states, table.tasks):
        last = len(episode) - 1
        states += [episode[min(t, last)] for t in range(length)]
        tasks += [kinds[min(t, last)] for t in range(length)]
    stacked = stack_states(states, tasks)
    shaped = jax.tree.map(lambda leaf: leaf.reshape(-1, length), stacked)
    script = Script(shaped.task, shaped.task_complexity, shaped.context_tokens)
    return script, jnp.asarray(TURN_BUDGET * table.present.sum(1), jnp.float32)


def _names(policies: Mapping[str, Any], deployed: str, baseline: str | None) -> tuple[str, ...]:
    names = tuple(policies)
    for role, name in (("deployed", deployed), ("baseline", baseline)):
        if name is not None:
            check_choice(role, name, names)
    return names
