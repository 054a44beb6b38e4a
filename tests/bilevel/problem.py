"""What a bilevel test problem holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

INF = float("inf")

Kind = Literal["strong", "convex", "nonconvex"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """min F(x, y) over x, with y minimising f(x, y) (of several, the leader's preferred one).

    Constraints are <= 0, or == 0 for the equalities, and leave out the simple bounds.
    Left-out bounds are infinite.

    Attributes:
      kind: "strong": the follower's objective is strongly convex in y, its constraints linear in
        y; "convex": convex in y otherwise; "nonconvex". All inside the bounds, at x for which
        the follower has a feasible y.
      x: the leader's starting point, inside the bounds.
      y: the follower's starting point, inside the bounds.
      value: the leader's objective at the global (optimistic) optimum.
      follower_value: the follower's objective there, if that is unique and known.
      solution: a global optimum (x, y), not always the only one.
    """

    name: str
    source: str
    kind: Kind
    leader: Callable[[jax.Array, jax.Array], jax.Array]
    follower: Callable[[jax.Array, jax.Array], jax.Array]
    leader_constraints: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    follower_constraints: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    leader_equalities: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    follower_equalities: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_lower: tuple[float, ...] = ()
    x_upper: tuple[float, ...] = ()
    y_lower: tuple[float, ...] = ()
    y_upper: tuple[float, ...] = ()
    value: float
    follower_value: float | None = None
    solution: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __post_init__(self):
        for side, start in (("x", self.x), ("y", self.y)):
            for end, bound in (("lower", -INF), ("upper", INF)):
                if not getattr(self, f"{side}_{end}"):
                    object.__setattr__(self, f"{side}_{end}", (bound,) * len(start))


def sq(v: jax.Array) -> jax.Array:
    """The squared norm."""
    return jnp.sum(v**2)
