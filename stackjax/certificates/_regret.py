"""Restricted regrets in the surrogate (arXiv 2606.23026, eq. 20-22), over finite classes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from stackjax._arrays.starts import shift, spread
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import PyTree
from stackjax._arrays.verdict import Verdict
from stackjax._follower.best_response import best_response
from stackjax._follower.vectors import filled_bounds
from stackjax.certificates._certificate import Constant, Statement
from stackjax.certificates._deployed import Deployed, Signal
from stackjax.certificates._repair import play_turn
from stackjax.fit._horizon import act, rollout
from stackjax.solvers._solver import Solver

_MOST = 27  # constant signals, or responses
_NEARBY = 8  # local perturbations
_REACH = 0.1  # of a coordinate's range


class Gains(NamedTuple):
    """How much more each policy of a class gets than the deployed one, by context or session.

    Attributes:
      names: of the P policies.
      gain: `[P, N]`, under common random numbers; NaN where a follower's solver failed.
    """

    names: tuple[str, ...]
    gain: np.ndarray


def leader_gains(
    deployed: Deployed, contexts: PyTree, *, response: PyTree, key: jax.Array, solver: Solver | None
) -> Gains:
    """The leader's gains over the deployed policy, the follower answering every policy.

    The class: a grid of constant signals (of at most 27), 8 local perturbations of the deployed
    policy by a tenth of the set, and `deployed.alternatives`. Values are those of single turns in
    N contexts or, with a horizon, of sessions (`rollout`) under the same keys.
    """
    game = deployed.game
    policies = {"": deployed.policy, **deployed.alternatives}
    unravel, family, names = _family(game, deployed, contexts, key)

    def values(policy: Any, contexts: PyTree) -> tuple[jax.Array, jax.Array]:
        if deployed.horizon is None:

            def one(context: PyTree) -> tuple[jax.Array, jax.Array]:
                action = act(policy, game, context)
                found = best_response(game, action, context, response=response, solver=solver)
                return game.leader_utility(action, found.value, context), found.converged

            return jax.vmap(one, axis_size=None if jax.tree.leaves(contexts) else 1)(contexts)
        horizon = deployed.horizon

        def session(state: PyTree, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            played = rollout(
                policy, game, horizon.dynamics, state, turns=horizon.turns, response=response,
                key=key, discount=horizon.discount, hold=horizon.hold, solver=solver,
            )  # fmt: skip
            return played.value, jnp.all(played.converged)

        states = jax.tree.map(jnp.asarray, deployed.states)
        keys = jax.random.split(key, jax.tree.leaves(states)[0].shape[0])
        return jax.vmap(session)(states, keys)

    found, fine = [], []
    for name, policy in policies.items():
        children, plain = split_static((policy,))

        @jax.jit
        def run(children: tuple, family: jax.Array, contexts: PyTree, plain: Any = plain) -> Any:
            policy = join_static(plain, children)[0]
            signal = lambda row: Signal(policy, row[0], unravel(row[1:]))
            return jax.vmap(lambda row: values(signal(row), contexts))(family)

        rows = family if not name else family[:1]
        value, converged = run(children, rows, contexts)
        found.append(np.asarray(value, float))
        fine.append(np.asarray(converged))
    value = np.where(np.concatenate(fine), np.concatenate(found), np.nan)
    labels = (*names, *deployed.alternatives)
    return Gains(labels, value[1:] - value[:1])


def follower_gains(
    deployed: Deployed, contexts: PyTree, *, response: PyTree, key: jax.Array, solver: Solver | None
) -> Gains:
    """The follower's gains over the response that is played, the deployed leader's action held.

    The class: the best response, a grid of constant responses (of at most 27) and 8 local
    perturbations of the response that is played. Single turns.
    """
    game = deployed.game
    flat, unravel = ravel_pytree(response)
    grid, family = _around(flat, *filled_bounds(game.response_set, response), key)
    children, plain = split_static((deployed.policy,))

    @jax.jit
    def run(children: tuple, family: jax.Array, contexts: PyTree) -> tuple[jax.Array, jax.Array]:
        policy = join_static(plain, children)[0]

        def one(context: PyTree) -> tuple[jax.Array, jax.Array]:
            turn = play_turn(deployed, policy, context, response, solver)
            action, played = turn.played_action, ravel_pytree(turn.played_response)[0]
            utility = lambda r: game.follower_utility(action, r, context)
            best = best_response(game, action, context, response=response, solver=solver)

            def gain(row: jax.Array) -> jax.Array:
                r = unravel(row[0] * played + row[1:])
                if game.response_set.projectable:
                    r = game.response_set.project(r)
                allowed = game.response_set.contains(r, action=action, context=context, tol=1e-4)
                return jnp.where(allowed, utility(r), -jnp.inf)

            every = jnp.concatenate([utility(best.value)[None], jax.vmap(gain)(family)])
            ok = turn.converged & best.converged
            # An answer that is not allowed gains nothing.
            return jnp.maximum(every, -1e30) - utility(unravel(played)), ok

        return jax.vmap(one, axis_size=None if jax.tree.leaves(contexts) else 1)(contexts)

    gain, fine = (np.asarray(x) for x in run(children, family, contexts))
    names = ("best response", *(f"constant {i}" for i in range(len(grid))))
    names += tuple(f"nearby {i}" for i in range(_NEARBY))
    return Gains(names, np.where(fine[:, None], gain.astype(float), np.nan).T)


def regret_of(gains: Gains, alpha: float) -> tuple[Constant, str, int]:
    """The largest mean gain of the class with simultaneous limits, whose it is, and N.

    Student-t limits with Bonferroni's correction over the class: right for large N, as utilities
    in a surrogate come without a bound. One context or session gives no upper limit.
    """
    used = np.isfinite(gains.gain).all(0)
    rows = gains.gain[:, used]
    count = rows.shape[1]
    if not count:
        return Constant(math.nan, math.nan, math.nan), "", 0
    mean, best = rows.mean(1), int(rows.mean(1).argmax())
    if count == 1:
        return Constant(float(mean[best]), -math.inf, math.inf), gains.names[best], count
    error = rows.std(1, ddof=1) / math.sqrt(count)
    from scipy import stats  # slow to import

    half = stats.t.ppf(1 - alpha / (2 * len(rows)), count - 1) * error
    limits = float((mean - half).max()), float((mean + half).max())
    return Constant(float(mean[best]), *limits), gains.names[best], count


def surrogate_statement(
    deployed: Deployed | None,
    contexts: PyTree,
    *,
    response: PyTree,
    key: jax.Array,
    solver: Solver | None,
    alpha: float,
    span: float,
) -> Statement:
    """eps_L and eps_F over the stated classes; the bound is eps_L's upper limit."""
    name, source = "Regret in the surrogate", "eq. 20-22"
    assumption = "contexts drawn independently from those that will be met"
    if deployed is None:
        return Statement(name, source, assumption, note="no policy is given")
    if not deployed.game.action_set.projectable:
        return Statement(name, source, assumption, note="the action set has no projection")
    keys = jax.random.split(key)
    given = {"response": response, "solver": solver}
    leader = leader_gains(deployed, contexts, key=keys[0], **given)
    follower = follower_gains(deployed, contexts, key=keys[1], **given)
    eps, best, count = regret_of(leader, alpha / 2)
    eps_follower, best_answer, _ = regret_of(follower, alpha / 2)
    if not count:
        return Statement(
            name, source, assumption, note="no context in which all followers converge"
        )
    scale = span
    if deployed.horizon is not None:
        turns = np.arange(deployed.horizon.turns)
        scale = span * float(np.sum(deployed.horizon.discount**turns))
    unit = "contexts" if deployed.horizon is None else "sessions"
    return Statement(
        name=name,
        source=source,
        assumption=assumption,
        how="by Monte Carlo with common random numbers, Student-t limits",
        constants={"eps_L": eps, "eps_F": eps_follower},
        bound=eps.high,
        measured=eps.value,
        quantity="restricted regret eps_L",
        verdict=Verdict.VACUOUS if eps.high >= scale > 0 else Verdict.HOLDS,
        note=f"{len(leader.names)} leaders (best {best!r}), {len(follower.names)} followers (best "
        f"{best_answer!r}), {count} {unit}",
    )


def _family(game: Any, deployed: Deployed, contexts: PyTree, key: jax.Array) -> tuple:
    """Rows `(keep, offset)` of the deployed policy, constant signals, local perturbations."""
    some = jax.tree.map(lambda leaf: leaf[0], contexts)
    if deployed.horizon is not None:
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], deployed.states)
        some = deployed.horizon.dynamics.context(state)
    action = jax.tree.map(jnp.asarray, deployed.policy(some))
    flat, unravel = ravel_pytree(action)
    grid, rows = _around(flat, *filled_bounds(game.action_set, action), key)
    own = jnp.zeros((1, len(flat) + 1), flat.dtype).at[0, 0].set(1)
    names = [f"constant {np.round(np.asarray(row, float), 3).tolist()}" for row in grid]
    names += [f"nearby {i}" for i in range(_NEARBY)]
    return unravel, jnp.concatenate([own, rows]), tuple(names)


def _around(
    start: jax.Array, lower: jax.Array, upper: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A grid of constants, and rows `(keep, offset)` of these and of local perturbations."""
    grid = jnp.asarray(_grid(start, lower, upper, key))
    width = jnp.where(jnp.isfinite(upper - lower), upper - lower, 1 + jnp.abs(start))
    nearby = _REACH * width[None] * jax.random.normal(key, (_NEARBY, len(start)), start.dtype)
    zeros, ones = jnp.zeros((len(grid), 1), start.dtype), jnp.ones((_NEARBY, 1), start.dtype)
    rows = jnp.concatenate([zeros, grid], 1), jnp.concatenate([ones, nearby], 1)
    return grid, jnp.concatenate(rows)


def _grid(start: jax.Array, lower: jax.Array, upper: jax.Array, key: jax.Array) -> np.ndarray:
    """At most 27 points: a regular grid between finite bounds of up to 3 numbers, else spread."""
    size = len(start)
    low, high = np.asarray(lower), np.asarray(upper)
    if size <= 3 and np.isfinite(low).all() and np.isfinite(high).all():
        each = {1: 27, 2: 5, 3: 3}[size]
        axes = [np.linspace(a, b, each) for a, b in zip(low, high)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, size)
        return points.astype(start.dtype)
    return np.asarray(spread(_MOST, start, lower, upper, shift(key, start)))
