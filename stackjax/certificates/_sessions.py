"""Repair over a session: constants of the closed loop, along the sessions that are played."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.flatten_util import ravel_pytree

from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import PyTree
from stackjax.certificates._certificate import Constant, Statement, verdict_of
from stackjax.certificates._deployed import Deployed
from stackjax.certificates._repair import distance_of, horizon_repair_bound, play_turn
from stackjax.fit._horizon import committed
from stackjax.solvers._solver import Solver

_STOPS = 4


class Sessions(struct.PyTreeNode):
    """S sessions of T turns, with and without repair under the same luck.

    Attributes:
      value: `[S]` discounted utility without repair. repaired: `[S]` with it.
      distance: `[S, T]` what repair moved, along the repaired session.
      utility_in_repair: `[S, T]` local slope. utility_in_state: `[S, T]`.
      state_in_repair: `[S, T]`. state_in_state: `[S, T]`.
      converged: `[S]`.
    """

    value: jax.Array
    repaired: jax.Array
    distance: jax.Array
    utility_in_repair: jax.Array
    utility_in_state: jax.Array
    state_in_repair: jax.Array
    state_in_state: jax.Array
    converged: jax.Array


def play_sessions(
    deployed: Deployed, *, response: PyTree, key: jax.Array, solver: Solver | None = None
) -> Sessions:
    """Plays S sessions twice and measures the closed loop's slopes at every state of both.

    Repair of a response acts on the follower's answer, of an action before the follower answers;
    `Dynamics.commit` comes first. An action is chosen anew at every turn (`hold` 1).
    """
    horizon, game = deployed.horizon, deployed.game
    assert horizon is not None
    dynamics, turns = horizon.dynamics, horizon.turns
    children, plain = split_static((deployed.policy,))

    @jax.jit
    def run(children: tuple, states: PyTree, key: jax.Array) -> Sessions:
        policy = join_static(plain, children)[0]

        def chosen(state: PyTree) -> Any:
            context = dynamics.context(state)
            commit = lambda _: committed(dynamics, state, policy(context))
            return play_turn(deployed, commit, context, response, solver)

        def repair_of(turn: Any, played: bool) -> PyTree:
            if deployed.repairs == "response":
                return turn.played_response if played else turn.response
            return turn.played_action if played else turn.action

        def outcome(state: PyTree, z: PyTree, action: PyTree, key: jax.Array) -> tuple:
            """Utility and next state where `z` is played: a response, or an action."""
            context = dynamics.context(state)
            if deployed.repairs == "response":
                act, r = action, z
            else:
                found = play_turn(_unrepaired(deployed), lambda _: z, context, response, solver)
                act, r = found.action, found.response
            utility = game.leader_utility(act, r, context)
            return utility, dynamics.step(state, act, r, key)

        def slopes(state: PyTree, key: jax.Array) -> tuple:
            """Of utility and next state, in what is repaired and in the state."""
            numbers, rebuild = _floats(state)
            turn = chosen(state)
            _, unravel = ravel_pytree(repair_of(turn, False))

            def in_repair(z: jax.Array) -> jax.Array:
                utility, after = outcome(state, unravel(z), turn.action, key)
                return jnp.concatenate([utility[None], _floats(after)[0]])

            def in_state(y: jax.Array) -> jax.Array:
                state = rebuild(y)
                turn = chosen(state)
                utility, after = outcome(state, repair_of(turn, False), turn.action, key)
                return jnp.concatenate([utility[None], _floats(after)[0]])

            # On the way from what was chosen to what is played, not only at its end.
            chosen_z, _ = ravel_pytree(repair_of(turn, False))
            played_z, _ = ravel_pytree(repair_of(turn, True))
            way = jnp.linspace(0, 1, _STOPS)[:, None] * (played_z - chosen_z)[None]
            by_repair = jax.vmap(jax.jacfwd(in_repair))(chosen_z[None] + way)
            by_state = jax.jacfwd(in_state)(numbers)
            norm = lambda jacobian: jnp.linalg.norm(jacobian, ord=2)
            size = lambda row: jnp.sqrt(jnp.sum(row**2))
            utility = jnp.max(jax.vmap(size)(by_repair[:, 0]))
            after = jnp.max(jax.vmap(norm)(by_repair[:, 1:]))
            return utility, size(by_state[0]), after, norm(by_state[1:])

        def session(state: PyTree, key: jax.Array, repairing: bool) -> tuple:
            def turn(state: PyTree, t: jax.Array) -> tuple[PyTree, tuple]:
                luck = jax.random.fold_in(key, t)
                made = chosen(state)
                z = repair_of(made, repairing)
                utility, after = outcome(state, z, made.action, luck)
                moved = distance_of(repair_of(made, True), repair_of(made, False))
                measured = slopes(state, luck)
                like = jax.tree.map(lambda x, y: jnp.asarray(x, jnp.asarray(y).dtype), after, state)
                return like, (utility, moved, made.converged, measured)

            _, out = jax.lax.scan(turn, state, jnp.arange(turns))
            return out

        def both(state: PyTree, key: jax.Array) -> Sessions:
            utility, _, ok, one = session(state, key, False)
            after, moved, fine, two = session(state, key, True)
            weight = jnp.asarray(horizon.discount ** np.arange(turns), utility.dtype)
            top = [jnp.maximum(x, y) for x, y in zip(one, two)]
            return Sessions(
                jnp.sum(weight * utility), jnp.sum(weight * after), moved,
                top[0], top[1], top[2], top[3], jnp.all(ok & fine),
            )  # fmt: skip

        keys = jax.random.split(key, jax.tree.leaves(states)[0].shape[0])
        strong = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), states)
        return jax.vmap(both)(strong, keys)

    return run(children, jax.tree.map(jnp.asarray, deployed.states), key)


def horizon_statement(
    deployed: Deployed | None, *, response: PyTree, key: jax.Array, span: float, solver: Any
) -> Statement:
    """What repair costs a session: `horizon_repair_bound` beside the difference that was played."""
    name, source = "Repair over a session", "Prop. 5.3, extended"
    assumption = "Lipschitz closed loop: utility and next state in state and repair"
    if deployed is None or deployed.recorded is None or deployed.horizon is None:
        note = "no policy with recorded actions and a horizon is given"
        return Statement(name, source, assumption, note=note)
    played = play_sessions(deployed, response=response, key=key, solver=solver)
    used = np.asarray(played.converged)
    parts = ("utility_in_repair", "utility_in_state", "state_in_repair", "state_in_state")
    tops = {
        part: float(np.max(np.asarray(getattr(played, part))[used], initial=0.0)) for part in parts
    }
    loss = np.abs(np.asarray(played.value - played.repaired, float))[used]
    if not used.any() or not all(math.isfinite(x) for x in tops.values()):
        note = "a session's follower does not converge, or a slope is not finite"
        return Statement(name, source, assumption, note=note)
    discount = deployed.horizon.discount
    bounds = jax.vmap(lambda d: horizon_repair_bound(d, **tops, discount=discount))(played.distance)
    bounds = np.asarray(bounds, float)[used]
    weight = float(np.sum(discount ** np.arange(deployed.horizon.turns)))
    broken = (loss > bounds * 1.01 + 1e-4 * (1 + np.abs(np.asarray(played.value))[used])).any()
    bound = float(bounds.mean())
    verdict = verdict_of(bool(broken), bound >= span * weight > 0)
    labels = {"L_U": parts[0], "L_s": parts[1], "K_a": parts[2], "K_s": parts[3]}
    return Statement(
        name=name,
        source=source,
        assumption=assumption,
        how="by sampling, slopes along the sessions",
        constants={label: Constant(tops[part]) for label, part in labels.items()},
        bound=bound,
        measured=float(loss.mean()),
        quantity=f"mean loss over {deployed.horizon.turns} turns",
        verdict=verdict,
        note=f"{used.sum()} sessions; the utility's range times the discounts is "
        f"{span * weight:.3g}",
    )


def _unrepaired(deployed: Deployed) -> Deployed:
    return dataclasses.replace(deployed, recorded=None)


def _floats(state: PyTree) -> tuple[jax.Array, Any]:
    """A state's floating-point numbers as one vector, and what puts such a vector back."""
    leaves, structure = jax.tree.flatten(state)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    vector, unravel = ravel_pytree([leaf for leaf, real in zip(leaves, floating) if real])

    def rebuild(y: jax.Array) -> PyTree:
        numbers = iter(unravel(y))
        return structure.unflatten([next(numbers) if f else x for x, f in zip(leaves, floating)])

    return vector, rebuild
