"""Everything that `check` measures, as one compiled program."""

from functools import partial

import jax
import jax.numpy as jnp

from stackjax._arrays.starts import shift, spread
from stackjax._arrays.typing import PyTree, Vector
from stackjax._check.flat_game import Play
from stackjax._check.nearby import around
from stackjax._game import Game
from stackjax.solvers._solver import Solver

_DENSE = 512  # of more coordinates than these, Hessians are not decomposed


@partial(jax.jit, static_argnames=("solver", "starts"))
def probe(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    key: jax.Array | None,
    *,
    solver: Solver,
    starts: int,
) -> dict[str, jax.Array]:
    """The fields of `Check`, without the solver's tolerance."""
    play = Play(game, action, response, context, solver)
    a, r, exact = play.action, play.response, play.limits.exact

    lower, upper = play.response_bounds
    drawn = spread(starts, r, lower, upper, shift(key, r))
    answers, reports = jax.vmap(lambda start: play.answer(a, start))(drawn)
    own, report = answers[0], jax.tree.map(lambda x: x[0], reports)

    # What the follower gets at the best of the feasible answers.
    violation, value = play.response_violation(a, r), play.follower(a, r)
    allowed = jax.vmap(lambda y: play.response_violation(a, y))(answers) <= exact
    utilities = jax.vmap(lambda y: play.follower(a, y))(answers)
    utilities = jnp.where(allowed, utilities, -jnp.inf)
    noise = 64 * float(jnp.finfo(play.dtype).eps) * jnp.abs(value)
    regret = jnp.maximum(jnp.max(utilities) - value - noise, 0) * play.per_follower
    regret = jnp.where(jnp.isfinite(value), regret, jnp.inf)
    distance = jnp.max(jnp.abs(own - r) / play.response_unit)

    # The response around which to look (one of several: the one given), and the follower's best
    # one somewhere else.
    keep = ~(report.curvature > exact) & (regret <= exact) & (violation <= exact)
    base = jnp.where(keep, r, own)
    apart = jnp.abs(answers - base[None]) / play.response_unit[None]
    elsewhere = jnp.max(apart, axis=1) > play.limits.gradient
    utilities = jnp.where(elsewhere, utilities, -jnp.inf)
    other = jnp.where(jnp.max(utilities) > -jnp.inf, answers[jnp.argmax(utilities)], base)

    leader = around(play, base, other, report)
    measured = {
        "leader_violation": play.action_violation(a, r),
        "follower_violation": violation,
        "residual": report.residual,
        "distance": distance,
        "regret": regret,
        "curvature": report.curvature,
        "degeneracy": report.degeneracy,
        "gradient_error": leader.gradient_error,
        "gain": leader.gain,
        "concavity": _concavity(play, jnp.concatenate([drawn, answers])),
    }
    measured = {name: number.astype(play.dtype) for name, number in measured.items()}
    flags = {"converged": report.converged, "straddles": leader.straddles}
    return measured | flags | {"trials": leader.trials}


def _concavity(play: Play, sampled: Vector) -> Vector:
    """The least relative eigenvalue of the follower's problem, where `sampled` is feasible."""
    if len(play.response) > _DENSE:
        return jnp.full((), jnp.nan, play.dtype)

    def parts(r: Vector) -> Vector:
        inequality, _ = play.response_residuals(play.action, r)
        utility = play.follower(play.action, r).astype(inequality.dtype)
        return jnp.concatenate([-utility[None], inequality])

    def least(r: Vector) -> Vector:
        bent = jax.hessian(parts)(r)  # [1 + k, n, n]
        finite = jnp.all(jnp.isfinite(bent)) & jnp.isfinite(play.follower(play.action, r))
        largest = jnp.max(jnp.abs(bent), axis=(1, 2), keepdims=True) + jnp.finfo(bent.dtype).tiny
        values = jnp.linalg.eigvalsh(jnp.where(finite, bent / largest, 0))
        inside = play.response_violation(play.action, r) <= play.limits.exact
        return jnp.where(finite & inside, jnp.min(values), jnp.inf)

    lowest = jnp.min(jax.vmap(least)(sampled))
    return jnp.where(jnp.isfinite(lowest), lowest, jnp.nan)
