"""Repair (Prop. 5.3): what projection onto the recorded actions costs, in a turn and a session."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import PyTree
from stackjax._arrays.verdict import Verdict
from stackjax._follower.best_response import best_response
from stackjax.certificates._certificate import Constant, Statement
from stackjax.certificates._deployed import Deployed
from stackjax.certificates._implementation_gap import response_slope
from stackjax.certificates._samples import Plays, Vector, View, largest
from stackjax.fit._horizon import act
from stackjax.sets._empirical import project
from stackjax.solvers._solver import Solver

_SOURCE = "Prop. 5.3"


class Repaired(struct.PyTreeNode):
    """The deployed policy before and after repair, one row a context.

    Attributes:
      before: `[N]` the leader's utility at what the policy and the follower chose.
      after: `[N]` at what is played.
      distance: `[N]` Euclidean distance moved, in the units of what is repaired.
      converged: `[N]` bool, the follower's solver did.
      inside: `[N]` bool, what is played is in the game's set.
      action: `[N, ...]` as played. response: `[N, ...]` as played.
    """

    before: jax.Array
    after: jax.Array
    distance: jax.Array
    converged: jax.Array
    inside: jax.Array
    action: PyTree
    response: PyTree


def action_slope(view: View, a: Vector, r: Vector) -> Vector:
    """`||dU_L / dl||` at one play, the response held."""
    return jnp.sqrt(jnp.sum(jax.grad(view.leader, argnums=0)(a, r) ** 2) + 1e-30)


def horizon_repair_bound(
    distance: jax.Array,
    *,
    utility_in_repair: jax.typing.ArrayLike,
    utility_in_state: jax.typing.ArrayLike,
    state_in_repair: jax.typing.ArrayLike,
    state_in_state: jax.typing.ArrayLike,
    discount: float,
) -> jax.Array:
    """The most that repair at every turn can cost a session of T turns, `[]`.

    The two sessions' states part by at most `e_t`, and utilities by what follows from it:

        e_0 = 0,   e_{t+1} = K_s e_t + K_a d_t,   |J - J_R| <= sum_t discount^t (L_s e_t + L_U d_t)

    with `d_t` the distances moved along the repaired session. Differentiable.

    Args:
      distance: `[T]`, `d_t`.
      utility_in_repair: `L_U`, of a turn's utility in what is repaired.
      utility_in_state: `L_s`, of a turn's utility in the state, policy and follower following it.
      state_in_repair: `K_a`, of the next state in what is repaired.
      state_in_state: `K_s`, of the next state in the state, policy and follower following it.
      discount: of a turn.

    Source: Prop. 5.3 of arXiv 2606.23026 for one turn, and Gronwall's inequality in discrete time.

    Example:
      >>> bound = sj.certificates.horizon_repair_bound(
      ...     jnp.array([1.0, 0.0]), utility_in_repair=2.0, utility_in_state=3.0,
      ...     state_in_repair=0.5, state_in_state=1.0, discount=1.0,
      ... )
      >>> float(bound)
      3.5
    """

    def turn(apart: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
        cost = jnp.asarray(utility_in_state) * apart + jnp.asarray(utility_in_repair) * d
        return jnp.asarray(state_in_state) * apart + jnp.asarray(state_in_repair) * d, cost

    _, costs = jax.lax.scan(turn, jnp.zeros_like(distance[0]), distance)
    weights = jnp.asarray(discount, costs.dtype) ** jnp.arange(len(costs), dtype=costs.dtype)
    return jnp.sum(weights * costs)


def distance_of(tree: PyTree, other: PyTree) -> jax.Array:
    """Euclidean distance of two pytrees."""
    squares = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), tree, other)
    total = sum(jax.tree.leaves(squares), jnp.zeros(()))
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)


class Turn(NamedTuple):
    """One turn: what was chosen, and what is played after repair."""

    action: PyTree
    response: PyTree
    played_action: PyTree
    played_response: PyTree
    converged: jax.Array


def play_turn(
    deployed: Deployed, policy: Any, context: PyTree, response: PyTree, solver: Solver | None
) -> Turn:
    """The deployed policy's turn in one context; `response` is the follower's starting point."""
    game = deployed.game
    answer = lambda action: best_response(game, action, context, response=response, solver=solver)
    action = act(policy, game, context)
    found, allowed = answer(action), deployed.allowed(context)
    if allowed is None:
        return Turn(action, found.value, action, found.value, found.converged)
    if deployed.repairs == "response":
        played = project(found.value, allowed).action
        return Turn(action, found.value, action, played, found.converged)
    played = project(action, allowed).action
    again = answer(played)
    return Turn(action, found.value, played, again.value, found.converged & again.converged)


def repaired(
    deployed: Deployed, contexts: PyTree, *, response: PyTree, solver: Solver | None = None
) -> Repaired:
    """Plays the policy in every context, without repair and with it."""
    game = deployed.game
    children, plain = split_static((deployed.policy,))

    @jax.jit
    def run(children: tuple, contexts: PyTree) -> Repaired:
        policy = join_static(plain, children)[0]

        def one(context: PyTree) -> Repaired:
            turn = play_turn(deployed, policy, context, response, solver)
            utility = lambda a, r: game.leader_utility(a, r, context)
            moved = (
                (turn.played_response, turn.response)
                if deployed.repairs == "response"
                else (turn.played_action, turn.action)
            )
            tol = 1e-4
            inside = game.response_set.contains(
                turn.played_response, action=turn.played_action, context=context, tol=tol
            ) & game.action_set.contains(
                turn.played_action, response=turn.played_response, context=context, tol=tol
            )
            return Repaired(
                before=utility(turn.action, turn.response),
                after=utility(turn.played_action, turn.played_response),
                distance=distance_of(*moved),
                converged=turn.converged,
                inside=inside,
                action=turn.played_action,
                response=turn.played_response,
            )

        return jax.vmap(one, axis_size=None if jax.tree.leaves(contexts) else 1)(contexts)

    return run(children, contexts)


def repair_lipschitz(plays: Plays, repairs: str, sensitivity: float, *, steps: int) -> float:
    """`L_U`: of the leader's utility in the response, or in the action, the follower following.

    In the action it is at most `sup ||dU_L/dl|| + sup ||dU_L/dr|| sensitivity`, where the
    sensitivity is the response's, `L / mu`.
    """
    top = lambda quantity: float(jnp.max(jnp.maximum(*largest(plays, quantity, steps=steps))))
    slope = top(response_slope)
    return slope if repairs == "response" else top(action_slope) + slope * sensitivity


def repair_statement(
    deployed: Deployed | None,
    played: Repaired | None,
    plays: Plays,
    *,
    sensitivity: float,
    span: float,
    steps: int,
) -> Statement:
    """`U_L(R(a)) >= U_L(a) - L_U ||R(a) - a||`, in every context."""
    name, assumption = "Repair", "Lipschitz leader's utility between proposed and recorded"
    if deployed is None or played is None or deployed.recorded is None:
        return Statement(name, _SOURCE, assumption, note="no policy with recorded actions is given")
    if deployed.repairs == "action" and not math.isfinite(sensitivity):
        note = "the follower's response has no Lipschitz constant"
        return Statement(name, _SOURCE, assumption, note=note)
    used = np.asarray(played.converged)
    loss = np.asarray(played.before - played.after, float)
    distance = np.asarray(played.distance, float)
    inside = np.asarray(played.inside)
    slope = repair_lipschitz(plays, deployed.repairs, sensitivity, steps=steps)
    if not used.any() or not math.isfinite(slope):
        note = "the follower's solver converges in no context, or no play is feasible"
        return Statement(name, _SOURCE, assumption, note=note)
    loss, distance = loss[used], distance[used]
    bounds = slope * distance
    slack = 1e-2 * bounds + 1e-5 * (1 + np.abs(np.asarray(played.before, float)[used]))
    bound = float(bounds.mean())
    note = f"largest distance {distance.max():.3g}, largest loss {loss.max():.3g}"
    if (~used).any():
        note += f"; {(~used).sum()} of {len(used)} contexts left out, the follower not converging"
    if not inside[used].all():
        verdict, note = Verdict.FAILS, "a recorded action lies outside of the game's set"
    elif not np.isfinite(loss).all() or (loss > bounds + slack).any():
        verdict, note = Verdict.FAILS, f"a loss exceeds its bound; {note}"
    elif bound >= span > 0:
        verdict = Verdict.VACUOUS
    else:
        verdict = Verdict.HOLDS
    return Statement(
        name=name,
        source=_SOURCE,
        assumption=assumption,
        how="distances by exact computation, L_U by sampling",
        constants={"L_U": Constant(slope), "mean distance": Constant(float(distance.mean()))},
        bound=bound,
        measured=float(loss.mean()),
        quantity="mean loss by repair",
        verdict=verdict,
        note=note,
    )
