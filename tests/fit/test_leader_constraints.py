"""Bounds on averages: policy and multiplier as found by hand in Stackelberg's duopoly.

With a price `m` on the follower's mean quantity (cost 1 for both, unit slope) the leader maximises
`q1 (d - 1 - q1) / 2 + m (d - 1 - q1) / 2`: it makes `(d - 1 - m) / 2`, the follower
`(d - 1 + m) / 4`.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import stackjax as sj

known = sj.games.duopoly()
DEMAND = jnp.linspace(5.0, 20.0, 64)
MEAN = 11.5  # of demand less cost
KEY = jax.random.key(0)
ADAM = optax.adam(0.05)  # one, so that fits share a compilation
THREE: Any = 3


class Line(nnx.Module):
    """Around the mean demand, so that slope and offset are learned alike fast."""

    def __init__(self):
        self.slope, self.offset = nnx.Param(jnp.array(1.0)), nnx.Param(jnp.array(4.0))

    def __call__(self, demand):
        return self.slope * (demand - 12.5) / 5 + self.offset


def rest(action, response, context):
    return response


def own(action, response, context):
    return action


def fit(constraints: Any, **options):
    options = {"steps": 300, "optimizer": ADAM, "contexts": DEMAND} | options
    return sj.fit_leader(
        Line(), known.game, options.pop("contexts"), response=known.response, key=KEY,
        constraints=constraints, **options,
    )  # fmt: skip


def test_floor_on_the_followers_mean():
    price = 4 * 3.2 - MEAN
    policy, history = fit([sj.fit.Average(rest, at_least=3.2)])
    np.testing.assert_allclose(policy.offset[...], (MEAN - price) / 2, rtol=0.005)
    np.testing.assert_allclose(policy.slope[...], 2.5, rtol=0.005)
    np.testing.assert_allclose(history.multipliers[-1], [price], rtol=0.01)
    np.testing.assert_allclose(history.constraints[-1], [0.0], atol=0.005)
    assert history.multipliers.shape == (300, 1) and (history.converged == 1).all()


def test_the_unit_of_a_constraint_does_not_matter():
    """In thousandths and minibatches, beside a bound that has room and so no price."""
    price = MEAN / 2 - 4
    small = lambda action, response, context: 1000 * action
    policy, history = fit(
        [sj.fit.Average(small, at_most=4000.0), sj.fit.Average(rest, at_most=9.0)],
        batch_size=32, steps=600, optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 600)),
    )  # fmt: skip
    np.testing.assert_allclose(policy.offset[...], 4.0, rtol=0.03)
    late = history.multipliers[-200:].mean(0)
    np.testing.assert_allclose(late, [price / 1000, 0.0], rtol=0.15, atol=1e-9)


def test_the_multiplier_is_the_price_of_the_bound():
    """It is the slope of the best utility in the bound, here between two bounds by `vmap`."""
    bounds = jnp.array([3.19, 3.21])

    @jax.jit
    @jax.vmap
    def best(bound):
        _, history = fit([sj.fit.Average(rest, at_least=bound)], dual_rate=0.2)
        return history.utility[-1], history.multipliers[-1, 0]

    utility, price = best(bounds)
    # the utility is that of the end's margin; both are within a few thousandths
    np.testing.assert_allclose((utility[0] - utility[1]) / 0.02, price.mean(), rtol=0.1)
    np.testing.assert_allclose(price, 4 * bounds - MEAN, rtol=0.02)


def test_averages_over_the_turns_of_a_horizon():
    """Demand falls by 1 a turn, whatever is done: the mean over two turns is what counts."""
    falling = sj.fit.Dynamics(
        lambda demand: demand, lambda demand, action, response, key: demand - 1
    )
    horizon = sj.fit.Horizon(falling, turns=2, discount=1.0)
    price = 4 * 3.2 - (MEAN - 0.5)
    policy, history = fit([sj.fit.Average(rest, at_least=3.2)], horizon=horizon)
    # the sum of two utilities is worth two prices of one mean
    np.testing.assert_allclose(history.multipliers[-1], [2 * price], rtol=0.02)
    np.testing.assert_allclose(policy(jnp.array(12.0)), (MEAN - 0.5 - price) / 2, rtol=0.01)


def test_without_room_the_least_breach_is_sought():
    """A follower's mean that only a leader who makes nothing would leave room for, and not even."""
    policy, history = fit([sj.fit.Average(rest, at_least=7.0)], steps=200)
    assert jax.vmap(policy)(DEMAND).mean() < 0.5
    assert history.constraints[-1] < -0.5 and not history.diverged
    assert history.multipliers[-1] > history.multipliers[100]


def test_without_constraints_nothing_changes():
    plain, history = fit((), steps=20)
    slack, _ = fit([sj.fit.Average(rest, at_least=-100.0)], steps=20)
    chex.assert_trees_all_close(plain, slack, rtol=1e-6)
    assert history.multipliers.shape == (20, 0)


def test_a_constraint_that_is_no_number_leaves_its_rows_out():
    odd = lambda action, response, demand: jnp.where(demand > 12.5, response, jnp.nan)
    _, history = fit([sj.fit.Average(odd, at_least=1.0)], steps=5)
    chex.assert_trees_all_close(history.converged, jnp.full(5, 0.5))
    assert np.isfinite(history.gradient_norm).all() and np.isfinite(history.multipliers).all()


@pytest.mark.slow
def test_a_killed_fit_goes_on_bit_for_bit(tmp_path):
    constraints = [sj.fit.Average(rest, at_least=3.2)]
    plain = fit(constraints, steps=5)

    def stop(step, policy, history):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(constraints, steps=5, checkpoint=tmp_path, callback=stop)
    chex.assert_trees_all_equal(plain, fit(constraints, steps=5, checkpoint=tmp_path))
    with pytest.raises(ValueError, match="holds the state of another fit"):
        fit([sj.fit.Average(rest, at_least=3.3)], steps=5, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sj.fit.Average(THREE, at_least=1.0), TypeError, "`function` must be callable"),
        (lambda: sj.fit.Average(rest), ValueError, "give `at_least` or `at_most`; got neither"),
        (lambda: sj.fit.Average(rest, at_least=0, at_most=1), ValueError, "got both"),
        (lambda: sj.fit.Average(rest, at_least="1"), TypeError,
         "`at_least` must be a number; got '1'"),
        (lambda: sj.fit.Average(rest, at_most=jnp.nan), ValueError, "`at_most` must be finite"),
        (lambda: fit(3), TypeError,
         "`constraints` must be a list of stackjax.fit.Average.*got int"),
        (lambda: fit([rest]), TypeError, r"`constraints\[0\]` must be a stackjax.fit.Average"),
        (lambda: fit([sj.fit.Average(rest, at_least=1)], dual_rate=0), ValueError,
         "`dual_rate`.*0"),
        (lambda: fit([sj.fit.Average(rest, at_least=1)], dual_rate="1"), TypeError,
         "`dual_rate`.*'1'"),
        (lambda: fit([sj.fit.Average(lambda a, r, x: x[None], at_least=1)]), ValueError,
         r"`constraints\[0\].function` must return a scalar"),
    ],
)  # fmt: skip
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
