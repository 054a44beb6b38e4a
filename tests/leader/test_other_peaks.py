"""A leader whose utility has several peaks: the default looks for higher ones, and says so."""

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj

follower = lambda a, r, x: -jnp.sum((r - jnp.tanh(a)) ** 2)


def solved(game, start, context, **options):
    solve = lambda a, x: sj.solve(
        game, action=a, response=jnp.zeros_like(a), context=x, **options
    )  # fmt: skip
    return jax.jit(jax.vmap(solve))(start, context)


def test_random_waves_against_a_grid():
    """U_L = sum_k h_k sin(w_k a + p_k) + r on [-20, 30], a follower by hand; 120 games."""
    rng = np.random.default_rng(3)
    bounds = ((-1, 1), (0.02, 0.2), (0, 7))
    waves = [jnp.asarray(rng.uniform(*ends, (120, 3)), jnp.float32) for ends in bounds]
    utility = lambda a, r, x: x[0] @ jnp.sin(x[1] * a + x[2]) + r
    game = sj.Game(utility, follower, action_set=sj.Box(-20.0, 30.0))
    start = jnp.asarray(rng.uniform(-20, 30, 120), jnp.float32)
    grid = jnp.linspace(-20, 30, 20_001)
    on_grid = jax.vmap(lambda x: jax.vmap(lambda a: utility(a, jnp.tanh(a), x))(grid).max())(waves)
    short = lambda found: np.asarray(on_grid - found.leader_utility > 1e-3)
    one, default = (solved(game, start, waves, **how) for how in ({"starts": 1}, {}))
    assert short(one).sum() > 20 and not one.other_peaks.any()
    assert (short(default) & np.asarray(default.converged)).sum() <= 1
    assert default.other_peaks[short(one)].mean() > 0.9


def test_a_concave_leader_has_no_other_peaks():
    """In any unit, and whether its optimum is inside or at a bound."""
    utility = lambda a, r, x: -jnp.sum((r - x) ** 2) - 1e-3 * jnp.sum(a**2)
    answer = lambda a, r, x: -jnp.sum((r - a / 7) ** 2)
    game = sj.Game(utility, answer, action_set=sj.Box(-100.0, 40.0))
    aims = jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)) * 5, jnp.float32)
    for unit in (1.0, 1e5):
        scaled = sj.Game(
            lambda a, r, x, unit=unit: unit * utility(a, r, x), answer, action_set=game.action_set
        )
        found = solved(scaled, jnp.zeros((64, 2)), aims)
        assert found.converged.all() and not found.other_peaks.any()
        best = np.clip(aims * 49 / 7 / (1 + 0.049), -100, 40)
        np.testing.assert_allclose(found.action, best, rtol=1e-3)


def test_the_derivative_is_that_of_the_peak_that_was_found():
    """Two peaks of the same shape at -4 and 3 + x; the start lies below the lower one."""
    peak = lambda a, at: jnp.exp(-((a - at) ** 2))
    game = sj.Game(
        lambda a, r, x: peak(a, 3 + x) + 0.5 * peak(a, -4.0) + 0 * r,
        follower,
        action_set=sj.Box(-6.0, 6.0),
    )
    solve = lambda x: sj.solve(game, action=jnp.array(-3.5), response=jnp.array(0.0), context=x)
    found = solve(jnp.array(0.5))
    assert found.converged and found.other_peaks and found.status == sj.solvers.Status.PEAKS
    np.testing.assert_allclose(found.action, 3.5, rtol=1e-4)
    np.testing.assert_allclose(jax.grad(lambda x: solve(x).action)(jnp.array(0.5)), 1.0, rtol=1e-4)
