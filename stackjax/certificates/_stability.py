"""Stability of the follower's response (Prop. 5.2): its constants, its bound, and the ratio."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.verdict import Verdict
from stackjax.certificates._certificate import Constant, Statement
from stackjax.certificates._samples import Plays, Vector, View, depends_on, direction, largest
from stackjax.sets import Ball, Box, Polyhedron, Simplex

_SOURCE = "Prop. 5.2"
_SEPARATION = 1e-2  # of the action set: nearer pairs would measure the solver's rounding


class Curvature(NamedTuple):
    """The follower's strong concavity, `mu`.

    Attributes:
      value: the least curvature `-lambda_max(Hessian_r U_F)` that was seen, after descent too.
      floor: a lower bound by construction or by exact computation; NaN where there is none.
      how: where `mu` comes from.
    """

    value: float
    floor: float
    how: str

    @property
    def mu(self) -> float:
        """The floor where there is one, else the least that was seen."""
        return self.value if math.isnan(self.floor) else self.floor


def bend(view: View, a: Vector, r: Vector) -> Vector:
    """The largest eigenvalue of the follower's Hessian in the response: `-mu` at one play."""
    return jnp.linalg.eigvalsh(jax.hessian(view.follower, argnums=1)(a, r))[-1]


def cross(view: View, a: Vector, r: Vector) -> Vector:
    """The spectral norm of `d^2 U_F / dr da`, `[n, m]`, at one play."""
    return jnp.linalg.norm(jax.jacfwd(jax.grad(view.follower, argnums=1), argnums=0)(a, r), ord=2)


def curvature(plays: Plays, concavity: Callable | float | None, *, steps: int) -> Curvature:
    """`mu`: by construction where the utility has a bound, else sampled, exact where constant."""
    sampled, ascended = largest(plays, bend, steps=steps)
    seen = -float(jnp.max(jnp.maximum(sampled, ascended)))
    if not math.isfinite(seen):
        seen = math.nan
    if concavity is None:
        concavity = getattr(plays.game.follower_utility, "concavity_bound", None)
    if concavity is not None:
        if not callable(concavity):
            found = concavity
        elif jax.tree.leaves(plays.contexts):
            found = jax.vmap(concavity)(plays.contexts)
        else:
            found = concavity(plays.contexts)
        return Curvature(seen, float(jnp.min(jnp.asarray(found))), "by construction")
    if _constant(plays, bend):
        return Curvature(seen, seen, "by exact computation, the Hessian being constant")
    return Curvature(seen, math.nan, "by sampling")


def cross_lipschitz(plays: Plays, *, steps: int) -> tuple[float, str]:
    """`L` with `||grad_r U_F(l, r) - grad_r U_F(l', r)|| <= L ||l - l'||`, and how it was found."""
    sampled, ascended = largest(plays, cross, steps=steps)
    value = float(jnp.max(jnp.maximum(sampled, ascended)))
    constant = _constant(plays, cross)
    how = "by exact computation, the derivative being constant" if constant else "by sampling"
    return (value if math.isfinite(value) else math.nan), how


def _constant(plays: Plays, quantity: Callable) -> bool:
    """Whether it is proved not to depend on the play, and every context was visited."""
    seen = len(np.unique(np.asarray(plays.index)))
    leaves = jax.tree.leaves(plays.contexts)
    a, r = plays.action[0], plays.response[0]
    on_play = depends_on(lambda a, r: quantity(View(plays, plays.index[0]), a, r), a, r)
    return not any(on_play) and (not leaves or seen == leaves[0].shape[0])


@partial(jax.jit, static_argnames=("steps",))
def measured_ratio(plays: Plays, *, steps: int) -> jax.Array:
    """`[2]`: the largest `||r* - r*'|| / ||l - l'||` over random pairs, and after ascent.

    Ascent moves both actions along the ratio's gradient, through both best responses, and may
    bring them as near as 1/100 of the sampled actions' spread: then it is a slope. 0 without any
    pair whose followers were solved.
    """
    separation = _SEPARATION * jnp.max(jnp.linalg.norm(plays.action - plays.action[:1], axis=1))

    def one(index: jax.Array, a: Vector, b: Vector, inside: jax.Array) -> jax.Array:
        view = View(plays, index)

        def ratio(pair: jax.Array) -> tuple[Vector, Vector]:
            answers, converged = jax.vmap(view.answer)(pair)
            apart = jnp.sqrt(jnp.maximum(jnp.sum((pair[0] - pair[1]) ** 2), 1e-30))
            moved = jnp.sqrt(jnp.sum((answers[0] - answers[1]) ** 2) + 1e-30)
            found = moved / apart
            ok = jnp.all(converged) & (apart >= separation) & inside & jnp.isfinite(found)
            return found, jnp.where(ok, found, 0)

        width = view.widths(a, view.start)[0]

        def step(carry: tuple, k: jax.Array) -> tuple[tuple, Vector]:
            best, at, slope, trial = carry
            (_, found), new = jax.value_and_grad(ratio, has_aux=True)(trial)
            keep = lambda x, y: jnp.where((found > best) | (k == 0), x, y)
            best, at, slope = keep(found, best), keep(trial, at), keep(new, slope)
            size = 0.25 * 30.0 ** (-k / max(steps, 1))
            away = jax.vmap(lambda g: direction(g * width))(slope) * width[None]
            trial = jax.vmap(view.project_action)(at + size * away)
            return (best, at, slope, trial), found

        start = jnp.stack([a, b])
        ks = jnp.arange(steps + 1, dtype=a.dtype)
        first = (jnp.zeros((), a.dtype), start, jnp.zeros_like(start), start)
        (best, *_), found = jax.lax.scan(step, first, ks)
        return jnp.stack([found[0], best])

    partner = jnp.roll(plays.action, 1, axis=0)
    found = jax.vmap(one)(plays.index, plays.action, partner, plays.inside)
    return jnp.max(found, axis=0)


def stability_statement(plays: Plays, curved: Curvature, *, steps: int, pairs: int) -> Statement:
    """`||r*(l) - r*(l')|| <= (L / mu) ||l - l'||`: the bound beside the largest measured ratio."""
    name, assumption = "Stability", "strongly concave follower, convex response set that is fixed"
    reason = _unfit(plays)
    if reason:
        return Statement(name, _SOURCE, assumption, note=reason)
    if not np.asarray(plays.inside).any() or math.isnan(curved.value):
        note = "no feasible play, or a curvature that is not finite"
        return Statement(name, _SOURCE, assumption, note=note)
    level, how = cross_lipschitz(plays, steps=steps)
    constants = {
        "mu": Constant(curved.mu),
        "least curvature seen": Constant(curved.value),
        "L": Constant(level),
    }
    quantity = "largest ||dr*|| / ||dl||"
    basis = f"mu {curved.how}, L {how}"
    failed = partial(Statement, name, _SOURCE, assumption, basis, constants, verdict=Verdict.FAILS)
    rounding = 1e-3 * (abs(curved.floor) + 1e-6) if not math.isnan(curved.floor) else 0.0
    if not math.isnan(curved.floor) and curved.value < curved.floor - rounding:
        note = "the stated concavity bound is above a curvature that was seen"
        return failed(note=note)
    if not curved.mu > 0:
        note = "the follower is not strongly concave: the response may jump"
        return failed(bound=math.inf, quantity=quantity, note=note)
    few = jax.tree.map(lambda leaf: leaf, plays).replace(
        index=plays.index[:pairs],
        action=plays.action[:pairs],
        response=plays.response[:pairs],
        inside=plays.inside[:pairs],
    )
    random, ascended = (float(x) for x in measured_ratio(few, steps=steps))
    measured, bound = max(random, ascended), level / curved.mu
    constants |= {
        "ratio at random pairs": Constant(random),
        "after ascent": Constant(ascended),
    }
    broken = measured > bound * 1.01 + 1e-4
    return Statement(
        name=name,
        source=_SOURCE,
        assumption=assumption,
        how=basis,
        constants=constants,
        bound=bound,
        measured=measured,
        quantity=quantity,
        verdict=Verdict.FAILS if broken else Verdict.HOLDS,
        note="a measured ratio exceeds the bound" if broken else "",
    )


def _unfit(plays: Plays) -> str:
    """Why the proposition does not apply to the response set, or ''."""
    feasible = plays.game.response_set
    view = View(plays, plays.index[0])
    a, r = plays.action[0], plays.response[0]
    residuals = lambda a: feasible.residuals(
        view.unravel_response(r), view.unravel_action(a), view.unravel_response(r), view.context
    )
    if depends_on(residuals, a)[0]:
        return "the response set depends on the action"
    if not isinstance(feasible, Box | Simplex | Ball | Polyhedron):
        return f"whether a {type(feasible).__name__} is convex is not known"
    return ""
