"""Value-function cuts: the leader may not count on a response that the follower would leave.

Where the follower is not concave, its optimality conditions hold at responses that are not its best
ones, and the leader's optimum often lies where the follower is indifferent between two that are far
apart. So the program of `_leader/mpcc.py` gets constraints

    U_F(l, r) >= U_F(l, s_k(l)),      k = 1, ..., CUTS,

(Mitsos, Lemonidis and Barton, Journal of Global Optimization 42, 2008), where `s_k(l)` is a
response that was found, by branch and bound, to be better than that of a point the leader hoped
for. It follows its peak by one Newton step from where it was found,

    s_k(l) = clip(r_k - H_k^-1 grad_r U_F(l, r_k)),

so that the cut has the value function's first and second derivatives there. Any response of the
follower's makes a valid cut: what it excludes is no best response.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from stackjax._arrays.finite import shield
from stackjax._arrays.search_history import Watch
from stackjax._arrays.starts import spread
from stackjax._arrays.typing import Vector
from stackjax._leader.complementarity import find
from stackjax._leader.mpcc import Bilevel, Parts
from stackjax._leader.outcome import Outcome
from stackjax._leader.scaled import Scaled
from stackjax._leader.ties import climbed, rivals_of
from stackjax.solvers._implicit import detached
from stackjax.solvers._settings import Complementarity
from stackjax.solvers.proof._global import Global

# The most cuts, and the fewest and the most searches, of which each adds up to two.
CUTS, LEAST, ROUNDS = 12, 2, 8
# Actions that are looked at after each search, and responses that are tried there.
LOOKS, TRIED = 64, 16


class Cuts(NamedTuple):
    """Responses that the follower may prefer. Floating point.

    Attributes:
      responses: `[CUTS, r]` where they were found.
      maps: `[CUTS, r, r]` by which a slope is multiplied for the Newton step.
      used: `[CUTS]` 1 for those in use.
    """

    responses: Vector
    maps: Vector
    used: Vector

    @classmethod
    def none(cls, response: Vector) -> "Cuts":
        """No cuts, for responses shaped as this one."""
        r, zeros = len(response), lambda *shape: jnp.zeros((CUTS, *shape), response.dtype)
        return cls(jnp.broadcast_to(response, (CUTS, r)), zeros(r, r), zeros())

    def add(self, response: Vector, map: Vector, wanted: Vector) -> "Cuts":
        """With one more, if it is `wanted` and there is room."""
        at = jnp.argmin(self.used)
        wanted = wanted & (self.used[at] == 0)
        put = lambda all, one: all.at[at].set(jnp.where(wanted, one, all[at]))
        return Cuts(
            put(self.responses, response),
            put(self.maps, map),
            put(self.used, jnp.ones_like(self.used[0])),
        )


class Ends(struct.PyTreeNode):
    """What the pessimistic convention makes of a point. Floating point.

    Attributes:
      sure: scalar, 1 if the response is the limit of responses that are the only best ones.
      attained: scalar, 1 if no best response to the action itself is worse for the leader.
      nearby: `[a]` an action whose best response is the only one, and close to the point's.
      worst: `[r]` of the best responses to the action that were found, the worst for the leader.
    """

    sure: Vector
    attained: Vector
    nearby: Vector
    worst: Vector


class _State(struct.PyTreeNode):
    cuts: Cuts
    action: Vector  # where to start
    response: Vector
    best: Outcome
    sure: Vector  # of `best`, see `Ends`
    rank: Vector  # of `best`, -inf at first
    others: Vector  # 1 if sound points of different worth were found
    sight: Vector  # the most that an action was worth that was looked at
    steps: Vector
    round: Vector
    more: Vector


def search_with_cuts(
    scaled: Scaled,
    *,
    settings: Complementarity,
    starts: int,
    rotation: Vector,
    proof: Global,
    pessimistic: bool,
    watch: Watch,
) -> tuple[Bilevel, Vector, Outcome, Ends]:
    """The program with the cuts it needed, its best point `[n + p + k]`, and the report on it."""
    start, begin, dtype = scaled.start, scaled.begin, scaled.start.dtype
    plain = scaled.program()
    eps = float(jnp.finfo(dtype).eps)
    loose = eps**0.35

    def with_cuts(cuts: Cuts) -> Bilevel:
        def rows(a: Vector, r: Vector) -> Vector:
            own = plain.follower(a, r)
            theirs = jax.vmap(lambda s, map: _value(scaled, plain, a, s, map)[0])
            return jnp.where(cuts.used > 0, theirs(cuts.responses, cuts.maps) - own, -1)

        def margin(a: Vector, r: Vector) -> Vector:
            led = jax.vmap(lambda s, map: _value(scaled, plain, a, s, map)[1])
            return jnp.sum((r[None] - led(cuts.responses, cuts.maps)) ** 2, axis=1)

        return scaled.program(rows, cuts.used, margin if pessimistic else None)

    def look(program: Bilevel, action: Vector, response: Vector, rotation: Vector) -> Outcome:
        return find(program, action, response, settings, starts, rotation, watch, scaled.gains)

    def turn(state: _State) -> _State:
        program = with_cuts(state.cuts)
        turned = (rotation + 0.618 * state.round) % 1
        found = look(program, state.action, state.response, turned)
        chosen, left = program.split(found.point.w[: len(program.bounds()[0])]), found.left
        seen, hoped = _looked(scaled, plain, state.cuts, chosen, turned)
        actions = jnp.stack([chosen.action, left.action, seen[: len(start)]])
        responses = jnp.stack([chosen.response, left.response, seen[len(start) :]])
        rivals = responses.at[1].set(left.rival)
        ask = lambda play: _best_answer(scaled, plain, play[0], play[1], proof)
        answers, maps = lax.map(ask, (actions, rivals))
        gains = jax.vmap(plain.follower)(actions, answers) - jax.vmap(plain.follower)(
            actions, responses
        )
        noise = 64 * eps * jnp.abs(jax.vmap(plain.follower)(actions, responses))
        beaten = gains > eps**0.7 + noise  # as in `_leader/complementarity.py`

        sound, needed, sure = (found.candidate > 0) & ~beaten[0], beaten[0], jnp.ones((), bool)
        if pessimistic:
            sure, rival = _alone(scaled, plain, found.point.near, chosen, proof)
            answers = answers.at[0].set(jnp.where(beaten[0], answers[0], rival))
            maps = maps.at[0].set(_map(scaled, plain, actions[0], answers[0]))
            sound, needed = sound & sure, needed | ~sure
        rank = jnp.where(sound, found.point.value, -jnp.finfo(dtype).max / 2)
        rank = jnp.where(jnp.isfinite(rank), rank, -jnp.finfo(dtype).max)
        close = jnp.abs(rank - state.rank) <= loose
        better = jnp.where(close, found.settled > state.best.settled, rank > state.rank)
        better = better | (state.round == 0)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, state.best)
        # Two searches that end at points of different worth have seen two peaks.
        known = (state.rank > -jnp.finfo(dtype).max / 4) & sound
        others = jnp.where(known & ~close, 1, jnp.maximum(state.others, found.others))
        rank = jnp.where(better, rank, state.rank)
        sure = jnp.where(better, sure.astype(dtype), state.sure)
        hopeful = beaten[1] & (left.value > rank + loose)
        wanted = jnp.stack([needed, hopeful, beaten[2] & (hoped > rank + loose)])
        worth = _allowed(plain, actions[2], answers[2])
        sight = jnp.maximum(state.sight, worth)
        missed = worth > rank + loose
        cuts = state.cuts
        for k in range(3):
            cuts = cuts.add(answers[k], maps[k], wanted[k])
        # The next search starts where a response was hard to find, or at the best action elsewhere.
        hard = jnp.where(missed, 2, jnp.where(needed, 0, jnp.where(hopeful, 1, 2)))
        more = jnp.any(wanted) & (jnp.min(state.cuts.used) == 0)
        more = more | missed | (state.round + 1 < LEAST)
        return _State(
            cuts, actions[hard], answers[hard], best, sure, rank, others, sight,
            jnp.maximum(state.steps, found.steps), state.round + 1, more.astype(dtype),
        )  # fmt: skip

    def run(_: Vector) -> tuple[Vector, tuple[Outcome, Cuts, Ends]]:
        cuts = Cuts.none(begin)
        first = with_cuts(cuts)
        blank = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(lambda: look(first, start, begin, rotation)),
        )
        zero = jnp.zeros((), dtype)
        none = zero - jnp.inf
        state = _State(cuts, start, begin, blank, zero, none, zero, none, zero, zero, zero + 1)
        more = lambda state: (state.more > 0) & (state.round < ROUNDS)
        state = lax.while_loop(more, turn, state)
        if pessimistic:
            outcome, ends = _worst_case(scaled, plain, state, proof, loose)
        else:
            outcome = _judged(scaled, plain, state, loose)
            ends = Ends(zero, zero, start, begin)
        # What an action elsewhere is worth more than is no optimum.
        top = (state.sight <= outcome.point.value + loose).astype(dtype)
        outcome = outcome.replace(
            settled=outcome.settled * top,
            converged=outcome.converged * top,
            others=jnp.maximum(outcome.others, 1 - top),
        )
        return outcome.point.w, (outcome, state.cuts, ends)

    blank = Cuts.none(begin)
    example = with_cuts(blank)
    z = example.start(start, begin, jnp.ones((), dtype))
    evaluate = lambda z, cuts: with_cuts(cuts).evaluate(z)
    problem, theta = jax.closure_convert(evaluate, z, blank)
    size = jax.eval_shape(example.evaluate, z)[2].shape[0]
    w = jnp.zeros(len(z) + example.equalities + size, dtype)
    w, (outcome, cuts, ends) = detached(run, w)
    finite = jnp.isfinite(outcome.point.error)
    converted = lambda z: problem(z, cuts, *shield(theta, finite))
    program = with_cuts(cuts)
    differentiate = outcome.point.linearised.differentiate
    w = differentiate(converted, w, *program.bounds(), finite=finite)
    # An action that is 0 but for rounding is 0: a follower may be indifferent there alone.
    action = program.split(w).action
    action = jnp.where(jnp.abs(action) < eps, action - lax.stop_gradient(action), action)
    return program, w.at[: len(action)].set(action), outcome, ends


def _value(
    scaled: Scaled, program: Bilevel, action: Vector, response: Vector, map: Vector
) -> tuple[Vector, Vector]:
    """What a cut's response, led by one Newton step, is worth to the follower; and the response."""
    slope = jax.grad(program.follower, argnums=1)(action, response)
    led = jnp.clip(response + map @ slope, *scaled.response_bounds)
    return program.follower(action, led), led


def _allowed(program: Bilevel, action: Vector, response: Vector) -> Vector:
    """The leader's utility, -inf where it is no number or its own constraints do not hold."""
    k, e = program.leader_residuals(action, response)
    violation = jnp.max(jnp.concatenate([k, jnp.abs(e)]), initial=0)
    value = program.leader(action, response)
    return jnp.where(jnp.isfinite(value) & (violation <= 1e-6), value, -jnp.inf)


def _looked(
    scaled: Scaled, program: Bilevel, cuts: Cuts, chosen: Parts, rotation: Vector
) -> tuple[Vector, Vector]:
    """Of some actions, each with the best of the responses tried, the one worth most to the leader.

    Those next to the `chosen` one, from which its own search came, are left out.

    Returns:
      `[a + r]` the action and the response; its worth, if the follower has no better one.
    """
    size, (low, high) = len(scaled.start), scaled.response_bounds
    actions = spread(LOOKS + 1, scaled.start, *program.action_bounds, rotation[:size])[1:]
    tried = spread(TRIED, chosen.response, low, high, rotation[size:])
    tried = jnp.concatenate([tried, cuts.responses])

    def play(action: Vector) -> tuple[Vector, Vector]:
        utility = lambda r: program.follower(action, r)
        values = jax.vmap(utility)(tried)
        best = tried[jnp.argmax(jnp.where(jnp.isfinite(values), values, -jnp.inf))]
        best = climbed(utility, best, low, high)
        return jnp.concatenate([action, best]), _allowed(program, action, best)

    plays, worth = jax.vmap(play)(actions)
    width = jnp.subtract(*reversed(program.action_bounds))
    away = (
        jnp.abs(actions - chosen.action[None]) > 0.05 * jnp.where(width < jnp.inf, width, 0)[None]
    )
    worth = jnp.where(jnp.any(away, axis=1), worth, -jnp.inf)
    most = jnp.argmax(worth)
    return plays[most], worth[most]


def _best_answer(
    scaled: Scaled, program: Bilevel, action: Vector, response: Vector, proof: Global
) -> tuple[Vector, Vector]:
    """The best response to an action that branch and bound and Newton's method find; its map."""
    low, high = scaled.response_bounds
    utility = lambda r: program.follower(action, r)

    def improved(_: Vector, r: Vector) -> Vector:
        return proof.prove(utility, climbed(utility, r, low, high), low, high).value

    r = lax.fori_loop(0, 2, improved, response)
    return r, _map(scaled, program, action, r)


def _map(scaled: Scaled, program: Bilevel, action: Vector, r: Vector) -> Vector:
    """`[r, r]`, minus the inverse Hessian at a peak, on its free coordinates; else zeros."""
    low, high = scaled.response_bounds
    free = (r > low) & (r < high)
    both = free[:, None] & free[None, :]
    none = -jnp.eye(len(r), dtype=r.dtype)
    bent = jnp.where(both, jax.hessian(program.follower, argnums=1)(action, r), none)
    bent = jnp.where(jnp.all(jnp.isfinite(bent)), bent, 0)
    peak = jnp.linalg.eigvalsh(bent)[-1] < -1e-6 * jnp.max(jnp.abs(bent))
    return jnp.where(peak & both, -jnp.linalg.inv(jnp.where(peak, bent, none)), 0)


def _alone(
    scaled: Scaled, program: Bilevel, near: Vector, chosen: Parts, proof: Global
) -> tuple[Vector, Vector]:
    """Whether the best response next to a point is the only one, and its closest rival, `[r]`."""
    action, response = near[: len(chosen.action)], near[len(chosen.action) :]
    low, high = scaled.response_bounds
    utility = lambda r: program.follower(action, r)
    own = climbed(utility, jnp.clip(response, low, high), low, high)
    found = rivals_of(utility, own, low, high, proof)
    moves = jnp.concatenate([action - chosen.action, own - chosen.response])
    close = jnp.max(jnp.abs(moves)) <= 0.01
    rival = found.points[jnp.argmax(found.values)]
    return jnp.all(found.uppers < utility(own)) & close, rival


def _worst_case(
    scaled: Scaled, program: Bilevel, state: _State, proof: Global, loose: float
) -> tuple[Outcome, Ends]:
    """The best point under the pessimistic convention, and what becomes of it at its end."""
    best = state.best
    parts = program.split(best.point.w[: len(program.bounds()[0])])
    action, response = parts.action, parts.response
    utility = lambda r: program.follower(action, r)
    found = rivals_of(utility, response, *scaled.response_bounds, proof)
    worth = jax.vmap(lambda r: program.leader(action, r))(found.points)
    own = utility(response)
    tied = found.values >= own - loose
    harmless = tied & (worth >= best.point.value - loose)
    attained = jnp.all((found.uppers < own) | harmless)
    least = jnp.argmin(jnp.where(tied, worth, jnp.inf))
    worse = tied[least] & (worth[least] < best.point.value)
    number = lambda x: x.astype(response.dtype)
    ends = Ends(
        state.sure,
        number(attained),
        jnp.where(attained, action, best.point.near[: len(action)]),
        jnp.where(worse, found.points[least], response),
    )
    return best.replace(
        settled=best.settled * state.sure,
        converged=best.converged * state.sure,
        unique=best.unique * state.sure,
        others=state.others,
        steps=state.steps,
    ), ends


def _judged(scaled: Scaled, program: Bilevel, state: _State, loose: float) -> Outcome:
    """The best point, which is not settled if a response as good for the follower serves better."""
    best, cuts = state.best, state.cuts
    parts = program.split(best.point.w[: len(program.bounds()[0])])
    action, response = parts.action, parts.response
    theirs, led = jax.vmap(lambda s, map: _value(scaled, program, action, s, map))(
        cuts.responses, cuts.maps
    )
    tied = (cuts.used > 0) & (theirs >= program.follower(action, response) - loose)
    serves = jax.vmap(lambda r: program.leader(action, r))(led) > best.point.value + loose
    enough = 1 - jnp.any(tied & serves).astype(best.settled.dtype)
    regret = jnp.where(best.regret > 16 * jnp.finfo(theirs.dtype).eps, best.regret, 0)
    return best.replace(
        settled=best.settled * enough,
        converged=best.converged * enough,
        regret=regret,
        others=state.others,
        steps=state.steps,
    )
