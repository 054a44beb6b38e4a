"""What all fits share: they go on where they were killed, and stop where they diverge."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fit_examples import DEMAND, Line, leader

import stackjax as sj


class Killed(Exception):
    pass


def test_a_killed_fit_goes_on_bit_for_bit(tmp_path):
    plain = leader(steps=60)
    seen = []

    def watch(step, policy, history):
        assert len(history.utility) == step
        seen.append(step)
        if len(seen) == 11:
            raise Killed

    with pytest.raises(Killed):
        leader(steps=60, checkpoint=tmp_path / "fit", callback=watch)
    assert seen[-1] == 33
    resumed = leader(steps=60, checkpoint=tmp_path / "fit", callback=watch)
    assert seen[11] == 36 and seen[-1] == 60
    chex.assert_trees_all_equal(plain, resumed)
    seen.clear()  # a fit that is over is only read
    again = leader(steps=60, checkpoint=tmp_path / "fit", callback=watch)
    chex.assert_trees_all_equal(plain, again)
    assert not seen


def test_another_fit_s_checkpoint_is_refused(tmp_path):
    leader(steps=4, checkpoint=tmp_path)
    for other, names in (
        ({"key": jax.random.key(5)}, "`key` differs"),
        ({"steps": 5, "optimizer": None}, "`optimizer` differs. A fit can go on to more steps if"),
        ({"steps": 3}, "`steps` differs"),
        ({"contexts": DEMAND + 1}, "`data` differs"),
        ({"batch_size": 3, "key": jax.random.key(5)}, "`key` and `batch_size` differ"),
        ({"solver": sj.Newton(max_steps=9)}, "`solver` differs"),
        ({"response": jnp.array(0.3)}, "`response` differs"),
    ):
        with pytest.raises(ValueError, match=f"`checkpoint`: .* of another fit: {names}"):
            leader(**{"steps": 4, "checkpoint": tmp_path, **other})
    with pytest.raises(TypeError, match="`checkpoint` must be a path or None; got 3"):
        leader(steps=4, checkpoint=3)
    with pytest.raises(TypeError, match="`checkpoint` must be None inside jax.jit"):
        jax.jit(lambda x: leader(steps=4, contexts=x, checkpoint=tmp_path / "b"))(DEMAND)


def test_a_fit_is_extended_bit_for_bit(tmp_path):
    """The schedule of the rate knows nothing of the number of steps."""
    how = {"optimizer": optax.adam(1e-2), "checkpoint": tmp_path, "batch_size": 4}
    leader(steps=8, **how)
    longer = leader(steps=30, **how)
    chex.assert_trees_all_equal(longer, leader(**{**how, "checkpoint": None, "steps": 30}))
    chex.assert_trees_all_equal(longer, leader(steps=30, **how))
    with pytest.raises(ValueError, match="of another fit: `steps` differs. A fit can go on"):
        leader(steps=8, **how)


def test_a_fit_without_an_answer_stops_at_the_last_module_that_had_one():
    """One step of 1e30 and no follower converges any more."""
    policy, history = leader(steps=100, optimizer=optax.sgd(1e30))
    assert history.diverged and history.steps == 21 and history.best == 0
    chex.assert_trees_all_equal(policy, Line())
    assert history.converged[0] == 1 and (history.converged[1:] == 0).all()
    assert np.isfinite(history.utility).all()


def test_a_fit_that_is_not_a_number_stops():
    """The optimiser explodes at its fourth step."""
    bad = optax.inject_hyperparams(optax.sgd)(
        learning_rate=lambda step: jnp.where(step == 3, jnp.inf, 1e-3)
    )
    policy, history = leader(steps=50, optimizer=bad)
    assert history.diverged and history.steps == 3 and history.best == 2
    expected, _ = leader(steps=2, optimizer=optax.sgd(1e-3))
    chex.assert_trees_all_close(policy, expected, rtol=1e-6)
    assert history.utility.shape == (50,) and (history.utility[3:] == history.utility[2]).all()


def test_a_fit_that_runs_to_its_end_says_so():
    _, history = leader(steps=7)
    assert not history.diverged and history.steps == history.best == 7
    assert np.isnan(history.validation).all() and history.constraints.shape == (7, 0)
    assert isinstance(history, sj.History)
