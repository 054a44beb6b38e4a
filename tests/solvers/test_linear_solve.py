"""A user's own linear solve for the implicit system: called, believed, differentiated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick

import stackjax as sj

SCALES = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


def apart(action, response, x):
    """Curved in each coordinate alone; the peaks of two lie outside of the box [-1, 1]."""
    peak = action * jnp.array([0.5, -0.5, 3.0, 0.25, -3.0, 0.75])
    return -jnp.sum(SCALES * (response - peak) ** 2) / 2 - jnp.sum(response**4) / 12


class Diagonal:
    """Solves a diagonal system exactly, times a factor; counts how often it is traced."""

    def __init__(self, factor=1.0):
        self.factor, self.calls = factor, 0

    def __call__(self, product, b):
        self.calls += 1
        diagonal = product(jnp.ones_like(b))
        # (what is 0 across a face is left alone)
        return self.factor * jnp.where(diagonal == 0, 0, b / jnp.where(diagonal == 0, 1, diagonal))


def newton(solve):
    return sj.Newton(dense=False, linear_solve=solve), sj.Box(-1.0, 1.0)


def projected(solve):
    return sj.ProjectedGradient(linear_solve=solve), sj.Box(-1.0, 1.0)


def multipliers(solve):
    far = sj.Constrained(lambda a, r, x: r[0] - 9.0, box=sj.Box(-1.0, 1.0))
    return sj.solvers.AugmentedLagrangian(linear_solve=solve), far


def response(made, solve):
    solver, feasible = made(solve)
    game = sj.Game(apart, apart, response_set=feasible)
    return lambda a: sj.best_response(game, a, None, response=jnp.zeros(6), solver=solver).value


@pytest.mark.parametrize("made", [newton, projected, multipliers])
def test_called_and_believed(made, x64):
    """A direct solve gives the default's derivatives, which are right."""
    at, exact = jnp.array(1.0), Diagonal()

    def twice(solve, at):
        run = response(made, solve)

        def once(a):
            slope, value = jax.jacrev(lambda a: (run(a),) * 2, has_aux=True)(a)
            return slope, (slope, value)

        return jax.jacfwd(once, has_aux=True)(at)

    default, own = (quick(partial(twice, solve), at) for solve in (None, exact))
    assert exact.calls > 0
    for mine, theirs in zip(jax.tree.leaves(own), jax.tree.leaves(default)):
        assert np.allclose(mine, theirs, rtol=1e-8, atol=1e-11)
    # Each coordinate alone: scale (r - peak) + r^3 / 3 = 0, differentiated in closed form.
    bend, (slope, r) = own
    held = np.abs(r) >= 1
    rate = SCALES * jnp.array([0.5, -0.5, 3.0, 0.25, -3.0, 0.75])
    wanted = np.where(held, 0, rate / (SCALES + r**2))
    assert held.sum() == 2 and np.allclose(slope, wanted, rtol=1e-8)
    second = np.where(held, 0, -2 * r * wanted**2 / (SCALES + r**2))
    assert np.allclose(bend, second, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("made", [newton, projected])
def test_a_wrong_answer_is_taken_as_it_is(made, x64):
    at = jnp.array(1.0)
    slope, wrong = (
        quick(jax.jacrev(response(made, Diagonal(factor))), at) for factor in (1.0, 2.0)
    )
    if made is newton:
        assert np.allclose(wrong, 2 * slope, rtol=1e-9)
    else:  # where it is a part of the answer
        assert np.abs(wrong - slope).max() > 0.1


def test_conjugate_gradients_of_jax_in_a_batch(x64):
    """Coupled coordinates and an equality: SciPy's interface, as it is."""

    def cg(product, b):
        return jax.scipy.sparse.linalg.cg(product, b, tol=1e-13, maxiter=200)[0]

    linked = lambda a, r, x: apart(a, r, x) - jnp.sum(jnp.diff(r) ** 2)
    plane = sj.Constrained(equality=lambda a, r, x: r.sum() - a / 2, box=sj.Box(-1.0, 1.0))
    game = sj.Game(linked, linked, response_set=plane)

    def loss(a, solve):
        solver = sj.solvers.AugmentedLagrangian(linear_solve=solve)
        found = sj.best_response(game, a, None, response=jnp.zeros(6), solver=solver)
        return jnp.sum(jnp.sin(found.value)) + found.multipliers.equality[0], found.converged

    actions = jnp.linspace(0.5, 1.5, 4)
    (mine, ok), (wanted, fine) = (
        quick(jax.vmap(jax.grad(lambda a, s=solve: loss(a, s), has_aux=True)), actions)
        for solve in (cg, None)
    )
    assert ok.all() and fine.all() and np.allclose(mine, wanted, rtol=1e-7)


def test_wrong_input():
    for made in (sj.ProjectedGradient, sj.solvers.AugmentedLagrangian):
        with pytest.raises(TypeError, match="`linear_solve` must be callable as linear_solve"):
            made(linear_solve="cg")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="Newton: `linear_solve` must be callable"):
        sj.Newton(dense=False, linear_solve=3)  # pyright: ignore[reportArgumentType]
    for dense in (True, None):
        with pytest.raises(ValueError, match=f"must come with `dense=False`.*got dense={dense}"):
            sj.Newton(dense=dense, linear_solve=Diagonal())
    short = lambda product, b: b[:2]
    with pytest.raises(
        ValueError, match=r"must return one array of shape \(6,\).*got shape \(2,\)"
    ):
        jax.jacfwd(response(newton, short))(1.0)
    solver = sj.Newton(dense=False, linear_solve=short)
    assert hash(solver) == hash(sj.Newton(dense=False, linear_solve=short))
