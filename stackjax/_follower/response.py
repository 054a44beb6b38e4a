"""What `best_response` returns: the answer of one follower, or the equilibrium of several."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import concrete
from stackjax._arrays.status import CLOSE, Status, chosen, told
from stackjax._arrays.typing import PyTree
from stackjax.solvers.proof._branch_and_bound import Proof


class Multipliers(struct.PyTreeNode):
    """What the follower's utility would gain for each unit by which a constraint is relaxed.

    Attributes:
      lower: of the lower bounds, a pytree like the response; >= 0, 0 where the bound is inactive.
      upper: of the upper bounds, likewise.
      inequality: `[m]` of the set's inequalities, >= 0.
      equality: `[p]` of its equalities, of either sign: `U_F - inequality'g - equality'h` is
        stationary.

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: a * r, lambda a, r, x: a * r - r**2 / 2, response_set=sj.Box(0.0, 2.0)
      ... )
      >>> found = sj.best_response(game, 5.0, None, response=jnp.array(1.0))
      >>> print(found.value, found.multipliers.lower, found.multipliers.upper)
      2.0 0.0 3.0
    """

    lower: PyTree
    upper: PyTree
    inequality: jax.Array
    equality: jax.Array


class Response(struct.PyTreeNode):
    """A follower's answer, and how far to trust it.

    Attributes:
      value: the best response, with the structure of the starting point.
      residual: scalar, an estimate of the largest error of `value`: the Newton step from there,
        each coordinate relative to its own size (at most `upper - lower`; at 0, to how far it has
        to move for the utility to change by its own size). With constraints, in the units of
        the search: see `stackjax/solvers/constrained/_scales.py`. `inf` where the utility is not
        a number.
      steps: scalar int, iterations of the solver.
      converged: scalar bool, judged from `value` alone: it is feasible, first-order conditions,
        complementarity and curvature hold, Newton steps shrink or are nothing but rounding, each
        measured in the problem's own units (`stackjax/solvers/_judge.py`). If False, `value` is
        the best point found, and derivatives are finite but not those of a best response. With
        `solvers.Perturbed` and `solvers.Regularised` all of this is of the smoothed follower.
      degeneracy: scalar, the smallest of all constraints' `max(slack, multiplier)`; `inf` without
        constraints. Near 0, a constraint is about to become active or inactive: derivatives hold
        on one side of it only.
      curvature: scalar, the least curvature of the follower's Lagrangian along the directions
        that active constraints leave free, without a unit: at most 1; at 0 the direction is flat,
        there are several best responses, and derivatives leave it out (or short steps do not
        shrink, as at a kink or a maximum of higher order); negative, `value` is no maximum.
      multipliers: of the constraints, differentiable like `value`.
      agreeing_starts: scalar int, how many of the starting points led to a response as good. Fewer
        than `starts`: the utility has other local maxima, or some searches failed.
      proof: that no response in the whole set is better, where one was asked for; else None.

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> found = sj.best_response(duopoly.game, 6.0, 13.0, response=jnp.array(1.0))
      >>> print(found.value, found.converged, found.unique, found.residual < 1e-4)
      3.0 True True True
    """

    value: PyTree
    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    degeneracy: jax.Array
    curvature: jax.Array
    multipliers: Multipliers
    agreeing_starts: jax.Array
    proof: Proof | None

    @property
    def unique(self) -> jax.Array:
        """Whether the curvature rules out other best responses nearby; a scalar bool."""
        return self.curvature > jnp.finfo(self.curvature.dtype).eps ** 0.5

    @property
    def status(self) -> Any:
        """Why it ended as it did: a `stackjax.solvers.Status`, of a batch an array of strings.

        On the host, outside of `jax.jit`; `print` shows it with what to try next.
        """
        tiny = float(jnp.finfo(self.curvature.dtype).eps) ** 0.5
        return chosen(
            [
                (Status.SEVERAL, self.converged & ~self.unique),
                (Status.CONVERGED, self.converged),
                (Status.NOT_FINITE, ~np.isfinite(self.residual)),
                *self._failures,
                (Status.NO_MAXIMUM, self.curvature < -tiny),
                (Status.FLAT, self.curvature <= tiny),
                (Status.IMPRECISE, self.residual <= CLOSE),
            ],
            Status.UNFINISHED,
        )

    @property
    def _failures(self) -> list[tuple[Status, Any]]:
        return []

    def __str__(self) -> str:
        if not concrete(self):
            return repr(self)
        shown = {name: getattr(self, name) for name in ("value", "residual", "steps")}
        return told(type(self).__name__, self.status, shown)


class Equilibrium(Response):
    """The Nash equilibrium of several followers, and how far to trust it.

    As a `Response`. The value is the tuple of the followers' responses (with `Followers` a pytree
    with a leading axis); residual, degeneracy and curvature are those of the follower for whom they
    are worst. Converged means that each follower's response is optimal given the others', as judged
    from the point alone, and that none of a sample of 24 other responses of its own is better, nor,
    with several `starts`, what the others ended at. Degeneracy is in the units of the search
    (`stackjax/solvers/equilibrium/_joint.py`). Multipliers of shared constraints are the same for
    all followers. Agreeing starts led to the same equilibrium.

    Attributes:
      residuals: `[N]`, of each follower: its last Newton step, relative to its response.
      degeneracies: `[N]`, of each follower.
      curvatures: `[N]`, of each follower's utility along its own free directions.
      gains: `[N]`, how much more each follower would get at the best of a sample of its own
        feasible responses, relative to the range of its utility among them; 0 if none is better.
      monotonicity: scalar, the least eigenvalue of the symmetric part of the joint conditions'
        Jacobian along free directions, without a unit: at most 1. Where it is positive for all
        responses the equilibrium is the only one (Rosen, Econometrica 33, 1965); 0 or less proves
        nothing.
      equilibria: scalar int, how many different converged points the starting points led to: found,
        not all that there are.

    Example:
      >>> profit = lambda i: lambda tax, r, demand: r[i] * (demand - r[0] - r[1] - tax)
      >>> game = sj.Game(lambda tax, r, demand: tax * (r[0] + r[1]), (profit(0), profit(1)))
      >>> found = sj.best_response(game, 1.0, 13.0, response=(1.0, 1.0))
      >>> print(*found.value, found.converged, found.unique, found.equilibria)
      4.0 4.0 True True 1
    """

    residuals: jax.Array
    degeneracies: jax.Array
    curvatures: jax.Array
    gains: jax.Array
    monotonicity: jax.Array
    equilibria: jax.Array

    @property
    def unique(self) -> jax.Array:
        """Whether the joint conditions are monotone here, which excludes other equilibria nearby,
        and the starting points led to no other.
        """
        tiny = jnp.finfo(self.curvature.dtype).eps ** 0.5
        alone = self.equilibria <= 1
        return (self.curvature > tiny) & (self.monotonicity > tiny) & alone

    @property
    def _failures(self) -> list[tuple[Status, Any]]:
        return [(Status.BEATEN, np.any(np.asarray(self.gains) > 0, axis=-1))]
