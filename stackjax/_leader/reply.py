"""What is known of the follower at a point of the bilevel program."""

import jax
import jax.numpy as jnp

from stackjax._follower.shape import dips
from stackjax._leader.mpcc import Bilevel, Vector
from stackjax.solvers._optimality import Active
from stackjax.solvers.constrained._newton_kkt import polish

_ROUNDS = 6


def best_reply(program: Bilevel, z: Vector, tol: float) -> tuple[Vector, Vector]:
    """The follower's own solution next to a point, `[r]`, and whether it is one; a scalar bool.

    Newton's method on the follower's problem alone, at the point's action, from its response and
    multipliers. The judge is the same as for a follower that is asked on its own.

    Args:
      program: the game.
      z: `[n]` the point.
      tol: of the step, as in `kkt_solved`.
    """
    v, sizes = program.split(z), program.sizes
    infinite = jnp.full(sizes.response, jnp.inf, z.dtype)
    low, high = program.response_bounds
    lower = -infinite if low is None else low
    upper = infinite if high is None else high

    def evaluate(response: Vector) -> tuple[Vector, Vector, Vector]:
        g, h = program.follower_residuals(v.action, response)
        return -program.follower(v.action, response), h, g

    gaps, duals = program.gaps(v)
    tight = gaps <= duals
    cuts = [sizes.slack, sizes.slack + sizes.lower]
    rows, at_lower, at_upper = jnp.split(tight, cuts)
    none = jnp.zeros(sizes.response, bool)
    at_lower = (at_lower if sizes.lower else none) | (lower >= upper)
    active = Active(at_lower, (at_upper if sizes.upper else none) & ~at_lower, rows)
    w = jnp.concatenate([v.response, v.equality, v.inequality])
    # What the point holds at a bound stays there: the judge sees whether it belongs there.
    best, step, _ = polish(
        evaluate, w, active, lower, upper,
        equalities=sizes.equality, tol=tol, rounds=_ROUNDS, frozen=active.lower | active.upper,
    )  # fmt: skip
    solved = best.solved(step, lower, upper, tol)
    answer = jnp.clip((best.w + step)[: sizes.response], lower, upper)
    return jnp.where(solved, answer, v.response), solved


def quasiconcave(program: Bilevel, z: Vector, drawn: Vector) -> Vector:
    """Whether the follower's problem looks like one with a single strict maximum; a scalar bool.

    Its constraints are linear, and its utility falls on no segment that is looked at below both
    ends: between the starting points, and from the answer to each of them, at the chosen action
    and at those that were started from.

    Args:
      program: the game.
      z: `[n]` the point chosen.
      drawn: `[k, a + r]` starting points.
    """
    parts = program.split(z)
    action, answer, size = parts.action, parts.response, len(parts.action)
    others, drawn = drawn[:, :size], drawn[:, size:]
    begins = jnp.concatenate([drawn, jnp.broadcast_to(answer, drawn.shape)])
    ends = jnp.concatenate([jnp.roll(drawn, 3, axis=0), drawn])
    here = jnp.broadcast_to(action, (len(begins), size))
    twice = lambda x: jnp.concatenate([x, x])
    actions = jnp.concatenate([here, twice(others)])
    falls = dips(program.follower, actions, twice(begins), twice(ends))
    eps = float(jnp.finfo(answer.dtype).eps)
    bent = jax.hessian(lambda r: program.follower_residuals(action, r)[0])(answer)
    linear = jnp.max(jnp.abs(bent), initial=0) <= eps**0.5
    strict = program.follower_curvature(z) > eps**0.5
    return ~falls & linear & strict
