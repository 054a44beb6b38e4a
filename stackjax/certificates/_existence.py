"""Existence of an equilibrium (Thm 5.1): compact sets, utilities finite and continuous."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax._arrays.verdict import Verdict
from stackjax.certificates._certificate import Constant, Statement
from stackjax.certificates._samples import Plays, Vector, View, lengths
from stackjax.certificates._stability import Curvature
from stackjax.sets import Ball, Box, FeasibleSet, Simplex

_SOURCE = "Thm 5.1"


class Regularity(NamedTuple):
    """What the probe saw of both utilities.

    Attributes:
      finite: share of the plays at which both are finite.
      jump: the largest change left over an interval that bisection shrank to rounding, relative
        to the utility's range over the plays: 0 up to rounding for a continuous utility.
    """

    finite: float
    jump: float


def regularity(plays: Plays) -> Regularity:
    """Looks for values that are not finite and, by bisection between plays, for jumps.

    Between two plays of one context the half over which the utility changes more is kept, until
    the two ends are a few roundings apart. A continuous utility changes by no more than its slope
    times that; a step stays. Steps that no segment crosses are not seen.
    """
    finite, change, values = (np.asarray(x) for x in _probe(plays))
    inside = np.asarray(plays.inside)
    spans = [np.ptp(v[inside & np.isfinite(v)]) if inside.any() else 0.0 for v in values]
    jumps = [
        float(np.max(c[inside & np.isfinite(c)], initial=0.0)) / span if span > 0 else 0.0
        for c, span in zip(change, spans)
    ]
    return Regularity(float(finite[inside].mean()) if inside.any() else 0.0, max(jumps))


@partial(jax.jit)
def _probe(plays: Plays) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both finite `[M]`; remaining changes `[2, M]`; values `[2, M]`."""
    other_a, other_r = jnp.roll(plays.action, 1, axis=0), jnp.roll(plays.response, 1, axis=0)
    dtype = plays.action.dtype
    halvings = int(-np.log2(float(jnp.finfo(dtype).eps))) - 2

    def one(index: jax.Array, a: Vector, r: Vector, b: Vector, s: Vector) -> tuple:
        view = View(plays, index)
        changes, values = [], []
        for utility in (view.leader, view.follower):
            at = lambda t, utility=utility: utility(a + t * (b - a), r + t * (s - r))

            def halve(ends: tuple, _: None, at=at) -> tuple[tuple, None]:
                low, high = ends
                middle = (low + high) / 2
                left = jnp.abs(at(middle) - at(low)) >= jnp.abs(at(high) - at(middle))
                return (jnp.where(left, low, middle), jnp.where(left, middle, high)), None

            ends = jnp.zeros((), dtype), jnp.ones((), dtype)
            (low, high), _ = lax.scan(halve, ends, None, length=halvings)
            changes.append(jnp.abs(at(high) - at(low)))
            values.append(at(jnp.zeros((), dtype)))
        return jnp.stack(changes), jnp.stack(values)

    changes, values = jax.vmap(one)(plays.index, plays.action, plays.response, other_a, other_r)
    return jnp.all(jnp.isfinite(values), axis=1), changes.T, values.T


def compact(feasible: FeasibleSet, widths: np.ndarray) -> bool:
    """Whether the set is known to be bounded; all of the library's are closed."""
    return isinstance(feasible, Simplex | Ball) or bool(np.isfinite(widths).all())


def existence_statement(plays: Plays, curvature: Curvature) -> Statement:
    """Thm 5.1, and uniqueness of the follower's response where it is strongly concave."""
    game = plays.game
    widths = lengths(game, plays.action_like, plays.response_like)
    bounded = [
        compact(feasible, width)
        for feasible, width in zip((game.action_set, game.response_set), widths)
    ]
    seen = regularity(plays)
    limit = float(jnp.finfo(plays.action.dtype).eps) ** 0.25
    unknown = [
        name
        for name, known, feasible in zip(
            ("action", "response"), bounded, (game.action_set, game.response_set)
        )
        if not known and not isinstance(feasible, Box)
    ]
    open_box = [
        name
        for name, known in zip(("action", "response"), bounded)
        if not known and name not in unknown
    ]
    unique = curvature.floor > 0 or curvature.value > 0
    if not np.asarray(plays.inside).any():
        verdict, note = Verdict.NOT_CHECKED, "no feasible play was found to probe"
    elif open_box:
        verdict = Verdict.FAILS
        note = f"the {' and '.join(open_box)} set is unbounded: no compactness"
    elif seen.finite < 1:
        verdict = Verdict.FAILS
        note = f"a utility is not finite at {1 - seen.finite:.1%} of the plays"
    elif seen.jump > limit:
        verdict, note = Verdict.FAILS, "a utility jumps: it is not continuous"
    elif unknown:
        verdict = Verdict.NOT_CHECKED
        note = f"the {' and '.join(unknown)} set has no finite bounds: boundedness is not known"
    else:
        verdict = Verdict.HOLDS
        note = (
            "the follower's response is unique, its utility being strongly concave"
            if unique
            else "the follower may have several best responses: not strongly concave"
        )
    return Statement(
        name="Existence",
        source=_SOURCE,
        assumption="compact sets; utilities finite and continuous",
        how="sets by construction, utilities by sampling",
        constants={"share finite": Constant(seen.finite), "largest jump": Constant(seen.jump)},
        verdict=verdict,
        note=note,
    )
