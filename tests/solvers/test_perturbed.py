"""Perturbed and regularised followers against closed forms, and a leader that learns by them."""

import contextlib
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import stackjax as sj
from stackjax.solvers import Perturbed, Regularised

KEY = jax.random.key(0)
SLOPE = jnp.array([0.1, 0.4, -0.2])
CORNERS = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))


def linear(feasible):
    return sj.Game(lambda a, r, x: r[0], lambda a, r, x: a @ r, response_set=feasible)


def answer(slope, feasible, solver, start=0.3):
    begin = jnp.full(slope.shape, start, slope.dtype)
    return sj.best_response(linear(feasible), slope, None, response=begin, solver=solver)


def corner(slope):
    return CORNERS.astype(slope.dtype)[jnp.argmax(CORNERS.astype(slope.dtype) @ slope)]


def simplex_value(slope, solver):
    return answer(slope, sj.Simplex(2.0), solver).value


def test_gumbel_noise_on_a_simplex_is_softmax():
    """With 20,000 draws: the value, the derivatives of both modes, and the second ones."""
    solver = Perturbed(0.5, key=KEY, samples=20_000, noise="gumbel")
    exact = lambda slope: 2 * jax.nn.softmax(slope / 0.5)
    value = jax.jit(lambda slope: simplex_value(slope, solver))
    found = answer(SLOPE, sj.Simplex(2.0), solver)
    assert found.converged and found.unique and found.steps == 20_000
    assert 0 < found.residual < 0.005
    # a standard error is about 0.005, of a first derivative 0.02, of a second 0.1
    np.testing.assert_allclose(value(SLOPE), exact(SLOPE), atol=0.02)
    forward, reverse = jax.jacfwd(value)(SLOPE), jax.jacrev(value)(SLOPE)
    np.testing.assert_allclose(forward, reverse, atol=1e-4)
    np.testing.assert_allclose(forward, jax.jacobian(exact)(SLOPE), atol=0.06)
    np.testing.assert_allclose(jax.hessian(value)(SLOPE), jax.hessian(exact)(SLOPE), atol=0.3)


@pytest.mark.parametrize("noise", ["gaussian", "gumbel"])
def test_a_box_is_the_noise_s_distribution_function(noise):
    """`lower + (upper - lower) P(c + sigma Z > 0)`; derivatives in slope and bounds."""
    solver = Perturbed(0.5, key=KEY, samples=20_000, noise=noise)
    survival = {
        "gaussian": lambda z: norm.cdf(-z),
        "gumbel": lambda z: -jnp.expm1(-jnp.exp(-z - np.euler_gamma)),
    }[noise]
    bounds = jnp.array([-1.0, 0.0, 0.0]), jnp.array([1.0, 2.0, 1.0])

    @jax.jit
    def value(slope, lower, upper):
        return answer(slope, sj.Box(lower, upper), solver).value

    exact = lambda slope, lower, upper: lower + (upper - lower) * survival(-slope / 0.5)
    given = SLOPE, *bounds
    np.testing.assert_allclose(value(*given), exact(*given), atol=0.02)
    for place, close in ((0, 0.08), (1, 0.02), (2, 0.02)):
        found, right = jax.jacrev(value, place)(*given), jax.jacobian(exact, place)(*given)
        np.testing.assert_allclose(found, right, atol=close)


def test_gaussian_noise_on_two_shares_is_probit():
    """Of two, the first has the larger sum with probability Phi((c_0 - c_1) / (sigma sqrt(2)))."""
    solver = Perturbed(0.5, key=KEY, samples=20_000)
    two = jnp.array([0.3, 0.1])
    first = lambda slope: answer(slope, sj.Simplex(), solver).value[0]
    exact = lambda slope: norm.cdf((slope[0] - slope[1]) / (0.5 * np.sqrt(2)))
    np.testing.assert_allclose(first(two), exact(two), atol=0.01)
    np.testing.assert_allclose(jax.grad(first)(two), jax.grad(exact)(two), atol=0.03)


def test_a_ball_keeps_its_radius_and_its_centre():
    """In one dimension `center + radius (2 Phi(c / sigma) - 1)`, with the derivatives in both."""
    solver = Perturbed(0.5, key=KEY, samples=20_000)
    slope = jnp.array([0.2])
    value = lambda center, radius: answer(slope, sj.Ball(center, radius), solver).value[0]
    pull = 2 * norm.cdf(0.4) - 1
    np.testing.assert_allclose(value(1.0, 3.0), 1 + 3 * pull, atol=0.03)
    np.testing.assert_allclose(jax.grad(value, 0)(1.0, 3.0), 1.0, atol=1e-5)
    np.testing.assert_allclose(jax.grad(value, 1)(1.0, 3.0), pull, atol=0.01)


def test_an_oracle_is_the_closed_form():
    """The corners of a cube, searched: the same draws, the same value and derivatives."""
    own, given = (Perturbed(0.5, key=KEY, samples=500, oracle=f) for f in (None, corner))
    cube = sj.Polyhedron(
        jnp.concatenate([jnp.eye(3), -jnp.eye(3)]), jnp.repeat(jnp.array([1.0, 0]), 3)
    )
    found, plain = answer(SLOPE, cube, given), answer(SLOPE, sj.Box(0.0, 1.0), own)
    assert found.converged and plain.converged
    np.testing.assert_allclose(found.value, plain.value, atol=1e-6)
    slopes = [jax.jacrev(lambda c, s=s, f=f: answer(c, f, s).value)(SLOPE)
              for s, f in ((own, sj.Box(0.0, 1.0)), (given, cube))]  # fmt: skip
    np.testing.assert_allclose(*slopes, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [lambda slope: corner(-slope), lambda slope: 2 * corner(slope), lambda slope: slope * jnp.nan],
    ids=["minimises", "infeasible", "nan"],
)
def test_a_wrong_oracle_does_not_converge(wrong):
    solver = Perturbed(0.5, key=KEY, samples=50, oracle=wrong)
    found = jax.jit(lambda slope: answer(slope, sj.Box(0.0, 1.0), solver))(SLOPE)
    assert not found.converged and jnp.isfinite(found.value).all()
    slope = jax.grad(lambda c: answer(c, sj.Box(0.0, 1.0), solver).value.sum())(SLOPE)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize(
    ("feasible", "solver", "bound"),
    [
        (sj.Simplex(2.0), Perturbed(0.5, key=KEY, samples=2000), 2 * 0.5 * np.sqrt(2 * np.log(3))),
        (sj.Simplex(2.0), Perturbed(0.5, key=KEY, samples=2000, noise="gumbel"), np.log(3)),
        (sj.Box(-1.0, 1.0), Perturbed(0.5, key=KEY, samples=2000), 0.3990 * 0.5 * 6),
        (sj.Box(-1.0, 1.0), Perturbed(0.5, key=KEY, samples=2000, noise="gumbel"), 0.4915 * 3),
        (sj.Ball(radius=2.0), Perturbed(0.5, key=KEY, samples=2000), 0.5 * 2 * np.sqrt(3)),
        (sj.Simplex(2.0), Regularised(0.5, kind="entropic"), 0.5 * 2 * np.log(3)),
        (sj.Simplex(2.0), Regularised(0.5), 0.5 / 2 * (4 - 4 / 3)),
        (sj.Box(-1.0, 1.0), Regularised(0.5), 0.5 / 2 * 3),
        (sj.Ball(radius=2.0), Regularised(0.5, centre=0.1), 0.5 / 2 * (2 + 0.1 * 3**0.5) ** 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_bias_is_below_the_stated_bound(feasible, solver, bound):
    """What the follower loses, at 40 slopes of three sizes: at most the bound, and close to it.

    The largest loss is at least a tenth of the bound, so that a bound 10 times too large fails.
    """
    slopes = jnp.concatenate([
        size * jax.random.normal(jax.random.key(1), (40, 3)) for size in (0.2, 0.6, 2.0)
    ])  # fmt: skip
    found = jax.jit(jax.vmap(lambda slope: answer(slope, feasible, solver)))(slopes)
    assert found.converged.all()
    best = jax.vmap(feasible.support_point)(slopes)
    lost = jnp.sum(slopes * (best - found.value), -1)
    assert (lost > -1e-4).all() and (lost < bound).all()
    assert lost.max() > 0.1 * bound


def test_the_bias_vanishes_with_sigma():
    lost = []
    for sigma in (1.0, 0.1, 0.01):
        solver = Perturbed(sigma, key=KEY, samples=500)
        lost.append(float(SLOPE @ (2 * jax.nn.one_hot(1, 3) - simplex_value(SLOPE, solver))))
    assert lost[0] > 10 * lost[1] > 0 and abs(lost[2]) < 1e-6


@pytest.mark.parametrize("common", [True, False])
def test_a_batch_is_a_loop(common):
    """With common draws or own ones; one lane of NaN harms none of the others, nor gradients."""
    solver = Perturbed(0.5, key=KEY, samples=40, common=common)
    one = lambda slope: answer(slope, sj.Simplex(2.0), solver)
    slopes = jnp.stack([SLOPE, 2 * SLOPE, jnp.full(3, jnp.nan), SLOPE])
    loss = lambda slope: one(slope).value @ jnp.arange(3.0)
    batch, slope = jax.jit(jax.vmap(lambda c: (one(c), jax.grad(loss)(c))))(slopes)
    assert batch.converged.tolist() == [True, True, False, True]
    assert jnp.isfinite(batch.value).all() and (slope[2] == 0).all()
    for lane in (0, 1, 3):
        np.testing.assert_allclose(batch.value[lane], one(slopes[lane]).value, atol=1e-6)
        np.testing.assert_allclose(slope[lane], jax.grad(loss)(slopes[lane]), atol=1e-5)


def test_own_draws_differ_by_slope_and_repeat():
    """Two slopes that differ in their last bit: other draws, where common ones agree."""
    near = jnp.nextafter(SLOPE, jnp.ones(3))
    values = {}
    for common in (True, False):
        solver = Perturbed(0.5, key=KEY, samples=100, common=common)
        values[common] = [simplex_value(c, solver) for c in (SLOPE, near, SLOPE)]
    for first, _, again in values.values():
        np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(*values[True][:2])
    assert (values[False][0] != values[False][1]).any()


def test_float64(x64):
    """In float64 too; halves are float32 inside and come back as they were."""
    solver = Perturbed(0.5, key=KEY, samples=20_000, noise="gumbel")
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        found = answer(jnp.asarray(SLOPE, dtype), sj.Simplex(2.0), solver)
        assert found.value.dtype == dtype and found.converged
        exact = 2 * jax.nn.softmax(jnp.asarray(SLOPE, jnp.float64) / 0.5)
        np.testing.assert_allclose(np.asarray(found.value, float), exact, atol=0.02)
    soft = simplex_value(jnp.asarray(SLOPE, jnp.float64), Regularised(0.5, kind="entropic"))
    np.testing.assert_allclose(soft, 2 * jax.nn.softmax(jnp.asarray(SLOPE, float) / 0.5), rtol=1e-9)


def test_the_entropic_follower_is_softmax_in_products_of_simplices():
    """Leaves of different sizes; derivatives in slope and total; the multiplier is its price."""
    slopes = {"a": jnp.array([[0.1, 0.4], [0.3, -0.2]]), "b": jnp.array([0.5, 0.1, 0.2])}
    solver = Regularised(0.5, kind="entropic")

    def value(slopes, total):
        dot = lambda a, r: sum(jax.tree.leaves(jax.tree.map(lambda u, y: jnp.sum(u * y), a, r)))
        utility = lambda a, r, x: dot(a, r)
        game = sj.Game(utility, utility, response_set=sj.Simplex(total))
        start = jax.tree.map(jnp.ones_like, slopes)
        return sj.best_response(game, slopes, None, response=start, solver=solver)

    exact = lambda slopes, total: jax.tree.map(lambda u: total * jax.nn.softmax(u / 0.5), slopes)
    found = value(slopes, 2.0)
    assert found.converged and found.residual == 0
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, atol=1e-6), found.value, exact(slopes, 2.0)
    )
    for place in (0, 1):
        both = (jax.jacrev(f, place)(slopes, 2.0) for f in (lambda *g: value(*g).value, exact))
        jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, atol=1e-5), *both)
    # what one more unit of a total is worth to the regularised follower
    worth = lambda total: 0.5 * total * jax.nn.logsumexp(slopes["b"] / 0.5)
    price = found.multipliers.equality[-1]  # of the last simplex; its entropy has the total fixed
    np.testing.assert_allclose(price + 0.5, jax.grad(worth)(2.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("feasible", "inner"),
    [
        (sj.Simplex(2.0), None),
        (sj.Box(0.0, 1.0), None),
        (sj.Box(0.0, 1.0), sj.Newton()),
        (sj.Ball(radius=0.4), None),
        (sj.Polyhedron(jnp.ones((1, 3)), jnp.ones(1), box=sj.Box(0.0, 1.0)), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_quadratic_follower_is_a_projection(feasible, inner):
    """Of `centre + slope / weight`, with its derivative, as the library's solvers find it."""
    solver = Regularised(0.5, centre=0.15, solver=inner)
    found = answer(SLOPE, feasible, solver)
    assert found.converged and found.unique
    near = sj.Game(
        lambda a, r, x: 0.0,
        lambda a, r, x: -jnp.sum((r - 0.15 - a / 0.5) ** 2),
        response_set=feasible,
    )
    right = lambda slope: sj.best_response(near, slope, None, response=jnp.full(3, 0.3)).value
    np.testing.assert_allclose(found.value, right(SLOPE), atol=1e-5)
    slope = jax.jacrev(lambda c: answer(c, feasible, solver).value)(SLOPE)
    np.testing.assert_allclose(slope, jax.jacrev(right)(SLOPE), atol=1e-4)


def test_bounds_multipliers_are_those_of_the_regularised_utility():
    """At the upper bound 1 of slope 2, weight 0.5: the utility's slope there is 2 - 0.5."""
    found = answer(jnp.array([2.0, 0.1]), sj.Box(0.0, 1.0), Regularised(0.5))
    np.testing.assert_allclose(found.value, [1.0, 0.2], atol=1e-6)
    np.testing.assert_allclose(found.multipliers.upper, [1.5, 0.0], atol=1e-6)
    noisy = answer(jnp.array([2.0, 0.1]), sj.Box(0.0, 1.0), Perturbed(0.1, key=KEY))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(noisy.multipliers))


@pytest.mark.parametrize(
    "solver",
    [Perturbed(0.5, key=KEY), Regularised(0.5, kind="entropic"), Regularised(0.5)],
    ids=["noise", "entropic", "quadratic"],
)
def test_a_utility_that_is_not_linear_does_not_converge(solver):
    game = sj.Game(
        lambda a, r, x: r[0], lambda a, r, x: a @ r - x * r @ r, response_set=sj.Simplex()
    )
    ask = lambda x: sj.best_response(game, SLOPE, x, response=jnp.full(3, 1 / 3), solver=solver)
    assert ask(0.0).converged and not ask(0.1).converged


PAID = sj.Game(
    lambda bonus, r, worth: r[1] * (2 - bonus),
    lambda bonus, r, worth: worth @ r + bonus * r[1],
    action_set=sj.Box(0.0, 3.0),
    response_set=sj.Simplex(),
)
"""A leader pays a bonus for the second of two options, which the follower likes less, by 1."""


@pytest.mark.parametrize(
    "solver",
    [
        Perturbed(0.2, key=KEY, samples=64, common=False),
        Perturbed(0.2, key=KEY, samples=200, noise="gumbel"),
        Regularised(0.2, kind="entropic"),
    ],
    ids=["gaussian", "gumbel", "entropic"],
)
def test_a_leader_learns_where_the_plain_follower_has_no_slope(solver):
    """The optimum for a sharp follower is a bonus just above 1, for 1; without one, nothing.

    From 0.8 the plain follower's derivative is 0. Through the smoothed one the leader reaches the
    optimum of the smoothed game, from closed forms on a grid, and most of the sharp one's.
    """
    worth, start = jnp.array([1.0, 0.0]), jnp.full(2, 0.5)
    ask = lambda bonus, s: sj.best_response(PAID, bonus, worth, response=start, solver=s).value
    gain = lambda bonus, s: PAID.leader_utility(bonus, ask(bonus, s), worth)
    assert gain(0.8, None) == 0 and jax.grad(gain)(0.8, None) == 0
    assert jax.grad(gain)(0.8, solver) > 0.1

    slope = jax.jit(jax.grad(lambda bonus: gain(bonus, solver)))
    bonus = jnp.array(0.8)
    for rate in 0.3 / jnp.sqrt(jnp.arange(1.0, 150.0)):
        bonus = bonus + rate * slope(bonus)
    grid = jnp.linspace(0.0, 3.0, 3001)
    gumbel = isinstance(solver, Regularised) or solver.noise == "gumbel"
    chosen = jax.nn.sigmoid((grid - 1) / 0.2) if gumbel else norm.cdf((grid - 1) / (0.2 * 2**0.5))
    smooth = chosen * (2 - grid)
    reached = smooth[jnp.argmin(jnp.abs(grid - bonus))]
    assert reached > 0.98 * smooth.max()
    assert gain(bonus, None) > 0.5


def test_fit_leader_learns_a_policy_through_it():
    """The policy of one bonus for all contexts, by Adam."""
    policy = jax.tree_util.Partial(lambda bonus, worth: bonus, jnp.array(0.5))
    worths = jnp.tile(jnp.array([1.0, 0.0]), (8, 1))
    options = {"response": jnp.full(2, 0.5), "steps": 60, "learning_rate": 0.03, "key": KEY}
    fitted = {}
    for name, solver in (("plain", None), ("noisy", Perturbed(0.3, key=KEY, common=False))):
        with pytest.warns() if name == "plain" else contextlib.nullcontext():
            found, history = sj.fit_leader(policy, PAID, worths, solver=solver, **options)
        fitted[name] = float(found.args[0])
    assert fitted["plain"] == 0.5
    assert 0.9 < fitted["noisy"] < 1.6 and history.converged[-1] == 1


def test_solve_through_a_regularised_follower():
    """Of `(bonus - 1) / w` at a price of `2 - bonus` each the best bonus is 3/2; by Newton."""
    game = sj.Game(
        lambda bonus, r, worth: r * (2 - bonus),
        lambda bonus, r, worth: (bonus - worth) * r,
        action_set=sj.Box(0.0, 3.0),
        response_set=sj.Box(0.0, 1.0),
    )
    begin: Any = {"action": jnp.array(1.2), "response": jnp.array(0.5), "context": jnp.array(1.0)}
    found = sj.solve(game, **begin, follower_solver=Regularised(1.5))
    assert found.converged
    np.testing.assert_allclose([found.action, found.response], [1.5, 1 / 3], atol=1e-4)
    # as a share of the range among other responses, which the sharp follower would prefer
    assert 0.3 < found.regret < 1
    with pytest.raises(TypeError, match="Complementarity answers for the follower's own utility"):
        sj.solve(game, **begin, follower_solver=Regularised(1.5), solver=sj.Complementarity())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Perturbed(0.0, key=KEY), ValueError, "`sigma` must be positive"),
        (lambda: Perturbed(jnp.ones(()), key=KEY), TypeError, "`sigma` must be a Python number"),  # type: ignore
        (lambda: Perturbed(1.0, key=0), TypeError, "`key` must be one key"),  # type: ignore
        (lambda: Perturbed(1.0, key=KEY, samples=3), ValueError, "`samples` must be even"),
        (lambda: Perturbed(1.0, key=KEY, samples=0), ValueError, "`samples` must be at least 2"),
        (lambda: Perturbed(1.0, key=KEY, noise="cauchy"), ValueError, "`noise` must be one of"),
        (lambda: Perturbed(1.0, key=KEY, common=1), TypeError, "`common` must be True or False"),  # type: ignore
        (lambda: Perturbed(1.0, key=KEY, oracle=1), TypeError, "`oracle` must be a function"),  # type: ignore
        (lambda: Regularised(-1.0), ValueError, "`weight` must be positive"),
        (lambda: Regularised(1.0, centre=np.inf), ValueError, "`centre` must be finite"),
        (lambda: Regularised(1.0, kind="cubic"), ValueError, "`kind` must be one of"),
        (lambda: Regularised(1.0, solver=Regularised(1.0)), TypeError, "`solver` must be"),
        (lambda: Regularised(1.0, kind="entropic", centre=1.0), ValueError, "quadratic form"),
    ],
)
def test_wrong_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_traced_key_is_named():
    with pytest.raises(TypeError, match="`key` must be known when the solver is made"):
        jax.jit(lambda key: simplex_value(SLOPE, Perturbed(1.0, key=key)))(KEY)


@pytest.mark.parametrize(
    ("feasible", "solver", "message"),
    [
        (sj.Box(0.0), Perturbed(1.0, key=KEY), "this Box has an open side"),
        (sj.Polyhedron(jnp.ones((1, 3)), jnp.ones(1)), Perturbed(1.0, key=KEY), "or an `oracle`"),
        (sj.Box(0.0, 1.0), Regularised(1.0, kind="entropic"), "needs a Simplex"),
        (sj.Simplex(), Regularised(1.0, solver=sj.Newton()), "Newton needs a Box"),
    ],
)
def test_sets_that_do_not_fit(feasible, solver, message):
    with pytest.raises(TypeError, match=message):
        answer(SLOPE, feasible, solver)


def test_an_oracle_of_another_shape_and_a_proof_are_refused():
    solver = Perturbed(1.0, key=KEY, oracle=lambda slope: slope[:1])
    with pytest.raises(ValueError, match=r"`oracle` must return .* \(3,\); got \(1,\)"):
        answer(SLOPE, sj.Box(0.0, 1.0), solver)
    with pytest.raises(TypeError, match="`proof` needs a solver of the follower's own utility"):
        sj.best_response(
            linear(sj.Box(0.0, 1.0)), SLOPE, None, response=jnp.zeros(3),
            solver=Regularised(1.0), proof=sj.solvers.Global(),
        )  # fmt: skip


def test_equal_settings_compile_once():
    """Keys have no hash; equal ones count as one."""
    one, same = (Perturbed(1.0, key=jax.random.key(3)) for _ in range(2))
    assert one == same and hash(one) == hash(same)
    assert one != Perturbed(1.0, key=jax.random.key(4)) and one != Regularised(1.0)
