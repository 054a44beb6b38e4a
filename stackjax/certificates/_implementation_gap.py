"""Implementation gap: the leader's payoff when the follower is only nearly rational."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from stackjax.certificates._certificate import Constant, Statement, verdict_of
from stackjax.certificates._samples import Plays, Vector, View, largest
from stackjax.certificates._stability import Curvature

_SOURCE = "strong concavity"
_DIRECTIONS = 16
_HALVINGS = 20


def response_slope(view: View, a: Vector, r: Vector) -> Vector:
    """`||dU_L / dr||` at one play."""
    return jnp.sqrt(jnp.sum(jax.grad(view.leader, argnums=1)(a, r) ** 2) + 1e-30)


def response_error(suboptimality: jax.Array, mu: jax.Array) -> jax.Array:
    """`sqrt(2 eps / mu)`: how far from the best a response can be that gives up `eps` of U_F.

    For a mu-strongly concave follower in a convex set, by the optimality of the best response.
    Differentiable; infinite where `mu` is not positive.

    Args:
      suboptimality: `eps`, what the follower gives up, at least 0.
      mu: the follower's strong concavity.

    Source: the definition of strong concavity and the best response's optimality condition, as in
    Nesterov, Introductory Lectures on Convex Optimization, 2004, Section 2.1.3.

    Example:
      >>> float(sj.certificates.response_error(jnp.array(0.02), jnp.array(4.0)))
      0.10000000149011612
    """
    concave = mu > 0
    inside = 2 * suboptimality / jnp.where(concave, mu, 1)
    positive = inside > 0
    distance = jnp.where(positive, jnp.sqrt(jnp.where(positive, inside, 1)), 0 * inside)
    return jnp.where(concave, distance, jnp.inf)


@partial(jax.jit, static_argnames=())
def worst_of_nearly_best(
    plays: Plays, suboptimality: jax.Array, radius: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`[M]` largest losses of the leader, and `[M]` largest distances, at nearly best responses.

    From the best response along random directions and the leader's gradient, to where the follower
    gives up `suboptimality`, by bisection; 0 where the follower's solver did not converge.
    """
    size = plays.response.shape[1]
    drawn = jax.random.normal(key, (_DIRECTIONS, size), plays.response.dtype)
    drawn = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)

    def one(index: jax.Array, a: Vector, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
        view = View(plays, index)
        best, converged = view.answer(a)
        up = jax.grad(view.leader, argnums=1)(a, best)
        up = up / jnp.sqrt(jnp.sum(up**2) + 1e-30)
        top, value = view.follower(a, best), view.leader(a, best)

        def along(direction: Vector) -> tuple[jax.Array, jax.Array]:
            at = lambda t: view.project_response(best + t * radius * direction)
            fine = lambda r: (view.follower(a, r) >= top - suboptimality) & view.inside(a, r)

            def halve(_: int, ends: tuple) -> tuple:
                low, high = ends
                middle = (low + high) / 2
                ok = fine(at(middle))
                return jnp.where(ok, middle, low), jnp.where(ok, high, middle)

            one_, zero = jnp.ones((), a.dtype), jnp.zeros((), a.dtype)
            low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (zero, 2 * one_))
            r = at(low)
            usable = fine(r) & converged & inside
            distance = jnp.sqrt(jnp.sum((r - best) ** 2))
            return jnp.where(usable, value - view.leader(a, r), 0), jnp.where(usable, distance, 0)

        losses, distances = jax.vmap(along)(jnp.concatenate([drawn, up[None], -up[None]]))
        return jnp.max(losses), jnp.max(distances)

    return jax.vmap(one)(plays.index, plays.action, plays.inside)


def gap_statement(
    plays: Plays,
    curved: Curvature,
    *,
    suboptimality: float | None,
    span: tuple[float, float],
    steps: int,
    pairs: int,
    key: jax.Array,
) -> Statement:
    """`U_L(l, r*) - U_L(l, r) <= L_r sqrt(2 eps / mu)` for every response that gives up eps."""
    name, assumption = "Implementation gap", "strongly concave follower that gives up at most eps"
    if not curved.mu > 0 or not np.asarray(plays.inside).any():
        note = "needs a strongly concave follower and a feasible play"
        return Statement(name, _SOURCE, assumption, note=note)
    eps = 0.01 * span[1] if suboptimality is None else float(suboptimality)
    sampled, ascended = largest(plays, response_slope, steps=steps)
    slope = float(jnp.max(jnp.maximum(sampled, ascended)))
    radius = float(response_error(jnp.asarray(eps), jnp.asarray(curved.mu)))
    few = plays.replace(
        index=plays.index[:pairs], action=plays.action[:pairs], response=plays.response[:pairs],
        inside=plays.inside[:pairs],
    )  # fmt: skip
    loss, distance = worst_of_nearly_best(few, jnp.asarray(eps), jnp.asarray(radius), key)
    bound, measured = slope * radius, float(jnp.max(loss))
    far = float(jnp.max(distance))
    broken = measured > bound * 1.01 + 1e-5 or far > radius * 1.01 + 1e-4
    verdict = verdict_of(broken, bound >= span[0] > 0)
    return Statement(
        name=name,
        source=_SOURCE,
        assumption=assumption,
        how=f"mu {curved.how}, L_r by sampling",
        constants={
            "eps": Constant(eps),
            "mu": Constant(curved.mu),
            "L_r": Constant(slope),
            "||r - r*|| at most": Constant(radius),
            "seen": Constant(far),
        },
        bound=bound,
        measured=measured,
        quantity="leader's loss to a nearly rational follower",
        verdict=verdict,
        note=f"U_L ranges over {span[0]:.3g} at the plays" if math.isfinite(span[0]) else "",
    )
