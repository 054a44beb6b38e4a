"""Large followers: Newton without a Hessian, and projected gradients."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import shapes
from quick import quick, quick_jit

import stackjax as sj
from stackjax._follower.arguments import follower_settings

D = 6


def follower(action, response, x):
    """Strongly concave, coupled, not quadratic; the response is a pytree of 6 numbers."""
    r = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(response)])
    t = jnp.arange(r.size, dtype=r.dtype)
    centre = 1.2 * jnp.sin(2 * t + action[0]) + action[1] * jnp.cos(t)
    away = r - centre
    linked = jnp.sum((r[1:] - r[:-1] * action[1]) ** 2)
    return (
        -jnp.sum((1 + t) * away**2) / 2 - linked - x * jnp.sum(jnp.exp(r * 0.5)) - jnp.sum(r) ** 4
    )


def played(feasible, solver, response, utility=follower):
    """`action, x, set's parameter -> Response`; the parameter scales the set."""

    def play(action, x, scale):
        game = sj.Game(utility, utility, response_set=feasible(scale))
        return sj.best_response(game, action, x, response=response, solver=solver)

    return play


def tree(dtype):
    return {"a": jnp.full((2, 2), 0.1, dtype), "b": jnp.full(2, 0.2, dtype)}


SETS = {
    "newton": (lambda s: sj.Box(-0.5 * s, 0.6 * s), sj.Newton(), sj.Newton(dense=False)),
    "box": (lambda s: sj.Box(-0.5 * s, 0.6 * s), sj.Newton(), sj.ProjectedGradient()),
    "simplex": (
        lambda s: sj.Simplex({"a": jnp.stack([s, 0.5 * s]), "b": s}),
        sj.InteriorPoint(),
        sj.ProjectedGradient(),
    ),
    "ball": (lambda s: sj.Ball(0.3 * s, 0.7 * s), sj.InteriorPoint(), sj.ProjectedGradient()),
    "inner": (lambda s: sj.Ball(0.3 * s, 9.0 * s), sj.InteriorPoint(), sj.ProjectedGradient()),
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("newton", jnp.float64),
        pytest.param("newton", jnp.float32, marks=SLOW),
        pytest.param("simplex", jnp.float64, marks=SLOW),
        ("ball", jnp.float64),
        pytest.param("box", jnp.float64, marks=SLOW),
        pytest.param("inner", jnp.float64, marks=SLOW),
        pytest.param("simplex", jnp.float32, marks=SLOW),
        pytest.param("ball", jnp.float32, marks=SLOW),
    ],
)
def test_agrees_with_the_dense_solvers(name, dtype, x64):
    """Value, multipliers, degeneracy and first derivatives, both modes; to second order."""
    feasible, dense, large = SETS[name]
    point = (jnp.array([0.3, 0.4], dtype), jnp.array(0.8, dtype), jnp.array(1.0, dtype))
    every = (0, 1, 2)

    def run(solver, *point):
        play = played(feasible, solver, tree(dtype))

        def parts(*point):
            answer = play(*point)
            return (answer.value, answer.multipliers), answer

        def loss(*point):
            y = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(play(*point).value)])
            return jnp.sum(jnp.sin(y * (1 + jnp.arange(D, dtype=dtype))))

        slopes, answer = jax.jacfwd(parts, every, has_aux=True)(*point)
        return answer, slopes, jax.jacfwd(jax.grad(loss, every), 0)(*point)

    def back(*point):
        return jax.jacrev(lambda *p: played(feasible, large, tree(dtype))(*p).value, every)(*point)

    wanted, found = (quick(partial(run, solver), *point) for solver in (dense, large))
    loose = {"rtol": 2e-3, "atol": 2e-3} if dtype == jnp.float32 else {"rtol": 1e-7, "atol": 1e-7}
    assert found[0].converged and wanted[0].converged
    for part in ("value", "multipliers", "degeneracy"):
        chex.assert_trees_all_close(getattr(found[0], part), getattr(wanted[0], part), **loose)
    chex.assert_trees_all_close(found[1], wanted[1], **loose)
    chex.assert_trees_all_close(found[2], wanted[2], **loose)
    if name in ("newton", "simplex"):
        chex.assert_trees_all_close(quick(back, *point), found[1][0], **loose)
    assert 0 < found[0].curvature <= 1 and found[0].unique
    assert np.abs(found[2][1]).max() > 1e-2


@SLOW
def test_reverse_twice_inside_a_loop(x64):
    """JAX forgets custom rules there; the second derivative must not change."""
    for name in ("newton", "ball"):
        feasible, _, large = SETS[name]
        play = played(feasible, large, jnp.full(3, 0.1))
        loss = lambda a, play=play: jnp.sum(play(jnp.stack([a, 0.4]), 0.8, 1 + a).value ** 3)
        mapped = lambda a, loss=loss: jax.lax.map(loss, a[None])[0]
        at = jnp.array(0.3)
        wanted = jax.jit(jax.jacfwd(jax.grad(loss)))(at)
        assert np.isclose(jax.jit(jax.grad(jax.grad(mapped)))(at), wanted, rtol=1e-7)
        assert abs(wanted) > 0.01


def chain(action, response, x):
    """Neighbours are linked; half of a long response is at a bound."""
    t = jnp.arange(len(response)) / len(response)
    away = response - 1.5 * jnp.sin(7 * t * action)
    steep = jnp.sum((1 + 50 * jnp.cos(3 * t) ** 2) * away**2) / 2
    linked = 5 * jnp.sum(jnp.diff(response) ** 2)
    return -steep - linked - jnp.sum(jnp.log(jnp.cosh(3 * response * action))) - x


def shares(action, response, x):
    """Logarithmic gains of a part each, and a cost of unevenness."""
    d = len(response)
    t = jnp.arange(d) / d
    gains = 10 * jnp.mean(jnp.log1p(d * response * (1 + action * jnp.sin(9 * t))) * (1 + t))
    return gains - d * jnp.sum((response - jnp.roll(response, 1)) ** 2) / 2 - x


@pytest.mark.parametrize(
    ("utility", "feasible", "size", "held"),
    [
        (chain, sj.Box(-1.0, 1.0), 10_000, (0.3, 0.7)),
        (shares, sj.Simplex(1.0), 2_000, (0.1, 0.3)),
        (chain, sj.Ball(0.0, 10.0), 2_000, (0.0, 0.0)),
    ],
)
def test_thousands_of_numbers(utility, feasible, size, held, x64):
    """The default, under jit: its derivative against central differences in one direction."""
    start = jnp.full(size, 1 / size)
    game = sj.Game(utility, utility, response_set=feasible)
    weight = jax.random.normal(jax.random.key(1), (size,)) / size**0.5

    def loss(action):
        answer = sj.best_response(game, action, 0.0, response=start)
        return answer.value @ weight, answer

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, answer), slope = run(jnp.array(0.7))
    assert answer.converged and answer.residual < 1e-9 and answer.curvature > 0.01
    active = sum(
        np.mean(np.abs(m) > 0) for m in (answer.multipliers.lower, answer.multipliers.upper)
    )
    assert held[0] <= active <= held[1]
    step = 1e-6
    measured = (run(0.7 + step)[0][0] - run(0.7 - step)[0][0]) / (2 * step)
    assert np.isclose(slope, measured, rtol=1e-5) and abs(slope) > 1e-4


@pytest.mark.parametrize("name", ["newton", "simplex"])
def test_batch_equals_loop_with_a_hard_and_a_failing_member(name):
    feasible, _, large = SETS[name]
    if name == "simplex":
        feasible = sj.Simplex
    play = played(feasible, large, jnp.full(4, 0.1))

    def one(x, scale):
        answer = play(jnp.array([0.3, 0.4]), x, scale)
        return jnp.sum(answer.value**2), answer

    run = quick_jit(jax.value_and_grad(one, argnums=(0, 1), has_aux=True))
    xs, scales = jnp.array([0.8, 1e3, jnp.nan, 0.1]), jnp.array([1.0, 1.2, 1.0, 2.0])
    (values, answers), slopes = quick(
        jax.vmap(jax.value_and_grad(one, (0, 1), has_aux=True)), xs, scales
    )
    chex.assert_tree_all_finite((values, slopes, answers.value, answers.multipliers))
    assert np.array_equal(answers.converged, [True, True, False, True])
    assert np.isposinf(answers.residual[2]) and slopes[0][2] == slopes[1][2] == 0
    forward = quick(jax.vmap(jax.jacfwd(lambda x, s: one(x, s)[0])), xs, scales)
    chex.assert_tree_all_finite(forward)
    for i in (0, 1, 3):
        (value, answer), slope = run(xs[i], scales[i])
        assert bool(answer.converged) == bool(answers.converged[i])
        mine = tuple(s[i] for s in slopes)
        chex.assert_trees_all_close((value, slope), (values[i], mine), rtol=1e-3, atol=1e-4)


def stiff(peak, response, hessian):
    return -(response - peak) @ hessian @ (response - peak) / 2


@pytest.mark.slow
def test_condition_ten_thousand(x64):
    """Ill-conditioned quadratics near their bounds, against the dense solution."""
    n, d = 8, 30
    root = jax.random.orthogonal(jax.random.key(0), d, (n,))
    hessian = jnp.einsum("nij,j,nkj->nik", root, jnp.logspace(0, 4, d), root)
    peak = jax.random.uniform(jax.random.key(1), (n, d), minval=-1.5, maxval=1.5)
    game = sj.Game(stiff, stiff, response_set=sj.Box(-1.0, 1.0))

    def run(dtype, solver):
        def one(p, h):
            answer = sj.best_response(game, p, h, response=jnp.zeros(d, dtype), solver=solver)
            return jnp.sum(answer.value**2), answer

        both = quick_jit(jax.vmap(jax.grad(one, has_aux=True)))
        return both(peak.astype(dtype), hessian.astype(dtype))

    wanted_slope, wanted = run(jnp.float64, sj.Newton())
    assert wanted.converged.all()
    for solver in (sj.Newton(dense=False), sj.ProjectedGradient()):
        slope, found = run(jnp.float64, solver)
        assert found.converged.all()
        chex.assert_trees_all_close(found.value, wanted.value, atol=1e-8)
        chex.assert_trees_all_close(slope, wanted_slope, rtol=1e-5, atol=1e-5)
        # In float32 there is rounding in the gradient, times the condition.
        _, coarse = run(jnp.float32, solver)
        good = np.asarray(coarse.converged)
        assert good.mean() >= 0.5
        assert np.abs(coarse.value - wanted.value)[good].max() < 5e-3


def wells(action, response, x):
    """Each coordinate has a minimum at 0 and maxima near +-1."""
    return -jnp.sum((response**2 - 1) ** 2) + 0.1 * jnp.sum(response) * action


@pytest.mark.parametrize("solver", [sj.Newton(dense=False), sj.ProjectedGradient()])
def test_negative_curvature_at_the_start(solver, x64):
    game = sj.Game(wells, wells, response_set=sj.Box(-3.0, 3.0))
    run = jax.jit(lambda r: sj.best_response(game, 1.0, None, response=r, solver=solver))
    for start in (jnp.linspace(-0.4, 0.4, 11), jnp.linspace(-2.5, 2.5, 11)):
        answer = run(start)
        assert answer.converged and answer.curvature > 0.1
        assert np.all(np.abs(answer.value) > 0.9)
    # Exactly at a stationary point that is no maximum: seen, and not called one.
    flat = sj.Game(wells, lambda a, r, x: jnp.sum(r**2), response_set=sj.Box(-3.0, 3.0))
    bottom = sj.best_response(flat, 1.0, None, response=jnp.zeros(11), solver=solver)
    assert not bottom.converged and bottom.curvature < 0


@pytest.mark.parametrize("solver", [sj.Newton(dense=False), sj.ProjectedGradient()])
def test_linear_followers_go_to_a_corner(solver):
    linear = lambda a, r, x: a @ r
    action = jnp.array([1.0, -3.0, 0.5, 2.0])
    game = sj.Game(linear, linear, response_set=sj.Box(-1.0, 2.0))
    answer = sj.best_response(game, action, None, response=jnp.zeros(4), solver=solver)
    assert answer.converged
    chex.assert_trees_all_equal(answer.value, jnp.array([2.0, -1.0, 2.0, 2.0]))


def test_a_linear_follower_in_a_simplex_and_a_ball():
    action = jnp.array([1.0, -3.0, 0.5, 2.0])

    def best(feasible, action):
        game = sj.Game(follower, lambda a, r, x: a @ r, response_set=feasible)
        return sj.best_response(
            game, action, None, response=jnp.full(4, 0.2), solver=sj.ProjectedGradient()
        )

    corner = jax.jit(lambda a: best(sj.Simplex(3.0), a))(action)
    assert corner.converged
    chex.assert_trees_all_close(corner.value, jnp.array([0.0, 0.0, 0.0, 3.0]))
    chex.assert_trees_all_close(corner.multipliers.equality, jnp.array([2.0]))
    chex.assert_trees_all_close(corner.multipliers.lower, jnp.array([1.0, 5.0, 1.5, 0.0]))
    sphere = lambda action: (lambda value: (value, value))(best(sj.Ball(1.0, 2.0), action).value)
    unit = lambda action: 1 + 2 * action / jnp.sqrt(jnp.sum(action**2))
    slope, value = jax.jit(jax.jacrev(sphere, has_aux=True))(action)
    chex.assert_trees_all_close(value, unit(action), rtol=1e-4)
    chex.assert_trees_all_close(slope, jax.jacrev(unit)(action), atol=1e-3)


@pytest.mark.parametrize(
    ("feasible", "solver"),
    [
        (sj.Box(-1.0, 1.0), sj.Newton(dense=False)),
        (sj.Box(-1.0, 1.0), sj.ProjectedGradient()),
        (sj.Ball(), None),
        (sj.Box(-1.0, 1.0), None),
    ],
)
def test_no_matrix_is_formed(feasible, solver):
    size = 97
    game = sj.Game(chain, chain, response_set=feasible)

    def slope(action):
        respond = lambda a: (
            sj.best_response(game, a, 0.0, response=jnp.zeros(size), solver=solver).value
        )
        loss = lambda a: jnp.sum(respond(a) ** 2)
        return jax.grad(loss)(action), jax.jacfwd(respond)(action), jax.hessian(loss)(action)

    seen = shapes(jax.make_jaxpr(slope)(1.0).jaxpr)
    assert (size,) in seen
    assert not [shape for shape in seen if shape.count(size) > 1]


def test_dense_newton_forms_one():
    """The test above sees what it looks for."""
    game = sj.Game(chain, chain)
    solve = lambda a: sj.best_response(
        game, a, 0.0, response=jnp.zeros(97), solver=sj.Newton(dense=True)
    )
    assert (97, 97) in shapes(jax.make_jaxpr(solve)(1.0).jaxpr)


def test_defaults_by_size():
    """Above 64 numbers a Simplex and a Ball are answered by projected gradients."""
    settings = follower_settings
    small, large = jnp.zeros(64), jnp.zeros(65)
    for feasible in (sj.Simplex(), sj.Ball()):
        assert settings(None, feasible, "solver", small) == sj.InteriorPoint()
        assert settings(None, feasible, "solver", large) == sj.ProjectedGradient()
    assert settings(None, sj.Box(), "solver", large) == sj.Newton()
    rows = sj.Polyhedron(A=jnp.ones((1, 65)), b=jnp.ones(1))
    assert settings(None, rows, "solver", large) == sj.InteriorPoint()


def test_settings():
    for wrong in (1, "yes"):
        with pytest.raises(TypeError, match="Newton: `dense` must be True, False or None; got"):
            sj.Newton(dense=wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match="ProjectedGradient: `tol` must be positive or None; got 0"
    ):
        sj.ProjectedGradient(tol=0)
    with pytest.raises(TypeError, match="ProjectedGradient: `tol` must be a Python number or None"):
        sj.ProjectedGradient(tol="small")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match="ProjectedGradient: `max_steps` must be at least 1; got 0"
    ):
        sj.ProjectedGradient(max_steps=0)
    with pytest.raises(
        TypeError, match="ProjectedGradient: `max_steps` must be an integer; got 2.5"
    ):
        sj.ProjectedGradient(max_steps=2.5)  # pyright: ignore[reportArgumentType]
    assert hash(sj.Newton(dense=False)) != hash(sj.Newton())
    game = sj.Game(chain, chain, response_set=sj.Box(-1.0, 1.0))
    short = sj.best_response(
        game, 0.7, 0.0, response=jnp.zeros(30), solver=sj.ProjectedGradient(max_steps=1)
    )
    assert short.steps == 1


@pytest.mark.parametrize(
    ("solver", "feasible", "message"),
    [
        (sj.ProjectedGradient(), sj.Polyhedron(A=jnp.ones((1, 2)), b=jnp.ones(1)),
         "`solver`: ProjectedGradient needs a Box, a Simplex or a Ball.*for a Polyhedron use"),
        (sj.ProjectedGradient(), sj.Constrained(inequality=lambda a, r, x: r),
         "`solver`: ProjectedGradient needs a Box, a Simplex or a Ball.*for a Constrained use"),
        (sj.Newton(dense=False), sj.Ball(), "`solver`: Newton needs a Box.*for a Ball use"),
        ("gradient", sj.Ball(), r"stackjax.ProjectedGradient\(...\), .* or None; got 'gradient'"),
    ],
)  # fmt: skip
def test_wrong_input(solver, feasible, message):
    game = sj.Game(wells, wells, response_set=feasible)
    with pytest.raises(TypeError, match=message):
        sj.best_response(game, 1.0, None, response=jnp.zeros(2), solver=solver)


def test_failure_without_a_trace_is_explained():
    game = sj.Game(wells, lambda a, r, x: jnp.sum(r) * jnp.nan, response_set=sj.Simplex())
    with pytest.raises(ValueError, match="`follower_utility` returned nan at the start"):
        sj.best_response(game, 1.0, None, response=jnp.ones(2), solver=sj.ProjectedGradient())


@SLOW
def test_a_leader_with_many_actions(x64):
    """Newton without a Hessian for the leader too, through the follower's derivatives."""

    def leader(action, response, x):
        return (
            -jnp.sum((action - x) ** 2)
            - jnp.sum(jnp.cosh(response))
            + jnp.sum(action[1:] * action[:-1]) / 4
        )

    follow = lambda a, r, x: -jnp.sum((r - a) ** 2) - jnp.sum(r**4)
    box = sj.Box(-0.5, 0.5)
    game = sj.Game(leader, follow, action_set=box, response_set=box)
    zero, x = jnp.zeros(3), jnp.linspace(-1, 2, 3)
    wanted, found = (
        sj.solve(game, action=zero, response=zero, context=x, solver=sj.Newton(dense=dense))
        for dense in (True, False)
    )
    assert found.converged and wanted.converged
    chex.assert_trees_all_close(found.action, wanted.action, atol=1e-9)
