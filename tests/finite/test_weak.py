"""Ties against the leader in finite games: against enumeration on a grid of commitments."""

import itertools

import jax
import numpy as np
import pytest

import stackjax as sj


def commitments(actions, parts):
    """Every distribution over `actions` in multiples of `1 / parts`."""
    counts = itertools.product(range(parts + 1), repeat=actions)
    return np.array([c for c in counts if sum(c) == parts]) / parts


def worth(strategies, leader, follower, rounding=1e-9):
    """What each is worth if the follower takes the best response that is worst for the leader."""
    answers = strategies @ follower
    best = answers >= answers.max(1, keepdims=True) - rounding
    return np.where(best, strategies @ leader, np.inf).min(1)


@pytest.mark.parametrize(("actions", "parts"), [(1, 1), (2, 720), (3, 60)])
def test_no_commitment_is_worth_more_and_one_nearby_is_worth_almost_as_much(actions, parts):
    """Small integers, so that ties, copies of responses and attained suprema are frequent."""
    rng, grid, attained = np.random.default_rng(actions), commitments(actions, parts), []
    for _ in range(60):
        shape = actions, rng.integers(1, 5)
        leader = rng.integers(-3, 4, shape).astype(float)
        follower = rng.integers(-2, 3, shape).astype(float)
        scale, shift = 10.0 ** rng.uniform(-6, 6), rng.normal() * 100
        found = sj.finite.weak_stackelberg(leader * scale, follower + shift)
        value = float(found.leader_utility) / scale
        seen = worth(grid, leader, follower)
        assert seen.max() <= value + 1e-6
        near = worth(found.near(1e-3)[None], leader, follower)[0]
        assert near >= value - 1e-3 * np.ptp(leader) - 1e-6
        here = worth(found.strategy[None], leader, follower, 1e-6)[0]
        if found.attained:
            assert here >= value - 1e-6
        else:
            assert here < value - 1e-6 and seen.max() < value - 1e-9
        attained.append(bool(found.attained))
    if actions > 1:
        assert 5 < sum(attained) < 55  # or one of the two was not tried


def test_a_response_that_is_only_ever_tied_does_not_count():
    # The third is best at (1/2, 1/2) alone, where the first and the second are as good.
    leader = np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 9.0]])
    follower = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    weak = sj.finite.weak_stackelberg(leader, follower)
    strong = sj.finite.strong_stackelberg(leader, follower)
    assert strong.leader_utility == 9 and np.isclose(weak.leader_utility, 0.5)
    np.testing.assert_allclose(weak.strategy, [0.5, 0.5], atol=1e-6)
    assert weak.attained  # both of the others leave 1/2 there, but the third leaves more


def test_of_copies_the_worst_is_answered():
    leader = np.array([[3.0, 1.0, 2.0]])
    found = sj.finite.weak_stackelberg(leader, np.zeros((1, 3)))
    assert found.leader_utility == 1 and found.response == 1 and found.attained


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="one shape"):
        sj.finite.weak_stackelberg(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="without types"):
        sj.finite.weak_stackelberg(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="share"):
        sj.finite.weak_stackelberg(np.eye(2), np.eye(2)).near(0.0)
    with pytest.raises(TypeError, match="for the host"):
        jax.jit(sj.finite.weak_stackelberg)(np.eye(2), np.eye(2))
