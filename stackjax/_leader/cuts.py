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
from stackjax._arrays.typing import Vector
from stackjax._leader.complementarity import Outcome, find
from stackjax._leader.mpcc import Bilevel
from stackjax._leader.scaled import Scaled
from stackjax.solvers._implicit import detached
from stackjax.solvers._newton import Newton
from stackjax.solvers._settings import Complementarity
from stackjax.solvers._solver import Problem
from stackjax.solvers.proof._global import Global

# The most cuts, and the fewest and the most searches, of which each adds up to two.
CUTS, LEAST, ROUNDS = 12, 2, 8


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


class _State(struct.PyTreeNode):
    cuts: Cuts
    action: Vector  # where to start
    response: Vector
    best: Outcome
    rank: Vector  # of `best`, -inf at first
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
) -> tuple[Bilevel, Vector, Outcome]:
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

        return scaled.program(rows, cuts.used)

    def turn(state: _State) -> _State:
        program = with_cuts(state.cuts)
        turned = (rotation + 0.618 * state.round) % 1
        found = find(program, state.action, state.response, settings, starts, turned)
        chosen, left = program.split(found.point.w[: len(program.bounds()[0])]), found.left
        actions = jnp.stack([chosen.action, left.action])
        responses = jnp.stack([chosen.response, left.response])
        rivals = jnp.stack([chosen.response, left.rival])
        ask = lambda play: _best_answer(scaled, plain, *play, proof)
        answers, maps = lax.map(ask, (actions, rivals))
        gains = jax.vmap(plain.follower)(actions, answers) - jax.vmap(plain.follower)(
            actions, responses
        )
        noise = 64 * eps * jnp.abs(jax.vmap(plain.follower)(actions, responses))
        beaten = gains > eps**0.7 + noise  # as in `_leader/complementarity.py`

        sound = (found.candidate > 0) & ~beaten[0]
        rank = jnp.where(sound, found.point.value, -jnp.finfo(dtype).max / 2)
        rank = jnp.where(jnp.isfinite(rank), rank, -jnp.finfo(dtype).max)
        close = jnp.abs(rank - state.rank) <= loose
        better = jnp.where(close, found.settled > state.best.settled, rank > state.rank)
        better = better | (state.round == 0)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, state.best)
        rank = jnp.where(better, rank, state.rank)
        hopeful = beaten[1] & (left.value > rank + loose)
        wanted = jnp.stack([beaten[0], hopeful])
        cuts = state.cuts
        for k in range(2):
            cuts = cuts.add(answers[k], maps[k], wanted[k])
        # The next search starts at a response that was hard to find.
        hard = jnp.where(beaten[0] | ~hopeful, 0, 1)
        more = jnp.any(wanted) & (jnp.min(state.cuts.used) == 0)
        more = more | (state.round + 1 < LEAST)
        return _State(
            cuts, actions[hard], answers[hard], best, rank,
            jnp.maximum(state.steps, found.steps), state.round + 1, more.astype(dtype),
        )  # fmt: skip

    def run(_: Vector) -> tuple[Vector, tuple[Outcome, Cuts]]:
        cuts = Cuts.none(begin)
        first = with_cuts(cuts)
        blank = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(lambda: find(first, start, begin, settings, starts, rotation)),
        )
        zero = jnp.zeros((), dtype)
        state = _State(cuts, start, begin, blank, zero - jnp.inf, zero, zero, zero + 1)
        more = lambda state: (state.more > 0) & (state.round < ROUNDS)
        state = lax.while_loop(more, turn, state)
        outcome = _judged(scaled, plain, state, loose)
        return outcome.point.w, (outcome, state.cuts)

    blank = Cuts.none(begin)
    example = with_cuts(blank)
    z = example.start(start, begin, jnp.ones((), dtype))
    evaluate = lambda z, cuts: with_cuts(cuts).evaluate(z)
    problem, theta = jax.closure_convert(evaluate, z, blank)
    size = jax.eval_shape(example.evaluate, z)[2].shape[0]
    w = jnp.zeros(len(z) + example.equalities + size, dtype)
    w, (outcome, cuts) = detached(run, w)
    finite = jnp.isfinite(outcome.point.error)
    converted = lambda z: problem(z, cuts, *shield(theta, finite))
    program = with_cuts(cuts)
    differentiate = outcome.point.linearised.differentiate
    w = differentiate(converted, w, *program.bounds(), finite=finite)
    # An action that is 0 but for rounding is 0: a follower may be indifferent there alone.
    action = program.split(w).action
    action = jnp.where(jnp.abs(action) < eps, action - lax.stop_gradient(action), action)
    return program, w.at[: len(action)].set(action), outcome


def _value(
    scaled: Scaled, program: Bilevel, action: Vector, response: Vector, map: Vector
) -> tuple[Vector, Vector]:
    """What a cut's response, led by one Newton step, is worth to the follower; and the response."""
    slope = jax.grad(program.follower, argnums=1)(action, response)
    led = jnp.clip(response + map @ slope, *scaled.response_bounds)
    return program.follower(action, led), led


def _best_answer(
    scaled: Scaled, program: Bilevel, action: Vector, response: Vector, proof: Global
) -> tuple[Vector, Vector]:
    """The best response to an action that branch and bound and Newton's method find; its map."""
    low, high = scaled.response_bounds
    utility = lambda r: program.follower(action, r)
    none = jnp.zeros(0, response.dtype)
    problem = Problem(utility, low, high, lambda _: (none, none))

    def improved(_: Vector, r: Vector) -> Vector:
        moved = Newton().maximise(problem, r).value
        moved = jnp.where(utility(moved) >= utility(r), moved, r)
        return proof.prove(utility, moved, low, high).value

    r = lax.fori_loop(0, 2, improved, response)
    free = (r > low) & (r < high)
    both = free[:, None] & free[None, :]
    bent = jnp.where(both, jax.hessian(utility)(r), -jnp.eye(len(r), dtype=r.dtype))
    bent = jnp.where(jnp.all(jnp.isfinite(bent)), bent, 0)
    steepest = jnp.max(jnp.abs(bent))
    peak = jnp.linalg.eigvalsh(bent)[-1] < -1e-6 * steepest
    safe = jnp.where(peak, bent, -jnp.eye(len(r), dtype=r.dtype))
    return r, jnp.where(peak & both, -jnp.linalg.inv(safe), 0)


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
        steps=state.steps,
    )
