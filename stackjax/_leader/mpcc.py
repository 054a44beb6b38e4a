"""The game as one program: the follower's optimality conditions become the leader's constraints.

With the follower's set written as `g <= 0, h = 0, lower <= r <= upper`, and its Lagrangian
`M = -U_F + v'g + y'h`,

    maximise U_L(l, r)   subject to   grad_r M - v_lower + v_upper = 0,   h = 0,   g + s = 0,
                                      0 <= s _|_ v >= 0,
                                      0 <= r - lower _|_ v_lower >= 0,
                                      0 <= upper - r _|_ v_upper >= 0,    and the leader's set.

Of several best responses this takes the leader's favourite: the optimistic convention. The
complementarities `_|_` are left to a penalty in the interior-point method, whose weight grows as
the barrier's falls (Leyffer, Lopez-Calva and Nocedal, SIAM Journal on Optimization 17, 2006). A
point so found is then made exact by Newton's method on its active set, and shown to be strongly
stationary (Scheel and Scholtes, Mathematics of Operations Research 25, 2000) by its multipliers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.typing import Vector
from stackjax.solvers._optimality import Active
from stackjax.solvers.constrained._newton_kkt import curvature
from stackjax.solvers.constrained._program import Iterate


class Parts(struct.PyTreeNode):
    """The variables of the program, or what belongs to each of them.

    Attributes:
      action: `[a]`.
      response: `[r]`.
      slack: `[m]` of the follower's inequalities.
      inequality: `[m]` their multipliers.
      lower: `[r]` multipliers of the response's lower bounds, or `[0]` where there are none.
      upper: `[r]` or `[0]`.
      equality: `[p]` multipliers of the follower's equalities.
    """

    action: Vector
    response: Vector
    slack: Vector
    inequality: Vector
    lower: Vector
    upper: Vector
    equality: Vector

    @property
    def vector(self) -> Vector:
        """All of them, one after another."""
        return jnp.concatenate(jax.tree.leaves(self))


class Sizes(NamedTuple):
    """How many numbers each of the parts has."""

    action: int
    response: int
    slack: int
    inequality: int
    lower: int
    upper: int
    equality: int


class Bilevel:
    """The program's functions, for one context, on vectors.

    Args:
      leader: `(action [a], response [r]) -> scalar` utility.
      follower: likewise.
      leader_residuals: `(action, response) -> (inequality [k], equality [e])`.
      follower_residuals: `(action, response) -> (inequality [m], equality [p])`.
      action_bounds: `[a]` lower and upper.
      response_bounds: `[r]` lower and upper, each None if no coordinate has one.
      example: an action and a response, for their sizes and dtype.
      easing: `[k']` 1 for those of the leader's last k' inequalities that are in use, else 0. The
        interior-point method may violate them by its barrier to the power 3/4: they need not leave
        any interior.
      margin: `(action, response) -> [k']`, by which they must hold, times the root of the barrier,
        on the way; None for 0.
    """

    def __init__(
        self,
        leader: Callable[[Vector, Vector], Vector],
        follower: Callable[[Vector, Vector], Vector],
        leader_residuals: Callable[[Vector, Vector], tuple[Vector, Vector]],
        follower_residuals: Callable[[Vector, Vector], tuple[Vector, Vector]],
        action_bounds: tuple[Vector, Vector],
        response_bounds: tuple[Vector | None, Vector | None],
        example: tuple[Vector, Vector],
        easing: Vector | None = None,
        margin: Callable[[Vector, Vector], Vector] | None = None,
    ) -> None:
        self.leader, self.follower = leader, follower
        self.leader_residuals, self.follower_residuals = leader_residuals, follower_residuals
        self.action_bounds, self.response_bounds = action_bounds, response_bounds
        g, h = jax.eval_shape(follower_residuals, *example)
        k, e = jax.eval_shape(leader_residuals, *example)
        action, response = (len(part) for part in example)
        lower, upper = (0 if bound is None else response for bound in response_bounds)
        m, p = g.shape[0], h.shape[0]
        self.sizes = Sizes(action, response, m, m, lower, upper, p)
        self.dtype = example[0].dtype
        self.equalities = response + p + m + e.shape[0]
        self.margin = margin
        self.easing, self.eased = easing, 0 if easing is None else len(easing)
        self.eased_rows = np.arange(k.shape[0]) >= k.shape[0] - self.eased
        # the equalities that are the follower's own
        self.own_rows = np.arange(self.equalities) >= response
        self.own_rows &= np.arange(self.equalities) < response + m + p

    def split(self, z: Vector) -> Parts:
        """The variables by name."""
        ends = np.cumsum(self.sizes)
        return Parts(*(z[end - size : end] for size, end in zip(self.sizes, ends)))

    def bounds(self) -> tuple[Vector, Vector]:
        """Of the variables, `[n]` each; the multiplier of an infinite bound is fixed at 0."""
        sizes, inf = self.sizes, jnp.inf
        full = lambda size, value: jnp.full(size, value, self.dtype)
        low, high = self.response_bounds
        present = lambda bound: (
            full(0, 0.0)
            if bound is None
            else jnp.where(jnp.isfinite(bound), inf, 0.0).astype(self.dtype)
        )
        lower = Parts(
            action=self.action_bounds[0],
            response=full(sizes.response, -inf) if low is None else low,
            slack=full(sizes.slack, 0.0),
            inequality=full(sizes.inequality, 0.0),
            lower=full(sizes.lower, 0.0),
            upper=full(sizes.upper, 0.0),
            equality=full(sizes.equality, -inf),
        )
        upper = Parts(
            action=self.action_bounds[1],
            response=full(sizes.response, inf) if high is None else high,
            slack=full(sizes.slack, inf),
            inequality=full(sizes.inequality, inf),
            lower=present(low),
            upper=present(high),
            equality=full(sizes.equality, inf),
        )
        return lower.vector, upper.vector

    def gaps(self, parts: Parts) -> tuple[Vector, Vector]:
        """What each complementary pair consists of, `[m + r + r]` (less where no bounds are)."""
        low, high = self.response_bounds
        gaps, duals = [parts.slack], [parts.inequality]
        if low is not None:
            finite = jnp.isfinite(low)
            gaps.append(jnp.where(finite, parts.response - jnp.where(finite, low, 0), 1))
            duals.append(parts.lower)
        if high is not None:
            finite = jnp.isfinite(high)
            gaps.append(jnp.where(finite, jnp.where(finite, high, 0) - parts.response, 1))
            duals.append(parts.upper)
        return jnp.concatenate(gaps), jnp.concatenate(duals)

    def follower_lagrangian(
        self, parts: Parts, response: Vector
    ) -> tuple[Vector, tuple[Vector, Vector]]:
        """M of the module's docstring without the bounds, and `(g, h)`."""
        g, h = self.follower_residuals(parts.action, response)
        value = -self.follower(parts.action, response)
        return value + parts.inequality @ g + parts.equality @ h, (g, h)

    def evaluate(self, z: Vector) -> tuple[Vector, Vector, Vector]:
        """Objective (to minimise), equalities and inequalities, without the complementarities."""
        v = self.split(z)
        inner = lambda response: self.follower_lagrangian(v, response)
        slope, (g, h) = jax.grad(inner, has_aux=True)(v.response)
        slope = slope - v.lower if self.response_bounds[0] is not None else slope
        slope = slope + v.upper if self.response_bounds[1] is not None else slope
        upper_g, upper_h = self.leader_residuals(v.action, v.response)
        equalities = jnp.concatenate([slope, g + v.slack, h, upper_h])
        return -self.leader(v.action, v.response), equalities, upper_g

    def follower_curvature(self, z: Vector) -> Vector:
        """The least curvature of the follower's problem where its active constraints leave it."""
        v, sizes = self.split(z), self.sizes
        inner = lambda response: self.follower_lagrangian(v, response)[0]
        rows = lambda response: jnp.concatenate(self.follower_residuals(v.action, response))
        # A constraint with no multiplier does not hold the response back.
        gaps, duals = self.gaps(v)
        tight = (gaps <= duals) & (duals > float(jnp.finfo(self.dtype).eps) ** 0.5)
        held = jnp.zeros(sizes.response, bool)
        for part in jnp.split(tight, [sizes.slack, sizes.slack + sizes.lower])[1:]:
            held = held | part if len(part) else held
        binding = jnp.concatenate([tight[: sizes.slack], jnp.ones(sizes.equality, bool)])
        normals = jnp.where(binding[:, None], jax.jacfwd(rows)(v.response), 0)
        return curvature(jax.hessian(inner)(v.response), held, normals)

    def penalised(
        self, z: Vector, barrier: Vector, pull: Vector, weight: Vector, leads: Vector
    ) -> tuple[Vector, Vector, Vector]:
        """What the interior-point method solves.

        Args:
          z: `[n]`.
          barrier: scalar, its barrier's weight.
          pull: scalar, weight of the leader's utility.
          weight: scalar, of the penalty on the complementarities at barrier 1.
          leads: scalar bool. If False this is the follower's own problem, in its response and
            slacks, with everything else to be held fixed.
        """
        f, c, g = self.evaluate(z)
        v = self.split(z)
        gaps, duals = self.gaps(v)
        f = pull * f + weight * (gaps @ duals) / jnp.sqrt(barrier)
        f = jnp.where(leads, f, -self.follower(v.action, v.response))
        if self.easing is not None:
            g = g.at[-self.eased :].add(self.easing * self.asked(v, barrier))
        return f, jnp.where(leads | self.own_rows, c, 0), jnp.where(leads, g, -1)

    def asked(self, parts: Parts, barrier: Vector | float) -> Vector:
        """By how much the eased inequalities must hold at a weight of the barrier; `[k']`."""
        margin = 0 if self.margin is None else self.margin(parts.action, parts.response)
        return margin * barrier**0.5 - jnp.full(self.eased, barrier**0.75, self.dtype)

    def start(self, action: Vector, response: Vector, dual: Vector) -> Vector:
        """`[n]` a starting point with all inequality multipliers at `dual`."""
        g, _ = self.follower_residuals(action, response)
        sizes, full = self.sizes, lambda size, value: jnp.full(size, value, self.dtype)
        return Parts(
            action,
            response,
            jnp.maximum(jnp.where(jnp.isfinite(g), -g, 1), 0.1),
            full(sizes.inequality, dual),
            full(sizes.lower, dual),
            full(sizes.upper, dual),
            full(sizes.equality, 0.0),
        ).vector

    def follower_bounds(self, z: Vector) -> tuple[Vector, Vector]:
        """Bounds that leave the follower its response and slacks, and hold the rest at `z`."""
        lower, upper = self.bounds()
        sizes = self.sizes
        theirs = Sizes(False, True, True, False, False, False, False)
        own = np.repeat(np.asarray(theirs), sizes)
        return jnp.where(own, lower, z), jnp.where(own, upper, z)

    def restart(self, at: Iterate) -> Vector:
        """`[n]` a starting point at the follower's answer and its multipliers, a little inside."""
        v, sizes = self.split(at.z), self.sizes
        r, m = sizes.response, sizes.slack
        own = slice(sizes.action, sizes.action + r)
        inside = lambda value: jnp.maximum(jnp.where(jnp.isfinite(value), value, 1), 0.01)
        return v.replace(
            slack=inside(v.slack),
            inequality=inside(at.equality[r : r + m]),
            lower=inside(at.lower[own]) if sizes.lower else v.lower,
            upper=inside(at.upper[own]) if sizes.upper else v.upper,
            equality=at.equality[r + m : r + m + sizes.equality],
        ).vector

    def active(self, z: Vector, near: float | Vector) -> tuple[Active, Vector, Vector]:
        """The active set that a point suggests.

        Args:
          z: `[n]`.
          near: a pair with both members below it counts as biactive: both are held at 0.

        Returns:
          The set (without the leader's inequalities); `[n]` bool, what belongs to a pair; `[n]`
          bool, what needs a multiplier of the right sign: everything but the one held member of
          a pair, which is held by its partner being positive.
        """
        v, sizes = self.split(z), self.sizes
        no = lambda size: jnp.zeros(size, bool)
        gaps, duals = self.gaps(v)
        both = (gaps < near) & (duals < near)
        tight, quiet = (gaps <= duals) | both, (duals < gaps) | both
        cuts = [sizes.slack, sizes.slack + sizes.lower]
        tight_g, tight_l, tight_u = jnp.split(tight, cuts)
        both_g, both_l, both_u = jnp.split(both, cuts)
        quiet_g, quiet_l, quiet_u = jnp.split(quiet, cuts)
        response = lambda part: part if len(part) else no(sizes.response)
        tight_u = response(tight_u) & ~response(tight_l)
        at_lower = Parts(
            no(sizes.action), response(tight_l), tight_g, quiet_g, quiet_l, quiet_u,
            no(sizes.equality),
        ).vector  # fmt: skip
        at_upper = (
            jnp.zeros_like(at_lower).at[sizes.action : sizes.action + sizes.response].set(tight_u)
        )
        yes = lambda size: jnp.ones(size, bool)
        paired = Parts(
            no(sizes.action), yes(sizes.response), yes(sizes.slack), yes(sizes.inequality),
            yes(sizes.lower), yes(sizes.upper), no(sizes.equality),
        ).vector  # fmt: skip
        signed = Parts(
            yes(sizes.action), response(both_l) | response(both_u), both_g, both_g, both_l, both_u,
            yes(sizes.equality),
        ).vector  # fmt: skip
        return Active(at_lower, at_upper, no(0)), paired, signed
