"""Followers that a leader knows only approximately: the worst of what they might answer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import (
    check_all_within,
    check_number,
    check_starts,
    check_type,
    check_within,
    is_number,
)
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import answer, respond
from stackjax._follower.vectors import at_least_float32, filled_bounds, like
from stackjax._game import Game, evaluate
from stackjax.sets import Box, Constrained
from stackjax.solvers._interior_point import InteriorPoint
from stackjax.solvers._solver import Solver


class Suboptimal(struct.PyTreeNode):
    """A follower that gives up to `delta` of its utility away, where it hurts the leader most.

        r(l, x) in argmin_{r in R} U_L(l, r, x)   subject to   U_F(l, r, x) >= U_F(l, r*, x) - delta

    with `r*` the best response: the leader's guarantee against a follower that is only
    approximately rational. The solution is a best response of an adversary with one constraint
    more, found by `InteriorPoint` and differentiated by the implicit function theorem, through
    `r*` too. For a strongly concave follower, `|r - r*| <= sqrt(2 delta / mu)`.

    The adversary's problem has one maximum where U_F is concave and U_L convex (or linear) in the
    response. Where U_L is concave the worst response can be on either side of `r*`, and is found
    by searches from several `starts`, without a guarantee in more than one dimension.

    Attributes:
      delta: what the follower may give away, > 0, in units of its utility; a number, or a scalar
        array that can be traced. (For 0, leave `follower` out.)
      starts: searches: two from both sides of `r*` along the leader's gradient, further ones along
        fixed random directions.
      solver: of the adversary's problem; `InteriorPoint()` if None.

    Raises:
      TypeError: `delta` is not a number, `starts` not an integer, `solver` not an InteriorPoint.
      ValueError: `delta` is not positive, or `starts` is below 1.

    Source: Besancon, Anjos and Brotcorne, Near-optimal robust bilevel optimization, arXiv
    1908.04040. (arXiv 2606.23026 assumes a follower that is exact.)

    Example:
      >>> careful = sj.fit.Suboptimal(0.01, starts=4)
      >>> careful.delta
      0.01
    """

    delta: Any
    starts: int = struct.field(pytree_node=False, default=2)
    solver: InteriorPoint | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        check_starts(self.starts, None)
        wanted = "stackjax.InteriorPoint(...) or None"
        check_type("solver", self.solver, InteriorPoint | None, wanted, owner="Suboptimal: ")
        if isinstance(self.delta, str | list | tuple | dict | bool) or self.delta is None:
            raise TypeError(f"Suboptimal: `delta` must be a number; got {self.delta!r}.")
        if is_number(self.delta):
            check_within("delta", self.delta, "(0, inf)", owner="Suboptimal: ")


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A follower that is one of M, without knowing which.

    The game's `follower_utility` is then a callable pytree whose arrays have one leading axis in
    common, `[M, ...]`, such as `jax.vmap(lambda key: fit_follower(..., key=key)[0])(keys)` makes;
    each member answers for itself, and in a horizon plays its own sessions. With `J_m` the
    leader's mean utility against member m, `fit_leader` maximises the mean of the lowest
    `max(tail * M, 1)` of them (a fraction counts in part): the conditional value at risk over
    members. Averages that are constrained are taken over the tail in the same way.

    Attributes:
      tail: share of the members, the worst for the leader: 1 is the mean over all, 0 the worst.
      each: how each member answers: exactly if None, or `Suboptimal(delta)`.

    Raises:
      TypeError: `tail` is not a number, or `each` is neither None nor Suboptimal.
      ValueError: `tail` is not in [0, 1].

    Source: Rockafellar and Uryasev, Journal of Risk 2, 2000 (conditional value at risk).

    Example:
      >>> print(sj.fit.Ensemble(tail=0.0))
      Ensemble(tail=0.0, each=None)
    """

    _: dataclasses.KW_ONLY
    tail: float = 1.0
    each: Suboptimal | None = None

    def __post_init__(self) -> None:
        check_number("tail", self.tail, owner="Ensemble: ")
        check_within("tail", self.tail, "[0, 1]", owner="Ensemble: ")
        wanted = "stackjax.fit.Suboptimal(...) or None"
        check_type("each", self.each, Suboptimal | None, wanted, owner="Ensemble: ")


jax.tree_util.register_dataclass(Ensemble, data_fields=["each"], meta_fields=["tail"])

Follower = Suboptimal | Ensemble


def check_follower(follower: Any, allowed: tuple[type, ...] = (Suboptimal, Ensemble)) -> None:
    """Raises TypeError unless `follower` is None or one of the allowed descriptions."""
    if follower is not None and not isinstance(follower, allowed):
        names = ", ".join(f"stackjax.fit.{kind.__name__}(...)" for kind in allowed)
        raise TypeError(f"`follower` must be {names} or None; got {follower!r}.")
    if isinstance(follower, Suboptimal):
        check_all_within("follower.delta", follower.delta, "(0, inf]")


def count_members(game: Game) -> int:
    """M, the length of the leading axis of the arrays in the game's follower.

    Raises:
      ValueError: there are no arrays, or their leading axes differ.
    """
    plain = jax.tree_util.all_leaves([game.follower_utility])
    leaves = [] if plain else jax.tree.leaves(game.follower_utility)
    sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes:
        found = sorted(size[0] if size else "none" for size in sizes)
        raise ValueError(
            "`follower`: an Ensemble needs a `game.follower_utility` whose arrays all have one "
            f"leading axis, a member each; got leading axes {found}. Stack the members with "
            "jax.tree.map(lambda *x: jnp.stack(x), *members)."
        )
    return sizes.pop()[0]


def worst_share(values: jax.Array, present: jax.Array, tail: float) -> jax.Array:
    """Mean of the lowest share `tail` of `values: [M]`, at least of one; of those present."""
    order = jnp.argsort(jnp.where(present, lax.stop_gradient(values), jnp.inf))
    size = jnp.maximum(tail * jnp.sum(present), 1).astype(values.dtype)
    ranks = jnp.arange(len(values), dtype=values.dtype)
    weight = jnp.clip(size - ranks, 0, 1) / size
    return jnp.sum(jnp.where(present[order], weight * values[order], 0))


def answer_to(
    follower: Suboptimal | None,
    game: Game,
    action: PyTree,
    context: PyTree,
    start: PyTree,
    settings: Solver,
) -> tuple[PyTree, jax.Array, PyTree]:
    """What the follower plays, whether it was found, and its best response (the next start)."""
    best, found = respond(game, action, context, start, settings)
    if follower is None:
        return best, found.converged > 0, best
    worst, solved = _worst(follower, game, action, context, best)
    return worst, (found.converged > 0) & solved, best


def _worst(
    follower: Suboptimal, game: Game, action: PyTree, context: PyTree, best: PyTree
) -> tuple[PyTree, jax.Array]:
    """The worst response for the leader within `delta` of the best one's utility."""
    middle, unravel = ravel_pytree(at_least_float32(best))
    delta = jnp.asarray(follower.delta, middle.dtype)
    own = lambda y: evaluate(game.follower_utility, "follower_utility", action, unravel(y), context)
    harm = lambda y: -evaluate(game.leader_utility, "leader_utility", action, unravel(y), context)
    top = own(middle)
    # The search is in units of the distance that delta allows, and of the harm done there: else a
    # small delta is less than the solver's tolerance, and its constraint counts as inactive.
    starts, width, force = lax.stop_gradient(_both_sides(own, harm, middle, delta, follower))
    place = lambda z: middle + width * z

    def broken(action: PyTree, z: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        r = unravel(place(z))
        loss = (top - game.follower_utility(action, r, context)) / delta - 1
        return loss, game.response_set.residuals(r, action, r, context)[0]

    def equal(action: PyTree, z: jax.Array, context: PyTree) -> jax.Array:
        r = unravel(place(z))
        return game.response_set.residuals(r, action, r, context)[1]

    def gain(action: PyTree, z: jax.Array, context: PyTree) -> jax.Array:
        return -game.leader_utility(action, unravel(place(z)), context) / force

    low, high = ((b - middle) / width for b in filled_bounds(game.response_set, unravel(middle)))
    adversary = Game(
        game.leader_utility, gain, response_set=Constrained(broken, equal, box=Box(low, high))
    )
    starts = jnp.clip(starts, lax.stop_gradient(low)[None], lax.stop_gradient(high)[None])
    settings = follower.solver
    if settings is None:
        settings = InteriorPoint(tol=float(jnp.finfo(middle.dtype).eps) ** 0.5)

    def search(begin: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        z, quality, _ = answer(adversary, action, context, begin, settings)
        value = lax.stop_gradient(harm(place(z)))
        found = (quality.converged > 0) & jnp.isfinite(value)
        return place(z), found, jnp.where(found, value, -jnp.inf)

    values, found, gained = jax.vmap(search)(starts)
    index = jnp.argmax(gained)
    # Where nothing that the follower may do matters to the leader, its best response is as bad as
    # any, and a search has nothing to go by.
    here = lax.stop_gradient(harm(middle))
    there = lax.stop_gradient(jax.vmap(lambda z: harm(place(z)))(starts))
    slope = jax.grad(lambda y: harm(y))(lax.stop_gradient(middle))
    rounding = 8 * jnp.finfo(middle.dtype).eps * jnp.abs(here)
    alike = jnp.all(slope == 0) & jnp.all(jnp.abs(there - here) <= rounding)
    worst = jnp.where(alike, middle, values[index])
    return like(unravel(worst), best), alike | found[index]


def _both_sides(
    own: Any, harm: Any, middle: jax.Array, delta: jax.Array, follower: Suboptimal
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the follower has lost about delta, by its curvature at the best response.

    Returns:
      `[starts, n]` points, the first two along and against the gradient of the leader's loss, less
      the best response and in units of the distance to the first; that distance; the leader's
      loss there. Both are positive.
    """
    slope = jax.grad(harm)(middle)
    others = jax.random.normal(jax.random.key(0), (follower.starts, len(middle)), middle.dtype)
    steep = jnp.all(jnp.isfinite(slope)) & (jnp.sum(slope**2) > 0)
    slope = jnp.where(steep, slope, others[0])
    along = jnp.concatenate([slope[None], -slope[None], others])[: follower.starts]
    positive = lambda x: jnp.where(jnp.isfinite(x) & (x > 0), x, 1)

    def reach(direction: jax.Array) -> jax.Array:
        unit = direction / jnp.sqrt(jnp.sum(direction**2))
        curvature = -jnp.dot(unit, jax.jvp(jax.grad(own), (middle,), (unit,))[1])
        return jnp.sqrt(2 * delta / positive(curvature)) * unit

    points = jax.vmap(reach)(along)
    width = positive(jnp.sqrt(jnp.sum(points[0] ** 2)))
    force = positive(jnp.sqrt(jnp.sum(slope**2)) * width)
    # Not quite there, so that no search begins on the constraint.
    return 0.9 * points / width, width, force
