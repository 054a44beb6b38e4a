"""What a solver is asked and answers: the interface of the library's solvers and of a user's."""

import abc
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
from flax import struct

from stackjax.sets import FeasibleSet


class Quality(struct.PyTreeNode):
    """How good an answer is. Floating-point scalars, flags too: `custom_root` wants that.

    Attributes:
      residual: an estimate of the largest error, from the Newton step there, each coordinate
        relative to its own size; `inf` where the utility is not a number.
      steps: iterations.
      converged: 1 or 0.
      degeneracy: the smallest of all `max(slack, multiplier)`; `inf` without constraints.
      curvature: the least curvature along the free directions, without a unit: 1 at best, 0
        where flat, negative where the point is no maximum.

    Example:
      >>> one = jnp.ones(())
      >>> good = sj.solvers.Quality(0 * one, 3 * one, one, jnp.inf * one, one)
      >>> bool(good.converged > 0)
      True
    """

    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    degeneracy: jax.Array
    curvature: jax.Array


class Held(struct.PyTreeNode):
    """What holds a maximiser in its place.

    Attributes:
      lower: `[d]` bool, whether the lower bound is active.
      upper: `[d]` likewise.
      inequality: `[m]` multipliers of the set's inequalities.
      equality: `[p]` of its equalities.
      degeneracy: scalar, the smallest of all `max(slack, multiplier)`.

    Example:
      >>> at, none = jnp.array([True, False]), jnp.zeros(0)
      >>> held = sj.solvers.Held(at, ~at, none, none, jnp.array(0.1))
      >>> bool((held.lower | held.upper).all())
      True
    """

    lower: jax.Array
    upper: jax.Array
    inequality: jax.Array
    equality: jax.Array
    degeneracy: jax.Array


class Problem(NamedTuple):
    """A follower's problem for one action and context: maximise `utility` over a set in R^d.

    Attributes:
      utility: `[d] -> scalar`; it may close over traced values, in which the answer is to be
        differentiable.
      lower: `[d]` bounds, -inf where there is none.
      upper: `[d]` likewise, inf.
      constraints: `[d] -> ([p], [m])`: the first must be 0, the second at most 0.
      project: `[d] -> [d]`, the Euclidean projection onto the set; None where it has none.
      held: `(y, slope) -> Held`, the multipliers at a maximiser `y` with the utility's gradient
        `slope`, where there is a projection; else None.
      nested: whether this is part of a leader's search with second derivatives, which a solver may
        want to know in order to compile less.
      warm: what held the maximiser of a problem nearby, to start from besides; or None.
      support: `[d] -> [d]`, from a slope to a point of the set where the linear utility with that
        slope is largest; None where the set has no closed form of it.

    Example:
      >>> low, high = jnp.zeros(2), jnp.ones(2)
      >>> free = lambda y: (jnp.zeros(0), jnp.zeros(0))  # no constraints but the bounds
      >>> problem = sj.solvers.Problem(lambda y: -(y - 2) @ (y - 0.5), low, high, free)
      >>> float(problem.utility(low))
      -2.0
    """

    utility: Callable[[jax.Array], jax.Array]
    lower: jax.Array
    upper: jax.Array
    constraints: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    project: Callable[[jax.Array], jax.Array] | None = None
    held: Callable[[jax.Array, jax.Array], Held] | None = None
    nested: bool = False
    warm: Held | None = None
    support: Callable[[jax.Array], jax.Array] | None = None


class Maximum(NamedTuple):
    """A solver's answer.

    Attributes:
      value: `[d]` the maximiser; differentiable in what the problem closes over.
      equality: `[p]` multipliers of the equalities, of the Lagrangian
        `utility - equality . c - inequality . g`; differentiable.
      inequality: `[m]` of the inequalities, likewise.
      at_lower: `[d]` bool, whether the lower bound is active.
      at_upper: `[d]` bool.
      quality: the judgement of the answer; not differentiable.
      utility: `[d] -> scalar`, what was maximised where that is not the problem's own utility; the
        bounds' multipliers are then of it.

    Example:
      >>> low, high = jnp.zeros(2), jnp.ones(2)
      >>> free = lambda y: (jnp.zeros(0), jnp.zeros(0))  # no constraints but the bounds
      >>> problem = sj.solvers.Problem(lambda y: -(y - 2) @ (y - 0.5), low, high, free)
      >>> found = sj.Newton().maximise(problem, low)
      >>> print(found.value, found.at_upper)
      [1. 1.] [ True  True]
    """

    value: jax.Array
    equality: jax.Array
    inequality: jax.Array
    at_lower: jax.Array
    at_upper: jax.Array
    quality: Quality
    utility: Callable[[jax.Array], jax.Array] | None = None


class Solver(abc.ABC):
    """A method for the follower's problem.

    A user's own is a subclass that can be hashed (a frozen dataclass, say) and has `maximise`. It
    need not care for derivatives and the judgement of its answer where it ends with one of the
    library's: search in your own way, then `return sj.Newton().maximise(problem, found)`.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Grid(sj.solvers.Solver):
      ...     points: int = 33
      ...     def maximise(self, problem, start):
      ...         grid = jnp.linspace(problem.lower, problem.upper, self.points)
      ...         best = grid[jnp.argmax(jax.vmap(problem.utility)(grid))]
      ...         return sj.Newton().maximise(problem, best)
      >>> game = sj.Game(lambda a, r, x: r, lambda a, r, x: jnp.sin(3 * r) + a * r,
      ...     response_set=sj.Box(0.0, 4.0))
      >>> found = sj.best_response(game, 0.5, None, response=jnp.array(0.0), solver=Grid())
      >>> print(f"{found.value:.2f} {found.converged}")
      2.67 True
    """

    smoothed: ClassVar[bool] = False  # whether it answers a smoothed follower's problem instead

    def refuses(self, feasible: FeasibleSet) -> str | None:
        """Why it cannot solve over a set, as the end of an error message; None if it can."""
        return None

    @abc.abstractmethod
    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """The maximiser, from `start [d]`, which need not be feasible.

        It is traced by JAX, batched by `jax.vmap`, and called anew for each shape.
        """
