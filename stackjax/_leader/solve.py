"""One game: the leader's action optimised directly, against the follower's best response."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import as_arrays, as_start, check_type, concrete
from stackjax._arrays.search_history import Callback, SearchHistory, Watch
from stackjax._arrays.starts import shift, spread
from stackjax._arrays.status import CLOSE, Status, chosen, told
from stackjax._arrays.typing import PyTree
from stackjax._follower.arguments import (
    check_finite_utility,
    check_game,
    check_nonempty,
    game_settings,
)
from stackjax._follower.joint_shape import another_equilibrium, joint_shape_of
from stackjax._follower.proven import check_proof, proof_of
from stackjax._follower.response import Multipliers
from stackjax._follower.several import joint_problem
from stackjax._follower.shape import fresh_gain, shape_of
from stackjax._follower.vectors import at_least_float32, flat, like
from stackjax._game import Game, evaluate
from stackjax._leader.arguments import LeaderSolver, check_convention, method_of
from stackjax._leader.by_complementarity import by_complementarity
from stackjax._leader.multipliers import of_projectable
from stackjax._leader.value_function import Optimum, ascend, climb
from stackjax.solvers._newton import Newton
from stackjax.solvers._settings import Complementarity, FirstOrder
from stackjax.solvers._solver import Solver
from stackjax.solvers.proof._branch_and_bound import BEATEN, PROVEN, Proof
from stackjax.solvers.proof._global import Global


class Solution(struct.PyTreeNode):
    """A Stackelberg equilibrium: an optimum of the leader's, the highest of those that were found.

    Attributes:
      action: the leader's action.
      response: the follower's best response to it; of several, the leader's favourite.
      leader_utility: scalar; -inf where it is not finite.
      follower_utility: scalar, or `[N]` of several followers; -inf where it is not finite.
      converged: scalar bool: the leader's action is stationary with no upward curvature, and the
        follower's response to it is optimal and (but for `Complementarity`) unique. Where the
        follower was seen not to be concave (`local`), its utility must look quasi-concave (on
        no sampled segment of responses does it fall below both ends) and no sampled response be
        better. If False, the rest is the best point found.
      residual: scalar, the leader's last Newton step, relative as in `Response.residual`.
      regret: scalar, how much more the follower could get at this action, as far as was tried,
        relative to the range of its utility: among sampled responses, or with `Complementarity`
        to what it changes by over the set, as seen from the starting point.
      steps: scalar int, the most iterations that a start took.
      agreeing_starts: scalar int, how many starts ended at a point worth as much.
      other_peaks: scalar bool, the leader's utility was seen to have other peaks, so that a higher
        one may have been missed: a start ended at another, or (`Newton`, `starts=None`) an action
        that was looked at is worth more, or less but with a valley in front of it.
      local: scalar bool, the follower's problem was seen not to be concave at a sample of
        points: its shape does not exclude other best responses, which a sample can miss. The
        logarithm of the follower's utility is often concave, and has the same best response.
      unique: scalar bool, the follower's curvature rules out other best responses nearby.
      multipliers: of the leader's own constraints, what its utility would gain for each unit by
        which one is relaxed, the follower's answer included; differentiable like `action`.
      proof: of the follower's response, where one was asked for; else None.
      history: of the search that led to the answer, where it was asked for; else None.
      attained: under the pessimistic convention, scalar bool: `leader_utility` is what the leader
        gets at `action`. If False it is a supremum: other best responses to `action` itself, which
        are worse for the leader, leave it with less, and actions close to it with almost that
        much. None under the optimistic one.
      nearby: under the pessimistic convention, an action to which the best response is the only
        one, next to `action`, or that itself; else None.

    Example:
      >>> profit = lambda own, other, demand: own * (demand - own - other - 1)
      >>> game = sj.Game(profit, lambda action, response, demand: profit(response, action, demand))
      >>> one = jnp.array(1.0)
      >>> found = sj.solve(game, action=one, response=one, context=jnp.array(13.0))
      >>> print(found.action, found.response, found.leader_utility, found.follower_utility)
      6.0 3.0 18.0 9.0
      >>> print(found.converged, found.unique, found.regret)
      True True 0.0
    """

    action: PyTree
    response: PyTree
    leader_utility: jax.Array
    follower_utility: jax.Array
    converged: jax.Array
    residual: jax.Array
    regret: jax.Array
    steps: jax.Array
    agreeing_starts: jax.Array
    other_peaks: jax.Array
    local: jax.Array
    unique: jax.Array
    multipliers: Multipliers
    proof: Proof | None
    history: SearchHistory | None = None
    attained: jax.Array | None = None
    nearby: PyTree | None = None

    @property
    def status(self) -> Any:
        """Why it ended as it did: a `stackjax.solvers.Status`, of a batch an array of strings.

        On the host, outside of `jax.jit`; `print` shows it with what to try next.
        """
        attained = True if self.attained is None else self.attained
        return chosen(
            [
                (Status.SUPREMUM, self.converged & np.logical_not(attained)),
                (Status.LOCAL, self.converged & self.local),
                (Status.PEAKS, self.converged & self.other_peaks),
                (Status.CONVERGED, self.converged),
                (Status.NOT_FINITE, ~np.isfinite(self.leader_utility)),
                (Status.NO_RESPONSE, ~np.isfinite(self.regret)),
                (Status.BEATEN, self.regret > 0),
                (Status.SEVERAL, ~self.unique),
                (Status.LOCAL, self.local),
                (Status.IMPRECISE, self.residual <= CLOSE),
            ],
            Status.UNFINISHED,
        )

    def __str__(self) -> str:
        if not concrete(self):
            return repr(self)
        names = ("action", "response", "leader_utility", "residual", "steps")
        return told(type(self).__name__, self.status, {name: getattr(self, name) for name in names})


def solve(
    game: Game,
    *,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    solver: LeaderSolver | None = None,
    follower_solver: Solver | None = None,
    starts: int | None = None,
    key: jax.Array | None = None,
    proof: Global | None = None,
    convention: str = "optimistic",
    history: bool = False,
    callback: Callback | None = None,
) -> Solution:
    """Maximises `U_L(l, response*(l, x), x)` over the leader's action set.

    Three methods. `Newton`, for an action in a box: projected Newton on the leader's utility as a
    function of the action alone, with exact first and second derivatives through the best response;
    fast, and what to `vmap` over a million contexts. `Complementarity`, for any sets, coupled
    constraints of the leader's, linear followers and optima on a kink: the follower's optimality
    conditions become constraints. `FirstOrder`, for long actions: projected gradient ascent with
    optax, finished by Newton steps.

    Unbatched: use `jax.vmap` over contexts. The solution is differentiable in `context`, the arrays
    of the game and what utilities and constraints close over, by the implicit function theorem.

    Args:
      game: the game.
      action: the leader's starting point, a pytree of floating-point arrays.
      response: the follower's starting point, likewise.
      context: the context, a pytree of arrays.
      solver: the leader's method; if None, `Newton()` where both sets are boxes, `starts` is
        None or 1 and there is no `proof`, else `Complementarity()`; of several followers always
        `Newton()`. With a smoothed follower (`solvers.Regularised`) `Newton()` for an action in a
        box, else `FirstOrder()`.
      follower_solver: as `solver` of `best_response`, for `Newton` and `FirstOrder`;
        `Complementarity` has its own.
      starts: number of starting points, the given one among them; the best result is returned. If
        None, 16 for `Complementarity`, and 1 for the others; but then `Newton` looks at 32 other
        actions when it has an answer, and climbs up to 2 other peaks that it sees below them.
      key: shifts the quasi-random sequence that other starting points are taken from; the
        unshifted one if None.
      proof: asks for a proof that the follower's response to the final action is a global maximum
        (`solvers.Global`): proven, `converged` needs no sample of other responses; beaten, it is
        False. The leader's optimum may be local all the same. With `Complementarity`, the default
        then, the leader also expects no response that branch and bound has shown to be beaten:
        its optimum can be where the follower is indifferent between responses far apart.
      convention: of several best responses, 'optimistic': the leader's favourite; 'pessimistic':
        the worst for the leader, for `Complementarity` with a `proof`. The optimum is then a
        supremum, which `Solution.attained` tells from a maximum. Exact where best responses are
        isolated, but for single actions; where the follower is indifferent at every action,
        `converged` is False. In float64: one response must be seen to be better by little.
      history: whether to return the action, utility and residual of each step of the search that
        led to the answer: `Solution.history`.
      callback: `(step, action, utility, residual)`, called on the host at each step of each search
        as it goes, under `jax.jit` and `jax.vmap` too (of a batch once a member); a function that
        is made anew compiles anew. With an accelerator it costs a round trip to the host a step.

    Returns:
      The `Solution`; non-convergence is reported there, not raised.

    Raises:
      TypeError: `game` is not a Game; a starting point is not floating point; a utility does not
        return a floating-point number; a solver does not fit the sets.
      ValueError: a utility does not return a scalar, or, outside of transforms, is not a number
        at the starting point; `starts` is below 1; a polyhedron is empty.

    Source: arXiv 2606.23026, Section 4; for the methods see their settings.

    Example:
      >>> profit = lambda own, other, demand: own * (demand - own - other - 1)
      >>> game = sj.Game(profit, lambda action, response, demand: profit(response, action, demand))
      >>> one = jnp.array(1.0)
      >>> solve = lambda demand: sj.solve(game, action=one, response=one, context=demand)
      >>> found = jax.jit(jax.vmap(solve))(jnp.array([7.0, 13.0]))
      >>> print(found.action, found.response, found.converged)
      [3. 6.] [1.5 3. ] [ True  True]
    """
    check_game(game)
    check_convention(convention, proof)
    smoothed = isinstance(follower_solver, Solver) and follower_solver.smoothed
    starts, settings = method_of(game, solver, starts, key, proof, smoothed)
    if convention == "pessimistic" and not isinstance(settings, Complementarity):
        raise TypeError(
            "`solver` must be stackjax.Complementarity(...) or None for the pessimistic "
            f"convention; got {settings!r}."
        )
    action, response = as_start(action, "action"), as_start(response, "response")
    follower = game_settings(follower_solver, game, "follower_solver", response)
    context = as_arrays(context, "context")
    check_type("history", history, bool, "True or False")
    check_type("callback", callback, Callable | None, "callable or None")
    watch = Watch(history, callback)
    game.action_set.bounds(action)
    game.response_set.bounds(response)
    check_proof(proof, game, response, follower)
    play = game, action, response, context
    pessimistic = convention == "pessimistic"
    solution = _solve(*play, settings, follower, starts, key, proof, pessimistic, watch)
    if concrete(solution) and not solution.converged:
        _explain(*play, solution)
    return solution


def _explain(
    game: Game, action: PyTree, response: PyTree, context: PyTree, solution: Solution
) -> None:
    """Raises what can be said for certain about a search that failed, on the host."""
    start = game.action_set.project(action) if game.action_set.projectable else action
    check_nonempty(game.response_set, response, start, context)
    for name in ("leader_utility",) if game.several else ("follower_utility", "leader_utility"):
        check_finite_utility(getattr(game, name), name, game, start, response, context)
    if not np.isfinite(solution.leader_utility):
        raise ValueError(
            f"`leader_utility` returned {float(solution.leader_utility)} at the follower's "
            "best response to the starting action; start elsewhere."
        )


@partial(jax.jit, static_argnums=(4, 5, 6, 8, 9, 10))
def _solve(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    leader: LeaderSolver,
    follower: Solver,
    starts: int | None,
    key: jax.Array | None,
    proof: Global | None,
    pessimistic: bool,
    watch: Watch,
) -> Solution:
    play = game, action, response, context
    if not isinstance(leader, Complementarity):
        best, reply, report = _by_value(*play, leader, follower, starts, key, watch)
    else:
        best, reply, report = by_complementarity(
            *play, leader, starts or 1, key, proof, pessimistic, watch
        )
    settled, proven = report.pop("settled"), None
    if "nearby" in report:
        report["nearby"] = like(report["nearby"], action)
    path = report.pop("history")
    if path is not None:
        unravel = ravel_pytree(at_least_float32(action))[1]
        path = path.replace(action=jax.vmap(lambda y: like(unravel(y), action))(path.action))
        path = lax.stop_gradient(path.repeated().replace(steps=path.steps.astype(jnp.int32)))
    if proof is not None:
        proven = proof_of(game, best, context, reply, proof)
        certain, beaten = proven.status == PROVEN, proven.status == BEATEN
        report["converged"] = jnp.where(certain, settled, report["converged"] & ~beaten)
        report["local"] &= ~certain
        report["regret"] = jnp.where(
            beaten, jnp.maximum(report["regret"], proof.gap), report["regret"]
        )
    return Solution(
        proof=proven,
        history=path,
        action=like(best, action),
        response=like(reply, response),
        leader_utility=evaluate(game.leader_utility, "leader_utility", best, reply, context),
        follower_utility=_follower_utility(game, best, reply, context),
        **report,
    )


def _follower_utility(game: Game, action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
    if not game.several:
        return evaluate(game.follower_utility, "follower_utility", action, response, context)
    problem, layout = joint_problem(game, action, context, at_least_float32(response))
    values = problem.values(layout.flat(response))
    return jnp.where(jnp.isfinite(values), values, -jnp.inf)


def _by_value(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Newton | FirstOrder,
    follower: Solver,
    starts: int | None,
    key: jax.Array | None,
    watch: Watch,
) -> tuple[PyTree, PyTree, dict[str, Any]]:
    start, unravel = ravel_pytree(at_least_float32(action))

    def from_(start: PyTree) -> Optimum:
        if isinstance(settings, FirstOrder):
            return ascend(game, start, response, context, settings, follower, watch)
        widely = starts is None
        return climb(game, start, response, context, settings, follower, widely=widely, watch=watch)

    agreeing_starts = jnp.ones((), jnp.int32)
    if starts is None or starts == 1:
        best = from_(action)
        other_peaks = best.others > 0
    else:
        lower, upper = map(flat, game.action_set.bounds(unravel(start)))
        drawn = spread(starts, start, lower, upper, shift(key, start))
        every = jax.vmap(lambda y: from_(unravel(y)))(drawn)
        value = jax.vmap(
            lambda a, r: evaluate(game.leader_utility, "leader_utility", a, r, context)
        )(every.action, every.response)
        proven = (every.leader.converged > 0) & (every.follower.converged > 0)
        value = jnp.where(every.follower.converged > 0, value, -jnp.inf)
        # As good as the best: beside the range of what the starts led to.
        top, found = jnp.max(value), value > -jnp.inf
        span = top - jnp.min(jnp.where(found, value, top))
        equal = value >= top - 1e-4 * span - 64 * jnp.finfo(value.dtype).eps * jnp.abs(top)
        index = jnp.argmax(jnp.where(equal, 1.0 + proven, jnp.where(value > -jnp.inf, 0.0, -1.0)))
        best = jax.tree.map(lambda x: x[index], every)
        other_peaks = jnp.any(proven & ~equal)
        agreeing_starts = jnp.sum(equal & (value > -jnp.inf)).astype(jnp.int32)
    eps = float(jnp.finfo(start.dtype).eps)
    unique = best.follower.curvature > eps**0.5
    found = settled = best.leader.converged * best.follower.converged > 0
    local, regret = jnp.zeros((), bool), jnp.zeros((), start.dtype)
    if game.several:
        shape = joint_shape_of(game, best.action, best.response, context)
        local, regret = ~(shape.concave & shape.monotone), shape.regret
        found &= regret == 0
        unique &= ~another_equilibrium(
            game, best.action, best.response, context, follower, found & local
        )
    elif game.response_set.only_bounds:
        shape = shape_of(game, best.action, best.response, context)
        local, regret = ~shape.concave, shape.regret
        # A strict maximum of a quasi-concave utility is the only one.
        seems = found & ~shape.concave & shape.quasiconcave & (regret == 0)
        beaten = fresh_gain(game, best.action, best.response, context, follower, seems) > 0
        found &= shape.concave | (seems & ~beaten)
    report = {
        # With several best responses the one answered need not be the leader's favourite.
        "settled": settled & unique,
        "converged": found & unique,
        "residual": best.leader.residual,
        "regret": jnp.where(best.follower.converged > 0, regret, jnp.inf),
        "steps": best.leader.steps.astype(jnp.int32),
        "agreeing_starts": agreeing_starts,
        "other_peaks": other_peaks,
        "local": local,
        "unique": unique,
        "multipliers": of_projectable(game, best.action, best.slope, best.response),
        "history": best.history,
    }
    return best.action, best.response, report
