"""Functions by components and batches in blocks: the same numbers, in another layout."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import jaxprs

import stackjax as sj
from stackjax._arrays import components as _components
from stackjax._arrays.blocks import closed_in_blocks
from stackjax._arrays.components import componentwise, kept

SCALE = jnp.array([1, 2, 3])


@jax.custom_jvp
def rounded(x):
    return jnp.round(x)


rounded.defjvp(lambda primals, tangents: (rounded(*primals), 7.0 * tangents[0]))


def curved(y, x):
    """Products, softplus and a custom rule, integers closed over, moves of all kinds."""
    rows = jnp.stack([y, y[::-1], jnp.roll(y, 1)])
    padded = jnp.pad(y, 1)[jnp.array([0, 1, 3])]
    mixed = rows @ x + jnp.concatenate([y[:1], jnp.exp(-y[1:])]) * SCALE
    chosen = jnp.where(mixed > 0, jnp.tanh(mixed), mixed**3)
    return (
        jnp.sum(jax.nn.softplus(chosen)) + rounded(y @ x) + padded @ jnp.linalg.norm(rows, axis=1)
    )


def looped(y, x):
    """A loop, a branch, and operations without a rule here."""
    turned = jax.lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] * x), (0, y))[1]
    kind = jax.lax.cond(y[0] > 0.3, jnp.sin, jnp.cos, turned)
    return jnp.cumsum(jnp.sort(kind)) @ y


def traced(y, x):
    """A traced program that is called, once with no result: JAX 0.12 has an operation for that."""
    jax.jit(lambda y: ()).trace(y)(y)
    return jax.jit(lambda y, x: jnp.sin(y) @ x).trace(y, x)(y, x)


Y, X = jnp.array([0.2, 0.7, -0.4]), jnp.array([1.1, -0.3, 0.8])


@pytest.mark.parametrize("function", [curved, looped, traced])
@pytest.mark.parametrize("detached", [False, True])
def test_the_same_values(function, detached):
    split = componentwise(function, detached=detached)
    np.testing.assert_allclose(split(Y, X), function(Y, X), rtol=1e-5)
    batch = jnp.stack([Y, -Y, 2 * Y, 0.1 + Y])
    for transform in (jax.jit, lambda f: jax.jit(jax.vmap(f, (0, None)))):
        at = Y if transform is jax.jit else batch
        np.testing.assert_allclose(transform(split)(at, X), transform(function)(at, X), rtol=1e-5)


def test_the_same_derivatives(x64):
    y, x = Y.astype(jnp.float64), X.astype(jnp.float64)
    split = componentwise(curved)

    def every(function):
        """In both arguments; to second order in all four modes."""
        first = [one(function, argument) for one in (jax.grad, jax.jacfwd) for argument in (0, 1)]
        second = [two(slope) for two in (jax.jacrev, jax.jacfwd) for slope in first]
        return jax.jit(lambda y, x: [slope(y, x) for slope in first + second])(y, x)

    chex.assert_trees_all_close(every(split), every(curved), rtol=1e-12, atol=1e-12)
    step = 1e-6 * jnp.array([1.0, 0, 0])
    measured = (split(y + step, x) - split(y - step, x)) / 2e-6
    np.testing.assert_allclose(jax.grad(split)(y, x)[0] - 7 * x[0], measured, rtol=1e-6)


def test_moves_cost_nothing_and_arithmetic_is_scalar():
    text = str(
        jax.make_jaxpr(componentwise(lambda y: jnp.sum(y[::-1] * y[jnp.array([2, 0, 1])])))(Y)
    )
    assert "gather" not in text and "rev" not in text and "mul" in text


def test_large_functions_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(_components, "MOST", 3)
    assert "reduce_sum" in str(jax.make_jaxpr(componentwise(curved))(Y, X))
    blocks = componentwise(curved, detached=True, block=2)
    batch = jnp.stack([Y, -Y, 2 * Y])
    wanted = jax.vmap(curved, (0, None))(batch, X)
    np.testing.assert_allclose(jax.vmap(blocks, (0, None))(batch, X), wanted, rtol=1e-5)


def test_large_arrays_and_kept_functions_stay_whole():
    weights = jnp.linspace(0, 1, 150).reshape(50, 3)
    network = lambda y: jnp.sum(jnp.tanh(weights @ y)) + kept(jnp.prod)(y)
    text = str(jax.make_jaxpr(componentwise(network, detached=True))(Y))
    assert "f32[50]" in text and "reduce_prod" in text
    np.testing.assert_allclose(componentwise(network, detached=True)(Y), network(Y), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 4, 5, 11])
@pytest.mark.parametrize("make", [closed_in_blocks, lambda f, n: componentwise(f, block=n)])
def test_blocks_are_a_loop(make, count):
    """Also for a last block that is not full, an axis inside, and what is closed over."""
    at = jnp.linspace(-1, 1, count * 6).reshape(count, 2, 3)
    offsets = jnp.arange(count)

    def function(y, offset):
        return make(lambda y: (jnp.cos(y) + offset, jnp.sum(y)), 4)(y)

    batched = jax.vmap(jax.vmap(function, (0, None)))(at, offsets)
    for row in range(count):
        alone = [jnp.cos(at[row]) + offsets[row], jnp.sum(at[row], axis=1)]
        for one, many in zip(alone, batched):
            np.testing.assert_allclose(many[row], one, rtol=1e-6)


def conditions(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "while":
            yield eqn.params["cond_jaxpr"].jaxpr
        for inner in jaxprs(eqn.params):
            yield from conditions(getattr(inner, "jaxpr", inner))


FOLLOWERS = {
    "newton": (sj.Box(0.0, 1.0), sj.Newton()),
    "conjugate gradients": (sj.Box(0.0, 1.0), sj.Newton(dense=False)),
    "interior point": (sj.Simplex(), sj.InteriorPoint()),
    "gradients": (sj.Simplex(), sj.ProjectedGradient()),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_loops_read_their_flag(name):
    """A batched comparison of floats in a condition is compiled twice and can loop for ever."""
    feasible, solver = FOLLOWERS[name]
    game = sj.Game(
        lambda a, r, x: jnp.sum(r) * a,
        lambda a, r, x: jnp.sum(jnp.log1p(r * x)) - a * r @ r,
        response_set=feasible,
    )

    def answer(a, x):
        return sj.best_response(game, a, x, response=jnp.full(3, 1 / 3), solver=solver).value

    traced = jax.make_jaxpr(jax.vmap(answer))(jnp.ones(700), jnp.ones((700, 3)))
    found = list(conditions(traced.jaxpr))
    assert found
    for condition in found:
        for eqn in condition.eqns:
            for atom in eqn.invars:
                assert not jnp.issubdtype(atom.aval.dtype, jnp.inexact), condition


def test_a_failed_member_changes_nothing_for_the_others():
    """1,300 members, three blocks: one is not a number, one has several maxima."""
    game = sj.Game(
        lambda a, r, x: jnp.sum(r),
        lambda a, r, x: jnp.sum(jnp.log1p(r * x)) - a * jnp.sum(r**2) + 3 * a * jnp.sum(r**4),
        response_set=sj.Box(0.0, 0.3),
    )
    contexts = jnp.linspace(0.2, 0.9, 1300 * 3).reshape(1300, 3)
    odd = contexts.at[700].set(jnp.nan)
    actions = jnp.ones(1300).at[40].set(-2.0)

    def answer(a, x):
        found = sj.best_response(game, a, x, response=jnp.full(3, 0.1))
        return found.value, found.converged

    both = jax.jit(
        jax.vmap(
            jax.value_and_grad(lambda a, x: (jnp.sum((r := answer(a, x))[0]), r), has_aux=True)
        )
    )
    (_, (value, converged)), slope = both(actions, odd)
    (_, (wanted, _)), wanted_slope = both(jnp.ones(1300), contexts)
    others = np.delete(np.arange(1300), [40, 700])
    np.testing.assert_array_equal(value[others], wanted[others])
    np.testing.assert_array_equal(slope[others], wanted_slope[others])
    assert not converged[700] and slope[700] == 0 and converged[others].all()


@pytest.mark.parametrize("size", [3, 16])
def test_memory_grows_with_what_goes_in_and_out(size):
    """Nothing of size [N, d, d]: Hessians exist a block at a time."""
    game = sj.Game(
        lambda a, r, x: jnp.sum(r * x),
        lambda a, r, x: jnp.log1p(x @ r) - a * r @ r,
        response_set=sj.Box(0.0, 1.0),
    )

    def answer(a, x):
        return sj.best_response(game, a, x, response=jnp.full(size, 0.5)).value

    def temporary(count):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((count,), (count, size))]
        compiled = jax.jit(jax.vmap(answer)).lower(*shapes).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    few, many = temporary(16384), temporary(65536)
    assert (many - few) / (65536 - 16384) < 4 * (10 * size + 24)


def answers_to(utility, feasible, **settings):
    """`(start, context) -> Response`, compiled once; the default solver or a Newton of these."""
    game = sj.Game(utility, utility, response_set=feasible)
    solver = sj.Newton(**settings) if settings else None
    respond = lambda start, c: sj.best_response(game, 1.0, c, response=start, solver=solver)
    return jax.jit(respond)


def answer_to(utility, start, feasible, context: Any = 1.0, **settings):
    return answers_to(utility, feasible, **settings)(start, context)


def test_indices_out_of_range_and_empty_arrays():
    filled = lambda y: jnp.take(y, jnp.array([0, 9]), fill_value=1.0) * y[:2]
    np.testing.assert_array_equal(componentwise(filled)(Y), filled(Y))
    hollow = lambda y: jnp.sum(y[:0]) + jnp.sum(jnp.zeros((3, 0)) @ y[:0]) + jnp.sum(y)
    np.testing.assert_allclose(componentwise(hollow)(Y), jnp.sum(Y))
    utility = lambda a, r, c: -jnp.sum((r - 0.3) ** 2) + jnp.sum(c)
    found = answer_to(utility, Y, sj.Box(), jnp.zeros(0))
    np.testing.assert_allclose(found.value, 0.3, rtol=1e-6)


def test_constants_are_those_of_jax():
    def huge(y):
        cast = jnp.array([300.7, -5.0, 2.0]).astype(jnp.uint8)
        return y + cast + (jnp.full(3, 1e38, y.dtype) * 10 > 0)

    np.testing.assert_array_equal(componentwise(huge)(Y), jax.jit(huge)(Y))


@pytest.mark.parametrize("size", [3, 16])
def test_an_empty_batch(size):
    game = sj.Game(
        lambda a, r, x: r @ x, lambda a, r, x: r @ x - r @ r, response_set=sj.Box(0.0, 1.0)
    )
    respond = lambda x: sj.best_response(game, 1.0, x, response=jnp.full(size, 0.5)).value
    assert jax.vmap(jax.vmap(respond))(jnp.zeros((0, 2, size))).shape == (0, 2, size)
    assert jax.vmap(jax.grad(lambda x: respond(x)[0]))(jnp.zeros((0, size))).shape == (0, size)


@pytest.mark.parametrize("size", [3, 8])
def test_full_steps_that_leave_the_domain(size):
    """The logarithm's Newton step from the far side ends at the bound, where it is infinite."""
    respond = answers_to(lambda a, r, c: jnp.sum(jnp.log(r) - 3 * r), sj.Box(0.0, 1.0))
    for start in (0.9, 1.0):
        found = respond(jnp.full(size, start), 1.0)
        np.testing.assert_allclose(found.value, 1 / 3, rtol=1e-4)
        assert found.converged


def test_units_of_the_utility():
    respond = answers_to(
        lambda a, r, scale: -scale * jnp.sum((r - 0.3) ** 2 + jnp.exp(r)), sj.Box(-1.0, 1.0)
    )
    for scale in (1e-20, 1e-12, 1e12):
        found = respond(jnp.linspace(-1, 1, 8), scale)
        np.testing.assert_allclose(found.value, -0.13629, atol=1e-4)
        assert found.converged, scale


def test_the_tolerance_holds_at_the_last_full_step():
    quartic = lambda a, r, c: -jnp.sum(r**4)
    found = answer_to(quartic, jnp.full(1, 0.3), sj.Box(-1.0, 1.0), tol=1e-6)
    assert found.converged and abs(found.value[0]) < 1e-5
    steep = lambda a, r, c: jnp.sum(jnp.sqrt(r) - r)
    assert not answer_to(steep, jnp.full(1, 1e-4), sj.Box(-1.0, 1.0), max_steps=1).converged


def test_a_saddle_with_an_empty_diagonal():
    found = answer_to(lambda a, r, c: r[0] * r[1], jnp.zeros(2), sj.Box(-1.0, 1.0))
    assert not found.converged or abs(found.value).min() == 1


def test_small_steps_beside_a_singularity():
    budget = sj.Polyhedron(jnp.ones((1, 2)), jnp.ones(1))
    respond = answers_to(lambda a, r, c: jnp.sum(jnp.log(r) - 3 * r), budget)
    for start in ([0.1, 1e-7], [1e-6, 1e-6]):
        found = respond(jnp.array(start), 1.0)
        if found.converged:
            np.testing.assert_allclose(found.value, 1 / 3, rtol=1e-3)


def test_layers_of_a_network_stay_whole():
    """Taken apart between products that are not, they took a minute to compile."""
    keys = jax.random.split(jax.random.key(3), 3)
    first, second, last = (jax.random.normal(k, s) for k, s in zip(keys, [(8, 3), (8, 8), (8,)]))

    def network(y):
        inner = jnp.tanh(first @ y + last)
        return last @ jnp.tanh(second @ (inner * inner) - last)

    y = jnp.array([0.3, -0.2, 0.5])
    for function in (network, jax.grad(network), jax.hessian(network)):
        split = componentwise(function)
        chex.assert_trees_all_close(split(y), function(y), rtol=1e-5)
        # a handful of operations a layer, not one or more for each of its numbers
        assert len(jax.make_jaxpr(split)(y).eqns) < 120


def test_a_rule_that_does_not_know_this_jax(monkeypatch):
    """As it is, with one warning for each reason, also where blocks are asked for."""

    def renamed(*_):
        raise KeyError("dimensions")

    monkeypatch.setitem(_components.MOVES, "rev", renamed)
    monkeypatch.setattr(_components, "_warned", set())
    backwards = lambda y, x: y[::-1] @ x
    with pytest.warns(UserWarning, match="`rev` of JAX .*KeyError.*STACKJAX_COMPONENTS=0") as shown:
        for block in (None, 2):
            split = componentwise(backwards, detached=block is not None, block=block)
            batch = jnp.stack([Y, -Y, 2 * Y])
            found = jax.jit(jax.vmap(split, (0, None)))(batch, X)
            np.testing.assert_allclose(found, jax.vmap(backwards, (0, None))(batch, X), rtol=1e-6)
            assert "reduce" in str(jax.make_jaxpr(split)(Y, X)) or "dot" in str(
                jax.make_jaxpr(split)(Y, X)
            )
    assert len(shown) == 1


def test_a_rule_that_does_not_know_this_jax_within_a_derivative(monkeypatch):
    """Only the derivative of the function with a rule of its own needs it."""
    own = jax.custom_jvp(lambda y: jnp.sum(y))
    own.defjvp(lambda primals, tangents: (own(*primals), jnp.sum(tangents[0][::-1] * 2)))

    def renamed(*_):
        raise TypeError("three arguments")

    monkeypatch.setitem(_components.MOVES, "rev", renamed)
    monkeypatch.setattr(_components, "_warned", set())
    split = componentwise(lambda y: own(y) + y[0])
    with pytest.warns(UserWarning, match="`rev` of JAX"):
        np.testing.assert_allclose(jax.grad(split)(Y), [3, 2, 2])


def test_the_switch(monkeypatch):
    monkeypatch.setenv("STACKJAX_COMPONENTS", "0")
    assert "rev" in str(jax.make_jaxpr(componentwise(lambda y: y[::-1]))(Y))
    game = sj.Game(
        lambda a, r, x: r @ x, lambda a, r, x: r @ x - r @ r, response_set=sj.Box(0.0, 1.0)
    )
    respond = lambda x: sj.best_response(game, 1.0, x, response=jnp.full(3, 0.5)).value
    x = jnp.linspace(0, 2, 15).reshape(5, 3)
    np.testing.assert_allclose(jax.vmap(respond)(x), x / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("error", [KeyError, TypeError, AttributeError, ValueError])
def test_errors_of_the_user_are_the_user_s(error):
    def wrong(y):
        raise error("mine")

    with pytest.raises(error, match="mine"):
        componentwise(wrong)(Y)
    own = jax.custom_jvp(lambda y: jnp.sum(y))
    own.defjvp(lambda primals, tangents: wrong(tangents[0]))
    with pytest.raises(error, match="mine"):
        jax.grad(componentwise(lambda y: own(y) * 2))(Y)
