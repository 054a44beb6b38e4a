import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stackjax.agents.game._surfaces import QualitySurface, TokenSurface

DRAWS = 200


def quality(raw):
    return QualitySurface.from_raw(raw)


def tokens(raw):
    return TokenSurface.from_raw(raw, 300.0)


@pytest.fixture(scope="module")
def draws():
    """Coefficients from tame to extreme, and points in the box with its corners."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        spread = rng.choice([0.5, 2.0, 8.0], size=(DRAWS, 1))
        raw = jnp.asarray(spread * rng.normal(size=(DRAWS, 16)))
        point = rng.uniform(size=(DRAWS, 3))
        point[::3] = np.round(point[::3])
        return raw, jnp.asarray(point)


@pytest.mark.parametrize(("make", "sign"), [(quality, -1.0), (tokens, 1.0)])
def test_curvature_never_falls_below_the_floor(make, sign, draws):
    with jax.enable_x64(True):
        raw, point = draws

        def curvature(raw, r):
            surface = make(raw)
            hessian = jax.hessian(surface)(r)
            return sign * jnp.linalg.eigvalsh(sign * hessian)[0] * sign, surface.curvature_floor

        least, floor = jax.jit(jax.vmap(curvature))(raw, point)
        assert least.dtype == jnp.float64
        assert (floor >= (0.1 if make is quality else 15.0)).all()
        assert (least >= floor * (1 - 1e-9) - 1e-9).all()
        # The bound is not idle: the pair terms and the rises vanish for very negative numbers.
        tight, bound = curvature(jnp.full(16, -60.0), jnp.ones(3))
        np.testing.assert_allclose(tight, bound, rtol=1e-9)


@pytest.mark.parametrize("make", [quality, tokens])
def test_gradient_against_finite_differences(make, draws):
    with jax.enable_x64(True):
        raw, point = draws
        step = 1e-5 * jnp.eye(3)

        def both(raw, r):
            surface = make(raw)
            central = jax.vmap(lambda d: (surface(r + d) - surface(r - d)) / 2e-5)(step)
            return jax.grad(surface)(r), central

        exact, central = jax.jit(jax.vmap(both))(raw, point)
        np.testing.assert_allclose(exact, central, rtol=1e-6, atol=1e-6 * 300 * 8)


def test_tokens_are_positive_and_can_fall_in_a_channel(draws):
    with jax.enable_x64(True):
        raw, point = draws
        assert (jax.vmap(lambda raw, r: tokens(raw)(r))(raw, point) > 0).all()
    saving = TokenSurface.from_raw(jnp.full(16, -9.0).at[6].set(1.0), 100.0)
    assert saving(jnp.array([0.0, 0.0, 1.0])) < saving(jnp.zeros(3))


def test_quality_can_peak_inside_and_a_channel_can_hurt():
    raw = jnp.full(16, -9.0).at[:4].set(jnp.array([0.5, 0.0, -0.4, 0.0])).at[7].set(2.0)
    surface = QualitySurface.from_raw(raw)
    middle = surface(jnp.array([0.5, 0.5, 0.5]))
    assert middle > surface(jnp.array([0.0, 0.5, 0.5]))
    assert middle > surface(jnp.array([1.0, 0.5, 0.5]))
    assert surface(jnp.array([0.5, 1.0, 0.5])) < middle < surface(jnp.array([0.5, 0.0, 0.5]))


@pytest.mark.parametrize("make", [quality, tokens])
def test_mean_of_surfaces_is_the_surface_of_the_mean(make, draws):
    raw, point = (jnp.asarray(x, jnp.float32) for x in draws)
    surfaces = jax.vmap(make)(raw[:5])
    mean = jax.tree.map(lambda leaf: leaf.mean(0), surfaces)
    each = jax.vmap(lambda one: one(point[0]))(surfaces)
    np.testing.assert_allclose(mean(point[0]), each.mean(), rtol=1e-5)


@pytest.mark.parametrize("make", [quality, tokens])
def test_batch_equals_loop(make, draws):
    raw, point = (jnp.asarray(x[:4], jnp.float32) for x in draws)
    batch = jax.jit(jax.vmap(lambda raw, r: make(raw)(r)))(raw, point)
    np.testing.assert_allclose(batch, [make(a)(r) for a, r in zip(raw, point)], rtol=2e-5)
