"""Search for the leader's best point of the bilevel program, and what is known of it.

From every starting point: the interior-point method on the penalised program; Newton's method on
the active set found, with the nearly biactive pairs held on both sides or on one (three readings
of what is near); then the follower solves its own problem at the leader's action. Points that the
follower would leave are not solutions. The best of the others is returned.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.finite import shield
from stackjax._arrays.search_history import Watch
from stackjax._arrays.starts import spread
from stackjax._leader.mpcc import Bilevel, Vector
from stackjax._leader.outcome import Left, Outcome, Point
from stackjax._leader.reply import best_reply, quasiconcave
from stackjax.solvers._implicit import detached
from stackjax.solvers._optimality import Active, row_units
from stackjax.solvers._settings import Complementarity, tolerance
from stackjax.solvers.constrained._interior_point import Found, interior
from stackjax.solvers.constrained._newton_kkt import polish
from stackjax.solvers.constrained._program import Iterate

_ROUNDS = 2
# Plays at which it is asked whether the follower is concave, and has a better answer.
_LOOKS = 64


def search(
    program: Bilevel,
    action: Vector,
    response: Vector,
    *,
    settings: Complementarity,
    starts: int,
    rotation: Vector,
    watch: Watch,
    unit: Vector,
) -> tuple[Vector, Outcome]:
    """The best point found, `[n + p + k]` and differentiable, and the report on it.

    Args:
      program: it may close over traced values.
      action: `[a]` the leader's start.
      response: `[r]` the follower's.
      settings: the method's.
      starts: number of starting points.
      rotation: `[a + r]`, of the sequence they are taken from.
      watch: who looks at each step.
      unit: scalar, what the leader's utility was multiplied by, for him.
    """
    example = program.start(action, response, jnp.ones((), action.dtype))
    problem, theta = jax.closure_convert(program.evaluate, example)

    def run(_: Vector) -> tuple[Vector, Outcome]:
        outcome = find(program, action, response, settings, starts, rotation, watch, unit)
        return outcome.point.w, outcome

    size = jax.eval_shape(program.evaluate, example)[2].shape[0]
    blank = jnp.zeros(len(example) + program.equalities + size, action.dtype)
    w, outcome = detached(run, blank)
    finite = jnp.isfinite(outcome.point.error)
    evaluate = lambda z: problem(z, *shield(theta, finite))
    differentiate = outcome.point.linearised.differentiate
    return differentiate(evaluate, w, *program.bounds(), finite=finite), outcome


def find(
    program: Bilevel,
    action: Vector,
    response: Vector,
    settings: Complementarity,
    starts: int,
    rotation: Vector,
    watch: Watch,
    unit: Vector,
) -> Outcome:
    """`search` without derivatives: phases of one scan, so that all share one compiled method.

    In even phases the follower solves its own problem at the actions where the last phase ended;
    in odd ones the leader starts from there. (In the first, half of the starts are cold ones
    instead.) The last phase only asks the follower.
    """
    dtype = action.dtype
    eps = float(jnp.finfo(dtype).eps)
    lower, upper = program.bounds()
    n, a = len(lower), len(action)
    begin = jnp.concatenate([action, response])
    drawn = spread(starts, begin, lower[: len(begin)], upper[: len(begin)], rotation)
    if program.easing is not None:
        # The given response may be the best of many peaks: other actions are tried with it too.
        followed = drawn.at[1::4, a:].set(response)
        drawn = jnp.where(jnp.any(program.easing > 0), followed, drawn)
    number = jnp.arange(starts)
    # Of the leader's utility and of the penalty, beside a barrier of one: no pair suits all games.
    pulls = jnp.asarray([1.0, 4.0], dtype)[number % 2]
    weights = jnp.asarray([1.0, 1.0, 10.0, 10.0, 0.1, 0.1], dtype)[number % 6]
    duals = jnp.asarray([1.0, 0.1, 10.0], dtype)[number % 3]
    cold = jax.vmap(program.start)(drawn[:, :a], drawn[:, a:], duals)

    worth = lambda z: program.leader(z[:a], program.split(z).response) / unit

    def approach(begin: Vector, pull: Vector, weight: Vector, leads: Vector) -> Found:
        own_lower, own_upper = program.follower_bounds(begin)
        return interior(
            lambda z, barrier: program.penalised(z, barrier, pull, weight, leads),
            begin,
            jnp.where(leads, lower, own_lower),
            jnp.where(leads, upper, own_upper),
            barrier=settings.barrier,
            last_barrier=eps**0.5,
            max_steps=settings.max_steps,
            watch=watch,
            note=lambda z: (z[:a], worth(z), leads),
        )

    # A biactive pair ends near the root of the last barrier, others may happen to be close to it.
    readings = jnp.asarray([[4.0, 1], [1.5, 1], [0.0, 1]], dtype)
    if program.eased:
        # Where an eased inequality is flat at the optimum, it is the pairs that determine that.
        readings = jnp.concatenate([jnp.asarray([[100.0, 0]], dtype), readings])
    readings = readings * jnp.asarray([[eps**0.25, 1]], dtype)
    tol = tolerance(settings, dtype)

    def phase(begins: Vector, index: Vector) -> tuple[Vector, Any]:
        leads = index % 2 == 1
        afresh = (index == 1) & (number % 2 == 0)
        begins = jnp.where(afresh[:, None], cold, begins)
        near = jax.vmap(approach, in_axes=(0, 0, 0, None))(begins, pulls, weights, leads)
        finish = lambda at, reading: _finish(program, at, reading, tol, leads)
        points = jax.vmap(jax.vmap(finish, in_axes=(None, 0)), in_axes=(0, None))(
            near.point, readings
        )
        answered = jax.vmap(program.restart)(near.point)
        parts = jax.vmap(program.split)(points.w[:, 0, :n])
        led = jax.vmap(program.start)(parts.action, parts.response, duals)
        report = points, near.point.z[:, a : len(begin)], near.steps, near.history
        return jnp.where(leads, led, answered), report

    _, (points, answers, steps, histories) = lax.scan(phase, cold, jnp.arange(2 * _ROUNDS + 1))
    # Of the leader's phases the points, and of the follower's after them the answers.
    points = jax.tree.map(lambda x: lax.collapse(x[1::2], 0, 3), points)
    answers = lax.collapse(answers[0::2], 0, 2)
    histories = jax.tree.map(lambda x: lax.collapse(x[1::2], 0, 2), histories)
    # Where the follower is looked at does not depend on how often the leader starts.
    seen = spread(max(starts, _LOOKS), begin, lower[: len(begin)], upper[: len(begin)], rotation)
    outcome, index = _choose(program, points, answers, jnp.max(steps[1::2]), seen, starts, tol)
    path = jax.tree.map(lambda x: x[index // len(readings)], histories)
    return outcome.replace(history=path)


def _finish(program: Bilevel, at: Iterate, reading: Vector, tol: float, wanted: Vector) -> Point:
    """Newton's method on the active set that the interior-point method ended close to.

    `reading [2]`: what counts as near a bound, and whether eased inequalities may be active.
    """
    near, holds = reading[0], reading[1] > 0
    lower, upper = program.bounds()
    n, p, eps = len(lower), program.equalities, float(jnp.finfo(lower.dtype).eps)
    active, paired, signed = program.active(at.z, near)
    plain = ~paired
    active = Active(
        active.lower | (plain & (at.lower > at.z - lower)) | (lower >= upper),
        active.upper | (plain & (at.upper > upper - at.z) & (lower < upper)),
        (at.inequality > at.slack) & (holds | ~program.eased_rows),
    )

    def evaluate(z: Vector) -> tuple[Vector, Vector, Vector]:
        f, c, g = program.evaluate(z)
        return f, c, jnp.where(holds | ~program.eased_rows, g, -1)

    # Where multipliers are not unique some have diverged; Newton's method finds its own.
    calm = lambda multiplier: jnp.where(jnp.abs(multiplier) <= 1e4, multiplier, 0)
    w = jnp.concatenate([at.z, calm(at.equality), calm(at.inequality)])
    best, step, length = polish(
        evaluate, w, active, lower, upper,
        equalities=p, tol=tol, frozen=paired, signed=signed, rounds=jnp.where(wanted, 8, 0),
    )  # fmt: skip
    finite = jnp.isfinite(best.error)
    solved = best.solved(step, lower, upper, tol, signed)
    moved = jnp.where(finite & (length <= eps**0.25), best.w + step, best.w)
    moved = jnp.where(jnp.all(jnp.isfinite(moved)), moved, best.w)
    z = jnp.clip(moved[:n], lower, upper)
    f, c, g = program.evaluate(z)
    gaps, duals = program.gaps(program.split(z))
    rows = best.hessian[n:, :n]
    units = row_units(rows, z)
    played = 1 + jnp.max(jnp.abs(z[program.sizes.action :][: program.sizes.response]))
    infeasibility = jnp.concatenate([
        jnp.abs(c) / units[:p],
        g / units[p:],
        jnp.minimum(gaps, duals) / played,
        -gaps / played,
        -duals,
    ])  # fmt: skip
    if program.margin is not None and program.easing is not None:
        # A point at which the method could not keep the margins is next to none that keeps them.
        kept = program.evaluate(at.z)[2][-program.eased :]
        kept = program.easing * (kept + program.asked(program.split(at.z), eps**0.5))
        infeasibility = jnp.concatenate([infeasibility, kept])
    return Point(
        w=jnp.concatenate([z, moved[n:]]),
        linearised=best.linearised(),
        error=best.error,
        length=length,
        infeasibility=jnp.max(infeasibility, initial=0),
        curvature=best.curvature(n),
        value=-f,
        solved=solved.astype(z.dtype),
        near=at.z[: program.sizes.action + program.sizes.response],
    )


def _choose(
    program: Bilevel,
    points: Point,
    answers: Vector,
    steps: Vector,
    drawn: Vector,
    starts: int,
    tol: float,
) -> tuple[Outcome, Vector]:
    """The best of the points that the follower would not leave, for whom `drawn` are tried.

    And which it is.
    """
    n, a, dtype = len(program.bounds()[0]), program.sizes.action, points.w.dtype
    eps = float(jnp.finfo(dtype).eps)
    loose = eps**0.35  # 3.3e-6 in float64, 3.8e-3 in float32
    parts = jax.vmap(program.split)(points.w[:, :n])
    actions, responses = parts.action, parts.response

    def utility(action: Vector, response: Vector) -> tuple[Vector, Vector]:
        g, h = program.follower_residuals(action, response)
        violation = jnp.max(jnp.concatenate([g, jnp.abs(h)]), initial=0)
        for bound, sign in zip(program.response_bounds, (1, -1)):
            if bound is not None:
                violation = jnp.maximum(violation, jnp.max(sign * (bound - response)))
        return program.follower(action, response), violation

    # Every response that was met is tried as an answer to every point's action.
    tried = jnp.concatenate([responses, answers, drawn[:, actions.shape[1] :]])
    gains, violations = jax.vmap(lambda a: jax.vmap(lambda r: utility(a, r))(tried))(actions)
    own, _ = jax.vmap(utility)(actions, responses)
    allowed = jnp.isfinite(gains) & (violations <= eps**0.5)
    best = jnp.max(jnp.where(allowed, gains, -jnp.inf), axis=1)
    # In the program's units (see _scales.py) utilities change by about one.
    noise = 16 * eps * jnp.abs(own)
    regret = jnp.maximum(best - own - noise, 0)
    regret = jnp.where(jnp.isfinite(own), regret, jnp.inf)

    stationary = (points.solved > 0) & (points.error <= loose)
    stationary &= points.curvature >= -loose
    feasible = (points.infeasibility <= loose) & jnp.isfinite(points.value)
    value = jnp.where(jnp.isfinite(points.value), points.value, -jnp.inf)
    # Where the follower is indifferent at the optimum, a little regret can promise more.
    allowance = eps**0.7 if program.eased else loose
    worth = jnp.where(feasible & (regret > allowance), value, -jnp.inf)
    most = jnp.argmax(worth)
    rival = tried[jnp.argmax(jnp.where(allowed[most], gains[most], -jnp.inf))]
    candidate = feasible & (regret <= allowance)
    left = Left(actions[most], responses[most], rival, worth[most])
    top = jnp.max(jnp.where(candidate, value, -jnp.inf))
    equal = candidate & (value >= top - loose - 16 * eps * jnp.abs(top))
    # A proven point before an unproven one of the same value, and of the proven ones the best:
    # their values are exact, so that only rounding separates equals. Failing all, the least bad.
    badness = points.infeasibility + regret + 1e-3 * points.error
    proven = equal & stationary
    best_proven = jnp.max(jnp.where(proven, value, -jnp.inf))
    proven &= value >= best_proven - 16 * eps * jnp.maximum(jnp.abs(top), 1)
    rank = jnp.where(equal, jnp.where(proven, 2, 1) - points.error, -1.0)
    fallback = -jnp.where(jnp.isfinite(badness), badness, jnp.finfo(dtype).max / 4) - 2
    index = jnp.argmax(jnp.where(equal, rank, fallback))

    # The follower's problem is taken as concave if it is at every point that was met.
    hessians = jax.hessian(
        lambda r, a: jnp.concatenate(
            [-program.follower(a, r)[None], program.follower_residuals(a, r)[0]]
        )
    )
    bent = jax.vmap(hessians)(
        jnp.concatenate([responses, drawn[:, -responses.shape[1] :]]),
        jnp.concatenate([actions, drawn[:, : actions.shape[1]]]),
    )
    bent = jnp.where(jnp.isfinite(bent), bent, 0)
    least = jnp.linalg.eigvalsh(bent)[..., 0]
    largest = jnp.max(jnp.abs(bent), axis=(-2, -1)) + jnp.finfo(dtype).tiny
    local = jnp.any(least < -loose * largest)
    # A point that is not proven can promise more than there is: where a concave follower's own
    # answer is clearly another response, the best proven point replaces it.
    last = jnp.argmax(jnp.where(stationary & candidate, value, -jnp.inf))
    pair = jnp.stack([index, jnp.where(jnp.any(stationary & candidate), last, index)])
    replies, found = lax.map(lambda w: best_reply(program, w[:n], tol), points.w[pair])
    sizes = 1 + jnp.max(jnp.abs(replies), axis=1, initial=0)
    away = jnp.max(jnp.abs(replies - responses[pair]), axis=1, initial=0)
    keeps = found & (away <= loose * sizes)
    leaves = found & (away > eps**0.25 * sizes) & ~local
    which = jnp.where(leaves[0] & keeps[1], 1, 0)
    index, answer, kept = pair[which], replies[which], keeps[which]
    chosen = jax.tree.map(lambda x: x[index], points)
    agree = equal & (value >= value[index] - eps**0.5 - 16 * eps * jnp.abs(top))
    agreeing_starts = jnp.sum(agree.reshape(_ROUNDS, starts, -1).any(axis=(0, 2)))
    below = value < value[index] - 1e-3 * (jnp.abs(value[index]) + jnp.abs(value))
    others = jnp.any(stationary & candidate & below)
    moved = jnp.where(kept, answer, responses[index])
    chosen = chosen.replace(w=chosen.w.at[a : a + len(moved)].set(moved))
    quasi = quasiconcave(program, chosen.w[:n], drawn)
    settled = (stationary & candidate)[index] & kept
    number = lambda x: jnp.asarray(x).astype(dtype)
    outcome = Outcome(
        point=chosen,
        regret=regret[index],
        steps=number(steps),
        agreeing_starts=number(agreeing_starts),
        others=number(others),
        local=number(local),
        unique=number(program.follower_curvature(chosen.w[:n]) > eps**0.5),
        settled=number(settled),
        converged=number(settled & (~local | quasi)),
        history=None,
        candidate=number(candidate[index]),
        left=left,
    )
    return outcome, index
