"""A user's own solver, and a user's own set, beside the library's."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj


@dataclasses.dataclass(frozen=True)
class Grid(sj.solvers.Solver):
    """Looks at a grid first: finds the highest of several peaks."""

    points: int = 65

    def maximise(self, problem, start):
        grid = jnp.linspace(problem.lower, problem.upper, self.points)
        best = grid[jnp.argmax(jax.vmap(problem.utility)(grid))]
        return sj.Newton().maximise(problem, best)


@dataclasses.dataclass(frozen=True)
class Boxed(Grid):
    """Says which sets it can do."""

    def refuses(self, feasible):
        return None if isinstance(feasible, sj.Box) else "Boxed looks at boxes only."


WAVES = sj.Game(
    lambda a, r, x: -((r - 2.5) ** 2),
    lambda a, r, x: jnp.sin(3 * r) + a * r,
    action_set=sj.Box(0.0, 1.0),
    response_set=sj.Box(0.0, 4.0),
)


def test_its_answer_is_differentiated_and_judged_under_transforms():
    """Peaks of sin(3 r) + a r are where 3 cos(3 r) = -a; the second is the higher one."""
    answer = lambda a: sj.best_response(WAVES, a, None, response=jnp.array(0.4), solver=Grid())
    actions = jnp.linspace(0.1, 0.9, 5)
    found = jax.jit(jax.vmap(answer))(actions)
    right = (2 * np.pi + np.arccos(-actions / 3)) / 3
    assert found.converged.all()
    np.testing.assert_allclose(found.value, right, rtol=1e-6)
    slope = jax.vmap(jax.grad(lambda a: answer(a).value))(actions)
    np.testing.assert_allclose(slope, 1 / (9 * np.sqrt(1 - actions**2 / 9)), rtol=1e-5)


def test_it_serves_solve_and_fits():
    found = sj.solve(
        WAVES, action=jnp.array(0.5), response=jnp.array(0.4), context=None, follower_solver=Grid()
    )
    assert 2.2 < found.response < 2.7


def test_it_can_refuse_a_set():
    game = sj.Game(WAVES.leader_utility, lambda a, r, x: a @ r, response_set=sj.Ball(1.0))
    with pytest.raises(TypeError, match="`solver`: Boxed looks at boxes only"):
        sj.best_response(game, jnp.ones(2), None, response=jnp.zeros(2), solver=Boxed())
    with pytest.raises(TypeError, match=r"your own stackjax.solvers.Solver or None; got 'grid'"):
        sj.best_response(WAVES, 0.5, None, response=jnp.array(0.4), solver="grid")  # type: ignore


def test_a_projecting_solver_says_what_it_lacks():
    problem = sj.solvers.Problem(lambda y: -y @ y, -jnp.ones(2), jnp.ones(2), lambda y: (y, y))
    with pytest.raises(ValueError, match="no projection"):
        sj.ProjectedGradient().maximise(problem, jnp.zeros(2))


class Named(sj.Simplex):
    """A set with another name and nothing new."""


@dataclasses.dataclass(frozen=True)
class Capped(sj.Simplex):
    """Shares of a total with a cap on each."""

    projectable: ClassVar[bool] = False
    cap: Any = 1.0

    def residuals(self, point, action, response, context):
        inequality, equality = super().residuals(point, action, response, context)
        return jnp.concatenate([inequality, jnp.ravel(point - self.cap)]), equality


@dataclasses.dataclass(frozen=True)
class Below(sj.sets.FeasibleSet):
    """A half-space of nonnegative vectors, `sum(y) <= most`, with a projection of its own."""

    projectable: ClassVar[bool] = True
    most: Any = 1.0

    def bounds(self, point):
        return jnp.zeros_like(point), jnp.full_like(point, jnp.inf)

    def residuals(self, point, action, response, context):
        return jnp.atleast_1d(point.sum() - self.most), jnp.zeros(0, point.dtype)

    def project(self, point):
        inside = jnp.maximum(point, 0)
        return jnp.where(inside.sum() <= self.most, inside, sj.Simplex(self.most).project(point))


@pytest.mark.parametrize(
    ("size", "solver"), [(3, sj.ProjectedGradient()), (70, None), (3, sj.InteriorPoint())]
)
def test_a_set_with_a_projection_of_its_own(size, solver):
    """The nearest point of `sum <= 1` to (2, 1.5, -1, ...): (0.75, 0.25, 0, ...), price 1.25."""
    worth = jnp.full(size, -1.0).at[:2].set(jnp.array([2.0, 1.5]))
    game = sj.Game(lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2, response_set=Below())
    found = sj.best_response(game, worth, None, response=jnp.zeros(size), solver=solver)
    assert found.converged
    np.testing.assert_allclose(found.value[:3], [0.75, 0.25, 0.0], atol=1e-5)
    np.testing.assert_allclose(found.multipliers.inequality, [1.25], rtol=1e-4)
    np.testing.assert_allclose(found.multipliers.lower[:3], [0.0, 0.0, 2.25], atol=1e-3)
    loose = sj.best_response(game, worth / 4, None, response=jnp.zeros(size), solver=solver)
    np.testing.assert_allclose(loose.value[:2], [0.5, 0.375], atol=1e-5)
    assert loose.multipliers.inequality < 1e-5


def share(feasible, worth, **options):
    game = sj.Game(lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2, response_set=feasible)
    return sj.best_response(game, worth, None, response=jnp.full(3, 1 / 3), **options)


@pytest.mark.parametrize("solver", [None, sj.ProjectedGradient()])
def test_a_subclass_of_a_set_is_that_set(solver):
    worth = jnp.array([0.9, 0.5, -2.0])
    own, plain = (share(kind(), worth, solver=solver) for kind in (Named, sj.Simplex))
    assert own.converged
    np.testing.assert_allclose(own.value, [0.7, 0.3, 0.0], atol=1e-6)
    np.testing.assert_array_equal(own.value, plain.value)


def test_a_subclass_with_constraints_of_its_own():
    """Capped at 0.6, the rest goes to the second: (0.6, 0.4, 0); traced caps are differentiated."""
    worth = jnp.array([0.9, 0.5, -2.0])
    value = jax.jit(lambda cap: share(Capped(cap=cap), worth).value)
    np.testing.assert_allclose(value(0.6), [0.6, 0.4, 0.0], atol=1e-5)
    np.testing.assert_allclose(jax.jacfwd(value)(0.6), [1.0, -1.0, 0.0], atol=1e-4)
    with pytest.raises(TypeError, match="for a Capped use stackjax.InteriorPoint"):
        share(Capped(cap=0.6), worth, solver=sj.ProjectedGradient())


class Unhashable(Grid):
    """A solver that cannot be a key of what is compiled."""

    __hash__ = None  # type: ignore


class Bare(sj.sets.FeasibleSet):
    """A set whose fields JAX cannot see."""

    def __init__(self, limit):
        object.__setattr__(self, "limit", limit)

    def bounds(self, point):
        return point - 1, point + 1

    def residuals(self, point, action, response, context):
        return jnp.zeros(0), jnp.zeros(0)


def test_what_is_missing_is_named():
    class Point(Grid):
        def maximise(self, problem, start):
            return start

    answer = lambda solver: sj.best_response(
        WAVES, 0.5, None, response=jnp.array(0.4), solver=solver
    )
    with pytest.raises(TypeError, match="must return a stackjax.solvers.Maximum; got"):
        answer(Point())
    with pytest.raises(TypeError, match="`solver`: a Unhashable must be hashable"):
        answer(Unhashable())
    with pytest.raises(TypeError, match="`response_set`: Bare must be a frozen dataclass"):
        sj.Game(WAVES.leader_utility, WAVES.follower_utility, response_set=Bare(1.0))
    with pytest.raises(TypeError, match=r"`leader_utility` must take three .*; it takes \(a, r\)"):
        sj.Game(lambda a, r: -r, WAVES.follower_utility)
    with pytest.raises(AttributeError, match="it is stackjax.fit.Horizon"):
        _ = sj.Horizon  # type: ignore


class HalfBall(sj.Ball):
    def bounds(self, point):
        return jnp.zeros_like(point), super().bounds(point)[1]


class HalfSimplex(sj.Simplex):
    def bounds(self, point):
        return jnp.zeros_like(point), jnp.full_like(point, 0.5)


@dataclasses.dataclass(frozen=True)
class Diagonal(sj.Box):
    """A box with a constraint besides."""

    def residuals(self, point, action, response, context):
        return jnp.atleast_1d(point.sum() - 1), jnp.zeros(0, point.dtype)


@pytest.mark.parametrize(
    ("feasible", "right"),
    [
        (HalfBall(), [0.0, 1.0]),
        (HalfSimplex(), [0.5, 0.5]),
        (Diagonal(jnp.zeros(2), jnp.array([1.0, 0.75])), [0.0, 0.75]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_subclass_tightens_counts(feasible, right):
    utility = lambda a, r, x: a * r[0] + r[1]
    game = sj.Game(utility, utility, response_set=feasible)
    found = sj.best_response(game, -1.0, None, response=jnp.array([0.2, 0.1]))
    assert found.converged and feasible.contains(found.value, tol=1e-5)
    np.testing.assert_allclose(found.value, right, atol=1e-5)
    for solver in (sj.Newton(), sj.ProjectedGradient()):
        with pytest.raises(TypeError, match=f"for a {type(feasible).__name__} use"):
            sj.best_response(game, -1.0, None, response=jnp.zeros(2), solver=solver)
