"""All equilibria of followers with quadratic utilities and linear constraints."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import as_arrays, as_start, concrete
from stackjax._arrays.typing import PyTree
from stackjax._follower.arguments import check_game
from stackjax._follower.several import check_responses, joint_problem
from stackjax._game import Game

# Sets of active constraints that are looked at, at most, and how many at a time.
_MOST, _BLOCK = 2_000_000, 20_000
# What counts for zero, beside the terms of a sum.
_EXACT = 1e-9


class Equilibria(NamedTuple):
    """The Nash equilibria of several followers at one action.

    Attributes:
      values: the equilibria, each shaped as the `response` that was given, in float64.
      complete: whether these are all. False if some set of active constraints holds a continuum of
        equilibria, of which at most one is listed.

    Example:
      >>> found = sj.Equilibria([], True)  # of a game without any
      >>> len(found.values)
      0
    """

    values: list[PyTree]
    complete: bool


def all_equilibria(game: Game, action: PyTree, context: PyTree, *, response: PyTree) -> Equilibria:
    """Enumerates the Nash equilibria of several followers in a small linear-quadratic game.

    Utilities must be quadratic in the responses and concave in the follower's own, constraints
    linear. Every set of constraints that may be active is tried, and its linear equations solved:
    three to the power of the numbers with two bounds, two to the power of those with one and of the
    inequalities, at most two million. On the host, in float64; not for `jax.jit`. Of shared
    constraints the variational equilibria are found.

    Args:
      game: the game, of several followers.
      action: the leader's action.
      context: the context.
      response: shaped as the responses; its numbers do not matter.

    Raises:
      TypeError: called within a JAX transformation; the game has one follower.
      ValueError: a utility is not quadratic, or not concave in its own response; a constraint is
        not linear; there are too many sets of constraints.

    Source: Facchinei and Pang, Finite-Dimensional Variational Inequalities, 2003, Section 1.5
    (piecewise linear systems of complementarity problems).

    Example:
      >>> follow = lambda i, j: lambda a, r, x: -((r[i] - 2 * r[j]) ** 2)  # each outbids the other
      >>> pair, boxes = (follow(0, 1), follow(1, 0)), (sj.Box(-1.0, 1.0),) * 2
      >>> game = sj.Game(lambda a, r, x: 0.0, pair, response_set=boxes)
      >>> found = sj.all_equilibria(game, None, None, response=(0.0, 0.0))
      >>> print([[float(r) for r in value] for value in found.values], found.complete)
      [[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0]] True
    """
    check_game(game)
    if not game.several:
        raise TypeError("`game` must have several followers; it has one: use `best_response`.")
    if not concrete((game, action, context, response)):
        raise TypeError("`all_equilibria` is for the host: call it outside of transformations.")
    response = as_start(response, "response")
    check_responses(game, response)
    with jax.enable_x64(True):
        wide = lambda tree, name: jax.tree.map(_wide, as_arrays(tree, name))
        response = wide(response, "response")
        problem = _Affine.of(game, wide(action, "action"), wide(context, "context"), response)
        found, complete = problem.solve()
        return Equilibria([problem.unravel(jnp.asarray(y)) for y in found], complete)


def _wide(leaf: Any) -> jax.Array:
    return leaf.astype(float) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


class _Affine(NamedTuple):
    """`matrix w + constant` complementary to `lower <= w <= upper`, w = (y, mu, lambda)."""

    matrix: np.ndarray
    constant: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    size: int
    unravel: Any

    @classmethod
    def of(cls, game: Game, action: PyTree, context: PyTree, response: PyTree) -> "_Affine":
        problem, layout = joint_problem(game, action, context, response)
        size = sum(layout.sizes)
        both = lambda y: jnp.concatenate(problem.constraints(y))

        def parts(y: np.ndarray) -> list[np.ndarray]:
            _, slopes, bent = problem.rows(jnp.asarray(y))
            normals = jax.jacfwd(both)(jnp.asarray(y))
            return [np.asarray(x) for x in (-slopes, -bent, both(jnp.asarray(y)), normals)]

        rng = np.random.default_rng(0)
        slopes, bent, rows, normals = parts(np.zeros(size))
        for _ in range(3):
            _, there, _, across = parts(rng.normal(size=size))
            for name, a, b in (("utility", bent, there), ("constraint", normals, across)):
                if not np.allclose(a, b, rtol=1e-7, atol=1e-9 * (1 + np.abs(a).max(initial=0))):
                    kind = "quadratic" if name == "utility" else "linear"
                    raise ValueError(
                        f"a {name} of the followers must be {kind} in the responses; its "
                        "derivatives change with them."
                    )
        at = np.cumsum([0, *layout.sizes])
        for number, (a, b) in enumerate(itertools.pairwise(at)):
            own = bent[a:b, a:b]
            if np.linalg.eigvalsh(own)[0] < -_EXACT * (1 + np.abs(own).max()):
                raise ValueError(
                    f"`follower_utility[{number}]` must be concave in its own response."
                )
        p = len(problem.constraints(jnp.zeros(size))[0])
        m = len(rows) - p
        none = np.zeros((p + m, p + m))
        infinite = np.full(p, np.inf)
        return cls(
            np.block([[bent, normals.T], [-normals, none]]),
            np.concatenate([slopes, -rows]),
            np.concatenate([np.asarray(problem.lower), -infinite, np.zeros(m)]),
            np.concatenate([np.asarray(problem.upper), infinite, np.full(m, np.inf)]),
            size,
            layout.unravel,
        )

    def solve(self) -> tuple[list[np.ndarray], bool]:
        """`[d]` each equilibrium, and whether there are no others."""
        choices = [
            [0, *([1] if np.isfinite(low) else []), *([2] if np.isfinite(high) else [])]
            if low < high
            else [1]
            for low, high in zip(self.lower, self.upper)
        ]
        count = int(np.prod([float(len(c)) for c in choices]))
        if count > _MOST:
            raise ValueError(
                f"there are {count:,} sets of constraints that may be active; `all_equilibria` "
                f"tries at most {_MOST:,}. Use `best_response` with several `starts`."
            )
        found: list[np.ndarray] = []
        continua: list[np.ndarray] = []
        patterns = itertools.product(*choices)
        while block := list(itertools.islice(patterns, _BLOCK)):
            solved, singular = self._block(np.array(block))
            for w in solved:
                _add(found, w[: self.size])
            continua += list(singular)
        for sides in continua:
            point = self._face(sides)
            if point is None:
                continue
            _add(found, point[: self.size])
            if self._wide_face(sides, point):
                return found, False
        return found, True

    def _block(self, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The solutions on sets of active constraints `[k, n]`, and which of those are singular."""
        held = np.where(sides == 1, self.lower, np.where(sides == 2, self.upper, 0.0))
        free = sides == 0
        pair = free[:, :, None] & free[:, None, :]
        matrix = np.where(pair, self.matrix, np.eye(len(self.constant)))
        right = np.where(free, -(self.constant + held @ self.matrix.T), held)
        # (singular beside its own size)
        regular = np.linalg.cond(matrix) < 1e12
        w = np.linalg.solve(matrix[regular], right[regular][:, :, None])[:, :, 0]
        return w[self._holds(w, sides[regular])], sides[~regular]

    def _holds(self, w: np.ndarray, sides: np.ndarray) -> np.ndarray:
        slope = w @ self.matrix.T + self.constant
        near = lambda bound: np.where(np.isfinite(bound), np.abs(bound), 0)
        tiny = _EXACT * (np.abs(w) @ np.abs(self.matrix.T) + np.abs(self.constant) + 1e-30)
        size = _EXACT * (np.abs(w) + near(self.lower) + near(self.upper))
        inside = (w >= self.lower - size) & (w <= self.upper + size)
        pinned = self.lower == self.upper
        signs = ((sides != 1) | pinned | (slope >= -tiny)) & ((sides != 2) | (slope <= tiny))
        return np.all(inside & signs, axis=1)

    def _program(self, sides: np.ndarray, cost: np.ndarray) -> Any:
        """A linear program over all solutions on one set of active constraints."""
        from scipy.optimize import linprog  # slow to import, and seldom needed

        pinned = self.lower == self.upper
        equal = sides == 0
        # slopes that must be >= 0 at lower bounds, <= 0 at upper ones
        sign = np.where(sides == 1, -1.0, 1.0)
        row = (sides != 0) & ~pinned
        bounds = np.stack([self.lower, self.upper], axis=1)
        bounds[sides == 1] = self.lower[sides == 1, None]
        bounds[sides == 2] = self.upper[sides == 2, None]
        return linprog(
            cost,
            A_ub=(sign[:, None] * self.matrix)[row] if row.any() else None,
            b_ub=(-sign * self.constant)[row] if row.any() else None,
            A_eq=self.matrix[equal] if equal.any() else None,
            b_eq=-self.constant[equal] if equal.any() else None,
            bounds=bounds,
            method="highs",
        )

    def _face(self, sides: np.ndarray) -> np.ndarray | None:
        found = self._program(sides, np.zeros(len(self.constant)))
        return found.x if found.status == 0 else None

    def _wide_face(self, sides: np.ndarray, point: np.ndarray) -> bool:
        """Whether the solutions on this set differ in a response."""
        for axis in np.eye(len(self.constant))[: self.size]:
            for cost in (axis, -axis):
                end = self._program(sides, cost)
                if end.status == 3 or (end.status == 0 and abs((end.x - point) @ axis) > 1e-6):
                    return True
        return False


def _add(found: list[np.ndarray], y: np.ndarray) -> None:
    if not any(np.allclose(y, other, rtol=1e-7, atol=1e-9) for other in found):
        found.append(y + 0.0)  # (no -0)
