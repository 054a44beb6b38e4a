"""Best responses with a proof: against dense grids in NumPy, from starts next to lower peaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick, quick_jit

import stackjax as sj

GLOBAL = sj.solvers.Global()
PROVEN = 0


def nothing(action, response, context):
    return 0.0


def proof_of(found) -> sj.solvers.Proof:
    assert found.proof is not None
    return found.proof


def hills(a, r, x):
    return jnp.sum(jnp.sin(3 * r) - (r - a) ** 2 / 10)


def grid_maximum(a, d, points=2001):
    one = np.linspace(-4, 4, points)
    # a sum over coordinates: each has its own maximum
    height = np.sin(3 * one)[None] - (one[None] - np.reshape(a, (-1, 1))) ** 2 / 10
    return one[height.argmax(1)], height.max(1).sum()


@pytest.mark.parametrize(
    ("d", "dtype"),
    [
        (1, "float32"),
        (1, "float64"),
        (2, "float32"),
        pytest.param(2, "float64", marks=pytest.mark.slow),
    ],
)
def test_the_highest_of_several_peaks_is_answered_and_proven(d, dtype):
    with jax.enable_x64(dtype == "float64"):
        game = sj.Game(nothing, hills, response_set=sj.Box(-4.0, 4.0))
        answer = quick_jit(
            jax.vmap(lambda a, r: sj.best_response(game, a, None, response=r, proof=GLOBAL))
        )
        rng = np.random.default_rng(d)
        actions, starts = rng.uniform(-3, 3, (2, 32, d)).astype(dtype)
        found = answer(actions, starts)
        assert (proof_of(found).status == PROVEN).all() and found.converged.all()
        for k in range(32):
            at, top = grid_maximum(actions[k].astype(float), d)
            height = np.sin(3 * found.value[k]) - (found.value[k] - actions[k]) ** 2 / 10
            assert height.sum() >= top - 1e-4 * 3 * d
            np.testing.assert_allclose(found.value[k], at, atol=0.05)
            assert proof_of(found).upper[k] >= top - 1e-5
        assert (np.abs(starts - found.value) > 1).any()  # or nothing was tried


def test_without_a_proof_the_lower_peak_is_answered():
    game = sj.Game(nothing, hills, response_set=sj.Box(-4.0, 4.0))
    start = jnp.array(-3.0)
    alone = sj.best_response(game, 1.0, None, response=start)
    proven = sj.best_response(game, 1.0, None, response=start, proof=GLOBAL)
    assert alone.proof is None and alone.value < -3 and abs(proven.value - 0.534) < 1e-3
    assert proven.converged and proof_of(proven).status == PROVEN


def test_a_proof_is_differentiable_through_the_answer(x64):
    game = sj.Game(nothing, hills, response_set=sj.Box(-4.0, 4.0))
    value = lambda a: sj.best_response(game, a, None, response=jnp.array(-3.0), proof=GLOBAL).value
    run = quick_jit(value)
    difference = (run(jnp.array(1.0 + 1e-5)) - run(jnp.array(1.0 - 1e-5))) / 2e-5
    np.testing.assert_allclose(quick(jax.grad(value), jnp.array(1.0)), difference, rtol=1e-6)


def test_a_tight_list_is_undecided_and_says_how_far():
    little = sj.solvers.Global(boxes=4, at_once=2, max_steps=3)
    game = sj.Game(nothing, hills, response_set=sj.Box(-4.0, 4.0))
    found = sj.best_response(game, jnp.ones(3), None, response=jnp.zeros(3), proof=little)
    assert proof_of(found).status != PROVEN
    top = grid_maximum(np.ones(3), 3)[1]
    assert proof_of(found).lower <= top + 1e-3 and top <= proof_of(found).upper + 1e-5


def test_the_leader_knows_whether_the_response_is_the_best():
    # -(a - r)^2 is best where the follower stays; it leaves for a higher peak
    game = sj.Game(
        lambda a, r, x: -((a - r) ** 2),
        lambda a, r, x: jnp.sin(3 * r) + a * r - r**2 / 10,
        action_set=sj.Box(-1.0, 1.0),
        response_set=sj.Box(-3.0, 3.0),
    )
    solve = lambda start, proof: sj.solve(
        game, action=jnp.array(0.2), response=jnp.array(start), context=None,
        solver=sj.Newton(), proof=proof,
    )  # fmt: skip
    good, bad = solve(-1.0, GLOBAL), solve(0.5, GLOBAL)
    assert good.converged and not good.local and good.status == "converged"
    assert solve(-1.0, None).local
    assert not bad.converged and bad.status == "beaten" and bad.regret > 0
    grid = np.linspace(-3, 3, 6001)
    for found in (good, bad):
        height = lambda r, a=float(found.action): np.sin(3 * r) + a * r - r**2 / 10
        assert (height(float(found.response)) >= height(grid).max() - 1e-3) == found.converged


def test_what_is_proven_is_what_is_answered_at_kinks_and_jumps():
    # A search from the proven point can leave it: the highest point is a kink, or next to a jump.
    def broken(a, r, x):
        left = 2.0 - 3 * jnp.abs(r + a)
        right = 1.5 + jnp.sin(5 * r) / 4 - jnp.abs(r - 2)
        return jnp.where(r > 0, right, left)

    game = sj.Game(nothing, broken, response_set=sj.Box(-4.0, 4.0))
    answer = jax.jit(
        jax.vmap(lambda a, r: sj.best_response(game, a, None, response=r, proof=GLOBAL))
    )
    actions, starts = np.random.default_rng(5).uniform(0.2, 3, (2, 64)).astype(np.float32)
    found = answer(actions, starts)
    proof = proof_of(found)
    worth = jax.vmap(lambda a, r: broken(a, r, None))(actions, found.value)
    grid = np.linspace(-4, 4, 20001)
    for k in range(64):
        best = np.asarray(broken(actions[k], jnp.asarray(grid), None)).max()
        assert proof.upper[k] >= best - 1e-5
        if proof.proven[k]:
            assert worth[k] >= best - 1e-4 * 20 - 1e-5


def test_arguments_are_checked():
    start = jnp.array(0.5)
    open_ = sj.Game(nothing, hills, response_set=sj.Box(lower=0.0))
    with pytest.raises(ValueError, match="bounded on all sides"):
        sj.best_response(open_, 1.0, None, response=start, proof=GLOBAL)
    simplex = sj.Game(nothing, hills, response_set=sj.Simplex())
    with pytest.raises(TypeError, match="got a Simplex"):
        sj.best_response(simplex, 1.0, None, response=jnp.ones(2) / 2, proof=GLOBAL)
    with pytest.raises(TypeError, match="`proof` must be"):
        sj.best_response(open_, 1.0, None, response=start, proof=True)  # pyright: ignore
    unknown = sj.Game(
        nothing, lambda a, r, x: jax.scipy.special.digamma(r + 2), response_set=sj.Box(0.0, 1.0)
    )
    with pytest.raises(NotImplementedError, match="digamma"):
        sj.best_response(unknown, 1.0, None, response=start, proof=GLOBAL)
    with pytest.raises(ValueError, match="at most half"):
        sj.solvers.Global(boxes=4, at_once=3)
    with pytest.raises(ValueError, match="`gap` must be between 0 and 1"):
        sj.solvers.Global(gap=0.0)
    with pytest.raises(ValueError, match="at most 6 numbers; got 8"):
        box = sj.Game(nothing, hills, response_set=sj.Box(0.0, 1.0))
        sj.best_response(box, 1.0, None, response=jnp.zeros(8), proof=GLOBAL)
    with pytest.raises(ValueError, match="between 0 and 1"):
        sj.solvers.Global(gap=float("inf"))
    with pytest.raises(TypeError, match="`boxes` must be an integer"):
        sj.solvers.Global(boxes=1.5)  # pyright: ignore
