"""Sessions of several turns: what the leader does now moves the state that it meets next."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from stackjax._arrays.arguments import (
    as_start,
    check_count,
    check_key,
    check_number,
    check_type,
    check_within,
)
from stackjax._arrays.finite import finite, shield
from stackjax._arrays.modules import call
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields, PyTree
from stackjax._follower.arguments import check_game, check_one_follower, game_settings
from stackjax._follower.vectors import like
from stackjax._game import Game, evaluate
from stackjax.fit._constraints import Average, values_of
from stackjax.fit._dynamics import check_dynamics
from stackjax.fit._robust import Suboptimal, answer_to, check_follower
from stackjax.solvers._solver import Solver


class Horizon(struct.PyTreeNode):
    """Several turns as the leader's objective, `J_L = E sum_{t < turns} discount^t U_L(t)`.

    For `fit_leader(..., horizon=Horizon(dynamics, turns=8))`: turns are a `lax.scan`, sessions a
    `vmap`; each turn's follower is solved from its answer in the turn before, and the gradient goes
    through every one of them and through the state.

    Attributes:
      dynamics: a `Dynamics`.
      turns: T, at least 1.
      discount: in (0, 1].
      hold: turns for which an action is kept before the policy chooses anew (K-step commitment).

    Raises:
      TypeError: `turns` or `hold` is not an integer or `discount` not a number.
      ValueError: `turns` or `hold` is below 1, or `discount` is not in (0, 1].

    Source: arXiv 2606.23026, eq. (16).

    Example:
      >>> habit = sj.fit.Dynamics(lambda d: d, lambda d, action, response, key: d - 0.1 * action)
      >>> sessions = sj.fit.Horizon(habit, turns=4, discount=0.9)  # `horizon` of fit_leader
      >>> sessions.turns, sessions.discount, sessions.hold
      (4, 0.9, 1)
    """

    dynamics: Any
    turns: int = struct.field(pytree_node=False, default=8)
    discount: float = struct.field(pytree_node=False, default=0.99)
    hold: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        check_count("turns", self.turns)
        check_count("hold", self.hold)
        check_number("discount", self.discount)
        check_within("discount", self.discount, "(0, 1]")


class Trajectory(struct.PyTreeNode):
    """One session, turn by turn (T turns).

    Attributes:
      state: `[T, ...]` the state in which each turn was decided.
      action: `[T, ...]` the leader's actions, as carried out.
      response: `[T, ...]` the follower's responses.
      leader_utility: `[T]`; 0 where not `converged`.
      converged: `[T]` bool: the follower's solver did, and utility and next state are finite, at
        this turn and at all before. After a failure the state no longer changes.
      value: `[]` the discounted sum of `leader_utility`: of the whole session only if all of
        `converged`.
      last: the state after the last turn.

    Source: arXiv 2606.23026, eq. (7), (16).

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> habit = sj.fit.Dynamics(lambda d: d, lambda d, action, response, key: d - 0.1 * action)
      >>> played = sj.fit.rollout(
      ...     lambda demand: demand / 2, duopoly.game, habit, jnp.array(10.0),
      ...     turns=2, response=duopoly.response, key=jax.random.key(0),
      ... )
      >>> print(played.state, played.action, played.last, played.converged)
      [10.   9.5] [5.   4.75] 9.025 [ True  True]
    """

    state: PyTree
    action: PyTree
    response: PyTree
    leader_utility: jax.Array
    converged: jax.Array
    value: jax.Array
    last: PyTree


def rollout(
    policy: PyTree,
    game: Game,
    dynamics: Any,
    state: PyTree,
    *,
    turns: int,
    response: PyTree,
    key: jax.Array,
    discount: float = 0.99,
    hold: int = 1,
    follower: Suboptimal | None = None,
    solver: Solver | None = None,
) -> Trajectory:
    """Plays one session under a leader's policy.

    Unbatched: use `jax.vmap` over states and keys; the same keys for two policies compare them
    under the same luck. Differentiable in the policy, the game, the dynamics and the state, in
    forward and reverse mode.

    Args:
      policy: `context -> action`, a function or other callable pytree; its output is projected
        onto the game's action set.
      game: the game.
      dynamics: a `Dynamics`.
      state: the session's first state.
      turns: T.
      response: the follower's starting point at the first turn; later ones start from the answer
        before.
      key: for the dynamics; turn t is given `fold_in(key, t)`.
      discount: of the value, in (0, 1].
      hold: turns for which an action is kept.
      follower: None for the best response, or `Suboptimal(...)`: the worst one for the leader's
        utility of each turn, not for the rest of the session.
      solver: settings of the best response.

    Returns:
      The `Trajectory`; non-convergence is reported there, not raised.

    Raises:
      TypeError: the policy is not callable, `game` is not a Game, `dynamics` lacks a function,
        `step` returns a state of another structure, `key` is not a key, `response` is not
        floating point, an option is of the wrong type.
      ValueError: `turns` or `hold` is below 1, or `discount` is not in (0, 1].

    Source: arXiv 2606.23026, eq. (7), (12), (16).

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> habit = sj.fit.Dynamics(lambda d: d, lambda d, action, response, key: d - 0.1 * action)
      >>> played = sj.fit.rollout(
      ...     lambda demand: demand / 2, duopoly.game, habit, jnp.array(13.0),
      ...     turns=3, response=duopoly.response, key=jax.random.key(0),
      ... )
      >>> print([f"{action:.1f}" for action in played.action])
      ['6.5', '6.2', '5.9']
    """
    check_type("policy", policy, Callable, "callable")
    check_game(game)
    check_projectable(game)
    horizon = Horizon(dynamics, turns=turns, discount=discount, hold=hold)
    check_follower(follower, (Suboptimal,))
    if follower is not None:
        check_one_follower(game, "rollout(follower=...)")
    check_key(key)
    response = as_start(response, "response")
    state = jax.tree.map(jnp.asarray, state)
    check_horizon(horizon, policy, game, state, response)
    settings = game_settings(solver, game, "solver", response)
    children, plain = split_static((policy,))
    return _rollout(children, game, horizon, state, response, key, follower, plain, settings)


@partial(jax.jit, static_argnums=(7, 8))
def _rollout(
    children: Fields,
    game: Game,
    horizon: Horizon,
    state: PyTree,
    response: PyTree,
    key: jax.Array,
    follower: Suboptimal | None,
    plain: Fields,
    settings: Solver,
) -> Trajectory:
    (policy,) = join_static(plain, children)
    return play(policy, game, horizon, state, response, key, follower, (), settings).trajectory


def check_projectable(game: Game) -> None:
    """Raises TypeError unless a policy's output can be projected onto the action set."""
    if not game.action_set.projectable:
        raise TypeError(
            "`game.action_set` must be a Box, Simplex or Ball, onto which the policy's output is "
            f"projected; got a {type(game.action_set).__name__}."
        )


def check_horizon(
    horizon: Any, policy: PyTree, game: Game, state: PyTree, response: PyTree
) -> None:
    """Raises TypeError unless a session can be played like this from one `state`."""
    check_type("horizon", horizon, Horizon, "a stackjax.fit.Horizon or None")
    dynamics = horizon.dynamics
    check_dynamics(dynamics)

    def turn(state: PyTree, response: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        action = act(policy, game, dynamics.context(state))
        done = committed(dynamics, state, action)
        return action, done, dynamics.step(state, done, response, jax.random.key(0))

    action, done, after = jax.eval_shape(turn, state, response)
    before = jax.eval_shape(lambda: state)
    for name, given, want in (("commit", done, action), ("step", after, before)):
        same = jax.tree.structure(given) == jax.tree.structure(want)
        shapes = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
        if not same or jax.tree.leaves(shapes(given)) != jax.tree.leaves(shapes(want)):
            what = "action like the policy's" if name == "commit" else "state like the one before"
            raise TypeError(
                f"`dynamics.{name}` must return an {what}, {shapes(want)}; it returned "
                f"{shapes(given)}.".replace("an state", "a state")
            )


def act(policy: PyTree, game: Game, context: PyTree) -> PyTree:
    """The policy's action at a context, projected onto the game's action set."""
    # A policy that is not a number here must not reach the parameters: 0 x NaN is NaN.
    valid = finite(lax.stop_gradient(call(policy, "policy", context)))
    children, plain = split_static((policy,))
    (policy,) = join_static(plain, shield(children, valid))
    return game.action_set.project(jax.tree.map(jnp.asarray, policy(context)))


def committed(dynamics: Any, state: PyTree, action: PyTree) -> PyTree:
    """What is carried out where the policy proposes `action`."""
    commit = getattr(dynamics, "commit", None)
    return action if commit is None else commit(state, action)


class Played(struct.PyTreeNode):
    """A session, and what a fit wants to know of it besides.

    Attributes:
      trajectory: the session.
      start: the first turn's next starting point.
      averages: `[k]` mean over the turns of what is constrained.
    """

    trajectory: Trajectory
    start: PyTree
    averages: jax.Array


def play(
    policy: PyTree,
    game: Game,
    horizon: Horizon,
    state: PyTree,
    start: PyTree,
    key: jax.Array,
    follower: Suboptimal | None,
    averages: Sequence[Average],
    settings: Solver,
) -> Played:
    """`rollout` without its checks."""
    dynamics, hold = horizon.dynamics, horizon.hold
    children, plain = split_static((policy,))
    propose = lambda p, d, s: committed(d, s, act(join_static(plain, p)[0], game, d.context(s)))

    def turn(carry: PyTree, t: jax.Array) -> tuple[PyTree, PyTree]:
        state, action, start, alive = carry
        # What reads a state that the session cannot be played in must not send 0 x NaN back to it.
        seen = children, dynamics, state, action
        look = lambda p, d, s, a: (
            lax.cond(t % hold == 0, lambda s, a: propose(p, d, s), lambda s, a: a, s, a),
            d.context(s),
        )
        sound = finite(look(*lax.stop_gradient(seen)))
        action, context = look(*shield(seen, sound))
        response, valid, nearby = answer_to(follower, game, action, context, start, settings)
        utility = evaluate(game.leader_utility, "leader_utility", action, response, context)
        values = values_of(averages, action, response, context, utility.dtype)
        # A step that is not a number must not send 0 x NaN back to what went into it.
        inputs = dynamics, state, action, response
        moved = lambda d, s, a, r: d.step(s, a, r, jax.random.fold_in(key, t))
        step = lambda d, s, a, r: like(jax.tree.map(jnp.asarray, moved(d, s, a, r)), s)
        valid &= sound & finite(lax.stop_gradient((utility, values)))
        valid &= finite(step(*lax.stop_gradient(inputs)))
        after = step(*shield(inputs, valid))
        alive &= valid
        keep = lambda new, old: jax.tree.map(lambda x, y: jnp.where(alive, x, y), new, old)
        utility, values = jnp.where(alive, utility, 0), jnp.where(alive, values, 0)
        nearby = lax.stop_gradient(keep(nearby, start))
        out = state, action, response, utility, alive, values, nearby
        return (keep(after, state), action, nearby, alive), out

    blank = lambda x: jnp.zeros(x.shape, x.dtype)
    idle = jax.tree.map(blank, jax.eval_shape(propose, children, dynamics, state))
    strong = lambda tree: jax.tree.map(lambda x: lax.convert_element_type(x, x.dtype), tree)
    first = strong(state), idle, strong(start), jnp.array(True)
    (last, *_), out = lax.scan(turn, first, jnp.arange(horizon.turns))
    states, actions, responses, utility, alive, values, starts = out
    weight = jnp.asarray(horizon.discount ** np.arange(horizon.turns), utility.dtype)
    value = jnp.sum(weight * utility)
    trajectory = Trajectory(states, actions, responses, utility, alive, value, last)
    return Played(trajectory, jax.tree.map(lambda x: x[0], starts), jnp.mean(values, axis=0))
