"""The best response and its derivative: finite differences, bounds, batches, failures."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from quick import quick, quick_jit

import stackjax as sj

LOW, HIGH = -0.6, 0.8


class Follower(nnx.Module):
    """Strongly concave in the response, with networks of action, response and context inside."""

    def __init__(self, size: int, dtype=jnp.float64, *, rngs: nnx.Rngs):
        linear = lambda i, o: nnx.Linear(i, o, rngs=rngs, param_dtype=dtype)
        self.hidden, self.centre, self.mix = linear(5, 8), linear(8, size), linear(size, 6)

    def __call__(self, action, response, x):
        centre = 3 * self.centre(jnp.tanh(self.hidden(jnp.concatenate([action, x]))))
        smooth = jnp.sum(jax.nn.softplus(2 * self.mix(response + 0.3 * centre)))
        away = response - centre
        return -smooth - 0.6 * jnp.sum(away**2) - 0.1 * jnp.sum(away**4)


def leader_utility(action, response, x):
    return (
        jnp.sum(jnp.sin(response * (1 + action[0])))
        - jnp.sum(action**2)
        + response @ response * x[0]
    )


def value(action, key, x, *, size, dtype=jnp.float64, tol=None):
    follower = Follower(size, dtype, rngs=nnx.Rngs(key))
    game = sj.Game(leader_utility, follower, response_set=sj.Box(LOW, HIGH))
    start, settings = jnp.zeros(size, dtype), sj.Newton(tol=tol)
    answer = sj.best_response(game, action, x, response=start, solver=settings)
    return leader_utility(action, answer.value, x), answer


def batch(n, dtype):
    keys = jax.random.split(jax.random.key(0), n)
    action = jax.random.normal(jax.random.key(1), (n, 2), dtype)
    return action, keys, jax.random.normal(jax.random.key(2), (n, 3), dtype)


def central(function, action, step=1e-5):
    """Central differences in the action, last axis."""
    moves = step * jnp.eye(2)
    pairs = [(function(action + m[None]), function(action - m[None])) for m in moves]
    return np.stack([(up - down) / (2 * step) for up, down in pairs], axis=-1)


@pytest.mark.parametrize("size", [3, 6])  # unrolled and library factorisation
def test_total_derivatives_against_finite_differences(size, x64):
    """200 random games with a network inside, a third of the coordinates or more at a bound."""
    action, keys, x = batch(200, jnp.float64)
    one = lambda a, k, x: value(a, k, x, size=size, tol=1e-12)
    both = quick_jit(jax.vmap(jax.value_and_grad(one, has_aux=True)))
    (_, answer), slope = both(action, keys, x)
    assert answer.converged.all()
    assert answer.steps.max() < 12
    active = np.mean((answer.value <= LOW) | (answer.value >= HIGH))
    assert active > 1 / 3

    measured = central(lambda a: both(a, keys, x)[0][0], action)
    error = np.linalg.norm(slope - measured, axis=-1) / np.linalg.norm(measured, axis=-1)
    assert error.max() < 1e-6

    hessian = quick(jax.vmap(jax.hessian(lambda a, k, x: one(a, k, x)[0])), action, keys, x)
    measured = central(lambda a: both(a, keys, x)[1], action)
    norm = lambda m: np.linalg.norm(m.reshape(200, -1), axis=-1)
    assert np.max(norm(hessian - measured) / norm(measured)) < 1e-6


def test_float32_converges_and_agrees(x64):
    action, keys, x = batch(200, jnp.float64)
    run = lambda dtype: jax.jit(
        jax.vmap(jax.grad(lambda a, k, x: value(a, k, x, size=3, dtype=dtype), has_aux=True))
    )(action.astype(dtype), keys, x.astype(dtype))
    # The same parameters in both dtypes need the same draws: the module is drawn in float32.
    slope, answer = run(jnp.float32)
    assert answer.converged.all()
    assert answer.value.dtype == slope.dtype == jnp.float32
    assert np.all(answer.residual < 1e-3)


def quadratic(action, response, x):
    return -jnp.sum((response - action - x) ** 2)


def indifferent(action, response, x):
    """A leader's utility where only the follower matters; one function, compiled once."""
    return 0.0


game = sj.Game(lambda a, r, x: jnp.sum(a * r), quadratic, response_set=sj.Box(0.0, 1.0))
respond = lambda a, x=jnp.zeros(2): sj.best_response(game, a, x, response=jnp.full(2, 0.5))


def test_active_bound_has_no_derivative():
    """One coordinate inside, one pushed against its bound: modes agree, the second row is zero."""
    action = jnp.array([0.3, 1.7])
    answer = respond(action)
    chex.assert_trees_all_close(answer.value, jnp.array([0.3, 1.0]))
    assert answer.converged and answer.residual == 0
    wanted = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    for jacobian in (jax.jacfwd, jax.jacrev):
        chex.assert_trees_all_equal(jacobian(lambda a: respond(a).value)(action), wanted)


def test_response_moves_with_an_active_bound():
    def at(bound, action=jnp.array([0.9, 1.7])):
        moved = sj.Game(indifferent, _coupled, response_set=sj.Box(0.0, bound))
        return sj.best_response(moved, action, None, response=jnp.zeros(2)).value

    measured = (at(1.01) - at(0.99)) / 0.02
    for jacobian in (jax.jacfwd, jax.jacrev):
        slope = jacobian(at)(1.0)
        chex.assert_trees_all_close(slope, measured, rtol=1e-3)
        chex.assert_trees_all_close(slope, jnp.array([-0.5, 1.0]), rtol=1e-4)


def _coupled(action, response, x):
    return quadratic(action, response, 0.0) - response[0] * response[1]


def test_eager_jit_vmap_agree():
    actions = jax.random.normal(jax.random.key(0), (5, 2))
    loop = jnp.stack([respond(a).value for a in actions])
    compiled = jax.jit(lambda a: respond(a).value)
    jitted = jnp.stack([compiled(a) for a in actions])
    chex.assert_trees_all_close(loop, jitted, jax.vmap(respond)(actions).value, atol=1e-6)


def hard(action, response, x):
    """`x` sharpens the corner: 1 takes a few steps, 3000 takes many."""
    return -jax.nn.softplus(x * (response - action)) / x - 0.01 * (response + 5) ** 2


def test_batch_equals_loop_with_a_hard_and_a_failing_member():
    hard_game = sj.Game(lambda a, r, x: r, hard, response_set=sj.Box(-10.0, 10.0))
    one = lambda x: sj.best_response(hard_game, 1.0, x, response=jnp.array(9.0))
    sharpness = jnp.array([1.0, 3.0, 3000.0, jnp.nan, 10.0])
    slope = jax.vmap(jax.value_and_grad(lambda x: one(x).value))
    values, slopes = jax.jit(slope)(sharpness)
    answers = jax.jit(jax.vmap(one))(sharpness)
    lone = jax.jit(jax.grad(lambda x: one(x).value))
    for i in (0, 1, 2, 4):
        alone = one(sharpness[i])
        assert bool(alone.converged) == bool(answers.converged[i])
        assert alone.steps == answers.steps[i]
        chex.assert_trees_all_close(alone.value, values[i], rtol=1e-5)
        chex.assert_trees_all_close(lone(sharpness[i]), slopes[i], rtol=1e-3, atol=1e-7)
    assert not answers.converged[3] and np.isposinf(answers.residual[3])
    assert np.isfinite(values).all() and np.isfinite(slopes).all()
    assert slopes[3] == 0


def test_gradient_through_a_failed_lane_is_zero_for_shared_parameters():
    """The lane whose utility is not a number sends nothing into the module's parameters."""
    follower = nnx.Linear(1, 1, rngs=nnx.Rngs(0))

    def loss(follower, x):
        utility = lambda a, r, x: -((r - follower(x[None])[0]) ** 2)
        return sj.best_response(_with(utility), 0.0, x, response=jnp.array(0.0)).value

    def explicit(follower, x):
        module = _Tracking(follower)
        return sj.best_response(_with(module), 0.0, x, response=jnp.array(0.0)).value

    x = jnp.array([1.0, jnp.nan, 2.0])
    total = lambda f, x: jnp.sum(jax.vmap(lambda x: explicit(f, x))(x))
    slope = jax.jit(jax.grad(total))(follower, x)
    wanted = jax.grad(total)(follower, x[jnp.array([0, 2])])
    chex.assert_trees_all_close(slope, wanted)
    closed = jax.grad(lambda f: loss(f, x[0]) + loss(f, x[2]))(follower)
    chex.assert_trees_all_close(closed, wanted)


class _Tracking(nnx.Module):
    def __init__(self, line):
        self.line = line

    def __call__(self, action, response, x):
        return -((response - self.line(x[None])[0]) ** 2)


def _with(utility):
    return sj.Game(indifferent, utility)


def test_closures_of_every_kind_are_differentiated():
    """Traced floats and integers, under vmap, grad and jit, without being arguments."""

    def answer(theta, index):
        utility = lambda a, r, x: -((r - theta[index] * a) ** 2)
        return sj.best_response(_with(utility), 2.0, None, response=jnp.array(0.0)).value

    theta, index = jnp.array([1.0, 3.0, 5.0]), jnp.arange(3)
    slope = jax.jit(jax.vmap(jax.grad(answer), in_axes=(None, 0)))(theta, index)
    chex.assert_trees_all_close(slope, 2 * jnp.eye(3))
    forward = jax.jacfwd(lambda t: jax.vmap(lambda i: answer(t, i))(index))(theta)
    chex.assert_trees_all_close(forward, 2 * jnp.eye(3))


def curved(action, response, x):
    return action * response - jnp.exp(response) - 0.1 * response**4


def test_second_derivatives_inside_scan(x64):
    """JAX forgets custom rules when it differentiates a scan twice; the answer must not change."""
    respond = lambda a: sj.best_response(_with(curved), a, None, response=jnp.array(0.1)).value
    mapped = lambda a: jax.lax.map(respond, a[None])[0]

    def rolled(a):
        return jax.lax.scan(lambda carry, _: (respond(carry + a), None), 0.1, length=3)[0]

    def unrolled(a):
        carry = 0.1
        for _ in range(3):
            carry = respond(carry + a)
        return carry

    modes = [(once, twice) for once in (jax.grad, jax.jacfwd) for twice in (jax.grad, jax.jacfwd)]

    def measured(at):
        """Inside in every mode, outside in one: all modes agree there, as other tests show."""
        pairs = (mapped, respond), (rolled, unrolled)
        return [
            ([twice(once(inside))(at) for once, twice in modes], jax.hessian(outside)(at))
            for inside, outside in pairs
        ]

    for inside, outside in quick(measured, jnp.array(1.3)):
        np.testing.assert_allclose(inside, float(outside), rtol=1e-8)
        assert len(inside) == 4 and abs(outside) > 0.1


@pytest.mark.parametrize("size", [2, 5])
def test_units_of_the_utility_do_not_matter(size):
    """One free coordinate beside active bounds; in float32, at any scale of the utility."""

    def utility(action, response, scale):
        first = jnp.exp(response[0] - action) - response[0]
        return -scale * (first + jnp.sum((response[1:] - 3.0) ** 2))

    box = sj.Game(utility, utility, response_set=sj.Box(-1.0, 1.0))

    @jax.jit
    @jax.value_and_grad
    def first(action, scale):
        return sj.best_response(box, action, scale, response=jnp.full(size, 0.5)).value[0]

    for scale in (1.0, 1e-4, 1e-8, 1e8):
        value, slope = first(0.3, scale)
        assert np.isclose(value, 0.3, atol=1e-5), scale
        assert np.isclose(slope, 1.0, atol=1e-4), scale


def test_units_of_the_response_do_not_matter():
    """Tokens beside a share: each coordinate converges to its own accuracy."""

    def utility(action, response, unit):
        tokens, share = response[0] / unit, response[1]
        return -((tokens - action) ** 2) - jnp.exp(share - action) + share * (1.2 - 0.3 * tokens)

    @jax.jit
    def play(unit, start):
        high = jnp.stack([5 * unit, jnp.ones(())])
        mixed = sj.Game(utility, utility, response_set=sj.Box(0.0, high))
        return sj.best_response(mixed, 0.7, unit, response=start)

    wanted = play(1.0, jnp.array([2.0, 0.2]))
    assert wanted.converged
    for unit in (1e-3, 1e5, 1e7):
        answer = play(unit, jnp.array([2 * unit, 0.2]))
        assert answer.converged, unit
        units = jnp.array([unit, 1.0])
        chex.assert_trees_all_close(answer.value / units, wanted.value, rtol=1e-4)


@pytest.mark.parametrize(("size", "condition", "error"), [(2, 1e6, 1e-4), (4, 1e4, 1e-3)])
def test_stiff_followers_near_their_bounds(size, condition, error, x64):
    """Ill-conditioned quadratics in float32 against their float64 solutions."""
    n = 200
    root = jax.random.orthogonal(jax.random.key(0), size, (n,))
    values = jnp.logspace(0, jnp.log10(condition), size)
    hessian = jnp.einsum("nij,j,nkj->nik", root, values, root)
    peak = jax.random.uniform(jax.random.key(1), (n, size), minval=-1.5, maxval=1.5)

    def utility(peak, response, hessian):
        return -(response - peak) @ hessian @ (response - peak) / 2

    box = sj.Game(utility, utility, response_set=sj.Box(-1.0, 1.0))

    def run(dtype):
        start = jnp.zeros(size, dtype)
        one = lambda p, h: sj.best_response(box, p, h, response=start)
        return quick_jit(jax.vmap(one))(peak.astype(dtype), hessian.astype(dtype))

    fine, coarse = run(jnp.float64), run(jnp.float32)
    assert fine.converged.mean() > 0.98 and coarse.converged.mean() > 0.95
    both = np.asarray(fine.converged & coarse.converged)
    assert np.abs(fine.value - coarse.value)[both].max() < error


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("size", [1, 6])
def test_half_precision(dtype, size):
    half = lambda value: jnp.full(size, value, dtype)
    answer = sj.best_response(_with(quadratic), half(0.3), half(0.0), response=half(2.0))
    assert answer.converged and answer.value.dtype == dtype
    chex.assert_trees_all_close(answer.value, half(0.3))


def test_closed_over_parameters_survive_a_failed_lane():
    x = jnp.array([1.0, jnp.nan, jnp.inf])

    def total(k):
        one = lambda x: (
            sj.best_response(
                _with(lambda a, r, _: -((r - k * x) ** 2)), 0.0, None, response=jnp.array(0.0)
            ).value
        )
        return jnp.sum(jax.vmap(one)(x))

    assert jax.grad(total)(2.0) == jax.jacfwd(total)(2.0) == 1.0


def test_pytrees_for_everything():
    def utility(action, response, context):
        near = jnp.sum((response["a"] - action["l"]) ** 2) + (response["b"] - context[0]) ** 2
        return -near

    tree = sj.Game(
        utility, utility, response_set=sj.Box({"a": -1.0, "b": -jnp.inf}, {"a": 0.5, "b": jnp.inf})
    )
    start = {"a": jnp.zeros(2), "b": jnp.array(0.0)}
    action, context = {"l": jnp.array([0.2, 2.0])}, (jnp.array(7.0), jnp.array(3))
    answer = sj.best_response(tree, action, context, response=start)
    chex.assert_trees_all_close(answer.value, {"a": jnp.array([0.2, 0.5]), "b": jnp.array(7.0)})


def test_response_outside_the_set_is_projected():
    """A start outside gives the same answer, without an error."""
    outside = sj.best_response(
        game, jnp.array([0.3, 0.4]), jnp.zeros(2), response=jnp.array([-3.0, 9.0])
    )
    chex.assert_trees_all_close(outside.value, jnp.array([0.3, 0.4]), atol=1e-6)
    assert outside.converged


def test_linear_follower_goes_to_its_corner():
    corner = sj.Game(lambda a, r, x: 0.0, lambda a, r, x: a @ r, response_set=sj.Box(-1.0, 2.0))
    answer = sj.best_response(corner, jnp.array([1.0, -3.0]), None, response=jnp.zeros(2))
    chex.assert_trees_all_equal(answer.value, jnp.array([2.0, -1.0]))
    assert answer.converged


def test_a_follower_without_a_maximum_is_reported():
    """Unbounded, from a slope or from a minimum: named outside of transforms, flagged inside."""
    unbounded = _with(lambda a, r, x: r)
    with pytest.raises(ValueError, match="rises without end"):
        sj.best_response(unbounded, 0.0, None, response=jnp.array(0.0))
    run = jax.jit(lambda start: sj.best_response(unbounded, 0.0, None, response=start))
    assert not run(jnp.array(0.0)).converged
    bottom = _with(lambda a, r, x: r**2)
    with pytest.raises(ValueError, match="rises without end"):
        sj.best_response(bottom, 0.0, None, response=jnp.array(0.0))
    run = jax.jit(lambda start: sj.best_response(bottom, 0.0, None, response=start))
    answer = run(jnp.array(0.0))
    assert not answer.converged and np.isfinite(answer.value)


def test_non_concave_follower_finds_a_local_maximum():
    double_well = sj.Game(
        lambda a, r, x: r,
        lambda a, r, x: -((r**2 - 1) ** 2) + 0.1 * a * r,
        response_set=sj.Box(-3, 3),
    )
    starts = jnp.linspace(-2.5, 2.5, 20)
    answers = jax.vmap(lambda r: sj.best_response(double_well, 1.0, None, response=r))(starts)
    assert answers.converged.all()
    slope = -4 * answers.value * (answers.value**2 - 1) + 0.1
    assert np.all(np.abs(slope) < 1e-4) and np.all(np.abs(answers.value) > 0.9)


def test_several_starts_find_the_higher_well():
    """From the lower well alone it stays there; the derivative is that of the well chosen."""
    wells = sj.Game(
        lambda a, r, x: r,
        lambda a, r, x: -((r**2 - 1) ** 2) + a * r,
        response_set=sj.Box(-2.0, 2.0),
    )
    start = jnp.array(-1.0)
    alone = sj.best_response(wells, 0.2, None, response=start)
    many = lambda a, key=None: sj.best_response(wells, a, None, response=start, starts=8, key=key)
    assert alone.value < 0 and alone.agreeing_starts == 1
    for answer in (many(0.2), many(0.2, jax.random.key(3))):
        assert answer.value > 1 and answer.converged and 1 <= answer.agreeing_starts < 8
    value = many(0.2).value
    slope = jax.grad(lambda a: many(a).value)(0.2)
    chex.assert_trees_all_close(slope, 1 / (12 * value**2 - 4), rtol=1e-4)
    batch = jax.vmap(many)(jnp.array([0.2, -0.2]))
    chex.assert_trees_all_close(batch.value[0], -batch.value[1], atol=1e-5)
    with pytest.raises(ValueError, match="`starts` must be at least 1; got 0"):
        sj.best_response(wells, 0.2, None, response=start, starts=0)


def test_one_trace_per_shape():
    """A game of module-level functions is traced for its first call and never again."""
    calls = []

    def counted(action, response, x):
        calls.append(None)
        return quadratic(action, response, x)

    once = sj.Game(leader_utility, counted)
    traced = []
    for action in (jnp.ones(2), 2 * jnp.ones(2), jnp.zeros(2), jnp.ones(3)):
        sj.best_response(once, action, 0 * action, response=0 * action)
        traced.append(len(calls))
    assert 0 < traced[0] == traced[1] == traced[2] < traced[3]


def test_settings():
    with pytest.raises(ValueError, match="`tol` must be positive or None; got 0"):
        sj.Newton(tol=0)
    with pytest.raises(ValueError, match="`max_steps` must be at least 1; got 0"):
        sj.Newton(max_steps=0)
    with pytest.raises(TypeError, match="`max_steps` must be an integer; got 2.5"):
        sj.Newton(max_steps=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="`tol` must be a Python number or None"):
        sj.Newton(tol=jnp.array(1e-3))  # pyright: ignore[reportArgumentType]
    short = sj.best_response(
        game,
        jnp.array([0.3, 0.4]),
        jnp.zeros(2),
        response=jnp.ones(2),
        solver=sj.Newton(max_steps=1),
    )
    assert short.steps == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"game": 3}, TypeError, "`game` must be a stackjax.Game; got int"),
        ({"response": jnp.array([0, 1])}, TypeError, "`response` must be floating point.*int32"),
        ({"response": jnp.zeros(0)}, ValueError, "`response` is empty"),
        ({"solver": "newton"}, TypeError, "`solver` must be stackjax.Newton"),
        ({"game": _with(lambda a, r, x: r)}, ValueError,
         r"`follower_utility` must return a scalar.*\(2,\)"),
        ({"game": _with(lambda a, r, x: (r[0], r[1]))}, TypeError,
         "`follower_utility` must return one scalar"),
        ({"game": _with(lambda a, r, x: jnp.argmax(r))}, TypeError,
         "`follower_utility` must return a real floating"),
        ({"game": _with(lambda a, r, x: jnp.sum(r) * jnp.nan)}, ValueError,
         "`follower_utility` returned nan at the start"),
    ],
)  # fmt: skip
def test_wrong_input(arguments, error, message):
    given = {"game": game, "action": jnp.zeros(2), "context": jnp.zeros(2)}
    given |= {"response": jnp.zeros(2)} | arguments
    with pytest.raises(error, match=message):
        sj.best_response(**given)


@pytest.mark.parametrize(
    "response_set",
    [sj.Box(0.0, 9.0), sj.Constrained(lambda a, r, x: r - 5.0, box=sj.Box(0.0, 9.0)), None],
    ids=["box", "constrained", "free"],
)
def test_multipliers_and_their_gradients_are_finite_where_the_utility_is_no_number(response_set):
    for utility in (
        lambda a, r, x: a * jnp.sqrt(r - 30) - r**2,
        lambda a, r, x: a * jnp.log(x) - r**2,
    ):
        game = sj.Game(lambda a, r, x: r, utility, response_set=response_set)

        def total(a, game=game):
            found = sj.best_response(game, a, -1.0, response=jnp.array(1.0))
            prices = (jnp.sum(price) for price in jax.tree.leaves(found.multipliers))
            return found.value + sum(prices), found.converged

        (value, converged), slope = quick(jax.value_and_grad(total, has_aux=True), jnp.array(1.0))
        assert not converged and np.isfinite(value) and np.isfinite(slope)
